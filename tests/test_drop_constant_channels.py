"""Constant channels go: planted ones by hand and at random; onnxruntime tells the same after."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import models
import nets
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models import Array, Net
from onnx import ModelProto, TensorProto, numpy_helper
from test_laws import check_laws, is_integer, outputs

from mcugraph import passes
from mcugraph.optimize import Settings, optimize
from mcugraph.oracle import Oracle
from mcugraph.passes import drop_constant_channels
from mcugraph.passes._edit import Edit
from mcugraph.passes._ranges import Ranges

ONES = {"pads": [0, 0, 0, 0]}
FLOAT = [*nets.FLOAT.values()]
FLOAT += [build for name, build in models.MODELS.items() if "q" not in name and "u" not in name]
FLOAT += [models.squeeze_excite, models.residual]
INTEGER = [build for name, build in models.MODELS.items() if "qdq" in name or "uint8" in name]


def dropped(model: ModelProto) -> ModelProto:
    """What the pass makes of a model, all laws checked."""
    check_laws(drop_constant_channels, model, outputs(model, 3))
    return drop_constant_channels(model)


def widths(model: ModelProto) -> dict[str, int]:
    """Rows of all weights, by their names."""
    return {t.name: t.dims[0] for t in model.graph.initializer if len(t.dims) > 1}


def bias_of(model: ModelProto, name: str) -> Array:
    """The bias of the convolution or Gemm that makes a tensor."""
    node = next(node for node in model.graph.node if name in node.output)
    return next(
        numpy_helper.to_array(t) for t in model.graph.initializer if t.name == node.input[2]
    )


def clear(net: Net, name: str, rows: Any, bias: float) -> None:
    """Rows of zero weights with this bias."""
    net.tensors[f"{name}.weight"][rows] = 0
    net.tensors[f"{name}.bias"][rows] = bias


def chain(bias: float, **kw: Any) -> ModelProto:
    """Two of six channels are constant; the second convolution reads them."""
    net = Net()
    x = net("Relu", net.conv("a", net.input("x", 1, 2, 7, 6), 6, 2, 3, 3))
    clear(net, "a", [1, 4], bias)
    return net.model(net.conv("b", x, 3, 6, 3, 3, **kw))


def test_a_constant_goes_into_the_next_bias() -> None:
    model = chain(0.7, **ONES)
    result = dropped(model)
    assert widths(result) == {"a.weight": 4, "b.weight": 3}
    weights = numpy_helper.to_array(model.graph.initializer[2])
    change = bias_of(result, "b") - bias_of(model, "b")
    assert np.allclose(change, 0.7 * weights[:, [1, 4]].sum(axis=(1, 2, 3)), atol=1e-6)


def test_a_bias_is_made_where_there_is_none() -> None:
    net = Net()
    x = net.conv("a", net.input("x", 1, 2, 5, 5), 4, 2, 3, 3)
    clear(net, "a", 2, 0.7)
    result = dropped(net.model(net("Conv", x, net.weight("w", 3, 4, 1, 1), out="y")))
    assert widths(result) == {"a.weight": 3, "w": 3}
    assert np.any(bias_of(result, "y"))


def test_at_a_border_only_zeroes_go() -> None:
    assert widths(dropped(chain(-0.7)))["a.weight"] == 4
    assert widths(dropped(chain(0.7)))["a.weight"] == 6
    assert widths(dropped(chain(0.7, auto_pad="SAME_UPPER", pads=None)))["a.weight"] == 6


def test_channels_that_nobody_reads_go_with_all_that_makes_them() -> None:
    net = Net()
    x = net("Relu", net.conv("a", net.input("x", 1, 2, 6, 6), 6, 2, 3, 3))
    x = net("Relu", net.conv("b", x, 6, 1, 3, 3, group=6))
    x = net("Relu", net.conv("c", x, 5, 6, 3, 3))
    net.tensors["c.weight"] *= np.isin(range(6), [0, 2, 3])[:, None, None]
    y = net.conv("d", x, 2, 5, 1, 1)
    net.tensors["d.weight"][:, 1] = 0
    assert widths(dropped(net.model(y))) == {
        "a.weight": 3,
        "b.weight": 3,
        "c.weight": 4,
        "d.weight": 2,
    }


def test_dead_rows_free_what_only_they_read() -> None:
    net = Net()
    x = net.conv("a", net.input("x", 1, 2, 6, 6), 4, 2, 3, 3)
    y = net.conv("b", x, 4, 4, 1, 1)
    net.tensors["b.weight"][[0, 1, 3], 2] = 0
    z = net.conv("c", y, 3, 4, 1, 1)
    net.tensors["c.weight"][:, 2] = 0
    assert widths(dropped(net.model(z))) == {"a.weight": 3, "b.weight": 3, "c.weight": 3}


def test_normalisation_of_zeroes_is_constant() -> None:
    net = Net()
    x = net("Conv", net.input("x", 1, 2, 6, 6), net.weight("a.weight", 5, 2, 3, 3))
    x = net("Relu", net.norm("n", x, 5))
    net.tensors["a.weight"][[0, 3]] = 0
    net.tensors["n.weight"][2] = 0
    net.tensors["n.bias"][2] = -1
    result = dropped(net.model(net.conv("b", x, 3, 5, 1, 1)))
    assert widths(result) == {"a.weight": 2, "b.weight": 3}


def test_zero_invariant_groups_of_a_residual_network() -> None:
    """OTO: a group is zero in all convolutions and normalisations that make it."""
    net = Net()

    def unit(name: str, x: str, *shape: int) -> str:
        return net.norm(f"{name}n", net.conv(name, x, *shape, 3, 3), shape[0])

    x = net("Relu", unit("stem", net.input("x", 1, 3, 8, 8), 6, 3))
    y = net("Relu", unit("a", x, 5, 6))
    x = net("Relu", net("Add", unit("b", y, 6, 5), x))
    for name, rows in (("stem", [1, 5]), ("a", [0]), ("b", [1, 5])):
        clear(net, name, rows, 0)
        for part in ("weight", "bias", "mean"):
            net.tensors[f"{name}n.{part}"][rows] = 0
    x = net("Flatten", net("GlobalAveragePool", x))
    result = dropped(net.model(net.gemm("fc", x, 3, 6)))
    assert widths(result) == {"stem.weight": 4, "a.weight": 4, "b.weight": 4, "fc.weight": 3}


def test_a_sum_stays_while_one_term_varies() -> None:
    net = Net()
    x = net.input("x", 1, 2, 6, 6)
    a, b = (net.conv(name, x, 4, 2, 3, 3) for name in "ab")
    clear(net, "a", [0, 1], 0.5)
    clear(net, "b", [1, 2], 0.5)
    result = dropped(net.model(net.conv("c", net("Add", a, b), 3, 4, 1, 1)))
    assert widths(result)["a.weight"] == widths(result)["b.weight"] == 3


def test_bounds_decide_what_relu_leaves() -> None:
    """Sigmoids are at most 1: two of these channels are never positive."""
    net = Net()
    x = net("Sigmoid", net.input("x", 1, 2, 6, 6))
    x = net("Relu", net.conv("a", x, 4, 2, 1, 1))
    net.tensors["a.weight"][:] = 0.4
    net.tensors["a.bias"][:] = [-0.9, -0.7, 0.1, -0.81]
    assert widths(dropped(net.model(net.conv("b", x, 3, 4, 3, 3))))["a.weight"] == 2


def test_through_concat_split_and_flatten() -> None:
    net = Net()
    x = net.input("x", 1, 2, 4, 4)
    a, b = net.conv("a", x, 3, 2, 3, 3), net.conv("b", x, 5, 2, 3, 3)
    clear(net, "a", 2, 0.25)
    clear(net, "b", [0, 4], -0.5)
    joined = net("Concat", a, b, axis=1)
    x, y = net.many("Split", joined, out=["left", "right"], axis=1, num_outputs=2)
    x = net("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    y = net("AveragePool", y, kernel_shape=[2, 2], strides=[2, 2])
    x, y = net.gemm("c", net("Flatten", x), 3, 16), net.gemm("d", net("Flatten", y), 3, 16)
    result = dropped(net.model(net("Add", x, y)))
    assert widths(result) == {"a.weight": 2, "b.weight": 3, "c.weight": 3, "d.weight": 3}


def test_of_a_constant_layer_one_channel_stays() -> None:
    net = Net()
    x = net("Relu", net.conv("a", net.input("x", 1, 2, 6, 6), 6, 2, 3, 3))
    x = net("Relu", net.conv("b", x, 5, 6, 3, 3))
    clear(net, "b", slice(None), 0.3)
    result = dropped(net.model(net.conv("c", x, 3, 5, 1, 1)))
    assert widths(result) == {"a.weight": 1, "b.weight": 1, "c.weight": 3}


@pytest.mark.parametrize(
    ("bias", "kinds"), [(-1.0, ["Conv", "Relu"]), (1.0, ["Conv", "Add", "Relu"])]
)
def test_a_constant_branch_is_not_computed(bias: float, kinds: list[str]) -> None:
    net = Net()
    x = net.conv("a", net.input("x", 1, 2, 6, 6), 4, 2, 3, 3)
    y = net("Relu", net.conv("c", net("Relu", net.conv("b", x, 4, 4, 3, 3)), 4, 4, 3, 3))
    clear(net, "c", slice(None), bias)
    result = dropped(net.model(net("Relu", net("Add", y, x))))
    assert [node.op_type for node in result.graph.node] == kinds


def test_recurrent_units_that_only_the_layer_reads_stay() -> None:
    net = Net(14)
    x = net.input("x", 3, 1, 4)
    weights = [net.weight("w", 1, 15, 4), net.weight("r", 1, 15, 5), net.weight("b", 1, 30)]
    (y,) = net.many("GRU", x, *weights, out=["states"], hidden_size=5)
    y = net("Reshape", y, net.const("flat", [3, 5], np.int64))
    y = net.gemm("fc", y, 2, 5)
    net.tensors["fc.weight"][:, 2] = 0
    assert widths(dropped(net.model(y)))["fc.weight"] == 2


def integer_chain(bias: list[int], pads: int = 0, weights: int = 0) -> Net:
    """int8 in and out; of the first layer's channels those with a bias have these weights."""
    net = Net(17)
    x = net.dequantize(net.input("x", 1, 3, 7, 7, kind=TensorProto.INT8), 0.05, 3)
    for name, rows, inputs, zero in (("a", len(bias), 3, -20), ("b", 3, len(bias), 5)):
        kernel = 3 if name == "b" else 1
        net.bytes(f"{name}.w", rows, inputs, kernel, kernel)
        net.const(f"{name}.b", bias if name == "a" else [9, 0, -900], np.int32)
        unit = 0.05 * 0.01 if name == "a" else 0.02 * 0.01
        w = net.dequantize(f"{name}.w", 0.01, 0)
        b = net("DequantizeLinear", f"{name}.b", net.const(f"{name}.s", unit, np.float32))
        y = net("Conv", x, w, b, pads=[pads if name == "b" else 0] * 4)
        q = net.quantize(y, 0.02 if name == "a" else 0.3, zero, out=f"{name}.q")
        x = net.dequantize(q, 0.02, zero)
    net.tensors["a.w"][np.flatnonzero(bias)] = weights
    return net


