"""An early exit: the network's outputs stay, and the head's comes beside them."""

from __future__ import annotations

import json
from dataclasses import replace

import models
import numpy as np
import onnx
import pytest
from onnx import ModelProto
from test_cut_depth import HEAD, images, run, small_head

from mcugraph.passes import CLEANUP, legal_cuts
from mcugraph.passes.add_exit import add_exit
from mcugraph.passes.cut_depth import cut_depth
from mcugraph.passes.heads import Head, head_model
from mcugraph.passes.split_model import split_model


def facts(model: ModelProto) -> dict[str, object]:
    (text,) = (entry.value for entry in model.metadata_props if entry.key == "mcugraph.exit")
    return dict(json.loads(text))


@pytest.mark.parametrize("name", models.MODELS)
def test_outputs_stay_and_the_exit_is_that_of_the_cut_model(name: str) -> None:
    model = models.MODELS[name]()
    data = model.SerializeToString()
    feed = models.random_inputs(model, 6)
    for tensor in images(model):
        result = add_exit(model, tensor, HEAD, 0.8)
        assert model.SerializeToString() == data, "not pure"
        onnx.checker.check_model(result, full_check=True)
        assert add_exit(model, tensor, HEAD, 0.8).SerializeToString() == result.SerializeToString()
        assert facts(result) == {"output": "exit", "threshold": 0.8}
        found, before = run(result, feed), run(model, feed)
        assert list(found) == [*before, "exit"]
        for output, value in before.items():
            np.testing.assert_array_equal(found[output], value)
        (expected,) = run(cut_depth(model, tensor, HEAD), feed).values()
        np.testing.assert_array_equal(found["exit"], expected)
        np.testing.assert_allclose(found["exit"].sum(), 1, rtol=1e-5)


@pytest.mark.parametrize("name", ["separable", "separable_qdq", "residual_qdq"])
def test_the_compilers_own_passes_keep_the_exit(name: str) -> None:
    model = add_exit(models.MODELS[name](), images(models.MODELS[name]())[1], HEAD)
    feed = models.random_inputs(model, 6)
    result = model
    for apply in CLEANUP:
        result = apply(result)
    assert facts(result) == facts(model)
    np.testing.assert_allclose(run(result, feed)["exit"], run(model, feed)["exit"], atol=1e-5)


def test_a_name_that_is_taken() -> None:
    net = models.Net(17)
    x = net("Relu", net.conv("a", net.input("x", 1, 3, 6, 6), 4, 3, 3, 3), out="exit")
    model = net.model(net("GlobalMaxPool", x))
    result = add_exit(model, "exit", HEAD)
    assert facts(result)["output"] == "exit__1"
    assert [value.name for value in result.graph.output][1] == "exit__1"


def test_weights_of_an_exit_have_names_of_their_own() -> None:
    own = head_model(HEAD, (1, 8, 6, 5), prefix="exit")
    once = cut_depth(models.separable(), "relu_10", HEAD)
    model = add_exit(once, "relu_8", replace(HEAD, seed=99, weights=own))
    values = {tensor.name: tensor for tensor in model.graph.initializer}
    assert [values[tensor.name] for tensor in own.graph.initializer] == [*own.graph.initializer]
    assert {f"head{name.removeprefix('exit')}" for name in values if name.startswith("exit.")} == {
        name for name in values if name.startswith("head.")
    }


def test_a_model_as_the_head() -> None:
    result = add_exit(models.separable(), "relu_8", small_head())
    assert [value.name for value in result.graph.output][1] == "exit"


def test_behind_the_exit_the_model_can_be_split() -> None:
    model = add_exit(models.separable(), "relu_4", HEAD)
    head, tail = split_model(model, "relu_8")
    assert [value.name for value in head.graph.output] == ["relu_8", "exit"]
    assert facts(head) == facts(model)
    assert not tail.metadata_props
    assert legal_cuts(model) == legal_cuts(models.separable())


@pytest.mark.parametrize("threshold", [0, -0.5, 1.5, float("nan")])
def test_a_threshold_is_a_probability(threshold: float) -> None:
    with pytest.raises(ValueError, match="a probability above 0, at most 1"):
        add_exit(models.separable(), "relu_8", HEAD, threshold)


def test_one_exit_is_enough() -> None:
    model = add_exit(models.separable(), "relu_4", HEAD)
    with pytest.raises(ValueError, match="the model has an early exit already"):
        add_exit(model, "relu_8", HEAD)


@pytest.mark.parametrize(
    "head",
    [Head("gap", (), 3, softmax=False), head_model(Head(softmax=False), (1, 8, 6, 5))],
    ids=["spec", "model"],
)
def test_logits_are_no_probabilities(head: Head | ModelProto) -> None:
    with pytest.raises(ValueError, match="ends in logits, which is no Softmax"):
        add_exit(models.separable(), "relu_8", head)


def test_a_quantised_head_may_end_in_a_quantised_softmax() -> None:
    model = models.MODELS["separable_qdq"]()
    _, tail = split_model(model, "relu_8")
    result = add_exit(model, "relu_8", tail)
    feed = models.random_inputs(model, 6)
    found = run(result, feed)
    np.testing.assert_array_equal(found["exit"], found[model.graph.output[0].name])
