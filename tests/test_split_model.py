"""Two models whose composition is the model, and tensors that are no place to split."""

from __future__ import annotations

import models
import networkx as nx
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models import Array, Net
from onnx import ModelProto
from test_laws import FILES, SHARED, Wild, is_integer

from mcugraph.passes.cuts import legal_cuts
from mcugraph.passes.split_model import split_model

NAMES = [*models.MODELS, *FILES]


def load(name: str) -> ModelProto:
    return onnx.load(SHARED / name) if name in FILES else models.MODELS[name]()


def run(model: ModelProto, feed: dict[str, Array], integer: bool) -> dict[str, Array]:
    """Every output by its name; as written, or with integer kernels."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.qdqisint8allowed", "1")
    if not integer:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(None, feed), strict=True))


def check_parts(model: ModelProto, tensor: str, integer: bool = False) -> None:
    data = model.SerializeToString()
    head, tail = split_model(model, tensor)
    assert model.SerializeToString() == data, "not pure"
    assert [part.SerializeToString() for part in split_model(model, tensor)] == [
        part.SerializeToString() for part in (head, tail)
    ], "not repeatable"
    for part in (head, tail):
        onnx.checker.check_model(part, full_check=True)
    crossing = head.graph.output[0]
    (entrance,) = tail.graph.input
    assert crossing.name == entrance.name
    assert crossing.type.tensor_type.elem_type == entrance.type.tensor_type.elem_type
    feed = models.random_inputs(model, 5)
    known = {value.name for value in head.graph.input}
    first = run(head, {name: value for name, value in feed.items() if name in known}, integer)
    then = run(tail, {entrance.name: first[entrance.name]}, integer)
    expected = run(model, feed, integer)
    assert set(expected) <= {*first, *then}
    for name, value in expected.items():
        np.testing.assert_array_equal({**first, **then}[name], value)


@pytest.mark.parametrize("name", NAMES)
def test_head_then_tail_is_the_model(name: str) -> None:
    model = load(name)
    cuts = legal_cuts(model)
    for cut in cuts if len(cuts) < 8 else cuts[:: len(cuts) // 4]:
        check_parts(model, cut.tensor, is_integer(model))


def digraph(model: ModelProto) -> nx.DiGraph:
    """Tensors and nodes of a model without bodies; constants are left out."""
    constants = {tensor.name for tensor in model.graph.initializer}
    graph = nx.DiGraph()
    for index, node in enumerate(model.graph.node):
        graph.add_edges_from((name, index) for name in node.input if name not in constants)
        graph.add_edges_from((index, name) for name in node.output)
    return graph


def is_place(model: ModelProto, tensor: str) -> bool:
    """Whether no way from an input to what stands behind a tensor goes around it."""
    graph, inputs = digraph(model), {value.name for value in model.graph.input}
    behind = nx.descendants(graph, tensor)
    graph.remove_node(tensor)
    ways = (nx.ancestors(graph, each) & inputs or {each} & inputs for each in behind)
    return bool(behind) and not any(ways)


def stored_form(model: ModelProto, tensor: str) -> str:
    """The integers behind a name, in graphs where only QuantizeLinear makes integers."""
    readers = [node for node in model.graph.node if tensor in node.input]
    (maker,) = (node for node in model.graph.node if tensor in node.output)
    if maker.op_type == "DequantizeLinear":
        return maker.input[0]
    outputs = {value.name for value in model.graph.output}
    alone = [node.op_type for node in readers] == ["QuantizeLinear"] and tensor not in outputs
    return readers[0].output[0] if alone else tensor


@given(st.integers(0, 10**6))
@settings(deadline=None, max_examples=60, derandomize=True)
def test_every_tensor_of_random_graphs(seed: int) -> None:
    model = Wild(seed).model()
    for node in model.graph.node:
        for tensor in node.output:
            crossing = stored_form(model, tensor)
            if is_place(model, crossing):
                check_parts(model, tensor)
            else:
                with pytest.raises(ValueError, match=r"no place to split|nothing stands behind"):
                    split_model(model, tensor)


def test_what_else_would_cross_is_named() -> None:
    with pytest.raises(ValueError, match=r"^relu_4 is no place to split") as caught:
        split_model(models.residual(), "relu_4")
    assert "what is behind it also needs relu_2; legal_cuts lists" in str(caught.value)


def test_a_quantised_tensor_crosses_as_integers_by_any_of_its_names() -> None:
    model = models.quantized(models.residual)
    parts = [
        split_model(model, f"relu_2{form}")
        for form in ("", "_QuantizeLinear_Output", "_DequantizeLinear_Output")
    ]
    texts = {tuple(part.SerializeToString() for part in pair) for pair in parts}
    assert len(texts) == 1
    assert parts[0][1].graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.INT8


def test_each_part_has_only_its_own_weights() -> None:
    model = models.residual()
    head, tail = split_model(model, "relu_7")
    names = [{tensor.name for tensor in part.graph.initializer} for part in (head, tail)]
    assert names[0].isdisjoint(names[1])
    assert names[0] | names[1] == {tensor.name for tensor in model.graph.initializer}


def test_an_output_before_the_place_stays_with_the_head() -> None:
    net = Net(17)
    x = net("Relu", net.conv("a", net.input("x", 1, 3, 6, 6), 4, 3, 3, 3))
    early = net("GlobalMaxPool", x, out="early")
    y = net("Relu", net.conv("b", x, 4, 4, 3, 3))
    model = net.model(early, y)
    with pytest.raises(ValueError, match="nothing stands behind early"):
        split_model(model, "early")
    head, tail = split_model(model, x)
    assert [value.name for value in head.graph.output] == [x]
    assert [value.name for value in tail.graph.output] == [early, y]
    head, _ = split_model(model, "b")
    assert [value.name for value in head.graph.output] == ["b", early]
    check_parts(model, "b")


@pytest.mark.parametrize(
    ("tensor", "complaint"),
    [
        ("x", "x is an input of the model: nothing stands before it"),
        ("a.weight", "a.weight is a constant: give a tensor that is computed"),
        ("relu_9", "the model has no tensor 'relu_9'; near to it: relu_"),
        ("fc", "nothing stands behind fc: the tail would be empty"),
    ],
)
def test_impossible_places(tensor: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        split_model(models.residual(), tensor)


def test_a_body_that_reads_what_is_before_the_place() -> None:
    model = models.with_body()
    with pytest.raises(ValueError, match="is no place to split"):
        split_model(model, "greater_8")
    check_parts(model, "relu_2")
