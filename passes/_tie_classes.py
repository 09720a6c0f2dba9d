"""Classes of integers that grow together, and why some of them can't go: a union-find in numpy."""

from typing import Any

import numpy as np

# Identities of coordinates: one integer for each (name, axis, index).
Ids = np.ndarray[Any, np.dtype[np.int64]]
Flags = np.ndarray[Any, np.dtype[np.bool_]]

_NONE = np.iinfo(np.int64).max


class Classes:
    """Coordinates, what they are tied to, and what fixes them.

    Ties and reasons are gathered and worked out together when somebody asks.
    """

    def __init__(self) -> None:
        self._count = 0
        self._pairs: list[tuple[Ids, Ids]] = []
        self._marks: list[Ids] = []
        self._reasons: list[str] = []
        self._roots = np.arange(0)
        self._first = np.arange(0)
        self._is_settled = True

    def fresh(self, count: int) -> Ids:
        """New coordinates, tied to nothing yet."""
        self._count += count
        self._is_settled = False
        return np.arange(self._count - count, self._count)

    def tie(self, some: Ids, others: Ids) -> None:
        """Tie coordinates pair by pair."""
        if some.shape != others.shape:
            raise AssertionError(f"{some.shape} coordinates are tied to {others.shape}")
        self._pairs.append((some.reshape(-1), others.reshape(-1)))
        self._is_settled = False

    def tie_rows(self, table: Ids) -> None:
        """Tie all coordinates of each row of a table."""
        for column in table.T[1:]:
            self.tie(table[:, 0], column)

    def fix(self, ids: Ids, reason: str) -> None:
        """Say why coordinates can't go; what was said first stays."""
        self._marks.append(ids)
        self._reasons.append(reason)
        self._is_settled = False

    def roots(self, ids: Ids) -> Ids:
        """For each of these coordinates the one that stands for its class."""
        self._work_out()
        return self._roots[ids]

    def fixed(self, ids: Ids) -> Flags:
        """For each of these coordinates whether it can't go."""
        self._work_out()
        return np.not_equal(self._first[self._roots[ids]], _NONE)

    def reason(self, item: int) -> str:
        """Why a coordinate can't go; "" if it can."""
        self._work_out()
        index = self._first[self._roots[item]]
        return "" if index == _NONE else self._reasons[index]

    def _work_out(self) -> None:
        if self._is_settled:
            return
        self._roots = np.concatenate([self._roots, np.arange(len(self._roots), self._count)])
        if self._pairs:
            self._merge(*(np.concatenate(side) for side in zip(*self._pairs, strict=True)))
        first = np.full(self._count, _NONE)
        for index in reversed(range(len(self._marks))):
            first[self._roots[self._marks[index]]] = index
        self._pairs, self._first, self._is_settled = [], first, True

    def _merge(self, some: Ids, others: Ids) -> None:
        """Hang the greater root of each pair below the smaller one until none differ."""
        while True:
            some, others = self._roots[some], self._roots[others]
            apart = some != others
            if not apart.any():
                return
            some, others = some[apart], others[apart]
            np.minimum.at(self._roots, np.maximum(some, others), np.minimum(some, others))
            while (self._roots != self._roots[self._roots]).any():
                self._roots = self._roots[self._roots]