def integer_model(net: Net) -> ModelProto:
    return net.model("b.q", kind=TensorProto.INT8)


@pytest.mark.parametrize("pads", [0, 1])
@pytest.mark.parametrize(
    ("bias", "weights", "inside", "padded"),
    [
        ([0, 400, 0, -4000, 0], 0, 3, 5),  # constant, but not zero
        ([0, 8, 0, -7, 0], 0, 3, 3),  # rounded to zero
        ([0, 90_000, 0, -90_000, 0], 60, 3, 5),  # saturated whatever the input is
        ([0, 2**30, 0, -(2**30), 0], 127, 3, 5),
        ([0, 5_000, 0, -5_000, 0], 60, 5, 5),  # not always saturated
        ([0, 20, 0, 60, 0], 0, 5, 5),  # ties: half a step, and one and a half
    ],
)
def test_integers(bias: list[int], weights: int, inside: int, padded: int, pads: int) -> None:
    net = integer_chain(bias, pads, weights)
    assert widths(dropped(integer_model(net)))["a.w"] == (padded if pads else inside)


def test_an_integer_bias_without_room_stays() -> None:
    net = integer_chain([0, 400, 0, -4000, 0])
    net.tensors["b.b"][1] = 2**31 - 5
    assert widths(dropped(integer_model(net)))["a.w"] == 5


