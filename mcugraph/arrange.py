"""Groups to memory: rings, overlaps of inputs and outputs, and the direction that each group runs.

Downwards, the first row first, an output may start some bytes below an input that dies in its
group: what is overwritten is not needed any more. Upwards, the last row first, it may end above it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mcugraph.fuse import Fuser
from mcugraph.group import Group, Life, Task, ring_bytes
from mcugraph.memory import QUICK, Buffer, Effort, Improve, MemoryPlan, plan_memory
from mcugraph.stream import Trace

# Working memory, which may hold 32-bit sums, starts at a multiple of this.
WORD = 4
# A gap for two buffers that may lie anywhere: they are never in use at the same time.
ANYWHERE = -(1 << 40)
Gap = tuple[tuple[str, str], int]
Gaps = dict[tuple[str, str], int]


@dataclass(frozen=True)
class Arrangement:
    """Where everything stands, and which groups run from the last row to the first."""

    memory: MemoryPlan
    upwards: tuple[bool, ...]


def grouped(
    tasks: Sequence[Task], lives: Mapping[str, Life], aligns: Mapping[str, int], enough: int = 0
) -> tuple[Group, ...]:
    """The grouping whose groups, each placed by itself, need the least; or not over `enough`."""

    def footprint(group: Group) -> int:
        return _footprint(tasks, lives, group, aligns)

    return Fuser(tasks, lives, footprint).best(enough)


def _footprint(
    tasks: Sequence[Task], lives: Mapping[str, Life], group: Group, aligns: Mapping[str, int]
) -> int:
    """The arena of all that is alive while a group runs."""
    alive = {
        name: Life(life.size, group.begin, group.begin)
        for name, life in lives.items()
        if life.first < group.end and life.last >= group.begin
    }
    buffers = _buffers(tasks, alive, [group], aligns)
    free, pairs = _exclusive(tasks, [group]), _pairs(tasks, lives, group)
    ways = [{pair.gap_below() for pair in pairs}]
    if group.up is not None:
        ways.append({pair.gap_above() for pair in pairs})
    effort = Effort(QUICK.tries // 10, QUICK.nodes // 10)
    return min(plan_memory(buffers, free | dict(w), group.peak, effort).arena for w in ways)


def arrange(
    tasks: Sequence[Task],
    lives: Mapping[str, Life],
    groups: Sequence[Group],
    aligns: Mapping[str, int],
    improve: Improve | None = None,
) -> Arrangement:
    """Place tensors, rings and working memory, and give every group a direction.

    A group whose overlaps were placed for both directions is held to downwards and placed again.
    """
    buffers = _buffers(tasks, lives, groups, aligns)
    pairs = [_pairs(tasks, lives, group) for group in groups]
    bound = max((group.peak for group in groups), default=0)
    held: set[int] = set()
    while True:
        gaps = _exclusive(tasks, groups)
        for place, group in enumerate(pairs):
            for pair in group:
                gaps |= pair.gaps(both=place not in held)
        memory = plan_memory(buffers, gaps, bound, Effort(improve=improve))
        wishes = [{pair.upwards(memory) for pair in group} - {None} for group in pairs]
        torn = {place for place, wish in enumerate(wishes) if len(wish) > 1}
        if not torn:
            return Arrangement(memory, tuple(True in wish for wish in wishes))
        held |= torn


@dataclass(frozen=True)
class _Pair:
    """An input of `size` bytes that dies in a group, and a buffer that may overlap what is spent.

    Downwards the buffer starts at least `below` bytes below the input, upwards at least `above`
    bytes above it (None: not possible).
    """

    source: str
    size: int
    buffer: str
    below: int
    above: int | None

    def gaps(self, *, both: bool) -> Gaps:
        """What placement must keep to."""
        return dict([self.gap_below(), self.gap_above()] if both else [self.gap_below()])

    def gap_below(self) -> Gap:
        """What it must keep to downwards."""
        return (self.buffer, self.source), self.below

    def gap_above(self) -> Gap:
        """What it must keep to upwards: the whole input where that is not possible."""
        return (self.source, self.buffer), self.size if self.above is None else self.above

    def upwards(self, memory: MemoryPlan) -> bool | None:
        """The direction that the placement asks for; None where the two do not overlap."""
        sizes = {b.name: b.size for b in memory.buffers if b.name in (self.source, self.buffer)}
        at, to = memory.offsets[self.source], memory.offsets[self.buffer]
        if at >= to + sizes[self.buffer] or to >= at + sizes[self.source]:
            return None
        return at - to < self.below


def _buffers(
    tasks: Sequence[Task],
    lives: Mapping[str, Life],
    groups: Sequence[Group],
    aligns: Mapping[str, int],
) -> list[Buffer]:
    """Everything that takes bytes; a group is one moment of time."""
    time = {place: at for at, g in enumerate(groups) for place in range(g.begin, g.end)}
    time[len(tasks)] = len(groups)
    sizes = {name: life.size for name, life in lives.items()}
    merged: set[str] = set()
    for group in groups:
        if group.fused and group.down is not None:
            sizes |= ring_bytes(tasks[group.begin : group.end], group)
            merged |= group.down.merged.keys()
    buffers = [
        Buffer(name, sizes[name], time[life.first], time[life.last], aligns.get(name, 1))
        for name, life in lives.items()
        if name not in merged
    ]
    for place in sorted(time.keys() - {len(tasks)}):
        task = tasks[place]
        for name, size in ((scratch_name(place), task.scratch), (state_name(place), task.state)):
            if size:
                buffers.append(Buffer(name, size, time[place], time[place], WORD))
    return buffers


def scratch_name(place: int) -> str:
    """The buffer that a task uses while it runs."""
    return f"(scratch of step {place})"


def state_name(place: int) -> str:
    """The buffer of a task that gathers, for as long as its group runs."""
    return f"(sums of step {place})"


def _exclusive(tasks: Sequence[Task], groups: Sequence[Group]) -> Gaps:
    """Rings, sums and scratch of a group that are never in use at the same event, either way."""
    gaps: Gaps = {}
    for group in groups:
        if not group.fused or group.down is None:
            continue
        own = tasks[group.begin : group.end]
        names, meet = _meetings(own, group, group.down)
        if group.up is not None:
            meet = meet | _meetings(own, group, group.up)[1]
        apart = np.argwhere(~meet)
        gaps |= {(names[a], names[b]): ANYWHERE for a, b in apart.tolist()}
    return gaps


def _meetings(own: Sequence[Task], group: Group, way: Trace) -> tuple[list[str], NDArray[np.bool_]]:
    """What a group uses besides whole tensors, and which two of them are ever used at once."""
    events = np.array(way.events)
    used = {name: np.frombuffer(alive, np.bool_) for name, alive in sorted(way.alive.items())}
    for place, task in enumerate(own):
        if task.scratch:
            used[scratch_name(group.begin + place)] = events == place
        if task.state:
            used[state_name(group.begin + place)] = np.arange(len(events)) >= way.born[place]
    matrix = np.array([used[name] for name in used], np.float32).reshape(len(used), len(events))
    return list(used), matrix @ matrix.T > 0


def _pairs(tasks: Sequence[Task], lives: Mapping[str, Life], group: Group) -> list[_Pair]:
    if group.down is None:
        return []
    dying = [x for x in group.down.spent if lives[x].last < group.end]
    return [pair for x in dying for pair in _pairs_of(tasks, lives, group, x)]


def _pairs_of(
    tasks: Sequence[Task], lives: Mapping[str, Life], group: Group, source: str
) -> list[_Pair]:
    down, up = group.down, group.up
    assert down is not None, "a group without rows has no pairs"
    size = lives[source].size
    pairs = []
    for name in down.written:
        below = down.distance(source, name)
        if not group.fused:
            below = min(below, tasks[group.begin].tight.get(source, below))
        own = lives[name].size
        above = None if up is None else size + up.distance(source, name) - own
        pairs.append(_Pair(source, size, name, below, above))
    if group.fused:
        for name, own, places in _born_late(tasks, group):
            below = own - down.spent[source][min(down.born[place] for place in places)]
            above = None
            if up is not None:
                above = size - up.spent[source][min(up.born[place] for place in places)]
            pairs.append(_Pair(source, size, name, below, above))
    return pairs


def _born_late(tasks: Sequence[Task], group: Group) -> Iterator[tuple[str, int, tuple[int, ...]]]:
    """(buffer, bytes, places in the group that use it): not all are used from the first row on."""
    for name, size in ring_bytes(tasks[group.begin : group.end], group).items():
        yield name, size, group.writers(tasks, name)
    for place, task in enumerate(tasks[group.begin : group.end]):
        if task.scratch:
            yield scratch_name(group.begin + place), task.scratch, (place,)
        if task.state:
            yield state_name(group.begin + place), task.state, (place,)
