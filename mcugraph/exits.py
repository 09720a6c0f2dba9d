"""The early exit that a model's metadata asks for, and the value that ends a run there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from mcugraph.graph import EarlyExit, Graph, Tensor
from mcugraph.passes._part import EXIT

# The kernel that looks at the probabilities, by their type.
_KERNELS = {"int8": "exit_s8", "float32": "exit_f32"}
_LOWEST = -128


@dataclass(frozen=True)
class Gate:
    """How the C decides: one value of `tensor` that is at least `least` ends the run.

    Probabilities are those that onnxruntime dequantises; they are compared in float32.
    """

    tensor: Tensor
    output: str
    threshold: float

    @property
    def kernel(self) -> str:
        """The kernel that looks for such a value."""
        return _KERNELS[self.tensor.dtype]

    @property
    def least(self) -> int | float:
        """The smallest such value, as the C has it."""
        return int(self._reaching()[0]) if self._is_integer else self.threshold

    @property
    def never(self) -> int | float:
        """What no value reaches."""
        return 128 if self._is_integer else 2.0

    @property
    def always(self) -> int | float:
        """What every value reaches."""
        return _LOWEST if self._is_integer else 0.0

    @property
    def problem(self) -> str | None:
        """Why no value can end the run."""
        dtype = self.tensor.dtype
        if dtype not in _KERNELS:
            return f"its probabilities are {dtype}; {', '.join(_KERNELS)} are allowed"
        if self._is_integer and (self.tensor.quant is None or not self.tensor.quant.per_tensor):
            return "its int8 values have no single scale; a DequantizeLinear in front of it tells"
        if len(self._reaching()):
            return None
        most = f"{float(self._values().max()):.6g}, the largest that its {dtype} values can say"
        return f"no probability reaches {self.threshold:g}; choose a threshold up to {most}"

    @property
    def _is_integer(self) -> bool:
        return self.tensor.dtype == "int8"

    def _reaching(self) -> NDArray[np.intp]:
        return np.flatnonzero(self._values() >= np.float32(self.threshold)) + _LOWEST

    def _values(self) -> NDArray[np.float32]:
        """What each int8 value says, the lowest first; of floats the ends."""
        quant = self.tensor.quant
        if quant is None:
            return np.array([0, 1], np.float32)
        steps = np.arange(_LOWEST, 128) - int(quant.zero_point.item())
        return np.asarray(steps.astype(np.float32) * np.float32(quant.scale.item()))


def gate_of(graph: Graph) -> Gate | None:
    """The decision of a graph's early exit, if it has one."""
    if graph.exit is None:
        return None
    name = graph.exit.tensor
    return Gate(graph.tensors[name], graph.interface[name], graph.exit.threshold)


def exit_problems(graph: Graph) -> Iterator[str]:
    """Why the C could not end at the exit, if so."""
    gate = gate_of(graph)
    if gate is not None and gate.problem is not None:
        yield f"early exit {gate.output}: {gate.problem}"


def with_exit(graph: Graph, model: ModelProto) -> Graph:
    """The graph with the model's early exit, if it has one: the steps that it needs come first.

    Raises ValueError where the metadata says nothing that can be an exit.
    """
    text = next((entry.value for entry in model.metadata_props if entry.key == EXIT), None)
    if text is None:
        return graph
    output, threshold = _facts(text)
    tensor = next((name for name in graph.outputs if graph.interface[name] == output), None)
    if tensor is None or tensor not in graph.producers:
        outputs = ", ".join(graph.interface[name] for name in graph.outputs)
        raise ValueError(f"{EXIT}: nothing computes an output {output}; there are: {outputs}")
    early = replace(graph, exit=EarlyExit(tensor, threshold))
    steps = sorted(early.steps, key=lambda step: step.name not in early.before_exit)
    return replace(early, steps=tuple(steps))


def _facts(text: str) -> tuple[str, float]:
    try:
        facts = json.loads(text)
        return str(facts["output"]), float(facts["threshold"])
    except (KeyError, TypeError, ValueError) as error:
        right = '{"output": "exit", "threshold": 0.9}'
        raise ValueError(f"the model's metadata {EXIT} is not like {right}: {text[:80]}") from error
