"""The moment at which a plan needs the most bytes, and what takes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mcugraph.arrange import scratch_name, state_name
from mcugraph.group import Task
from mcugraph.lower.model import lower_model
from mcugraph.memory import Buffer
from mcugraph.parts import joined, place_parts
from mcugraph.plan import Plan, Section
from mcugraph.stream import Stage, Trace, Whole, trace
from mcugraph.tasks import lives_of, rows_of, tasks_of, with_source

Bytes = NDArray[np.int64]


@dataclass(frozen=True)
class Part:
    """A buffer of `bytes` bytes, of which `live` are needed at the moment of the peak.

    An input, an output or a tensor stands as a whole, a ring holds `rows` rows of it; scratch and
    sums are a step's working memory, and progress is the state of a run whose input is pushed.
    `shape` is that of ONNX.
    """

    name: str
    kind: str
    bytes: int
    live: int
    rows: int | None = None
    row_bytes: int | None = None
    shape: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Moment:
    """A row, counted from 1, of a step's result; without a step, of the input."""

    step: str | None
    row: int
    rows: int


@dataclass(frozen=True)
class Peak:
    """What takes the most bytes at one time; `moment` is None where a step runs as a whole.

    `overlap` are bytes in which an output stands where its inputs are spent: the parts' live bytes
    count them twice, `bytes` does not.
    """

    section: str
    steps: tuple[str, ...]
    moment: Moment | None
    bytes: int
    overlap: int
    buffers: tuple[Part, ...]


def peak_of(plan: Plan) -> Peak:
    """The section with the highest peak, the first of equals, and its parts, largest first."""
    sections = plan.sections
    place = max(range(len(sections)), key=lambda at: sections[at].peak, default=None)
    alive = plan.memory.buffers
    if place is None:
        return _peak(plan, None, _parts(plan, alive, {b.name: b.size for b in alive}), None)
    alive = tuple(b for b in alive if b.first <= place <= b.last)
    tasks, begin = _tasks(plan, place)
    if len(tasks) < 2:
        parts = _parts(plan, alive, {b.name: b.size for b in alive})
        return _peak(plan, sections[place], parts, None)
    run = _Run(plan, place, tasks, begin)
    needed = {b.name: run.needed(b) for b in alive}
    event = int(np.sum(list(needed.values()), axis=0).argmax())
    parts = _parts(plan, alive, {name: int(at[event]) for name, at in needed.items()})
    return _peak(plan, sections[place], parts, run.moment(event))


def _peak(
    plan: Plan, section: Section | None, parts: Sequence[Part], moment: Moment | None
) -> Peak:
    progress = () if plan.progress is None else (_progress(plan, plan.progress),)
    live = sum(part.live for part in parts)
    overlap = 0 if section is None or moment is not None else live - section.peak
    buffers = tuple(sorted((*parts, *progress), key=lambda part: (-part.live, -part.bytes)))
    total = live - overlap + sum(part.live for part in progress)
    if section is None:
        return Peak("nothing is computed", (), None, total, overlap, buffers)
    steps = tuple(step.name for step in section.steps)
    return Peak(section.title, steps, moment, total, overlap, buffers)


def _progress(plan: Plan, offset: int) -> Part:
    size = plan.memory.arena - offset
    return Part("the run", "progress", size, size)


def _parts(plan: Plan, alive: Sequence[Buffer], live: Mapping[str, int]) -> list[Part]:
    steps = {}
    for place, step in enumerate(plan.steps, start=plan.progress is not None):
        steps[scratch_name(place)] = (step.name, "scratch")
        steps[state_name(place)] = (step.name, "sums")
    return [
        Part(*steps[b.name], b.size, live[b.name])
        if b.name in steps
        else _tensor(plan, b, live[b.name])
        for b in alive
    ]


def _tensor(plan: Plan, buffer: Buffer, live: int) -> Part:
    graph, layouts = plan.graph, plan.layouts
    name, rows, kind = buffer.name, rows_of(layouts, buffer.name), "tensor"
    if name in plan.rings:
        rows, kind = plan.rings[name], "ring"
    elif name in map(layouts.root, graph.outputs):
        kind = "output"
    elif name in graph.inputs:
        kind = "input"
    shape = graph.tensors[name].shape
    title = graph.interface.get(name, name)
    return Part(title, kind, buffer.size, live, rows, buffer.size // rows, shape)


def _tasks(plan: Plan, place: int) -> tuple[list[Task], int]:
    """The tasks of a section, on whole tensors, and the place of the first of them."""
    graph, layouts, order = plan.graph, plan.layouts, plan.schedule.order
    calls = lower_model(graph, replace(layouts, parts={}), allow_float=True)
    layouts, calls = place_parts(graph, layouts, calls, joined(graph, layouts))
    tasks = tasks_of(graph, layouts, calls, order)
    counts = [len(section.steps) for section in plan.sections]
    if plan.progress is not None:
        tasks, _ = with_source(graph, layouts, tasks, lives_of(graph, layouts, order))
        counts[0] += 1
    begin = sum(counts[:place])
    return tasks[begin : begin + counts[place]], begin


class _Run:
    """A fused section, event by event; `begin` is the place of its first task."""

    def __init__(self, plan: Plan, place: int, tasks: Sequence[Task], begin: int) -> None:
        self._plan = plan
        self._place = place
        self._tasks = tasks
        self._begin = begin
        self._up = plan.sections[place].upwards

    @cached_property
    def _stages(self) -> list[Stage]:
        return [task.stage for task in self._tasks if task.stage is not None]

    @cached_property
    def _way(self) -> Trace:
        inner = {*self._plan.rings, *self._plan.merged}
        made = {stage.output: stage for stage in self._stages}
        begun = {b.name for b in self._plan.memory.buffers if b.first < self._place}
        outside = {
            n: Whole(s.rows, s.row_bytes, n in begun) for n, s in made.items() if n not in inner
        }
        for reads in (reads for stage in self._stages for reads in stage.reads):
            if reads.tensor not in made:
                size = self._plan.graph.tensors[reads.tensor].bytes
                outside[reads.tensor] = Whole(reads.height, size // reads.height)
        return trace([s.upwards() if self._up else s for s in self._stages], outside)

    def needed(self, buffer: Buffer) -> Bytes:
        """Bytes of a buffer that are needed at each event."""
        way, name = self._way, buffer.name
        if name in way.spent and buffer.last == self._place:
            return buffer.size - np.array(way.spent[name])
        if name in way.written:
            return np.array(way.written[name])
        for at, stage in enumerate(self._stages):
            if name == scratch_name(self._begin + at):
                return np.where(np.array(way.events) == at, buffer.size, 0)
            if name == state_name(self._begin + at):
                return self._from(way.born[at], buffer.size)
            if name == stage.output and name in way.depths:
                return buffer.size * np.frombuffer(way.alive[name], np.uint8).astype(np.int64)
        return self._from(0, buffer.size)

    def _from(self, born: int, size: int) -> Bytes:
        return np.where(np.arange(len(self._way.events)) >= born, size, 0)

    def moment(self, event: int) -> Moment:
        """The row that an event computes."""
        index = self._way.events[event]
        stage = self._stages[index]
        done = self._way.events[:event].count(index)
        is_input = self._plan.progress is not None and self._begin + index == 0
        row = stage.rows - done if self._up else done + 1
        return Moment(None if is_input else stage.step, row, stage.rows)
