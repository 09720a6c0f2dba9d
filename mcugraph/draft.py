"""A plan before placement, for loops that cost many variants of one network.

The search for offsets is left out: the arena of the real plan is at least `ram` bytes, and just
that where placement leaves no gaps. Steps that a call has seen before are not lowered again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from mcugraph.errors import UnsupportedError
from mcugraph.fuse import Fuser
from mcugraph.graph import Graph, Step
from mcugraph.group import Group, Life, Task, ring_bytes
from mcugraph.layout import VIEWS, Layouts, layouts_of
from mcugraph.lower import lower
from mcugraph.lower.call import Call, Site
from mcugraph.lower.model import lower_model
from mcugraph.memory import MemoryPlan
from mcugraph.parts import place_parts
from mcugraph.plan import WORD, Aim, Plan, Section
from mcugraph.recall import Recall
from mcugraph.schedule import find_schedule
from mcugraph.targets import Target
from mcugraph.tasks import MANY, lives_of, tasks_of, variants

Calls = Mapping[str, tuple[Call, ...]]
_LOWERED: Recall[tuple[Call, ...]] = Recall(512)


@dataclass(frozen=True)
class Draft:
    """A plan without offsets, and the groups that its sections are."""

    plan: Plan
    groups: tuple[Group, ...]
    tasks: Sequence[Task]
    lives: Mapping[str, Life]

    @property
    def ram(self) -> int:
        """Bytes that no placement of these groups can undercut."""
        return self.plan.memory.arena

    @cached_property
    def live(self) -> Mapping[str, int]:
        """Bytes of each tensor that are needed at the moment of the highest peak."""
        if not self.groups:
            return {}
        group = max(self.groups, key=lambda each: each.peak)
        needed = dict(self._needed(group))
        moment = int((self._working(group) + sum(needed.values())).argmax())
        return {name: int(at[moment]) for name, at in needed.items() if at[moment]}

    def _working(self, group: Group) -> NDArray[np.int64]:
        """The bytes of scratch and sums at each event of a group."""
        tasks = self.tasks[group.begin : group.end]
        if not group.fused or group.down is None:
            return np.zeros(1, np.int64)
        events, born = np.array(group.down.events), group.down.born
        working = np.array([task.scratch for task in tasks])[events]
        for task, first in zip(tasks, born, strict=True):
            working[first:] += task.state
        return np.asarray(working, np.int64)

    def _needed(self, group: Group) -> Iterator[tuple[str, NDArray[np.int64]]]:
        """The bytes of each tensor that a group needs at each of its events."""
        way = group.down if group.fused else None
        rings = ring_bytes(self.tasks[group.begin : group.end], group)
        for name, life in self.lives.items():
            if life.first >= group.end or life.last < group.begin:
                continue
            if way is None:
                yield name, np.array([life.size])
            elif name in way.written:
                yield name, np.array(way.written[name])
            elif name in rings:
                yield name, rings[name] * np.frombuffer(way.alive[name], np.uint8).astype(np.int64)
            elif name not in way.merged:
                spent = way.spent.get(name) if life.last < group.end else None
                yield name, life.size - np.array(spent or [0] * len(way.events))


def draft(graph: Graph, target: Target, aim: Aim) -> Draft:
    """Lower, order and fuse a graph whose input is not pushed, as make_plan does.

    Of all concatenations in place and all copied, whichever needs less.
    """
    joins = {step.name for step in graph.steps if step.op == "Concat"}
    copied = _draft(graph, target, aim, set())
    if not joins or len(graph.steps) > MANY:
        return copied
    return min(copied, _draft(graph, target, aim, joins), key=lambda each: each.ram)


def _draft(graph: Graph, target: Target, aim: Aim, joins: Set[str]) -> Draft:
    layouts = layouts_of(graph)
    layouts, calls = place_parts(graph, layouts, _lowered(graph, layouts, aim), joins)
    working = [index for index, step in enumerate(graph.steps) if calls[step.name]]
    scratch = [max(c.scratch for c in calls[graph.steps[i].name]) for i in working]
    schedule = find_schedule(graph, layouts, working, scratch)
    tasks = tasks_of(graph, layouts, calls, schedule.order)
    lives = lives_of(graph, layouts, schedule.order)
    grouped = [(own, Fuser(own, lives).best(aim.enough)) for own in variants(tasks)]
    tasks, groups = min(grouped, key=lambda each: max((g.peak for g in each[1]), default=0))
    steps = [graph.steps[index] for index in schedule.order]
    peak = -(-max((group.peak for group in groups), default=0) // WORD) * WORD
    plan = Plan(
        name=graph.name,
        graph=graph,
        layouts=layouts,
        schedule=schedule,
        sections=tuple(_section(steps, group) for group in groups),
        calls=calls,
        memory=MemoryPlan((), {}, peak, peak, proved=False),
        rings={},
        merged={},
        progress=None,
        target=target,
    )
    return Draft(plan, groups, tasks, lives)


def _section(steps: Sequence[Step], group: Group) -> Section:
    events = group.down.events if group.fused and group.down is not None else ()
    return Section(tuple(steps[group.begin : group.end]), events, False, group.peak)


def _lowered(graph: Graph, layouts: Layouts, aim: Aim) -> Calls:
    """What lower_model gives; steps of int8 alone are looked up first."""
    runtime = [tensor for tensor in graph.tensors.values() if tensor.data is None]
    ports = (*graph.inputs, *graph.outputs)
    plain = {"int8"} == {tensor.dtype for tensor in runtime}
    if not plain or any(graph.tensors[name].data is not None for name in ports):
        return lower_model(graph, layouts, allow_float=aim.allow_float)
    try:
        return {step.name: _lower_once(graph, layouts, step) for step in graph.steps}
    except UnsupportedError:
        return lower_model(graph, layouts, allow_float=aim.allow_float)


def _lower_once(graph: Graph, layouts: Layouts, step: Step) -> tuple[Call, ...]:
    if step.op in VIEWS and step.output in layouts.views:
        return ()
    return _LOWERED.get(_key(graph, layouts, step), lambda: lower(Site(graph, step, layouts)))


def _key(graph: Graph, layouts: Layouts, step: Step) -> bytes:
    """All that a step's calls follow from."""
    digest = blake2b(repr(step).encode(), digest_size=20)
    for name in filter(None, (*step.inputs, *step.outputs)):
        tensor, quant = graph.tensors[name], graph.tensors[name].quant
        digest.update(
            repr((tensor.shape, tensor.dtype, tensor.packed, layouts.of.get(name))).encode()
        )
        arrays = [tensor.data] if quant is None else [tensor.data, quant.scale, quant.zero_point]
        for array in arrays:
            digest.update(b"-" if array is None else np.ascontiguousarray(array).tobytes())
        digest.update(b"" if quant is None else repr(quant.axis).encode())
    return digest.digest()
