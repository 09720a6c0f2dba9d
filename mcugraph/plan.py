"""Graph -> Plan: lower, order, fuse and place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace

import numpy as np

from mcugraph.arrange import Arrangement, arrange, grouped
from mcugraph.check import check_plan
from mcugraph.graph import Graph, Step
from mcugraph.group import Group, Life, Task
from mcugraph.layout import layouts_of
from mcugraph.lower.model import lower_model
from mcugraph.memory import Improve
from mcugraph.parts import joined, place_parts
from mcugraph.record import Plan, Section
from mcugraph.rings import rings_of, with_rings
from mcugraph.schedule import Schedule, find_schedule
from mcugraph.targets import Target
from mcugraph.tasks import MANY, lives_of, tasks_of, variants, with_source

__all__ = ["WORD", "Aim", "Plan", "Section", "check_plan", "make_plan", "plan_with"]

# The arena is a multiple of this, and aligned to it.
WORD = 8


@dataclass(frozen=True)
class Aim:
    """What the plan is for.

    Streaming goes no further than `enough` bytes of arena ask for; a `pushed` input comes row by
    row while the first section runs; `improve` looks for a smaller arena than the default does.
    """

    allow_float: bool = False
    enough: int = 0
    pushed: bool = False
    improve: Improve | None = None


def make_plan(graph: Graph, target: Target, name: str, aim: Aim | None = None) -> Plan:
    """Lower, order, fuse and place a graph.

    Operands of concatenations are computed in place where the arena does not grow by it; in a
    graph of more than MANY steps, where a comparison takes too long, they are copied. Raises
    UnsupportedError that lists every step that no kernel computes, and every float step unless
    they are allowed.
    """
    aim = aim or Aim()
    many = len(graph.steps) > MANY
    allowed = {step.name for step in graph.steps if step.op == "Concat" and not many}
    best = plan_with(graph, target, name, aim, allowed)
    placed = joined(graph, best.layouts)
    tried = [placed]
    for wish in (placed - _joined_at_peak(best), set[str]()):
        if wish not in tried:
            tried.append(wish)
            other = plan_with(graph, target, name, aim, wish)
            best = min(best, other, key=lambda plan: plan.memory.arena)
    check_plan(best)
    return best


def _joined_at_peak(plan: Plan) -> set[str]:
    """The concatenations with operands computed in place that are alive where most is needed."""
    highest = max((section.peak for section in plan.sections), default=0)
    times = [time for time, section in enumerate(plan.sections) if section.peak == highest]
    wholes = {part.whole for part in plan.layouts.parts.values()}
    alive = {
        buffer.name
        for buffer in plan.memory.buffers
        if buffer.name in wholes and any(buffer.first <= time <= buffer.last for time in times)
    }
    names = joined(plan.graph, plan.layouts)
    steps = (step for step in plan.graph.steps if step.name in names)
    return {step.name for step in steps if plan.layouts.root(step.output) in alive}


def plan_with(graph: Graph, target: Target, name: str, aim: Aim, allowed: Set[str]) -> Plan:
    """The plan with operands in place of the allowed concatenations, as far as it can be done."""
    layouts = layouts_of(graph)
    calls = lower_model(graph, layouts, allow_float=aim.allow_float)
    layouts, calls = place_parts(graph, layouts, calls, allowed)
    working = [index for index, step in enumerate(graph.steps) if calls[step.name]]
    scratch = [max(c.scratch for c in calls[graph.steps[i].name]) for i in working]
    schedule = find_schedule(graph, layouts, working, scratch)
    tasks = tasks_of(graph, layouts, calls, schedule.order)
    lives = lives_of(graph, layouts, schedule.order)
    if aim.pushed:
        tasks, lives = with_source(graph, layouts, tasks, lives)
    aligns = {name: _align(graph, name) for name in lives}
    groups, arrangement = _arranged(tasks, lives, aligns, aim)
    memory = arrangement.memory
    rings, merged = rings_of(groups)
    return Plan(
        name=name,
        graph=graph,
        layouts=layouts,
        schedule=schedule,
        sections=_sections(graph, schedule, groups, arrangement.upwards, aim.pushed),
        calls=with_rings(layouts, calls, rings, merged),
        memory=replace(memory, arena=_rounded(memory.arena) + _state_bytes(groups, aim)),
        rings=rings,
        merged=merged,
        progress=_rounded(memory.arena) if aim.pushed else None,
        target=target,
    )


def _arranged(
    tasks: list[Task], lives: Mapping[str, Life], aligns: Mapping[str, int], aim: Aim
) -> tuple[tuple[Group, ...], Arrangement]:
    """The groups and their places; of both inputs to write over, the one that needs less."""
    found = []
    for own in variants(tasks):
        groups = grouped(own, lives, aligns, aim.enough)
        found.append((groups, arrange(own, lives, groups, aligns, aim.improve)))
    return min(found, key=lambda each: each[1].memory.arena)


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


def _align(graph: Graph, name: str) -> int:
    return np.dtype(graph.tensors[name].dtype).itemsize
