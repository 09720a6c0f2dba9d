"""Heads for all cuts of a frozen network, trained in one pass, and the best within a budget."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import sqrt
from typing import Any

from onnx import ModelProto

from mcugraph.cost import cost_of
from mcugraph.cuts import find_cuts
from mcugraph.optimize import Settings
from mcugraph.passes import cut_depth
from mcugraph.passes._edit import Array
from mcugraph.passes.heads import Head
from mcugraph.prune.attached import (
    PartlyFrozen,
    SeveralOutputs,
    classes_of,
    head_weights,
    logits_form,
    new_weights,
    with_heads,
)
from mcugraph.prune.course import Course, Lasting, Stage, split_epochs
from mcugraph.prune.fit import Pruning
from mcugraph.prune.goal import Goal
from mcugraph.prune.network import Network
from mcugraph.prune.training import Training, score_of
from mcugraph.targets import Target

# How many times its budget a cut may take, where channels are removed afterwards.
REACH = 2.0
# Resources that are known when the C is compiled.
COMPILED = frozenset(("ram", "flash", "cycles"))


@dataclass(frozen=True)
class Depth:
    """Where a network may end early, and in what.

    `tensor` is the cut; None stands for all that no deeper cut beats in every resource. Heads are
    trained alone for the first `share` of the epochs, then, unless `unfreeze` is off, what remains
    of the network with its head. With `prune`, channels are removed then as well, as `pruning` says
    (whose target always counts); cuts that take up to REACH times the budget are considered then.
    """

    tensor: str | None = None
    head: str = "dscnn32_16"
    classes: int | None = None
    unfreeze: bool = True
    share: float = 0.25
    prune: bool = False
    pruning: Pruning = field(default_factory=Pruning)

    def __post_init__(self) -> None:
        """Refuse what can't be meant."""
        if not 0 < self.share < 1:
            raise ValueError(f"share={self.share}: a part of the epochs, above 0, below 1")
        if self.prune and not self.unfreeze:
            raise ValueError("a frozen network keeps its channels: prune needs unfreeze")

    def as_purpose(self) -> dict[str, Any]:
        """What has to be the same for a checkpoint to be of use, beside the pruning."""
        return {name: value for name, value in vars(self).items() if name != "pruning"}

    def epochs(self, whole: int) -> tuple[int, int]:
        """How many epochs the heads are trained alone, and what remains after that."""
        if not self.unfreeze:
            return whole, 0
        return split_epochs(whole, self.share)


@dataclass(frozen=True)
class CutScore:
    """One cut with its head, trained on the frozen network; no tensor stands for the whole network.

    `score` is what the evaluation says, `used` what it takes of each resource of the budget, and
    `excess` the greatest of these in units of its limit.
    """

    tensor: str
    score: float | None
    used: Mapping[str, float]
    excess: float


@dataclass(frozen=True)
class Shortened:
    """A model that ends early in class logits: the cut, its trained head, and how others fared."""

    model: ModelProto
    tensor: str
    head: Head
    cuts: tuple[CutScore, ...]


def choose_cut(course: Course, goal: Goal, depth: Depth) -> Shortened:
    """Train a head for every cut on the frozen network, and take the best within the budget.

    Without an evaluation the deepest counts as the best. Raises ValueError where none is within.
    """
    return _Choice(course, goal, depth).run()


