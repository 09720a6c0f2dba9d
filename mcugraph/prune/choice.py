"""Which channels and branches go: the least loss for what each brings, until limits are met."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf

import torch
from torch import Tensor

from mcugraph.prune.branches import Without
from mcugraph.prune.resources import Resources
from mcugraph.prune.salience import Surgeon

# The share of all channels that may go before memory is planned again.
PLANNED = 1 / 16


class Candidate:
    """One group while channels are chosen: who is left, and what the next one costs."""

    def __init__(self, width: int, least: int, surgeons: Sequence[Surgeon], scores: Tensor | None):
        self.left = list(range(width))
        self.least = least
        self.surgeons = surgeons
        self._scores = scores

    def next(self, count: int) -> tuple[list[int], float]:
        """The `count` channels that cost the least, and what they cost together."""
        scores = self._scores
        if scores is None:
            scores = torch.stack([surgeon.losses().cpu() for surgeon in self.surgeons]).sum(0)
        own = scores[self.left]
        cheapest = torch.argsort(own, stable=True)[:count].tolist()
        return [self.left[place] for place in cheapest], float(own[cheapest].sum())

    def remove(self, channels: Sequence[int]) -> None:
        """Let them go; the readers make up for each in turn."""
        for channel in channels:
            self.left.remove(channel)
            for surgeon in self.surgeons:
                surgeon.remove(channel)


@dataclass(frozen=True)
class Offer:
    """A branch that can go: what the network takes without it, and what that costs."""

    without: Without
    loss: float


class Chooser:
    """Removes the cheapest channels from candidates until their resources are within limits.

    Where a branch of `offers` is cheaper than any channel, it ends there, with this as `branch`.
    """

    def __init__(
        self,
        resources: Resources,
        candidates: Sequence[Candidate],
        round_to: int,
        offers: Sequence[Offer] = (),
    ) -> None:
        self.branch: str | None = None
        self._resources = resources
        self._candidates = candidates
        self._round = round_to
        self._offers = offers

    def counts(self) -> Tensor:
        """How many channels are left in each group."""
        return torch.tensor([float(len(each.left)) for each in self._candidates])

    def reduce(self, limits: Mapping[str, float]) -> bool:
        """Remove until the present forms say that all limits are met; False where no channel goes.

        Where memory is limited, no more than a share of the channels: then it is planned again.
        """
        memory = any(name in limits for name in ("arena", "ram"))
        steps = max(1, int(self.counts().sum() * PLANNED)) if memory else sys.maxsize
        for _ in range(steps):
            counts = self.counts().double().requires_grad_()
            with torch.enable_grad():
                excess = self._resources.excess(counts, limits)
            if excess.item() <= 0:
                return True
            if not self._remove_one(counts, excess, limits):
                return False
        return True

    def _remove_one(self, counts: Tensor, excess: Tensor, limits: Mapping[str, float]) -> bool:
        (gains,) = torch.autograd.grad(excess, counts)
        found = []
        for number, (each, gain) in enumerate(zip(self._candidates, gains.tolist(), strict=True)):
            size = self._step(each)
            if gain > 0 and size:
                channels, loss = each.next(size)
                found.append((loss / (gain * size), number, channels))
        price, number, channels = min(found, default=(inf, 0, []))
        self.branch = self._branch_below(price, counts.detach(), excess.item(), limits)
        if self.branch is not None or not found:
            return False
        self._candidates[number].remove(channels)
        return True

    def _branch_below(
        self, price: float, counts: Tensor, excess: float, limits: Mapping[str, float]
    ) -> str | None:
        """The branch that costs the least for what it brings, if that is below a price."""
        found = []
        for offer in self._offers:
            # None brings more than all of the excess.
            if offer.loss > price * excess:
                continue
            gain = excess - offer.without.excess(counts, limits)
            if gain > 0:
                found.append((offer.loss / gain, -gain, offer.without.branch.tensor))
        cost, _, branch = min(found, default=(inf, 0, None))
        return branch if cost < price or price == inf else None

    def _step(self, each: Candidate) -> int:
        """How many channels go at a time: down to the next multiple; 0 where none may go."""
        now = len(each.left)
        size = now % self._round or self._round
        return size if now - size >= each.least else 0
