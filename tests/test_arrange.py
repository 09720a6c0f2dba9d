"""Arrangements of whole orders, run on the tagged bytes of one arena."""

from collections.abc import Mapping, Sequence

import numpy as np
from groups import Memory, Run
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from test_fuse import orders

from mcugraph.arrange import Arrangement, arrange, grouped, scratch_name, state_name
from mcugraph.fuse import Fuser
from mcugraph.group import Group, Life, Task, ring_bytes

Order = tuple[list[Task], dict[str, Life]]


def memories_of(
    tasks: Sequence[Task], group: Group, found: Arrangement, arena: np.ndarray
) -> dict[str, Memory]:
    """Where the tensors of a group stand: rings, whole ones, and merged ones in their places."""
    offsets = found.memory.offsets
    memories = {}
    for task in tasks:
        stage = task.stage
        assert stage is not None
        for reads in stage.reads:
            name = reads.tensor
            if name not in memories:
                (size,) = (b.size for b in found.memory.buffers if b.name == name)
                memories[name] = Memory(arena, offsets[name], size // reads.height, reads.height)
        depth = 1 if stage.gathers else stage.rows
        place = Memory(arena, offsets.get(stage.output, 0), stage.row_bytes, depth)
        memories[stage.output] = place
    if group.fused and group.down is not None:
        for ring in ring_bytes(tasks, group):
            memories[ring].depth = group.depth(ring)
        memories |= {name: memories[into] for name, into in group.down.merged.items()}
    return memories


def works_of(group: Group, tasks: Sequence[Task], found: Arrangement) -> dict[str, slice]:
    works = {}
    for place in range(group.begin, group.end):
        task = tasks[place]
        name, size = scratch_name(place), task.scratch
        if task.state:
            name, size = state_name(place), task.state
        if size:
            offset = found.memory.offsets[name]
            assert offset % 4 == 0
            works[task.outputs[0]] = slice(offset, offset + size)
    return works


def runs(
    tasks: Sequence[Task], lives: Mapping[str, Life], groups: Sequence[Group], found: Arrangement
) -> bool:
    """All groups, one after the other, in one arena of exactly the planned size."""
    arena = np.zeros(found.memory.arena, int)
    tags: dict[tuple[str, int], int] = {}
    heights = {r.tensor: r.height for t in tasks if t.stage for r in t.stage.reads}
    for name in (name for name in lives if name.startswith("x")):
        size = lives[name].size // heights[name]
        for row in range(heights[name]):
            tags[name, row] = len(tags) + 1
            start = found.memory.offsets[name] + row * size
            arena[start : start + size] = tags[name, row]
    for group, upwards in zip(groups, found.upwards, strict=True):
        mine = tasks[group.begin : group.end]
        way = group.up if upwards else group.down
        assert way is not None
        stages = [task.stage for task in mine if task.stage is not None]
        memories = memories_of(mine, group, found, arena)
        works = works_of(group, tasks, found)
        if not Run(stages, memories, tags, works).all_events(way.events, upwards=upwards):
            return False
    kept = [name for name, life in lives.items() if life.last == len(tasks)]
    stages = {task.outputs[0]: task.stage for task in tasks}
    for name in kept:
        stage = stages[name]
        assert stage is not None
        rows = 1 if stage.gathers else stage.rows
        memory = Memory(arena, found.memory.offsets[name], stage.row_bytes, rows)
        if not all((arena[memory.row(row)] == tags[name, row]).all() for row in range(rows)):
            return False
    return True


@given(orders(), st.booleans(), st.sampled_from([0, 1 << 40]))
@settings(max_examples=80, deadline=None, derandomize=True)
def test_every_arrangement_runs_in_its_arena(order: Order, placed: bool, enough: int) -> None:
    tasks, lives = order
    assume(all(task.stage is not None and not task.tight for task in tasks))
    assume(all(not (t.scratch and t.state) for t in tasks))
    aligns = dict.fromkeys(lives, 1)
    by_peak = Fuser(tasks, lives).best(enough)
    groups = grouped(tasks, lives, aligns, enough) if placed else by_peak
    found = arrange(tasks, lives, groups, aligns)
    assert found.memory.lower_bound <= found.memory.arena
    assert max(group.peak for group in groups) <= found.memory.arena
    assert runs(tasks, lives, groups, found)


@given(orders(), st.integers(0, 20))
@settings(max_examples=30, deadline=None, derandomize=True)
def test_alignment_is_kept(order: Order, seed: int) -> None:
    tasks, lives = order
    random = np.random.default_rng(seed)
    aligns = {name: int(random.choice([1, 4])) for name in lives}
    groups = grouped(tasks, lives, aligns)
    found = arrange(tasks, lives, groups, aligns)
    for name, align in aligns.items():
        assert found.memory.offsets.get(name, 0) % align == 0
    for buffer in found.memory.buffers:
        offset = found.memory.offsets[buffer.name]
        assert offset >= 0
        assert offset + buffer.size <= found.memory.arena
