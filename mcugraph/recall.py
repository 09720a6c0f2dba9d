"""The latest results of a long computation, by what they follow from."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class Recall(Generic[T]):
    """Keeps up to `most` results; the oldest go first."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._results: dict[Hashable, T] = {}

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """The result that was kept under a key, or a new one."""
        if key not in self._results:
            result = make()
            while len(self._results) >= self._most:
                self._results.pop(next(iter(self._results)))
            self._results[key] = result
        return self._results[key]
