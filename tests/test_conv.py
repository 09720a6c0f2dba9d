"""Conv against onnxruntime: random shapes in int8 and float, row by row, and the MLPerf models."""

from collections.abc import Callable
from pathlib import Path

import ckernel
import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from layers import Layer, Weights, output_scale, streamed
from onnx import TensorProto, helper

from mcugraph.layout import layouts_of
from mcugraph.lower.call import Site, UnsupportedError
from mcugraph.lower.conv import lower_conv
from mcugraph.lower.dense import lower_gemm, lower_matmul
from mcugraph.read import read_graph

QUICK = settings(deadline=None, max_examples=120, derandomize=True)


@st.composite
def layers(draw: st.DrawFn, integer: bool) -> Layer:
    """A convolution of any geometry: 1-D or 2-D, grouped, depthwise, strided, dilated, padded."""
    spatial = draw(st.integers(1, 2))

    def axes(low: int, high: int) -> list[int]:
        return [draw(st.integers(low, high)) for _ in range(spatial)]

    kernel, strides, dilations = axes(1, 4), axes(1, 3), axes(1, 2)
    pads = [draw(st.integers(0, 2)) for _ in range(2 * spatial)]
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    room = [s - b - e for s, b, e in zip(spans, pads, pads[spatial:], strict=False)]
    size = [max(1, r) + draw(st.integers(0, 14)) for r in room]
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    inputs, outputs = draw(st.integers(1, 9)), draw(st.integers(1, 18))
    if draw(st.booleans()):
        groups, inputs, outputs = draw(st.integers(2, 9)), 1, draw(st.sampled_from([1, 1, 1, 2]))
    attributes = {"group": groups, "strides": strides, "dilations": dilations, "pads": pads}
    if draw(st.integers(0, 5)) == 0 and dilations == [1] * spatial:
        del attributes["pads"]
        attributes["auto_pad"] = draw(st.sampled_from(["SAME_UPPER", "SAME_LOWER"]))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = (outputs * groups, inputs, *kernel)
    x_shape = (1, inputs * groups, *size)
    make = _integer if integer else _float
    case = make(random, x_shape, shape)
    case.attributes = attributes
    case.relu = draw(st.booleans())
    if draw(st.booleans()):
        case.bias = None
    return case


def _integer(random: np.random.Generator, x_shape, shape) -> Layer:
    # Weights of 7 bits: onnxruntime's kernels saturate larger ones on some processors.
    x = random.integers(-128, 128, x_shape).astype(np.int8)
    w = random.integers(-63, 64, shape).astype(np.int8)
    per_channel = random.random() < 0.7
    scale = 2.0 ** random.uniform(-9, -5, shape[0] if per_channel else ())
    x_scale = float(np.float32(2.0 ** random.uniform(-7, 0)))
    y_scale = output_scale(x, w) * x_scale * float(scale.max())
    bias = random.integers(-2000, 2000, shape[0]).astype(np.int32)
    zeros = random.integers(-128, 128, 2).tolist()
    return Layer(
        "Conv",
        [x],
        scales=[(x_scale, zeros[0])],
        output=(float(np.float32(y_scale)), zeros[1]),
        weights=Weights(w, scale.astype(np.float32)),
        bias=bias,
    )


def _float(random: np.random.Generator, x_shape, shape) -> Layer:
    x = random.normal(size=x_shape).astype(np.float32)
    w = random.normal(size=shape).astype(np.float32)
    return Layer("Conv", [x], weights=Weights(w, w), bias=random.normal(size=shape[0]).astype("f"))


def test_int8_convolutions_equal_onnxruntime() -> None:
    tally = np.zeros(2, int)

    @settings(QUICK, max_examples=500)
    @given(layers(integer=True))
    def check(case: Layer) -> None:
        tally[:] += case.differences(lower_conv)

    check()
    assert tally[1] > 50_000
    assert tally[0] <= max(1, tally[1] / 1e5)


@QUICK
@given(layers(integer=False))
def test_float_convolutions_are_close_to_onnxruntime(case: Layer) -> None:
    case.close(lower_conv, rtol=1e-5, atol=2e-5)


@settings(QUICK, max_examples=60)
@given(st.booleans().flatmap(lambda integer: layers(integer=integer)))
def test_rows_computed_one_by_one_from_a_ring_equal_the_whole(case: Layer) -> None:
    call, layouts = case.call(lower_conv), case.layouts()
    x = layouts.of["x0"].to_memory(case.inputs[0])
    size = case.graph().tensors[call.output].size
    whole = ckernel.run_call(call, [x], size)
    np.testing.assert_array_equal(streamed(call, x, size), whole)
    middle = call.rows // 2
    out = np.zeros_like(whole)
    for rows in ((middle, call.rows), (0, middle)):
        ckernel.run_rows(call, [x], out, rows)
    np.testing.assert_array_equal(out, whole)


@settings(QUICK, max_examples=40)
@given(layers(integer=True))
def test_16_bit_products_give_the_same_bytes(case: Layer) -> None:
    call = case.call(lower_conv)
    x = case.layouts().of["x0"].to_memory(case.inputs[0])
    size = case.graph().tensors[call.output].size
    one, other = (
        ckernel.run_call(call, [x], size, flags=flags) for flags in ("", "-DMCU_MULTIPLY_16=1")
    )
    np.testing.assert_array_equal(one, other)


