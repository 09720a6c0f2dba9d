"""What a sweep over budgets found: its trials and their Pareto front; this module has no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property

SCHEMA_VERSION = 1
# What a sweep writes into its folder, beside the trials.
RECORD, PICTURE = "explore.json", "front.svg"
UNITS = {"ram": "bytes", "flash": "bytes", "cycles": "cycles", "macs": "MACs"}


@dataclass(frozen=True)
class Trial:
    """One network of a sweep, in int8: what was asked for, and what came of it.

    `cut` is the tensor behind which a head stands, "" where the network is whole; `budget` is that
    of pruning; `quantised` is static or trained. `score` is what the evaluation says of the int8
    network, `used` its figures: RAM and flash in bytes, and cycles, or MACs where they are unknown.
    `files` are the written models, below the folder of the machine that ran it. Where there is a
    `problem`, such as a budget out of reach, there is no result.
    """

    number: int
    cut: str
    budget: str
    quantised: str
    score: float | None = None
    used: dict[str, int] | None = None
    files: tuple[str, ...] = ()
    problem: str | None = None
    front: bool = False

    @property
    def name(self) -> str:
        """The trial in a few words."""
        parts = [f"cut at {self.cut}" if self.cut else "whole", self.budget, self.quantised]
        return ", ".join(filter(None, parts))


@dataclass(frozen=True)
class Exploration:
    """A sweep: `figures` are what the score is weighed against, `trials` all that is finished.

    A trial is on the front if no other has as good a score for as little or less of every figure.
    `folder` is where all of it was written.
    """

    target: str
    head: str
    figures: tuple[str, ...]
    trials: tuple[Trial, ...]
    seed: int = 0
    folder: str = ""

    @cached_property
    def front(self) -> tuple[Trial, ...]:
        """The trials on the front, the best score first."""
        found = [trial for trial in self.trials if trial.front]
        return tuple(sorted(found, key=lambda trial: -(trial.score or 0.0)))

    def marked(self) -> Exploration:
        """The same with the trials on the front marked; of equal ones, the first."""
        whole = [trial for trial in self.trials if trial.used is not None]
        front = {t.number for t in best_of(whole, self.figures)}
        trials = tuple(replace(t, front=t.number in front) for t in self.trials)
        return replace(self, trials=trials)

    def as_json(self) -> dict[str, object]:
        """Plain values for json.dumps."""
        units = {name: UNITS[name] for name in self.figures}
        return {"schema_version": SCHEMA_VERSION, "units": units, **asdict(self)}


def best_of(trials: Sequence[Trial], figures: Sequence[str]) -> list[Trial]:
    """The trials that no other one beats in score and in these figures; of equal ones the first."""
    values = [_values(trial, figures) for trial in trials]
    return [
        trial
        for place, (trial, own) in enumerate(zip(trials, values, strict=True))
        if not any(
            all(a <= b for a, b in zip(other, own, strict=True))
            and (other != own or before < place)
            for before, other in enumerate(values)
            if before != place
        )
    ]


def _values(trial: Trial, figures: Sequence[str]) -> tuple[float, ...]:
    """All the better the smaller."""
    assert trial.used is not None, f"trial {trial.number} has no result"
    return (-(trial.score or 0.0), *(trial.used[name] for name in figures))
