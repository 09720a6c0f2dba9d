"""C for an input that comes row by row: the image never lies in RAM as a whole.

The first section waits for rows: wherever its turns ask for the next row of the input,
NAME_push_row returns, and goes on from there with the next call.
"""

from __future__ import annotations

from mcugraph.ctext import array, comment
from mcugraph.exit_text import push_end
from mcugraph.header import inputs, row_bytes
from mcugraph.plan import Plan
from mcugraph.sections import Define, cases


def push_functions(plan: Plan, define: Define) -> list[str]:
    """The state of a run, NAME_start_at and NAME_push_row_at; NAME_finish runs what follows."""
    return [*_state(plan), *_push(plan, define)]


def _state(plan: Plan) -> list[str]:
    name, section = plan.name, plan.sections[0]
    count = len(section.steps)
    return [
        comment("How far the rows of the input have come, and the next row of each step."),
        f"struct {name}_progress {{",
        "    int32_t turn;",
        f"    int32_t next[{count + 1}];",
        "};",
        "",
        comment(f"Which step computes its next row; {count} waits for the next row of the input."),
        array(f"{name}_turns", section.turns),
        f"static struct {name}_progress *{name}_progress_of(void *arena)",
        "{",
        f"    return (void *)((int8_t *)arena + {plan.progress});",
        "}",
        "",
        f"void {name}_start_at(void *arena)",
        "{",
        f"    static const struct {name}_progress begin = {{0}};",
        f"    *{name}_progress_of(arena) = begin;",
        "}",
        "",
    ]


def _push(plan: Plan, define: Define) -> list[str]:
    name, (port,) = plan.name, inputs(plan)
    count, total = len(plan.sections[0].steps), len(plan.sections[0].events)
    size = row_bytes(plan, port)
    return [
        f"int {name}_push_row_at(void *arena, const {port.c_type} *input)",
        "{",
        "    int8_t *const a = arena;",
        f"    struct {name}_progress *const p = {name}_progress_of(arena);",
        f"    int32_t place = mcu_slot(p->next[{count}], {plan.depth(port.tensor.name)});",
        f"    memcpy(a + {port.offset} + place * {size}, input, {size});",
        f"    p->next[{count}]++;",
        "    p->turn++;",
        f"    while ((p->turn < {total}) && ({name}_turns[p->turn] != {count})) {{",
        *_turn(plan, define),
        "    }",
        f"    if (p->turn < {total}) {{",
        "        return 0;",
        "    }",
        f"    {name}_start_at(arena);",
        *push_end(plan),
        "}",
        "",
    ]


def _turn(plan: Plan, define: Define) -> list[str]:
    section = plan.sections[0]
    if not section.steps:
        return ["        p->turn++;"]
    return [
        f"        int32_t step = {plan.name}_turns[p->turn];",
        "        int32_t row = p->next[step];",
        "        p->next[step]++;",
        "        p->turn++;",
        "        switch (step) {",
        *cases(plan, section, 0, define),
        "        default:",
        "            break;",
        "        }",
    ]


def push_static(plan: Plan) -> list[str]:
    """The function on the static arena."""
    name, (port,) = plan.name, inputs(plan)
    return [
        f"int {name}_push_row(const {port.c_type} *input)",
        "{",
        f"    return {name}_push_row_at(&{name}_arena, input);",
        "}",
        "",
    ]
