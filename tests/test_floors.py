"""Who may import whom, and how long things may get: read from the source, nothing is imported."""

import ast
import sys
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LINKS = {ROOT / "mcugraph/passes", ROOT / "mcugraph/targets"}
LONGEST_MODULE, LONGEST_FUNCTION = 300, 40

FLOORS = [
    {"errors", "ctext", "graph", "recall", "text", "thumb", "targets", "targets.*"}
    | {"passes._nodes", "passes._edit", "passes._reorder", "passes.channels"}
    | {"passes._ties", "passes._tie_*"}
    | {"passes._keep", "passes._shrink", "passes._shrink_*"}
    | {"passes._intervals", "passes._products", "passes._range*"}
    | {"passes._biases", "passes._unread"}
    | {"passes._notes", "passes._codebook", "passes._layers"}
    | {"passes._flow", "passes._part", "passes._graft", "passes.heads"},
    {
        "passes",
        "passes.*",
        "proto",
        "read",
        "layout",
        "schedule",
        "stage",
        "stream",
        "memory",
        "quantize",
        "testing",
    }
    | {"exits"}
    | {"problem", "lattice", "bounds", "search", "order"}
    | {"bind", "faults", "selfcheck", "tidy", "oracle", "repeat", "decision_file"}
    | {"group", "floors", "fuse", "arrange", "solver"}
    | {"packing", "settle", "restarts", "cpsat", "efforts"}
    | {"budget", "build", "elf", "cycles", "counts", "blocks", "frames", "emulate"},
    {"lower", "lower.*", "tasks", "parts", "rings", "load", "assume", "decision", "parameters"}
    | {"replay", "record", "check", "plan"},
    {"emit", "sections", "exit_text", "pushed", "header", "peak", "sketch", "recompute", "draft"}
    | {"report", "exit_report", "tensor_entry"},
    {"verify", "exit_check", "observe", "place", "execute", "measure", "artifact"},
    {"judge", "optimize", "explain", "cuts", "cost", "ranks", "prune", "prune.*"},
    {
        "show",
        "show_explain",
        "show_cuts",
        "options",
        "groups",
        "show_groups",
        "show_fit",
        "show_explore",
    },
    {"cli", "cli_compile", "cli_prune", "__main__", "mcugraph"},
]
# Who may import whom on one floor; nobody else may.
NEIGHBOURS = [
    ("targets*", "targets*"),
    ("passes._edit", "passes._nodes"),
    ("passes._reorder", "passes._edit"),
    ("passes.channels", "passes._edit"),
    ("passes.channels", "passes._tie*"),
    *((f"passes.{part}", "passes._edit") for part in ("_keep", "_shrink*")),
    *(("passes._shrink*", f"passes.{part}") for part in ("_keep", "_shrink_*")),
    *((f"passes.{part}", "passes._edit") for part in ("_intervals", "_products", "_range*")),
    ("passes._products", "passes._intervals"),
    *(("passes._range*", f"passes.{part}") for part in ("_intervals", "_products", "_range_*")),
    *((f"passes.{part}", "passes._edit") for part in ("_biases", "_unread")),
    *((f"passes.{part}", "passes._edit") for part in ("_codebook", "_layers")),
    *(("passes._biases", f"passes.{part}") for part in ("_intervals", "_products", "_ranges")),
    *(("passes._unread", f"passes.{part}") for part in ("_products", "channels")),
    ("passes._tie*", "passes._edit"),
    *(("passes._tie_*", part) for part in ("passes._ties", "passes._tie_*")),
    *((f"passes.{part}", "passes._edit") for part in ("_flow", "_part", "_graft", "heads")),
    *((f"passes.{part}", "passes._nodes") for part in ("_part", "_graft")),
    *(("passes._graft", f"passes.{part}") for part in ("_flow", "_part", "heads")),
    ("passes", "passes.*"),
    ("passes._ties", "passes._tie_classes"),
    ("prune.*", "cuts"),
    ("read", "proto"),
    ("read", "exits"),
    ("schedule", "layout"),
    ("schedule", "order"),
    ("lattice", "problem"),
    ("bounds", "problem"),
    ("bounds", "lattice"),
    *(("search", part) for part in ("problem", "lattice", "bounds")),
    *(("order", part) for part in ("problem", "lattice", "bounds", "search")),
    ("counts", "cycles"),
    ("blocks", "build"),
    *(("emulate", part) for part in ("build", "elf", "cycles", "counts", "blocks", "frames")),
    ("stream", "stage"),
    ("group", "stream"),
    *(("floors", part) for part in ("group", "stream")),
    *(("fuse", part) for part in ("group", "stream", "floors")),
    *(("arrange", part) for part in ("group", "stream", "fuse", "memory")),
    *(("memory", part) for part in ("packing", "solver", "restarts")),
    *((part, "packing") for part in ("solver", "settle", "restarts", "cpsat", "efforts")),
    ("restarts", "settle"),
    *(("efforts", part) for part in ("memory", "restarts", "cpsat")),
    ("lower*", "lower*"),
    ("tasks", "lower*"),
    ("replay", "lower*"),
    *((part, "lower*") for part in ("parts", "rings", "record", "check", "plan")),
    ("record", "tasks"),
    *(("check", part) for part in ("record", "replay", "tasks")),
    *(("plan", part) for part in ("tasks", "parts", "rings", "record", "check")),
    ("prune*", "prune*"),
    ("recompute", "sketch"),
    *((part, "exit_text") for part in ("emit", "header", "pushed", "sections")),
    *(("report", part) for part in ("exit_report", "tensor_entry")),
    ("emit", "header"),
    ("emit", "sections"),
    ("emit", "pushed"),
    ("pushed", "header"),
    ("pushed", "sections"),
    ("execute", "measure"),
    ("place", "execute"),
    *(("observe", part) for part in ("execute", "place")),
    ("verify", "execute"),
    ("verify", "observe"),
    *(("exit_check", part) for part in ("execute", "observe")),
    ("explain", "optimize"),
    *(("cuts", part) for part in ("cost", "optimize")),
    ("cost", "optimize"),
    *(("ranks", part) for part in ("cost", "optimize")),
    *(("prune.*", part) for part in ("cost", "judge", "optimize")),
    ("show_groups", "groups"),
    ("__main__", "cli"),
    ("cli", "cli_compile"),
    ("cli", "cli_prune"),
]
PASSES_MAY_IMPORT = {"numpy", "onnx", "onnx_graphsurgeon", *sys.stdlib_module_names}


