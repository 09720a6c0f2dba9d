"""Each pass on a model small enough to read: golden graphs before and after, and both are run."""

import functools
from collections.abc import Callable

import numpy as np
import pytest
from models import Net
from onnx import ModelProto, TensorProto
from test_laws import check_laws, outputs

from mcugraph import passes
from mcugraph.passes import Head
from mcugraph.text import graph_text

GoldenGraph = Callable[..., None]


def qoperator_to_qdq() -> ModelProto:
    net = Net(17)
    x = net.input("x", 1, 2, 4, 4, kind=TensorProto.INT8)
    weights = (net.bytes("w", 3, 2, 1, 1), *net.grid(0.01, 0))
    bias = net.const("b", [100, -50, 0], np.int32)
    y = net("QLinearConv", x, *net.grid(0.1, 3), *weights, *net.grid(0.05, -4), bias, out="y")
    return net.model(y, kind=TensorProto.INT8)


def fold_constants() -> ModelProto:
    net = Net(17)
    x = net.input("x", 1, 2, 3, 4)
    rows = net("Gather", net("Shape", x), net.const("axes", [0, 1], np.int64))
    rest = net.const("rest", [-1], np.int64)
    return net.model(net("Reshape", x, net("Concat", rows, rest, axis=0), out="y"))


def eliminate_identity() -> ModelProto:
    net = Net(17)
    x = net("Relu", net.input("x", 1, 2, 4, 4), out="relu")
    x = net("Transpose", net("Dropout", x), perm=[0, 1, 2, 3])
    x = net("Add", net("MaxPool", x, kernel_shape=[1, 1]), net.const("zero", 0, np.float32))
    return net.model(net("Sigmoid", x, out="y"))


def fold_batchnorm() -> ModelProto:
    net = Net(17)
    x = net.conv("conv", net.input("x", 1, 3, 8, 8), 4, 3, 3, 3)
    return net.model(net("Relu", net.norm("bn", x, 4), out="y"))


def eliminate_transposes() -> ModelProto:
    net = Net(17)
    x = net.input("x", 1, 2, 6, 6)
    for name, inputs in (("a", 2), ("b", 4)):
        x = net("Transpose", net.conv(name, x, 4, inputs, 3, 3), perm=[0, 2, 3, 1])
        x = net("Add", net("Relu", x), net.weight(f"{name}.offset", 4))
        x = net("Transpose", x, perm=[0, 3, 1, 2])
    return net.model(net("Softmax", x, out="y", axis=1))


def fold_pad() -> ModelProto:
    net = Net(18)
    x = net.quantize(net.input("x", 1, 2, 6, 6), 0.05, 3)
    pads, value = net.const("pads", [0, 0, 1, 1], np.int64), net.const("value", 0, np.float32)
    axes = net.const("axes", [-2, -1], np.int64)
    x = net("Pad", net.dequantize(x, 0.05, 3), pads, value, axes, out="padded")
    x = net.dequantize(net.quantize(x, 0.05, 3), 0.05, 3)
    w = net.dequantize(net.bytes("w", 3, 2, 3, 3), 0.01, 0)
    x = net("Conv", x, w, strides=[2, 2], pads=[1, 0, 0, 0])
    return net.model(net.quantize(x, 0.1, -4, out="y"), kind=TensorProto.INT8)


def canonicalize_pooling() -> ModelProto:
    net = Net(18)
    x = net.input("x", 1, 6, 5, 4)
    mean = net("ReduceMean", x, net.const("axes", [-1, -2], np.int64), out="mean", keepdims=0)
    largest = net("MaxPool", x, out="largest", kernel_shape=[5, 4])
    return net.model(mean, largest)


def hoist_quantizers() -> ModelProto:
    net = Net(17)
    x = net.conv("conv", net.input("x", 1, 2, 4, 4), 3, 2, 1, 1)
    x = net("Reshape", x, net.const("flat", [1, 48], np.int64), out="flattened")
    return net.model(net.quantize(x, 0.05, 3, out="y"), kind=TensorProto.INT8)


def signed_activations() -> ModelProto:
    net = Net(17)
    x = net.quantize(net.input("x", 1, 2, 4, 4), 0.1, 128, dtype=np.uint8)
    x = net("MaxPool", x, kernel_shape=[2, 2])
    return net.model(net.dequantize(x, 0.1, 128, out="y", dtype=np.uint8))


