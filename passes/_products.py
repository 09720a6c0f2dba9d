"""What a convolution or matrix product reads of its input's channels: weights as a matrix."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from onnx import NodeProto

from mcugraph.passes._edit import Array, attribute, is_op, slot
from mcugraph.passes._intervals import STEP, Interval, bounded, hull, widened


@dataclass(frozen=True)
class Product:
    """y = x @ (positive + negative) + bias along `axis` of both; [groups, inputs, outputs].

    What a window covers is summed up, positive and negative weights apart. `padded`: an input may
    be replaced by zero. `bias` is the place of that operand, None where the operator has none.
    """

    node: NodeProto
    axis: int
    positive: Array
    negative: Array
    taps: int
    padded: bool = False
    bias: int | None = 2

    @property
    def x(self) -> str:
        return str(self.node.input[0])

    @property
    def y(self) -> str:
        return str(self.node.output[0])

    @property
    def inputs(self) -> int:
        groups, inputs, _ = self.positive.shape
        return int(groups * inputs)

    @property
    def outputs(self) -> int:
        groups, _, outputs = self.positive.shape
        return int(groups * outputs)

    @property
    def reads_all(self) -> bool:
        """Whether there is no input whose weights are all zero."""
        return bool(self.reads(np.ones(self.outputs, bool)).all())

    def reads(self, wanted: Array) -> Array:
        """Which inputs the wanted outputs read."""
        touched = (self.positive != 0) | (self.negative != 0)
        rows = wanted.reshape(len(touched), 1, -1)
        return np.asarray((touched & rows).any(axis=2).reshape(-1))

    def times(self, x: Array) -> Array:
        """What inputs of these values add to each output."""
        return _product(x, self.positive + self.negative)

    def sizes(self, x: Array) -> Array:
        """The most that inputs of these sizes can add up to, whatever their signs."""
        return _product(x, self.positive - self.negative)

    def bounds(self, x: Interval) -> Interval:
        """The outputs of inputs within these bounds (vectors along the axis), without bias."""
        x = hull(x, 0.0) if self.padded else x
        low = _product(x.low, self.positive) + _product(x.high, self.negative)
        high = _product(x.high, self.positive) + _product(x.low, self.negative)
        unsure = _product(1.0 - x.known, (self.positive - self.negative != 0) * 1.0) > 0
        value = np.where(unsure, np.nan, self.times(np.where(x.known, x.value, 0.0)))
        slack = (self.taps + 8) * STEP * self.sizes(x.largest)
        return widened(bounded(low, high, value), slack)


def _product(x: Array, weights: Array) -> Array:
    """x [..., groups * inputs] @ weights [groups, inputs, outputs]."""
    groups, inputs, _ = weights.shape
    parts = np.moveaxis(x.reshape(*x.shape[:-1], groups, inputs), -2, 0)
    found = parts.reshape(groups, -1, inputs) @ weights
    return np.moveaxis(found, 0, 1).reshape(*x.shape[:-1], -1)


def product_of(
    node: NodeProto, rank: int, constant: Callable[[str], Array | None]
) -> Product | None:
    """The product that a node computes of an input of this rank; None without constant weights."""
    weights = constant(slot(node, 1)) if is_op(node, "Conv", "Gemm", "MatMul") else None
    if weights is None or weights.ndim < 2 or not weights.size:
        return None
    if node.op_type == "Conv":
        return _convolution(node, weights)
    matrix = weights.astype(np.float64)
    if node.op_type == "MatMul":
        return _dense(node, matrix, rank - 1, None) if matrix.ndim == 2 and rank > 1 else None
    if attribute(node, "transA", 0):
        return None
    matrix = matrix.T if attribute(node, "transB", 0) else matrix
    scale = attribute(node, "alpha", 1.0)
    return _dense(node, matrix * scale, 1, 2)


def _dense(node: NodeProto, matrix: Array, axis: int, bias: int | None) -> Product:
    positive, negative = np.maximum(matrix, 0)[None], np.minimum(matrix, 0)[None]
    return Product(node, axis, positive, negative, len(matrix), bias=bias)


def _convolution(node: NodeProto, weights: Array) -> Product:
    groups, window = attribute(node, "group", 1), tuple(range(2, weights.ndim))
    rows, inputs = weights.shape[:2]

    def matrix(part: Array) -> Array:
        summed = part.astype(np.float64).sum(axis=window)
        return np.asarray(summed.reshape(groups, rows // groups, inputs).swapaxes(1, 2))

    same = attribute(node, "auto_pad", "NOTSET").startswith("SAME")
    padded = same or any(attribute(node, "pads", ()))
    taps = inputs * int(np.prod(weights.shape[2:]))
    parts = matrix(np.maximum(weights, 0)), matrix(np.minimum(weights, 0))
    return Product(node, 1, *parts, taps, padded)
