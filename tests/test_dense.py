"""Gemm and MatMul against onnxruntime, in int8 and float, and behind a flattened image."""

import ckernel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from layers import Layer, Weights, output_scale, streamed
from onnx import TensorProto, helper, numpy_helper
from steps import Case

from mcugraph.layout import layouts_of
from mcugraph.lower.call import Site, UnsupportedError
from mcugraph.lower.dense import lower_gemm, lower_matmul
from mcugraph.read import read_graph

QUICK = settings(deadline=None, max_examples=80, derandomize=True)
LOWER = {"Gemm": lower_gemm, "MatMul": lower_matmul}


@st.composite
def layers(draw: st.DrawFn, integer: bool) -> Layer:
    """Rows of any number times weights, transposed or not; MatMul with leading dimensions."""
    op = draw(st.sampled_from(["Gemm", "MatMul"]))
    inputs, outputs = draw(st.integers(1, 300)), draw(st.integers(1, 40))
    rows = [draw(st.integers(1, 9))]
    if op == "MatMul":
        rows = draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    transposed = op == "Gemm" and draw(st.booleans())
    shape = (outputs, inputs) if transposed else (inputs, outputs)
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    axis = 0 if transposed else 1
    case = (_integer if integer else _float)(random, (*rows, inputs), shape, axis)
    case.op = op
    case.relu = draw(st.booleans())
    if op == "MatMul" or draw(st.booleans()):
        case.bias = None
    case.attributes = {"transB": int(transposed)} if op == "Gemm" else {}
    if op == "Gemm" and not integer and draw(st.booleans()):
        case.attributes |= {"alpha": 0.5, "beta": 2.0}
    return case


def _integer(random: np.random.Generator, x_shape, shape, axis: int) -> Layer:
    x = random.integers(-128, 128, x_shape).astype(np.int8)
    w = random.integers(-63, 64, shape).astype(np.int8)
    scale = 2.0 ** random.uniform(-9, -5, shape[axis] if random.random() < 0.5 else ())
    x_scale = float(np.float32(2.0 ** random.uniform(-7, 0)))
    y_scale = output_scale(x, w, axis) * x_scale * float(scale.max())
    zeros = random.integers(-128, 128, 2).tolist()
    return Layer(
        "Gemm",
        [x],
        scales=[(x_scale, zeros[0])],
        output=(float(np.float32(y_scale)), zeros[1]),
        weights=Weights(w, scale.astype(np.float32), axis),
        bias=random.integers(-2000, 2000, shape[axis]).astype(np.int32),
    )


def _float(random: np.random.Generator, x_shape, shape, axis: int) -> Layer:
    x = random.normal(size=x_shape).astype(np.float32)
    w = random.normal(size=shape).astype(np.float32)
    bias = random.normal(size=shape[axis]).astype(np.float32)
    return Layer("Gemm", [x], weights=Weights(w, w), bias=bias)


def test_int8_products_equal_onnxruntime() -> None:
    tally = np.zeros(2, int)

    @settings(QUICK, max_examples=400)
    @given(layers(integer=True))
    def check(case: Layer) -> None:
        tally[:] += case.differences(LOWER[case.op])

    check()
    assert tally[1] > 20_000
    assert tally[0] <= max(1, tally[1] / 1e5)


@QUICK
@given(layers(integer=False))
def test_float_products_are_close_to_onnxruntime(case: Layer) -> None:
    case.close(LOWER[case.op], rtol=1e-5, atol=2e-5)


@settings(QUICK, max_examples=30)
@given(st.booleans().flatmap(lambda integer: layers(integer=integer)))
def test_rows_computed_one_by_one_from_a_ring_equal_the_whole(case: Layer) -> None:
    call = case.call(LOWER[case.op])
    x = case.inputs[0].ravel()
    size = case.graph().tensors[call.output].size
    np.testing.assert_array_equal(streamed(call, x, size), ckernel.run_call(call, [x], size))


