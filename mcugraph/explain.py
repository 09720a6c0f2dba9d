"""Why a model needs its arena: the peak, what each technique brought, what would lower it next.

Every figure is that of a real plan.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import onnx

from mcugraph.arrange import WORD as ALIGN
from mcugraph.arrange import scratch_name, state_name
from mcugraph.budget import Budget
from mcugraph.memory import Buffer, MemoryPlan, plan_memory
from mcugraph.optimize import UNLIMITED, Settings, aim_of, loaded, model_name, rewrite
from mcugraph.peak import Part, Peak, peak_of
from mcugraph.plan import WORD, Aim, Plan, make_plan, plan_with
from mcugraph.read import read_graph
from mcugraph.report import make_report
from mcugraph.targets import Target
from mcugraph.targets import load as load_target
from mcugraph.tasks import lives_of, rows_of, tasks_of

SCHEMA_VERSION = 1
ROWS = "--input rows: the input comes row by row and is never in memory as a whole"
WHOLE = "--input whole: the input is in memory as a whole, and no state of the run"
# Names of equally large parts that a hint gives.
SHOWN = 4


@dataclass(frozen=True)
class Technique:
    """The arena with this technique and all that are listed before it."""

    name: str
    arena: int
    lower_bound: int


@dataclass(frozen=True)
class Hint:
    """What would lower the peak; `arena` is None where no plan was made for it."""

    what: str
    arena: int | None


@dataclass(frozen=True)
class Explanation:
    """Where the bytes of one model's arena on one target go, and why."""

    schema_version: int
    model: str
    target: str
    verdict: str
    fits: bool
    pushed: bool
    arena: int
    lower_bound: int
    peak: Peak
    techniques: tuple[Technique, ...]
    next: tuple[Hint, ...]

    def as_json(self) -> dict[str, object]:
        """Plain values for json.dumps."""
        return asdict(self)


def explain(
    model: str | Path | onnx.ModelProto, target: str | Target, settings: Settings | None = None
) -> Explanation:
    """Plan a model with and without each technique; nothing is compiled.

    Raises LoadError (the model), UnsupportedError (its steps) or ValueError (settings, target).
    """
    settings = settings or Settings()
    machine = target if isinstance(target, Target) else load_target(target)
    budget = Budget.of(machine, settings.budget)
    name, aim = model_name(model, settings), aim_of(settings, machine, budget)
    graph = read_graph(rewrite(loaded(model, settings)))
    plan = make_plan(graph, machine, name, aim)
    alone = Aim(aim.allow_float, UNLIMITED)
    apart = make_plan(graph, machine, name, alone)
    copying = plan_with(graph, machine, name, alone, set()) if apart.layouts.parts else apart
    turned = replace(aim, pushed=not aim.pushed)
    other = make_plan(graph, machine, name, turned) if _may_push(plan) else None
    report = make_report(plan, None, budget)
    peak = peak_of(plan)
    return Explanation(
        schema_version=SCHEMA_VERSION,
        model=name,
        target=machine.name,
        verdict=report.verdict,
        fits=report.fits,
        pushed=aim.pushed,
        arena=plan.memory.arena,
        lower_bound=plan.memory.lower_bound,
        peak=peak,
        techniques=tuple(_techniques(copying, apart, plan, other)),
        next=tuple(_hints(plan, peak, other)),
    )


def _may_push(plan: Plan) -> bool:
    """Whether the model has one input, and that has rows."""
    inputs = plan.graph.inputs
    return len(inputs) == 1 and rows_of(plan.layouts, inputs[0]) > 1


def _techniques(copying: Plan, apart: Plan, plan: Plan, other: Plan | None) -> Iterator[Technique]:
    """`copying` and `apart` run step by step, the first with all concatenations copied.

    `plan` and `other` run fused, one of them with a pushed input.
    """
    by_file = _plain(copying, sorted(copying.schedule.order))
    ordered = _plain(copying, copying.schedule.order)
    yield Technique("file order", _whole_words(by_file.arena), by_file.lower_bound)
    yield Technique("best order", _whole_words(ordered.arena), ordered.lower_bound)
    fused = [each for each in (plan, other) if each is not None]
    fused.sort(key=lambda each: each.progress is not None)
    for name, each in zip(("overlap", "streaming", "pushed input"), (apart, *fused), strict=False):
        yield Technique(name, each.memory.arena, each.memory.lower_bound)


def _plain(plan: Plan, order: Sequence[int]) -> MemoryPlan:
    """Every tensor whole, every buffer apart from all others that live at the same time."""
    graph = plan.graph
    buffers = [
        Buffer(name, life.size, life.first, life.last, np.dtype(graph.tensors[name].dtype).itemsize)
        for name, life in lives_of(graph, plan.layouts, order).items()
    ]
    for place, task in enumerate(tasks_of(graph, plan.layouts, plan.calls, order)):
        for name, size in ((scratch_name(place), task.scratch), (state_name(place), task.state)):
            if size:
                buffers.append(Buffer(name, size, place, place, ALIGN))
    return plan_memory(buffers)


def _whole_words(size: int) -> int:
    return -(-size // WORD) * WORD


def _hints(plan: Plan, peak: Peak, other: Plan | None) -> Iterator[Hint]:
    if other is not None and other.memory.arena < plan.memory.arena:
        yield Hint(WHOLE if plan.progress is not None else ROWS, other.memory.arena)
    if len(peak.steps) == 1 and peak.moment is None:
        yield Hint(_alone(peak), None)
    else:
        yield from (Hint(_largest(parts), None) for parts in _candidates(peak, other))
    highest = sorted(plan.sections, key=lambda section: -section.peak)
    for section in highest[1:2]:
        as_much = "as many" if section.peak == highest[0].peak else f"{section.peak:,}"
        yield Hint(f"then comes {section.title}, which needs {as_much} bytes", None)


def _alone(peak: Peak) -> str:
    """What one step needs that no fusion makes smaller."""
    sizes = " + ".join(f"{part.live:,}" for part in peak.buffers if part.kind != "progress")
    shared = f", {peak.overlap:,} of them shared" if peak.overlap else ""
    return f"{peak.steps[0]} runs alone on {sizes} bytes{shared}: smaller tensors there lower it"


def _candidates(peak: Peak, other: Plan | None) -> Iterator[list[Part]]:
    """The largest parts of a fused section, equals together; an input that is pushed is none."""
    tensors = [part for part in peak.buffers if part.shape and part.live]
    if other is not None:
        tensors = [part for part in tensors if part.kind != "input"]
    if tensors:
        yield [part for part in tensors if part.live == tensors[0].live]


def _largest(parts: Sequence[Part]) -> str:
    names = ", ".join(part.name for part in parts[:SHOWN])
    more = f" and {len(parts) - SHOWN} more" if len(parts) > SHOWN else ""
    first, several = parts[0], len(parts) > 1
    rows = f" ({first.rows} x {first.row_bytes:,})" if first.kind == "ring" else ""
    size = f"{'take most,' if several else 'takes'} {first.live:,} bytes{' each' * several}{rows}"
    return f"{names}{more} {size}: smaller tensors there lower it"
