"""Branches of sums: what remains computes as if they gave zeroes; what can't go is told why."""

from __future__ import annotations

import random
from collections.abc import Iterable

import models
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models import Array, Net
from onnx import ModelProto, TensorProto, helper
from sumnets import Sums, start

from mcugraph.passes import Branch, drop_branches, find_branches


def run(model: ModelProto, seed: int = 3) -> list[Array]:
    """As written: float sums are rounded as the nodes say."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return list(session.run(None, models.random_inputs(model, seed)))


def silenced(model: ModelProto, tensors: Iterable[str]) -> ModelProto:
    """The model in which these tensors are multiplied by zero before anything reads them."""
    own = onnx.load_from_string(model.SerializeToString())
    own.graph.initializer.append(helper.make_tensor("nought", TensorProto.FLOAT, [], [0.0]))
    for name in tensors:
        for node in own.graph.node:
            node.input[:] = [f"{name}__silent" if each == name else each for each in node.input]
        place = next(i for i, node in enumerate(own.graph.node) if name in node.output)
        mul = helper.make_node("Mul", [name, "nought"], [f"{name}__silent"])
        own.graph.node.insert(place + 1, mul)
    return own


def check_laws(model: ModelProto, names: list[str], silent: Iterable[str]) -> ModelProto:
    """Pure, valid, faithful, repeatable; `silent` are the operands that the sums read."""
    data = model.SerializeToString()
    result = drop_branches(model, names)
    assert model.SerializeToString() == data, "not pure"
    onnx.checker.check_model(result, full_check=True)
    onnx.shape_inference.infer_shapes(result, check_type=True, strict_mode=True, data_prop=True)
    for before, after in zip(run(silenced(model, silent)), run(result), strict=True):
        np.testing.assert_array_equal(after, before)
    assert [v.name for v in result.graph.input] == [v.name for v in model.graph.input]
    again = drop_branches(onnx.load_from_string(data), names)
    assert again.SerializeToString() == result.SerializeToString(), "not repeatable"
    assert drop_branches(result, ()).SerializeToString() == result.SerializeToString()
    return result


def weights(model: ModelProto) -> set[str]:
    return {tensor.name for tensor in model.graph.initializer}


def operators(model: ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def test_branches_of_a_residual_network() -> None:
    """A block with an identity beside it has one, a block with a projection two."""
    assert find_branches(models.residual()) == (
        Branch("b", "add_6", ("a.weight", "a.bias", "b.weight", "b.bias")),
        Branch("c", "add_10", ("c.weight", "c.bias")),
        Branch("d", "add_10", ("d.weight", "d.bias")),
    )


@pytest.mark.parametrize("names", [["b"], ["c"], ["d"], ["b", "d"], ["c", "b"]])
def test_what_is_left_computes_as_with_zeroes(names: list[str]) -> None:
    model = models.residual()
    result = check_laws(model, names, names)
    gone = {w for branch in find_branches(model) if branch.tensor in names for w in branch.weights}
    assert weights(result) == weights(model) - gone
    assert operators(result).count("Add") == 2 - len(names)


def operand_of(model: ModelProto, branch: Branch) -> str:
    """What the sum reads of a branch: the branch itself, or what it is dequantised to."""
    makers = {name: node for node in model.graph.node for name in node.output}
    for operand in makers[branch.total].input:
        name = operand
        while makers[name].op_type in ("QuantizeLinear", "DequantizeLinear"):
            name = makers[name].input[0]
        if name == branch.tensor:
            return str(operand)
    raise AssertionError(branch)


@pytest.mark.parametrize("name", models.MODELS)
def test_every_branch_of_every_model(name: str) -> None:
    model = models.MODELS[name]()
    for branch in find_branches(model):
        result = check_laws(model, [branch.tensor], [operand_of(model, branch)])
        assert weights(result) == weights(model) - {*branch.weights}


def test_nothing_to_drop_leaves_every_byte() -> None:
    model = models.residual()
    assert drop_branches(model, []).SerializeToString() == model.SerializeToString()


def test_a_relu_that_follows_another_one_goes() -> None:
    result = drop_branches(models.residual(), ["b"])
    assert operators(result).count("Relu") == operators(models.residual()).count("Relu") - 2


# Quantised models

FORMS = ("", "_QuantizeLinear_Output", "_DequantizeLinear_Output")


@pytest.mark.parametrize("name", ["residual_qdq", "residual_uint8"])
@pytest.mark.parametrize("names", [["b"], ["d"], ["b", "c"]])
def test_integers_are_those_with_a_tensor_of_zeroes(name: str, names: list[str]) -> None:
    model = models.MODELS[name]()
    result = check_laws(model, names, [f"{each}_DequantizeLinear_Output" for each in names])
    scales = {tensor for tensor in weights(result) if tensor.endswith("_scale")}
    assert {"relu_7_scale", "relu_11_scale"} <= scales, "sums are rounded to their own scale"


def test_every_name_of_a_quantised_branch_gives_the_same() -> None:
    model = models.MODELS["residual_qdq"]()
    results = [drop_branches(model, [f"b{form}"]) for form in FORMS]
    assert len({result.SerializeToString() for result in results}) == 1
    found = [branch.tensor for branch in find_branches(model)]
    assert found == [branch.tensor for branch in find_branches(models.residual())]


# Shapes of graphs


def test_subtracted_and_summed_branches() -> None:
    net, x = start()
    y = net("Sub", x, net.conv("less", x, 4, 4, 3, 3), out="difference")
    parts = [net.conv(name, y, 4, 4, 1, 1) for name in ("p", "q", "r")]
    model = net.model(net("Sum", *parts, out="y"))
    assert [branch.tensor for branch in find_branches(model)] == ["less", "p", "q", "r"]
    result = check_laws(model, ["less", "q"], ["less", "q"])
    assert operators(result)[-1] == "Sum"
    assert "Sum" not in operators(check_laws(model, ["p", "q"], ["p", "q"]))
    with pytest.raises(ValueError, match="'p' and 'q' make y: one has to stay"):
        drop_branches(model, ["p", "q", "r"])


def test_outputs_keep_their_names() -> None:
    """Where both ends of the sum are the model's, something must stand between them."""
    net = Net(17)
    x = net.input("x", 1, 2, 4, 4)
    y = net("Add", x, net.conv("f", x, 2, 2, 3, 3), out="y")
    assert operators(check_laws(net.model(y), ["f"], ["f"])) == ["Identity"]
    net, x = start()
    y = net("Add", net.conv("g", x, 4, 4, 1, 1), net.conv("f", x, 4, 4, 3, 3), out="y")
    result = check_laws(net.model(y), ["f"], ["f"])
    assert operators(result) == ["Conv", "Tanh", "Conv"]
    assert result.graph.node[-1].output[0] == "y"


