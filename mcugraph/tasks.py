"""Steps in an order as tasks over memory: their rows, their scratch, and who lives how long."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod

from mcugraph.graph import Graph, Step
from mcugraph.group import Life, Task
from mcugraph.layout import Layouts
from mcugraph.lower.call import Call
from mcugraph.lower.reads import ELEMENT_WISE, PIXEL_WISE, depth_names, rows_read
from mcugraph.schedule import lifetimes
from mcugraph.stream import Reads, Stage

Calls = Mapping[str, tuple[Call, ...]]
# Plans are compared for graphs of up to so many steps.
MANY = 128


def tasks_of(graph: Graph, layouts: Layouts, calls: Calls, order: Sequence[int]) -> list[Task]:
    """The tasks of the steps that compute something, in the given order."""
    steps = [graph.steps[index] for index in order]
    return [_task(graph, layouts, step, calls[step.name]) for step in steps]


def variants(tasks: list[Task]) -> list[list[Task]]:
    """What plans are compared for: where a row can be written over either of two others.

    The tasks as they are, all rows over what reaches furthest ahead, all over what does least. Of
    more than MANY tasks, where a comparison takes too long, only the first.
    """
    found = [tasks]
    for sign in (1, -1) if len(tasks) <= MANY else ():
        others = _preferring(tasks, sign)
        if others not in found:
            found.append(others)
    return found


def _preferring(tasks: Sequence[Task], sign: int) -> list[Task]:
    """The same, with the inputs that rows can be written over in the order of their reach."""
    reach: dict[str, int] = {}
    found = []
    for task in tasks:
        stage = task.stage
        if stage is None:
            found.append(task)
            continue
        middle = stage.rows // 2
        ahead = (r.last[middle] - r.first[middle] + reach.get(r.tensor, 0) for r in stage.reads)
        reach[stage.output] = max(ahead, default=0)
        in_place = sorted(stage.in_place, key=lambda name: sign * reach.get(name, 0))
        found.append(replace(task, stage=replace(stage, in_place=tuple(in_place))))
    return found


def lives_of(graph: Graph, layouts: Layouts, order: Sequence[int]) -> dict[str, Life]:
    """Size and life of every tensor that holds bytes; an output outlives all steps."""
    spans = lifetimes(graph, layouts, order)
    kept = {layouts.root(name) for name in graph.outputs}
    return {
        name: Life(graph.tensors[name].bytes, span.first, len(order) if name in kept else span.last)
        for name, span in spans.items()
    }


def _task(graph: Graph, layouts: Layouts, step: Step, calls: Sequence[Call]) -> Task:
    """The task of a step; one that ends in an early exit has no rows, so that no group goes on."""
    inputs = dict.fromkeys(layouts.root(name) for name in layouts.reads(graph, step))
    outputs = tuple(dict.fromkeys(layouts.root(name) for name in step.outputs if name))
    scratch = max((call.scratch for call in calls if not call.gathers), default=0)
    state = sum(call.scratch for call in calls if call.gathers)
    leaves = graph.exit is not None and layouts.root(graph.exit.tensor) in outputs
    stage = None if leaves else _stage(graph, layouts, step, calls)
    parted = any(layouts.part(name) is not None for name in step.outputs if name)
    tight = {} if stage is None or parted else _tight(graph, layouts, calls)
    return Task(tuple(inputs), outputs, scratch, state, stage, tight)


def rows_of(layouts: Layouts, name: str) -> int:
    """The rows of a tensor as its readers see it: a row is the first memory axis after N."""
    shape = layouts.of[name].shape
    return prod(shape[: min(2, len(shape) - 1)]) if len(shape) > 1 else 1


def _stage(graph: Graph, layouts: Layouts, step: Step, calls: Sequence[Call]) -> Stage | None:
    """The step as rows; None where some call needs all rows of an input for one row of output."""
    if len([name for name in step.outputs if name]) != 1:
        return None
    rows = calls[0].rows
    size = graph.tensors[step.output].bytes
    gathers = calls[0].gathers
    if rows < 2 or any(call.rows != rows for call in calls):
        return None
    if not gathers and rows != rows_of(layouts, step.output):
        return None
    reads = []
    for call in calls:
        for index, name in enumerate(call.inputs):
            span, height = rows_read(call, index), rows_of(layouts, name)
            if span is None or call.fields[depth_names(call)[index]] != height:
                return None
            first, last = (tuple(int(row) for row in ends) for ends in span)
            reads.append(Reads(layouts.root(name), height, first, last))
    if len({(r.tensor, r.height) for r in reads}) > len({r.tensor for r in reads}):
        return None
    row_bytes = size if gathers else size // rows
    in_place = tuple(r.tensor for r in reads) if calls[0].kernel in ELEMENT_WISE else ()
    stage = Stage(step.name, layouts.root(step.output), rows, row_bytes, tuple(reads), gathers)
    part = layouts.part(step.output)
    if part is None:
        return replace(stage, in_place=in_place)
    whole = graph.tensors[part.whole].bytes
    return replace(stage, row_bytes=whole // rows) if part.aligned else replace(stage, claims=whole)


def _tight(graph: Graph, layouts: Layouts, calls: Sequence[Call]) -> dict[str, int]:
    """Distances that come of reading an element or a pixel before writing in its place."""
    if len(calls) != 1:
        return {}
    call = calls[0]
    sizes = {name: graph.tensors[name].bytes for name in (*call.inputs, call.output)}
    if call.kernel in ELEMENT_WISE:
        same = [name for name in call.inputs if sizes[name] == sizes[call.output]]
        return {layouts.root(name): 0 for name in same}
    if call.kernel not in PIXEL_WISE or call.fields["stride_height"] != 1:
        return {}
    pixels = call.rows * int(_field(call, "y_width"))
    source, target = sizes[call.inputs[0]] // pixels, sizes[call.output] // pixels
    if source * pixels != sizes[call.inputs[0]]:
        return {}
    return {layouts.root(call.inputs[0]): target + max(0, (pixels - 1) * (target - source))}


def _field(call: Call, name: str) -> int:
    value = call.fields[name]
    assert isinstance(value, int), f"{call.kernel}.{name} is {value!r}"
    return value


def with_source(
    graph: Graph, layouts: Layouts, tasks: list[Task], lives: dict[str, Life]
) -> tuple[list[Task], dict[str, Life]]:
    """The same with a first task that takes in the rows of the only input.

    Raises ValueError where there are several inputs, or no rows.
    """
    if len(graph.inputs) != 1:
        raise ValueError(f"--input rows: the model has {len(graph.inputs)} inputs, not one")
    (name,) = graph.inputs
    rows, size = rows_of(layouts, name), graph.tensors[name].bytes
    if rows < 2:
        raise ValueError(f"--input rows: {graph.interface[name]} is one row of {size} bytes")
    stage = Stage("(input)", name, rows, size // rows, ())
    later = {
        n: Life(life.size, life.first + (n != name), life.last + 1) for n, life in lives.items()
    }
    return [Task((), (name,), 0, 0, stage, {}), *tasks], later