def folders() -> dict[str, Path]:
    """Return the folder of each package that pyproject.toml lists."""
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    places = setuptools["package-dir"]
    return {
        name: ROOT / places.get(name, name.replace(".", "/")) for name in setuptools["packages"]
    }


def modules() -> dict[str, str]:
    """Return the source of each module by its name without `mcugraph.`."""
    sources = {}
    for package, folder in folders().items():
        for path in sorted(folder.glob("*.py")):
            name = package if path.stem == "__init__" else f"{package}.{path.stem}"
            sources[name.removeprefix("mcugraph.")] = path.read_text(encoding="utf-8")
    return sources


def imports(source: str, names: set[str]) -> Iterator[str]:
    """Yield the full name of every module that a source imports, anywhere in it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            parts = [f"{base}.{alias.name}" for alias in node.names]
            yield from (p if p.removeprefix("mcugraph.") in names else base for p in parts)


def floor_of(name: str) -> int | None:
    exact = (i for i, floor in enumerate(FLOORS) if name in floor)
    alike = (i for i, floor in enumerate(FLOORS) if any(fnmatch(name, kind) for kind in floor))
    return next(exact, next(alike, None))


def forbidden(name: str, imported: str, names: set[str]) -> str | None:
    """Return why this import is not allowed, or None."""
    library = imported.partition(".")[0]
    target = imported.removeprefix("mcugraph.")
    if library != "mcugraph":
        return forbidden_library(name, library)
    if target not in names:
        return "is of a module that does not exist"
    here, there = floor_of(name), floor_of(target)
    if here is None or there is None or there < here:
        return None
    if there > here:
        return f"is upward, from floor {here} to {there}"
    beside = any(fnmatch(name, a) and fnmatch(target, b) for a, b in NEIGHBOURS)
    return None if beside else f"is sideways on floor {here}"


def forbidden_library(name: str, library: str) -> str | None:
    if not library:
        return "is relative: write it from mcugraph"
    if library == "torch" and not fnmatch(name, "prune*"):
        return "is for prune/ only"
    if fnmatch(name, "passes*") and library not in PASSES_MAY_IMPORT:
        return "is not for passes"
    return None


def problems(sources: dict[str, str]) -> list[str]:
    names = set(sources)
    homeless = [f"{name} stands on no floor" for name in sources if floor_of(name) is None]
    wrong = [
        f"{name}: import of {target} {reason}"
        for name, source in sources.items()
        for target in imports(source, names)
        if (reason := forbidden(name, target, names))
    ]
    return homeless + wrong


def test_every_module_imports_only_from_lower_floors() -> None:
    assert problems(modules()) == []


@pytest.mark.parametrize(
    ("name", "source", "complaint"),
    [
        ("attic", "", "attic stands on no floor"),
        ("memory", "from mcugraph.plan import Plan", "is upward, from floor 1 to 2"),
        ("memory", "import mcugraph.cli", "is upward, from floor 1 to 7"),
        ("memory", "from mcugraph import plan", "is upward, from floor 1 to 2"),
        ("memory", "import mcugraph", "is upward, from floor 1 to 7"),
        ("memory", "def f():\n    from mcugraph.emit import emit", "is upward, from floor 1 to 3"),
        ("memory", "import mcugraph.schedule", "is sideways on floor 1"),
        ("memory", "from .graph import Graph", "is relative"),
        ("memory", "from mcugraph.grpah import Graph", "does not exist"),
        ("memory", "import torch.nn", "is for prune/ only"),
        ("passes.new", "from mcugraph.passes.fold import fold", "is sideways on floor 1"),
        ("passes.new", "from mcugraph.passes import fold", "is sideways on floor 1"),
        ("passes.new", "import onnxruntime", "is not for passes"),
        ("passes._edit", "import networkx", "is not for passes"),
        ("passes._edit", "from mcugraph.passes import channels", "is sideways on floor 0"),
    ],
)
def test_wrong_import_is_found(name: str, source: str, complaint: str) -> None:
    found = problems(house() | {name: source})
    assert len(found) == 1
    assert complaint in found[0]


def test_right_imports_are_allowed() -> None:
    sources = {
        "passes.new": "import math, numpy as np\nfrom mcugraph.passes import _edit, channels",
        "passes": "from mcugraph.passes.fold import fold\nfrom mcugraph.passes.new import new",
        "passes.channels": "from mcugraph.passes._edit import take",
        "lower.conv": "from mcugraph.lower.arithmetic import bound\nimport mcugraph.layout",
        "lower.arithmetic": "import numpy",
        "prune.cost": "import torch\nfrom mcugraph.memory import plan",
        "cli": "import typer\nfrom mcugraph.emit import emit",
    }
    assert problems(house() | sources) == []


def house() -> dict[str, str]:
    empty = ["mcugraph", "graph", "layout", "schedule", "memory", "plan", "emit", "cli"]
    return dict.fromkeys([*empty, "passes", "passes._edit", "passes.channels", "passes.fold"], "")


def python_files() -> list[Path]:
    found = [
        path for top in ("mcugraph", "passes", "targets") for path in (ROOT / top).rglob("*.py")
    ]
    return sorted(path for path in found if not LINKS & set(path.parents))


def test_every_package_is_listed() -> None:
    assert {path.parent for path in python_files()} <= set(folders().values())
    assert [str(folder) for folder in folders().values() if not folder.is_dir()] == []


def test_no_module_is_too_long() -> None:
    paths = [*python_files(), *(ROOT / "targets").rglob("*.c")]
    lengths = {str(p.relative_to(ROOT)): len(p.read_text().splitlines()) for p in paths}
    assert {name: n for name, n in lengths.items() if n > LONGEST_MODULE} == {}


def function_length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the lines from `def` to the end, docstring apart."""
    end = node.end_lineno or node.lineno
    text = node.body[0] if ast.get_docstring(node) is not None else None
    docstring = (text.end_lineno or 0) - text.lineno + 1 if text else 0
    return end - node.lineno + 1 - docstring


def test_no_function_is_too_long() -> None:
    lengths = {
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}": function_length(node)
        for path in python_files()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert {name: n for name, n in lengths.items() if n > LONGEST_FUNCTION} == {}


def test_docstring_does_not_count() -> None:
    source = 'def f():\n    """One.\n\n    Two.\n    """\n    a = 1\n    return a\n'
    function = ast.parse(source).body[0]
    assert isinstance(function, ast.FunctionDef)
    assert function_length(function) == 3