def nested() -> ModelProto:
    net, x = start()
    inner = net.conv("a", x, 4, 4, 3, 3)
    inner = net("Add", inner, net.conv("b", inner, 4, 4, 1, 1), out="inner")
    y = net("Add", net.conv("outer", inner, 4, 4, 1, 1), x, out="y")
    return net.model(y)


@pytest.mark.parametrize("names", [["b"], ["outer"], ["outer", "b"], ["b", "outer"]])
def test_one_branch_in_another(names: list[str]) -> None:
    result = check_laws(nested(), names, names)
    assert operators(result).count("Add") == (1 if names == ["b"] else 0)


def dependent() -> ModelProto:
    """What ends in `u` is needed for another branch, too, until that one goes."""
    net, x = start()
    u = net.conv("u", x, 4, 4, 3, 3)
    y = net("Add", x, u, out="y")
    z = net("Add", net("Relu", y), net.conv("v", net("Relu", u), 4, 4, 1, 1), out="z")
    return net.model(z)


def test_a_branch_that_another_one_holds_back() -> None:
    model = dependent()
    with pytest.raises(ValueError, match="'u' has to stay: nothing with weights is computed for"):
        drop_branches(model, ["u"])
    result = check_laws(model, ["u", "v"], ["u", "v"])
    assert weights(result) == {"stem.weight", "stem.bias"}


