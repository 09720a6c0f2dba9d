"""Networks of shapes, as JSON, to int8 ONNX models with random weights.

A file gives tensors as [H, W, C] and operators with kernels, strides and pads. What it does not
say is filled in: weights are drawn from a seed, scales keep the spread of the activations, a
squeezed-and-excited tensor is multiplied, a sum of many is a chain of additions.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto, helper, numpy_helper

FOLDER = Path(__file__).parents[2] / "shared" / "data" / "graphs"
OPSET, IR_VERSION = 13, 8
# One step of every activation; a normal distribution of deviation 1 spans 8 deviations.
UNIT = 1 / 32
WEIGHT_BITS = 63
# How far the scale of a channel may be from the mean of its layer.
SPREAD = 0.1

Op = Mapping[str, Any]
Shape = tuple[int, ...]


def names() -> list[str]:
    """The networks that lie beside the repository."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def model_of(name: str, seed: int = 0) -> ModelProto:
    """The network of one file; the same seed gives the same weights."""
    network = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return Writer(network, seed).model()


class Writer:
    """Writes one network as DequantizeLinear - operator - QuantizeLinear."""

    def __init__(self, network: Mapping[str, Any], seed: int) -> None:
        self._network = network
        self._random = np.random.default_rng(seed)
        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        self._shapes: dict[str, Shape] = {}
        self._place("unit", np.float32(UNIT))
        self._place("zero", np.int8(0))

    def model(self) -> ModelProto:
        """The whole network."""
        network = self._network
        for name in network["inputs"]:
            self._shapes[name] = self._spatial(name)
        for op in network["ops"]:
            WRITERS[op["op"]](self, op)
        inputs = [self._value(name) for name in network["inputs"]]
        outputs = [self._value(name) for name in network["outputs"]]
        graph = helper.make_graph(self._nodes, network["name"], inputs, outputs, self._constants)
        opset = helper.make_opsetid("", OPSET)
        return helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION)

    def _spatial(self, name: str) -> Shape:
        """[H, W, C] as [1, C, H, W]."""
        height, width, channels = self._network["tensors"][name]
        return (1, channels, height, width)

    def _value(self, name: str) -> Any:
        return helper.make_tensor_value_info(name, 3, self._shapes[name])

    def _place(self, name: str, values: Any) -> str:
        self._constants.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def _real(self, name: str) -> str:
        """The float form of an int8 tensor, for one reader."""
        real = f"{name}_real{len(self._nodes)}"
        self._nodes.append(helper.make_node("DequantizeLinear", [name, "unit", "zero"], [real]))
        return real

    def _emit(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> None:
        """One operator on float tensors, and its result as int8."""
        real = f"{output}_exact"
        self._nodes.append(helper.make_node(kind, inputs, [real], output, **attributes))
        self._nodes.append(helper.make_node("QuantizeLinear", [real, "unit", "zero"], [output]))

    def _weights(self, output: str, shape: Shape, fan_in: int) -> list[str]:
        """Random weights, one scale a channel, that keep the deviation; and a random bias.

        Scales are drawn, as measured ranges are: with sqrt(3 / fan_in) / 63 itself a layer of 48
        inputs has a scale ratio of 1/252, and one sum in 252 is a tie, which float32 may miss.
        """
        spread = self._random.uniform(1 - SPREAD, 1 + SPREAD, shape[0])
        scales = (np.sqrt(3 / fan_in) / WEIGHT_BITS * spread).astype(np.float32)
        kernel = self._random.integers(-WEIGHT_BITS, WEIGHT_BITS + 1, shape, np.int8)
        bias = self._random.normal(0, 0.1, shape[0]) / (scales * UNIT)
        return [
            self._constant(f"{output}_w", kernel, scales),
            self._constant(f"{output}_b", bias.astype(np.int32), scales * np.float32(UNIT)),
        ]

    def _constant(self, name: str, values: Any, scales: Any) -> str:
        zeros = np.zeros(scales.shape, values.dtype)
        parts = zip(("", "_scale", "_zero"), (values, scales, zeros), strict=True)
        inputs = [self._place(name + suffix, part) for suffix, part in parts]
        real = f"{name}_real"
        self._nodes.append(helper.make_node("DequantizeLinear", inputs, [real], axis=0))
        return real

    def convolution(self, op: Op) -> None:
        """`conv` and `dw`: dense over the channels, or one kernel a channel."""
        (source,), output = op["ins"], op["out"]
        self._shapes[output] = self._spatial(output)
        channels = self._shapes[source][1]
        group = channels if op["op"] == "dw" else 1
        dilation = op.get("dil", 1)
        kernel = [(k - 1) // dilation + 1 for k in op["k"]]
        shape = (self._shapes[output][1], channels // group, *kernel)
        weights = self._weights(output, shape, int(np.prod(shape[1:])))
        attributes = {"strides": op["s"], "pads": [*op["p"], *op["pe"]], "kernel_shape": kernel}
        attributes |= {"group": group, "dilations": [dilation, dilation]}
        self._emit("Conv", [self._real(source), *weights], output, **attributes)

    def dense(self, op: Op) -> None:
        """`fc`: over all elements of its input."""
        (source,), output = op["ins"], op["out"]
        width, size = self._network["tensors"][output][2], int(np.prod(self._shapes[source]))
        if len(self._shapes[source]) > 2:
            self._emit("Flatten", [self._real(source)], f"{output}_flat")
            source = f"{output}_flat"
        real = self._real(source)
        self._shapes[output] = (1, width)
        weights = self._weights(output, (width, size), size)
        self._emit("Gemm", [real, *weights], output, transB=1)

    def pool(self, op: Op) -> None:
        """`pool`: the largest of a window."""
        self._shapes[op["out"]] = self._spatial(op["out"])
        pads = [*op["p"], *op["pe"]]
        attributes = {"kernel_shape": op["k"], "strides": op["s"], "pads": pads}
        self._emit("MaxPool", [self._real(op["ins"][0])], op["out"], **attributes)

    def mean(self, op: Op) -> None:
        """`gap`: over both axes at once.

        Some files come from TFLite, which takes the mean over one axis after the other: the
        first of them is nothing here, and the second reads what the first one reads.
        """
        (source,), output = op["ins"], op["out"]
        later = [each for each in self._network["ops"] if output in each["ins"]]
        if later and later[0]["op"] == "gap":
            self._alias(source, output)
            return
        self._shapes[output] = (1, self._shapes[source][1], 1, 1)
        self._emit("GlobalAveragePool", [self._real(source)], output)

    def alias(self, op: Op) -> None:
        """`transpose` to channels first: ONNX tensors are."""
        self._alias(op["ins"][0], op["out"])

    def _alias(self, source: str, output: str) -> None:
        self._shapes[output] = self._shapes[source]
        self._nodes.append(helper.make_node("Identity", [source], [output]))

    def rectified(self, op: Op) -> None:
        """`relu` of its own."""
        self._elementwise("Relu", [self._real(op["ins"][0])], op)

    def softmax(self, op: Op) -> None:
        """`softmax` over the classes."""
        self._elementwise("Softmax", [self._real(op["ins"][0])], op, axis=1)

    def total(self, op: Op) -> None:
        """`add` and `wsum`: a sum of two or more; of one with a constant; an excited tensor."""
        reals = [self._real(name) for name in op["ins"]]
        shapes = {self._shapes[name] for name in op["ins"]}
        if len(reals) == 1:
            reals.append(self._constant(f"{op['out']}_c", np.array([16], np.int8), _one(UNIT)))
        for index, real in enumerate(reals[2:]):
            partial = f"{op['out']}_{index}"
            self._emit("Add", reals[:2], partial)
            reals[:2] = [self._real(partial)]
            reals[1:2] = []
            reals.insert(1, real)
        self._elementwise("Mul" if len(shapes) > 1 else "Add", reals[:2], op)

    def _elementwise(self, kind: str, reals: Sequence[str], op: Op, **attributes: Any) -> None:
        self._shapes[op["out"]] = self._shapes[op["ins"][0]]
        self._emit(kind, reals, op["out"], **attributes)

    def joined(self, op: Op) -> None:
        """`concat` of channels."""
        self._shapes[op["out"]] = self._spatial(op["out"])
        self._emit("Concat", [self._real(name) for name in op["ins"]], op["out"], axis=1)


def _one(value: float) -> Any:
    return np.array([value], np.float32)


WRITERS: Mapping[str, Callable[[Writer, Op], None]] = {
    "add": Writer.total,
    "concat": Writer.joined,
    "conv": Writer.convolution,
    "dw": Writer.convolution,
    "fc": Writer.dense,
    "gap": Writer.mean,
    "pool": Writer.pool,
    "relu": Writer.rectified,
    "softmax": Writer.softmax,
    "transpose": Writer.alias,
    "wsum": Writer.total,
}
