"""One point of a sweep: a budget, a cut and a way to int8, and the network that comes of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from onnx import ModelProto

from mcugraph.artifact import write_models
from mcugraph.cost import cost_of
from mcugraph.cuts import find_cuts
from mcugraph.measure import can_measure
from mcugraph.passes import cut_depth
from mcugraph.passes.heads import Head
from mcugraph.prune.attached import classes_of, logits_form
from mcugraph.prune.cut_choice import Depth, usage_of
from mcugraph.prune.depth import fit_depth
from mcugraph.prune.exploration import Trial
from mcugraph.prune.fit import fit
from mcugraph.prune.given import float_model
from mcugraph.prune.goal import RESOURCES, Goal
from mcugraph.prune.network import Network
from mcugraph.prune.recipe import Recipe
from mcugraph.prune.result import Result
from mcugraph.prune.training import score_of

WHOLE = "whole"
STATIC, TRAINED = "static", "trained"
SHARE = r"\d+(?:\.\d+)?"


@dataclass(frozen=True)
class Sweep:
    """What is explored, and how long.

    `budgets` are ranges of limits, in shares of what the unpruned network takes, such as
    "macs=0.2..1,ram=0.5..1"; "" removes no channels. `cuts` is "front" (all that no deeper cut
    beats), "none", or tensors with commas. `quantised` are the ways to int8: "static", "trained" or
    both. `storage` is an Optuna URL that several machines share, by default a file in `out`.
    """

    trials: int = 20
    budgets: str = "macs=0.2..1"
    cuts: str = "front"
    head: str = "dscnn32_16"
    quantised: str = STATIC
    target: str | None = None
    epochs: int | None = None
    out: Path | None = None
    storage: str | None = None
    seed: int = 0

    def ranges(self) -> dict[str, tuple[int, int]]:
        """(least, greatest) percentage of each resource; ValueError lists what is wrong."""
        found: dict[str, tuple[int, int]] = {}
        problems = []
        for part in filter(None, self.budgets.split(",")):
            match = re.fullmatch(rf"\s*(\w+)\s*=\s*({SHARE})\s*\.\.\s*({SHARE})\s*", part)
            low, high = (float(match[2]), float(match[3])) if match else (0.0, 0.0)
            if match is None or not 0 < low < high <= 1:
                problems.append(f"'{part}': write ranges of shares such as macs=0.2..1")
            elif match[1] not in RESOURCES:
                known = ", ".join(RESOURCES)
                problems.append(f"'{match[1]}' is no resource; there are {known}")
            else:
                found[match[1]] = (round(100 * low), round(100 * high))
        if problems:
            raise ValueError("\n".join(problems))
        return found

    def ways(self) -> list[str]:
        """The ways to int8."""
        ways = [way.strip() for way in self.quantised.split(",")]
        if not ways or any(way not in (STATIC, TRAINED) for way in ways):
            raise ValueError(f"quantised '{self.quantised}': {STATIC}, {TRAINED}, or both")
        return ways


class Runner:
    """Trains the network of one point: a cut, shares of resources, and a way to int8."""

    def __init__(self, recipe: Recipe, sweep: Sweep, folder: Path) -> None:
        self.recipe, self.sweep, self.folder = recipe, sweep, folder
        self.machine = recipe.pruning.machine
        self.original = float_model(recipe.model, recipe.train, recipe.training)
        self.ranges, self.ways = sweep.ranges(), sweep.ways()
        self.whole = usage_of(self.original, self.machine, self.ranges)
        self.cuts = [WHOLE, *self._cuts()]
        self.figures = ("ram", "flash", "cycles" if self._timed() else "macs")

    def _cuts(self) -> list[str]:
        if self.sweep.cuts == "none":
            return []
        if self.sweep.cuts != "front":
            return self._named()
        found = find_cuts(self.original, classes_of(self.original), self.sweep.head)
        return [cut.tensor for cut in found.cuts if cut.pareto]

    def _named(self) -> list[str]:
        """The cuts that were asked for; ValueError where one is none, or its head does not fit."""
        tensors = [tensor.strip() for tensor in self.sweep.cuts.split(",")]
        head = Head.parse(self.sweep.head, classes_of(self.original), softmax=False)
        for tensor in tensors:
            cut_depth(logits_form(self.original)[0], tensor, head)
        return tensors

    def _timed(self) -> bool:
        return can_measure(self.machine) and self.machine.cycles is not None

    @property
    def purpose(self) -> dict[str, Any]:
        """What has to be the same for trials to be comparable."""
        sweep = self.sweep
        return {
            "budgets": sweep.budgets,
            "cuts": self.cuts,
            "head": sweep.head,
            "quantised": self.ways,
            "target": self.machine.name,
            "epochs": self.recipe.training.epochs,
            "seed": sweep.seed,
        }

    def first(self) -> list[dict[str, Any]]:
        """What every sweep begins with.

        The whole network at the greatest, middle and least budgets, and each cut at the greatest.
        """
        most = {name: high for name, (_, high) in self.ranges.items()}
        middle = {name: (low + high) // 2 for name, (low, high) in self.ranges.items()}
        least = {name: low for name, (low, _) in self.ranges.items()}
        whole = [(WHOLE, shares) for shares in (most, middle, least)[: 3 if most else 1]]
        cuts = [(cut, most) for cut in self.cuts[1:]]
        return [{"cut": cut, "way": self.ways[0], **shares} for cut, shares in whole + cuts]

    def run(self, number: int, point: Mapping[str, Any]) -> Trial:
        """Train, quantise, count and write; what is impossible is told in the trial."""
        goal = self.goal(point)
        trial = Trial(
            number=number,
            cut="" if point["cut"] == WHOLE else point["cut"],
            budget=",".join(f"{name}={limit}" for name, limit in goal.limits.items()),
            quantised=point["way"],
        )
        try:
            result = self._fitted(trial, goal)
            int8 = self._quantised(result, trial.quantised)
            network = Network(int8).to(self.recipe.training.device)
            score = score_of(network, self.recipe.training)
        except ValueError as error:
            # Where not even the whole network can be trained, nothing can.
            if dict(point) == self.first()[0]:
                raise
            return replace(trial, problem=str(error))
        return replace(
            trial, score=score, used=self._used(int8), files=self._written(number, result, int8)
        )

    def goal(self, point: Mapping[str, Any]) -> Goal:
        """The limits of a point."""
        return Goal(**{name: round(point[name] / 100 * used) for name, used in self.whole.items()})

    def _fitted(self, trial: Trial, goal: Goal) -> Result:
        training = replace(self.recipe.training, checkpoint=None, progress=lambda epoch: None)
        pruning, loader = self.recipe.pruning, self.recipe.train
        if not trial.cut:
            return fit(self.original, loader, goal, training, pruning)
        depth = Depth(
            tensor=trial.cut, head=self.sweep.head, prune=bool(self.ranges), pruning=pruning
        )
        return fit_depth(self.original, loader, goal, training, depth)

    def _quantised(self, result: Result, way: str) -> ModelProto:
        if way == STATIC:
            return result.quantize()
        training = self.recipe.quantized
        if training is None:
            own = result.training
            training = replace(own, epochs=max(1, own.epochs // 4))
        return result.train_quantized(training)

    def _used(self, int8: ModelProto) -> dict[str, int]:
        cost = cost_of(int8, self.machine, measured=can_measure(self.machine))
        every = {**asdict(cost), "flash": cost.flash or cost.weights}
        return {name: int(every[name]) for name in self.figures}

    def _written(self, number: int, result: Result, int8: ModelProto) -> tuple[str, ...]:
        names = [f"{number:04d}{end}" for end in (".onnx", ".int8.onnx", ".json")]
        (self.folder / "trials").mkdir(parents=True, exist_ok=True)
        paths = [self.folder / "trials" / name for name in names]
        write_models({paths[0]: result.model, paths[1]: int8})
        result.decision.save(paths[2])
        return tuple(f"trials/{name}" for name in names)
