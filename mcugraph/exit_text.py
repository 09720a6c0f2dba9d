"""The early exit in C: functions that run return whether they left there, int in place of void."""

from __future__ import annotations

from collections.abc import Mapping

from mcugraph.ctext import comment, number
from mcugraph.exits import gate_of
from mcugraph.plan import Plan


def result(plan: Plan) -> str:
    """What functions that run return."""
    return "void" if plan.graph.exit is None else "int"


def returned(plan: Plan) -> str:
    """What stands before a call whose result is handed on."""
    return "" if plan.graph.exit is None else "return "


def kept(plan: Plan) -> str:
    """What stands before a call whose result is asked for later."""
    return "" if plan.graph.exit is None else "int left = "


def leave(plan: Plan) -> list[str]:
    """The statements that end the run where a probability is high enough."""
    gate, upper = gate_of(plan.graph), plan.name.upper()
    assert gate is not None, "no exit"
    title = comment(f'early exit "{gate.output}"')
    probabilities = f"(const void *)(a + {plan.offset(gate.tensor.name)})"
    return [
        "",
        f"    {title}",
        f"    if (mcu_{gate.kernel}({probabilities}, {gate.tensor.size}, {upper}_EXIT_AT) != 0) {{",
        f"        {upper}_HOOK({len(plan.steps)});",
        "        return 1;",
        "    }",
    ]


def stay(plan: Plan) -> list[str]:
    """The statement that ends the whole run."""
    return [] if plan.graph.exit is None else ["    return 0;"]


def constants(plan: Plan, function: str) -> list[str]:
    """What NAME.h says about the exit, whose output is read by a function."""
    gate, upper = gate_of(plan.graph), plan.name.upper()
    if gate is None:
        return []
    return [
        comment(f'The early exit: a run ends where "{gate.output}" reaches {gate.threshold:g}.'),
        f"/* It then returns 1, and only {function}() holds a result; 0 after the whole network.",
        f"   Define {upper}_EXIT_AT as another value, or as {upper}_EXIT_NEVER, to change that. */",
        f"#define {upper}_EXIT_NEVER {number(gate.never)}",
        f"#ifndef {upper}_EXIT_AT",
        f"#define {upper}_EXIT_AT {_value(gate.least)}",
        "#endif",
        "",
    ]


def _value(value: float) -> str:
    return f"({number(value)})" if value < 0 else number(value)


def copies(plan: Plan, lines: Mapping[str, str]) -> list[str]:
    """The copies of all outputs; after the exit, only that of its probabilities."""
    if plan.graph.exit is None:
        return [f"    {line}" for line in lines.values()]
    own = plan.graph.exit.tensor
    rest = [f"        {line}" for name, line in lines.items() if name != own]
    head = ["    if (left == 0) {", *rest, "    }"] if rest else []
    return [*head, f"    {lines[own]}", "    return left;"]


def push_note(plan: Plan) -> list[str]:
    """What NAME.h says about pushing."""
    lines = [
        "/* Push the rows of the input one after the other; 1 comes back with the last of them:",
        "   then the output is there, until the next row is pushed. */",
    ]
    if plan.graph.exit is not None:
        lines.append("/* Where the run ended early, 2 comes back instead of 1. */")
    return lines


def push_end(plan: Plan) -> list[str]:
    """What follows the last row."""
    finish = f"{plan.name}_finish(a);"
    if plan.graph.exit is None:
        return [f"    {finish}", "    return 1;"]
    return [f"    return 1 + {finish}"]


def push_all(plan: Plan, loop: str, push: str) -> list[str]:
    """The loop over all rows."""
    if plan.graph.exit is None:
        return [f"    {loop} {{", f"        (void){push};", "    }"]
    return ["    int left = 0;", f"    {loop} {{", f"        left = {push} - 1;", "    }"]
