"""Read-only view of an ONNX model as steps over tensors: what the compiler schedules and emits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import prod

import networkx as nx
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Quant:
    """Affine quantisation: real = scale * (integer - zero_point), per tensor or along `axis`."""

    scale: NDArray[np.float32]
    zero_point: NDArray[np.int32]
    axis: int | None = None

    @property
    def per_tensor(self) -> bool:
        """Whether one scale serves the whole tensor."""
        return self.scale.size == 1

    def same(self, other: Quant | None) -> bool:
        """Whether both map every integer to the same real number."""
        return (
            other is not None
            and np.array_equal(self.scale, other.scale)
            and np.array_equal(self.zero_point, other.zero_point)
        )


@dataclass(frozen=True, eq=False)
class Tensor:
    """A named tensor in its ONNX shape; `data` holds the value of a constant.

    `packed`: the model asks for a constant of few values to be stored in a table and its numbers.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    quant: Quant | None = None
    data: NDArray[np.generic] | None = None
    packed: bool = False

    @property
    def size(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @property
    def bytes(self) -> int:
        """Bytes in memory."""
        return self.size * np.dtype(self.dtype).itemsize

    @property
    def real(self) -> NDArray[np.float64]:
        """The constant's real values: dequantised in double precision."""
        assert self.data is not None, f"{self.name} is not a constant"
        values = self.data.astype(np.float64)
        if self.quant is None:
            return values
        shape = [1] * values.ndim
        if not self.quant.per_tensor and self.quant.axis is not None:
            shape[self.quant.axis] = -1
        scale = self.quant.scale.astype(np.float64).reshape(shape)
        return (values - self.quant.zero_point.reshape(shape)) * scale

    def __str__(self) -> str:
        """Type, shape, and the quantisation or the mean magnitude of a constant."""
        text = f"{self.dtype}{list(self.shape)}"
        if self.quant is not None and self.quant.per_tensor:
            text += f" {self.quant.scale.item():.6g}*(q{-int(self.quant.zero_point.item()):+d})"
        if self.data is not None and self.size:
            text += f"~{np.abs(self.real).mean():.3g}"
        return text


@dataclass(frozen=True)
class Step:
    """One operator on named tensors; an omitted optional input is an empty name.

    `activation` is the (low, high) clamp, in real numbers, that a fused Relu or Clip applies.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, object] = field(default_factory=dict)
    activation: tuple[float, float] | None = None

    @property
    def output(self) -> str:
        """The first output."""
        return self.outputs[0]


@dataclass(frozen=True)
class EarlyExit:
    """An output of probabilities: where one of them reaches `threshold`, the run may end there."""

    tensor: str
    threshold: float


@dataclass(frozen=True)
class Graph:
    """Steps in file order over tensors; `interface` maps inputs and outputs to their ONNX names."""

    name: str
    steps: tuple[Step, ...]
    tensors: Mapping[str, Tensor]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    interface: Mapping[str, str]
    exit: EarlyExit | None = None

    def activations(self, step: Step) -> tuple[str, ...]:
        """The step's inputs that are computed at run time."""
        return tuple(i for i in step.inputs if i and self.tensors[i].data is None)

    def constant(self, step: Step, index: int) -> NDArray[np.generic] | None:
        """The value of a constant input, None where it is omitted or computed at run time."""
        if index >= len(step.inputs) or not step.inputs[index]:
            return None
        return self.tensors[step.inputs[index]].data

    @cached_property
    def producers(self) -> Mapping[str, Step]:
        """The step that computes each tensor."""
        return {output: step for step in self.steps for output in step.outputs}

    @cached_property
    def consumers(self) -> Mapping[str, tuple[Step, ...]]:
        """The steps that read each tensor."""
        readers: dict[str, list[Step]] = {}
        for step in self.steps:
            for name in dict.fromkeys(step.inputs):
                readers.setdefault(name, []).append(step)
        return {name: tuple(steps) for name, steps in readers.items()}

    @cached_property
    def dag(self) -> nx.DiGraph[str]:
        """Steps by name; an edge carries the tensor that the second step needs from the first."""
        dag: nx.DiGraph[str] = nx.DiGraph()
        dag.add_nodes_from(step.name for step in self.steps)
        for step in self.steps:
            for name in self.activations(step):
                if name in self.producers:
                    dag.add_edge(self.producers[name].name, step.name, tensor=name)
        return dag

    @cached_property
    def before_exit(self) -> frozenset[str]:
        """The names of all steps that the early exit needs; none without one."""
        if self.exit is None:
            return frozenset()
        last = self.producers[self.exit.tensor].name
        return frozenset({last, *nx.ancestors(self.dag, last)})

    def __str__(self) -> str:
        """The golden form: one line a step."""
        lines = [f"input  {name}: {self.tensors[name]}" for name in self.inputs]
        lines += [self._line(step) for step in self.steps]
        return "\n".join([*lines, *(f"output {name}" for name in self.outputs)]) + "\n"

    def _line(self, step: Step) -> str:
        left = ", ".join(f"{name}: {self.tensors[name]}" for name in step.outputs)
        right = ", ".join(self._operand(name) for name in step.inputs)
        notes = [f"{key}={value}" for key, value in sorted(step.attributes.items())]
        if step.activation is not None:
            notes.append("clamp=[{:g}, {:g}]".format(*step.activation))
        return " ".join([f"{left} = {step.op}({right})", *notes])

    def _operand(self, name: str) -> str:
        constant = name and self.tensors[name].data is not None
        return str(self.tensors[name]) if constant else name or "-"
