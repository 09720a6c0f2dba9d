"""Placement: every plan passes the judge, and the judge refuses every broken plan."""

import csv
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from memorycheck import check_memory

from mcugraph.memory import Buffer, MemoryPlan, plan_memory


@st.composite
def problems(draw: st.DrawFn) -> list[Buffer]:
    count = draw(st.integers(0, 12))
    buffers = []
    for index in range(count):
        first = draw(st.integers(0, 8))
        last = first + draw(st.integers(0, 5))
        size, align = draw(st.integers(0, 100)), draw(st.sampled_from([1, 4, 8]))
        buffers.append(Buffer(f"b{index}", size, first, last, align))
    return buffers


@given(problems())
@settings(max_examples=300, deadline=None, derandomize=True)
def test_every_plan_is_legal_and_between_its_bounds(buffers: list[Buffer]) -> None:
    plan = plan_memory(buffers)
    check_memory(plan)
    padded = sum(-(-b.size // 8) * 8 for b in buffers)
    assert plan.lower_bound <= plan.arena <= padded
    needed = [sum(b.size for b in buffers if b.first <= t <= b.last) for t in range(14)]
    assert plan.lower_bound >= max(needed)
    assert plan.proved == (plan.arena == plan.lower_bound)
    assert plan.proved or plan.lower_bound == max(needed)


@given(problems())
@settings(max_examples=50, deadline=None, derandomize=True)
def test_a_plan_is_the_same_every_time(buffers: list[Buffer]) -> None:
    assert plan_memory(buffers) == plan_memory(list(reversed(buffers))[::-1])


def test_a_chain_reaches_its_lower_bound() -> None:
    sizes = [64, 1024, 512, 2048, 256, 16]
    chain = [Buffer(f"t{i}", size, i - 1, i) for i, size in enumerate(sizes)]
    plan = plan_memory(chain)
    assert plan.arena == plan.lower_bound == 512 + 2048


def test_the_portfolio_beats_largest_first() -> None:
    """Largest first puts a below b and needs 8 bytes; placing what lives long first needs 7."""
    buffers = [
        Buffer("a", 4, 3, 3),
        Buffer("b", 2, 1, 3),
        Buffer("c", 3, 2, 2),
        Buffer("d", 2, 2, 2),
    ]
    assert plan_memory(buffers, nodes=0).arena == 7


Gaps = dict[tuple[str, str], int]
ANYWHERE = -(1 << 40)


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
        if all(_apart(new, offset, old, at[old.name], gaps) for old in buffers[: len(at)]):
            yield from _placements(buffers, gaps, arena, {**at, new.name: offset})


def _apart(one: Buffer, at: int, two: Buffer, to: int, gaps: Gaps) -> bool:
    if one.last < two.first or two.last < one.first:
        return True
    upwards = gaps.get((one.name, two.name), one.size)
    downwards = gaps.get((two.name, one.name), two.size)
    return to - at >= upwards or at - to >= downwards


@given(overlapping())
@settings(max_examples=300, deadline=None, derandomize=True)
def test_exact_search_finds_what_trying_every_offset_finds(case: tuple[list[Buffer], Gaps]) -> None:
    buffers, gaps = case
    plan = plan_memory(buffers, gaps)
    assert plan.proved
    assert plan.arena == plan.lower_bound == least_arena(buffers, gaps)
    for one, two in combinations(buffers, 2):
        assert _apart(one, plan.offsets[one.name], two, plan.offsets[two.name], gaps)
    for b in buffers:
        assert 0 <= plan.offsets[b.name] <= plan.arena - b.size
        assert plan.offsets[b.name] % b.align == 0


@given(overlapping(), st.integers(0, 2))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_a_search_cut_short_claims_nothing_false(
    case: tuple[list[Buffer], Gaps], nodes: int
) -> None:
    buffers, gaps = case
    plan, least = plan_memory(buffers, gaps, nodes=nodes), least_arena(buffers, gaps)
    assert plan.lower_bound <= least <= plan.arena
    assert not plan.proved or plan.arena == least
    for one, two in combinations(buffers, 2):
        assert _apart(one, plan.offsets[one.name], two, plan.offsets[two.name], gaps)


def test_exact_search_raises_the_bound_where_it_cannot_be_met() -> None:
    """At most 6 bytes are needed at one time, but no placement of these takes less than 7."""
    sizes_and_lives = [
        (4, 0, 0), (2, 3, 4), (3, 6, 9), (2, 1, 3), (3, 1, 1), (3, 5, 7), (2, 2, 5), (1, 4, 5)
    ]  # fmt: skip
    buffers = [Buffer(f"b{i}", *each) for i, each in enumerate(sizes_and_lives)]
    assert max(sum(b.size for b in buffers if b.first <= t <= b.last) for t in range(10)) == 6
    plan = plan_memory(buffers)
    assert plan.proved
    assert plan.arena == plan.lower_bound == least_arena(buffers, {}) == 7
    cut = plan_memory(buffers, nodes=0)
    assert not cut.proved
    assert cut.lower_bound == 6


INSTANCES = Path(__file__).parents[2] / "shared" / "data" / "minimalloc"


@pytest.mark.skipif(not INSTANCES.exists(), reason="shared/data/minimalloc is not there")
@pytest.mark.parametrize("name", ["A", "C", "K"])
def test_published_instances_are_placed_legally(name: str) -> None:
    """MiniMalloc's: too large for exact search; no worse than largest first, no false claim."""
    with (INSTANCES / f"{name}.1048576.csv").open() as file:
        buffers = [
            Buffer(row["id"], int(row["size"]), int(row["lower"]), int(row["upper"]) - 1)
            for row in csv.DictReader(file)
        ]
    plan = plan_memory(buffers)
    _judge(plan)
    assert not plan.proved
    assert plan.lower_bound <= 1048576
    assert plan.lower_bound < plan.arena <= _largest_first(buffers)


def _largest_first(buffers: list[Buffer]) -> int:
    """The arena of first-fit by decreasing size: every start is 0 or some other buffer's end."""
    at: dict[str, int] = {}
    for b in sorted(buffers, key=lambda b: (-b.size, b.first)):
        near = [o for o in buffers if o.name in at and o.meets(b)]
        starts = sorted({0, *(at[o.name] + o.size for o in near)})
        at[b.name] = next(
            s
            for s in starts
            if all(s >= at[o.name] + o.size or at[o.name] >= s + b.size for o in near)
        )
    return max(at[b.name] + b.size for b in buffers)


def _judge(plan: MemoryPlan) -> None:
    """check_memory walks over every place of a life, and these have a million."""
    for b in plan.buffers:
        assert 0 <= plan.offsets[b.name] <= plan.arena - b.size
    for one, two in combinations(plan.buffers, 2):
        assert _apart(one, plan.offsets[one.name], two, plan.offsets[two.name], {})


LEGAL = MemoryPlan(
    (Buffer("x", 8, 0, 1), Buffer("y", 4, 1, 2, 4), Buffer("z", 8, 2, 3)),
    {"x": 0, "y": 8, "z": 0},
    12,
    12,
    True,
)


def test_the_judge_accepts_a_legal_plan() -> None:
    check_memory(LEGAL)


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (replace(LEGAL, offsets={"x": 0, "y": 8}), "z has no offset"),
        (replace(LEGAL, offsets={"x": 0, "y": 4, "z": 0}), "x and y overlap"),
        (replace(LEGAL, offsets={"x": 0, "y": 10, "z": 0}, arena=14), "not 4-aligned"),
        (replace(LEGAL, offsets={"x": 0, "y": 12, "z": 0}), "ends outside"),
        (replace(LEGAL, offsets={"x": -4, "y": 8, "z": 0}), "starts at -4"),
        (replace(LEGAL, lower_bound=11), "the lower bound misses"),
        (replace(LEGAL, buffers=(*LEGAL.buffers, LEGAL.buffers[0])), "one name"),
    ],
)
def test_the_judge_refuses_what_is_wrong(broken: MemoryPlan, words: str) -> None:
    with pytest.raises(AssertionError, match=words):
        check_memory(broken)


def test_one_byte_less_does_not_fit() -> None:
    with pytest.raises(AssertionError, match="ends outside"):
        check_memory(replace(LEGAL, arena=11))
