"""The smallest arena, exactly: branch on which of two buffers lies lower.

A node of the search has decided some pairs. The lowest starts that these allow are a solution if
no other pair is in conflict; else such a pair is decided both ways. A node is closed where its
windows (lowest and highest start of each buffer) or a set of buffers that never overlap leave no
room below the best arena so far. Where no node is left, the best arena is the smallest one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heappop, heappush

import numpy as np

from mcugraph.packing import FREE, Bools, Ints, Packing, Solution


@dataclass(eq=False)
class _Node:
    """Windows of starts, the gaps of decided pairs (else FREE), and the pairs still open."""

    low: Ints
    high: Ints
    decided: Ints
    open: Bools

    def child(self, gaps: Ints, lower: int, upper: int) -> _Node:
        """The same with one pair decided."""
        decided, still = self.decided.copy(), self.open.copy()
        decided[lower, upper] = gaps[lower, upper]
        still[lower, upper] = still[upper, lower] = False
        return _Node(self.low.copy(), self.high.copy(), decided, still)


def solve(packing: Packing, known: Solution, nodes: int) -> Solution:
    """A smaller arena than is known, or a proof that there is none, if so many nodes suffice."""
    count = len(packing.sizes)
    cliques = _cliques(packing)
    stack = [
        _Node(
            np.zeros(count, np.int64),
            np.full(count, -FREE),
            np.full((count, count), FREE),
            packing.tied.copy(),
        )
    ]
    while stack and not known.closed:
        if nodes == 0:
            return known
        nodes -= 1
        node = stack.pop()
        np.minimum(node.high, _floored(packing, known.arena - 1 - packing.sizes), out=node.high)
        if not _narrow(packing, node) or not all(_fits(packing, node, c) for c in cliques):
            continue
        pair = _conflict(packing, node)
        if pair is None:
            starts = [int(start) for start in node.low]
            known = Solution(starts, packing.height(starts), known.bound)
        else:
            stack += _children(packing, node, *pair)
    return Solution(known.starts, known.arena, known.arena)


def _floored(packing: Packing, starts: Ints) -> Ints:
    return starts // packing.aligns * packing.aligns


def _narrow(packing: Packing, node: _Node) -> bool:
    """Narrow the windows and decide what they force; False where nothing is left."""
    while True:
        can = node.low[:, None] + packing.gaps <= node.high[None, :]
        forced = node.open & ~can.T
        if (forced & ~can).any():
            return False
        node.decided[forced] = packing.gaps[forced]
        node.open &= ~(forced | forced.T)
        low = np.maximum(node.low, (node.low[:, None] + node.decided).max(axis=0, initial=0))
        low = -_floored(packing, -low)
        high = np.minimum(node.high, (node.high - node.decided).min(axis=1, initial=-FREE))
        high = _floored(packing, high)
        if (low > high).any():
            return False
        if not forced.any() and (low == node.low).all() and (high == node.high).all():
            return True
        node.low, node.high = low, high


def _cliques(packing: Packing) -> list[list[int]]:
    """Sets of buffers of which no two may share a byte: one, grown greedily, around each."""
    solid = packing.solid
    largest_first = sorted(range(len(packing.sizes)), key=lambda i: -int(packing.sizes[i]))
    found = set()
    for centre in largest_first:
        clique = [centre]
        for other in largest_first:
            if solid[other, clique].all():
                clique.append(other)
        found.add(tuple(sorted(clique)))
    return [list(clique) for clique in sorted(found) if len(clique) > 2]


def _fits(packing: Packing, node: _Node, clique: Sequence[int]) -> bool:
    """Whether the buffers fit into their windows if they might be cut into pieces.

    As on one machine with release times and deadlines: at each byte the most urgent goes first.
    """
    jobs = sorted((int(node.low[i]), int(node.high[i] + packing.sizes[i]), i) for i in clique)
    ready: list[tuple[int, int]] = []
    at = turn = 0
    while ready or turn < len(jobs):
        if not ready:
            at = max(at, jobs[turn][0])
        while turn < len(jobs) and jobs[turn][0] <= at:
            _, deadline, i = jobs[turn]
            heappush(ready, (deadline, int(packing.sizes[i])))
            turn += 1
        deadline, left = heappop(ready)
        run = min(left, jobs[turn][0] - at) if turn < len(jobs) else left
        at += run
        if at > deadline:
            return False
        if run < left:
            heappush(ready, (deadline, left - run))
    return True


def _conflict(packing: Packing, node: _Node) -> tuple[int, int] | None:
    """The pair to decide next; None if the lowest starts are a solution.

    Pairs that may overlap in part come first: the rest is then little more than a sequence.
    """
    ahead = node.low[None, :] - node.low[:, None]
    clash = node.open & (ahead < packing.gaps) & (-ahead < packing.gaps.T)
    if not clash.any():
        return None
    partly = node.open & ~packing.solid
    lower, upper = np.nonzero(np.triu(partly if partly.any() else clash))
    gaps = packing.gaps
    widest = np.argmax(np.minimum(gaps[lower, upper], gaps[upper, lower]))
    return int(lower[widest]), int(upper[widest])


def _children(packing: Packing, node: _Node, one: int, two: int) -> list[_Node]:
    """Both ways to decide a pair; the one with more room comes last, to be looked at first."""

    def room(pair: tuple[int, int]) -> int:
        return int(node.high[pair[1]] - node.low[pair[0]] - packing.gaps[pair])

    ways = sorted([(one, two), (two, one)], key=room)
    return [node.child(packing.gaps, *way) for way in ways]
