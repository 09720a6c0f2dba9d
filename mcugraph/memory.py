"""Lifetimes to offsets in one arena: the best of many first-fit orders, then exact search."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np

from mcugraph.packing import FREE, Packing, Solution
from mcugraph.restarts import pack
from mcugraph.solver import solve


@dataclass(frozen=True)
class Buffer:
    """Bytes that are needed from place `first` to place `last` of the order, both included."""

    name: str
    size: int
    first: int
    last: int
    align: int = 1

    def meets(self, other: Buffer) -> bool:
        """Whether both are needed at the same time."""
        return self.first <= other.last and other.first <= self.last


@dataclass(frozen=True)
class MemoryPlan:
    """An offset for each buffer in an arena of `arena` bytes.

    No arena can be smaller than `lower_bound`: the most bytes that are needed at one time, or more
    if exact search has shown it. `proved`: no placement of these buffers is smaller.
    """

    buffers: tuple[Buffer, ...]
    offsets: Mapping[str, int]
    arena: int
    lower_bound: int
    proved: bool


# What to place first: each order wins on some graphs; the best result is kept.
PORTFOLIO: tuple[Callable[[Buffer], Any], ...] = (
    lambda b: (-b.size, b.first),
    lambda b: (-b.size * (b.last - b.first + 1), b.first),
    lambda b: (b.first, -b.size),
    lambda b: (-b.last, -b.size),
    lambda b: (-(b.last - b.first), -b.size),
)


# Orders that a search may try; fewer where many buffers are in each other's way.
TRIES, WORK = 1000, 400_000
# How often what is needed together with the highest buffer is placed first.
CROWDS = 2
# Nodes of exact search over up to so many buffers.
NODES, MOST = 2000, 64
# How many times as many nodes the search from the bottom up may take over up to so many buffers, if
# none may overlap; where many may, it hardly ever found more on 24 networks.
DENSE, MOST_DENSE = 3, 600

Improve = Callable[[Packing, Solution], Solution]


@dataclass(frozen=True)
class Effort:
    """Orders to try, nodes of the search after that, and who is asked if neither is enough."""

    tries: int = TRIES
    nodes: int = NODES
    improve: Improve | None = None


QUICK = Effort()


def plan_memory(
    buffers: Sequence[Buffer],
    gaps: Mapping[tuple[str, str], int] | None = None,
    bound: int | None = None,
    effort: Effort = QUICK,
) -> MemoryPlan:
    """Place the buffers first-fit in each order of the portfolio and keep the smallest arena.

    Two buffers that are needed at the same time are as far apart as the lower one is large, or as
    gaps[lower, upper] says; `bound` is then what no placement can undercut. While it is not
    reached, what is needed with the highest buffer goes first, in the best order that a search
    finds for it alone; then the search goes on with all; then come exact search and whatever else
    the effort has. All of it is counted, so that a plan repeats.
    """
    gaps = gaps or {}
    bound = _default_bound(buffers, gaps) if bound is None else bound
    shelf = _Shelf(buffers, gaps)
    keys = [*PORTFOLIO, *(_crowded_first(buffers, key) for key in PORTFOLIO)]
    best = shelf.best(shelf.sorted(key) for key in keys)
    for _ in range(CROWDS if shelf.height(best) > bound else 0):
        crowd = shelf.searched(shelf.crowd(best), bound, effort.tries)
        orders = (shelf.sorted(key) for key in PORTFOLIO)
        ahead = ([*crowd, *(i for i in order if i not in crowd)] for order in (best, *orders))
        best = shelf.best([best, *ahead])
    starts = shelf.starts(shelf.searched(best, bound, effort.tries))
    known = Solution([starts[i] for i in range(len(buffers))], shelf.top(starts), bound)
    if known.arena > bound:
        known = _searched(packing_of(buffers, gaps), known, effort, dense=not gaps)
    offsets = {b.name: start for b, start in zip(buffers, known.starts or (), strict=True)}
    return MemoryPlan(tuple(buffers), offsets, known.arena, known.bound, known.closed)


def _searched(packing: Packing, known: Solution, effort: Effort, *, dense: bool) -> Solution:
    """An arena that is no larger, and a bound that is no lower."""
    if len(packing.sizes) <= MOST:
        known = solve(packing, known, effort.nodes)
    elif dense and len(packing.sizes) <= MOST_DENSE:
        known = pack(packing, known, DENSE * effort.nodes)
    if known.closed or effort.improve is None:
        return known
    return effort.improve(packing, known)


def packing_of(buffers: Sequence[Buffer], gaps: Mapping[tuple[str, str], int]) -> Packing:
    """The same as numbers."""
    apart = np.full((len(buffers), len(buffers)), FREE, np.int64)
    for (i, one), (j, two) in permutations(enumerate(buffers), 2):
        if one.meets(two):
            apart[i, j] = max(gaps.get((one.name, two.name), one.size), FREE)
    columns = zip(*((b.size, b.align, b.first, b.last) for b in buffers), strict=True)
    sizes, aligns, firsts, lasts = (np.array(column, np.int64) for column in columns)
    return Packing(sizes, aligns, apart, firsts, lasts)


def _default_bound(buffers: Sequence[Buffer], gaps: Mapping[tuple[str, str], int]) -> int:
    """What any placement needs; where buffers may overlap, only the largest is sure."""
    return max((b.size for b in buffers), default=0) if gaps else lower_bound(buffers)


def lower_bound(buffers: Sequence[Buffer]) -> int:
    """The most bytes that are needed at one time; a peak begins where some buffer begins."""
    return max((_load(buffers, b.first) for b in buffers), default=0)


def _load(buffers: Sequence[Buffer], place: int) -> int:
    return sum(b.size for b in buffers if b.first <= place <= b.last)


def _crowded_first(
    buffers: Sequence[Buffer], key: Callable[[Buffer], Any]
) -> Callable[[Buffer], Any]:
    """The same order, but what is alive at the peak goes first."""
    loads = {b.first: _load(buffers, b.first) for b in buffers}
    peak = max(loads, key=lambda place: loads[place], default=0)
    return lambda b: (not b.first <= peak <= b.last, *key(b))


class _Shelf:
    """First-fit placement of one set of buffers in any order."""

    def __init__(self, buffers: Sequence[Buffer], gaps: Mapping[tuple[str, str], int]) -> None:
        self._buffers = buffers
        # For each buffer, those that it meets: it lies `below` bytes below or `above` above them.
        self._near: list[list[tuple[int, int, int]]] = [[] for _ in buffers]
        for index, own in enumerate(buffers):
            for at, other in enumerate(buffers):
                if at != index and own.meets(other):
                    below = gaps.get((own.name, other.name), own.size)
                    above = gaps.get((other.name, own.name), other.size)
                    if below + above > 0:
                        self._near[index].append((at, below, above))

    def starts(self, order: Sequence[int]) -> dict[int, int]:
        """Each buffer at the lowest aligned offset that is free for its whole life."""
        starts: dict[int, int] = {}
        for index in order:
            closed = sorted(
                (starts[at] - below, starts[at] + above)
                for at, below, above in self._near[index]
                if at in starts
            )
            offset, align = 0, self._buffers[index].align
            for low, high in closed:
                if low < offset < high:
                    offset = -(-high // align) * align
            starts[index] = offset
        return starts

    def height(self, order: Sequence[int]) -> int:
        """The arena that an order needs."""
        return self.top(self.starts(order))

    def top(self, starts: Mapping[int, int]) -> int:
        """Where the highest buffer ends."""
        return max((start + self._buffers[i].size for i, start in starts.items()), default=0)

    def sorted(self, key: Callable[[Buffer], Any]) -> list[int]:
        """All buffers, sorted; names decide last."""
        own = self._buffers
        return sorted(range(len(own)), key=lambda i: (*key(own[i]), own[i].name))

    def best(self, orders: Iterable[list[int]]) -> list[int]:
        """The first of those with the smallest arena."""
        return min(orders, key=self.height)

    def crowd(self, order: Sequence[int]) -> list[int]:
        """Those that are needed when the highest buffer is, in the same order."""
        starts = self.starts(order)
        top = max(order, key=lambda i: starts[i] + self._buffers[i].size)
        moment = self._buffers[top].first
        return [i for i in order if self._buffers[i].first <= moment <= self._buffers[i].last]

    def searched(self, order: Sequence[int], bound: int, tries: int) -> list[int]:
        """A better order, if moving the highest buffer forward finds one; always the same."""
        best, chance = list(order), random.Random(0)
        height = self.height(best)
        work = 1 + sum(len(near) for near in self._near)
        for _ in range(min(tries, WORK // work)):
            if height <= bound or len(best) < 2:
                break
            order = self._moved(best, height, chance)
            found = self.height(order)
            if found <= height:
                best, height = order, found
        return best

    def _moved(self, order: Sequence[int], height: int, chance: random.Random) -> list[int]:
        """The order with one buffer earlier, most often one that ends highest."""
        moved = list(order)
        if chance.random() < 0.7:
            starts = self.starts(order)
            highest = [i for i in order if starts[i] + self._buffers[i].size == height]
            place = moved.index(chance.choice(highest))
        else:
            place = chance.randrange(1, len(moved))
        moved.insert(chance.randrange(place) if place else 0, moved.pop(place))
        return moved
