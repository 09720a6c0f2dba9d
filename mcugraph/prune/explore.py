"""A sweep of budgets, cuts and ways to int8, by Optuna: what accuracy costs in RAM and cycles."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from time import sleep
from typing import Any

import optuna
from optuna.exceptions import StorageInternalError
from optuna.samplers import TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from mcugraph.artifact import make_folder, write_all
from mcugraph.ctext import identifier
from mcugraph.prune.exploration import PICTURE, RECORD, Exploration, Trial
from mcugraph.prune.front_svg import front_svg
from mcugraph.prune.recipe import Recipe, load_recipe
from mcugraph.prune.sweep import Runner, Sweep

STUDY = "study.log"
# Between the seeds of two sweeps' samplers.
APART = 1_000_003
# Seconds in which another machine makes the tables of a storage.
PAUSE = 1.0
Tell = Callable[[str | Trial], None]


def _quiet(_: str | Trial) -> None:
    """Tell nobody."""


def explore_recipe(path: Path, sweep: Sweep, tell: Tell = _quiet) -> Exploration:
    """Train a network for each point of a sweep; goes on where an earlier call was stopped.

    Writes, below `sweep.out` (default build/NAME_sweep), the models and decision of each trial,
    explore.json and front.svg. `tell` hears of each trial, when it begins and when it is done.
    Raises ValueError for what is wrong with the recipe or the sweep.
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
    make_folder(folder)
    if recipe.training.evaluate is None:
        raise ValueError("a sweep weighs scores: the recipe's training needs an evaluate")
    if recipe.depth is not None or recipe.exit is not None:
        raise ValueError(
            "a sweep chooses the cuts itself: a recipe for it has no depth and no exit"
        )
    if sweep.trials < 1:
        raise ValueError(f"trials={sweep.trials}: at least 1")
    runner = Runner(recipe, sweep, folder)
    study = _study(runner, folder, name)
    while len(_finished(study)) < sweep.trials:
        _advance(study, runner, tell)
    found = _exploration(study, runner, folder)
    record = json.dumps(found.as_json(), indent=1) + "\n"
    write_all({folder / RECORD: record.encode(), folder / PICTURE: front_svg(found).encode()})
    return found


def _study(runner: Runner, folder: Path, name: str) -> optuna.Study:
    """The study of this sweep, new or as it was left."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    url = runner.sweep.storage
    study = _stored(runner, name, url or JournalStorage(JournalFileBackend(str(folder / STUDY))))
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


def _stored(runner: Runner, name: str, storage: str | JournalStorage) -> optuna.Study:
    ways = [StudyDirection.MAXIMIZE, *(StudyDirection.MINIMIZE for _ in runner.figures)]

    def stored() -> optuna.Study:
        return optuna.create_study(
            study_name=name, storage=storage, directions=ways, load_if_exists=True
        )

    try:
        # Where machines begin together, all but one fail to make the tables, and find them then.
        with suppress(DBAPIError):
            return stored()
        sleep(PAUSE)
        return stored()
    except (SQLAlchemyError, StorageInternalError, ImportError, ValueError) as error:
        first = str(error).splitlines()[0].rstrip(".")
        raise ValueError(
            f"cannot use the storage {storage}: {first}; write an Optuna URL such as "
            "sqlite:///sweep.db, or none for a file in the folder"
        ) from error


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
    found = runner.run(trial.number + 1, point) if equal is None else _trial(equal)
    trial.set_user_attr("record", asdict(found))
    if found.used is None:
        study.tell(trial, state=TrialState.FAIL)
    else:
        figures = [found.used[name] for name in runner.figures]
        study.tell(trial, [found.score or 0.0, *figures])
    tell(found)


def _suggested(trial: optuna.Trial, runner: Runner) -> dict[str, Any]:
    """The next point; shares in percent."""
    shares = {name: trial.suggest_int(name, *ends) for name, ends in runner.ranges.items()}
    cut = trial.suggest_categorical("cut", runner.cuts)
    return {"cut": cut, "way": trial.suggest_categorical("way", runner.ways), **shares}


def _trial(trial: FrozenTrial) -> Trial:
    record = trial.user_attrs["record"]
    return Trial(**{**record, "files": tuple(record["files"])})


def _exploration(study: optuna.Study, runner: Runner, folder: Path) -> Exploration:
    """The trials in order; a point that came twice counts once."""
    unique = {tuple(trial.params.items()): _trial(trial) for trial in reversed(_finished(study))}
    return Exploration(
        target=runner.machine.name,
        head=runner.sweep.head,
        figures=runner.figures,
        trials=tuple(sorted(unique.values(), key=lambda trial: trial.number)),
        folder=str(folder),
        seed=runner.sweep.seed,
    ).marked()
