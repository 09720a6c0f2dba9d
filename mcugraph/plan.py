"""One frozen record of all that the emitter needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mcugraph.arrange import arrange, grouped, scratch_name, state_name
from mcugraph.graph import Graph, Step
from mcugraph.group import Group
from mcugraph.layout import Layouts, layouts_of
from mcugraph.lower.call import Call
from mcugraph.lower.model import lower_model
from mcugraph.lower.reads import depth_names
from mcugraph.memory import MemoryPlan
from mcugraph.repeat import Recomputed
from mcugraph.replay import Event, Placed, Shadow
from mcugraph.schedule import Schedule, find_schedule
from mcugraph.targets import Target
from mcugraph.tasks import lives_of, rows_of, tasks_of, with_source

# The arena is a multiple of this, and aligned to it.
WORD = 8


@dataclass(frozen=True)
class Aim:
    """What the plan is for.

    Streaming goes no further than `enough` bytes of arena ask for; a `pushed` input comes row by
    row while the first section runs.
    """

    allow_float: bool = False
    enough: int = 0
    pushed: bool = False


@dataclass(frozen=True)
class Section:
    """Steps that run together, one row of one step at a time in the order of `events`.

    A single step has no events: it runs at once, from its last row to its first if `upwards`.
    """

    steps: tuple[Step, ...]
    events: tuple[int, ...]
    upwards: bool
    peak: int

    @property
    def title(self) -> str:
        """Its first and last step."""
        if not self.steps:
            return "the input"
        first, last = self.steps[0].name, self.steps[-1].name
        return first if first == last else f"{first} to {last}, fused"

    @property
    def turns(self) -> NDArray[np.generic]:
        """The events as the table that the C reads."""
        return np.array(self.events, np.uint8 if len(self.steps) < 256 else np.uint16)


@dataclass(frozen=True)
class Plan:
    """A graph, its schedule, its memory and the kernel calls of every step, for one target.

    `rings` gives the rows of each tensor that is kept in a ring; `merged` the tensor in whose place
    another one's rows are written; `progress` is the offset of the state of a run whose input is
    pushed: its first section has one more event, number len(steps), that waits for a row.
    """

    name: str
    graph: Graph
    layouts: Layouts
    schedule: Schedule
    sections: tuple[Section, ...]
    calls: Mapping[str, tuple[Call, ...]]
    memory: MemoryPlan
    rings: Mapping[str, int]
    merged: Mapping[str, str]
    progress: int | None
    target: Target
    recomputed: Recomputed | None = None

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps that compute something, in execution order: a view is no step."""
        return tuple(step for section in self.sections for step in section.steps)

    def place(self, tensor: str) -> str:
        """The buffer in which a run-time tensor stands."""
        root = self.layouts.root(tensor)
        return self.merged.get(root, root)

    def offset(self, tensor: str) -> int:
        """Where a run-time tensor stands in the arena, in bytes."""
        return self.memory.offsets[self.place(tensor)]

    def rows(self, tensor: str) -> int:
        """The rows of a run-time tensor."""
        return rows_of(self.layouts, tensor)

    def depth(self, tensor: str) -> int:
        """How many of its rows are in memory at a time."""
        return self.rings.get(self.place(tensor), self.rows(tensor))

    def scratch_offset(self, step: Step) -> int:
        """Where a step's scratch stands in the arena, in bytes."""
        number = self.steps.index(step) + (self.progress is not None)
        gathers = any(call.gathers for call in self.calls[step.name])
        return self.memory.offsets[state_name(number) if gathers else scratch_name(number)]

    def scratch(self, step: Step) -> int:
        """Bytes of working memory that a step needs."""
        return max((call.scratch for call in self.calls[step.name]), default=0)

    def peak(self, step: Step) -> int:
        """Bytes that are needed at one time, at most, while the step's section runs."""
        return next(section.peak for section in self.sections if step in section.steps)

    def row_by_row(self, section: Section) -> bool:
        """Whether a step that runs alone takes its rows one after the other, all calls in each."""
        calls = self.calls[section.steps[0].name]
        return section.upwards or len({call.rows for call in calls}) == 1 < len(calls)

    @property
    def kernels(self) -> tuple[str, ...]:
        """The names of the kernels used, sorted."""
        return tuple(sorted({call.kernel for step in self.steps for call in self.calls[step.name]}))

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one inference."""
        return sum(call.macs for calls in self.calls.values() for call in calls)


def make_plan(graph: Graph, target: Target, name: str, aim: Aim | None = None) -> Plan:
    """Lower, order, fuse and place a graph.

    Raises UnsupportedError that lists every step that no kernel computes, and every float step
    unless they are allowed.
    """
    aim = aim or Aim()
    layouts = layouts_of(graph)
    calls = lower_model(graph, layouts, allow_float=aim.allow_float)
    working = [index for index, step in enumerate(graph.steps) if calls[step.name]]
    scratch = [max(c.scratch for c in calls[graph.steps[i].name]) for i in working]
    schedule = find_schedule(graph, layouts, working, scratch)
    tasks = tasks_of(graph, layouts, calls, schedule.order)
    lives = lives_of(graph, layouts, schedule.order)
    if aim.pushed:
        tasks, lives = with_source(graph, layouts, tasks, lives)
    aligns = {name: _align(graph, name) for name in lives}
    groups = grouped(tasks, lives, aligns, aim.enough)
    arrangement = arrange(tasks, lives, groups, aligns)
    memory = arrangement.memory
    rings, merged = _rings(groups)
    plan = Plan(
        name=name,
        graph=graph,
        layouts=layouts,
        schedule=schedule,
        sections=_sections(graph, schedule, groups, arrangement.upwards, aim.pushed),
        calls=_with_rings(layouts, calls, rings, merged),
        memory=replace(memory, arena=_rounded(memory.arena) + _state_bytes(groups, aim)),
        rings=rings,
        merged=merged,
        progress=_rounded(memory.arena) if aim.pushed else None,
        target=target,
    )
    check_plan(plan)
    return plan


def check_plan(plan: Plan) -> None:
    """Replay the plan on a shadow of its arena; AssertionError where it loses a byte."""
    shadow = Shadow(plan.memory.arena, {name: _placed(plan, name) for name in plan.layouts.of})
    if plan.progress is None:
        for name in plan.graph.inputs:
            shadow.fill(name)
    for event in _events(plan):
        if isinstance(event, int):
            shadow.push(plan.graph.inputs[0], event)
        else:
            shadow.run(event)
    for name in plan.graph.outputs:
        shadow.need(name)


def _placed(plan: Plan, name: str) -> Placed:
    rows, size = rows_of(plan.layouts, name), plan.graph.tensors[name].bytes
    depth = plan.rings.get(plan.place(name), rows)
    return Placed(plan.layouts.root(name), plan.offset(name), rows, size // rows, depth)


def _events(plan: Plan) -> Iterator[Event | int]:
    """Every call, and the number of each row of the input that is pushed."""
    for section in plan.sections:
        rows = [plan.calls[step.name][0].rows for step in section.steps]
        if not section.events:
            yield from _events_alone(plan, section)
        done = [0] * (len(rows) + 1)
        for index in section.events:
            if index == len(rows):
                yield done[index]
                done[index] += 1
                continue
            row = rows[index] - 1 - done[index] if section.upwards else done[index]
            done[index] += 1
            step = section.steps[index]
            yield from (_event(plan, step, call, row) for call in plan.calls[step.name])


def _events_alone(plan: Plan, section: Section) -> Iterator[Event]:
    (step,) = section.steps
    calls = plan.calls[step.name]
    if not plan.row_by_row(section):
        yield from (_event(plan, step, call, row) for call in calls for row in range(call.rows))
        return
    order = range(calls[0].rows)[:: -1 if section.upwards else 1]
    yield from (_event(plan, step, call, row) for row in order for call in calls)


def _event(plan: Plan, step: Step, call: Call, row: int) -> Event:
    scratch = plan.scratch_offset(step) if call.scratch else 0
    return Event(call, row, row + 1, (scratch, scratch + call.scratch))


def _rounded(size: int) -> int:
    return -(-size // WORD) * WORD


def _state_bytes(groups: Sequence[Group], aim: Aim) -> int:
    """Bytes of the turn, and of the next row of the input and of every step of the first group."""
    return _rounded(4 * (1 + groups[0].end)) if aim.pushed else 0


def _sections(
    graph: Graph,
    schedule: Schedule,
    groups: Sequence[Group],
    upwards: Sequence[bool],
    pushed: bool,
) -> tuple[Section, ...]:
    steps: list[Step | None] = [graph.steps[i] for i in schedule.order]
    if pushed:
        steps.insert(0, None)
    sections = []
    for group, up in zip(groups, upwards, strict=True):
        own = tuple(step for step in steps[group.begin : group.end] if step is not None)
        trace = group.up if up else group.down
        awaits = pushed and group.begin == 0
        events = trace.events if trace is not None and (group.fused or awaits) else ()
        if awaits:
            events = tuple(event - 1 if event else len(own) for event in events)
        sections.append(Section(own, events, up, group.peak))
    return tuple(sections)


def _rings(groups: Sequence[Group]) -> tuple[dict[str, int], dict[str, str]]:
    rings: dict[str, int] = {}
    merged: dict[str, str] = {}
    for group in groups:
        if group.fused and group.down is not None:
            rings |= {name: group.depth(name) for name in group.down.depths}
            merged |= group.down.merged
    return rings, merged


def _with_rings(
    layouts: Layouts,
    calls: Mapping[str, tuple[Call, ...]],
    rings: Mapping[str, int],
    merged: Mapping[str, str],
) -> dict[str, tuple[Call, ...]]:
    """The calls with the depths of the rings that they read and write."""

    def depth(tensor: str) -> int | None:
        root = layouts.root(tensor)
        return rings.get(merged.get(root, root))

    return {name: tuple(_with_depths(c, depth) for c in each) for name, each in calls.items()}


def _with_depths(call: Call, depth: Callable[[str], int | None]) -> Call:
    found = {k: depth(t) for k, t in zip(depth_names(call), call.inputs, strict=True)}
    found["y_depth"] = depth(call.output)
    return replace(
        call, fields={**call.fields, **{k: d for k, d in found.items() if d is not None}}
    )


def _align(graph: Graph, name: str) -> int:
    return np.dtype(graph.tensors[name].dtype).itemsize
