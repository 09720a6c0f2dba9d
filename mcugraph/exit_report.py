"""The early exit as the report has it: when a run ends there, and what it costs then."""

from __future__ import annotations

from dataclasses import dataclass

from mcugraph.exits import gate_of
from mcugraph.plan import Plan


@dataclass(frozen=True)
class ExitReport:
    """An early exit: a run ends after `steps` steps where a value of `output` reaches `threshold`.

    In the C, that is the value `least`; instructions and cycles are those of such a run.
    """

    output: str
    threshold: float
    least: float
    steps: int
    macs: int
    instructions: int | None
    cycles: int | None


def exit_report(plan: Plan, instructions: int | None, cycles: int | None) -> ExitReport | None:
    """The figures of a plan's early exit; None where it has none."""
    gate = gate_of(plan.graph)
    if gate is None:
        return None
    early = [step.name for step in plan.steps if step.name in plan.graph.before_exit]
    return ExitReport(
        output=gate.output,
        threshold=gate.threshold,
        least=gate.least,
        steps=len(early),
        macs=sum(call.macs for name in early for call in plan.calls[name]),
        instructions=instructions,
        cycles=cycles,
    )