def test_full_range_weights_equal_exact_sums() -> None:
    random = np.random.default_rng(5)
    case = _integer(random, (1, 7, 9, 8), (10, 7, 3, 3))
    assert case.weights is not None
    w = random.choice(np.array([-128, -127, 127], np.int8), case.weights.values.shape)
    case.weights.values = w
    case.attributes = {"pads": [1, 1, 1, 1]}
    ours = case.run(lower_conv)[0][0]
    (x_scale, x_zero), (y_scale, y_zero) = case.scales[0], case.output or (0, 0)
    padded = np.full((7, 11, 10), x_zero, np.int64)
    padded[:, 1:-1, 1:-1] = case.inputs[0][0]
    windows = np.lib.stride_tricks.sliding_window_view(padded - x_zero, (3, 3), (1, 2))
    sums = np.einsum("cyxij,ocij->oyx", windows, w.astype(np.int64))
    scales = np.broadcast_to(case.weights.scale, 10).astype(float) * x_scale / y_scale
    assert case.bias is not None
    real = (sums + case.bias[:, None, None]) * scales[:, None, None]
    np.testing.assert_array_equal(ours, np.clip(np.rint(real) + y_zero, -128, 127))


@pytest.mark.parametrize(
    ("shape", "attributes", "kernel", "scratch"),
    [
        ((4, 8, 1, 1), {}, "dense_s8", 0),
        ((4, 8, 1, 1), {"pads": [1, 0, 0, 0]}, "conv_s8", 8),
        ((8, 1, 3, 3), {"group": 8}, "depthwise_s8", 72),
        ((16, 1, 3, 3), {"group": 8}, "conv_s8", 9),
        ((4, 2, 3, 3), {"group": 4}, "conv_s8", 18),
        ((4, 8, 3, 3), {}, "conv_s8", 72),
    ],
)
def test_the_kernel_follows_from_the_geometry(shape, attributes, kernel, scratch) -> None:
    case = _integer(np.random.default_rng(0), (1, 8, 5, 5), shape)
    case.attributes = attributes
    call = case.call(lower_conv)
    assert (call.kernel, call.scratch) == (kernel, scratch)


def test_macs_are_those_of_the_whole_layer() -> None:
    case = _integer(np.random.default_rng(0), (1, 8, 5, 5), (4, 8, 3, 3))
    assert case.call(lower_conv).macs == 9 * 4 * 8 * 9


def refusal(case: Layer, change: Callable[[Layer], None]) -> str:
    change(case)
    with pytest.raises(UnsupportedError) as caught:
        case.call(lower_conv)
    return str(caught.value)


def test_a_refusal_names_the_step_its_shapes_and_what_is_allowed() -> None:
    case = _integer(np.random.default_rng(0), (1, 1, 3, 3, 3), (1, 1, 2, 2, 2))
    text = refusal(case, lambda c: None)
    assert "Conv(" in text
    assert "[1, 1, 3, 3, 3]" in text
    assert "3 spatial axes; 1 or 2 are allowed" in text
    case = _integer(np.random.default_rng(0), (2, 1, 3, 3), (1, 1, 2, 2))
    assert "batch of 2" in refusal(case, lambda c: None)


@pytest.mark.parametrize("name", ["ic", "kws", "vww", "ad"])
def test_each_layer_of_mlperf_tiny_fed_with_the_oracle(name: str, shared: Path) -> None:
    model = onnx.load(shared / "models" / f"{name}_int8_qdq.onnx")
    graph = read_graph(model)
    layouts = layouts_of(graph)
    table = {"Conv": lower_conv, "Gemm": lower_gemm, "MatMul": lower_matmul}
    steps = [step for step in graph.steps if step.op in table]
    values = _every_tensor(model, graph)
    wrong = total = 0
    for step in steps:
        (call,) = table[step.op](Site(graph, step, layouts))
        x = layouts.of[call.inputs[0]].to_memory(values[call.inputs[0]])
        expected = layouts.of[call.output].to_memory(values[call.output])
        apart = np.abs(ckernel.run_call(call, [x], expected.size).astype(int) - expected)
        assert apart.max() <= 1, step.name
        wrong, total = wrong + int((apart > 0).sum()), total + apart.size
    assert wrong <= max(1, total / 1e5)


def _every_tensor(model: onnx.ModelProto, graph) -> dict[str, np.ndarray]:
    names = [n for n, t in graph.tensors.items() if t.data is None and n not in graph.inputs]
    known = {o.name for o in model.graph.output}
    for name in names:
        if name not in known:
            info = helper.make_tensor_value_info(name, TensorProto.INT8, graph.tensors[name].shape)
            model.graph.output.append(info)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    random = np.random.default_rng(0)
    feeds = {
        i: random.integers(-128, 128, graph.tensors[i].shape).astype(np.int8) for i in graph.inputs
    }
    return feeds | dict(zip(names, session.run(names, feeds), strict=True))