def test_of_an_integer_bias_in_other_units_nothing_is_made() -> None:
    net = integer_chain([0, 400, 0, -4000, 0])
    net.tensors["b.s"] = np.array(0.0003, np.float32)
    assert widths(dropped(integer_model(net)))["a.w"] == 5


def branch(scale: float, rows: Any) -> ModelProto:
    net = Net(17)
    x = net.dequantize(net.input("x", 1, 4, 5, 5, kind=TensorProto.INT8), 0.05, 3)
    w = net.dequantize(net.bytes("w", 4, 4, 1, 1), 0.01, 0)
    net.tensors["w"][:] = 0
    b = net("DequantizeLinear", net.const("b", rows, np.int32), net.const("s", 0.0005, np.float32))
    y = net.dequantize(net.quantize(net("Conv", x, w, b), 0.02, -5), 0.02, -5)
    y = net.quantize(net("Add", x, y), scale, 3, out="y")
    return net.model(net("MaxPool", y, kernel_shape=[2, 2], out="z"), kind=TensorProto.INT8)


def test_an_integer_branch_of_zeroes_goes_where_the_sum_does_not_round() -> None:
    def left(model: ModelProto) -> list[str]:
        kinds = [node.op_type for node in dropped(model).graph.node]
        return [kind for kind in kinds if not kind.endswith("Linear")]

    assert left(branch(0.05, [0, 3, -3, 0])) == ["MaxPool"]
    assert left(branch(0.06, [0, 3, -3, 0])) == ["Add", "MaxPool"]
    assert left(branch(0.05, [800, 0, -800, 0])) == ["Add", "MaxPool"]


