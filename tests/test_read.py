"""Reading: DequantizeLinear - op - QuantizeLinear is one integer step, everything else is told."""

from collections.abc import Callable
from pathlib import Path

import networkx as nx
import onnx
from models import Net, quantized, residual

from mcugraph.load import load
from mcugraph.optimize import rewrite
from mcugraph.read import read_graph

DIGITS = Path(__file__).parents[1] / "examples" / "digits.onnx"


def test_the_digits_model_is_all_integer(golden: Callable[..., None]) -> None:
    graph = read_graph(rewrite(load(DIGITS)))
    golden(str(graph))
    dtypes = {graph.tensors[n].dtype for s in graph.steps for n in graph.activations(s)}
    assert dtypes == {"int8"}
    assert [graph.interface[n] for n in (*graph.inputs, *graph.outputs)] == ["input", "logits"]


def test_the_float_model_keeps_its_names(golden: Callable[..., None]) -> None:
    golden(str(read_graph(rewrite(residual()))))


def clamped_conv(high: float, scale: float, zero: int) -> onnx.ModelProto:
    """Conv - Relu - Clip, or only Relu where high is 0, between DQ and Q."""
    net = Net()
    x = net.dequantize(net.quantize(net.input("x", 1, 2, 4, 4), 0.1, 0), 0.1, 0)
    w = net.dequantize(net.bytes("w", 3, 2, 1, 1), 0.01, 0)
    y = net("Conv", x, w, out="conv")
    y = net("Clip", y, net.const("low", 0, "f4"), net.const("high", high, "f4"), out="clip")
    return net.model(net.dequantize(net.quantize(y, scale, zero, out="q"), scale, zero, out="y"))


def test_a_clamp_between_conv_and_quantize_is_part_of_the_step() -> None:
    graph = read_graph(clamped_conv(6.0, 0.1, 0))
    (step,) = graph.steps
    assert (step.op, step.output, step.activation) == ("Conv", "q", (0.0, 6.0))
    assert graph.outputs == ("q",)


def test_a_float_operator_in_an_integer_model_is_told() -> None:
    net = Net()
    x = net.dequantize(net.quantize(net.input("x", 1, 4), 0.1, 0), 0.1, 0, out="real")
    y = net("Exp", net("Sin", x, out="sin"), out="y")
    graph = read_graph(net.model(y))
    assert [step.op for step in graph.steps] == ["DequantizeLinear", "Sin", "Exp"]
    assert graph.tensors["sin"].dtype == "float32"


def test_one_tensor_with_float_and_integer_readers_is_dequantised_for_the_float_one() -> None:
    net = Net()
    q = net.quantize(net.input("x", 1, 4), 0.1, 0, out="q")
    real = net.dequantize(q, 0.1, 0, out="real")
    a = net.quantize(net("Sigmoid", real, out="s"), 1 / 256, -128, out="a")
    integer = net.dequantize(a, 1 / 256, -128, out="integer")
    floating = net("Tanh", real, out="floating")
    graph = read_graph(net.model(integer, floating))
    assert [step.op for step in graph.steps] == ["DequantizeLinear", "Sigmoid", "Tanh"]
    assert graph.producers["a"].inputs == ("q",)
    assert graph.producers["floating"].inputs == ("real",)


def test_requantisation_is_a_step() -> None:
    net = Net()
    q = net.quantize(net.input("x", 1, 4), 0.1, 0, out="q")
    again = net.quantize(net.dequantize(q, 0.1, 0), 0.2, 3, out="again")
    graph = read_graph(net.model(net.dequantize(again, 0.2, 3, out="y")))
    (step,) = graph.steps
    assert (step.op, step.inputs, step.outputs) == ("QuantizeLinear", ("q",), ("again",))


def test_the_dag_carries_the_tensors() -> None:
    graph = read_graph(rewrite(quantized(residual)))
    assert nx.is_directed_acyclic_graph(graph.dag)
    edges = nx.get_edge_attributes(graph.dag, "tensor")
    for (before, after), tensor in edges.items():
        assert graph.producers[tensor].name == before
        assert after in {step.name for step in graph.consumers[tensor]}
