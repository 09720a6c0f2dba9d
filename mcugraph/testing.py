"""A pytest plugin for golden files: `golden` compares text, `golden_graph` an ONNX model.

    def test_my_pass(golden_graph):
        golden_graph(my_pass(onnx.load("in.onnx")))

`pip install mcugraph` is enough: pytest finds it. `pytest --update-golden` writes the files; the
review of a change is then the diff of the text files in version control.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from onnx import ModelProto

Golden = Callable[..., None]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --update-golden."""
    parser.addoption(
        "--update-golden", action="store_true", help="rewrite the golden files from this run"
    )


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    """Return golden(text, suffix=".txt"), which compares text with this test's golden file.

    The file is golden/<test file>/<test name><suffix> beside the test file. A test that compares
    several texts gives each a suffix of its own.
    """
    folder = request.path.parent / "golden" / request.path.stem
    name = re.sub(r"[^\w.=-]+", "-", request.node.name).strip("-")
    command = f"python -m pytest '{request.node.nodeid}' --update-golden"
    seen: set[Path] = set()

    def compare(text: str, suffix: str = ".txt") -> None:
        path = folder / f"{name}{suffix}"
        assert path not in seen, f"{path.name} is compared twice in one test: give it a suffix"
        seen.add(path)
        if request.config.getoption("--update-golden"):
            folder.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", newline="")
        if not path.exists():
            pytest.fail(f"no golden file {path}; write it with: {command}", pytrace=False)
        expected = path.read_bytes().decode()
        if text != expected:
            pytest.fail(_difference(expected, text, path, command), pytrace=False)

    return compare


@pytest.fixture
def golden_graph(golden: Golden) -> Callable[..., None]:
    """Return golden_graph(model, suffix=".txt"), which compares a model's canonical text."""
    # Every pytest run in the environment loads this plugin: it costs nothing until it is used.
    from mcugraph.text import graph_text

    def compare(model: ModelProto, suffix: str = ".txt") -> None:
        golden(graph_text(model), suffix)

    return compare


def _difference(expected: str, text: str, path: Path, command: str) -> str:
    lines: Any = difflib.unified_diff(
        expected.splitlines(), text.splitlines(), "golden", "this run", lineterm=""
    )
    shown = list(lines) or ["(the lines are equal, their ends differ)"]
    return "\n".join([f"differs from {path}", *shown, f"if this is right: {command}"])
