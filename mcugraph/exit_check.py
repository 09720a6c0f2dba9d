"""The early exit of the emitted C: does it leave when it should, with the right outputs?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mcugraph.execute import Executor
from mcugraph.observe import Subject
from mcugraph.oracle import Array

Tensors = Mapping[str, Array]


@dataclass(frozen=True)
class Gate:
    """The output that decides, and what one of its values must reach: in the C, in onnxruntime."""

    output: str
    least: float
    threshold: float

    @classmethod
    def of(cls, report: Mapping[str, Any]) -> Gate | None:
        """Read a report, if it has an exit; KeyError, TypeError or AssertionError if damaged."""
        entry = report.get("exit")
        if entry is None:
            return None
        assert entry["output"] in report["outputs"].values(), "an exit that is no output"
        return cls(entry["output"], float(entry["least"]), float(entry["threshold"]))


@dataclass(frozen=True)
class ExitCheck:
    """How many of the samples left early, and how many of those decisions onnxruntime shares.

    `wrong` are the samples whose decision or outputs do not follow from what the whole network
    computes. `accuracy` is that of the first output, or of the exit where a sample left there, if
    labels were given.
    """

    samples: int
    left: int
    shared: int
    wrong: int
    accuracy: float | None = None

    @property
    def ok(self) -> bool:
        """Whether the C leaves where its own probabilities say so, and only there."""
        return self.wrong == 0


def check_exit(
    subject: Subject,
    executor: Executor,
    gate: Gate,
    runs: Sequence[tuple[Tensors, Tensors, Tensors]],
    labels: Array | None,
) -> ExitCheck:
    """Run the C as it is on samples.

    Each comes with its inputs, the outputs of the C that never leaves and those of onnxruntime.
    """
    lefts, shared, wrong = list[bool](), 0, 0
    for truth, whole, theirs in runs:
        for name in subject.inputs if not subject.pushed else ():
            subject.places[name].put(executor, truth[name])
        left = executor.run(None, subject.image(truth)) == 1
        should = _reaches(whole[gate.output], gate)
        read = {onnx: name for name, onnx in subject.outputs.items()}
        names = [gate.output] if left else [*read]
        found = {name: subject.places[read[name]].get(executor) for name in names}
        same = all(found[name].tobytes() == whole[name].tobytes() for name in names)
        lefts.append(left)
        shared += left == _reaches(theirs[gate.output], gate)
        wrong += left != should or not same
    right = _accuracy(gate, lefts, [whole for _, whole, _ in runs], labels)
    return ExitCheck(len(lefts), sum(lefts), shared, wrong, right)


def _reaches(probabilities: Array, gate: Gate) -> bool:
    """Whether one is high enough; those of onnxruntime are floats, unless the model's are not."""
    real = probabilities.dtype.kind == "f"
    limit = np.float32(gate.threshold) if real else gate.least
    return bool(np.greater_equal(probabilities, limit).any())


def _accuracy(
    gate: Gate, lefts: Sequence[bool], wholes: Sequence[Tensors], labels: Array | None
) -> float | None:
    if labels is None or len(labels) < len(lefts):
        return None
    first = next(iter(wholes[0]))
    names = [gate.output if left else first for left in lefts]
    answers = [int(whole[name].argmax()) for whole, name in zip(wholes, names, strict=True)]
    return float((np.array(answers) == labels[: len(lefts)].ravel()).mean())