def test_the_rest_of_an_integer_branch_compiles() -> None:
    for rows in ([0, 0, 0, 0], [800, 0, -800, 0]):
        steps = optimize(branch(0.06, rows), "host", Settings(name="net")).report.steps
        assert [step.op for step in steps] == ["Add", "MaxPool"]


# At random


def planted(model: ModelProto, seed: int) -> ModelProto:
    """The model with zero rows and columns in its weights, and strange biases beside them."""
    random, result = np.random.default_rng(seed), ModelProto()
    result.CopyFrom(model)
    stored = {tensor.name: tensor for tensor in result.graph.initializer}
    made = {node.output[0]: node for node in result.graph.node}

    def source(name: str) -> onnx.TensorProto | None:
        while name in made and made[name].op_type in ("DequantizeLinear", "Transpose"):
            name = made[name].input[0]
        return stored.get(name)

    for node in result.graph.node:
        if node.op_type in ("Conv", "Gemm", "MatMul"):
            plant(random, *map(source, node.input[1:3]))
    return result


def plant(
    random: np.random.Generator,
    tensor: onnx.TensorProto | None,
    extra: onnx.TensorProto | None = None,
) -> None:
    if tensor is None:
        return
    weights = numpy_helper.to_array(tensor).copy()
    nothing = 128 if weights.dtype == np.uint8 else 0
    rows = random.random(len(weights)) < random.choice([0.2, 0.5, 0.9])
    weights[rows & (random.random(len(rows)) < 0.8)] = nothing
    weights[:, random.random(weights.shape[1]) < random.choice([0, 0.3])] = nothing
    store(tensor, weights)
    if extra is not None and extra.dims == [len(rows)]:
        bias = numpy_helper.to_array(extra).copy()
        large = 10 if bias.dtype == np.float32 else 10 ** random.integers(2, 9)
        chosen = random.choice([0, 0, 1, -1, 0.3, -0.7], rows.sum()) * large
        bias[rows] = chosen.astype(bias.dtype)
        store(extra, bias)


def store(tensor: onnx.TensorProto, value: Array) -> None:
    tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))


