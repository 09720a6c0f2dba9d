"""Structured pruning while a network is trained, until the compiler says that it fits."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import onnx
import torch
from onnx import ModelProto
from torch import Tensor, nn
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook

from mcugraph.decision import Decision
from mcugraph.passes import drop_branches
from mcugraph.passes.remove_channels import kept_indices, remove_channels
from mcugraph.prune.branches import without_each
from mcugraph.prune.choice import Candidate, Chooser
from mcugraph.prune.export import from_torch
from mcugraph.prune.gates import Gates
from mcugraph.prune.goal import Goal
from mcugraph.prune.network import Network
from mcugraph.prune.places import Survivors, kept_places
from mcugraph.prune.processes import average
from mcugraph.prune.reach import check_reach, told
from mcugraph.prune.resources import Resources
from mcugraph.prune.rules import Rules, Schedule, least_width
from mcugraph.prune.salience import CRITERIA
from mcugraph.prune.view import View
from mcugraph.targets import Target
from mcugraph.targets import load as load_target

# Batches whose statistics each event looks at.
WATCHED = 2


class BudgetPruner:
    """Prunes `network` while somebody trains it, so that it meets its budget when it is trained.

        pruner = BudgetPruner(model, example, "ram=12KB,macs=3M", Schedule(steps=1000))
        optimizer = torch.optim.SGD(pruner.network.parameters(), 0.1)
        for x, y in loader:
            optimizer.zero_grad()
            loss = criterion(pruner.network(x), y) + pruner.loss()
            loss.backward()
            optimizer.step()
            pruner.step()

    `model` is a torch module, or a float ONNX model (then without an example). Channels, and whole
    branches of sums, go for good while training runs, which makes it faster; the parameters are
    then new ones, which optimisers that stepped the old ones get, with their state. Raises
    ValueError where the budget is out of reach, and says what can be reached.
    """

    def __init__(
        self,
        model: nn.Module | ModelProto,
        example: Any,
        budget: str | Goal,
        schedule: Schedule,
        *,
        target: str | Target = "cortex-m0",
        rules: Rules | None = None,
    ) -> None:
        self.original = model if isinstance(model, ModelProto) else from_torch(model, example)
        self.network = Network(self.original)
        if isinstance(model, nn.Module):
            self.network.to(next(model.parameters()).device).train(model.training)
        self.rules = rules or Rules()
        if self.rules.importance not in CRITERIA:
            raise ValueError(f"importance '{self.rules.importance}': one of {', '.join(CRITERIA)}")
        machine = target if isinstance(target, Target) else load_target(target)
        self.resources = Resources(self.original, machine, Goal.of(budget))
        self.steps = 0
        self._shares = schedule.shares()
        self._survivors = Survivors(self.original)
        self._start = self.usage()
        check_reach(self.resources, self.rules)
        self._optimizers: weakref.WeakSet[Optimizer] = weakref.WeakSet()
        self._hook = register_optimizer_step_post_hook(self._note)
        self._view = self._looked()
        self._prepare()

    @property
    def alive(self) -> dict[str, list[int]]:
        """The channels that are left, by the names of their groups in the original model."""
        return self._survivors.alive

    @property
    def gates(self) -> Gates:
        """Those of the channels and branches that there are."""
        return self._view.gates

    def usage(self) -> dict[str, float]:
        """What the network takes now of each limited resource, by the present plan."""
        return {
            name: float(self.resources.value(name, self.resources.counts))
            for name in self.resources.goal.limits
        }

    def loss(self) -> Tensor:
        """sum_r relu(R_r / B_r - 1) with the soft channel counts, and branches, of the gates.

        The limits are those of the next event; nothing is left of it after the last one.
        """
        if not self._shares:
            return torch.zeros(())
        limits, counts = self._limits(self._next_share()), self.gates.counts()
        return self._view.branches.excess(self.resources, counts, self.gates.branches, limits)

    @torch.no_grad()
    def step(self) -> None:
        """After each step of the optimiser: move the gates, and remove what has to go by now."""
        self.steps += 1
        if self._shares:
            self._move_gates()
            self._watch()
        if self.steps in self._shares:
            self._event(self._shares.pop(self.steps))
        self._prepare()

    def decision(self) -> Decision:
        """What was kept of the original model, as data."""
        return self._survivors.decision()

    def close(self) -> None:
        """Stop looking for optimisers."""
        self._hook.remove()

    # Between events

    def _next_share(self) -> float:
        return self._shares[min(self._shares)]

    def _limits(self, share: float) -> dict[str, float]:
        goal = self.resources.goal.limits
        return {
            name: max(float(limit), self._start[name] + (limit - self._start[name]) * share)
            for name, limit in goal.items()
        }

    def _note(self, optimizer: Optimizer, *_: Any) -> None:
        own = {id(weight) for weight in self.network.parameters()}
        if any(id(p) in own for group in optimizer.param_groups for p in group["params"]):
            self._optimizers.add(optimizer)

    def _looked(self, deciding: bool = True) -> View:
        """The network as it is; its branches where something is still to decide."""
        offered = self.rules.branches and deciding
        withouts = without_each(self.resources) if offered else []
        return View(self.network, self.resources.channels, withouts)

    def _prepare(self) -> None:
        """Gates act while there is something to decide; batches before an event are watched."""
        self.network.gating = self.gates.apply_to if self._shares else None
        ahead = min(self._shares, default=self.steps) - self.steps
        self.network.watched = self._view.watched if 0 < ahead <= WATCHED else ()

    def _move_gates(self) -> None:
        for gate in self.gates.all:
            if gate.grad is not None:
                average(gate.grad)
        self.gates.descend(self.rules.gate_rate)

    def _watch(self) -> None:
        if self.network.seen:
            self._view.see(self.network.seen)
        self.network.seen = {}

    # Events

    def _event(self, share: float) -> None:
        self._view.average()
        self.gates.fold(self.network.weights)
        candidates = self._candidates()
        while branch := self._reduce(candidates, self._limits(share)):
            self._drop(branch)
            candidates = self._candidates()
        self._shrink(candidates)
        self._view = self._looked(deciding=bool(self._shares))

    def _candidates(self) -> list[Candidate]:
        groups = self._survivors.channels.groups
        least = [least_width(group.width, self.rules) for group in groups]
        return self._view.candidates(least, self.rules)

    def _reduce(self, candidates: Sequence[Candidate], limits: dict[str, float]) -> str | None:
        """Choose until the compiler itself says that the limits are met, or a branch has to go."""
        offers = self._view.offers(self.rules.importance)
        chooser = Chooser(self.resources, candidates, self.rules.round_to, offers)
        aims, final = dict(limits), not self._shares
        while True:
            more = chooser.reduce(aims)
            if chooser.branch is not None:
                return chooser.branch
            # Where memory has to be planned again first, it is too early to measure; and until the
            # last event, cycles may follow from those that were measured before.
            met = not more or self.resources.excess(chooser.counts(), aims).item() <= 0
            left = self._pruned([each.left for each in candidates])
            self.resources.replan(left, measured=met and final)
            if not met:
                continue
            over = self.resources.over(limits, final=final)
            if not over:
                return None
            if not more:
                raise ValueError(f"nothing is left that could go; {told(over, limits)}")
            # What placement and code add to the plan: the forms do not know of it.
            used = self.usage()
            aims |= {name: used[name] - excess for name, excess in over.items()}

    def _pruned(self, left: Sequence[Sequence[int]]) -> ModelProto:
        model = self.network.to_onnx()
        keep = {
            group.name: kept_indices(model, group, kept)
            for group, kept in zip(self._view.channels.groups, left, strict=True)
            if len(kept) < group.width
        }
        return remove_channels(model, keep) if keep else model

    def _drop(self, branch: str) -> None:
        """Let a branch go, and all that was chosen before with it; gradients stay to judge by."""
        grown = {name: weight.grad for name, weight in self.network.weights.items()}
        self.network.become(drop_branches(self.network.to_onnx(), [branch]), {}, self._optimizers)
        for name, weight in self.network.weights.items():
            weight.grad = grown[name]
        self._survivors.drop(branch)
        self.resources.replan(self.network.to_onnx(), measured=False)
        before, self._view = self._view, self._looked()
        self._view.remember(before)

    def _shrink(self, candidates: Sequence[Candidate]) -> None:
        left = [each.left for each in candidates]
        weights = self.network.weights
        for each in candidates:
            for surgeon in each.surgeons:
                surgeon.write(weights[surgeon.reader.weight].data)
        kept = kept_places(self._view.channels, left, self.network.values)
        self.network.become(self.resources.model, kept, self._optimizers)
        self._survivors.keep(left)

    # Moving, stopping and going on

    def to(self, device: str | torch.device) -> None:
        """Move all to a device, before the first step."""
        self.network.to(device)
        self._view = self._looked()
        self._prepare()

    def state(self) -> dict[str, Any]:
        """All that training has changed here, the network among it, as tensors and numbers."""
        return {
            "model": self.network.to_onnx().SerializeToString(),
            "steps": self.steps,
            "shares": dict(self._shares),
            "survivors": self._survivors.state(),
            "view": self._view.state(),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a state, with a new `network`: make optimisers after this, not before."""
        model = onnx.load_from_string(state["model"])
        device = next(self.network.parameters()).device
        self.network = Network(model).to(device)
        self.resources.replan(model)
        self.steps, self._shares = state["steps"], dict(state["shares"])
        self._survivors.load_state(state["survivors"])
        self._view = self._looked(deciding=bool(self._shares))
        self._view.load_state(state["view"])
        self._prepare()
