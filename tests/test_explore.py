"""Sweeps: the same for a seed, resumed where they stopped, with a front that nobody beats."""

import io
import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import fitting
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from mcugraph.cli import OK, run
from mcugraph.cost import cost_of
from mcugraph.decision import Decision
from mcugraph.prune.depth import Depth
from mcugraph.prune.exploration import Exploration, Trial, best_of
from mcugraph.prune.explore import explore, explore_recipe
from mcugraph.prune.fit import Pruning
from mcugraph.prune.front_svg import HIGH, WIDE, front_svg, ticks
from mcugraph.prune.network import Network
from mcugraph.prune.recipe import Recipe
from mcugraph.prune.rules import Schedule
from mcugraph.prune.sweep import Sweep
from mcugraph.prune.training import Training, score_of
from mcugraph.show_explore import print_exploration, sweep_display

SVG = "{http://www.w3.org/2000/svg}"
TRAINING = Training(epochs=2, evaluate=fitting.batches())
SMALL = Sweep(trials=5, budgets="macs=0.4..1", cuts="relu", head="dscnn8")
RECIPE = """
import fitting
from mcugraph.prune.recipe import Recipe
from mcugraph.prune.training import Training


def recipe():
    training = Training(epochs=9, evaluate=fitting.batches())
    return Recipe(fitting.exported(), fitting.batches(), training)
"""


def recipe() -> Recipe:
    pruning = Pruning(target="cortex-m0", schedule=Schedule(0, events=2))
    return Recipe(fitting.exported(), fitting.batches(), TRAINING, pruning)


class StopError(Exception):
    pass


def test_a_sweep_that_was_stopped_goes_on_as_it_would_have(tmp_path: Path) -> None:
    told: list[str | Trial] = []
    whole = explore(recipe(), SMALL, tmp_path / "whole", tell=told.append)
    begun = [news.split(":")[0] for news in told if isinstance(news, str)]
    assert begun == [f"trial {n} of 5" for n in range(1, 6)]
    done = [replace(news, front=False) for news in told if isinstance(news, Trial)]
    assert done == [replace(trial, front=False) for trial in whole.trials]
    check_front(whole)
    check_files(whole, tmp_path / "whole")

    def stop(news: str | Trial) -> None:
        if isinstance(news, str) and news.startswith("trial 4"):
            raise StopError

    parts = tmp_path / "parts"
    with pytest.raises(StopError):
        explore(recipe(), SMALL, parts, tell=stop)
    later: list[str | Trial] = []
    resumed = explore(recipe(), SMALL, parts, tell=later.append)
    begun = [news for news in told if isinstance(news, str)]
    assert [news for news in later if isinstance(news, str)] == begun[3:]
    assert [replace(t, files=(), number=0) for t in resumed.trials] == [
        replace(t, files=(), number=0) for t in whole.trials
    ]
    assert explore(recipe(), SMALL, parts, tell=later.append) == resumed
    assert len(later) == 4, "nothing is left to do"
    other = replace(SMALL, head="dscnn16")
    with pytest.raises(ValueError, match=r"is another one \(head dscnn8, not dscnn16\)"):
        explore(recipe(), other, parts)


def check_front(found: Exploration) -> None:
    """First come whole networks, then the cut with all its channels; the front is not beaten."""
    assert [trial.cut for trial in found.trials[:4]] == ["", "", "", "relu"]
    assert found.figures == ("ram", "flash", "cycles")
    done = [trial for trial in found.trials if trial.used is not None]
    rows = {t.number: [-(t.score or 0), *(t.used or {}).values()] for t in done}
    for trial in done:
        beaten = any(
            np.all(np.less_equal(other, rows[trial.number])) and other != rows[trial.number]
            for other in rows.values()
        )
        assert not (trial.front and beaten)
    assert found.front


def check_files(found: Exploration, folder: Path) -> None:
    """What was written is what was counted."""
    record = json.loads((folder / "explore.json").read_text())
    assert [each["number"] for each in record["trials"]] == [t.number for t in found.trials]
    assert record["units"] == {"ram": "bytes", "flash": "bytes", "cycles": "cycles"}
    trial = found.trials[3]
    assert all(name.startswith("trials/0004.") for name in trial.files)
    pruned, int8, decision = (folder / name for name in trial.files)
    assert Decision.load(decision).cut == "relu"
    onnx.checker.check_model(onnx.load(pruned))
    model = onnx.load(int8)
    assert score_of(Network(model), TRAINING) == trial.score
    cost = cost_of(model, "cortex-m0", measured=True)
    assert trial.used == {"ram": cost.ram, "flash": cost.flash, "cycles": cost.cycles}
    check_svg((folder / "front.svg").read_text(), found)


