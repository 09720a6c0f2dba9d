"""Fake quantisation is what onnxruntime computes, and training with it brings the loss down."""

import copy
import functools

import fitting
import numpy as np
import onnxruntime as ort
import prunable
import pytest
import torch
from onnx import ModelProto, TensorProto, numpy_helper

from mcugraph.prune.export import from_torch
from mcugraph.prune.network import Network
from mcugraph.prune.qat import fake_quantized, quantized, train_quantized, with_weights
from mcugraph.prune.training import Training, score_of

# A float32 sum may fall to the other side of a rounding in one of that many results.
TIES = 0.02


@functools.cache
def float_model(name: str) -> ModelProto:
    return from_torch(copy.deepcopy(prunable.module(name)), prunable.inputs(name))


@functools.cache
def int8_model(name: str) -> ModelProto:
    return quantized(float_model(name), [(prunable.inputs(name, 8), torch.zeros(8))])


def by_onnxruntime(model: ModelProto, x: np.ndarray) -> np.ndarray:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options)
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: row[None]})[0] for row in x])


def constants(model: ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


@pytest.mark.parametrize("name", ["ds_cnn", "resnet8", "split_concat", "squeeze_excite", "gru"])
def test_fake_quantisation_is_onnxruntimes(name: str) -> None:
    """All results of a batch of float weights against single samples of integer weights."""
    x = prunable.inputs(name, 8)
    network = fake_quantized(int8_model(name), float_model(name))
    with torch.no_grad():
        ours = network(x).numpy()
    theirs = by_onnxruntime(int8_model(name), x.numpy())
    scale = np.diff(np.unique(theirs)).min()
    apart = np.abs(ours - theirs)
    assert (apart > scale / 100).mean() <= TIES
    assert apart.max() <= 1.01 * np.diff(np.unique(theirs)).max()


def test_nothing_stays_on_the_processor() -> None:
    """On a device that is none, an operand left behind is an error, as it is on a GPU."""
    for network in (Network(float_model("concat")), fake_quantized(int8_model("concat"))):
        network.to("meta")
        assert network(prunable.inputs("concat", 4).to("meta")).shape == (4, 10)


def test_float_weights_are_trained_and_integers_come_back() -> None:
    quantised = int8_model("concat")
    network = fake_quantized(quantised)
    assert constants(with_weights(quantised, network)).keys() == constants(quantised).keys()
    for name, value in constants(with_weights(quantised, network)).items():
        np.testing.assert_array_equal(value, constants(quantised)[name])
    weight = network.weights["stem.0.weight_quantized_real"]
    scale = constants(quantised)["stem.0.weight_scale"]
    with torch.no_grad():
        weight += torch.from_numpy(scale.reshape(-1, 1, 1, 1)) * 1000
    found = constants(with_weights(quantised, network))["stem.0.weight_quantized"]
    assert found.dtype == np.int8
    assert (found == 127).all()


def test_gradients_pass_through_the_rounding() -> None:
    network = fake_quantized(int8_model("concat"), float_model("concat"))
    network(prunable.inputs("concat", 4)).square().sum().backward()
    for name, weight in network.weights.items():
        assert weight.grad is not None, name
        assert weight.grad.abs().sum() > 0, name


@functools.cache
def coarse() -> ModelProto:
    """A network whose first channel is forty times as large as the others, and hardly read.

    What the others say is then lost in the rounding: all of a tensor have one scale.
    """
    model = Network(fitting.exported())
    with torch.no_grad():
        scale, bias = model.weights["1.weight"], model.weights["1.bias"]
        scale[0] *= 40
        bias[0] *= 40
        model.weights["3.weight"][:, 0] /= 40
    return model.to_onnx()


def test_training_brings_back_what_rounding_took() -> None:
    batches, x = fitting.batches(), fitting.digits()[0]
    teacher = Network(coarse()).eval()
    with torch.no_grad():
        wanted = torch.log_softmax(teacher(x), 1).numpy()
    plain = quantized(coarse(), batches)
    wish = Training(
        epochs=6,
        distil=1.0,
        temperature=1.0,
        optimizer=lambda weights: torch.optim.AdamW(weights, 1e-3),
    )
    trained = train_quantized(coarse(), batches, wish)

    def apart(model: ModelProto) -> float:
        """KL divergence of the class probabilities from those of the float model."""
        logits = by_onnxruntime(model, x.numpy())
        found = logits - np.log(np.exp(logits).sum(1, keepdims=True))
        return float((np.exp(wanted) * (wanted - found)).sum(1).mean())

    assert apart(trained) < 0.5 * apart(plain)
    kinds = {tensor.name: tensor.data_type for tensor in trained.graph.initializer}
    assert kinds == {tensor.name: tensor.data_type for tensor in plain.graph.initializer}
    assert TensorProto.INT8 in kinds.values()
    for name, value in constants(trained).items():
        if name.endswith(("_scale", "_zero_point")):
            np.testing.assert_array_equal(value, constants(plain)[name])
    network = fake_quantized(trained)
    with torch.no_grad():
        ours = network(x).numpy()
    np.testing.assert_allclose(ours, by_onnxruntime(trained, x.numpy()), atol=1e-5)
    wish = Training(evaluate=batches)
    assert score_of(Network(trained), wish) == pytest.approx(score_of(network, wish), abs=2)
