"""Padding goes into the convolution or the average that reads it, wherever that is exact."""

from collections import Counter
from itertools import pairwise

import models
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models import Net
from onnx import ModelProto, NodeProto, TensorProto, helper
from test_laws import check_laws, clean, outputs

from mcugraph.passes import fold_pad
from mcugraph.read import read_graph


def ops(model: ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


def pads_of(model: ModelProto) -> list[list[int]]:
    """The pads of each convolution and average, in order."""
    nodes = [node for node in model.graph.node if node.op_type in ("Conv", "AveragePool")]
    return [list(_attribute(node, "pads")) for node in nodes]


def _attribute(node: NodeProto, name: str) -> list[int]:
    found = (helper.get_attribute_value(a) for a in node.attribute if a.name == name)
    return next(found, [])


def folded(model: ModelProto) -> ModelProto:
    """The model without a Pad, after the five laws."""
    check_laws(fold_pad, model, outputs(model, 3))
    result = fold_pad(model)
    assert ops(result)["Pad"] == 0 < ops(model)["Pad"]
    return result


def pad(net: Net, x: str, pads: list[int], *rest: str, **kw: str) -> str:
    """A Pad in the form of the net's opset."""
    if net.opset < 11:
        return net("Pad", x, pads=pads, **kw)
    return net("Pad", x, net.const(f"pads{net.count}", pads, np.int64), *rest, **kw)


@pytest.mark.parametrize("opset", [10, 11, 17, 18, 22])
def test_pads_add_up(opset: int) -> None:
    net = Net(opset)
    x = pad(net, net.input("x", 1, 3, 7, 6), [0, 0, 0, 1, 0, 0, 2, 3])
    x = net.conv("conv", x, 4, 3, 3, 3, pads=[1, 0, 1, 1], strides=[2, 2])
    assert pads_of(folded(net.model(x))) == [[1, 1, 3, 4]]


def test_pads_by_axes() -> None:
    net = Net(18)
    axes = net.const("axes", [-1, 2], np.int64)
    x = pad(net, net.input("x", 1, 3, 7, 6), [1, 2, 3, 4], "", axes)
    assert pads_of(folded(net.model(net.conv("conv", x, 4, 3, 3, 3)))) == [[3, 2, 5, 4]]


def test_automatic_pads() -> None:
    for mode, expected in (("NOTSET", [3, 0]), ("VALID", [2, 0])):
        net = Net(17)
        x = pad(net, net.input("x", 1, 3, 9), [0, 0, 2, 0, 0, 0])
        own = {"pads": [1, 0]} if mode == "NOTSET" else {}
        y = net("Conv", x, net.weight("w", 4, 3, 3), auto_pad=mode, **own)
        assert pads_of(folded(net.model(y))) == [expected]
    net = Net(17)
    x = pad(net, net.input("x", 1, 3, 9), [0, 0, 2, 0, 0, 0])
    model = net.model(net("Conv", x, net.weight("w", 4, 3, 3), auto_pad="SAME_UPPER"))
    assert fold_pad(model) == model


def test_pads_of_pads() -> None:
    net = Net(17)
    x = pad(net, net.input("x", 1, 3, 7, 6), [0, 0, 0, 1, 0, 0, 0, 1])
    x = net.conv("conv", pad(net, x, [0, 0, 2, 0, 0, 0, 1, 0]), 4, 3, 3, 3, pads=[0] * 4)
    assert pads_of(folded(net.model(x))) == [[2, 1, 1, 1]]


def test_volume() -> None:
    net = Net(17)
    x = pad(net, net.input("x", 1, 2, 4, 5, 6), [0, 0, 1, 0, 0, 0, 0, 0, 1, 2])
    folded(net.model(net.conv("conv", x, 3, 2, 3, 3, 3)))


PAIRS = {"kernel_shape": (1, 4), "strides": (1, 3), "dilations": (1, 2)}


@given(
    window=st.fixed_dictionaries({k: st.tuples(*[st.integers(*v)] * 2) for k, v in PAIRS.items()}),
    pads=st.tuples(*[st.integers(0, 5)] * 4),
    own=st.tuples(*[st.integers(0, 2)] * 4),
    group=st.sampled_from([1, 2, 4]),
)
@settings(deadline=None, max_examples=80, derandomize=True)
def test_random_convolutions(
    window: dict[str, tuple[int, ...]], pads: tuple[int, ...], own: tuple[int, ...], group: int
) -> None:
    net = Net(17)
    x = pad(net, net.input("x", 1, 4, 8, 7), [0, 0, *pads[:2], 0, 0, *pads[2:]])
    w = net.weight("w", 4, 4 // group, *window["kernel_shape"])
    result = folded(net.model(net("Conv", x, w, group=group, pads=own, **window)))
    assert pads_of(result) == [[one + other for one, other in zip(pads, own, strict=True)]]


# What stays


def test_other_readers_keep_the_pad() -> None:
    net = Net(17)
    x = pad(net, net.input("x", 1, 3, 6, 6), [0, 0, 0, 0, 0, 0, 1, 1])
    a, b = net.conv("a", x, 4, 3, 3, 3), net.conv("b", x, 4, 3, 1, 1)
    model = net.model(a, b, net("Relu", x, out="c"), x)
    check_laws(fold_pad, model, outputs(model, 3))
    result = fold_pad(model)
    assert pads_of(result) == [[1, 1, 2, 2], [0, 0, 1, 1]]
    assert ops(result) == ops(model)


@pytest.mark.parametrize(
    ("pads", "value", "mode"),
    [
        ([0, 0, 1, 1, 0, 0, 1, 1], 0.5, "constant"),
        ([0, 0, 1, 1, 0, 0, 1, 1], 0.0, "edge"),
        ([0, 0, 1, 1, 0, 0, 1, 1], 0.0, "reflect"),
        ([0, 0, 1, -1, 0, 0, 1, 1], 0.0, "constant"),
        ([0, 1, 1, 1, 0, 0, 1, 1], 0.0, "constant"),
        ([1, 0, 0, 0, 0, 0, 1, 1], 0.0, "constant"),
    ],
)
@pytest.mark.parametrize("opset", [10, 17])
def test_other_pads_stay(opset: int, pads: list[int], value: float, mode: str) -> None:
    net = Net(opset)
    x = net.input("x", 1, 3, 6, 6)
    if opset < 11:
        x = net("Pad", x, pads=pads, value=value, mode=mode)
    else:
        x = pad(net, x, pads, net.const("value", value, np.float32), mode=mode)
    model = net.model(net.conv("conv", x, 4, 3 + pads[1], 3, 3))
    assert fold_pad(model) == model


def test_pads_of_run_time_stay() -> None:
    net = Net(17)
    counts = net.input("counts", 8, kind=TensorProto.INT64)
    x = net("Pad", net.input("x", 1, 3, 6, 6), counts)
    assert fold_pad(net.model(net.conv("conv", x, 4, 3, 3, 3))).graph.node[0].op_type == "Pad"
    net = Net(17)
    value = net.input("value", kind=TensorProto.FLOAT)
    x = pad(net, net.input("x", 1, 3, 6, 6), [0, 0, 1, 1, 0, 0, 1, 1], value)
    assert fold_pad(net.model(net.conv("conv", x, 4, 3, 3, 3))).graph.node[0].op_type == "Pad"


def test_largest_of_padded_stays() -> None:
    net = Net(17)
    x = pad(net, net.input("x", 1, 3, 6, 6), [0, 0, 1, 1, 0, 0, 1, 1])
    model = net.model(net("MaxPool", x, kernel_shape=[3, 3]))
    assert fold_pad(model) == model


# Averages


@pytest.mark.parametrize("opset", [11, 17, 19, 22])
@pytest.mark.parametrize("own", [None, [1, 0, 0, 1]])
def test_average_counts_the_pads(opset: int, own: list[int] | None) -> None:
    net = Net(opset)
    x = pad(net, net.input("x", 1, 3, 7, 6), [0, 0, 1, 0, 0, 0, 0, 1])
    kw = {} if own is None else {"pads": own, "count_include_pad": 1}
    model = net.model(net("AveragePool", x, kernel_shape=[3, 3], strides=[2, 2], **kw))
    assert pads_of(folded(model)) == [[1, 0, 0, 1] if own is None else [2, 0, 0, 2]]


@pytest.mark.parametrize(
    "kw",
    [
        {"pads": [1, 1, 1, 1]},
        {"ceil_mode": 1},
        {"kernel_shape": [1, 3]},
        {"dilations": [2, 1]},
    ],
)
def test_other_averages_stay(kw: dict[str, object]) -> None:
    net = Net(19)
    x = pad(net, net.input("x", 1, 3, 7, 6), [0, 0, 1, 0, 0, 0, 0, 1])
    model = net.model(net("AveragePool", x, **({"kernel_shape": [3, 3]} | kw)))
    assert fold_pad(model) == model


# Integers


def quantised(net: Net, x: str, grids: list[tuple[float, int]], dtype: type = np.int8) -> str:
    """DQ - Pad - Q - DQ, each of its own grid."""
    x = net.dequantize(x, *grids[0], dtype=dtype)
    x = pad(net, x, [0, 0, 0, 1, 0, 0, 2, 1])
    return net.dequantize(net.quantize(x, *grids[1], dtype=dtype), *grids[2], dtype=dtype)


def convolved(net: Net, x: str, dtype: type = np.int8) -> ModelProto:
    w = net.dequantize(net.bytes("w", 4, 3, 3, 3), 0.01, 0)
    x = net("Conv", x, w, strides=[2, 2])
    kind = TensorProto.INT8 if dtype is np.int8 else TensorProto.UINT8
    return net.model(net.quantize(x, 0.1, 7, out="y", dtype=dtype), kind=kind)


@pytest.mark.parametrize(("zero", "dtype"), [(0, np.int8), (-128, np.int8), (97, np.uint8)])
def test_quantised_pad(zero: int, dtype: type) -> None:
    net = Net(17)
    kind = TensorProto.INT8 if dtype is np.int8 else TensorProto.UINT8
    x = net.input("x", 1, 3, 7, 6, kind=kind)
    result = folded(convolved(net, quantised(net, x, [(0.05, zero)] * 3, dtype), dtype))
    assert pads_of(result) == [[0, 1, 2, 1]]
    assert ops(result) == {"DequantizeLinear": 2, "Conv": 1, "QuantizeLinear": 1}


@pytest.mark.parametrize("place", range(3))
@pytest.mark.parametrize("other", [(0.05, 4), (0.06, 3)])
def test_pad_between_grids_stays(place: int, other: tuple[float, int]) -> None:
    net = Net(17)
    grids = [(0.05, 3)] * 3
    grids[place] = other
    model = convolved(net, quantised(net, net.input("x", 1, 3, 7, 6, kind=TensorProto.INT8), grids))
    assert fold_pad(model) == model


@pytest.mark.parametrize("zero", [0, 3])
def test_pad_of_integers(zero: int) -> None:
    net = Net(17)
    x = net.input("x", 1, 3, 7, 6, kind=TensorProto.INT8)
    x = pad(net, x, [0, 0, 0, 1, 0, 0, 2, 1], net.const("value", 3, np.int8))
    model = convolved(net, net.dequantize(x, 0.05, zero))
    if zero == 3:
        assert pads_of(folded(model)) == [[0, 1, 2, 1]]
    else:
        assert fold_pad(model) == model


@pytest.mark.parametrize("stored", [5, 6])
def test_quantised_value(stored: int) -> None:
    net = Net(17)
    x = net.dequantize(net.input("x", 1, 3, 7, 6, kind=TensorProto.INT8), 0.05, 3)
    value = net.dequantize(net.const("value", stored, np.int8), 0.1, 5)
    x = pad(net, x, [0, 0, 0, 1, 0, 0, 2, 1], value)
    model = convolved(net, net.dequantize(net.quantize(x, 0.05, 3), 0.05, 3))
    assert (fold_pad(model) == model) == (stored == 6)
    if stored == 5:
        folded(model)


@pytest.mark.parametrize("scale", [0.05, 0.031])
def test_quantised_average(scale: float) -> None:
    net = Net(17)
    x = net.input("x", 1, 3, 7, 6, kind=TensorProto.INT8)
    x = quantised(net, x, [(0.05, 3)] * 3)
    x = net("AveragePool", x, kernel_shape=[3, 3], strides=[2, 2])
    folded(net.model(net.quantize(x, scale, -7, out="y"), kind=TensorProto.INT8))


def strided() -> ModelProto:
    """A block of ResNet-8 as torch users write it: the shortcut reads what is padded."""
    net = Net(17)
    x = net("Relu", net.conv("stem", net.input("x", 1, 3, 8, 8), 4, 3, 3, 3))
    y = pad(net, x, [0, 0, 0, 0, 0, 0, 1, 1])
    y = net("Relu", net.conv("a", y, 8, 4, 3, 3, strides=[2, 2], pads=[0] * 4))
    z = net.conv("down", x, 8, 4, 1, 1, strides=[2, 2])
    return net.model(net("Relu", net("Add", net.conv("b", y, 8, 8, 3, 3), z)))


@pytest.mark.parametrize("style", ["QDQ", "QOperator"])
def test_as_quantised_by_onnxruntime(style: str) -> None:
    model = models.quantized(strided, style)
    result = clean(model)
    assert (ops(model)["Pad"], ops(result)["Pad"]) == (1, 0)
    for one, other in zip(outputs(model, 3), outputs(result, 3), strict=True):
        np.testing.assert_array_equal(one, other)


def test_steps_of_the_compiler() -> None:
    steps = [step.op for step in read_graph(clean(models.quantized(strided))).steps]
    assert steps.count("Conv") == 4
    assert "Pad" not in steps
    assert not any({one, other} == {"QuantizeLinear"} for one, other in pairwise(steps))


def test_notes_of_exporters_stay() -> None:
    model = strided()
    node = next(node for node in model.graph.node if node.output[0] == "a")
    node.metadata_props.append(onnx.StringStringEntryProto(key="module", value="block.conv1"))
    kept = next(node for node in fold_pad(model).graph.node if node.output[0] == "a")
    assert kept.metadata_props == node.metadata_props
