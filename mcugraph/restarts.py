"""The smallest arena for many buffers: fit them into less and less, in one order after the other.

An order says which of equally low buffers is settled first. Where it goes wrong early, no patience
helps; so each gets a few nodes only, and then comes the next: first orders that did well on hard
cases, then random mixtures of them, every other one with what had most to do with failing first.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from mcugraph.packing import Ints, Packing, Solution
from mcugraph.settle import Fitting, Settler

# What goes first: the most of each feature, the later ones where the first are equal.
ORDERS = (
    ("load", "width", "size"),
    ("load", "early", "size"),
    ("load", "moments", "size"),
    ("volume", "load"),
    ("load", "near", "late"),
    ("late", "moments"),
    ("near", "size"),
    ("width", "load", "size"),
)
# Nodes for one order, besides one for each buffer; twice as many after each round of so many.
PATIENCE, ROUND = 400, 200
# How much of the blame of the last tries is forgotten with each.
FORGET = 0.1
# How much the blame counts beside all that else speaks for a buffer.
BLAME = 1.0
# Of all nodes, what the first goal, the bound, may take, and each of the goals above it, which has
# time for a few orders.
FIRST, LATER, FEWEST = 2, 16, 3
# The search ends this near to a goal that did not succeed, as a part of the arena.
FINE = 1024


def pack(packing: Packing, known: Solution, nodes: int, enough: int = 0) -> Solution:
    """A smaller arena than is known, or a higher bound; `enough` bytes will do.

    The first goal is the least that may be; then goals halve the way from what did not succeed to
    what did. Where that is shown to be impossible, the search goes on to the last byte.
    """
    search = _Search(packing)
    goal, share = max(known.bound, enough), nodes // FIRST
    later = max(nodes // LATER, FEWEST * (len(packing.sizes) + PATIENCE))
    failed = goal - 1
    while nodes > 0 and known.arena > max(known.bound, enough):
        fine = 1 if failed < known.bound else known.arena // FINE
        if known.arena - failed <= fine:
            break
        found = search.fit(goal, min(nodes, share))
        nodes -= found.nodes
        if found.starts is not None:
            known = Solution(found.starts, packing.height(found.starts), known.bound)
        else:
            failed = goal
            known = Solution(known.starts, known.arena, goal + 1 if found.closed else known.bound)
        goal, share = (failed + known.arena) // 2, later
    return known


class _Search:
    """Orders of one packing, and tries to fit it by them."""

    def __init__(self, packing: Packing) -> None:
        self._packing = packing
        self._features = _features(packing)
        self._grades = np.array([_grades(values) for values in self._features.values()])
        self._chance = random.Random(0)

    def fit(self, arena: int, nodes: int) -> Fitting:
        """Try one order after the other, with so many nodes in all."""
        settler, used = Settler(self._packing, arena), 0
        for number, ranks in enumerate(self._orders(settler)):
            patience = len(ranks) + (PATIENCE << number // ROUND)
            found = settler.fit(ranks, min(patience, nodes - used))
            used += found.nodes
            settler.blame *= 1 - FORGET
            if found.starts is not None or found.closed or used >= nodes:
                break
        return Fitting(found.starts, used, found.closed)

    def _orders(self, settler: Settler) -> Iterator[Ints]:
        """Ranks of all buffers, without end."""
        for names in ORDERS:
            yield _ranks(*(self._features[name] for name in names))
        while True:
            yield _ranks(self._mixture())
            blame = settler.blame / max(settler.blame.max(initial=0), 1)
            yield _ranks(self._mixture() + BLAME * blame)

    def _mixture(self) -> NDArray[np.float64]:
        """All features with random weights, most of them small."""
        weights = [self._chance.random() ** 3 for _ in self._grades]
        mixed: NDArray[np.float64] = np.array(weights) @ self._grades
        return mixed


def _features(packing: Packing) -> dict[str, NDArray[np.generic]]:
    """What may speak for settling a buffer first."""
    crowds = packing.crowds()
    moments = crowds.sum(axis=0)
    loads = np.where(crowds, (crowds @ packing.sizes)[:, None], 0)
    return {
        "load": loads.max(axis=0, initial=0),
        "moments": moments,
        "size": packing.sizes,
        "volume": moments * packing.sizes,
        "near": packing.tied.sum(axis=0),
        "early": -packing.firsts,
        "late": packing.lasts,
        "width": packing.lasts - packing.firsts,
    }


def _grades(values: NDArray[np.generic]) -> NDArray[np.float64]:
    """The share of all that have less."""
    less: Ints = np.searchsorted(np.sort(values), values)
    return less / max(len(values), 1)


def _ranks(*keys: NDArray[np.generic]) -> Ints:
    """The place of each, the most first; where all keys are equal, as given."""
    ranks = np.empty(len(keys[0]), np.int64)
    ranks[np.lexsort([-key for key in reversed(keys)])] = np.arange(len(ranks))
    return ranks