@dataclass(frozen=True)
class _Choice:
    course: Course
    goal: Goal
    depth: Depth

    @property
    def model(self) -> ModelProto:
        """The model that is cut."""
        return self.course.model

    @property
    def training(self) -> Training:
        """How all is trained."""
        return self.course.training

    def run(self) -> Shortened:
        costs = {tensor: self._used(self._shorter(tensor, {})) for tensor in self.tensors}
        self._check_reach(costs)
        network = self._trained(self._used(self.model))
        weights = {name: head_weights(network, n) for n, name in enumerate(self.tensors)}
        scores = {name: self._score(self._shorter(name, own)) for name, own in weights.items()}
        cuts = [self._entry(name, scores[name], used) for name, used in costs.items()]
        within = [cut for cut in cuts if cut.excess <= self._reach]
        best = max(reversed(within), key=_by_score)
        first = self.course.history[0]
        whole = self._entry("", first.score, first.used)
        return Shortened(
            model=self._shorter(best.tensor, weights[best.tensor]),
            tensor=best.tensor,
            head=replace(self.head, weights=weights[best.tensor]),
            cuts=(*cuts, whole),
        )

    @cached_property
    def plain(self) -> ModelProto:
        """The model that ends in logits."""
        return logits_form(self.model)[0]

    @cached_property
    def head(self) -> Head:
        """The head without weights; it ends as the model does."""
        classes = self.depth.classes or classes_of(self.model)
        softmax = logits_form(self.model)[1]
        return Head.parse(self.depth.head, classes, softmax=softmax, seed=self.training.seed)

    @cached_property
    def tensors(self) -> tuple[str, ...]:
        """The cuts, from front to back."""
        if self.depth.tensor is not None:
            return (self.depth.tensor,)
        found = find_cuts(self.model, self.head.classes, self.head.name)
        front = tuple(cut.tensor for cut in found.cuts if cut.pareto)
        if not front:
            raise ValueError(f"no cut where head {self.head.name} is worth it; `cuts` lists all")
        return front

    def _shorter(self, tensor: str, weights: Mapping[str, Array]) -> ModelProto:
        head = replace(self.head, softmax=False, weights=weights or None)
        return cut_depth(self.plain, tensor, head)

    def _used(self, model: ModelProto) -> dict[str, float]:
        machine, goal = self.depth.pruning.machine, self.goal
        return usage_of(model, machine, goal.limits, goal.objective)

    def _entry(self, tensor: str, score: float | None, used: Mapping[str, float]) -> CutScore:
        shares = [used[name] / limit for name, limit in self.goal.limits.items()]
        return CutScore(tensor, score, used, max(shares, default=0.0))

    @property
    def _reach(self) -> float:
        """How many times its budget a cut may take; pruning may yet bring any to it."""
        if not self.depth.prune:
            return 1.0
        return REACH if self.depth.tensor is None else float("inf")

    def _check_reach(self, costs: Mapping[str, Mapping[str, float]]) -> None:
        entries = [self._entry(name, None, used) for name, used in costs.items()]
        least = min(entries, key=lambda cut: cut.excess)
        if least.excess > self._reach:
            used = ", ".join(f"{name}={value:,.0f}" for name, value in least.used.items())
            also = "" if self.depth.prune else ", or remove channels as well (prune)"
            raise ValueError(
                f"no cut with head {self.head.name} is within the budget: behind {least.tensor} it "
                f"takes {used}; raise it, take a smaller head{also}"
            )

    def _trained(self, used: Mapping[str, float]) -> Network:
        """All heads on the frozen network."""
        together = with_heads(self.plain, dict.fromkeys(self.tensors, self.head))
        network = PartlyFrozen(together, new_weights(together, self.plain)).to(self.training.device)
        epochs, _ = self.depth.epochs(self.training.epochs)
        clip = self.training.clip
        # Each head is clipped as if it were alone.
        wide = None if clip is None else clip * sqrt(len(self.tensors))
        own = replace(self.training, epochs=epochs, clip=wide)
        shares = [0.0, *(1.0 for _ in self.tensors)]
        self.course.begin(used, lambda: self._score(self.plain))
        self.course.run(
            Stage(
                learner=Lasting(network),
                trainer=lambda: SeveralOutputs(network, self.course.loader, own, None, shares),
                until=epochs,
                used=lambda _: used,
                score=lambda: None,
            )
        )
        return network

    def _score(self, model: ModelProto) -> float | None:
        return score_of(Network(model).to(self.training.device), self.training)


def usage_of(
    model: ModelProto, machine: Target, names: Iterable[str], objective: str = "ram"
) -> dict[str, float]:
    """What a model takes of each of these resources of a Goal, as the compiler says."""
    names, settings = tuple(names), Settings(objective=objective)
    if not names:
        return {}
    planned = cost_of(model, machine, settings=settings)
    measured = not COMPILED.isdisjoint(names)
    cost = cost_of(model, machine, measured=True, settings=settings) if measured else planned
    every = {
        **{"params": cost.parameters, "macs": cost.macs, "arena": planned.ram},
        **{"ram": cost.ram, "weights": cost.weights},
        **{"flash": cost.flash, "cycles": cost.cycles},
    }
    return {name: float(every[name] or 0) for name in names}


def _by_score(cut: CutScore) -> float:
    return float("-inf") if cut.score is None else cut.score
