"""The weights of convolutions and matrix products, by name, and what is said of unknown names."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np
from onnx import NodeProto

from mcugraph.passes._edit import Array, Edit, attribute, is_op, slot

_SUFFIX = "_quantized"
_SHOWN = 8


@dataclass(frozen=True)
class Layer:
    """A Conv, Gemm or MatMul with constant weights.

    `dequantizer` is the DequantizeLinear between them, if there is one.
    """

    node: NodeProto
    weight: str
    dequantizer: NodeProto | None

    @property
    def groups(self) -> int:
        """Groups of a convolution; 1 for everything else."""
        return int(attribute(self.node, "group", 1)) if is_op(self.node, "Conv") else 1

    def title(self) -> str:
        """The node as users know it."""
        return f"{self.node.op_type} {self.node.name or self.node.output[0]!r}"

    def scales(self, edit: Edit, values: Array) -> Array:
        """What a step of each stored weight is worth, in a shape that broadcasts over them."""
        if self.dequantizer is None:
            return np.ones([1] * values.ndim)
        scale = edit.constant(self.dequantizer.input[1])
        if scale is None or scale.size == 1:
            return np.ones([1] * values.ndim)
        axis = attribute(self.dequantizer, "axis", 1) % values.ndim
        return scale.reshape([-1 if i == axis else 1 for i in range(values.ndim)])


def layers_of(edit: Edit) -> dict[str, list[Layer]]:
    """All layers by the initializer that holds their weights."""
    found: dict[str, list[Layer]] = {}
    constants = set(edit.initializers())
    for node in edit.nodes:
        if not is_op(node, "Conv", "Gemm", "MatMul"):
            continue
        name, maker = slot(node, 1), edit.producer(slot(node, 1))
        if maker is not None and is_op(maker, "DequantizeLinear"):
            name = maker.input[0]
        else:
            maker = None
        if name in constants:
            found.setdefault(name, []).append(Layer(node, name, maker))
    return found


def alias_of(name: str, layers: Mapping[str, list[Layer]]) -> str | None:
    """The weight that a name stands for, whether or not it was quantised since."""
    alike = (name, name + _SUFFIX, name.removesuffix(_SUFFIX))
    return next((alias for alias in alike if alias in layers), None)


def unknown(name: str, names: Iterable[str]) -> str:
    """What is wrong with a name, and which ones are near to it."""
    known = list(names)
    near = get_close_matches(name, known, n=3)
    if near:
        return f"there is no weight {name!r}; near to it: {', '.join(map(repr, near))}"
    shown = ", ".join(map(repr, known[:_SHOWN])) + (", ..." if len(known) > _SHOWN else "")
    return f"there is no weight {name!r} of a layer; there are: {shown or 'none'}"


def refuse(what: str, problems: list[str]) -> None:
    """ValueError with all problems, if there are any."""
    if len(problems) > 1:
        raise ValueError("\n".join([f"{what}:", *problems]))
    if problems:
        raise ValueError(f"{what}: {problems[0]}")
