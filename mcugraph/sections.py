"""The sections of a plan as C: plain calls, loops upwards, and rows of fused steps by turns."""

from __future__ import annotations

from collections.abc import Callable

from mcugraph.ctext import array, comment
from mcugraph.exit_text import leave, stay
from mcugraph.graph import Step
from mcugraph.lower.call import Call
from mcugraph.plan import Plan, Section

# Defines the parameters of a call and gives their name.
Define = Callable[[Step, Call], str]


def section_calls(plan: Plan, define: Define) -> tuple[list[str], list[str]]:
    """(definitions, statements): what stands before the function that runs, and its body.

    The first section of a pushed input is not among them.
    """
    definitions: list[str] = []
    body: list[str] = []
    first = 0
    for number, section in enumerate(plan.sections):
        if number == 0 and plan.progress is not None:
            first += len(section.steps)
            continue
        if section.events:
            definitions += _fused(plan, section, first, number, define)
            body += ["", f"    {_group_name(plan, number)}(a);"]
        else:
            body += ["", *_alone(plan, section, first, define)]
        if number == plan.leaving:
            body += leave(plan)
        first += len(section.steps)
    return definitions, [*body, "", f"    {plan.name.upper()}_HOOK({first});", *stay(plan)]


def _alone(plan: Plan, section: Section, number: int, define: Define) -> list[str]:
    (step,) = section.steps
    calls = plan.calls[step.name]
    lines = [f"    {plan.name.upper()}_HOOK({number});", f"    {_note(plan, step)}"]
    if not plan.row_by_row(section):
        return lines + [f"    {_call(plan, step, c, define, f'0, {c.rows}')}" for c in calls]
    rows = calls[0].rows
    loop = f"row = {rows}; row > 0; row--" if section.upwards else f"row = 1; row <= {rows}; row++"
    body = [f"        {c}" for c in _calls(plan, step, define, "row - 1", "row")]
    return [*lines, f"    for (int32_t {loop}) {{", *body, "    }"]


def _fused(plan: Plan, section: Section, first: int, number: int, define: Define) -> list[str]:
    """The function of a group: which step computes its next row stands in a table."""
    rows = [plan.calls[step.name][0].rows for step in section.steps]
    table = f"{_group_name(plan, number)}_steps"
    start = ", ".join(str(n) if section.upwards else "0" for n in rows)
    row = "--next[step]" if section.upwards else "next[step]++"
    return [
        comment(f"{len(rows)} steps by turns, one row at a time, their tensors in rings"),
        array(table, section.turns),
        f"static void {_group_name(plan, number)}(int8_t *a)",
        "{",
        f"    int32_t next[{len(rows)}] = {{{start}}};",
        f"    for (int32_t turn = 0; turn < {len(section.events)}; turn++) {{",
        f"        int32_t step = {table}[turn];",
        f"        int32_t row = {row};",
        "        switch (step) {",
        *cases(plan, section, first, define),
        "        default:",
        "            break;",
        "        }",
        "    }",
        "}",
        "",
    ]


def cases(plan: Plan, section: Section, first: int, define: Define) -> list[str]:
    """The branch of each step of a fused section, for its row `row`."""
    return [
        line
        for index, step in enumerate(section.steps)
        for line in _case(plan, step, (index, first + index), define)
    ]


def _case(plan: Plan, step: Step, numbers: tuple[int, int], define: Define) -> list[str]:
    calls = _calls(plan, step, define, "row", "row + 1")
    return [
        f"        case {numbers[0]}: {_note(plan, step)}",
        f"            {plan.name.upper()}_HOOK({numbers[1]});",
        *(f"            {call}" for call in calls),
        "            break;",
    ]


def _group_name(plan: Plan, number: int) -> str:
    return f"{plan.name}_group_{number}"


def _note(plan: Plan, step: Step) -> str:
    shape = "".join(f"[{n}]" for n in plan.layouts.of[step.output].shape)
    dtype = plan.graph.tensors[step.output].dtype
    place = plan.place(step.output)
    ring = f", {plan.rings[place]} rows of it" if place in plan.rings else ""
    part = plan.layouts.part(step.output)
    inside = "" if part is None else f" in {part.whole}"
    where = f"{plan.offset(step.output)}{inside}{ring}"
    return comment(f"{step.op} {step.name}: {dtype}{shape} at {where}")


def _calls(plan: Plan, step: Step, define: Define, begin: str, end: str) -> list[str]:
    return [_call(plan, step, call, define, f"{begin}, {end}") for call in plan.calls[step.name]]


def _call(plan: Plan, step: Step, call: Call, define: Define, rows: str) -> str:
    places = [plan.offset(tensor) for tensor in (*call.inputs, call.output)]
    if call.scratch:
        places.append(plan.scratch_offset(step))
    pointers = ", ".join(f"(void *)(a + {place})" for place in places)
    return f"mcu_{call.kernel}(&{define(step, call)}, {pointers}, {rows});"
