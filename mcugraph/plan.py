"""One frozen record of all that the emitter needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mcugraph.check import check_memory
from mcugraph.ctext import C_TYPES
from mcugraph.errors import UnsupportedError
from mcugraph.graph import Graph, Step
from mcugraph.layout import VIEWS, Layouts, layouts_of
from mcugraph.lower import LOWERINGS, lower
from mcugraph.lower.call import Call, Site
from mcugraph.memory import Buffer, MemoryPlan, plan_memory
from mcugraph.schedule import Schedule, file_order, lifetimes, live_bytes
from mcugraph.targets import Target

# Scratch, which may hold pointers, and buffers of wider types start at a multiple of this.
WORD = 8


@dataclass(frozen=True)
class Plan:
    """A graph, its schedule, its memory and the kernel calls of every step, for one target."""

    name: str
    graph: Graph
    layouts: Layouts
    schedule: Schedule
    calls: Mapping[str, tuple[Call, ...]]
    memory: MemoryPlan
    live: Mapping[str, int]
    target: Target

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps that compute something, in execution order: a view is no step."""
        ordered = (self.graph.steps[index] for index in self.schedule.order)
        return tuple(step for step in ordered if self.calls[step.name])

    def offset(self, tensor: str) -> int:
        """Where a run-time tensor stands in the arena, in bytes."""
        return self.memory.offsets[self.layouts.root(tensor)]

    def scratch_offset(self, step: Step) -> int:
        """Where a step's scratch stands in the arena, in bytes."""
        return self.memory.offsets[_scratch_name(step)]

    def scratch(self, step: Step) -> int:
        """Bytes of working memory that a step needs."""
        return max((call.scratch for call in self.calls[step.name]), default=0)

    @property
    def kernels(self) -> tuple[str, ...]:
        """The names of the kernels used, sorted."""
        return tuple(sorted({call.kernel for step in self.steps for call in self.calls[step.name]}))

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one inference."""
        return sum(call.macs for calls in self.calls.values() for call in calls)


def make_plan(graph: Graph, target: Target, name: str, *, allow_float: bool = False) -> Plan:
    """Lower, schedule and place a graph.

    Raises UnsupportedError that lists every step that no kernel computes, and every float step
    unless they are allowed.
    """
    layouts = layouts_of(graph)
    calls = _lower_all(graph, layouts, allow_float)
    schedule = file_order(graph, layouts)
    spans = lifetimes(graph, layouts, schedule.order)
    buffers = [
        Buffer(name, graph.tensors[name].bytes, span.first, span.last, _align(graph, name))
        for name, span in spans.items()
    ]
    memory = plan_memory([*buffers, *_scratch_buffers(graph, schedule, calls)])
    memory = replace(memory, arena=-(-memory.arena // WORD) * WORD)
    check_memory(memory)
    at = live_bytes(graph, layouts, spans)
    live = {graph.steps[index].name: at[place] for place, index in enumerate(schedule.order)}
    return Plan(name, graph, layouts, schedule, calls, memory, live, target)


def _lower_all(graph: Graph, layouts: Layouts, allow_float: bool) -> dict[str, tuple[Call, ...]]:
    calls: dict[str, tuple[Call, ...]] = {}
    problems = [*_port_problems(graph), *([] if allow_float else _float_steps(graph))]
    for step in graph.steps:
        if step.op in VIEWS and step.output in layouts.views:
            calls[step.name] = ()
            continue
        try:
            calls[step.name] = lower(Site(graph, step, layouts))
        except UnsupportedError as error:
            problems += error.problems
    if any(step.op not in LOWERINGS and step.name not in calls for step in graph.steps):
        problems.append(f"there are kernels for: {', '.join(sorted(LOWERINGS))}")
    if problems:
        raise UnsupportedError(problems)
    return calls


def _port_problems(graph: Graph) -> Iterator[str]:
    """Inputs and outputs that have no type in C, and outputs that nothing computes."""
    for name in dict.fromkeys((*graph.inputs, *graph.outputs)):
        tensor, onnx_name = graph.tensors[name], graph.interface[name]
        if tensor.data is not None:
            yield f"output {onnx_name} is a constant; leave it out of the model's outputs"
        elif tensor.dtype not in C_TYPES:
            yield f"{onnx_name} is {tensor.dtype}; {', '.join(C_TYPES)} are allowed"


def _float_steps(graph: Graph) -> list[str]:
    floats = [s for s in graph.steps if any(_is_float(graph, n) for n in (*s.inputs, *s.outputs))]
    if not floats:
        return []
    count = "1 step computes" if len(floats) == 1 else f"{len(floats)} steps compute"
    names = ", ".join(f"{step.name} ({step.op})" for step in floats)
    return [
        f"{count} in float32; quantise the model to int8 "
        f"(onnxruntime.quantization.quantize_static), or pass --allow-float: {names}"
    ]


def _is_float(graph: Graph, name: str) -> bool:
    return (
        bool(name) and graph.tensors[name].dtype == "float32" and graph.tensors[name].data is None
    )


def _align(graph: Graph, name: str) -> int:
    return WORD if np.dtype(graph.tensors[name].dtype).itemsize > 1 else 1


def _scratch_buffers(
    graph: Graph, schedule: Schedule, calls: Mapping[str, Sequence[Call]]
) -> list[Buffer]:
    buffers = []
    for place, index in enumerate(schedule.order):
        step = graph.steps[index]
        size = max((call.scratch for call in calls[step.name]), default=0)
        if size:
            buffers.append(Buffer(_scratch_name(step), size, place, place, WORD))
    return buffers


def _scratch_name(step: Step) -> str:
    return f"{step.name} (scratch)"
