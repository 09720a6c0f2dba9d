"""Networks that end early: cut within a budget, trained as a whole, and pruned if asked for.

After De Leon and Atienza, Depth Pruning with Auxiliary Networks (ICASSP 2022), with what they leave
open: cuts that a deeper one beats in every resource are not tried, all heads are trained in one
pass over a network that runs once, and what remains is then trained together, listening to the full
network, while channels go.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from onnx import ModelProto
from torch import nn

from mcugraph.cost import Cost, cost_of
from mcugraph.decision import Decision
from mcugraph.measure import can_measure
from mcugraph.prune.attached import logits_form, with_values
from mcugraph.prune.cut_choice import CutScore, Depth, Shortened, choose_cut
from mcugraph.prune.export import from_torch
from mcugraph.prune.goal import Goal
from mcugraph.prune.history import Epoch
from mcugraph.prune.network import Network
from mcugraph.prune.processes import joined, rank
from mcugraph.prune.pruner import BudgetPruner
from mcugraph.prune.result import Result
from mcugraph.prune.training import Loader, Still, Trainer, Training

__all__ = ["CutScore", "Depth", "DepthResult", "Shortened", "choose_cut", "fit_depth"]


@dataclass(frozen=True)
class DepthResult(Result):
    """A result with the score of every cut, from front to back, and of the whole network."""

    cuts: tuple[CutScore, ...]

    @property
    def cost(self) -> Cost:
        """What the target says of the network as if it were int8."""
        return cost_of(self.model, self.target, measured=can_measure(self.target))


def fit_depth(
    model: nn.Module | ModelProto,
    loader: Loader,
    budget: str | Goal | None = None,
    training: Training | None = None,
    depth: Depth | None = None,
) -> DepthResult:
    """Cut a trained classifier so that it is within a budget, and train what remains.

    `model` is a torch module or a float ONNX model of one output, class logits or probabilities;
    losses see logits. Raises ValueError where no cut is within the budget.
    """
    training, depth = training or Training(), depth or Depth()
    goal = Goal() if budget is None else Goal.of(budget)
    with joined(training.device):
        original = float_model(model, loader, training)
        chosen = choose_cut(original, loader, goal, training, depth)
        return _Fit(original, chosen, goal, training, depth).run(loader)


def float_model(model: nn.Module | ModelProto, loader: Loader, training: Training) -> ModelProto:
    """The ONNX model, which a torch module is exported as for one row of the first batch."""
    if isinstance(model, ModelProto):
        return model
    if training.example is not None:
        return from_torch(model, training.example)
    *inputs, _ = next(iter(loader))
    device = next(model.parameters()).device
    return from_torch(model, tuple(part[:1].to(device) for part in inputs))


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
        pruner.network.to(self.training.device)
        history = list(self.chosen.history)
        if rest:
            history += self._trained(pruner, loader, (alone, rest))
        decision, used = self._decision(pruner), self._used(pruner, final=True)
        if isinstance(pruner, BudgetPruner):
            pruner.close()
        network = Network(with_values(decision.apply(self.original), pruner.network))
        return DepthResult(
            network=network.to(self.training.device).eval(),
            decision=decision,
            used=used,
            limits=self.goal.limits,
            history=tuple(history),
            target=self.depth.machine,
            loader=loader,
            training=self.training,
            cuts=self.chosen.cuts,
        )

    def _pruner(self, steps: int) -> Still | BudgetPruner:
        depth = self.depth
        if depth.schedule is None:
            return Still(Network(self.chosen.model))
        schedule = replace(depth.schedule, steps=steps)
        return BudgetPruner(
            self.chosen.model,
            None,
            self.goal,
            schedule,
            target=depth.machine,
            rules=depth.rules,
        )

    def _trained(
        self, pruner: Still | BudgetPruner, loader: Loader, epochs: tuple[int, int]
    ) -> list[Epoch]:
        """What remains of the network together with its head."""
        before, own = epochs
        teacher = Network(logits_form(self.original)[0])
        trainer = Trainer(pruner, loader, replace(self.training, epochs=own), teacher)
        history = []
        for number in range(before + 1, before + own + 1):
            loss = trainer.run_epoch(number - 1)
            score, used = trainer.score(pruner.network), self._used(pruner)
            history.append(Epoch(number, before + own, loss, score, used, self.goal.limits))
            if rank() == 0:
                self.training.progress(history[-1])
        return history

    def _used(self, pruner: Still | BudgetPruner, final: bool = False) -> dict[str, float]:
        if isinstance(pruner, BudgetPruner):
            return pruner.resources.exact(final=True) if final else pruner.usage()
        own = next(cut for cut in self.chosen.cuts if cut.tensor == self.chosen.tensor)
        return dict(own.used)

    def _decision(self, pruner: Still | BudgetPruner) -> Decision:
        """What to do with the original model; weights are not part of it."""
        pruned = pruner.decision() if isinstance(pruner, BudgetPruner) else Decision()
        head = replace(self.chosen.head, weights=None)
        return replace(pruned, cut=self.chosen.tensor, head=head)
