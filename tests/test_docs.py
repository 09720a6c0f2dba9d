"""docs/passes.md holds: its tables, its Python, its decision, its own pass and the test of it."""

from __future__ import annotations

import importlib
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import models
import onnx
import pytest
from models import Net
from onnx import ModelProto
from test_laws import check_laws, outputs

from mcugraph import passes
from mcugraph.cli import run
from mcugraph.decision import Decision
from mcugraph.decision_file import _FIELDS
from mcugraph.passes._edit import Edit
from mcugraph.text import graph_text

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/passes.md").read_text(encoding="utf-8")
LONGEST = 230
FLOAT = ROOT / "examples/digits_float.onnx"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def listing(name: str) -> str:
    """The Python file of this name that the page shows."""
    (found,) = [code for code in blocks("python") if code.startswith(f"# {name}\n")]
    return found


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("tables")


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the examples and the decision of the page, as the current one."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (tmp_path / "decision.json").write_text(blocks("json")[0], encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_it_is_one_page() -> None:
    assert len(PAGE.splitlines()) <= LONGEST


def test_tables_are_what_the_docstrings_say(tables: ModuleType) -> None:
    figures = tables.results()
    hint = "python benchmarks/tables.py"
    assert tables.stale(PAGE, figures, "passes") == [], hint
    assert tables.shown(PAGE) == ["passes", "decisions"]
    pages = [page.read_text(encoding="utf-8") for page in tables.pages()]
    assert {name for page in pages for name in tables.shown(page)} == tables.TABLES.keys()


def test_every_pass_is_in_a_table() -> None:
    """A file of passes/ that defines a function of its own name is a pass."""
    stems = {path.stem for path in (ROOT / "passes").glob("[a-z]*.py")}
    found = {stem for stem in stems if f"\ndef {stem}(" in source(stem)}
    shown = set(re.findall(r"^\| `(\w+)", PAGE, re.MULTILINE)) - keys()
    assert shown == found
    assert found <= set(passes.__all__)


def source(stem: str) -> str:
    return (ROOT / "passes" / f"{stem}.py").read_text(encoding="utf-8")


def keys() -> set[str]:
    """The keys of a decision that the page explains."""
    table = PAGE.partition("| key |")[2].partition("\n\n")[0]
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    return set(re.findall(r"`(\w+)`", " ".join(cells)))


@pytest.mark.usefixtures("user")
def test_every_example_in_python_runs() -> None:
    *others, last = [code for code in snippets() if "onnxslim" not in code]
    names: dict[str, Any] = {}
    assert [rows_left(code, names) for code in others] == [(16, 24)] * 3
    assert rows_left(last, names) == (10, 32)
    assert names["decision"] == Decision.load("decision.json")


@pytest.mark.usefixtures("user")
def test_the_example_between_onnxslim_and_onnxscript_runs() -> None:
    pytest.importorskip("onnxslim", reason="onnxslim is not installed")
    first, between = snippets()[0], next(code for code in snippets() if "onnxslim" in code)
    names: dict[str, Any] = {}
    assert [rows_left(code, names) for code in (first, between)] == [(16, 24)] * 2


def snippets() -> list[str]:
    """The Python that is no file of its own."""
    return [code for code in blocks("python") if not code.startswith("# ")]


def rows_left(code: str, names: dict[str, Any]) -> tuple[int, ...]:
    """Run an example; how many channels two weights of its model then have."""
    exec(code, names)
    onnx.checker.check_model(names["model"], full_check=True)
    rows = {tensor.name: tensor.dims[0] for tensor in names["model"].graph.initializer}
    return tuple(rows[name] for name in ("stem.0.weight", "block2.pointwise.weight"))


def test_the_decision_says_what_the_page_says(user: Path) -> None:
    assert keys() == {*_FIELDS, "head"}
    decision = Decision.load(user / "decision.json")
    assert decision.check(onnx.load(FLOAT)) == ()
    assert decision.cut == "relu_4"
    assert decision.widths == {"stem.0.weight": 16}
    assert Decision.loads(decision.dumps()) == decision


