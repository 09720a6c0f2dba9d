"""The figures of a compiled model: one record, as JSON, as a verdict line, as a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import ceil

import numpy as np

from mcugraph.budget import Budget, kilobytes
from mcugraph.exit_report import ExitReport, exit_report
from mcugraph.graph import Step
from mcugraph.lower.call import Call
from mcugraph.memory import MemoryPlan
from mcugraph.plan import Plan, Section
from mcugraph.repeat import Recomputed
from mcugraph.tensor_entry import tensor_entry

SCHEMA_VERSION = 1
# Struct members that hold what was trained; every other constant is a table that we made.
WEIGHTS = frozenset({"bias", "weights"})
# A struct member is a 32-bit number or pointer on every target.
MEMBER = 4


@dataclass(frozen=True)
class Cost:
    """What one step, or the whole run, costs on the emulated core; cycles where a model exists."""

    instructions: int
    cycles: int | None
    loads: int = 0
    stores: int = 0
    multiplies: int = 0


@dataclass(frozen=True)
class Measurement:
    """What the linked firmware showed: bytes of code, deepest stack, cost of run and steps.

    `left` is the cost of a run that ends at the early exit.
    """

    code: int
    stack: int
    total: Cost
    steps: tuple[Cost, ...]
    compiler: str
    left: Cost | None = None


@dataclass(frozen=True)
class Ram:
    """Bytes; without a measurement, the stack is what the target reserves."""

    arena: int
    arena_lower_bound: int
    stack: int
    stack_measured: bool
    total: int


@dataclass(frozen=True)
class Flash:
    """Bytes; `code` is None where the firmware was not linked."""

    weights: int
    tables: int
    code: int | None
    total: int


@dataclass(frozen=True)
class StepReport:
    """One step: sizes in bytes, cost where it was measured."""

    name: str
    op: str
    kernel: str
    inputs: tuple[str, ...]
    output: str
    outputs: tuple[str, ...]
    macs: int
    live_bytes: int
    scratch: int
    weights: int
    instructions: int | None
    cycles: int | None


@dataclass(frozen=True)
class SectionReport:
    """Steps that run together: the step of every row in turn, or one step as a whole."""

    steps: tuple[int, ...]
    rows: tuple[int, ...]
    turns: tuple[int, ...]
    upwards: bool
    peak: int


@dataclass(frozen=True)
class Report:
    """All figures of one compiled model on one target.

    `order` and `placement` say how good they are; `recomputed` is None where no step runs twice,
    `exit` where no run ends early; all other figures are those of the whole network. `int8` is the
    percentage of integer steps; `inputs` and `outputs` map to ONNX names.
    """

    schema_version: int
    model: str
    target: str
    verdict: str
    fits: bool
    order: str
    placement: str
    recomputed: Recomputed | None
    ram: Ram
    flash: Flash
    macs: int
    instructions: int | None
    cycles: int | None
    int8: float
    compiler: str | None
    pushed: bool
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    steps: tuple[StepReport, ...]
    sections: tuple[SectionReport, ...]
    tensors: Mapping[str, Mapping[str, object]]
    exit: ExitReport | None = None

    def as_json(self) -> dict[str, object]:
        """Plain values for json.dumps."""
        return asdict(self)


def make_report(plan: Plan, measured: Measurement | None, budget: Budget) -> Report:
    """Gather the figures and judge them against the budget."""
    stack = measured.stack if measured else plan.target.stack
    ram = Ram(
        plan.memory.arena,
        plan.memory.lower_bound,
        stack,
        measured is not None,
        plan.memory.arena + stack,
    )
    flash = _flash(plan, measured)
    steps = tuple(_step(plan, index, measured) for index in range(len(plan.steps)))
    integer = _integer_share(plan)
    over = budget.exceeded(ram=ram.total, flash=flash.total, stack=stack)
    return Report(
        schema_version=SCHEMA_VERSION,
        model=plan.name,
        target=plan.target.name,
        verdict=_verdict(plan, budget, ram, flash, integer),
        fits=not over,
        order=plan.schedule.verdict,
        placement=_placement(plan.memory),
        recomputed=plan.recomputed,
        ram=ram,
        flash=flash,
        macs=plan.macs,
        instructions=measured.total.instructions if measured else None,
        cycles=measured.total.cycles if measured else None,
        int8=integer,
        compiler=measured.compiler if measured else None,
        pushed=plan.progress is not None,
        inputs={name: plan.graph.interface[name] for name in plan.graph.inputs},
        outputs={name: plan.graph.interface[name] for name in plan.graph.outputs},
        steps=steps,
        sections=tuple(_section(plan, section) for section in plan.sections),
        tensors={name: tensor_entry(plan, name) for name in plan.layouts.of},
        exit=exit_report(plan, *_left(measured)),
    )


def _left(measured: Measurement | None) -> tuple[int | None, int | None]:
    """Instructions and cycles of a run that ends at the early exit."""
    left = measured.left if measured else None
    return (None, None) if left is None else (left.instructions, left.cycles)


def _placement(memory: MemoryPlan) -> str:
    """How good the offsets are, for the chosen order and rings."""
    if memory.proved:
        return "optimal (proved)"
    percent = ceil(1000 * (memory.arena - memory.lower_bound) / memory.lower_bound) / 10
    return f"at most {percent} % above the lower bound"


def flash_constants(plan: Plan) -> tuple[int, int]:
    """Bytes of weights and of tables (parameters included) on a 32-bit target."""
    calls = [call for step in plan.steps for call in plan.calls[step.name]]
    arrays = {
        (str(value.dtype), value.tobytes()): key
        for call in reversed(calls)
        for key, value in call.fields.items()
        if isinstance(value, np.ndarray)
    }
    weights = sum(len(data) for (_, data), key in arrays.items() if key in WEIGHTS)
    tables = sum(len(data) for (_, data), key in arrays.items() if key not in WEIGHTS)
    turns = sum(section.turns.nbytes for section in plan.sections)
    return weights, tables + turns + MEMBER * sum(len(call.fields) for call in calls)


def _flash(plan: Plan, measured: Measurement | None) -> Flash:
    weights, tables = flash_constants(plan)
    code = measured.code if measured else None
    return Flash(weights, tables, code, weights + tables + (code or 0))


def _step(plan: Plan, index: int, measured: Measurement | None) -> StepReport:
    step = plan.steps[index]
    calls = plan.calls[step.name]
    cost = measured.steps[index] if measured else None
    return StepReport(
        name=step.name,
        op=step.op,
        kernel=" ".join(dict.fromkeys(call.kernel for call in calls)),
        inputs=plan.layouts.reads(plan.graph, step),
        output=step.output,
        outputs=tuple(name for name in step.outputs if name),
        macs=sum(call.macs for call in calls),
        live_bytes=plan.peak(step),
        scratch=plan.scratch(step),
        weights=sum(_weights(call) for call in calls),
        instructions=cost.instructions if cost else None,
        cycles=cost.cycles if cost else None,
    )


def _section(plan: Plan, section: Section) -> SectionReport:
    first = plan.steps.index(section.steps[0]) if section.steps else 0
    numbers = tuple(range(first, first + len(section.steps)))
    rows = tuple(plan.calls[step.name][0].rows for step in section.steps)
    turns = tuple(first + event for event in section.events)
    return SectionReport(numbers, rows, turns, section.upwards, section.peak)


def _weights(call: Call) -> int:
    arrays = (v for k, v in call.fields.items() if k in WEIGHTS and isinstance(v, np.ndarray))
    return sum(array.nbytes for array in arrays)


def _integer_share(plan: Plan) -> float:
    integer = [step for step in plan.steps if not _computes_float(plan, step)]
    return 100 * len(integer) / max(len(plan.steps), 1)


def _computes_float(plan: Plan, step: Step) -> bool:
    names = [n for n in (*plan.graph.activations(step), *step.outputs) if n]
    return any(plan.graph.tensors[name].dtype == "float32" for name in names)


def _verdict(plan: Plan, budget: Budget, ram: Ram, flash: Flash, integer: float) -> str:
    over = budget.exceeded(ram=ram.total, flash=flash.total, stack=ram.stack)
    head = "FITS" if not over else "DOES NOT FIT"
    peak = max(plan.sections, key=lambda section: section.peak, default=None)
    where = f" (peak at {peak.title})" if peak else ""
    code = "" if flash.code is not None else " without code"
    reserved = "" if ram.stack_measured else " reserved, not measured"
    share = int(integer) if integer < 100 else 100
    return (
        f"{head} {plan.target.name}: RAM {_of(ram.total, budget.ram)}{where}, "
        f"flash {_of(flash.total, budget.flash)}{code}, "
        f"stack {_of(ram.stack, budget.stack)}{reserved}, {share}% int8"
    )


def _of(used: int, limit: int | None) -> str:
    if limit is None:
        return f"{used} B" if used < 1024 else f"{kilobytes(used)} KB"
    amounts = kilobytes(used), kilobytes(limit)
    exact = limit < 1024 or amounts[0] == amounts[1]
    return f"{used}/{limit} B" if exact else f"{amounts[0]}/{amounts[1]} KB"