def test_alpha_and_beta_are_folded_into_the_scales() -> None:
    random = np.random.default_rng(0)
    case = _integer(random, (1, 9), (5, 9), 0)
    case.attributes = {"transB": 1, "alpha": -0.5, "beta": 3.0}
    call = case.call(lower_gemm)
    ours = case.run(lower_gemm)[0]
    (x_scale, x_zero), (y_scale, y_zero) = case.scales[0], case.output or (0, 0)
    assert case.weights is not None
    assert case.bias is not None
    scale = np.broadcast_to(case.weights.scale, 5).astype(float) * x_scale
    sums = (case.inputs[0].astype(int) - x_zero) @ case.weights.values.T.astype(int)
    real = (-0.5 * sums + 3.0 * case.bias) * scale
    np.testing.assert_array_equal(ours, np.clip(np.rint(real / y_scale) + y_zero, -128, 127))
    assert call.macs == 45


def flattened(x_shape: tuple[int, ...], random: np.random.Generator):
    """Identity convolution, Flatten, Gemm: the weights' columns follow the memory of the image."""
    size = int(np.prod(x_shape))
    channels = x_shape[1]
    kernel = np.zeros((channels, channels, 1, 1), np.float32)
    kernel[np.arange(channels), np.arange(channels)] = 1
    tensors = [
        numpy_helper.from_array(kernel, "k"),
        numpy_helper.from_array(random.normal(size=(size, 3)).astype(np.float32), "w"),
    ]
    nodes = [
        helper.make_node("Conv", ["x", "k"], ["c"], name="conv"),
        helper.make_node("Flatten", ["c"], ["f"], name="flatten"),
        helper.make_node("MatMul", ["f", "w"], ["y"], name="product"),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, x_shape)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 3))
    graph = helper.make_graph(nodes, "flattened", [x], [y], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def test_the_columns_follow_a_flattened_image() -> None:
    random = np.random.default_rng(0)
    graph = read_graph(flattened((1, 3, 4, 5), random))
    layouts = layouts_of(graph)
    step = next(s for s in graph.steps if s.op == "MatMul")
    (call,) = lower_matmul(Site(graph, step, layouts))
    x = random.normal(size=(1, 3, 4, 5)).astype(np.float32)
    weights = graph.constant(step, 1)
    assert weights is not None
    ours = ckernel.run_call(call, [layouts.of["f"].to_memory(x)], 3)
    assert layouts.of["f"].dims == (1, 3, 4, 5)
    np.testing.assert_allclose(ours, x.ravel() @ weights, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "attributes", "why"),
    [((4, 3), {"transA": 1}, "transA = 1"), ((4, 3), {"transA": 1, "transB": 1}, "transA")],
)
def test_a_transposed_input_is_refused(shape, attributes, why) -> None:
    random = np.random.default_rng(0)
    weights = (4, 2) if not attributes.get("transB") else (2, 4)
    case = _integer(random, shape, weights, 1 - attributes.get("transB", 0))
    case.attributes = attributes
    with pytest.raises(UnsupportedError, match=why):
        case.call(lower_gemm)


def test_a_batch_of_matrices_is_refused() -> None:
    x = np.zeros((2, 3, 4), np.float32)
    case = Case("MatMul", [x], constants=[np.zeros((2, 4, 5), np.float32)])
    with pytest.raises(UnsupportedError, match="one matrix"):
        case.calls(lower_matmul)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((5, 7), (7, 3)),
        ((2, 5, 7), (2, 7, 3)),
        ((2, 3, 5, 7), (7, 3)),
        ((1, 2, 5, 7), (1, 2, 7, 4)),
    ],
)
@pytest.mark.parametrize("integer", [True, False])
def test_two_run_time_factors_equal_onnxruntime(one, other, integer: bool) -> None:
    random = np.random.default_rng(len(one) + len(other))
    if integer:
        factors = [random.integers(-128, 128, s).astype(np.int8) for s in (one, other)]
        case = Case("MatMul", factors, [(0.02, 3), (0.05, -20)], (0.4, 7), relu=True)
        assert case.differences(lower_matmul) == (0, int(np.prod(one[:-1])) * other[-1])
        return
    factors = [random.normal(size=s).astype(np.float32) for s in (one, other)]
    Case("MatMul", factors).close(lower_matmul, atol=1e-5)


def test_a_broadcast_batch_of_run_time_matrices_is_refused() -> None:
    factors = [np.zeros((1, 2, 5, 7), np.float32), np.zeros((3, 2, 7, 3), np.float32)]
    with pytest.raises(UnsupportedError, match="broadcast"):
        Case("MatMul", factors).calls(lower_matmul)
