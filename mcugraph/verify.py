"""The emitted C against onnxruntime: each step on the oracle's own inputs, and the whole model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mcugraph.execute import Executor, Watch
from mcugraph.observe import Observer, Subject
from mcugraph.oracle import GIVEN, Array, Oracle

# An integer step may differ by one in this share of its elements: ties in the last bit of float32.
INTEGER_SHARE = 1e-5
# How far above its expectation a count may be by chance, in standard deviations.
CHANCE = 3
FLOAT_TOLERANCE = 1e-4
# Ties grow with depth, so whole models are held to a share of differing outputs, not to none.
MODEL_SHARE = 0.05


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


def compare_steps(
    subject: Subject, executor: Executor, truths: Iterable[Mapping[str, Array]]
) -> list[Difference]:
    """Run each step on the oracle's own inputs and compare what it writes."""
    found = _differences(subject)
    for truth in truths:
        observer = Observer(subject, executor, truth, forced=True)
        executor.run(observer.watch, subject.image(truth))
        for name, ours in observer.tensors().items():
            found[name].add(ours, truth[name])
    return list(found.values())


def _differences(subject: Subject) -> dict[str, Difference]:
    """One for each tensor that a step writes."""
    return {
        name: Difference(step.name, np.dtype(place.dtype).kind != "f")
        for step in subject.steps
        for name, place in step.outputs.items()
    }


def run_model(
    subject: Subject, executor: Executor, truth: Mapping[str, Array], watch: Watch | None = None
) -> dict[str, Array]:
    """The model's outputs by their ONNX names, from the inputs that the oracle quantised."""
    for name in subject.inputs:
        if not subject.pushed:
            subject.places[name].put(executor, truth[name])
    executor.run(watch, subject.image(truth))
    return {onnx: subject.places[name].get(executor) for name, onnx in subject.outputs.items()}


def compare_own_steps(
    subject: Subject, executor: Executor, pieces: Oracle, truths: Iterable[Mapping[str, Array]]
) -> list[Difference]:
    """Run the C by itself and compare each step with onnxruntime on what the C gave it to read.

    `pieces` is the model cut at the outputs of all steps. Where every step is as good as promised,
    so is the whole run, however far a single tie has spread on its way through the model.
    A truth holds the model's inputs, too.
    """
    found = _differences(subject)
    for truth in truths:
        observer = Observer(subject, executor, truth, forced=False)
        run_model(subject, executor, truth, observer.watch)
        ours = observer.tensors()
        # What the application reads is what is there at the end.
        ours |= {n: subject.places[n].get(executor) for n in subject.outputs if n in ours}
        given = {name + GIVEN: values for name, values in ours.items()}
        theirs = pieces.run({n: v for n, v in {**truth, **given}.items() if n in pieces.inputs})
        for name, difference in found.items():
            difference.add(ours[name], theirs[name])
    return list(found.values())


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
        observer = Observer(subject, executor, truth, forced=False)
        run_model(subject, executor, truth, observer.watch)
        ours = observer.tensors()
        for step in subject.steps:
            for name in step.outputs:
                if _distance(ours[name], truth[name]).any():
                    return Divergence(step.name, name, ours[name], truth[name])
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