@pytest.mark.usefixtures("user")
def test_one_decision_fits_the_float_and_the_int8_model() -> None:
    kept = Decision(keep=Decision.load("decision.json").keep)
    sizes = []
    for file, suffix in ((FLOAT, ""), (ROOT / "examples/digits.onnx", "_quantized")):
        pruned = kept.apply(onnx.load(file))
        dims = {
            tensor.name.removesuffix(suffix): tensor.dims for tensor in pruned.graph.initializer
        }
        sizes.append([tuple(dims[name]) for name in ("stem.0.weight", "block2.pointwise.weight")])
    assert sizes == [[(10, 1, 3, 3), (32, 10, 1, 1)]] * 2


def test_the_command_runs_and_gives_what_python_gives(user: Path) -> None:
    (command,) = blocks("sh")
    assert run(shlex.split(command)[1:]) == 0
    written = onnx.load(user / "pruned.onnx")
    applied = Decision.load(user / "decision.json").apply(onnx.load(FLOAT))
    assert graph_text(written) == graph_text(applied)


# The pass that the page shows


@pytest.fixture
def hoist_relu() -> Callable[[ModelProto], ModelProto]:
    names: dict[str, Any] = {}
    exec(listing("hoist_relu.py"), names)
    assert names["hoist_relu"].__doc__.splitlines()[0] == names["__doc__"]
    found: Callable[[ModelProto], ModelProto] = names["hoist_relu"]
    return found


def two_pools() -> ModelProto:
    """A Relu that passes two pools, one that passes none, one whose tensor is an output."""
    net = Net(17)
    x = net.conv("conv", net.input("x", 1, 2, 12, 12), 4, 2, 3, 3)
    for _ in range(2):
        x = net("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    x = net("Relu", x)
    y, _ = net.many("MaxPool", x, out=["", "indices"], kernel_shape=[2, 2])
    z = net("MaxPool", x, out="z", kernel_shape=[2, 2])
    return net.model(net("Relu", y), net("Relu", z), "z")


@pytest.mark.parametrize("name", ["two_pools", "flatten_gemm", "split_branches", "residual"])
def test_the_pass_obeys_the_five_laws(hoist_relu: passes.Pass, name: str) -> None:
    model = two_pools() if name == "two_pools" else models.MODELS[name]()
    check_laws(hoist_relu, model, outputs(model, 3))


def test_the_pass_does_what_its_equation_says(hoist_relu: passes.Pass) -> None:
    result = hoist_relu(two_pools())
    ways = [" ".join(way_to(result, value.name)) for value in result.graph.output]
    shared = "Conv Relu MaxPool MaxPool MaxPool"
    assert ways == [f"{shared} Relu", f"{shared} Relu", shared]


def way_to(model: ModelProto, name: str) -> list[str]:
    """The operators from the input to a tensor."""
    makers = {output: node for node in model.graph.node for output in node.output}
    way = []
    while name in makers:
        way.append(makers[name].op_type)
        name = makers[name].input[0]
    return way[::-1]


def test_the_golden_test_passes_with_the_golden_that_is_shown(pytester: pytest.Pytester) -> None:
    for name in ("hoist_relu.py", "test_hoist_relu.py"):
        (pytester.path / name).write_text(listing(name), encoding="utf-8")
    pytester.syspathinsert()
    golden = pytester.path / "golden/test_hoist_relu/test_hoist_relu.txt"
    pytester.runpytest().assert_outcomes(failed=1)
    pytester.runpytest("--update-golden").assert_outcomes(passed=1)
    assert golden.read_text(encoding="utf-8") == blocks("text")[0]
    pytester.runpytest().assert_outcomes(passed=1)


def test_the_verbs_that_are_named_exist() -> None:
    part = PAGE.partition("- ask:")[2].partition("```")[0]
    named = re.findall(r"`(\w+)(?:\(\w*\))?`", part)
    edit = Edit(onnx.load(FLOAT))
    assert len(named) > 15
    assert [name for name in named if not hasattr(edit, name)] == []


def test_the_parts_of_the_page_stand_in_the_tree() -> None:
    paths = re.findall(r"(?:examples|benchmarks|passes|tests)/[\w./]*\w", PAGE)
    assert len(paths) > 3
    assert [path for path in paths if not (ROOT / path).exists()] == []
