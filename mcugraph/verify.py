"""The emitted C against onnxruntime: each step on the oracle's own inputs, and the whole model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mcugraph.execute import Executor, Watch
from mcugraph.layout import Layout
from mcugraph.oracle import Array

# An integer step may differ by one in this share of its elements: ties in the last bit of float32.
INTEGER_SHARE = 1e-5
# How far above its expectation a count may be by chance, in standard deviations.
CHANCE = 3
FLOAT_TOLERANCE = 1e-4
# Ties grow with depth, so whole models are held to a share of differing outputs, not to none.
MODEL_SHARE = 0.05


@dataclass(frozen=True)
class Place:
    """Where a tensor stands in the arena and how its memory maps to its ONNX shape."""

    offset: int
    bytes: int
    dtype: str
    shape: tuple[int, ...]
    layout: Layout

    @classmethod
    def of(cls, entry: Mapping[str, object]) -> Place:
        """Read a tensor's entry of a report; KeyError, TypeError or AssertionError if damaged."""
        values = {key: entry[key] for key in ("shape", "memory_dims", "memory_order")}
        shape, dims, order = (tuple(v) for v in values.values() if isinstance(v, list))
        offset, size = entry["offset"], entry["bytes"]
        assert isinstance(offset, int), f"no offset: {entry}"
        assert isinstance(size, int), f"no size: {entry}"
        dtype = np.dtype(str(entry["dtype"]))
        assert offset >= 0, f"a negative offset: {entry}"
        assert size == prod(shape) * dtype.itemsize, f"size and shape differ: {entry}"
        assert prod(dims) == prod(shape), f"shape and memory differ: {entry}"
        assert sorted(order) == list(range(len(dims))), f"no order of axes: {entry}"
        return cls(offset, size, dtype.name, shape, Layout(dims, order))

    def get(self, executor: Executor) -> Array:
        """The tensor, in its ONNX shape."""
        flat = np.frombuffer(executor.read(self.offset, self.bytes), self.dtype)
        return self.layout.from_memory(flat, self.shape)

    def put(self, executor: Executor, values: Array) -> None:
        """Write the tensor."""
        executor.write(self.offset, self.layout.to_memory(values).tobytes())


@dataclass
class Difference:
    """How far one tensor is from the oracle's, over all samples."""

    name: str
    integer: bool
    elements: int = 0
    differing: int = 0
    largest: float = 0.0

    def add(self, ours: Array, theirs: Array) -> None:
        """Count one more sample."""
        distance = _distance(ours, theirs)
        self.elements += distance.size
        self.differing += int(np.count_nonzero(distance))
        self.largest = max(self.largest, float(distance.max(initial=0)))

    @property
    def ok(self) -> bool:
        """Whether a step is as good as promised."""
        if not self.integer:
            return self.differing == 0
        expected = INTEGER_SHARE * self.elements
        allowed = 1 + expected + CHANCE * expected**0.5
        return self.differing <= allowed and self.largest <= 1

    @property
    def ok_end_to_end(self) -> bool:
        """Whether a whole model is as good as promised."""
        return self.differing <= max(1, int(MODEL_SHARE * self.elements))


@dataclass(frozen=True)
class StepPlaces:
    """The run-time tensors that one step reads and writes."""

    name: str
    inputs: Mapping[str, Place]
    outputs: Mapping[str, Place]


@dataclass(frozen=True)
class Subject:
    """A compiled model under test: its steps, and its inputs and outputs by their ONNX names."""

    steps: tuple[StepPlaces, ...]
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    places: Mapping[str, Place]

    @classmethod
    def of(cls, report: Mapping[str, Any]) -> Subject:
        """Read the report of a compiled folder."""
        tensors = report["tensors"]
        places = {name: Place.of(t) for name, t in tensors.items() if t["offset"] is not None}
        steps = tuple(
            StepPlaces(
                step["name"],
                {name: places[name] for name in step["inputs"]},
                {name: places[name] for name in step["outputs"]},
            )
            for step in report["steps"]
        )
        return cls(steps, report["inputs"], report["outputs"], places)

    @property
    def tensors(self) -> list[str]:
        """The tensors that the oracle must show: inputs of the C, and all outputs of steps."""
        used = (n for step in self.steps for n in (*step.inputs, *step.outputs))
        return list(dict.fromkeys([*self.inputs, *used, *self.outputs]))


def compare_steps(
    subject: Subject, executor: Executor, truths: Iterable[Mapping[str, Array]]
) -> list[Difference]:
    """Run each step on the oracle's own inputs and compare what it writes."""
    found = {
        name: Difference(step.name, np.dtype(place.dtype).kind != "f")
        for step in subject.steps
        for name, place in step.outputs.items()
    }
    for truth in truths:

        def watch(index: int, truth: Mapping[str, Array] = truth) -> None:
            if index > 0:
                for name, place in subject.steps[index - 1].outputs.items():
                    found[name].add(place.get(executor), truth[name])
            if index < len(subject.steps):
                for name, place in subject.steps[index].inputs.items():
                    place.put(executor, truth[name])

        executor.run(watch)
    return list(found.values())


def run_model(
    subject: Subject, executor: Executor, truth: Mapping[str, Array], watch: Watch | None = None
) -> dict[str, Array]:
    """The model's outputs by their ONNX names, from the inputs that the oracle quantised."""
    for name in subject.inputs:
        subject.places[name].put(executor, truth[name])
    executor.run(watch)
    return {onnx: subject.places[name].get(executor) for name, onnx in subject.outputs.items()}


@dataclass(frozen=True)
class Divergence:
    """The first step whose result differs when the C runs by itself."""

    step: str
    tensor: str
    ours: Array
    theirs: Array


def bisect(
    subject: Subject, executor: Executor, truths: Iterable[Mapping[str, Array]]
) -> Divergence | None:
    """Run the C by itself on each sample until some step's result differs from the oracle's."""
    for truth in truths:
        found: list[Divergence] = []

        def watch(
            index: int, truth: Mapping[str, Array] = truth, found: list[Divergence] = found
        ) -> None:
            if index == 0 or found:
                return
            step = subject.steps[index - 1]
            for name, place in step.outputs.items():
                ours = place.get(executor)
                if _distance(ours, truth[name]).any():
                    found.append(Divergence(step.name, name, ours, truth[name]))

        run_model(subject, executor, truth, watch)
        if found:
            return found[0]
    return None


def _distance(ours: Array, theirs: Array) -> NDArray[np.float64]:
    """Element-wise difference; between floats, zero where it is within the tolerance."""
    a, b = ours.astype(np.float64), theirs.astype(np.float64)
    with np.errstate(invalid="ignore"):
        distance = np.where(a == b, 0.0, np.abs(a - b))
    if np.dtype(ours.dtype).kind != "f":
        return distance
    distance[np.isnan(a) & np.isnan(b)] = 0
    near = np.isfinite(b) & (distance <= FLOAT_TOLERANCE * np.maximum(1, np.abs(b)))
    return np.where(near, 0.0, distance)
