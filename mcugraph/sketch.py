"""A plan's groups with some steps more, without placement: what would its peaks be?

The order and the cuts of the plan stay, so that a sketch costs a hundredth of a plan. A copy of a
step runs in the group of its reader where that runs row by row, else by itself in front of it.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, replace

from mcugraph.fuse import Fuser
from mcugraph.graph import Graph, Step
from mcugraph.group import Group, Life, ring_bytes
from mcugraph.layout import Layouts, layouts_of
from mcugraph.lower import lower
from mcugraph.lower.call import Call, Site
from mcugraph.lower.model import lower_model
from mcugraph.parts import joined, place_parts
from mcugraph.plan import Plan
from mcugraph.repeat import Repeat, with_repeat
from mcugraph.tasks import MANY, lives_of, tasks_of, with_source

Sections = tuple[tuple[str, ...], ...]
Calls = dict[tuple[str, tuple[str, ...]], tuple[Call, ...]]


@dataclass(frozen=True)
class Sketch:
    """Steps in an order, the names of those of each section, and the bytes that they need.

    Concatenations in `joins` have their operands computed in place, where that can be done;
    `alive` are the tensors in memory at the first of the highest peaks, and their bytes there.
    """

    graph: Graph
    layouts: Layouts
    sections: Sections
    joins: frozenset[str]
    works: Mapping[str, int]
    peaks: tuple[int, ...]
    alive: Mapping[str, int]

    @property
    def highest(self) -> int:
        """The number of the section with the highest peak, the first of equals."""
        return max(range(len(self.peaks)), key=lambda at: self.peaks[at], default=0)

    @property
    def work(self) -> int:
        """Multiply-accumulates of all steps, or elements where a step has none."""
        return sum(self.works.values())

    @property
    def rank(self) -> tuple[int, ...]:
        """All peaks, the highest first, then the work: less is better."""
        return (*sorted(self.peaks, reverse=True), self.work)


class Sketcher:
    """Sketches for one model; each step is lowered once."""

    def __init__(self, plan: Plan, *, allow_float: bool) -> None:
        self._pushed = plan.progress is not None
        found = lower_model(plan.graph, plan.layouts, allow_float=allow_float)
        self._calls: Calls = {(s.name, s.inputs): found[s.name] for s in plan.graph.steps}

    def first(self, plan: Plan) -> Sketch:
        """The sketch of a plan."""
        sections = tuple(tuple(step.name for step in part.steps) for part in plan.sections)
        joins = frozenset(joined(plan.graph, plan.layouts))
        found = self._sketch(in_order(plan), sections, joins)
        assert found is not None, "the sections of a plan can run"
        return found

    def after(self, sketch: Sketch, repeat: Repeat) -> Sketch | None:
        """The sketch after a repeat; None where its steps cannot run with their readers."""
        graph, copy = with_repeat(sketch.graph, repeat)
        copies = tuple(graph.producers[name].name for name in copy.names.values())
        sections = _inserted(sketch, copies, repeat.readers)
        if sections is None:
            return None
        near = {*copies, *repeat.readers} if len(graph.steps) <= MANY else set[str]()
        return self._sketch(graph, sections, sketch.joins | near)

    def _sketch(self, graph: Graph, sections: Sections, joins: frozenset[str]) -> Sketch | None:
        layouts = layouts_of(graph)
        calls = {step.name: self._lowered(graph, layouts, step) for step in graph.steps}
        layouts, calls = place_parts(graph, layouts, calls, joins)
        working = [tuple(name for name in part if calls[name]) for part in sections]
        # Where the input is pushed, its rows may be a section of their own.
        sections = tuple(p for at, p in enumerate(working) if p or (self._pushed and not at))
        numbers = {step.name: at for at, step in enumerate(graph.steps)}
        order = [numbers[name] for part in sections for name in part]
        tasks, lives = tasks_of(graph, layouts, calls, order), lives_of(graph, layouts, order)
        if self._pushed:
            tasks, lives = with_source(graph, layouts, tasks, lives)
        fuser = Fuser(tasks, lives)
        groups, begin = list[Group](), 0
        for part in sections:
            end = begin + len(part) + (self._pushed and begin == 0)
            group = fuser.group(begin, end)
            if group is None:
                return None
            groups.append(group)
            begin = end
        works = {
            name: sum(call.macs for call in calls[name]) or graph.tensors[step.output].size
            for name, step in ((graph.steps[at].name, graph.steps[at]) for at in order)
        }
        peaks = tuple(group.peak for group in groups)
        sketch = Sketch(graph, layouts, sections, joins, works, peaks, {})
        if not groups:
            return sketch
        group = groups[sketch.highest]
        return replace(sketch, alive=_alive(lives, group, ring_bytes(tasks, group)))

    def _lowered(self, graph: Graph, layouts: Layouts, step: Step) -> tuple[Call, ...]:
        key = step.name, step.inputs
        if key not in self._calls:
            self._calls[key] = lower(Site(graph, step, layouts))
        return self._calls[key]


def _inserted(sketch: Sketch, copies: tuple[str, ...], readers: Container[str]) -> Sections | None:
    """The sections with copies in front of the first reader, or of what works after it."""
    section = {name: at for at, part in enumerate(sketch.sections) for name in part}
    names = [step.name for step in sketch.graph.steps]
    first = next(place for place, name in enumerate(names) if name in readers)
    near = next((name for name in names[first:] if name in section), None)
    if near is None:
        return None
    at = section[near]
    part = sketch.sections[at]
    parts: list[tuple[str, ...]] = [*((name,) for name in copies), part]
    if len(part) > 1:
        place = part.index(near)
        parts = [(*part[:place], *copies, *part[place:])]
    return (*sketch.sections[:at], *parts, *sketch.sections[at + 1 :])


def _alive(lives: Mapping[str, Life], group: Group, rings: Mapping[str, int]) -> dict[str, int]:
    merged = group.down.merged if group.fused and group.down is not None else {}
    return {
        name: rings.get(name, life.size)
        for name, life in lives.items()
        if name not in merged and life.first < group.end and life.last >= group.begin
    }


def in_order(plan: Plan) -> Graph:
    """The plan's graph with its steps in the plan's order, each view in front of its reader."""
    steps: dict[str, Step] = {}
    for step in (*plan.steps, *plan.graph.steps):
        _put(plan.graph, step, steps)
    return replace(plan.graph, steps=tuple(steps.values()))


def _put(graph: Graph, step: Step, steps: dict[str, Step]) -> None:
    for name in graph.activations(step):
        source = graph.producers.get(name)
        if source is not None and source.name not in steps:
            _put(graph, source, steps)
    steps[step.name] = step
