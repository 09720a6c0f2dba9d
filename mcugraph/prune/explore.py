"""A sweep of budgets, cuts and ways to int8, by Optuna: what accuracy costs in RAM and cycles."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import optuna
from optuna.samplers import TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from mcugraph.ctext import identifier
from mcugraph.prune.exploration import Exploration, Trial
from mcugraph.prune.front_svg import front_svg
from mcugraph.prune.recipe import Recipe, load_recipe
from mcugraph.prune.sweep import Runner, Sweep

STUDY = "study.log"
# Between the seeds of two sweeps' samplers.
APART = 1_000_003
Tell = Callable[[str], None]


def _quiet(_: str) -> None:
    """Tell nobody."""


def explore_recipe(path: Path, sweep: Sweep, tell: Tell = _quiet) -> Exploration:
    """Train a network for each point of a sweep; goes on where an earlier call was stopped.

    Writes, below `sweep.out` (default build/NAME_sweep), the models and decision of each trial,
    explore.json and front.svg. Raises ValueError for what is wrong with the recipe or the sweep.
    """
    name = identifier(path.stem)
    folder = sweep.out or Path("build") / f"{name}_sweep"
    tell("reading the recipe")
    recipe = load_recipe(path)
    training, pruning = recipe.training, recipe.pruning
    if sweep.epochs is not None:
        training = replace(training, epochs=sweep.epochs)
    if sweep.target is not None:
        pruning = replace(pruning, target=sweep.target)
    return explore(replace(recipe, training=training, pruning=pruning), sweep, folder, name, tell)


def explore(
    recipe: Recipe, sweep: Sweep, folder: Path, name: str = "sweep", tell: Tell = _quiet
) -> Exploration:
    """The same for a recipe at hand."""
    if recipe.training.evaluate is None:
        raise ValueError("a sweep weighs scores: the recipe's training needs an evaluate")
    if sweep.trials < 1:
        raise ValueError(f"trials={sweep.trials}: at least 1")
    runner = Runner(recipe, sweep, folder)
    study = _study(runner, folder, name)
    while len(_finished(study)) < sweep.trials:
        _advance(study, runner, tell)
    found = _exploration(study, runner)
    (folder / "explore.json").write_text(json.dumps(found.as_json(), indent=1) + "\n", "utf-8")
    (folder / "front.svg").write_text(front_svg(found), "utf-8")
    return found


def _study(runner: Runner, folder: Path, name: str) -> optuna.Study:
    """The study of this sweep, new or as it was left."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder.mkdir(parents=True, exist_ok=True)
    url = runner.sweep.storage
    storage = url or JournalStorage(JournalFileBackend(str(folder / STUDY)))
    ways = [StudyDirection.MAXIMIZE, *(StudyDirection.MINIMIZE for _ in runner.figures)]
    study = optuna.create_study(
        study_name=name, storage=storage, directions=ways, load_if_exists=True
    )
    before = study.user_attrs.get("purpose")
    if before is None:
        study.set_user_attr("purpose", runner.purpose)
        for point in runner.first():
            study.enqueue_trial(point, skip_if_exists=True)
    elif before != runner.purpose:
        differing = [
            f"{key} {before.get(key)}, not {own}"
            for key, own in runner.purpose.items()
            if before.get(key) != own
        ]
        raise ValueError(
            f"the sweep {name} in {url or folder} is another one ({'; '.join(differing)}); ask for "
            "the same, or for another folder"
        )
    if url is None:
        _take_up(study)
    return study


def _take_up(study: optuna.Study) -> None:
    """What was being trained when this machine was stopped is trained anew."""
    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
        point = {**trial.system_attrs.get("fixed_params", {}), **trial.params}
        if point:
            study.enqueue_trial(point)


def _finished(study: optuna.Study) -> list[FrozenTrial]:
    return [trial for trial in study.trials if "record" in trial.user_attrs]


def _advance(study: optuna.Study, runner: Runner, tell: Tell) -> None:
    """One more trial; what is tried depends on those before it alone, so a sweep can be resumed."""
    done = _finished(study)
    # Those that other machines train at present count, so that not all draw the same.
    begun = len(done) + len(study.get_trials(states=(TrialState.RUNNING,)))
    study.sampler = TPESampler(seed=runner.sweep.seed * APART + begun)
    trial = study.ask()
    point = _suggested(trial, runner)
    goal = ",".join(f"{name}={limit}" for name, limit in runner.goal(point).limits.items())
    what = ", ".join(filter(None, (point["cut"], goal, point["way"])))
    tell(f"trial {len(done) + 1} of {runner.sweep.trials}: {what}")
    equal = next((each for each in done if each.params == trial.params), None)
    found = runner.run(trial.number, point) if equal is None else _trial(equal)
    trial.set_user_attr("record", asdict(found))
    if found.used is None:
        study.tell(trial, state=TrialState.FAIL)
    else:
        figures = [found.used[name] for name in runner.figures]
        study.tell(trial, [found.score or 0.0, *figures])


def _suggested(trial: optuna.Trial, runner: Runner) -> dict[str, Any]:
    """The next point; shares in percent."""
    shares = {name: trial.suggest_int(name, *ends) for name, ends in runner.ranges.items()}
    cut = trial.suggest_categorical("cut", runner.cuts)
    return {"cut": cut, "way": trial.suggest_categorical("way", runner.ways), **shares}


def _trial(trial: FrozenTrial) -> Trial:
    record = trial.user_attrs["record"]
    return Trial(**{**record, "files": tuple(record["files"])})


def _exploration(study: optuna.Study, runner: Runner) -> Exploration:
    """The trials in order; a point that came twice counts once."""
    unique = {tuple(trial.params.items()): _trial(trial) for trial in reversed(_finished(study))}
    numbered = [replace(trial, number=n) for n, trial in enumerate(reversed(unique.values()), 1)]
    return Exploration(
        target=runner.machine.name,
        head=runner.sweep.head,
        figures=runner.figures,
        trials=tuple(numbered),
        seed=runner.sweep.seed,
    ).marked()
