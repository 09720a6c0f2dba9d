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
from mcugraph.prune.cut_choice import CutScore, Depth, Shortened, choose_cut
from mcugraph.prune.given import Model, float_model
from mcugraph.prune.goal import Goal
from mcugraph.prune.history import Epoch
from mcugraph.prune.network import Network
from mcugraph.prune.processes import joined, rank
from mcugraph.prune.pruner import BudgetPruner
from mcugraph.prune.result import Result
from mcugraph.prune.training import Loader, Still, Trainer, Training, score_of

__all__ = ["CutScore", "Depth", "DepthResult", "Shortened", "choose_cut", "fit_depth"]


class Kept(Still):
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
    probabilities; losses see logits. Raises ValueError where no cut is within the budget.
    """
    training, depth = training or Training(), depth or Depth()
    goal = Goal() if budget is None else Goal.of(budget)
    with joined():
        original = float_model(model, loader, training)
        chosen = choose_cut(original, loader, goal, training, depth)
        return _Fit(original, chosen, goal, training, depth).run(loader)


@dataclass(frozen=True)
class _Fit:
    original: ModelProto
    chosen: Shortened
    goal: Goal
    training: Training
    depth: Depth

    def run(self, loader: Loader) -> DepthResult:
        alone, rest = self.depth.epochs(self.training.epochs)
        pruner = self._pruner(rest * len(loader))
        pruner.to(self.training.device)
        try:
            later = self._trained(pruner, loader, alone, rest) if rest else []
            used = _used(pruner, final=True)
        finally:
            pruner.close()
        head = replace(self.chosen.head, weights=None)
        decision = replace(pruner.decision(), cut=self.chosen.tensor, head=head)
        model = with_values(decision.apply(self.original), pruner.network)
        return DepthResult(
            network=Network(model).to(self.training.device).eval(),
            decision=decision,
            used=used,
            limits=self.goal.limits,
            history=(*self.chosen.history, *later),
            target=self.depth.pruning.machine,
            loader=loader,
            training=self.training,
            cuts=self.chosen.cuts,
        )

    def _pruner(self, steps: int) -> Pruner:
        model, goal, pruning = self.chosen.model, self.goal, self.depth.pruning
        if not self.depth.prune:
            own = next(cut for cut in self.chosen.cuts if cut.tensor == self.chosen.tensor)
            return Kept(model, own.used)
        if pruning.mode != "differentiable":
            return Planned(model, pruning.machine, goal, pruning.mode, self.training.seed)
        schedule = replace(pruning.schedule, steps=steps)
        machine, rules = pruning.machine, pruning.rules
        return BudgetPruner(model, None, goal, schedule, target=machine, rules=rules)

    def _trained(self, pruner: Pruner, loader: Loader, before: int, own: int) -> list[Epoch]:
        """What remains of the network together with its head."""
        teacher = Network(logits_form(self.original)[0])
        trainer = Trainer(pruner, loader, replace(self.training, epochs=own), teacher)
        history = []
        for number in range(before + 1, before + own + 1):
            loss = trainer.run_epoch(number - 1)
            score = score_of(pruner.network, self.training)
            used = _used(pruner, final=number == before + own)
            history.append(Epoch(number, before + own, loss, score, used, self.goal.limits))
            if rank() == 0:
                self.training.progress(history[-1])
        return history


def _used(pruner: Pruner, final: bool) -> dict[str, float]:
    if final and isinstance(pruner, BudgetPruner):
        return pruner.resources.exact(final=True)
    return pruner.usage()
