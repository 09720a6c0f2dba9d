"""The ten networks of `prunable` in small, node by node: `TEN` names them."""

from typing import Any

import numpy as np
from models import Builder, Net
from onnx import ModelProto

KERNEL = (3, 3)
PADS = {"pads": [1, 1, 1, 1]}


def unit(net: Net, name: str, x: str, outputs: int, inputs: int, **kw: Any) -> str:
    """Convolution, normalisation, ReLU."""
    y = net("Conv", x, net.weight(f"{name}.w", outputs, inputs, *KERNEL), out=name, **kw, **PADS)
    return net("Relu", net.norm(f"{name}.bn", y, outputs), out=f"{name}.relu")


def head(net: Net, x: str, inputs: int) -> ModelProto:
    x = net("ReduceMean", x, net.const("space", [2, 3], np.int64), keepdims=0, out="mean")
    return net.model(net.gemm("fc", x, 5, inputs))


def image(net: Net, channels: int = 3) -> str:
    return net.input("x", 1, channels, 8, 8)


def block(net: Net, name: str, x: str, outputs: int, inputs: int) -> str:
    """Two convolutions and a shortcut, which has weights where the number of channels changes."""
    stride = 1 if outputs == inputs else 2
    strides = [stride, stride]
    y = unit(net, f"{name}a", x, outputs, inputs, strides=strides)
    y = net.conv(f"{name}b", y, outputs, outputs, *KERNEL)
    if stride > 1:
        x = net.conv(f"{name}s", x, outputs, inputs, 1, 1, strides=strides)
    return net("Relu", net("Add", y, x, out=f"{name}+"), out=f"{name}.relu")


def resnet8() -> ModelProto:
    net = Net()
    x = block(net, "b1", unit(net, "stem", image(net), 4, 3), 4, 4)
    x = block(net, "b3", block(net, "b2", x, 8, 4), 16, 8)
    return head(net, x, 16)


def ds_cnn() -> ModelProto:
    net = Net()
    x = unit(net, "stem", image(net, 1), 8, 1)
    for i in range(2):
        x = unit(net, f"dw{i}", x, 8, 1, group=8)
        x = unit(net, f"pw{i}", x, 8, 8)
    return head(net, x, 8)


def identity_blocks() -> ModelProto:
    net = Net()
    x = unit(net, "stem", image(net), 4, 3)
    return head(net, block(net, "b2", block(net, "b1", x, 4, 4), 4, 4), 4)


def concat() -> ModelProto:
    net = Net()
    x = unit(net, "stem", image(net), 4, 3)
    x = net("Concat", unit(net, "a", x, 2, 4), unit(net, "b", x, 6, 4), axis=1, out="cat")
    return head(net, unit(net, "fuse", x, 4, 8), 4)


def conv_flatten_fc() -> ModelProto:
    net = Net()
    x = unit(net, "conv", image(net), 4, 3)
    x = net("MaxPool", x, kernel_shape=[4, 4], strides=[4, 4], out="pool")
    x = net("Relu", net.gemm("fc1", net("Flatten", x, out="flat"), 6, 16), out="fc1.relu")
    return net.model(net.gemm("fc2", x, 5, 6))


def split_concat() -> ModelProto:
    net = Net()
    x = unit(net, "stem", image(net), 8, 3)
    sizes = net.const("sizes", [4, 4], np.int64)
    net.many("Split", x, sizes, out=["left", "right"], axis=1)
    x = net("Concat", unit(net, "conv", "left", 4, 4), "right", axis=1, out="cat")
    return head(net, x, 8)


def grouped_conv() -> ModelProto:
    net = Net()
    x = unit(net, "stem", image(net), 8, 3)
    x = unit(net, "grouped", x, 12, 2, group=4)
    return head(net, unit(net, "point", x, 4, 12), 4)


def squeeze_excite() -> ModelProto:
    net = Net()
    x = unit(net, "conv", image(net), 8, 3)
    y = net("GlobalAveragePool", x, out="pool")
    y = net("Flatten", y, out="flat")
    y = net("Relu", net.gemm("squeeze", y, 2, 8), out="squeeze.relu")
    y = net("Sigmoid", net.gemm("excite", y, 8, 2), out="gate")
    y = net("Reshape", y, net.const("shape", [1, -1, 1, 1], np.int64), out="gates")
    return head(net, unit(net, "last", net("Mul", x, y, out="scaled"), 4, 8), 4)


def gru() -> ModelProto:
    """As torch writes batch_first: [N, T, I] -> [T, N, I], one direction squeezed away."""
    net = Net()
    x = net("Transpose", net.input("x", 1, 6, 3), perm=[1, 0, 2], out="steps")
    width = 3
    for name, hidden in (("gru1", 4), ("gru2", 5)):
        parts = [
            net.weight(f"{name}.{part}", 1, *shape)
            for part, shape in (
                ("w", (3 * hidden, width)),
                ("r", (3 * hidden, hidden)),
                ("b", (6 * hidden,)),
            )
        ]
        state = net.const(f"{name}.h", np.zeros((1, 1, hidden)), np.float32)
        net.many("GRU", x, *parts, "", state, out=[name, f"{name}.last"], hidden_size=hidden)
        x = net("Squeeze", name, net.const("one", [1], np.int64), out=f"{name}.y")
        width = hidden
    x = net("Gather", x, net.const("end", -1, np.int64), axis=0, out="end.y")
    return net.model(net.gemm("fc", x, 5, 5))


def attention() -> ModelProto:
    net = Net(20)
    heads, width, size = 2, 8, 4
    split = net.const("split", [1, 6, heads, size], np.int64)

    def linear(name: str, x: str, inputs: int, outputs: int) -> str:
        y = net("MatMul", x, net.weight(f"{name}.w", inputs, outputs), out=f"{name}.product")
        return net("Add", y, net.weight(f"{name}.b", outputs), out=name)

    def norm(name: str, x: str) -> str:
        parts = [net.weight(f"{name}.{part}", width) for part in ("scale", "shift")]
        return net("LayerNormalization", x, *parts, out=name)

    x = linear("embed", net.input("x", 1, 6, 3), 3, width)
    y = norm("norm1", x)
    for name in "qkv":
        z = net("Reshape", linear(name, y, width, width), split, out=f"{name}.split")
        perm = [0, 2, 3, 1] if name == "k" else [0, 2, 1, 3]
        net("Transpose", z, perm=perm, out=f"{name}.heads")
    y = net("MatMul", "q.heads", "k.heads", out="scores")
    y = net("Softmax", net("Div", y, net.const("root", 2, np.float32), out="scaled"), out="weights")
    y = net("MatMul", y, "v.heads", out="mixed")
    y = net("Transpose", y, perm=[0, 2, 1, 3], out="mixed.t")
    y = net("Reshape", y, net.const("join", [1, 6, width], np.int64), out="joined")
    x = net("Add", x, linear("out", y, width, width), out="x1")
    y = net("Gelu", linear("up", norm("norm2", x), width, 12), out="gelu")
    x = net("Add", x, linear("down", y, 12, width), out="x2")
    x = net("ReduceMean", x, net.const("time", [1], np.int64), keepdims=0, out="mean")
    return net.model(net.gemm("fc", x, 5, width))


TEN: dict[str, Builder] = {
    build.__name__: build
    for build in (
        resnet8,
        ds_cnn,
        identity_blocks,
        concat,
        conv_flatten_fc,
        split_concat,
        grouped_conv,
        squeeze_excite,
        gru,
        attention,
    )
}
