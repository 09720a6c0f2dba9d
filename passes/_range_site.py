"""What a rule of interval analysis is told: one node of static shapes and its operands' bounds."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from onnx import NodeProto

from mcugraph.passes._edit import Array, Edit, attribute, slot
from mcugraph.passes._intervals import Interval


@dataclass(frozen=True)
class Site:
    """A node; `find` gives the bounds of any tensor before it."""

    edit: Edit
    node: NodeProto
    find: Callable[[str], Interval]

    def operand(self, index: int = 0) -> Interval:
        """The bounds of an input."""
        return self.find(self.node.input[index])

    def operands(self) -> list[Interval]:
        """The bounds of all inputs."""
        return [self.find(name) for name in self.node.input if name]

    def shape(self, index: int = 0) -> tuple[int, ...]:
        """The shape of an input."""
        return self.edit.static_shape(self.node.input[index]) or ()

    def out_shape(self, index: int = 0) -> tuple[int, ...]:
        """The shape of an output."""
        return self.edit.static_shape(self.node.output[index]) or ()

    def has(self, index: int) -> bool:
        """Whether an optional input is there."""
        return bool(slot(self.node, index))

    def ints(self, index: int, name: str) -> list[int] | None:
        """Integers that are an attribute or a constant input, None where they are neither."""
        value = attribute(self.node, name)
        given = self.edit.constant(slot(self.node, index)) if value is None else value
        return None if given is None else [int(number) for number in np.asarray(given).reshape(-1)]

    def axis(self, default: int) -> int:
        """The attribute `axis`, counted from the front."""
        return int(attribute(self.node, "axis", default)) % max(len(self.shape()), 1)


def placed(vector: Array, rank: int, axis: int) -> Array:
    """A vector along one axis of a tensor."""
    return vector.reshape([-1 if a == axis else 1 for a in range(rank)])
