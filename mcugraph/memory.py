"""Lifetimes to offsets in one arena: the best of a portfolio of first-fit orders."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


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

    No arena can be smaller than `lower_bound`, the most bytes that are needed at one time.
    """

    buffers: tuple[Buffer, ...]
    offsets: Mapping[str, int]
    arena: int
    lower_bound: int


# What to place first: each order wins on some graphs; the best result is kept.
PORTFOLIO: tuple[Callable[[Buffer], Any], ...] = (
    lambda b: (-b.size, b.first),
    lambda b: (-b.size * (b.last - b.first + 1), b.first),
    lambda b: (b.first, -b.size),
    lambda b: (-b.last, -b.size),
    lambda b: (-(b.last - b.first), -b.size),
)


def plan_memory(buffers: Sequence[Buffer]) -> MemoryPlan:
    """Place the buffers first-fit in each order of the portfolio and keep the smallest arena."""
    bound = lower_bound(buffers)
    best: dict[str, int] | None = None
    height = 0
    for key in (*PORTFOLIO, *(_crowded_first(buffers, key) for key in PORTFOLIO)):
        offsets = _first_fit(sorted(buffers, key=lambda b: (*key(b), b.name)))
        arena = _height(buffers, offsets)
        if best is None or arena < height:
            best, height = offsets, arena
        if height == bound:
            break
    return MemoryPlan(tuple(buffers), best or {}, height, bound)


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


def _first_fit(buffers: Sequence[Buffer]) -> dict[str, int]:
    """Each buffer at the lowest aligned offset that is free for its whole life."""
    placed: list[tuple[int, Buffer]] = []
    for buffer in buffers:
        offset = 0
        for start, other in sorted(placed, key=lambda p: p[0]):
            if not buffer.meets(other) or start + other.size <= offset:
                continue
            if offset + buffer.size <= start:
                break
            offset = _aligned(start + other.size, buffer.align)
        placed.append((offset, buffer))
    return {buffer.name: offset for offset, buffer in placed}


def _aligned(offset: int, align: int) -> int:
    return -(-offset // align) * align


def _height(buffers: Sequence[Buffer], offsets: Mapping[str, int]) -> int:
    return max((offsets[b.name] + b.size for b in buffers), default=0)