def two_inputs() -> ModelProto:
    net, x = start()
    extra = net.input("extra", 1, 4, 5, 5)
    y = net("Add", x, net.conv("f", extra, 4, 4, 3, 3), out="y")
    return net.model(net("Add", y, y, out="z"))


def stuck() -> ModelProto:
    """Terms that have to stay for one reason or another."""
    net, x = start()
    narrow = net.conv("narrow", x, 1, 4, 1, 1)
    y = net("Add", x, narrow, out="wide")
    y = net("Sub", net.conv("first", y, 4, 4, 1, 1), net("Relu", y, out="plain"), out="less")
    y = net("Add", net.conv("biased", y, 4, 4, 1, 1), net.weight("bias", 1, 4, 5, 5), out="moved")
    return net.model(y)


PROBLEMS = {
    "x": "'x' is no term of a sum; branches: none",
    "narrow": "'narrow' has to stay: wide and its terms are not of one static shape",
    "first": "'first' has to stay: plain is subtracted from it",
    "plain": "'plain' has to stay: nothing with weights is computed for it alone",
    "biased": "'biased' has to stay: it is all that moved is computed from",
    "bias": "'bias' has to stay: it is a constant",
    "stem.weight": "'stem.weight' is no term of a sum",
    "narow": "there is no tensor 'narow'; near to it: narrow",
    "??": "there is no tensor '??'; branches: none",
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_what_has_to_stay(name: str) -> None:
    model = stuck()
    data = model.SerializeToString()
    with pytest.raises(ValueError, match="cannot drop branches") as caught:
        drop_branches(model, [name])
    assert PROBLEMS[name] in str(caught.value)
    assert model.SerializeToString() == data


def test_all_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(ValueError, match="cannot drop branches") as caught:
        drop_branches(stuck(), PROBLEMS)
    assert str(caught.value).splitlines()[1:] == sorted(
        str(caught.value).splitlines()[1:],
        key=lambda line: list(PROBLEMS).index(line.split("'")[1]),
    )
    assert len(str(caught.value).splitlines()) == 1 + len(PROBLEMS)


def test_one_of_two_has_to_stay() -> None:
    with pytest.raises(ValueError, match="'c' and 'd' make add_10: one has to stay"):
        drop_branches(models.residual(), ["b", "c", "d"])


def test_an_input_that_nothing_would_read() -> None:
    with pytest.raises(ValueError, match="'f' has to stay: nothing else reads the input extra"):
        drop_branches(two_inputs(), ["f"])
    with pytest.raises(ValueError, match="'y' has to stay: z has it twice"):
        drop_branches(two_inputs(), ["y"])


def test_shapes_that_vary() -> None:
    model = models.residual()
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "n"
    del model.graph.value_info[:]
    assert find_branches(model) == ()


# Random networks


@given(st.integers(0, 10**6))
@settings(deadline=None, max_examples=60, derandomize=True)
def test_random_sums(seed: int) -> None:
    """Each branch alone; then one after the other until none is left, and all these at once."""
    model = Sums(seed).model()
    for branch in find_branches(model):
        check_laws(model, [branch.tensor], [branch.tensor])
    gone: list[str] = []
    rest = model
    while left := find_branches(rest):
        gone.append(random.Random(seed).choice(left).tensor)
        rest = drop_branches(rest, gone[-1:])
    both = drop_branches(model, gone)
    assert weights(both) == weights(rest)
    for one, other in zip(run(both), run(rest), strict=True):
        np.testing.assert_array_equal(one, other)