def check_svg(text: str, found: Exploration) -> None:
    """Each panel has a dot for each trial, within its frame, and a number for each of its front."""
    root = ElementTree.fromstring(text)
    panels = root.findall(f"{SVG}g")
    assert len(panels) == len(found.figures)
    done = [trial for trial in found.trials if trial.used is not None]
    for panel, figure in zip(panels, found.figures, strict=True):
        rounds, squares = (panel.findall(f"{SVG}{kind}") for kind in ("circle", "rect"))
        assert len(squares) == sum(bool(t.cut) for t in done)
        dots = rounds + squares
        told = sorted(dot.findtext(f"{SVG}title") or "" for dot in dots)
        assert told == sorted(f"{t.number}: {t.name}, score {t.score:.2f}" for t in done)
        assert all(0 <= across_of(dot) <= WIDE for dot in dots)
        assert all(-5 <= float(dot.get("cy") or dot.get("y") or 0) <= HIGH for dot in dots)
        best = {str(trial.number) for trial in best_of(done, (figure,))}
        assert best <= {label.text for label in panel.findall(f"{SVG}text")}
        order = sorted(done, key=lambda t, name=figure: (t.used or {})[name])
        across = {d.findtext(f"{SVG}title"): across_of(d) for d in dots}
        placed = [across[f"{t.number}: {t.name}, score {t.score:.2f}"] for t in order]
        assert placed == sorted(placed)


def across_of(dot: ElementTree.Element) -> float:
    """Where the middle of a circle or square is."""
    if dot.get("cx") is not None:
        return float(dot.get("cx", ""))
    return float(dot.get("x", "")) + float(dot.get("width", "")) / 2


def test_a_recipe_file_is_explored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tiny.py").write_text(RECIPE, encoding="utf-8")
    sweep = Sweep(trials=2, budgets="", cuts="none", quantised="static,trained", epochs=1)
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    found = explore_recipe(Path("tiny.py"), replace(sweep, storage=storage))
    assert {trial.quantised for trial in found.trials} <= {"static", "trained"}
    assert {path.name for path in Path("build/tiny_sweep").iterdir()} == {
        "explore.json",
        "front.svg",
        "trials",
    }
    assert Path("study.db").exists()
    # Another machine trains what is still to be trained, and knows of what others have.
    other = replace(sweep, storage=storage, out=Path("other"), trials=3)
    told: list[str | Trial] = []
    more = explore_recipe(Path("tiny.py"), other, told.append)
    assert more.trials[: len(found.trials)] == found.marked().trials
    assert [news.split(":")[0] for news in told if isinstance(news, str)][1:] == ["trial 3 of 3"]


def test_the_command_tells_what_it_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tiny.py").write_text(RECIPE, encoding="utf-8")
    options = ["--trials", "2", "--cuts", "relu", "--budgets", "", "--epochs", "1"]
    assert run(["explore", "tiny.py", *options, "--all"]) == OK
    printed = capsys.readouterr()
    assert [line.split(":")[0] for line in printed.err.splitlines()] == [
        "  1  whole, static",
        "  2  cut at relu, static",
    ]
    lines = printed.out.splitlines()
    assert [line.split()[0].strip("*") for line in lines[1:3]] == ["1", "2"]
    assert "picture    build/tiny_sweep/front.svg" in lines
    assert lines[-1].startswith("best score build/tiny_sweep/trials/000")
    assert Path(lines[-1].split()[-1]).exists()
    assert run(["explore", "tiny.py", *options, "--json"]) == OK
    assert len(json.loads(capsys.readouterr().out)["trials"]) == 2


def test_budgets_out_of_reach_are_told(tmp_path: Path) -> None:
    sweep = replace(SMALL, budgets="params=0.01..0.02", cuts="none", trials=1)
    with pytest.raises(ValueError, match="out of reach"):
        explore(recipe(), sweep, tmp_path)
    sweep = replace(sweep, budgets="params=0.01..1", trials=3)
    found = explore(recipe(), sweep, tmp_path / "other")
    assert [trial.used is None for trial in found.trials] == [False, False, True]
    assert "out of reach" in (found.trials[2].problem or "")


