"""docs/training.md holds: its Python runs, its names exist, its commands are those of the tool."""

from __future__ import annotations

import re
import shlex
from dataclasses import fields
from pathlib import Path

import pytest
from typer.main import get_command

from mcugraph.cli import app
from mcugraph.decision import Decision
from mcugraph.optimize import OBJECTIVES
from mcugraph.prune.fit import MODES, Pruning
from mcugraph.prune.goal import RESOURCES
from mcugraph.prune.recipe import Recipe
from mcugraph.prune.rules import Rules
from mcugraph.prune.salience import CRITERIA

PAGE = (Path(__file__).parents[1] / "docs/training.md").read_text(encoding="utf-8")
LONGEST = 130


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def test_it_is_one_page() -> None:
    assert len(PAGE.splitlines()) <= LONGEST


def test_the_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    (code,) = blocks("python")
    exec(compile(code, "docs/training.md", "exec"), names)
    widths = [len(kept) for kept in Decision.load("decision.json").keep.values()]
    assert widths
    assert all(width % 2 == 0 for width in widths)
    assert (tmp_path / "small" / "network.c").exists()
    assert (tmp_path / "small.onnx").exists()


def test_every_command_is_one_of_the_tool() -> None:
    known = vars(get_command(app))["commands"]
    for block in blocks("sh"):
        tool, name, *rest = shlex.split(block)
        options = {text for each in known[name].params for text in each.opts}
        assert tool == "mcugraph"
        assert {text for text in rest if text.startswith("-")} <= options


def test_every_resource_mode_and_rule_is_told() -> None:
    told = set(re.findall(r"`([\w.]+)", PAGE)) | set(re.findall(r"`(\w+)=", PAGE))
    rules = {f"rules.{each.name}" for each in fields(Rules)} - {"rules.gate_rate"}
    parts = {each.name for each in fields(Pruning)} - {"target", "rules"}
    assert told >= {*RESOURCES, *MODES, *CRITERIA, *rules, *parts}
    assert told >= {each.name for each in fields(Recipe)}
    assert all(f"objective={name}" in PAGE for name in OBJECTIVES if name != "ram")
