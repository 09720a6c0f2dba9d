"""Placement: every plan passes the judge, and the judge refuses every broken plan."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from memorycheck import check_memory
from placements import (
    CAPACITY,
    INSTANCES,
    Gaps,
    judge,
    least_arena,
    overlapping,
    published,
)

from mcugraph.memory import Buffer, Effort, MemoryPlan, plan_memory
from mcugraph.packing import Packing, Solution


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
    assert plan_memory(buffers, effort=Effort(nodes=0)).arena == 7


@given(overlapping())
@settings(max_examples=300, deadline=None, derandomize=True)
def test_exact_search_finds_what_trying_every_offset_finds(case: tuple[list[Buffer], Gaps]) -> None:
    buffers, gaps = case
    plan = plan_memory(buffers, gaps)
    assert plan.proved
    assert plan.arena == plan.lower_bound == least_arena(buffers, gaps)
    judge(buffers, gaps, plan.offsets, plan.arena)


@given(overlapping(), st.integers(0, 2))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_a_search_cut_short_claims_nothing_false(
    case: tuple[list[Buffer], Gaps], nodes: int
) -> None:
    buffers, gaps = case
    plan, least = plan_memory(buffers, gaps, effort=Effort(nodes=nodes)), least_arena(buffers, gaps)
    assert plan.lower_bound <= least <= plan.arena
    assert not plan.proved or plan.arena == least
    judge(buffers, gaps, plan.offsets, plan.arena)


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
    cut = plan_memory(buffers, effort=Effort(nodes=0))
    assert not cut.proved
    assert cut.lower_bound == 6


@pytest.mark.skipif(not INSTANCES.exists(), reason="shared/data/minimalloc is not there")
@pytest.mark.parametrize("name", ["A", "C", "K"])
def test_published_instances_are_placed_in_the_least_arena(name: str) -> None:
    """MiniMalloc's: hundreds of buffers."""
    buffers = published(name)
    plan = plan_memory(buffers)
    judge(buffers, {}, plan.offsets, plan.arena)
    assert plan.proved
    assert plan.arena == plan.lower_bound <= CAPACITY < _largest_first(buffers)


@pytest.mark.skipif(not INSTANCES.exists(), reason="shared/data/minimalloc is not there")
def test_a_placement_that_is_not_proved_claims_no_more_than_is_known() -> None:
    buffers = published("I")
    plan = plan_memory(buffers, effort=Effort(nodes=500))
    judge(buffers, {}, plan.offsets, plan.arena)
    assert not plan.proved
    assert plan.lower_bound == CAPACITY < plan.arena <= _largest_first(buffers)


def test_whoever_is_asked_last_gets_what_is_known_and_is_believed() -> None:
    buffers = [
        Buffer("a", 4, 3, 3),
        Buffer("b", 2, 1, 3),
        Buffer("c", 3, 2, 2),
        Buffer("d", 2, 2, 2),
    ]

    def improve(packing: Packing, known: Solution) -> Solution:
        assert known == Solution([2, 0, 2, 5], 7, 6)
        assert packing.height([2, 0, 2, 5]) == 7
        return Solution([6, 0, 2, 5], 10, 10)

    plan = plan_memory(buffers, bound=6, effort=Effort(nodes=0, improve=improve))
    assert plan == MemoryPlan(tuple(buffers), {"a": 6, "b": 0, "c": 2, "d": 5}, 10, 10, True)


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
