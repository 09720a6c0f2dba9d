"""Larger networks of the kinds that streaming is for, with seeded weights; `NETS` names them."""

from collections.abc import Callable

import joined
import numpy as np
from models import Net, quantized
from onnx import ModelProto


def inverted(net: Net, name: str, x: str, *sizes: int, stride: int = 1, kernel: int = 3) -> str:
    """Expand, depthwise, project; with a residual where input and output are alike."""
    inputs, wide, outputs = sizes
    y = net("Relu", net.conv(f"{name}e", x, wide, inputs, 1, 1))
    shape = (wide, 1, kernel, kernel)
    y = net("Relu", net.conv(f"{name}d", y, *shape, group=wide, strides=[stride] * 2))
    y = net.conv(f"{name}p", y, outputs, wide, 1, 1)
    return net("Add", y, x) if inputs == outputs and stride == 1 else y


def mobile() -> ModelProto:
    net = Net(17, seed=1)
    x = net.conv("stem", net.input("x", 1, 3, 24, 20), 8, 3, 3, 3, strides=[2, 2])
    x = inverted(net, "a", net("Relu", x), 8, 16, 8)
    x = inverted(net, "b", x, 8, 16, 12, stride=2, kernel=5)
    x = inverted(net, "c", x, 12, 24, 12)
    x = inverted(net, "d", x, 12, 24, 12, kernel=5)
    x = net("GlobalAveragePool", net("Relu", net.conv("head", x, 16, 12, 1, 1)))
    return net.model(net.gemm("fc", net("Flatten", x), 4, 16))


def inception() -> ModelProto:
    """Branches of different reach into one concatenation, twice."""
    net = Net(17, seed=2)
    x = net("Relu", net.conv("stem", net.input("x", 1, 2, 18, 14), 6, 2, 3, 3))
    for i in range(2):
        a = net("Relu", net.conv(f"{i}a", x, 2, 6, 1, 1))
        b = net("Relu", net.conv(f"{i}b", x, 2, 6, 3, 3))
        c = net("Relu", net.conv(f"{i}c", net.conv(f"{i}r", x, 2, 6, 1, 1), 2, 2, 5, 5))
        x = net("Concat", a, b, c, axis=1)
    x = net("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    return net.model(net.conv("head", x, 3, 6, 1, 1, pads=[0] * 4))


def dilated() -> ModelProto:
    """Growing dilations with residuals, and padding that is not the same on both sides."""
    net = Net(17, seed=3)
    x = net("Relu", net.conv("stem", net.input("x", 1, 2, 22, 10), 4, 2, 3, 3))
    for d in (1, 2, 3):
        y = net.conv(f"d{d}", x, 4, 4, 3, 3, dilations=[d, d], pads=[d] * 4)
        x = net("Relu", net("Add", y, x))
    x = net.conv("low", x, 4, 4, 4, 4, strides=[2, 2], pads=[0, 1, 2, 1])
    x = net("Relu", net.conv("high", net("Relu", x), 4, 4, 4, 4, pads=[3, 2, 0, 1]))
    return net.model(net.conv("out", x, 2, 4, 2, 2, pads=[1, 1, 0, 0]))


def encoder() -> ModelProto:
    """Down and up again, with a bridge across."""
    net = Net(18, seed=4)
    x = net("Relu", net.conv("a", net.input("x", 1, 2, 16, 16), 4, 2, 3, 3))
    y = net("Relu", net.conv("b", x, 8, 4, 3, 3, strides=[2, 2]))
    y = net("Relu", net.conv("c", y, 8, 1, 3, 3, group=8))
    scales = net.const("scales", [1, 1, 2, 2], np.float32)
    kw = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    y = net("Resize", y, "", scales, mode="nearest", **kw)
    x = net("Concat", x, y, axis=1)
    x = net("Relu", net.conv("d", x, 4, 12, 3, 3))
    return net.model(net.conv("e", x, 1, 4, 1, 1))


def speech() -> ModelProto:
    """One-dimensional, with strides and a depthwise filter longer than its input is deep."""
    net = Net(17, seed=5)
    x = net("Relu", net.conv("a", net.input("x", 1, 4, 60), 8, 4, 5, strides=[2], pads=[2, 2]))
    for i in range(3):
        y = net("Relu", net.conv(f"d{i}", x, 8, 1, 9, group=8, pads=[4, 4]))
        x = net("Add", net.conv(f"p{i}", y, 8, 8, 1, pads=[0, 0]), x)
    return net.model(net.conv("out", x, 2, 8, 1, pads=[0, 0]))


def drawn(seed: int) -> ModelProto:
    """A chain of random windows with residuals wherever shapes allow."""
    net, random = Net(17, seed=seed), np.random.default_rng(seed)
    x, channels, size = net.input("x", 1, 3, 20, 9), 3, [20, 9]
    for i in range(7):
        kernel, stride = int(random.integers(1, 6)), int(random.choice([1, 1, 1, 2]))
        pads = [int(n) for n in random.integers(0, kernel, 4)]
        after = [(n + pads[a] + pads[a + 2] - kernel) // stride + 1 for a, n in enumerate(size)]
        outputs = channels if random.random() < 0.6 else int(random.integers(2, 7))
        if min(after) < 2:
            continue
        shape = (outputs, channels, kernel, kernel)
        y = net("Relu", net.conv(f"c{i}", x, *shape, strides=[stride] * 2, pads=pads))
        same = outputs == channels and after == size
        x, channels, size = (net("Add", y, x) if same else y), outputs, after
    return net.model(x)


FLOAT: dict[str, Callable[[], ModelProto]] = {
    "mobile": mobile,
    "inception": inception,
    "dilated": dilated,
    "encoder": encoder,
    "speech": speech,
    "drawn_6": lambda: drawn(6),
    "drawn_7": lambda: drawn(7),
    "drawn_8": lambda: drawn(8),
}
NETS: dict[str, Callable[[], ModelProto]] = {
    **{f"{name}_float": build for name, build in FLOAT.items() if "_" not in name},
    "fire_grid": joined.fire,
    "bridge_grid": joined.bridge,
    **{f"{name}_net": lambda build=build: quantized(build) for name, build in FLOAT.items()},
}