@pytest.mark.parametrize(
    ("sweep", "complaint"),
    [
        (Sweep(budgets="macs=2..1,what=0.1..1"), r"'macs=2\.\.1': write ranges.*\n'what' is no"),
        (Sweep(quantised="int4"), "quantised 'int4': static, trained, or both"),
        (Sweep(trials=0), "trials=0"),
        (replace(SMALL, cuts="rleu"), r"no tensor 'rleu'; near to it: relu"),
        (replace(SMALL, head="what"), "head of kind 'what'"),
        (replace(SMALL, storage="what://x"), r"cannot use the storage what://x: .*sqlite:///"),
        (replace(SMALL, storage="mine.db"), r"cannot use the storage mine\.db: "),
        (replace(SMALL, storage="sqlite:////no/such/x.db"), "unable to open database file"),
    ],
)
def test_what_is_refused(sweep: Sweep, complaint: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=complaint):
        explore(recipe(), sweep, tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"cannot write|is a file"):
        explore(recipe(), SMALL, tmp_path / "file")
    silent = replace(recipe(), training=Training(epochs=1))
    with pytest.raises(ValueError, match="needs an evaluate"):
        explore(silent, SMALL, tmp_path)
    with pytest.raises(ValueError, match="no depth and no exit"):
        explore(replace(recipe(), depth=Depth("relu")), SMALL, tmp_path)


def test_the_table_has_the_front_and_what_was_impossible() -> None:
    used = {"ram": 1000, "flash": 20_000, "cycles": 300_000}
    trials = (
        Trial(1, "relu", "macs=12345", "static", 91.254, used),
        Trial(2, "", "", "trained", 90.0, used),
        Trial(3, "add", "macs=1", "static", problem="out of reach: [macs]\nmore"),
    )
    found = Exploration("cortex-m0", "gap", ("ram", "flash", "cycles"), trials).marked()
    text = printed(found, every=False)
    assert "1*  relu       macs=12345  static  91.25  1,000   20,000  300,000" in text
    assert "90.00" not in text
    assert text.endswith(
        "1 of 3 trials are on the front, for cortex-m0; 1 gave no network\n"
        "3: out of reach: [macs]\n"
    )
    assert "90.00" in printed(found, every=True)


def test_each_trial_is_told_on_a_line() -> None:
    stream = io.StringIO()
    used = {"ram": 1000, "flash": 20_000, "cycles": 300_000}
    with sweep_display(Console(file=stream, width=60)) as tell:
        tell("trial 1 of 2: [whole]")
        tell(Trial(1, "", "macs=12345", "static", 91.254, used))
        tell(Trial(12, "relu", "", "trained", problem="no [way]\nat all"))
    assert stream.getvalue().splitlines() == [
        "  1  whole, macs=12345, static: score 91.25  ram 1,000  flash 20,000  cycles 300,000",
        " 12  cut at relu, trained: no network, no [way]",
    ]


def printed(found: Exploration, every: bool) -> str:
    stream = io.StringIO()
    print_exploration(found, Console(file=stream, width=100), every)
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines()) + "\n"


TRIALS = st.lists(
    st.tuples(st.integers(0, 5), st.integers(1, 5), st.integers(1, 5)), min_size=1, max_size=12
)


@settings(deadline=None, max_examples=60, derandomize=True)
@given(TRIALS)
def test_the_front_is_what_nothing_beats(points: list[tuple[int, int, int]]) -> None:
    trials = [
        Trial(n, "", "", "static", float(score), {"ram": ram, "flash": flash})
        for n, (score, ram, flash) in enumerate(points)
    ]
    found = {trial.number for trial in best_of(trials, ("ram", "flash"))}
    costs = [(-score, ram, flash) for score, ram, flash in points]
    beaten = {
        n
        for n, own in enumerate(costs)
        for other in costs
        if other != own and all(a <= b for a, b in zip(other, own, strict=True))
    }
    first = {costs.index(own) for own in costs}
    assert found == first - beaten
    text = front_svg(Exploration("a&b<c>", "gap", ("ram", "flash"), tuple(trials)))
    assert len(list(ElementTree.fromstring(text).iter(f"{SVG}circle"))) == 2 * len(trials)


@settings(deadline=None, max_examples=100, derandomize=True)
@given(st.lists(st.floats(1e-3, 1e9), min_size=1, max_size=5))
def test_ticks_enclose_and_are_few(values: list[float]) -> None:
    found = ticks(values)
    assert found[0] <= min(values) * (1 + 1e-9)
    assert found[-1] >= max(values) * (1 - 1e-9)
    assert 2 <= len(found) <= 8
    gaps = np.diff(found)
    np.testing.assert_allclose(gaps, gaps[0], rtol=1e-6)
