"""What is known of a network's channels and branches, from one change of its shape to the next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mcugraph.passes.channels import Channels
from mcugraph.prune.branches import Branches, Without
from mcugraph.prune.choice import Candidate, Offer
from mcugraph.prune.gates import Gates
from mcugraph.prune.network import Network
from mcugraph.prune.processes import average
from mcugraph.prune.readers import Reader, find_readers
from mcugraph.prune.rules import Rules
from mcugraph.prune.salience import Moments, Surgeon, simple_scores


class View:
    """The readers of each group of channels, the branches, their gates, and what batches told."""

    def __init__(self, network: Network, channels: Channels, withouts: Sequence[Without]) -> None:
        self.channels = channels
        self._network = network
        self._readers = [find_readers(network, group) for group in channels.groups]
        read = zip(channels.groups, self._readers, strict=True)
        counts = {name: len(own) for group, own in read for name in group.tensors}
        self.branches = Branches(network, withouts, counts)
        device, widths = next(network.parameters()).device, [g.width for g in channels.groups]
        self.gates = Gates(self._readers, widths, device, self.branches.scales)
        self._moments: dict[Reader, Moments] = {}

    @property
    def watched(self) -> tuple[str, ...]:
        """The tensors that `see` wants."""
        return tuple(sorted({reader.source for reader in self._all()} | self.branches.watched))

    def see(self, seen: Mapping[str, Tensor]) -> None:
        """Take in one batch."""
        for reader in self._all():
            source = seen[reader.source]
            empty = Moments.empty(len(reader.index), source.device)
            self._moments.setdefault(reader, empty).add(source, reader)
        self.branches.see(seen)

    def average(self) -> None:
        """Let all processes know what each has seen."""
        for reader in self._all():
            if reader not in self._moments:
                raise ValueError("the network did not run before pruner.step()")
            average(self._moments[reader].second)
            average(self._moments[reader].absolute)
        self.branches.average()

    def candidates(self, least: Sequence[int], rules: Rules) -> list[Candidate]:
        """One for each group; what was not seen stays."""
        return [self._candidate(number, width, rules) for number, width in enumerate(least)]

    def offers(self, importance: str) -> list[Offer]:
        """The branches of which something is known, with what they cost."""
        weights = self._network.weights
        priced = [(side.without, side.loss(importance, weights)) for side in self.branches.sides]
        return [Offer(without, loss) for without, loss in priced if loss is not None]

    def remember(self, other: View) -> None:
        """Take over what was seen of the same readers and branches."""
        known = {(reader.weight, reader.axis): reader for reader in other._moments}
        for reader in self._all():
            before = known.get((reader.weight, reader.axis))
            if before is not None and before.reads_as(reader):
                self._moments[reader] = other._moments[before]
        self.branches.remember(other.branches.sides)

    def state(self) -> dict[str, Any]:
        """All that training has changed here, as tensors and numbers."""
        seen = [(place, self._moments.get(reader)) for place, reader in enumerate(self._all())]
        return {
            "gates": [gate.detach().cpu() for gate in self.gates.all],
            "moments": {place: vars(found) for place, found in seen if found is not None},
            "energies": [side.energy for side in self.branches.sides],
        }

    @torch.no_grad()
    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        for gate, value in zip(self.gates.all, state["gates"], strict=True):
            gate.copy_(value)
        readers = list(self._all())
        self._moments = {readers[n]: Moments(**found) for n, found in state["moments"].items()}
        for side, energy in zip(self.branches.sides, state["energies"], strict=True):
            side.energy = energy

    def _all(self) -> Iterator[Reader]:
        return (reader for own in self._readers for reader in own)

    def _candidate(self, number: int, least: int, rules: Rules) -> Candidate:
        width, readers = self.channels.groups[number].width, self._readers[number]
        if any(reader not in self._moments for reader in readers):
            return Candidate(width, width, [], None)
        weights, moments = self._network.weights, [self._moments[reader] for reader in readers]
        surgeons = [
            Surgeon(weights[reader.weight], reader, own, rules.compensate)
            for reader, own in zip(readers, moments, strict=True)
        ]
        scores = None
        if rules.importance != "surgeon":
            scores = simple_scores(rules.importance, weights, readers, moments)
            average(scores)
        return Candidate(width, least, surgeons, None if scores is None else scores.cpu())
