"""What a network costs on a machine; a float network as if it were int8."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from hashlib import blake2b

import numpy as np
from onnx import ModelProto, TensorProto

from mcugraph.assume import as_int8
from mcugraph.budget import Budget
from mcugraph.draft import Draft, draft
from mcugraph.emit import emit
from mcugraph.graph import Graph, Step
from mcugraph.measure import can_measure, measure
from mcugraph.optimize import Settings, aim_of, loaded, rewrite
from mcugraph.parameters import FLOATS, SETTINGS, parameters_of
from mcugraph.passes import CLEANUP, STRUCTURE
from mcugraph.passes._notes import PACKED
from mcugraph.passes._part import EXIT
from mcugraph.plan import Aim, Plan, make_plan
from mcugraph.read import read_graph
from mcugraph.recall import Recall
from mcugraph.recompute import recompute
from mcugraph.report import WEIGHTS, Measurement, flash_constants
from mcugraph.targets import Target
from mcugraph.targets import load as load_target

NAME = "net"
# Inputs whose float values change no size.
_VALUES = {
    "BatchNormalization": (1, 2, 3, 4),
    "Conv": (1, 2),
    "ConvTranspose": (1, 2),
    "Gemm": (1, 2),
    "MatMul": (0, 1),
}
_COPY = re.compile(r"__\d+$")


@dataclass(frozen=True)
class Cost:
    """Figures of one network; sizes in bytes, None where nothing was measured.

    `parameters` are the trained numbers of the model as given, the four vectors of a batch
    normalisation among them. `ram` is the arena, and with a measurement the `stack` as well;
    `weights` includes tables, `flash` the code too. Cycles are None where the machine has no model
    of them.
    """

    parameters: int
    macs: int
    ram: int
    weights: int
    flash: int | None = None
    stack: int | None = None
    instructions: int | None = None
    cycles: int | None = None


@dataclass(frozen=True)
class LayerCost:
    """One step of the plan; `weight` is its first weight in the model as given, if it has any.

    `parameters` counts weights and bias once batch normalisations are folded; `live` are the bytes
    needed while the step runs (with those that it is fused with), `outputs` those of its results.
    """

    name: str
    op: str
    weight: str | None
    tensor: str
    parameters: int
    macs: int
    weights: int
    live: int
    outputs: int


def cost_of(
    model: ModelProto,
    machine: str | Target,
    *,
    measured: bool = False,
    settings: Settings | None = None,
    placed: bool = True,
) -> Cost:
    """Plan a model and count; with `measured` also compile it and run it on the emulated core.

    Without `placed`, the arena is what it is at least: within some percent, and ten times faster.
    Figures are kept by structure: of models that differ in the values of their weights alone, only
    the first is planned. Raises what `optimize` raises; ValueError where there is no emulator.
    """
    job = _Job.of(model, _target(machine), settings or Settings())
    return _COSTS.get((job.key, measured, placed), lambda: _cost(job, measured, placed))


def layer_costs(
    model: ModelProto, machine: str | Target, settings: Settings | None = None
) -> tuple[LayerCost, ...]:
    """The steps of a model's plan, in the order in which they run."""
    job = _Job.of(model, _target(machine), settings or Settings())
    plan = job.plan()
    known = {tensor.name for tensor in model.graph.initializer}
    return tuple(_layer(plan, step, known) for step in plan.steps)


def step_cycles(
    model: ModelProto, machine: str | Target, settings: Settings | None = None
) -> tuple[tuple[LayerCost, int], ...]:
    """Each step with its cycles on the emulated core; ValueError where they have no model."""
    job = _Job.of(model, _target(machine), settings or Settings())
    cycles = [step.cycles for step in job.measurement().steps]
    if None in cycles:
        raise ValueError(f"{job.target.name} has no model of cycles; limit macs in their place")
    layers = layer_costs(model, machine, settings)
    return tuple((layer, count or 0) for layer, count in zip(layers, cycles, strict=True))


def draft_of(model: ModelProto, machine: str | Target, settings: Settings | None = None) -> Draft:
    """The plan of a model before placement: its peak, and the tensors that are live there."""
    return _Job.of(model, _target(machine), settings or Settings()).draft()


