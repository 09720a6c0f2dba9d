"""Buffers and how far apart they must be: what is asked of every search for the smallest arena."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
# The gap of two buffers that may lie anywhere; far below any offset.
FREE = -(1 << 40)


@dataclass(frozen=True, eq=False)
class Packing:
    """Buffer j starts at least gaps[i, j] above buffer i, or i at least gaps[j, i] above j.

    Buffers that are never needed at one time, from `firsts` to `lasts`, may lie anywhere.
    """

    sizes: Ints
    aligns: Ints
    gaps: Ints
    firsts: Ints
    lasts: Ints

    @property
    def tied(self) -> Bools:
        """Which pairs may not lie anywhere."""
        return self.gaps + self.gaps.T > 0

    @property
    def solid(self) -> Bools:
        """Which pairs may not share a byte."""
        apart = self.gaps >= self.sizes[:, None]
        return self.tied & apart & apart.T

    def height(self, starts: Sequence[int]) -> int:
        """The bytes of the arena."""
        return max((int(s) + int(z) for s, z in zip(starts, self.sizes, strict=True)), default=0)

    def crowds(self) -> Bools:
        """Sets of buffers that lie one above the other, as rows; no row is part of another.

        Each is alive at one time; where buffers may share bytes, sets are grown greedily.
        """
        solid = self.solid
        found: list[Bools] = []
        for first in np.unique(self.firsts):
            alive = (self.firsts <= first) & (self.lasts >= first)
            found += _cliques(solid, alive, self.sizes)
        rows = np.array(found, np.bool_).reshape(len(found), len(self.sizes))
        inside = rows.astype(np.int64) @ ~rows.T == 0
        twice = inside & inside.T & np.tri(len(rows), k=-1, dtype=np.bool_)
        part = (inside & ~inside.T) | twice
        return rows[np.flatnonzero(~part.any(axis=1))]


@dataclass(frozen=True)
class Solution:
    """The smallest arena known, its starts (None: the caller's own), and what none can undercut."""

    starts: list[int] | None
    arena: int
    bound: int

    @property
    def closed(self) -> bool:
        """Whether no arena is smaller."""
        return self.arena <= self.bound


def _cliques(solid: Bools, alive: Bools, sizes: Ints) -> Iterator[Bools]:
    """Sets of which no two may share a byte, grown until each buffer is in one of them."""
    largest_first = sorted(np.flatnonzero(alive), key=lambda i: -int(sizes[i]))
    left = alive.copy()
    while left.any():
        clique = np.zeros(len(sizes), np.bool_)
        centre = next(i for i in largest_first if left[i])
        fits = solid[centre] & alive
        clique[centre] = True
        for other in largest_first:
            if fits[other]:
                clique[other] = True
                fits &= solid[other]
        left &= ~clique
        yield clique
