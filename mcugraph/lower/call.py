"""What a lowering reads and what it returns: a step in its surroundings, and kernel calls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from mcugraph.errors import UnsupportedError
from mcugraph.graph import Graph, Step, Tensor
from mcugraph.layout import Layout, Layouts

T = TypeVar("T")
Field = int | float | NDArray[np.generic] | None


@dataclass(frozen=True, eq=False)
class Call:
    """One kernel call: `mcu_<kernel>(&params, inputs..., output[, scratch], begin, end)`.

    `fields` are the members of `struct mcu_<kernel>`: numbers, constant arrays (flash), or None for
    a null pointer. `rows` is the number of output rows; `scratch` is in bytes. A kernel that
    `gathers` counts rows of its input instead, and writes its output with the last of them; its
    scratch lives from the first to the last.
    """

    kernel: str
    inputs: tuple[str, ...]
    output: str
    fields: Mapping[str, Field]
    rows: int
    scratch: int = 0
    macs: int = 0
    gathers: bool = False


@dataclass(frozen=True)
class Site:
    """A step with its graph and the memory order of its tensors."""

    graph: Graph
    step: Step
    layouts: Layouts

    def input(self, index: int) -> Tensor:
        """The tensor of an input that must be there."""
        return self.graph.tensors[self.step.inputs[index]]

    def has(self, index: int) -> bool:
        """Whether an optional input is given."""
        return index < len(self.step.inputs) and bool(self.step.inputs[index])

    @property
    def output(self) -> Tensor:
        """The tensor of the first output."""
        return self.graph.tensors[self.step.output]

    def layout(self, tensor: Tensor) -> Layout:
        """The memory order of a run-time tensor."""
        return self.layouts.of[tensor.name]

    def attribute(self, name: str, default: T) -> T:
        """An attribute of the default's type, or the default."""
        value = self.step.attributes.get(name, default)
        assert isinstance(value, type(default)), f"{self.step.name}: {name} is {value!r}"
        return value

    def refuse(self, why: str) -> UnsupportedError:
        """The error that names this step, its operands and the reason."""
        shapes = ", ".join(
            f"{name}: {self.graph.tensors[name].dtype}{list(self.graph.tensors[name].shape)}"
            for name in (*self.step.inputs, *self.step.outputs)
            if name
        )
        return UnsupportedError([f"{self.step.name}: {self.step.op}({shapes}): {why}"])
