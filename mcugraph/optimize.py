"""The pipeline, in the order in which it happens."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import onnx

from mcugraph import passes
from mcugraph.artifact import Artifact
from mcugraph.bind import unresolved
from mcugraph.budget import Budget
from mcugraph.ctext import C_HEADERS, identifier
from mcugraph.decision import Decision
from mcugraph.efforts import improver
from mcugraph.emit import emit
from mcugraph.errors import LoadError
from mcugraph.load import load, load_model
from mcugraph.measure import can_measure, measure
from mcugraph.plan import Aim, Plan, make_plan
from mcugraph.read import read_graph
from mcugraph.recompute import recompute
from mcugraph.repeat import repeat_model
from mcugraph.report import make_report
from mcugraph.targets import FOLDER, Target
from mcugraph.targets import load as load_target

# What is minimised: memory at any price, memory as far as the budget asks, or cycles.
OBJECTIVES = ("ram", "balanced", "cycles")
UNLIMITED = 1 << 62
# How the input comes: written into the arena as a whole, or pushed row by row.
INPUTS = ("whole", "rows")


@dataclass(frozen=True)
class Settings:
    """What the user asked for, beside the model and the target.

    `recompute` is the work that may be done, as a multiple of the least, where it saves memory.
    """

    name: str | None = None
    dims: Mapping[str, int] = field(default_factory=dict)
    budget: str | None = None
    allow_float: bool = False
    compiler: str = "zig"
    objective: str = "ram"
    input: str = "whole"
    recompute: float = 1.0
    placement: str = "quick"
    decision: Decision | str | Path | None = None


def optimize(
    model: str | Path | onnx.ModelProto,
    target: str | Target,
    settings: Settings | None = None,
    progress: Callable[[str], None] = lambda stage: None,
) -> Artifact:
    """Compile a model for a target: files and figures; nothing is written yet.

    Raises LoadError (the model), UnsupportedError (its steps) or ValueError (settings, target).
    """
    settings = settings or Settings()
    machine = target if isinstance(target, Target) else load_target(target)
    budget = Budget.of(machine, settings.budget)
    name = model_name(model, settings)
    progress("loading")
    own = loaded(model, settings)
    progress("rewriting the graph")
    rewritten = rewrite(own)
    progress("planning memory")
    aim = aim_of(settings, machine, budget)
    plan = make_plan(read_graph(rewritten), machine, name, aim)
    if settings.recompute != 1:
        progress("looking for what to compute again")
        plan, copies = recompute(plan, aim, settings.recompute)
        rewritten = repeat_model(rewritten, plan.graph, copies) if copies else rewritten
    progress("writing C")
    texts = emit(plan)
    progress("compiling and emulating")
    measured = measure(plan, texts, settings.compiler) if can_measure(machine) else None
    files = {file: text.encode() for file, text in texts.items()}
    files[f"{name}.optimized.onnx"] = _annotated(rewritten, plan)
    return Artifact(files, make_report(plan, measured, budget))


def rewrite(
    model: onnx.ModelProto, pipeline: Sequence[passes.Pass] = passes.CLEANUP
) -> onnx.ModelProto:
    """Apply the default passes; LoadError where a tensor has no static shape after them."""
    for apply in pipeline:
        model = apply(model)
    if problems := unresolved(model):
        raise LoadError(problems)
    return model


def aim_of(settings: Settings, machine: Target, budget: Budget) -> Aim:
    """How far streaming has to go: as far as it can, or as far as the budget asks."""
    if settings.objective not in OBJECTIVES:
        raise ValueError(f"--optimize {settings.objective}: there are {', '.join(OBJECTIVES)}")
    if settings.input not in INPUTS:
        raise ValueError(f"--input {settings.input}: there are {', '.join(INPUTS)}")
    room = None if budget.ram is None else max(budget.ram - machine.stack, 0)
    enough = {"ram": 0, "balanced": room or 0, "cycles": UNLIMITED if room is None else room}
    pushed, improve = settings.input == "rows", improver(settings.placement)
    return Aim(settings.allow_float, enough[settings.objective], pushed, improve)


def loaded(model: str | Path | onnx.ModelProto, settings: Settings) -> onnx.ModelProto:
    """The clean model with the sizes that the user gave, pruned as the user decided."""
    if isinstance(model, onnx.ModelProto):
        own = load_model(model, settings.dims)
    else:
        own = load(model, settings.dims)
    if settings.decision is None:
        return own
    decision = settings.decision
    chosen = decision if isinstance(decision, Decision) else Decision.load(decision)
    return chosen.apply(foldable(own))


def foldable(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same in the form that pruning takes: QDQ, with sizes as constants."""
    return passes.fold_constants(passes.qoperator_to_qdq(model))


def model_name(model: str | Path | onnx.ModelProto, settings: Settings) -> str:
    """The prefix of files and C names: what the user said, else from the file or the graph."""
    if settings.name is not None:
        if identifier(settings.name) != settings.name:
            raise ValueError(f"the name '{settings.name}' is no C identifier")
        if _is_taken(settings.name):
            raise ValueError(f"the name '{settings.name}' is that of another C file; choose one")
        return settings.name
    given = model.graph.name if isinstance(model, onnx.ModelProto) else Path(model).stem
    name = identifier(given)
    return f"m_{name}" if _is_taken(name) else name


def _is_taken(name: str) -> bool:
    """Whether NAME.c or NAME.h would be a kernel's, or hide a header of the C library."""
    kernels = {path.stem for path in (FOLDER / "kernels").rglob("*.[ch]")}
    return name.lower() in {"mcu", *C_HEADERS, *kernels}


def _annotated(model: onnx.ModelProto, plan: Plan) -> bytes:
    """The rewritten model with the order of its steps and the offsets of its tensors."""
    annotated = onnx.ModelProto()
    annotated.CopyFrom(model)
    placed = [name for name in plan.layouts.of if plan.place(name) in plan.memory.offsets]
    facts = {
        "order": [step.name for step in plan.steps],
        "offsets": {name: plan.offset(name) for name in placed},
        "arena": plan.memory.arena,
        "target": plan.target.name,
    }
    for key, value in facts.items():
        annotated.metadata_props.add(key=f"mcugraph.{key}", value=json.dumps(value))
    content: bytes = annotated.SerializeToString(deterministic=True)
    return content
