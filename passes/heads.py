"""Auxiliary classifiers for networks that are cut or left early: described in one word, built here.

dscnn32_16 is the head of De Leon and Atienza, Depth Pruning with Auxiliary Networks (ICASSP 2022);
conv11 and dense64_32 are the others that they tried.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod, sqrt
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper, shape_inference

from mcugraph.passes._edit import Array, Shape

KINDS = ("dscnn", "dense", "conv", "gap")
PREFIX = "head"
# The oldest opset with these operators as they are written here, and the one written by default.
_OLDEST, _OPSET, _IR_VERSION = 9, 17, 8
_KERNEL = 3
# Nothing that fits a microcontroller is as wide.
_WIDEST = 1 << 16
_STATISTICS = {"weight": 1, "bias": 0, "running_mean": 0, "running_var": 1}


@dataclass(frozen=True)
class Head:
    """A classifier to attach to a tensor: layers of these widths, a mean over space, a dense layer.

    dscnn: depthwise 3x3 and pointwise convolution, each with bias, batch normalisation and ReLU,
    a width. conv: 3x3 convolution without padding, batch normalisation and ReLU a width. dense:
    the mean, then a dense layer and ReLU a width. gap: the mean alone.
    Weights are those of `weights`, by name (all that begin with "head.", or "exit." in an early
    exit, must be known and right), else Glorot-uniform from `seed`; biases are 0 and normalisations
    the identity.
    """

    kind: str = "dscnn"
    widths: tuple[int, ...] = (32, 16)
    classes: int = 2
    softmax: bool = True
    seed: int = 0
    # Arrays can't be compared or hashed.
    weights: Mapping[str, Any] | ModelProto | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        """Refuse what no network can be built of."""
        if self.kind not in KINDS:
            raise ValueError(f"head of kind {self.kind!r}: there are {', '.join(KINDS)}")
        if (self.kind == "gap") != (not self.widths) or any(width < 1 for width in self.widths):
            raise ValueError(
                f"head {self.name}: gap takes no widths, the others one or more, as in dscnn32_16"
            )
        if max((*self.widths, self.classes)) > _WIDEST:
            raise ValueError(f"head {self.name}: widths and classes are at most {_WIDEST:,}")
        if self.classes < (2 if self.softmax else 1):
            raise ValueError(f"head {self.name}: {self.classes} classes; a softmax is of 2 or more")

    @property
    def name(self) -> str:
        """The head in one word, as `parse` reads it."""
        return self.kind + "_".join(map(str, self.widths))

    @classmethod
    def parse(cls, text: str, classes: int, **given: Any) -> "Head":
        """The head that one word describes: dscnn32_16, conv11, dense64_32, gap."""
        found = re.fullmatch(r"([a-z]+?)(\d+(?:_\d+)*)?", text)
        if found is None:
            raise ValueError(f"head {text!r}: write it as dscnn32_16, conv11, dense64_32 or gap")
        widths = tuple(int(width) for width in (found[2] or "").split("_") if width)
        return cls(found[1], widths, classes, **given)


def head_model(head: Head, shape: Shape, opset: int = _OPSET, prefix: str = PREFIX) -> ModelProto:
    """The head as a model: input "features" of this shape, output "probabilities" or "logits".

    Shapes are [1,C,H,W] or [1,C,L], for gap and dense also [1,C]; None for an unknown dimension
    (but not for C). Initializers are named as torch would: head.0.depthwise.weight, ...,
    head.0.pointwise_norm.running_var, head.classifier.bias; an early exit has the prefix "exit".
    """
    if opset < _OLDEST:
        raise ValueError(f"a head needs opset {_OLDEST} or newer, not {opset}")
    channels = _channels(head, shape)
    layers = _Layers(head, len(shape) - 2, prefix)
    name = "features"
    if head.kind == "dscnn":
        name, channels = _dscnn(layers, name, channels)
    elif head.kind == "conv":
        name, channels = _convs(layers, name, channels)
    if len(shape) > 2:
        name = layers.add("Flatten", [layers.add("GlobalAveragePool", [name], "pool")], "flat")
    if head.kind == "dense":
        name, channels = _denses(layers, name, channels)
    return _finished(
        head, shape, layers, layers.gemm("classifier", name, channels, head.classes), opset
    )


def takes(head: Head, shape: Shape) -> bool:
    """Whether a head can be attached to a tensor of this shape."""
    try:
        return _channels(head, shape) > 0
    except ValueError:
        return False


def _channels(head: Head, shape: Shape) -> int:
    text = f"[{', '.join('?' if dim is None else str(dim) for dim in shape)}]"
    spatial = head.kind in ("dscnn", "conv")
    ranks = (3, 4) if spatial else (2, 3, 4)
    if len(shape) not in ranks or not shape[1]:
        allowed = " or ".join(("[1,C]", "[1,C,L]", "[1,C,H,W]")[rank - 2] for rank in ranks)
        raise ValueError(f"head {head.name} takes a tensor of shape {allowed}, not {text}")
    least = 1 + (_KERNEL - 1) * len(head.widths) if head.kind == "conv" else 1
    if any(dim is not None and dim < least for dim in shape[2:]):
        raise ValueError(
            f"head {head.name} convolves without padding and needs {least} rows and columns: {text}"
        )
    return shape[1]


def _dscnn(layers: "_Layers", name: str, channels: int) -> tuple[str, int]:
    for i, width in enumerate(layers.head.widths):
        depthwise, pointwise = f"{i}.depthwise", f"{i}.pointwise"
        name = layers.depthwise(depthwise, name, channels)
        name = layers.norm(f"{depthwise}_norm", name, channels)
        name = layers.conv(pointwise, name, (channels, width), 1)
        name = layers.norm(f"{pointwise}_norm", name, width)
        channels = width
    return name, channels


def _convs(layers: "_Layers", name: str, channels: int) -> tuple[str, int]:
    for i, width in enumerate(layers.head.widths):
        name = layers.conv(f"{i}.conv", name, (channels, width), _KERNEL)
        name = layers.norm(f"{i}.norm", name, width)
        channels = width
    return name, channels


def _denses(layers: "_Layers", name: str, channels: int) -> tuple[str, int]:
    for i, width in enumerate(layers.head.widths):
        name = layers.add("Relu", [layers.gemm(str(i), name, channels, width)], f"{i}.relu")
        channels = width
    return name, channels


class _Layers:
    """The nodes and weights so far; what is wrong with the given weights is listed."""

    def __init__(self, head: Head, dims: int, prefix: str) -> None:
        self.head = head
        self.prefix = prefix
        self.dims = dims
        self.nodes: list[NodeProto] = []
        self.tensors: dict[str, Array] = {}
        self.problems: list[str] = []
        self.given = _by_name(head.weights)
        self._random = np.random.default_rng(head.seed)

    def add(self, op: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        output = f"{self.prefix}.{name}"
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def depthwise(self, name: str, x: str, channels: int) -> str:
        kernel = [_KERNEL] * self.dims
        # Keras counts the fans of a depthwise filter in this way, too.
        weight = self._glorot(name, (channels, 1, *kernel), (channels, 1))
        given = {"group": channels, "pads": [1] * (2 * self.dims), "kernel_shape": kernel}
        return self.add("Conv", [x, weight, self._zeros(name, channels)], name, **given)

    def conv(self, name: str, x: str, sizes: tuple[int, int], size: int) -> str:
        """Of (inputs, outputs) channels, without padding."""
        kernel = [size] * self.dims
        weight = self._glorot(name, (*sizes[::-1], *kernel), sizes)
        return self.add("Conv", [x, weight, self._zeros(name, sizes[1])], name, kernel_shape=kernel)

    def norm(self, name: str, x: str, channels: int) -> str:
        parts = [
            self._weight(f"{name}.{part}", np.full(channels, value, np.float32))
            for part, value in _STATISTICS.items()
        ]
        return self.add("Relu", [self.add("BatchNormalization", [x, *parts], name)], f"{name}.relu")

    def gemm(self, name: str, x: str, inputs: int, outputs: int) -> str:
        weight = self._glorot(name, (outputs, inputs), (inputs, outputs))
        return self.add("Gemm", [x, weight, self._zeros(name, outputs)], name, transB=1)

    def _glorot(self, name: str, shape: tuple[int, ...], fans: tuple[int, int]) -> str:
        limit = sqrt(6 / (sum(fans) * prod(shape[2:])))
        return self._weight(f"{name}.weight", self._random.uniform(-limit, limit, shape))

    def _zeros(self, name: str, count: int) -> str:
        return self._weight(f"{name}.bias", np.zeros(count))

    def _weight(self, name: str, default: Array) -> str:
        own = f"{self.prefix}.{name}"
        value = default if self.given is None else self.given.get(own)
        if value is None:
            self.problems.append(f"{own} is missing")
        elif value.shape != default.shape:
            self.problems.append(f"{own} is {list(value.shape)}, not {list(default.shape)}")
        self.tensors[own] = np.asarray(default if value is None else value, np.float32)
        return own


def _by_name(weights: Mapping[str, Any] | ModelProto | None) -> dict[str, Array] | None:
    if weights is None:
        return None
    if isinstance(weights, ModelProto):
        return {each.name: numpy_helper.to_array(each) for each in weights.graph.initializer}
    return {name: np.asarray(value) for name, value in weights.items()}


def _finished(head: Head, shape: Shape, layers: _Layers, name: str, opset: int) -> ModelProto:
    unknown = [
        f"{other} is not of this head"
        for other in layers.given or ()
        if other.startswith(f"{layers.prefix}.")
        and other not in layers.tensors
        # torch counts the batches that it has seen.
        and not other.endswith("num_batches_tracked")
    ]
    if layers.problems or unknown:
        listed = "; ".join([*layers.problems, *unknown])
        raise ValueError(f"the weights of head {head.name}: {listed}")
    if head.softmax:
        name = layers.add("Softmax", [name], "softmax", axis=1)
    output = "probabilities" if head.softmax else "logits"
    layers.nodes[-1].output[0] = output
    source = helper.make_tensor_value_info("features", TensorProto.FLOAT, shape)
    result = helper.make_tensor_value_info(output, TensorProto.FLOAT, None)
    tensors = [numpy_helper.from_array(value, each) for each, value in layers.tensors.items()]
    graph = helper.make_graph(layers.nodes, head.name, [source], [result], tensors)
    imports = [helper.make_opsetid("", opset)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=_IR_VERSION)
    return shape_inference.infer_shapes(model, strict_mode=True)
