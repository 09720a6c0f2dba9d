"""Each pass does what its equation says."""

import subprocess
import sys
from collections import Counter

import models
import numpy as np
import onnx
import pytest
from models import Net
from onnx import ModelProto, NodeProto, TensorProto, numpy_helper
from test_laws import outputs

from mcugraph import passes
from mcugraph.passes._edit import Edit


def ops(model: ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


def values(model: ModelProto) -> dict[str, models.Array]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def node_of(model: ModelProto, output: str) -> NodeProto:
    return next(node for node in model.graph.node if output in node.output)


def attributes(node: NodeProto) -> dict[str, object]:
    return {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}


def test_import_is_light() -> None:
    code = "import sys, mcugraph.passes; print(*sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    loaded = set(done.stdout.split())
    assert loaded.isdisjoint({"torch", "onnxruntime", "networkx", "rich", "typer"})


@pytest.mark.parametrize("apply", dict.fromkeys(passes.CLEANUP), ids=lambda p: p.__name__)
def test_docstring_starts_with_the_equation(apply: passes.Pass) -> None:
    module = sys.modules[apply.__module__]
    first = str(apply.__doc__).splitlines()[0]
    assert "->" in first
    assert str(module.__doc__).splitlines()[0] == first


# fold_constants


def test_shape_arithmetic_is_folded() -> None:
    result = passes.fold_constants(models.legacy_shapes())
    assert set(ops(result)) == {"Conv", "Relu", "Reshape", "Identity", "Dropout", "Add", "Gemm"}
    reshape = next(node for node in result.graph.node if node.op_type == "Reshape")
    np.testing.assert_array_equal(values(result)[reshape.input[1]], [1, -1])


def test_shape_known_only_after_folding() -> None:
    """A Reshape by a computed shape fixes what the next Shape reads; CastLike needs a type only."""
    net = Net(18)
    x = net.input("x", 2, 6)
    twice = net("Mul", net("Shape", x), net.const("two", [2, 2], np.int64))
    half = net("Div", twice, net.const("four", [4, 1], np.int64))
    x = net("Reshape", x, half)
    again = net(
        "Unsqueeze", x, net("Sub", net("Shape", net("Shape", x)), net.const("k", [1], np.int64))
    )
    result = passes.fold_constants(net.model(net("Add", again, net("CastLike", "two", x))))
    assert ops(result) == {"Reshape": 1, "Unsqueeze": 1, "Add": 1}


def test_weights_stay_integers() -> None:
    model = models.qdq_nhwc()
    result = passes.fold_constants(model)
    assert ops(result) == ops(model)
    assert values(result)["w0"].dtype == np.int8


def test_constant_may_not_grow_much() -> None:
    net = Net(17)
    x = net.input("x", 1, 1)
    wide = net(
        "Expand", net.const("one", [[1]], np.float32), net.const("n", [1, 1 << 19], np.int64)
    )
    small = net("Expand", "one", net.const("few", [1, 8], np.int64))
    result = passes.fold_constants(net.model(net("Add", x, wide), net("Mul", x, small)))
    assert ops(result) == {"Expand": 1, "Add": 1, "Mul": 1}


def test_random_numbers_are_not_constants() -> None:
    net = Net(17)
    seeded = net("RandomUniformLike", net.const("like", [0.0] * 3, np.float32))
    result = passes.fold_constants(net.model(net("Add", net.input("x", 3), seeded)))
    assert ops(result)["RandomUniformLike"] == 1


# fold_batchnorm


@pytest.mark.parametrize("opset", [13, 17, 22])
def test_batchnorm_after_conv(opset: int) -> None:
    model = models.conv_bn_relu(opset)
    result = passes.fold_batchnorm(model)
    assert ops(result) == {"Conv": 2, "Relu": 2}
    old, new = values(model), values(result)
    factor = old["bn.weight"] / np.sqrt(old["bn.var"] + 1e-5)
    expected = old["conv.weight"] * factor[:, None, None, None]
    np.testing.assert_allclose(new["conv.weight"], expected, rtol=1e-6)
    conv = node_of(result, "bn")
    np.testing.assert_allclose(
        new[conv.input[2]], old["bn.bias"] - old["bn.mean"] * factor, rtol=1e-6
    )


def test_batchnorm_before_and_alone() -> None:
    result = passes.fold_batchnorm(models.preactivation())
    expected = {"Conv": 2, "Relu": 2, "MaxPool": 1, "Flatten": 1, "Gemm": 1, "Mul": 2, "Add": 2}
    assert ops(result) == expected
    assert node_of(result, "grouped").input[0] == "x"


def test_batchnorm_stays_where_conv_is_read_twice() -> None:
    net = Net(17)
    y = net.conv("conv", net.input("x", 1, 2, 4, 4), 3, 2, 3, 3)
    result = passes.fold_batchnorm(net.model(net.norm("bn", y, 3), y))
    assert ops(result) == {"Conv": 1, "Mul": 1, "Add": 1}
    assert result.graph.initializer[0].name == "conv.weight"


def test_batchnorm_without_shift_passes_padding() -> None:
    net = Net(17)
    x = net.norm("bn", net.input("x", 1, 2, 4, 4), 2)
    for part in ("bias", "mean"):
        net.const(f"bn.{part}", [0, 0], np.float32)
    result = passes.fold_batchnorm(net.model(net.conv("conv", x, 3, 2, 3, 3)))
    assert ops(result) == {"Conv": 1}


# eliminate_identity


def test_identities_vanish() -> None:
    result = passes.eliminate_identity(models.identities())
    assert ops(result) == {"Relu": 1, "Reshape": 1, "Sigmoid": 1}


def test_gather_by_table_becomes_reshape() -> None:
    result = passes.eliminate_identity(models.nhwc_input())
    assert ops(result)["Gather"] == 0
    assert ops(result)["Reshape"] == 1


def test_same_quantisers_cancel() -> None:
    before = models.qdq_by_hand()
    result = passes.eliminate_identity(before)
    assert ops(result)["QuantizeLinear"] == ops(before)["QuantizeLinear"] - 1
    assert {"y", "z", "v", "out"} <= {name for node in result.graph.node for name in node.output}


@pytest.mark.parametrize(("scale", "zero"), [(0.05, 4), (0.06, 3)])
def test_other_quantisers_stay(scale: float, zero: int) -> None:
    net = Net(17)
    x = net.dequantize(net.input("x", 4, kind=TensorProto.INT8), 0.05, 3)
    model = net.model(net("Abs", net.dequantize(net.quantize(x, scale, zero), scale, zero)))
    assert passes.eliminate_identity(model) == model


@pytest.mark.parametrize(
    ("op", "operands"),
    [
        ("Add", ["wide", "x"]),
        ("Sub", ["zero", "x"]),
        ("Div", ["one", "x"]),
        ("Mul", ["x", "almost"]),
        ("Concat", ["x", "x"]),
    ],
)
def test_what_only_looks_neutral_stays(op: str, operands: list[str]) -> None:
    net = Net(17)
    net.input("x", 1, 3)
    net.const("wide", np.zeros((2, 3)), np.float32)
    net.const("zero", 0, np.float32)
    net.const("one", 1, np.float32)
    net.const("almost", [1, 1, 2], np.float32)
    extra = {"axis": 1} if op == "Concat" else {}
    result = passes.eliminate_identity(net.model(net("Relu", net(op, *operands, **extra))))
    assert ops(result) == {op: 1, "Relu": 1}


def test_interface_keeps_its_names() -> None:
    net = Net(17)
    x = net.input("x", 1, 3)
    y = net("Identity", net("Relu", x), out="y")
    result = passes.eliminate_identity(net.model(y, net("Identity", x, out="z")))
    assert ops(result) == {"Relu": 1, "Identity": 1}
    assert [value.name for value in result.graph.output] == ["y", "z"]


# canonicalize_pooling


@pytest.mark.parametrize("name", ["pooling_faces", "pooling_attribute", "pooling_faces_qdq"])
def test_all_faces_become_one(name: str) -> None:
    found = ops(passes.canonicalize_pooling(models.MODELS[name]()))
    assert found.keys().isdisjoint({"ReduceMean", "ReduceMax", "AveragePool", "MaxPool"})
    if name != "pooling_attribute":
        assert (found["GlobalAveragePool"], found["GlobalMaxPool"]) == (3, 2)


def test_quantiser_follows_the_pool() -> None:
    pooled = passes.canonicalize_pooling(models.quantized(models.pooling_attribute))
    result = passes.hoist_quantizers(pooled)
    pool = next(node for node in result.graph.node if node.op_type == "GlobalAveragePool")
    after = [node.op_type for node in result.graph.node if pool.output[0] in node.input]
    assert after == ["QuantizeLinear"]


@pytest.mark.parametrize(
    ("op", "extra"),
    [
        ("ReduceMean", {"axes": [1, 2]}),
        ("ReduceMean", {"axes": [2]}),
        ("ReduceMean", {}),
        ("AveragePool", {"kernel_shape": [3, 4]}),
        ("MaxPool", {"kernel_shape": [4, 4], "pads": [0, 0, 1, 1]}),
    ],
)
def test_other_reductions_stay(op: str, extra: dict[str, object]) -> None:
    net = Net(13)
    model = net.model(net(op, net.input("x", 1, 2, 4, 4), **extra))
    assert passes.canonicalize_pooling(model) == model


def test_mean_of_int8_moves_only_at_ties() -> None:
    """ReduceMean and GlobalAveragePool of onnxruntime break exact ties in different ways."""
    net = Net(13)
    x = net.dequantize(net.input("x", 1, 64, 8, 8, kind=TensorProto.INT8), 0.05, 3)
    model = net.model(
        net.quantize(net("ReduceMean", x, axes=[2, 3]), 0.05, 3, out="y"), kind=TensorProto.INT8
    )
    result = passes.canonicalize_pooling(model)
    for seed in range(10):
        data = models.random_inputs(model, seed)["x"].astype(np.int64)
        tie = (data.sum(axis=(2, 3), keepdims=True) - 3 * 64) % 64 == 32
        one, other = (outputs(m, seed)[0].astype(np.int64) for m in (model, result))
        assert np.all((one == other) | (tie & (abs(one - other) == 1)))


# eliminate_transposes


@pytest.mark.parametrize(
    ("name", "left"),
    [
        ("tf_style", 1),
        ("tf_style_qdq", 1),
        ("nhwc_both_ends", 2),
        ("nhwc_input", 1),
        ("qdq_nhwc", 2),
    ],
)
def test_transposes_stay_at_the_interface_only(name: str, left: int) -> None:
    result = passes.eliminate_transposes(models.MODELS[name]())
    inputs = {value.name for value in result.graph.input}
    ends = {value.name for value in result.graph.output}
    for node in result.graph.node:
        if node.op_type == "QuantizeLinear" and node.input[0] in inputs:
            inputs.add(node.output[0])
    found = [node for node in result.graph.node if node.op_type == "Transpose"]
    assert len(found) == left
    assert all(node.input[0] in inputs or node.output[0] in ends for node in found)


def test_bytes_are_transposed_at_a_float_interface() -> None:
    model = models.quantized(models.nhwc_both_ends)
    for apply in (passes.eliminate_transposes, passes.hoist_quantizers):
        model = apply(model)
    found = [node for node in model.graph.node if node.op_type == "Transpose"]
    assert len(found) == 2
    assert {Edit(model).dtype(node.input[0]) for node in found} == {TensorProto.INT8}


# hoist_quantizers


def test_split_moves_bytes() -> None:
    model = models.quantized(models.split_branches)
    for apply in (passes.hoist_quantizers, passes.eliminate_identity):
        model = apply(model)
    split = next(node for node in model.graph.node if node.op_type == "Split")
    assert {Edit(model).dtype(name) for name in (*split.input[:1], *split.output)} == {3}


@pytest.mark.parametrize("second", [0.05, 0.06])
def test_only_equal_quantisers_hoist(second: float) -> None:
    net = Net(18)
    x = net("Tanh", net.input("x", 1, 4))
    parts = net.many("Split", x, out=["a", "b"], axis=1, num_outputs=2)
    ends = [net.quantize(part, s, 0) for part, s in zip(parts, (0.05, second), strict=True)]
    model = net.model(*ends, kind=TensorProto.INT8)
    assert (passes.hoist_quantizers(model) == model) == (second == 0.06)


def test_integer_tensors_keep_their_names() -> None:
    before = models.qdq_nhwc()
    result = passes.eliminate_transposes(before)
    made = {node.output[0] for node in result.graph.node if node.op_type == "QuantizeLinear"}
    assert {"q0", "t0", "q1"} <= made
    assert values(result)["w0"].shape == (4, 3, 3, 3)
    weights = next(n for n in result.graph.node if n.input[0] == "w0")
    assert attributes(weights)["axis"] == 0


def test_transpose_of_ones_becomes_reshape() -> None:
    net = Net(17)
    x = net("GlobalAveragePool", net.input("x", 1, 5, 4, 4))
    x = net("Reshape", net("Transpose", x, perm=[0, 2, 3, 1]), net.const("s", [1, 5], np.int64))
    assert ops(passes.eliminate_transposes(net.model(x)))["Transpose"] == 0


def test_real_transpose_stays() -> None:
    net = Net(17)
    x = net("MatMul", net.input("x", 4, 4), net.weight("w", 4, 4))
    model = net.model(net("Add", x, net("Transpose", x, perm=[1, 0])))
    assert passes.eliminate_transposes(model) == model


# fuse_activation


def test_saturation_replaces_activation() -> None:
    before = models.qdq_by_hand()
    result = passes.fuse_activation(before)
    assert ops(result) == ops(before) - Counter(Relu=2, Clip=1)


@pytest.mark.parametrize(("op", "zero"), [("Relu", -127), ("Clip", -128)])
def test_activation_that_saturation_misses_stays(op: str, zero: int) -> None:
    net = Net(17)
    bounds = [net.const("low", 0, np.float32), net.const("high", 6, np.float32)]
    x = net(op, net.input("x", 4), *(bounds if op == "Clip" else []))
    model = net.model(net.quantize(x, 6.2 / 255, zero, out="y"), kind=TensorProto.INT8)
    assert passes.fuse_activation(model) == model


def test_clips_merge() -> None:
    result = passes.fuse_activation(models.relu6())
    assert ops(result) == {"Conv": 3, "Clip": 3}
    last = node_of(result, result.graph.output[0].name)
    assert [float(values(result)[name]) for name in last.input[1:]] == [0.0, 6.0]


@pytest.mark.parametrize("seed", range(5))
def test_merged_bounds(seed: int) -> None:
    random = np.random.default_rng(seed)
    pairs = np.sort(random.uniform(-2, 2, (3, 2)), axis=1).astype(np.float32)
    net = Net(17)
    x = net.input("x", 1000)
    expected = models.random_inputs(net.model(net("Relu", x)), seed)["x"]
    net.nodes.clear()
    for i, (low, high) in enumerate(pairs):
        x = net("Clip", x, net.const(f"low{i}", low), net.const(f"high{i}", high))
        expected = np.clip(expected, low, high)
    result = passes.fuse_activation(net.model(x))
    assert ops(result) == {"Clip": 1}
    np.testing.assert_array_equal(outputs(result, seed)[0], expected)


# unshare_weights


def test_each_reader_has_its_own_weights() -> None:
    before = models.shared_weights()
    result = passes.unshare_weights(before)
    readers = Counter(name for node in result.graph.node for name in node.input)
    assert all(readers[tensor.name] == 1 for tensor in result.graph.initializer)
    assert {"w", "w__1", "w__2", "b", "b__1", "b__2", "gain"} == values(result).keys()
    np.testing.assert_array_equal(values(result)["w__2"], values(before)["w"])


def test_each_reader_has_its_own_dequantiser() -> None:
    result = passes.unshare_weights(models.qdq_by_hand())
    convs = [node for node in result.graph.node if node.op_type == "Conv"]
    assert len({node.input[1] for node in convs}) == 2
    assert {"w", "w__1"} <= values(result).keys()


# qoperator_to_qdq


@pytest.mark.parametrize(
    "name", ["residual_qoperator", "separable_qoperator", "qoperator_microsoft"]
)
def test_standard_operators_only(name: str) -> None:
    before = models.MODELS[name]()
    result = passes.qoperator_to_qdq(before)
    assert {node.domain for node in result.graph.node} == {""}
    assert "com.microsoft" not in {entry.domain for entry in result.opset_import}
    assert not any(op.startswith("Q") and op != "QuantizeLinear" for op in ops(result))
    old = {name for node in before.graph.node for name in node.output}
    assert old <= {name for node in result.graph.node for name in node.output}


def test_bias_scale_is_the_product() -> None:
    result = passes.qoperator_to_qdq(models.MODELS["residual_qoperator"]())
    made = {node.output[0]: node for node in result.graph.node}
    known = values(result)
    for conv in (node for node in result.graph.node if node.op_type == "Conv"):
        x, w, b = (made[name] for name in conv.input)
        product = known[x.input[1]] * known[w.input[1]]
        np.testing.assert_array_equal(known[b.input[1]], product)
        assert known[b.input[0]].dtype == np.int32
        assert (attributes(w)["axis"], attributes(b)["axis"]) == (0, 0)


def test_integer_accumulators_are_left() -> None:
    net = Net(17)
    x = net.input("x", 1, 2, 4, 4, kind=TensorProto.INT8)
    model = net.model(net("ConvInteger", x, net.bytes("w", 3, 2, 3, 3)), kind=TensorProto.INT32)
    assert passes.qoperator_to_qdq(model) == model


# signed_activations


@pytest.mark.parametrize("name", ["residual_uint8", "split_uint8"])
def test_no_unsigned_bytes_remain(name: str) -> None:
    before = models.MODELS[name]()
    result = passes.signed_activations(before)
    assert any(tensor.data_type == TensorProto.UINT8 for tensor in before.graph.initializer)
    kinds = {tensor.data_type for tensor in result.graph.initializer}
    assert kinds <= {TensorProto.INT8, TensorProto.INT32, TensorProto.FLOAT, TensorProto.INT64}
    assert {t.name for t in result.graph.initializer} == {t.name for t in before.graph.initializer}


def test_unsigned_interface_stays() -> None:
    net = Net(17)
    x = net.input("x", 1, 4, kind=TensorProto.UINT8)
    y = net("Relu", net.dequantize(x, 0.1, 128, dtype=np.uint8))
    y = net.dequantize(net.quantize(y, 0.1, 0, dtype=np.uint8), 0.1, 0, dtype=np.uint8)
    y = net.quantize(net("Tanh", y), 1 / 128, 128, out="y", dtype=np.uint8)
    result = passes.signed_activations(net.model(y, kind=TensorProto.UINT8))
    kinds = [Edit(result).dtype(node.input[0]) for node in result.graph.node]
    assert kinds == [TensorProto.UINT8, 1, 1, TensorProto.INT8, 1, 1]
    assert result.graph.output[0].type.tensor_type.elem_type == TensorProto.UINT8


# The verbs


def test_edit_without_verbs_changes_nothing() -> None:
    model = models.with_body()
    assert Edit(model).finish().SerializeToString() == model.SerializeToString()


def test_body_counts_as_reader() -> None:
    edit = Edit(models.with_body())
    branch = next(node for node in edit.nodes if node.op_type == "If")
    assert any(user is branch for user in edit.users("w"))
    edit.rewire("w", edit.store("v", np.ones((2, 1, 1), np.float32)))
    assert "w" not in {name for body in branch.attribute for name in body.g.node[0].input}


def test_dead_nodes_are_no_readers() -> None:
    net = Net(17)
    x = net("Relu", net("Tanh", net.input("x", 3), out="seen"))
    net("Exp", "seen")
    model = net.model(net("Relu", x))
    assert Edit(model).sole_user("seen") is not None
    assert ops(Edit(model).finish())["Exp"] == 1
    assert ops(passes.fuse_activation(model)) == {"Tanh": 1, "Relu": 1}


def test_two_producers_are_refused() -> None:
    edit = Edit(models.residual())
    with pytest.raises(AssertionError, match="a has two producers"):
        edit.add("Relu", ["x"], "a")


def test_finish_orders_and_prunes() -> None:
    edit = Edit(models.residual())
    node = next(node for node in edit.nodes if node.output[0] == "a")
    late = edit.add("Identity", ["x"], edit.fresh("late"))
    edit.set_input(node, 0, edit.add("Conv", ["x", "stem.weight"], "early", pads=[1] * 4).output[0])
    result = edit.finish()
    names = [node.output[0] for node in result.graph.node]
    assert late.output[0] not in names
    assert names.index("early") == names.index("a") - 1
    onnx.checker.check_model(result, full_check=True)


def test_metadata_survives() -> None:
    model = models.conv_bn_relu()
    for node in model.graph.node:
        node.metadata_props.add(key="module", value=node.name)
    result = passes.fold_batchnorm(model)
    assert [node.metadata_props[0].value for node in result.graph.node] == [
        node.name for node in result.graph.node
    ]
