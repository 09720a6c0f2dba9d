"""The judge of a memory plan: quadratic, obvious, and without a line of the planner's code."""

from __future__ import annotations

from itertools import combinations

from mcugraph.memory import MemoryPlan


def check_memory(plan: MemoryPlan) -> None:
    """Raise AssertionError where a buffer is missing, outside, misaligned or overlapped."""
    names = [buffer.name for buffer in plan.buffers]
    assert len(set(names)) == len(names), f"two buffers have one name: {sorted(names)}"
    for buffer in plan.buffers:
        assert buffer.name in plan.offsets, f"{buffer.name} has no offset"
        start = plan.offsets[buffer.name]
        assert start >= 0, f"{buffer.name} starts at {start}"
        assert start + buffer.size <= plan.arena, f"{buffer.name} ends outside the arena"
        assert start % buffer.align == 0, f"{buffer.name} at {start} is not {buffer.align}-aligned"
    for one, two in combinations(plan.buffers, 2):
        if max(one.first, two.first) > min(one.last, two.last):
            continue
        low, high = sorted((one, two), key=lambda b: plan.offsets[b.name])
        end = plan.offsets[low.name] + low.size
        assert end <= plan.offsets[high.name] or 0 in (one.size, two.size), (
            f"{low.name} and {high.name} overlap while both are needed"
        )
    places = {place for b in plan.buffers for place in range(b.first, b.last + 1)}
    for place in places:
        needed = sum(b.size for b in plan.buffers if b.first <= place <= b.last)
        assert needed <= plan.arena, f"{needed} bytes are needed at place {place}"
        assert plan.lower_bound >= needed, f"the lower bound misses the {needed} bytes at {place}"
