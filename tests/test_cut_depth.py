"""A depth cut: what is kept computes as before, what is attached as by itself; known sizes."""

from __future__ import annotations

import depthnets
import models
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from models import Array, Net
from onnx import ModelProto, TensorProto, helper

from mcugraph.passes.add_exit import add_exit
from mcugraph.passes.cut_depth import cut_depth
from mcugraph.passes.cuts import legal_cuts
from mcugraph.passes.heads import Head, head_model
from mcugraph.passes.split_model import split_model

HEAD = Head("dscnn", (5, 3), 4, seed=7)
# Of a tensor in models of onnxruntime's quantiser.
FORMS = ("", "_QuantizeLinear_Output", "_DequantizeLinear_Output")


def run(model: ModelProto, feed: dict[str, Array], *more: str) -> dict[str, Array]:
    """Every output, and some more tensors, as the model is written."""
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    known = {value.name for value in model.graph.output}
    shown.graph.output.extend(onnx.ValueInfoProto(name=name) for name in {*more} - known)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(
        shown.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [value.name for value in session.get_outputs()]
    taken = {value.name for value in session.get_inputs()}
    feed = {name: value for name, value in feed.items() if name in taken}
    return dict(zip(names, session.run(None, feed), strict=True))


def check_laws(model: ModelProto, tensor: str, head: Head | ModelProto) -> ModelProto:
    data = model.SerializeToString()
    result = cut_depth(model, tensor, head)
    assert model.SerializeToString() == data, "not pure"
    onnx.checker.check_model(result, full_check=True)
    onnx.shape_inference.infer_shapes(result, check_type=True, strict_mode=True, data_prop=True)
    again = cut_depth(onnx.load_from_string(data), tensor, head)
    assert again.SerializeToString() == result.SerializeToString(), "not repeatable"
    return result


def images(model: ModelProto) -> list[str]:
    return [cut.tensor for cut in legal_cuts(model) if cut.image]


@pytest.mark.parametrize(("name", "blocks"), [("mobilenet", "VWW"), ("ds_cnn", "KWS")])
def test_sizes_are_those_of_the_paper(name: str, blocks: str) -> None:
    model = depthnets.exported(name)
    classes = model.graph.output[0].type.tensor_type.shape.dim[1].dim_value
    found = {}
    for block, (tensor, *_) in getattr(depthnets, blocks).items():
        cut = cut_depth(model, tensor, Head(classes=classes))
        macs = depthnets.multiplications(cut) / 10_000
        found[block] = (tensor, depthnets.parameters(cut), round(macs, 1 if blocks == "KWS" else 0))
    assert found == getattr(depthnets, blocks)


def test_networks_are_those_of_the_paper() -> None:
    sizes = {name: depthnets.parameters(depthnets.exported(name)) for name in depthnets.INPUTS}
    assert sizes == {"mobilenet": 221_794, "ds_cnn": 24_908}


@pytest.mark.parametrize("name", models.MODELS)
def test_what_is_kept_is_unchanged(name: str) -> None:
    model = models.MODELS[name]()
    feed = models.random_inputs(model, 2)
    for tensor in images(model):
        result = check_laws(model, tensor, HEAD)
        before, after = run(model, feed, tensor), run(result, feed, tensor)
        np.testing.assert_array_equal(after[tensor], before[tensor])
        (output,) = result.graph.output
        source = next(n.input[0] for n in result.graph.node if n.output[0] == "head.0.depthwise")
        features = run(result, feed, source)[source]
        alone = head_model(HEAD, features.shape)
        (expected,) = run(alone, {"features": features}).values()
        np.testing.assert_array_equal(after[output.name], expected)


@pytest.mark.parametrize("name", models.MODELS)
def test_the_own_tail_as_the_head_gives_the_model_back(name: str) -> None:
    """Also for integer tails, which read the tensor as it is stored."""
    model = models.MODELS[name]()
    feed = models.random_inputs(model, 3)
    for cut in legal_cuts(model):
        if len(model.graph.output) > 1:
            continue
        result = check_laws(model, cut.tensor, split_model(model, cut.tensor)[1])
        expected, found = run(model, feed), run(result, feed)
        assert list(found) == list(expected)
        for one, other in zip(found.values(), expected.values(), strict=True):
            np.testing.assert_array_equal(one, other)


def test_only_what_the_tensor_needs_stays() -> None:
    """Inside a residual block, too: the shortcut beside the tensor goes."""
    result = cut_depth(models.residual(), "relu_4", HEAD)
    kept = {t.name for t in result.graph.initializer if not t.name.startswith("head.")}
    assert kept == {"stem.weight", "stem.bias", "a.weight", "a.bias"}
    assert [value.name for value in result.graph.output] == ["fc"]
    assert "Add" not in {node.op_type for node in result.graph.node}


def two_ended() -> ModelProto:
    net = Net(17)
    x, extra = net.input("x", 1, 3, 6, 6), net.input("extra", 1, 4, 6, 6)
    x = net("Relu", net.conv("a", x, 4, 3, 3, 3), out="kept")
    y = net("Add", net.conv("b", x, 4, 4, 3, 3), extra, out="left")
    return net.model(y, net("GlobalMaxPool", y, out="right"))


def test_inputs_and_outputs_that_go() -> None:
    result = cut_depth(two_ended(), "kept", HEAD)
    assert [value.name for value in result.graph.input] == ["x"]
    assert [value.name for value in result.graph.output] == ["probabilities"]


def test_the_output_itself_can_carry_a_head() -> None:
    model = models.conv_bn_relu()
    (output,) = model.graph.output
    result = check_laws(model, output.name, HEAD)
    assert [value.name for value in result.graph.output] == [f"{output.name}__1"]


def test_names_that_the_model_has_already() -> None:
    once = cut_depth(models.separable(), "relu_8", Head("dscnn", (6,), 4))
    twice = check_laws(once, "head.0.pointwise_norm.relu", HEAD)
    names = {tensor.name for tensor in twice.graph.initializer}
    assert {"head.0.depthwise.weight", "head.0.depthwise.weight__1"} <= names
    titles = [node.name for node in twice.graph.node]
    assert len(titles) == len(set(titles))
    feed = models.random_inputs(once, 1)
    np.testing.assert_array_equal(
        run(twice, feed, "relu_8")["relu_8"], run(once, feed, "relu_8")["relu_8"]
    )


def test_an_exit_in_what_is_dropped_is_forgotten() -> None:
    model = add_exit(models.separable(), "relu_6", HEAD)
    keys = [entry.key for entry in cut_depth(model, "relu_4", HEAD).metadata_props]
    assert [entry.key for entry in model.metadata_props] == ["mcugraph.exit"]
    assert keys == []


# Quantised models


@pytest.mark.parametrize("name", ["residual_qdq", "residual_uint8"])
def test_every_name_of_a_quantised_tensor_gives_the_same(name: str) -> None:
    model = models.MODELS[name]()
    results = [cut_depth(model, f"relu_7{form}", HEAD) for form in FORMS]
    assert len({result.SerializeToString() for result in results}) == 1
    depthwise = next(n for n in results[0].graph.node if n.output[0] == "head.0.depthwise")
    assert depthwise.input[0] == "relu_7_DequantizeLinear_Output"


def test_integers_that_nothing_dequantises_get_what_the_head_needs() -> None:
    model = models.qdq_by_hand()
    assert {n.op_type for n in model.graph.node if "v" in n.input} == {"MaxPool"}
    for tensor in ("v", "out"):
        result = check_laws(model, tensor, HEAD)
        feed = models.random_inputs(model, 4)
        made = f"{tensor}_DequantizeLinear_Output"
        values = run(result, feed, tensor, made)
        real = (values[tensor].astype(np.float32) + 128) * np.float32(6 / 255)
        np.testing.assert_array_equal(values[made], real)


def test_an_integer_head_must_have_the_scale_of_the_tensor() -> None:
    model = models.MODELS["separable_qdq"]()
    _, tail = split_model(model, "relu_4_QuantizeLinear_Output")
    with pytest.raises(
        ValueError, match=r"relu_6_QuantizeLinear_Output has scale .* reads it with"
    ):
        cut_depth(model, "relu_6", tail)


def test_a_tensor_without_a_known_scale() -> None:
    model = models.MODELS["separable_qoperator"]()
    with pytest.raises(ValueError, match="apply qoperator_to_qdq first"):
        cut_depth(model, "dw0_quantized", HEAD)


# Heads from elsewhere


def small_head(opset: int = 17, shape: tuple[int, ...] = (1, 8, 6, 5)) -> ModelProto:
    net = Net(opset)
    x = net("Flatten", net("GlobalAveragePool", net.input("z", *shape)))
    return net.model(net("Softmax", net.gemm("fc", x, 4, shape[1])))


@pytest.mark.parametrize(("ours", "theirs"), [(13, 18), (18, 13), (17, 17)])
def test_the_newer_operator_set_serves_both(ours: int, theirs: int) -> None:
    net = Net(ours)
    x = net("Relu", net.conv("a", net.input("x", 1, 3, 6, 5), 8, 3, 3, 3))
    axes = {"axes": [1]} if ours < 18 else {}
    more = [] if ours < 18 else [net.const("axes", [1], np.int64)]
    x = net("Relu", net("Sub", x, net("ReduceMean", x, *more, **axes)), out="here")
    model = net.model(net("GlobalMaxPool", x))
    head = small_head(theirs)
    result = check_laws(model, "here", head)
    assert result.opset_import[0].version == max(ours, theirs)
    feed = models.random_inputs(model, 1)
    values = run(result, feed, "here")
    np.testing.assert_array_equal(values["here"], run(model, feed, "here")["here"])
    (expected,) = run(head, {"z": values["here"]}).values()
    np.testing.assert_array_equal(values[result.graph.output[0].name], expected)


def test_a_head_with_a_local_function_and_another_domain() -> None:
    body = helper.make_node("Relu", ["a"], ["b"])
    double = helper.make_function(
        "own", "Double", ["a"], ["b"], [body], [helper.make_opsetid("", 17)]
    )
    head = small_head()
    node = helper.make_node("Double", ["z"], ["zz"], name="d", domain="own")
    gelu = helper.make_node("Gelu", ["zz"], ["zzz"], name="g", domain="com.microsoft")
    nodes = [node, gelu, *head.graph.node]
    nodes[2].input[0] = "zzz"
    graph = helper.make_graph(
        nodes, "head", head.graph.input, head.graph.output, head.graph.initializer
    )
    imports = [helper.make_opsetid(d, n) for d, n in (("", 17), ("own", 1), ("com.microsoft", 1))]
    own = helper.make_model(graph, functions=[double], opset_imports=imports, ir_version=8)
    result = cut_depth(models.separable(), "relu_8", own)
    ops = {node.op_type for node in result.graph.node}
    assert "Double" not in ops
    assert {"Gelu", "Relu"} <= ops
    run(result, models.random_inputs(result))


def wrong_heads() -> dict[str, tuple[ModelProto, str]]:
    two, none, body = Net(17), Net(17), models.with_body()
    both = two("Add", two.input("a", 1, 8, 6, 5), two.input("b", 1, 8, 6, 5))
    none.input("z", 1, 8, 6, 5)
    none.weight("w", 1, 4)
    broken = small_head()
    broken.graph.node[0].op_type = "Nonsense"
    unread = none.model(none("Relu", "w"))
    del body.graph.output[1:]
    return {
        "shape": (
            small_head(shape=(1, 8, 6, 6)),
            r"takes float32\[1, 8, 6, 6\], but relu_8 is float32\[1, 8, 6, 5\]",
        ),
        "rank": (small_head(shape=(1, 8, 6)), r"takes float32\[1, 8, 6\], but relu_8 is"),
        "inputs": (two.model(both), "one input and one output; this has inputs a, b and outputs"),
        "unread": (unread, "no node of the head reads its input z"),
        "broken": (broken, "the head is no valid model: .*Nonsense"),
        "body": (body, r"a head with bodies \(If, Loop, Scan\) can't be attached"),
    }


@pytest.mark.parametrize("name", wrong_heads())
def test_heads_that_do_not_fit(name: str) -> None:
    head, complaint = wrong_heads()[name]
    model = models.separable()
    data = model.SerializeToString()
    with pytest.raises(ValueError, match=complaint):
        cut_depth(model, "relu_8", head)
    assert model.SerializeToString() == data


def test_an_integer_head_for_a_float_tensor() -> None:
    _, tail = split_model(models.MODELS["separable_qdq"](), "relu_8")
    with pytest.raises(ValueError, match=r"takes int8\[1, 8, 6, 5\], but relu_8 is float32"):
        cut_depth(models.separable(), "relu_8", tail)


def test_versions_of_another_domain_that_differ() -> None:
    head = small_head()
    head.opset_import.append(helper.make_opsetid("com.microsoft", 7))
    model = models.MODELS["separable_qdq"]()
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    del model.opset_import[:-1]
    model.opset_import.append(helper.make_opsetid("", 17))
    with pytest.raises(ValueError, match=r"another version of operator set com\.microsoft"):
        cut_depth(model, "relu_8", head)


# Wrong places


@pytest.mark.parametrize(
    ("tensor", "complaint"),
    [
        ("x", "x is an input of the model: nothing stands before it"),
        ("pw0.weight", "pw0.weight is a constant: give a tensor that is computed from the input"),
        ("relu_88", "the model has no tensor 'relu_88'; near to it: relu_8, "),
        ("reshape_12", r"head dscnn5_3 takes a tensor of shape \[1,C,L\] or \[1,C,H,W\], not \[1,"),
    ],
)
def test_wrong_places(tensor: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        cut_depth(models.separable(), tensor, HEAD)


def test_channels_that_come_last() -> None:
    with pytest.raises(ValueError, match="channels of relu_5 come last: apply eliminate_transpo"):
        cut_depth(models.tf_style(), "relu_5", HEAD)


def unknown(domain: str = "own") -> ModelProto:
    """An operator of which onnx knows nothing, before a convolution."""
    net = Net(17)
    x = net("Unknown", net.input("x", 1, 3, 6, 6), domain=domain)
    x = net.conv("a", x, 3, 3, 3, 3)
    values = [helper.make_tensor_value_info(x, TensorProto.FLOAT, None)]
    tensors = [onnx.numpy_helper.from_array(value, name) for name, value in net.tensors.items()]
    graph = helper.make_graph(net.nodes, "net", net.inputs, values, tensors)
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


def test_what_is_not_known_of_a_tensor() -> None:
    with pytest.raises(ValueError, match="the shape of unknown_1 is not known"):
        cut_depth(unknown(), "unknown_1", HEAD)
    with pytest.raises(ValueError, match="the type of unknown_1 is not known"):
        cut_depth(unknown(), "unknown_1", head_model(HEAD, (1, 3, 6, 6)))
    with pytest.raises(ValueError, match="the type of unknown_1 is not known"):
        split_model(unknown(), "unknown_1")


def test_an_operator_set_that_cannot_be_converted() -> None:
    own, standard = unknown(), unknown("")
    for model in (own, standard):
        model.graph.value_info.append(
            helper.make_tensor_value_info("unknown_1", TensorProto.FLOAT, [1, 3, 6, 6])
        )
    head = head_model(HEAD, (1, 3, 6, 6), 20)
    with pytest.raises(ValueError, match="net can't be converted from opset 17 to 20: export"):
        cut_depth(standard, "unknown_1", head)
    result = cut_depth(own, "unknown_1", head)
    assert {entry.domain: entry.version for entry in result.opset_import} == {"": 20, "own": 1}


def test_sizes_that_vary_stay_so() -> None:
    model = models.separable()
    for axis, name in ((0, "n"), (2, "rows")):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = name
    del model.graph.value_info[:]
    result = cut_depth(model, "relu_8", HEAD)
    feed = {"x": np.zeros((3, 1, 20, 10), np.float32)}
    values = run(result, feed, "relu_8")
    assert values["relu_8"].shape == (3, 8, 10, 5)
    assert values[result.graph.output[0].name].shape == (3, 4)
