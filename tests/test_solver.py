"""The searches for the smallest arena: by pairs, from the bottom up, and by CP-SAT."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from placements import (
    CAPACITY,
    INSTANCES,
    Gaps,
    judge,
    least_arena,
    overlapping,
    published,
    rectangles,
)

from mcugraph import cpsat, efforts
from mcugraph.memory import Buffer, Effort, lower_bound, packing_of, plan_memory
from mcugraph.packing import Packing, Solution
from mcugraph.restarts import pack
from mcugraph.settle import Settler
from mcugraph.solver import solve

ROOMY = 100
Search = Callable[[Packing, Solution], Solution]
needs_instances = pytest.mark.skipif(
    not INSTANCES.exists(), reason="shared/data/minimalloc is not there"
)


def check(buffers: list[Buffer], gaps: Gaps, found: Solution) -> None:
    """Judge the starts, if there are new ones."""
    if found.starts is not None:
        offsets = {b.name: start for b, start in zip(buffers, found.starts, strict=True)}
        judge(buffers, gaps, offsets, found.arena)


@given(overlapping())
@settings(max_examples=300, deadline=None, derandomize=True)
def test_both_searches_find_what_trying_every_offset_finds(
    case: tuple[list[Buffer], Gaps],
) -> None:
    buffers, gaps = case
    least = least_arena(buffers, gaps)
    searches: list[Search] = [partial(solve, nodes=5000), partial(pack, nodes=5000)]
    for search in searches:
        found = search(packing_of(buffers, gaps), Solution(None, ROOMY, 0))
        check(buffers, gaps, found)
        assert found.closed
        assert found.arena == found.bound == least


@given(overlapping())
@settings(max_examples=50, deadline=None, derandomize=True)
def test_the_solver_finds_what_trying_every_offset_finds(case: tuple[list[Buffer], Gaps]) -> None:
    pytest.importorskip("ortools")
    buffers, gaps = case
    known = Solution([0] * len(buffers), ROOMY, 0)
    found = cpsat.ask(packing_of(buffers, gaps), known)
    check(buffers, gaps, found)
    assert found.arena == found.bound == least_arena(buffers, gaps)


@given(overlapping(), st.integers(0, 3))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_a_search_cut_short_claims_nothing_false(
    case: tuple[list[Buffer], Gaps], nodes: int
) -> None:
    buffers, gaps = case
    least = least_arena(buffers, gaps)
    found = pack(packing_of(buffers, gaps), Solution(None, least + 2, 0), nodes)
    check(buffers, gaps, found)
    assert found.bound <= least <= found.arena <= least + 2


@given(rectangles())
@settings(max_examples=100, deadline=None, derandomize=True)
def test_what_was_cut_from_a_full_arena_fills_it_again(case: tuple[list[Buffer], int]) -> None:
    buffers, arena = case
    found = pack(packing_of(buffers, {}), Solution(None, 4 * arena, arena), 20_000)
    check(buffers, {}, found)
    assert found.starts is not None
    assert found.arena == found.bound == arena


@given(rectangles(), st.integers(0, 400))
@settings(max_examples=30, deadline=None, derandomize=True)
def test_a_search_is_the_same_every_time(case: tuple[list[Buffer], int], nodes: int) -> None:
    buffers, arena = case
    known = Solution(None, 4 * arena, arena - 1)
    once, again = (pack(packing_of(buffers, {}), known, nodes) for _ in range(2))
    assert once == again


def test_what_is_enough_ends_the_search() -> None:
    buffers = [Buffer(f"b{i}", 8, i // 2, i // 2 + 1) for i in range(12)]
    packing = packing_of(buffers, {})
    found = pack(packing, Solution(None, 96, 0), 1000, enough=40)
    check(buffers, {}, found)
    assert found.bound == 0
    assert lower_bound(buffers) == 32 <= found.arena <= 40
    assert pack(packing, found, 1000, enough=40) is found


def test_a_node_too_few_settles_nothing() -> None:
    buffers = [Buffer("a", 4, 0, 1), Buffer("b", 3, 1, 2), Buffer("c", 4, 2, 3)]
    settler, ranks = Settler(packing_of(buffers, {}), 7), np.arange(3)
    cut, whole = settler.fit(ranks, 2), settler.fit(ranks, 3)
    assert (cut.starts, cut.nodes, cut.closed) == (None, 2, False)
    assert (whole.starts, whole.nodes) == ([0, 4, 0], 3)
    too_small = Settler(packing_of(buffers, {}), 6).fit(ranks, 3)
    assert (too_small.starts, too_small.closed) == (None, True)


@given(overlapping())
@settings(max_examples=100, deadline=None, derandomize=True)
def test_of_a_crowd_no_two_share_a_byte(case: tuple[list[Buffer], Gaps]) -> None:
    packing = packing_of(*case)
    crowds = [frozenset(np.flatnonzero(row).tolist()) for row in packing.crowds()]
    assert frozenset[int]().union(*crowds) == set(range(len(case[0])))
    assert not any(one <= two for one in crowds for two in crowds if one is not two)
    assert all(packing.solid[pair] for crowd in crowds for pair in combinations(crowd, 2))


@needs_instances
@pytest.mark.parametrize("name", list("ABCDEFGHJK"))
def test_published_instances_fit_as_published(name: str) -> None:
    """Into what MiniMalloc is asked for; I takes 20 seconds (benchmarks/placement.py)."""
    buffers = published(name)
    known = Solution(None, 2 * CAPACITY, lower_bound(buffers))
    found = pack(packing_of(buffers, {}), known, 12_000, enough=CAPACITY)
    check(buffers, {}, found)
    assert found.arena <= CAPACITY


@needs_instances
def test_the_solver_places_a_published_instance() -> None:
    pytest.importorskip("ortools")
    buffers = published("B")
    found = cpsat.ask(packing_of(buffers, {}), Solution(None, 2 * CAPACITY, CAPACITY))
    check(buffers, {}, found)
    assert found.arena == found.bound == CAPACITY


def test_the_solver_starts_from_what_is_known() -> None:
    """With no time at all, it still returns the hint, which is complete."""
    pytest.importorskip("ortools")
    buffers = [Buffer("a", 4, 0, 1, 4), Buffer("b", 3, 1, 2), Buffer("c", 5, 2, 3)]
    packing, known = packing_of(buffers, {}), Solution([0, 4, 7], 12, 8)
    assert cpsat.ask(packing, known, enough=12) is known
    assert cpsat.ask(packing, known, work=0.0).arena <= 12
    assert cpsat.ask(packing, known).arena == 8


def test_a_missing_solver_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpsat, "find_spec", lambda _: None)
    with pytest.raises(ValueError, match=r"pip install 'mcugraph\[solver\]'"):
        efforts.improver("cpsat")


def test_efforts_have_names() -> None:
    assert efforts.improver("quick") is None
    with pytest.raises(ValueError, match="no effort 'hard' for placement; there are: quick, th"):
        efforts.improver("hard")


@pytest.mark.parametrize("name", ["thorough", "cpsat"])
def test_every_effort_closes_what_the_default_leaves_open(name: str) -> None:
    if name == "cpsat":
        pytest.importorskip("ortools")
    sizes_and_lives = [
        (4, 0, 0), (2, 3, 4), (3, 6, 9), (2, 1, 3), (3, 1, 1), (3, 5, 7), (2, 2, 5), (1, 4, 5)
    ]  # fmt: skip
    buffers = [Buffer(f"b{i}", *each) for i, each in enumerate(sizes_and_lives)]
    assert not plan_memory(buffers, effort=Effort(nodes=0)).proved
    plan = plan_memory(buffers, effort=Effort(nodes=0, improve=efforts.improver(name)))
    assert plan.proved
    assert plan.arena == plan.lower_bound == 7
