"""int8 networks with one scale, so that operands of concatenations can be computed in place."""

from collections.abc import Callable
from typing import Any

import numpy as np
from models import Net
from onnx import ModelProto, TensorProto

SCALE, ZERO = 1 / 32, -3


class Grid:
    """Builds a model whose activations all have the same scale and zero point."""

    def __init__(self, seed: int) -> None:
        self.net = Net(18, seed)
        self.random = np.random.default_rng(seed)

    def input(self, *shape: int) -> str:
        name = f"x{len(self.net.inputs)}"
        return self.net.input(name, *shape, kind=TensorProto.INT8)

    def __call__(self, kind: str, *inputs: str, more: tuple[str, ...] = (), **kw: Any) -> str:
        reals = [self.net.dequantize(name, SCALE, ZERO) for name in inputs]
        return self.net.quantize(self.net(kind, *reals, *more, **kw), SCALE, ZERO)

    def conv(self, x: str, outputs: int, inputs: int, *kernel: int, **kw: Any) -> str:
        """Convolution to the same size unless told otherwise, then Relu."""
        kw.setdefault("pads", [k // 2 for k in kernel] * 2)
        w = self._weights(outputs, inputs, *kernel)
        y = self.net("Conv", self.net.dequantize(x, SCALE, ZERO), w, **kw)
        return self.net.quantize(self.net("Relu", y), SCALE, ZERO)

    def gemm(self, x: str, outputs: int, inputs: int) -> str:
        w = self._weights(outputs, inputs)
        y = self.net("Gemm", self.net.dequantize(x, SCALE, ZERO), w, transB=1)
        return self.net.quantize(y, SCALE, ZERO)

    def larger(self, x: str) -> str:
        scales = self.net.const(f"scales{self.net.count}", [1, 1, 2, 2], np.float32)
        kw = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        return self("Resize", x, more=("", scales), mode="nearest", **kw)

    def model(self, *outputs: str) -> ModelProto:
        return self.net.model(*outputs, kind=TensorProto.INT8)

    def _weights(self, *shape: int) -> str:
        scale = float(np.sqrt(3 / np.prod(shape[1:])) / 63)
        name = self.net.bytes(f"w{self.net.count}", *shape)
        return self.net.dequantize(name, scale, 0)


def fire(grid: Grid | None = None, size: tuple[int, int] = (18, 14)) -> ModelProto:
    """Two squeezes, each into a concatenation of two convolutions, as in SqueezeNet."""
    grid = grid or Grid(1)
    x = grid.conv(grid.input(1, 3, *size), 8, 3, 3, 3, strides=[2, 2])
    for _ in range(2):
        x = grid.conv(x, 3, 8, 1, 1)
        x = grid("Concat", grid.conv(x, 3, 3, 1, 1), grid.conv(x, 5, 3, 3, 3), axis=1)
    x = grid("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2])
    return grid.model(grid.conv(x, 4, 8, 1, 1))


def nested() -> ModelProto:
    """A concatenation in a concatenation; one operand is read by others too, one comes twice."""
    grid = Grid(2)
    x = grid.conv(grid.input(1, 2, 12, 10), 6, 2, 3, 3)
    a = grid("Concat", grid.conv(x, 2, 6, 3, 3), grid.conv(x, 3, 6, 1, 1), axis=1)
    b = grid("MaxPool", x, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    c = grid("Add", grid.conv(x, 6, 6, 1, 1), x)
    d = grid.conv(b, 2, 6, 1, 1)
    y = grid("Concat", a, c, d, d, b, axis=1)
    z = grid("Concat", y, grid.conv(y, 4, 21, 5, 5), axis=1)
    return grid.model(grid.conv(z, 5, 25, 3, 3, strides=[2, 2]))


def heads() -> ModelProto:
    """Boxes from two resolutions, one behind the other, as in single-shot detectors."""
    grid = Grid(3)
    x = grid.conv(grid.input(1, 3, 12, 12), 6, 3, 3, 3)
    parts = []
    for size in (12, 6):
        y = grid.conv(x, 8, 6, 3, 3)
        y = grid.net("Transpose", y, perm=[0, 2, 3, 1])
        shape = grid.net.const(f"shape{size}", [1, size * size * 2, 4], np.int64)
        parts.append(grid.net("Reshape", y, shape))
        x = grid.conv(x, 6, 6, 3, 3, strides=[2, 2])
    return grid.model(grid("Concat", *parts, axis=1))


def bridge() -> ModelProto:
    """Down, up again and beside what was there before."""
    grid = Grid(4)
    x = grid.conv(grid.input(1, 2, 16, 12), 4, 2, 3, 3)
    y = grid.conv(grid.conv(x, 6, 4, 3, 3, strides=[2, 2]), 6, 1, 3, 3, group=6)
    y = grid("Concat", x, grid.larger(y), axis=1)
    kw = {"pads": [1, 1, 1, 1], "count_include_pad": 1}
    mean = grid("AveragePool", y, kernel_shape=[3, 3], **kw)
    y = grid("Concat", grid.conv(y, 10, 1, 3, 3, group=10), mean, axis=1)
    return grid.model(grid.conv(y, 3, 20, 1, 1))


def vectors() -> ModelProto:
    """Means and maxima of channels side by side, and then the outputs of two dense layers."""
    grid = Grid(5)
    x = grid.conv(grid.input(1, 2, 6, 6), 5, 2, 3, 3)
    y = grid("Concat", grid("GlobalAveragePool", x), grid("GlobalMaxPool", x), axis=1)
    y = grid.net("Flatten", y)
    return grid.model(grid("Concat", grid.gemm(y, 4, 10), grid.gemm(y, 7, 10), axis=1))


def rows() -> ModelProto:
    """Along the height and the width; and in time, of one-dimensional signals."""
    grid = Grid(6)
    x = grid.input(1, 2, 6, 5)
    a, b = grid.conv(x, 3, 2, 3, 3), grid.conv(x, 3, 2, 1, 1)
    y = grid("Concat", grid("Concat", a, b, axis=2), grid.conv(x, 3, 2, 1, 1), axis=2)
    y = grid("Concat", y, grid.conv(y, 3, 3, 3, 3), axis=3)
    return grid.model(grid.conv(y, 2, 3, 3, 3))


def signals() -> ModelProto:
    """Channels of one-dimensional signals, one wider than it is long."""
    grid = Grid(7)
    x = grid.conv(grid.input(1, 3, 30), 4, 3, 5, pads=[2, 2])
    y = grid("Concat", grid.conv(x, 5, 4, 3), grid.conv(x, 2, 4, 1), x, axis=1)
    y = grid("Mul", y, grid.conv(y, 11, 11, 3))
    return grid.model(grid("Concat", y, grid.conv(y, 3, 11, 3), axis=2 - 1))


JOINED: dict[str, Callable[[], ModelProto]] = {
    "fire": fire,
    "nested": nested,
    "heads": heads,
    "bridge": bridge,
    "vectors": vectors,
    "rows": rows,
    "signals": signals,
}