@dataclass(frozen=True)
class _Job:
    """A model to plan for a target; those of one key have one plan."""

    key: tuple[bytes, Target]
    model: ModelProto
    settings: Settings

    @property
    def target(self) -> Target:
        """The machine."""
        return self.key[1]

    @classmethod
    def of(cls, model: ModelProto, target: Target, settings: Settings) -> _Job:
        """The job with the digest of all that its plan follows from."""
        digest = blake2b(repr((settings, sorted(settings.dims.items()))).encode(), digest_size=20)
        for part in _structure(model, set() if settings.allow_float else _free_values(model)):
            digest.update(part)
        return cls((digest.digest(), target), model, settings)

    @property
    def aim(self) -> Aim:
        """What the plan is for."""
        return aim_of(self.settings, self.target, Budget.of(self.target, self.settings.budget))

    def graph(self) -> Graph:
        """The steps, in int8 unless float is allowed."""
        own = loaded(self.model, self.settings)
        if self.settings.allow_float:
            return read_graph(rewrite(own))
        assumed = as_int8(own)
        return read_graph(rewrite(assumed, CLEANUP if assumed is own else STRUCTURE))

    def plan(self) -> Plan:
        """The plan with offsets."""
        return _PLANS.get(self.key, self._planned)

    def _planned(self) -> Plan:
        plan = make_plan(self.graph(), self.target, NAME, self.aim)
        if self.settings.recompute == 1:
            return plan
        return recompute(plan, self.aim, self.settings.recompute)[0]

    def draft(self) -> Draft:
        """The plan without offsets."""
        return draft(self.graph(), self.target, self.aim)

    def measurement(self) -> Measurement:
        """One run on the emulated core."""
        if not can_measure(self.target):
            raise ValueError(f"{self.target.name} can't be emulated here")
        plan, compiler = self.plan(), self.settings.compiler
        return _MEASURED.get(self.key, lambda: measure(plan, emit(plan), compiler))


_COSTS: Recall[Cost] = Recall(4096)
_PLANS: Recall[Plan] = Recall(8)
_MEASURED: Recall[Measurement] = Recall(64)


def _target(machine: str | Target) -> Target:
    return machine if isinstance(machine, Target) else load_target(machine)


def _structure(model: ModelProto, free: set[str]) -> Iterator[bytes]:
    """All of a model but the values of free weights, and the notes of exporters."""
    graph = model.graph
    for value in (*graph.input, *graph.output, *model.opset_import):
        yield value.SerializeToString()
    yield from (e.value.encode() for e in model.metadata_props if e.key in (EXIT, PACKED))
    for tensor in graph.initializer:
        plain = tensor.name in free and tensor.data_type in FLOATS
        yield repr((tensor.name, tuple(tensor.dims))).encode() if plain else _content(tensor)
    for node in graph.node:
        yield repr((node.op_type, node.domain, *node.input, 0, *node.output)).encode()
        yield from (entry.SerializeToString() for entry in node.attribute)
    yield from (function.SerializeToString() for function in model.functions)


def _content(tensor: TensorProto) -> bytes:
    content: bytes = tensor.SerializeToString()
    return content


def _free_values(model: ModelProto) -> set[str]:
    """Constants that only stand where their values change no size."""
    free: set[str] = set()
    bound: set[str] = set()
    for node in model.graph.node:
        slots = _VALUES.get(node.op_type, ())
        for index, name in enumerate(node.input):
            (free if index in slots else bound).add(name)
    return free - bound


def _cost(job: _Job, measured: bool, placed: bool) -> Cost:
    parameters = parameters_of(job.model)
    if not (placed or measured or job.aim.pushed or job.settings.recompute != 1):
        return _counted(parameters, job.draft().plan)
    plan = job.plan()
    cost = _counted(parameters, plan)
    if not measured:
        return cost
    found = job.measurement()
    return replace(
        cost,
        ram=cost.ram + found.stack,
        flash=cost.weights + found.code,
        stack=found.stack,
        instructions=found.total.instructions,
        cycles=found.total.cycles,
    )


def _counted(parameters: int, plan: Plan) -> Cost:
    return Cost(parameters, plan.macs, plan.memory.arena, sum(flash_constants(plan)))


def _layer(plan: Plan, step: Step, known: set[str]) -> LayerCost:
    graph, calls = plan.graph, plan.calls[step.name]
    constants = [
        graph.tensors[name]
        for index, name in enumerate(step.inputs)
        if name and index not in SETTINGS.get(step.op, ())
        if graph.tensors[name].data is not None and graph.tensors[name].dtype != "int64"
    ]
    arrays = (value for call in calls for key, value in call.fields.items() if key in WEIGHTS)
    return LayerCost(
        name=step.name,
        op=step.op,
        weight=_original(constants[0].name, known) if constants else None,
        tensor=tensor_name(step.output),
        parameters=sum(tensor.size for tensor in constants),
        macs=sum(call.macs for call in calls),
        weights=sum(array.nbytes for array in arrays if isinstance(array, np.ndarray)),
        live=plan.peak(step),
        outputs=sum(graph.tensors[name].bytes for name in step.outputs if name),
    )


def _original(name: str, known: set[str]) -> str:
    """The name of a constant before it was quantised or copied, as far as it was known then."""
    plain = _COPY.sub("", name)
    names = (name, plain, plain.removesuffix("_quantized"), name.removesuffix("_quantized"))
    return next((each for each in names if each in known), name)


def tensor_name(name: str) -> str:
    """The name of the float tensor whose integers a tensor of the plan holds."""
    return name.removesuffix("_QuantizeLinear_Output")
