"""A model in torch computes what onnxruntime computes, and trains as the torch module trains."""

import copy
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import prunable
import pytest
import torch
from models import MODELS, Net, random_inputs
from onnx import ModelProto, TensorProto
from torch import Tensor, nn

from mcugraph.errors import UnsupportedError
from mcugraph.passes import fold_constants
from mcugraph.prune.export import from_torch
from mcugraph.prune.network import Network

FLOAT = [name for name in MODELS if not any(t in name for t in ("qdq", "qoperator", "int8"))]


def by_onnxruntime(model: ModelProto, values: dict[str, Any]) -> list[Any]:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options)
    return session.run(None, values)


def by_torch(network: Network, values: dict[str, Any]) -> list[Any]:
    with torch.no_grad():
        found = network(*(torch.from_numpy(values[name]) for name in network.inputs))
    return [part.numpy() for part in (found if isinstance(found, tuple) else (found,))]


@pytest.mark.parametrize("name", FLOAT)
def test_float_models_as_onnxruntime(name: str) -> None:
    model = fold_constants(MODELS[name]())
    values = random_inputs(model)
    network = Network(model).eval()
    for ours, theirs in zip(by_torch(network, values), by_onnxruntime(model, values), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def test_quantised_model_as_onnxruntime_without_optimisations() -> None:
    model = prunable.quantized(prunable.exported("concat"))
    values = {"x": prunable.inputs("concat").numpy()}
    (ours,) = by_torch(Network(model).eval(), values)
    (theirs,) = by_onnxruntime(model, values)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def operators() -> dict[str, ModelProto]:
    """What the models above leave out, one small model each."""
    found = {}
    for kind, gates, attributes in (
        ("GRU", 3, {"linear_before_reset": 1}),
        ("LSTM", 4, {}),
        ("RNN", 1, {}),
    ):
        for way in ("forward", "reverse", "bidirectional"):
            net, ways = Net(), 1 + (way == "bidirectional")
            x = net.input("x", 5, 2, 3)
            w, r = net.weight("w", ways, 4 * gates, 3), net.weight("r", ways, 4 * gates, 4)
            b = net.weight("b", ways, 8 * gates)
            (y,) = net.many(kind, x, w, r, b, out=["y"], hidden_size=4, direction=way, **attributes)
            found[f"{kind} {way}"] = net.model(y)
    net = Net()
    y = net(
        "ConvTranspose", net.input("x", 1, 4, 5, 5), net.weight("w", 4, 3, 3, 3), strides=[2, 2]
    )
    found["ConvTranspose"] = net.model(y)
    for mode in ("DCR", "CRD"):
        net = Net()
        y = net("DepthToSpace", net.input("x", 1, 8, 3, 2), blocksize=2, mode=mode)
        found[f"DepthToSpace {mode}"] = net.model(net("SpaceToDepth", y, blocksize=2))
    net = Net()
    x = net.input("x", 1, 2, 7, 6)
    y = net("AveragePool", x, kernel_shape=[3, 2], pads=[1, 0, 0, 1], strides=[2, 1])
    y = net("MaxPool", y, kernel_shape=[2, 2], pads=[0, 1, 1, 0])
    y = net("Pad", y, net.const("pads", [0, 0, 1, 2, 0, 0, 0, 1], np.int64), mode="edge")
    found["windows"] = net.model(y)
    net = Net(opset=18)
    y = net("LayerNormalization", net.input("x", 2, 3, 8), net.weight("s", 8), net.weight("b", 8))
    y = net(
        "Slice",
        y,
        *(
            net.const(n, [v], np.int64)
            for n, v in (("from", 7), ("to", -9), ("axis", 2), ("step", -2))
        ),
    )
    found["LayerNormalization and a step back"] = net.model(y)
    return found


@pytest.mark.parametrize("name", operators())
def test_operators_as_onnxruntime(name: str) -> None:
    model = operators()[name]
    values = random_inputs(model)
    for ours, theirs in zip(
        by_torch(Network(model).eval(), values), by_onnxruntime(model, values), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def trained(module: nn.Module, x: Tensor) -> Tensor:
    """The output of a training step's forward pass, after the gradient of its squares' sum."""
    module.train().zero_grad()
    y = module(x)
    y.square().sum().backward()
    return y.detach()


@pytest.mark.parametrize("name", prunable.NETS)
def test_exported_modules_train_alike(name: str) -> None:
    """Outputs, gradients and running statistics, for a batch of 5 although the export has 1."""
    module = copy.deepcopy(prunable.module(name)).requires_grad_(True)
    network = Network(from_torch(module, prunable.inputs(name)))
    x = prunable.inputs(name, 5)
    torch.testing.assert_close(trained(network, x), trained(module, x), rtol=1e-4, atol=1e-5)
    own = dict(module.named_parameters())
    same = [key for key, weight in network.weights.items() if key in own and own[key].dim() > 0]
    for key in same:
        if network.weights[key].shape == own[key].shape:
            torch.testing.assert_close(
                network.weights[key].grad, own[key].grad, rtol=1e-3, atol=1e-3
            )
    present = {t.name: t for t in network.to_onnx().graph.initializer}
    for key, value in module.named_buffers():
        if key in present:
            found = torch.from_numpy(np.array(onnx.numpy_helper.to_array(present[key])))
            torch.testing.assert_close(found, value, rtol=1e-4, atol=1e-5)
    assert same


def test_weights_travel_back_into_the_model() -> None:
    module = prunable.module("resnet8")
    network = Network(from_torch(module, prunable.inputs("resnet8")))
    with torch.no_grad():
        for weight in network.weights.values():
            weight.mul_(0.5)
    values = {name: prunable.inputs("resnet8").numpy() for name in network.inputs}
    (ours,), (theirs,) = by_torch(network.eval(), values), by_onnxruntime(network.to_onnx(), values)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_buffers_are_not_trained() -> None:
    class Normalised(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mean", torch.arange(3.0).reshape(1, 3, 1, 1))
            self.gain = nn.Parameter(torch.ones(1, 3, 1, 1))

        def forward(self, x: Tensor) -> Tensor:
            return (x - self.mean) * self.gain

    network = Network(from_torch(Normalised(), torch.zeros(1, 3, 2, 2)))
    assert list(network.weights) == ["gain"]


def test_unknown_operators_are_named_all_at_once() -> None:
    net = Net()
    y = net("NonZero", net("Det", net.input("x", 1, 2, 2)))
    with pytest.raises(UnsupportedError, match=r"(?s)n1 \(Det\).*n2 \(NonZero\)"):
        Network(net.model(y, kind=TensorProto.INT64))


def test_an_example_is_one_input() -> None:
    with pytest.raises(ValueError, match="batch has to be 1"):
        from_torch(nn.Linear(3, 2), torch.zeros(4, 3))


def test_variants_that_torch_computes_otherwise_are_refused_before_training() -> None:
    net = Net()
    x = net.input("x", 5, 1, 3)
    weights = net.weight("w", 1, 12, 3), net.weight("r", 1, 12, 4)
    net.many("GRU", x, *weights, out=["y"], hidden_size=4)
    pool = net("AveragePool", net.input("z", 1, 1, 5), kernel_shape=[2], strides=[2], ceil_mode=1)
    with pytest.raises(UnsupportedError, match=r"(?s)linear_before_reset=0.*ceil_mode"):
        Network(net.model("y", pool))
