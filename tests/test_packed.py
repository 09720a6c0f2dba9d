"""Packed weights: the same bytes as plain ones, over random shapes, whole and row by row."""

from dataclasses import replace
from pathlib import Path

import ckernel
import numpy as np
import onnx
import pytest
import test_conv
import test_dense
from hypothesis import given, settings
from hypothesis import strategies as st
from layers import Layer, streamed
from models import Net, quantized
from onnx import ModelProto
from test_emit import COMPILERS, WARNINGS, call, tool

from mcugraph.judge import Question, verify
from mcugraph.lower import lower
from mcugraph.lower.call import Call, Site
from mcugraph.lower.packed import CHUNK, pack
from mcugraph.optimize import Settings, optimize
from mcugraph.passes.cluster_weights import cluster_weights
from mcugraph.plan import make_plan
from mcugraph.read import read_graph
from mcugraph.targets import load as load_target

QUICK = settings(deadline=None, max_examples=150, derandomize=True)
KINDS = {"conv_s8": "conv_packed_s8", "dense_s8": "dense_packed_s8"}


@st.composite
def few_valued(draw: st.DrawFn) -> Layer:
    """A layer whose weights have at most 4 or 16 values, the extremes among them."""
    kinds = [test_conv.layers(integer=True), test_dense.layers(integer=True)]
    case = draw(st.sampled_from(kinds).flatmap(lambda kind: kind))
    assert case.weights is not None
    count = draw(st.sampled_from([1, 2, 4, 5, 16]))
    random = np.random.default_rng(draw(st.integers(0, 99)))
    values = np.append(random.integers(-128, 128, count - 1), 127).astype(np.int8)
    case.weights.values = random.choice(values, case.weights.values.shape)
    return case


def marked(case: Layer) -> Site:
    """The layer as a model that asks for packed weights."""
    site = case.site()
    name = site.step.inputs[1]
    tensors = {**site.graph.tensors, name: replace(site.input(1), packed=True)}
    return replace(site, graph=replace(site.graph, tensors=tensors))


def both(case: Layer) -> tuple[Call, Call]:
    """The plain call and the packed one, which may be the same."""
    (plain,), (packed,) = lower(case.site()), lower(marked(case))
    return plain, packed


def test_packed_weights_give_the_same_bytes() -> None:
    seen = dict.fromkeys(KINDS.values(), 0)

    @settings(QUICK, max_examples=300)
    @given(few_valued())
    def check(case: Layer) -> None:
        plain, packed = both(case)
        if packed.kernel == plain.kernel:
            return
        assert packed.kernel == KINDS[plain.kernel]
        seen[packed.kernel] += 1
        x = case.layouts().of["x0"].to_memory(case.inputs[0])
        size = case.graph().tensors[plain.output].size
        whole = ckernel.run_call(plain, [x], size)
        np.testing.assert_array_equal(ckernel.run_call(packed, [x], size), whole)
        np.testing.assert_array_equal(streamed(packed, x, size), whole)

    check()
    assert min(seen.values()) > 40


