"""Networks that end early: cut within a budget, trained as a whole, and pruned if asked for.

After De Leon and Atienza, Depth Pruning with Auxiliary Networks (ICASSP 2022), with what they leave
open: cuts that a deeper one beats in every resource are not tried, all heads are trained in one
pass over a network that runs once, and what remains is then trained together, listening to the full
network, while channels go.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from onnx import ModelProto

from mcugraph.cost import Cost, cost_of
from mcugraph.decision import Decision
from mcugraph.measure import can_measure
from mcugraph.prune.at_init import Planned
from mcugraph.prune.attached import logits_form, with_values
from mcugraph.prune.course import Course, Lasting, Stage
from mcugraph.prune.cut_choice import CutScore, Depth, Shortened, choose_cut
from mcugraph.prune.fit import pruner_of, purpose_of, used_by
from mcugraph.prune.given import Model, float_model
from mcugraph.prune.goal import Goal
from mcugraph.prune.network import Network
from mcugraph.prune.processes import joined
from mcugraph.prune.pruner import BudgetPruner
from mcugraph.prune.result import Result
from mcugraph.prune.training import Loader, Trainer, Training, score_of

__all__ = ["CutScore", "Depth", "DepthResult", "Shortened", "choose_cut", "fit_depth"]


class Kept(Lasting):
    """A network that keeps its channels, with the interface of a BudgetPruner."""

    def __init__(self, model: ModelProto, used: Mapping[str, float]) -> None:
        super().__init__(Network(model))
        self._used = used

    def usage(self) -> dict[str, float]:
        """What the network takes of each limited resource."""
        return dict(self._used)

    def decision(self) -> Decision:
        """Nothing."""
        return Decision()

    def to(self, device: str) -> None:
        """Move the network."""
        self.network.to(device)

    def close(self) -> None:
        """Nothing."""


Pruner = BudgetPruner | Planned | Kept


@dataclass(frozen=True)
class DepthResult(Result):
    """A result with the score of every cut, from front to back, and of the whole network."""

    cuts: tuple[CutScore, ...]

    @property
    def cost(self) -> Cost:
        """What the target says of the network as if it were int8."""
        return cost_of(self.model, self.target, measured=can_measure(self.target))


def fit_depth(
    model: Model,
    loader: Loader,
    budget: str | Goal | None = None,
    training: Training | None = None,
    depth: Depth | None = None,
) -> DepthResult:
    """Cut a trained classifier so that it is within a budget, and train what remains.

    `model` is a torch module, a float ONNX model or its file, of one output: class logits or
    probabilities; losses see logits. Goes on from `training.checkpoint` and runs under torchrun as
    `fit` does. Raises ValueError where no cut is within the budget.
    """
    training, depth = training or Training(), depth or Depth()
    goal = Goal() if budget is None else Goal.of(budget)
    with joined():
        original = float_model(model, loader, training)
        training = replace(training, epochs=sum(depth.epochs(training.epochs)))
        purpose = purpose_of(goal, depth.pruning) | {"depth": depth.as_purpose()}
        course = Course(original, loader, training, goal.limits, purpose)
        return _Fit(course, choose_cut(course, goal, depth), goal, depth).run()


@dataclass(frozen=True)
class _Fit:
    course: Course
    chosen: Shortened
    goal: Goal
    depth: Depth

    def run(self) -> DepthResult:
        course, training = self.course, self.course.training
        _, rest = self.depth.epochs(training.epochs)
        pruner = self._pruner(rest * len(course.loader))
        pruner.to(training.device)
        try:
            if rest:
                course.run(self._stage(pruner, rest))
            used = _used(pruner, final=True)
        finally:
            pruner.close()
        head = replace(self.chosen.head, weights=None)
        decision = replace(pruner.decision(), cut=self.chosen.tensor, head=head)
        model = with_values(decision.apply(course.model), pruner.network)
        return DepthResult(
            network=Network(model).to(training.device).eval(),
            decision=decision,
            used=used,
            limits=self.goal.limits,
            history=tuple(course.history),
            target=self.depth.pruning.machine,
            loader=course.loader,
            training=training,
            cuts=self.chosen.cuts,
            objective=self.goal.objective,
        )

    def _pruner(self, steps: int) -> Pruner:
        model, seed = self.chosen.model, self.course.training.seed
        if self.depth.prune:
            return pruner_of(model, self.goal, self.depth.pruning, steps, seed)
        own = next(cut for cut in self.chosen.cuts if cut.tensor == self.chosen.tensor)
        return Kept(model, own.used)

    def _stage(self, pruner: Pruner, epochs: int) -> Stage:
        """What remains of the network together with its head."""
        course, training = self.course, self.course.training
        own = replace(training, epochs=epochs)

        def trainer() -> Trainer:
            return Trainer(pruner, course.loader, own, Network(logits_form(course.model)[0]))

        return Stage(
            learner=pruner,
            trainer=trainer,
            until=training.epochs,
            used=lambda last: _used(pruner, final=last),
            score=lambda: score_of(pruner.network, training),
        )


def _used(pruner: Pruner, *, final: bool) -> dict[str, float]:
    return pruner.usage() if isinstance(pruner, Kept) else used_by(pruner, final=final)
