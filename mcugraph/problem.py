"""Steps and the items that they share: all that the search for the best order knows of a graph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate


@dataclass(frozen=True)
class Item:
    """`size` bytes that live from step `producer` (None: from the start) to the last of `readers`.

    A kept item lives to the end. What nobody reads lives while it is written, an input never.
    """

    name: str
    size: int
    producer: int | None
    readers: frozenset[int]
    kept: bool = False

    @property
    def lives(self) -> bool:
        """Whether it needs any memory."""
        return self.producer is not None or bool(self.readers) or self.kept


@dataclass(frozen=True)
class Problem:
    """Steps 0 to count - 1, in an order that works; `extra` is the scratch of each in bytes."""

    count: int
    items: tuple[Item, ...]
    extra: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.extra) != self.count:
            raise AssertionError(f"{len(self.extra)} extras for {self.count} steps")
        for item in self.items:
            written = -1 if item.producer is None else item.producer
            if written >= self.count or not all(written < r < self.count for r in item.readers):
                raise AssertionError(f"{item.name}: read before it is written, or by no step")


def loads(problem: Problem, order: Sequence[int]) -> list[int]:
    """Return the bytes alive at each place: written there, or before and still needed; scratch."""
    if not order:
        return []
    places = {step: place for place, step in enumerate(order)}
    change = [0] * (problem.count + 1)
    for item in problem.items:
        if item.lives:
            first, last = _span(item, places)
            change[first] += item.size
            change[last + 1] -= item.size
    alive = accumulate(change[:-1])
    return [load + problem.extra[step] for load, step in zip(alive, order, strict=True)]


def peak_of(problem: Problem, order: Sequence[int]) -> int:
    """Return the most bytes alive at any step of the order."""
    return max(loads(problem, order), default=0)


def window_of(problem: Problem, order: Sequence[int], start: int, stop: int) -> Problem:
    """Return the problem of the steps order[start:stop] alone, numbered in file order.

    Its loads are those of the whole: what lives past them is kept.
    """
    number = {step: k for k, step in enumerate(sorted(order[start:stop]))}
    done = set(order[:start])
    items = []
    for item in problem.items:
        readers = frozenset(number[step] for step in item.readers if step in number)
        kept = item.kept or any(s not in number and s not in done for s in item.readers)
        if item.producer in number:
            items.append(Item(item.name, item.size, number[item.producer], readers, kept))
        elif item.lives and (item.producer is None or item.producer in done):
            items.append(Item(item.name, item.size, None, readers, kept))
    return Problem(len(number), tuple(items), tuple(problem.extra[step] for step in number))


def steps_of(mask: int) -> Iterator[int]:
    """Yield the steps of a set that is written as the bits of an integer, lowest first."""
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


def _span(item: Item, places: Mapping[int, int]) -> tuple[int, int]:
    first = 0 if item.producer is None else places[item.producer]
    last = max((places[step] for step in item.readers), default=first)
    return first, len(places) - 1 if item.kept else last