def drop_constant_channels() -> ModelProto:
    net = Net(17)
    x = net("Relu", net.conv("a", net.input("x", 1, 2, 4, 4), 6, 2, 3, 3))
    net.tensors["a.weight"][[1, 4]] = 0
    net.tensors["a.bias"][1], net.tensors["a.bias"][4] = -1, 2
    return net.model(net("Relu", net.conv("b", x, 3, 6, 1, 1), out="y"))


def fuse_activation() -> ModelProto:
    net = Net(17)
    x = net("Relu", net.conv("conv", net.input("x", 1, 2, 4, 4), 3, 2, 1, 1))
    x = net.quantize(net("Clip", x, "", net.const("six", 6, np.float32)), 6 / 255, -128, out="y")
    return net.model(x, kind=TensorProto.INT8)


def unshare_weights() -> ModelProto:
    net = Net(17)
    x, w = net.input("x", 1, 3, 4, 4), net.dequantize(net.bytes("w", 3, 3, 1, 1), 0.01, 0)
    for _ in range(2):
        x = net("Relu", net("Conv", x, w))
    return net.model(x)


# A new pass needs a model here, a small one that it changes, by its own name.
BEFORE = {
    build.__name__: build
    for build in (
        qoperator_to_qdq,
        fold_constants,
        eliminate_identity,
        fold_batchnorm,
        eliminate_transposes,
        fold_pad,
        canonicalize_pooling,
        hoist_quantizers,
        signed_activations,
        drop_constant_channels,
        fuse_activation,
        unshare_weights,
    )
}


def name_of(apply: passes.Pass) -> str:
    return str(apply.__name__)


@pytest.mark.parametrize("apply", dict.fromkeys(passes.CLEANUP), ids=name_of)
def test_cleanup(apply: passes.Pass, golden_graph: GoldenGraph) -> None:
    before = BEFORE[name_of(apply)]()
    after = apply(before)
    check_laws(apply, before, outputs(before, 3))
    assert graph_text(after) != graph_text(before)
    golden_graph(before, ".before.txt")
    golden_graph(after, ".after.txt")


def two_convolutions() -> ModelProto:
    net = Net(17)
    x = net("Relu", net.conv("a", net.input("x", 1, 2, 6, 6), 6, 2, 3, 3), out="relu")
    x = net("GlobalAveragePool", net("Relu", net.conv("b", x, 5, 6, 3, 3)))
    return net.model(net("Flatten", x, out="y"))


def two_blocks() -> ModelProto:
    net = Net(17)
    x = net("Relu", net.conv("stem", net.input("x", 1, 2, 6, 6), 4, 2, 3, 3))
    x = net("Relu", net("Add", x, net.conv("block", x, 4, 4, 3, 3)))
    x = net("Add", net.conv("wide", x, 6, 4, 3, 3), net.conv("projection", x, 6, 4, 1, 1))
    return net.model(net("GlobalAveragePool", x, out="y"))


HEAD = Head("dense", (4,), 3)
DECISIONS: dict[str, passes.Pass] = {
    "remove_channels": functools.partial(passes.remove_channels, keep={"a.weight": [0, 2, 5]}),
    "cut_depth": functools.partial(passes.cut_depth, tensor="relu", head=HEAD),
    "add_exit": functools.partial(passes.add_exit, tensor="relu", head=HEAD, threshold=0.8),
    "factorize": functools.partial(passes.factorize, ranks={"b.weight": 2}),
    "cluster_weights": functools.partial(passes.cluster_weights, codebooks={"b.weight": 4}),
    "split_model_head": lambda model: passes.split_model(model, "relu")[0],
    "split_model_tail": lambda model: passes.split_model(model, "relu")[1],
}


def test_branches(golden_graph: GoldenGraph) -> None:
    before = two_blocks()
    after = passes.drop_branches(before, ["block", "wide"])
    assert all(np.isfinite(each).all() for each in outputs(after, 3))
    golden_graph(before, ".before.txt")
    golden_graph(after, ".after.txt")


def test_before_any_decision(golden_graph: GoldenGraph) -> None:
    golden_graph(two_convolutions())


@pytest.mark.parametrize("name", DECISIONS)
def test_decision(name: str, golden_graph: GoldenGraph) -> None:
    result = DECISIONS[name](two_convolutions())
    assert all(np.isfinite(each).all() for each in outputs(result, 3))
    golden_graph(result)
