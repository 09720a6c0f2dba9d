"""When channels and branches go while a network is trained, and how they are chosen."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil


@dataclass(frozen=True)
class Schedule:
    """When channels go: at `events` steps, evenly from `begin` to `end` of `steps` in all.

    At the k-th of n events the limits are 1 - (1 - k/n)^power of their way.
    """

    steps: int
    events: int = 8
    begin: float = 0.0
    end: float = 0.5
    power: float = 2.0

    def shares(self) -> dict[int, float]:
        """The steps, counted from 1, after which channels go, and how far the limits are then."""
        first, length = self.begin * self.steps, (self.end - self.begin) * self.steps
        found = {}
        for event in range(1, self.events + 1):
            place = round(first + length * event / self.events)
            found[max(1, min(self.steps, place))] = 1 - (1 - event / self.events) ** self.power
        return found


@dataclass(frozen=True)
class Rules:
    """How channels and branches are chosen.

    `importance` is one of salience.CRITERIA. No group keeps less than `floor` of the channels that
    it had at first, nor less than two; what is left are multiples of `round_to` where that leaves
    any. With `compensate`, readers make up for what goes. Gates move by `gate_rate`. With
    `branches`, whole branches of sums may go, too: priced like channels by surgeon and taylor, and
    for the other kinds of importance only where no channel is left that could go.
    """

    importance: str = "surgeon"
    floor: float = 0.05
    round_to: int = 1
    compensate: bool = True
    gate_rate: float = 0.01
    branches: bool = True


def least_width(width: int, rules: Rules) -> int:
    """The fewest channels that a group of this width may keep.

    Two at least: between single channels, a convolution can't be told from a depthwise one.
    """
    return min(width, max(2, ceil(rules.floor * width)))
