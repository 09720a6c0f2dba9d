"""Memory order: channel-last for spatial tensors, and views where the bytes are the same."""

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models import MODELS, Net, tf_style

from mcugraph.graph import Graph
from mcugraph.layout import Layout, Layouts, layouts_of
from mcugraph.optimize import rewrite
from mcugraph.read import read_graph


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    dims = tuple(draw(st.lists(st.integers(1, 4), min_size=1, max_size=5)))
    return Layout(dims, tuple(draw(st.permutations(range(len(dims))))))


@given(layouts())
@settings(max_examples=100, deadline=None, derandomize=True)
def test_memory_and_back_is_the_same_tensor(layout: Layout) -> None:
    tensor = np.arange(np.prod(layout.dims)).reshape(layout.dims)
    memory = layout.to_memory(tensor)
    assert np.array_equal(memory, tensor.transpose(layout.order).ravel())
    assert np.array_equal(layout.from_memory(memory, layout.dims), tensor)
    assert np.array_equal(tensor.ravel()[layout.index()], memory)


def test_channel_last_of_an_image() -> None:
    layout = Layout.channel_last((1, 3, 5, 7))
    assert layout.shape == (1, 5, 7, 3)
    assert Layout.channel_last((1, 6)).shape == (1, 6)


def planned(model: onnx.ModelProto) -> tuple[Graph, Layouts]:
    graph = read_graph(rewrite(model))
    return graph, layouts_of(graph)


def copies(graph: Graph, layouts: Layouts) -> list[str]:
    return [s.op for s in graph.steps if s.op == "Transpose" and s.output not in layouts.views]


@pytest.mark.parametrize("name", sorted(set(MODELS)))
def test_no_convolutional_network_has_a_transpose_at_run_time(name: str) -> None:
    graph, layouts = planned(MODELS[name]())
    assert copies(graph, layouts) == []


def test_a_transpose_around_every_convolution_costs_nothing() -> None:
    graph, layouts = planned(tf_style())
    assert copies(graph, layouts) == []
    assert sum(step.op == "Conv" for step in graph.steps) > 1


def test_an_nhwc_input_is_a_view() -> None:
    net = Net()
    x = net("Transpose", net.input("x", 1, 8, 8, 3), perm=[0, 3, 1, 2], out="nchw")
    graph = read_graph(net.model(net.conv("conv", x, 4, 3, 3, 3)))
    found = layouts_of(graph)
    assert found.views == {"nchw": "x"}
    assert found.of["x"].shape == found.of["nchw"].shape == (1, 8, 8, 3)


def test_flatten_before_gemm_leaves_the_order_to_the_weights() -> None:
    net = Net()
    x = net.conv("conv", net.input("x", 1, 2, 4, 4), 3, 2, 3, 3)
    y = net.gemm("fc", net("Flatten", x, out="flat"), 5, 48)
    graph = read_graph(net.model(y))
    found = layouts_of(graph)
    assert found.root("flat") == "conv"
    assert found.of["flat"] == found.of["conv"]


def test_flatten_at_the_output_is_a_copy() -> None:
    net = Net()
    x = net.conv("conv", net.input("x", 1, 2, 4, 4), 3, 2, 3, 3)
    graph = read_graph(net.model(net("Flatten", x, out="flat")))
    found = layouts_of(graph)
    assert found.views == {}
    assert found.of["flat"] == Layout.row_major((1, 48))


def test_a_tensor_cannot_have_both_orders() -> None:
    net = Net()
    x = net.conv("conv", net.input("x", 1, 2, 4, 4), 3, 2, 3, 3)
    y = net("MatMul", x, net.weight("w", 4, 4), out="product")
    with pytest.raises(ValueError, match=r"MatMul reads conv in row-major order"):
        layouts_of(read_graph(net.model(y)))