@QUICK
@given(few_valued())
def test_a_part_of_wider_pixels_is_written_alone(case: Layer) -> None:
    _, packed = both(case)
    if packed.kernel not in KINDS.values():
        return
    x = case.layouts().of["x0"].to_memory(case.inputs[0])
    size = case.graph().tensors[packed.output].size
    whole = ckernel.run_call(packed, [x], size)
    step = packed.fields["y_step"]
    assert isinstance(step, int)
    wide = ckernel.with_fields(packed, y_step=step + 3)
    out = ckernel.run_call(wide, [x], size // step * (step + 3))
    np.testing.assert_array_equal(out.reshape(-1, step + 3)[:, :step].reshape(-1), whole)


def dense(shape: tuple[int, int], values: int) -> Layer:
    random = np.random.default_rng(1)
    case = test_dense._integer(random, (3, shape[1]), shape, 0)
    case.attributes = {"transB": 1}
    assert case.weights is not None
    case.weights.values = (np.arange(np.prod(shape)) % values - 5).astype(np.int8).reshape(shape)
    return case


@pytest.mark.parametrize(
    ("shape", "values", "kernel", "stored"),
    [
        ((8, 40), 16, "dense_packed_s8", 160),
        ((8, 40), 5, "dense_packed_s8", 160),
        ((8, 40), 4, "dense_packed_s8", 80),
        ((8, 40), 17, "dense_s8", 320),
        ((6, 40), 16, "dense_packed_s8", 160),
        ((4, 13), 16, "dense_s8", 52),
        ((4, 15), 16, "dense_packed_s8", 30),
    ],
)
def test_packed_where_it_saves(
    shape: tuple[int, int], values: int, kernel: str, stored: int
) -> None:
    plain, packed = both(dense(shape, values))
    assert plain.kernel == "dense_s8"
    weights = packed.fields["weights"]
    assert isinstance(weights, np.ndarray)
    assert (packed.kernel, weights.nbytes) == (kernel, stored)
    if kernel != "dense_s8":
        chunk = min(CHUNK, shape[1])
        assert packed.scratch == 20 + 4 * chunk
        assert (packed.macs, packed.rows) == (plain.macs, plain.rows)


def test_lanes_that_only_fill_up_take_no_entry() -> None:
    case = dense((5, 40), 16)
    assert case.weights is not None
    case.weights.values += 40  # no weight is 0
    assert both(case)[1].kernel == "dense_packed_s8"


def test_what_has_no_packed_kernel_stays() -> None:
    case = test_conv._integer(np.random.default_rng(0), (1, 8, 5, 5), (8, 1, 3, 3))
    case.attributes = {"group": 8}
    assert case.weights is not None
    case.weights.values = np.ones_like(case.weights.values)
    plain, packed = both(case)
    assert packed.kernel == plain.kernel == "depthwise_s8"
    case = test_dense._float(np.random.default_rng(0), (3, 40), (40, 8), 1)
    site = marked(case)
    (call,) = lower(site)
    assert pack(site, call) is call
    assert call.kernel == "dense_f32"


def small() -> ModelProto:
    """Strided, padded, grouped and pointwise layers, behind one another, then a dense one."""
    net = Net(17)
    x = net("Relu", net.conv("a", net.input("x", 1, 3, 12, 10), 10, 3, 3, 3, strides=[2, 1]))
    x = net("Relu", net.conv("b", x, 12, 5, 3, 3, group=2))
    x = net("Relu", net.conv("c", x, 14, 12, 1, 1, pads=[0] * 4))
    x = net("GlobalAveragePool", x)
    return net.model(net.gemm("fc", net("Flatten", x), 6, 14))


@pytest.mark.parametrize("count", [16, 4])
def test_a_model_from_its_metadata_to_the_core(count: int, tmp_path: Path) -> None:
    """Streamed rows on the emulated core agree with onnxruntime; flash falls, the work stays."""
    names = ["a.weight", "b.weight", "c.weight", "fc.weight"]
    model = cluster_weights(quantized(small), dict.fromkeys(names, count))
    plan = make_plan(read_graph(model), load_target("cortex-m0"), "net")
    assert set(KINDS.values()) <= set(plan.kernels)
    assert not set(KINDS) & set(plan.kernels)
    settings = Settings(name="net")
    artifact = optimize(model, "cortex-m0", settings)
    plain = optimize(quantized(small), "cortex-m0", settings)
    assert artifact.report.flash.weights < plain.report.flash.weights
    assert artifact.report.macs == plain.report.macs
    onnx.save(model, tmp_path / "net.onnx")
    for on in ("host", "emulator"):
        found = verify(
            tmp_path / "net.onnx", artifact.write(tmp_path / on), Question(on=on, count=2)
        )
        assert found.ok


@pytest.mark.parametrize("compiler", COMPILERS)
def test_the_c_has_no_warnings(compiler: str, tmp_path: Path) -> None:
    model = cluster_weights(quantized(small), {"a.weight": 16, "c.weight": 4})
    artifact = optimize(model, "host", Settings(name="net"))
    folder = artifact.write(tmp_path / "c")
    for source in sorted(folder.glob("*.c")):
        call(tool(compiler), *WARNINGS, "-O2", "-c", source.name, "-o", "out.o", folder=folder)
