"""Random and published placement problems, and the least arena by trying every offset."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from itertools import combinations
from pathlib import Path

from hypothesis import strategies as st

from mcugraph.memory import Buffer

Gaps = dict[tuple[str, str], int]
ANYWHERE = -(1 << 40)
INSTANCES = Path(__file__).parents[2] / "shared" / "data" / "minimalloc"
CAPACITY = 1048576


@st.composite
def overlapping(draw: st.DrawFn) -> tuple[list[Buffer], Gaps]:
    """Few small buffers, some of which may overlap in part, or wholly, or must keep a distance."""
    buffers = []
    for index in range(draw(st.integers(1, 5))):
        first = draw(st.integers(0, 2))
        last = first + draw(st.integers(0, 2))
        size, align = draw(st.integers(0, 4)), draw(st.sampled_from([1, 1, 2, 4]))
        buffers.append(Buffer(f"b{index}", size, first, last, align))
    names = [b.name for b in buffers]
    pairs = [(a, b) for a in names for b in names if a != b]
    some = st.lists(st.sampled_from(pairs), unique=True) if pairs else st.just([])
    distance = st.one_of(st.integers(-4, 6), st.just(ANYWHERE))
    return buffers, {pair: draw(distance) for pair in draw(some)}


@st.composite
def rectangles(draw: st.DrawFn) -> tuple[list[Buffer], int]:
    """A full arena of so many bytes, cut into buffers: they are known to fit without a gap."""
    arena, pieces = 64, [(0, 16, 0, 64)]
    for _ in range(draw(st.integers(1, 24))):
        left, right, low, high = pieces.pop(draw(st.integers(0, len(pieces) - 1)))
        if draw(st.booleans()) and right - left > 1:
            cut = draw(st.integers(left + 1, right - 1))
            pieces += [(left, cut, low, high), (cut, right, low, high)]
        elif high - low > 1:
            cut = draw(st.integers(low + 1, high - 1))
            pieces += [(left, right, low, cut), (left, right, cut, high)]
        else:
            pieces.append((left, right, low, high))
    shuffled = draw(st.permutations(pieces))
    buffers = [
        Buffer(f"b{i}", high - low, left, right - 1)
        for i, (left, right, low, high) in enumerate(shuffled)
    ]
    return buffers, arena


def published(name: str) -> list[Buffer]:
    """One of MiniMalloc's hard instances, which fit into CAPACITY."""
    with (INSTANCES / f"{name}.{CAPACITY}.csv").open(encoding="utf-8", newline="") as file:
        return [
            Buffer(row["id"], int(row["size"]), int(row["lower"]), int(row["upper"]) - 1)
            for row in csv.DictReader(file)
        ]


def judge(buffers: list[Buffer], gaps: Gaps, offsets: Mapping[str, int], arena: int) -> None:
    """Raise AssertionError where a buffer is outside, misaligned or too near to another one."""
    for b in buffers:
        assert 0 <= offsets[b.name] <= arena - b.size, f"{b.name} is outside"
        assert offsets[b.name] % b.align == 0, f"{b.name} is not aligned"
    for one, two in combinations(buffers, 2):
        at, to = offsets[one.name], offsets[two.name]
        assert apart(one, at, two, to, gaps), f"{one.name} and {two.name} are too near"


def least_arena(buffers: list[Buffer], gaps: Gaps) -> int:
    """By trying every offset of every buffer in arenas of 0, 1, 2 ... bytes."""
    arena = 0
    while not any(_placements(buffers, gaps, arena, {})):
        arena += 1
    return arena


def _placements(
    buffers: list[Buffer], gaps: Gaps, arena: int, at: dict[str, int]
) -> Iterator[bool]:
    if len(at) == len(buffers):
        yield True
        return
    new = buffers[len(at)]
    for offset in range(0, arena - new.size + 1, new.align):
        if all(apart(new, offset, old, at[old.name], gaps) for old in buffers[: len(at)]):
            yield from _placements(buffers, gaps, arena, {**at, new.name: offset})


def apart(one: Buffer, at: int, two: Buffer, to: int, gaps: Gaps) -> bool:
    """Whether two buffers keep their distance, or are never needed at the same time."""
    if one.last < two.first or two.last < one.first:
        return True
    upwards = gaps.get((one.name, two.name), one.size)
    downwards = gaps.get((two.name, one.name), two.size)
    return to - at >= upwards or at - to >= downwards