@functools.cache
def built(build: Callable[[], ModelProto]) -> ModelProto:
    """The model as the pass gets it: with pools where onnxruntime would take a mean in float."""
    before = passes.CLEANUP[: passes.CLEANUP.index(drop_constant_channels)]
    return functools.reduce(lambda model, apply: apply(model), before, build())


@given(st.sampled_from(FLOAT), st.integers(0, 10**6))
@settings(deadline=None, max_examples=80, derandomize=True)
def test_random_float_models(build: Callable[[], ModelProto], seed: int) -> None:
    model = planted(built(build), seed)
    check_laws(drop_constant_channels, model, outputs(model, 3))


@given(st.sampled_from(INTEGER), st.integers(0, 10**6))
@settings(deadline=None, max_examples=80, derandomize=True)
def test_random_integer_models(build: Callable[[], ModelProto], seed: int) -> None:
    model = planted(built(build), seed)
    assert is_integer(model)
    check_laws(drop_constant_channels, model, outputs(model, 3))


@given(st.sampled_from([*FLOAT, *INTEGER]), st.integers(0, 10**6))
@settings(deadline=None, max_examples=80, derandomize=True)
def test_every_tensor_is_within_its_bounds(build: Callable[[], ModelProto], seed: int) -> None:
    model = planted(built(build), seed)
    edit = Edit(model)
    ranges = Ranges(edit)
    names = [name for node in edit.nodes for name in node.output if edit.constant(name) is None]
    shown = ModelProto()
    shown.CopyFrom(model)
    del shown.graph.output[:]
    shown.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    for name, array in zip(names, outputs(shown, seed), strict=True):
        found = ranges.of(name)
        slack = 0 if array.dtype.kind in "iu" else 1e-6 * (1 + np.abs(array))
        assert np.all((found.low <= array + slack) & (array - slack <= found.high)), name
        off = np.where(found.known, np.abs(array - found.value), 0)
        assert np.all(off <= 4 * slack), name


def test_bounds_that_overflow_say_nothing() -> None:
    """Inputs of float graphs are unbounded; so are their products, quotients and squares."""
    net = Net()
    x, y = net.input("x", 1, 2, 4, 4), net.input("y", 1, 2, 4, 4)
    z = net("Mul", net("Mul", x, x), net("Exp", net("Div", x, net("Exp", y))))
    z = net("Conv", net("Div", z, net("HardSwish", y)), net.weight("w", 3, 2, 1, 1))
    z = net("Mul", z, net.const("tiny", 1e-40, np.float32))
    model = net.model(z)
    found = Ranges(Edit(model)).of(z)
    assert np.all(found.low < -1e100)
    assert np.all(found.high > 1e100)
    assert drop_constant_channels(model).graph.node == model.graph.node


# The model that this is for


@pytest.mark.parametrize("form", ["int8_qdq", "int8_qdq_fio", "int8_qdq_nhwc", "int8_qop"])
def test_vww_is_mostly_dead(shared: Path, form: str) -> None:
    model = onnx.load(shared / "models" / f"vww_{form}.onnx")
    result = functools.reduce(lambda m, apply: apply(m), passes.CLEANUP, model)
    weights = [t for t in result.graph.initializer if t.data_type == TensorProto.INT8]
    sizes = [int(np.prod(tensor.dims)) for tensor in weights if len(tensor.dims) > 1]
    assert sum(sizes) == 29_066
    for seed in range(4):
        assert np.array_equal(outputs(model, seed)[0], outputs(result, seed)[0])


def test_vww_gives_the_recorded_bytes(shared: Path) -> None:
    model = onnx.load(shared / "models" / "vww_int8_qdq.onnx")
    result = functools.reduce(lambda m, apply: apply(m), passes.CLEANUP, model)
    with np.load(shared / "models" / "vww_vectors.npz") as archive:
        x, expected = archive["x_int8_nhwc"].transpose(0, 3, 1, 2), archive["y_ort_all"]
    oracle = Oracle(result)
    found = [oracle.run({"input": row[None]})["output"] for row in x]
    assert np.array_equal(np.concatenate(found), expected)
