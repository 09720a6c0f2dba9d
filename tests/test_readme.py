"""The README holds: its tables, its commands, its Python and its C."""

from __future__ import annotations

import ctypes
import importlib
import importlib.metadata
import re
import shlex
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import pytest

from mcugraph import build
from mcugraph.cli import run
from mcugraph.load import load
from mcugraph.optimize import optimize
from mcugraph.oracle import Oracle

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
LONGEST = 295
# The README's lines stand where the image is; this is what a caller adds.
PROGRAM = """#include <stdint.h>
{include}
int classify(const int8_t *image);
int classify(const int8_t *image)
{{
{body}
    int best = 0;
    for (int i = 1; i < DIGITS_OUTPUT_SIZE; i++) {{
        best = logits[i] > logits[best] ? i : best;
    }}
    return best;
}}
"""


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def commands() -> list[str]:
    """Every command that is shown whole, in blocks and in the table, in order."""
    lines = re.findall(r"(?:`|&& )(mcugraph [^`\n]+)", README)
    return [line.strip() for line in lines]


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that has the examples, as the current one."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("tables")


@pytest.fixture
def emulated() -> None:
    for name in ("unicorn", "ziglang"):
        pytest.importorskip(name)


def test_it_is_one_page() -> None:
    assert len(README.splitlines()) <= LONGEST


def test_tables_are_what_the_results_and_the_sources_say(tables: ModuleType) -> None:
    assert tables.stale(README, tables.results()) == [], "python benchmarks/mlperf.py --tables"
    assert tables.filled(README, tables.results()) == README


def test_a_missing_table_is_named(tables: ModuleType) -> None:
    with pytest.raises(ValueError, match="README has the tables"):
        tables.filled(README.replace("table: targets", "table: target"), tables.results())


def test_a_stale_table_is_named(tables: ModuleType) -> None:
    assert tables.stale(README.replace("BBC micro:bit", "BBC"), tables.results()) == ["targets"]


@pytest.mark.usefixtures("emulated", "user")
def test_the_first_command_prints_what_is_shown(
    tables: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tables.results()
    for name in ("unicorn", "ziglang"):
        if importlib.metadata.version(name) != results["versions"][name]:
            pytest.skip(f"the figures are those of {name} {results['versions'][name]}")
    assert run(tables.FIRST_COMMAND.split()[1:]) == 0
    printed = [line.rstrip() for line in capsys.readouterr().out.strip().splitlines()]
    hint = "python benchmarks/mlperf.py --models digits"
    assert printed == results["first_command"].splitlines(), hint


@pytest.mark.usefixtures("user")
def test_every_command_ends_well() -> None:
    shown = commands()
    assert shown[0] == "mcugraph optimize examples/digits.onnx --target cortex-m0"
    verbs = [line.split()[1] for line in shown]
    pruning = ["groups", "cuts", "prune", "split", "fit", "explore"]
    assert verbs == [
        *("optimize", "optimize", "analyze", "explain", "verify"),
        *pruning,
        *("targets", "targets"),
    ]
    assert {line: run(shlex.split(line)[1:]) for line in shown} == dict.fromkeys(shown, 0)


@pytest.mark.usefixtures("user")
def test_every_example_in_python_runs(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {}
    for code in blocks("python"):
        exec(code, names)
    assert capsys.readouterr().out.startswith("FITS cortex-m0: ")
    assert Path("build/digits/digits.c").is_file()
    model = names["model"]
    assert isinstance(model, onnx.ModelProto)
    assert "GlobalAveragePool" in {node.op_type for node in model.graph.node}


def test_the_example_in_c_knows_the_digits(tmp_path: Path) -> None:
    (code,) = blocks("c")
    include, _, body = code.partition("\n")
    folder = optimize(ROOT / "examples/digits.onnx", "host").write(tmp_path / "digits")
    (folder / "user.c").write_text(PROGRAM.format(include=include, body=body), encoding="utf-8")
    out = build.build_shared(sorted(folder.glob("*.c")), tmp_path / "user.so")
    classify = ctypes.CDLL(str(out)).classify
    oracle = Oracle(load(ROOT / "examples/digits.onnx"))
    with np.load(ROOT / "examples/digits.npz") as archive:
        images = archive["input"][:16]
    quantised = np.rint(images * 255 - 128).astype(np.int8)
    ours = [classify(image.tobytes()) for image in quantised]
    theirs = [oracle.run({"input": image[None]})["logits"].argmax() for image in images]
    assert ours == theirs


def test_the_parts_of_the_page_stand_in_the_tree() -> None:
    paths = re.findall(r"`((?:examples|benchmarks|passes|tests)/[\w./]*)`", README)
    assert len(paths) > 3
    assert [path for path in paths if not (ROOT / path).exists()] == []
