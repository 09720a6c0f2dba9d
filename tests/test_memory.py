"""Placement: every plan passes the judge, and the judge refuses every broken plan."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcugraph.check import check_memory
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
    assert plan.lower_bound == max(needed)


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
    assert plan_memory(buffers).arena == 7


LEGAL = MemoryPlan(
    (Buffer("x", 8, 0, 1), Buffer("y", 4, 1, 2, 4), Buffer("z", 8, 2, 3)),
    {"x": 0, "y": 8, "z": 0},
    12,
    12,
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
