"""Random convolutional networks of operators that carry channels around."""

import random
from typing import Any

import numpy as np
from models import Net
from onnx import ModelProto

Tensor = tuple[str, tuple[int, ...]]


class ChannelNet:
    """Grows from one input; whatever nobody reads ends in a pooled convolution of its own."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.net = Net(self.dice.choice([11, 13, 18]), seed)
        x = self.net.input("x", 1, 3, 6, 6)
        self.pool: list[Tensor] = [self._conv((x, (1, 3, 6, 6)), 8)]
        kinds = [self.conv, self.grouped, self.depthwise, self.unary, self.unary, self.add]
        kinds += [self.concat, self.split, self.cut, self.pick, self.norm, self.scaled, self.wide]
        kinds += [self.pooled, self.shuffled, self.gated, self.folded, self.turned, self.tiled]
        kinds += [self.grid, self.transposed_conv]
        for _ in range(self.dice.randint(3, 9)):
            self.pool.extend(self.dice.choice(kinds)(self.dice.choice(self.pool[-4:])))

    def model(self) -> ModelProto:
        read = {name for node in self.net.nodes for name in node.input}
        ends = [self._head(tensor) for tensor in self.pool if tensor[0] not in read]
        return self.net.model(self.net("Concat", *ends, axis=1) if len(ends) > 1 else ends[0])

    def _head(self, tensor: Tensor) -> str:
        x, shape = tensor
        if self.dice.random() < 0.5:
            y, _ = self._conv(tensor, 2)
            return self.net("Flatten", self.net("GlobalAveragePool", y))
        flat = int(np.prod(shape[1:]))
        return self.net.gemm(self._name("fc"), self.net("Flatten", x), 2, flat)

    def _name(self, kind: str) -> str:
        return f"{kind}{len(self.net.nodes)}"

    def _ints(self, kind: str, *values: int) -> str:
        return self.net.const(self._name(kind), values, np.int64)

    def _conv(self, tensor: Tensor, outputs: int, **kw: Any) -> Tensor:
        x, shape = tensor
        size = self.dice.choice([1, 3])
        inputs = shape[1] // kw.get("group", 1)
        y = self.net.conv(self._name("conv"), x, outputs, inputs, size, size, **kw)
        return y, (1, outputs, *shape[2:])

    def conv(self, tensor: Tensor) -> list[Tensor]:
        return [self._conv(tensor, self.dice.choice([4, 6, 8]))]

    def grouped(self, tensor: Tensor) -> list[Tensor]:
        return [self._conv(tensor, 8, group=2)] if tensor[1][1] % 2 == 0 else []

    def depthwise(self, tensor: Tensor) -> list[Tensor]:
        count = tensor[1][1]
        return [self._conv(tensor, count * self.dice.choice([1, 1, 2]), group=count)]

    def transposed_conv(self, tensor: Tensor) -> list[Tensor]:
        x, (_, count, *space) = tensor
        groups = self.dice.choice([1, 1, 2, count])
        if count % groups:
            return []
        w = self.net.weight(self._name("up"), count, 6 // groups if groups < 3 else 1, 1, 1)
        y = self.net("ConvTranspose", x, w, group=groups)
        return [(y, (1, 6 if groups < 3 else count, *space))]

    def unary(self, tensor: Tensor) -> list[Tensor]:
        op = self.dice.choice(["Relu", "Sigmoid", "LeakyRelu", "Tanh", "Cos", "Dropout"])
        return [(self.net(op, tensor[0]), tensor[1])]

    def norm(self, tensor: Tensor) -> list[Tensor]:
        return [(self.net.norm(self._name("bn"), tensor[0], tensor[1][1]), tensor[1])]

    def add(self, tensor: Tensor) -> list[Tensor]:
        x, shape = tensor
        others = [name for name, other in self.pool if other == shape]
        return [(self.net(self.dice.choice(["Add", "Mul"]), self.dice.choice(others), x), shape)]

    def scaled(self, tensor: Tensor) -> list[Tensor]:
        x, shape = tensor
        w = self.net.weight(self._name("w"), shape[1], 1, 1)
        op = "PRelu" if self.dice.random() < 0.5 else "Sub"
        return [(self.net(op, x, w), shape)]

    def wide(self, tensor: Tensor) -> list[Tensor]:
        """One channel, broadcast over a constant or expanded."""
        x, (_, count, *space) = tensor
        y, _ = self._conv(tensor, 1)
        shape = (1, count, *space)
        if self.dice.random() < 0.5:
            return [(self.net("Add", y, self.net.weight(self._name("w"), count, 1, 1)), shape)]
        wide = self.net("Expand", y, self._ints("shape", *shape))
        return [(self.net("Add", wide, x), shape)]

    def concat(self, tensor: Tensor) -> list[Tensor]:
        x, (_, count, *space) = tensor
        others = [(n, s[1]) for n, s in self.pool if s[2:] == tuple(space) and s[1] < 16]
        y, more = self.dice.choice(others or [(x, count)])
        return [(self.net("Concat", x, y, axis=1 if more % 3 else -3), (1, count + more, *space))]

    def split(self, tensor: Tensor) -> list[Tensor]:
        x, (_, count, *space) = tensor
        first = self.dice.randint(1, count - 1) if count > 1 else 1
        sizes = [first, count - first] if count > 1 else [1]
        if self.dice.random() < 0.5 and count % 2 == 0:
            sizes = [count // 2] * 2
        kw: dict[str, Any] = {"axis": 1}
        inputs = [x]
        if self.net.opset < 13:
            kw["split"] = sizes
        elif sizes[0] != sizes[-1] or len(sizes) == 1 or self.net.opset == 13:
            inputs.append(self._ints("sizes", *sizes))
        else:
            kw["num_outputs"] = 2
        names = [f"{self._name('part')}_{i}" for i in range(len(sizes))]
        self.net.many("Split", *inputs, out=names, **kw)
        return [(name, (1, size, *space)) for name, size in zip(names, sizes, strict=True)]

    def cut(self, tensor: Tensor) -> list[Tensor]:
        x, (_, count, *space) = tensor
        start, end, step = self.dice.choice([(0, -1, 1), (1, 99, 2), (-1, -99, -1), (1, 4, 1)])
        taken = len(range(count)[slice(start, end, step)])
        if taken == 0:
            return []
        limits = [self._ints(k, v) for k, v in (("s", start), ("e", end), ("a", 1), ("t", step))]
        return [(self.net("Slice", x, *limits), (1, taken, *space))]

    def pick(self, tensor: Tensor) -> list[Tensor]:
        x, (_, count, *space) = tensor
        table = [self.dice.randrange(-count, count) for _ in range(self.dice.randint(2, 6))]
        return [(self.net("Gather", x, self._ints("t", *table), axis=1), (1, len(table), *space))]

    def pooled(self, tensor: Tensor) -> list[Tensor]:
        op = self.dice.choice(["MaxPool", "AveragePool"])
        y = self.net(op, tensor[0], kernel_shape=[3, 3], pads=[1, 1, 1, 1])
        return [(y, tensor[1])]

    def shuffled(self, tensor: Tensor) -> list[Tensor]:
        """ShuffleNet's."""
        x, (_, count, *space) = tensor
        if count % 2:
            return []
        x = self.net("Reshape", x, self._ints("apart", 0, 2, count // 2, *space))
        x = self.net("Transpose", x, perm=[0, 2, 1, 3, 4])
        return [(self.net("Reshape", x, self._ints("together", 1, -1, *space)), tensor[1])]

    def gated(self, tensor: Tensor) -> list[Tensor]:
        """Squeeze and excite."""
        x, shape = tensor
        y, small = self._conv((self.net("GlobalAveragePool", x), (1, shape[1], 1, 1)), 4)
        y, _ = self._conv((self.net("Relu", y), small), shape[1])
        return [(self.net("Mul", x, self.net("Sigmoid", y)), shape)]

    def folded(self, tensor: Tensor) -> list[Tensor]:
        x, (_, count, *space) = tensor
        if count % 4:
            return []
        kw = {"mode": self.dice.choice(["DCR", "CRD"])}
        y = self.net("DepthToSpace", x, blocksize=2, **kw)
        z = self.net("Tanh", y)
        if self.dice.random() < 0.5:
            return [(self.net("SpaceToDepth", z, blocksize=2), tensor[1])]
        return [(z, (1, count // 4, *(2 * side for side in space)))]

    def turned(self, tensor: Tensor) -> list[Tensor]:
        """Channel-last for a while."""
        x, (_, count, *space) = tensor
        x = self.net("Transpose", x, perm=[0, 2, 3, 1])
        x = self.net("Mul", x, self.net.weight(self._name("gain"), count))
        x = self.net("MatMul", x, self.net.weight(self._name("mat"), count, 6))
        return [(self.net("Transpose", x, perm=[0, 3, 1, 2]), (1, 6, *space))]

    def tiled(self, tensor: Tensor) -> list[Tensor]:
        x, (_, count, *space) = tensor
        if count > 8:
            return []
        return [(self.net("Tile", x, self._ints("repeats", 1, 2, 1, 1)), (1, 2 * count, *space))]

    def grid(self, tensor: Tensor) -> list[Tensor]:
        """Quantised and back, with a scale per channel where the operator set has it."""
        x, shape = tensor
        if self.net.opset < 13:
            return []
        scale = self.net.const(self._name("s"), np.linspace(0.02, 0.05, shape[1]), np.float32)
        zero = self.net.const(self._name("z"), np.arange(shape[1]) - 3, np.int8)
        y = self.net("QuantizeLinear", x, scale, zero, axis=1)
        return [(self.net("DequantizeLinear", y, scale, zero, axis=1), shape)]
