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
from mcugraph.passes.channels import find_channels
from mcugraph.passes.remove_channels import kept_indices, remove_channels
from mcugraph.prune.choice import Candidate, Chooser
from mcugraph.prune.export import from_torch
from mcugraph.prune.gates import Gates
from mcugraph.prune.goal import Goal
from mcugraph.prune.network import Network
from mcugraph.prune.places import kept_places
from mcugraph.prune.processes import average
from mcugraph.prune.readers import Reader, find_readers
from mcugraph.prune.resources import Resources
from mcugraph.prune.rules import Rules, Schedule, least_width
from mcugraph.prune.salience import CRITERIA, Moments, Surgeon, simple_scores
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

    `model` is a torch module, or a float ONNX model (then without an example). Channels go for
    good while training runs, which makes it faster; the parameters are then new ones, which
    optimisers that stepped the old ones get, with their state. Raises ValueError where the budget
    is out of reach of channel removal, and says what can be reached.
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
        self._first = find_channels(self.original)
        self.alive = {group.name: list(range(group.width)) for group in self._first.groups}
        self._start = self.usage()
        self._least = {g.name: least_width(g.width, self.rules) for g in self._first.groups}
        self._check_reach()
        self._optimizers: weakref.WeakSet[Optimizer] = weakref.WeakSet()
        self._hook = register_optimizer_step_post_hook(self._note)
        self._regroup()
        self._prepare()

    def usage(self) -> dict[str, float]:
        """What the network takes now of each limited resource, by the present plan."""
        return {
            name: float(self.resources.value(name, self.resources.counts))
            for name in self.resources.goal.limits
        }

    def loss(self) -> Tensor:
        """sum_r relu(R_r(n) / B_r - 1) with the soft channel counts n of the gates.

        The limits are those of the next event; nothing is left of it after the last one.
        """
        if not self._shares:
            return torch.zeros(())
        return self.resources.excess(self.gates.counts(), self._limits(self._next_share()))

    @torch.no_grad()
    def step(self) -> None:
        """After each step of the optimiser: move the gates, and remove channels when it is time."""
        self.steps += 1
        if self._shares:
            self._move_gates()
            self._watch_batch()
        if self.steps in self._shares:
            self._event(self._shares.pop(self.steps))
        self._prepare()

    def decision(self) -> Decision:
        """What was kept of the original model, as data."""
        keep, widths = {}, {}
        for group in self._first.groups:
            kept = self.alive[group.name]
            if len(kept) < group.width:
                keep[group.name] = tuple(kept_indices(self.original, group, kept))
                widths[group.name] = len(kept_indices(self.original, group, range(group.width)))
        return Decision(keep=keep, widths=widths)

    def close(self) -> None:
        """Stop looking for optimisers."""
        self._hook.remove()

    def _check_reach(self) -> None:
        """Refuse a budget that even the narrowest network exceeds."""
        least = [range(self._least[group.name]) for group in self._first.groups]
        limits = {name: float(limit) for name, limit in self.resources.goal.limits.items()}
        self.resources.replan(self._pruned(least))
        over = self.resources.over(limits)
        self.resources.replan(self.original)
        if over:
            raise ValueError(
                f"the budget is out of reach of removing channels: with {self.rules.floor:.0%} of "
                f"the channels left, {_told(over, limits)}; raise it, or cut the network's depth"
            )

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

    def _regroup(self) -> None:
        """Gates and statistics for the channels that there are now."""
        channels = self.resources.channels
        device = next(self.network.parameters()).device
        self._readers = [find_readers(self.network, group) for group in channels.groups]
        self.gates = Gates(self._readers, [group.width for group in channels.groups], device)
        self._moments: dict[Reader, Moments] = {}

    def _prepare(self) -> None:
        """Gates act while there is something to decide; batches before an event are watched."""
        self.network.gating = self.gates.apply_to if self._shares else None
        ahead = min(self._shares, default=self.steps) - self.steps
        watch = 0 < ahead <= WATCHED
        names = {reader.source for readers in self._readers for reader in readers}
        self.network.watched = tuple(sorted(names)) if watch else ()

    def _move_gates(self) -> None:
        for gate in self.gates.values:
            if gate.grad is not None:
                average(gate.grad)
        self.gates.descend(self.rules.gate_rate)

    def _watch_batch(self) -> None:
        seen = self.network.seen
        for reader in (reader for readers in self._readers for reader in readers):
            if reader.source in seen:
                source = seen[reader.source]
                empty = Moments.empty(len(reader.index), source.device)
                self._moments.setdefault(reader, empty).add(source, reader)
        self.network.seen = {}

    # Events

    def _event(self, share: float) -> None:
        self._share_moments()
        scores = [self._scores(n) for n in range(len(self._readers))]
        self.gates.fold(self.network.weights)
        candidates = [self._candidate(n, own) for n, own in enumerate(scores)]
        self._reduce(candidates, self._limits(share))
        self._shrink(candidates)
        self._regroup()

    def _share_moments(self) -> None:
        for reader in (reader for readers in self._readers for reader in readers):
            if reader not in self._moments:
                raise ValueError("the network did not run before pruner.step()")
            average(self._moments[reader].second)
            average(self._moments[reader].absolute)

    def _scores(self, number: int) -> Tensor | None:
        """Salience that does not change while channels go; None where surgeons say it."""
        if self.rules.importance == "surgeon":
            return None
        readers = self._readers[number]
        moments = [self._moments[reader] for reader in readers]
        scores = simple_scores(self.rules.importance, self.network.weights, readers, moments)
        average(scores)
        return scores.cpu()

    def _candidate(self, number: int, scores: Tensor | None) -> Candidate:
        group, weights = self.resources.channels.groups[number], self.network.weights
        surgeons = [
            Surgeon(weights[reader.weight], reader, self._moments[reader], self.rules.compensate)
            for reader in self._readers[number]
        ]
        return Candidate(group.width, self._least[group.name], surgeons, scores)

    def _reduce(self, candidates: Sequence[Candidate], limits: dict[str, float]) -> None:
        """Choose until the compiler itself says that the limits are met."""
        chooser = Chooser(self.resources, candidates, self.rules.round_to)
        aims, final = dict(limits), not self._shares
        while True:
            more = chooser.reduce(aims)
            self.resources.replan(self._pruned([each.left for each in candidates]))
            over = self.resources.over(limits, final=final)
            if not over:
                return
            if not more:
                raise ValueError(f"no channel is left that could go; {_told(over, limits)}")
            # What placement and code add to the plan: the forms do not know of it.
            used = self.usage()
            aims |= {name: used[name] - excess for name, excess in over.items()}

    def _pruned(self, left: Sequence[Sequence[int]]) -> ModelProto:
        model = self.network.to_onnx()
        groups = find_channels(model).groups
        keep = {
            group.name: kept_indices(model, group, kept)
            for group, kept in zip(groups, left, strict=True)
            if len(kept) < group.width
        }
        return remove_channels(model, keep) if keep else model

    def _shrink(self, candidates: Sequence[Candidate]) -> None:
        left = [each.left for each in candidates]
        weights = self.network.weights
        for each in candidates:
            for surgeon in each.surgeons:
                surgeon.write(weights[surgeon.reader.weight].data)
        kept = kept_places(find_channels(self.network.to_onnx()), left, self.network.values)
        self.network.become(self._pruned(left), kept, self._optimizers)
        for group, chosen in zip(self.resources.channels.groups, left, strict=True):
            self.alive[group.name] = [self.alive[group.name][c] for c in chosen]

    # Moving, stopping and going on

    def to(self, device: str | torch.device) -> None:
        """Move all to a device, before the first step."""
        self.network.to(device)
        self._regroup()
        self._prepare()

    def state(self) -> dict[str, Any]:
        """All that training has changed here, the network among it, as tensors and numbers."""
        readers = [reader for group in self._readers for reader in group]
        seen = [(place, self._moments.get(reader)) for place, reader in enumerate(readers)]
        return {
            "model": self.network.to_onnx().SerializeToString(),
            "steps": self.steps,
            "shares": dict(self._shares),
            "alive": {name: list(kept) for name, kept in self.alive.items()},
            "gates": [gate.detach().cpu() for gate in self.gates.values],
            "moments": {place: vars(found) for place, found in seen if found is not None},
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a state, with a new `network`: make optimisers after this, not before."""
        model = onnx.load_from_string(state["model"])
        device = next(self.network.parameters()).device
        self.network = Network(model).to(device)
        self.resources.replan(model)
        self.steps, self._shares = state["steps"], dict(state["shares"])
        self.alive = {name: list(kept) for name, kept in state["alive"].items()}
        self._regroup()
        with torch.no_grad():
            for gate, value in zip(self.gates.values, state["gates"], strict=True):
                gate.copy_(value)
        readers = [reader for group in self._readers for reader in group]
        for place, found in state["moments"].items():
            self._moments[readers[place]] = Moments(**found)
        self._prepare()


def _told(over: Mapping[str, float], limits: Mapping[str, float]) -> str:
    return ", ".join(f"{n} is {over[n]:,.0f} above {limits[n]:,.0f}" for n in over)
