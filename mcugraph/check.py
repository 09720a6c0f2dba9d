"""The replay of a plan, before anything is emitted."""

from __future__ import annotations

from collections.abc import Iterator

from mcugraph.graph import Step
from mcugraph.lower.call import Call
from mcugraph.record import Plan, Section
from mcugraph.replay import Event, Join, Placed, Shadow
from mcugraph.tasks import rows_of


def check_plan(plan: Plan) -> None:
    """Replay the plan on a shadow of its arena; AssertionError where it loses a byte."""
    placed = {name: _placed(plan, name) for name in plan.layouts.of}
    shadow = Shadow(plan.memory.arena, placed, _joins(plan))
    if plan.progress is None:
        for name in plan.graph.inputs:
            shadow.fill(name)
    for number, section in enumerate(plan.sections):
        for event in _events(plan, section):
            if isinstance(event, int):
                shadow.push(plan.graph.inputs[0], event)
            else:
                shadow.run(event)
        if number == plan.leaving:
            _check_exit(plan, number, shadow)
    for name in plan.graph.outputs:
        shadow.need(name)


def _check_exit(plan: Plan, number: int, shadow: Shadow) -> None:
    """Whether the exit's probabilities are there, and nothing ran that they do not need."""
    assert plan.graph.exit is not None, "an end without an exit"
    shadow.need(plan.graph.exit.tensor)
    ran = {step.name for section in plan.sections[: number + 1] for step in section.steps}
    needed, pending = set[str](), [plan.graph.exit.tensor]
    while pending:
        step = plan.graph.producers.get(pending.pop())
        if step is not None and step.name not in needed:
            needed.add(step.name)
            pending += step.inputs
    assert ran <= needed, f"{', '.join(sorted(ran - needed))} run before the early exit"


def _placed(plan: Plan, name: str) -> Placed:
    rows, size = rows_of(plan.layouts, name), plan.graph.tensors[name].bytes
    depth = plan.rings.get(plan.place(name), rows)
    part = plan.layouts.part(name)
    pixels = (0, 0) if part is None or not part.step else (part.pixel, part.step)
    holder = plan.layouts.holder(name)
    return Placed(holder, plan.offset(name), rows, size // rows, depth, *pixels)


def _joins(plan: Plan) -> dict[str, Join]:
    """The concatenations as ONNX has them, and which of their operands they copy themselves."""
    joins = {}
    for step in plan.graph.steps:
        if step.op == "Concat":
            layout, axis = plan.layouts.of[step.output], step.attributes.get("axis", 0)
            assert isinstance(axis, int), f"{step.name}: axis {axis!r}"
            shapes = tuple(plan.layouts.of[name].shape for name in step.inputs)
            copied = frozenset(call.inputs[0] for call in plan.calls[step.name])
            place = layout.order.index(axis % len(layout.order))
            joins[step.output] = Join(step.inputs, shapes, place, copied)
    return joins


def _events(plan: Plan, section: Section) -> Iterator[Event | int]:
    """Every call, and the number of each row of the input that is pushed."""
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
