"""Placeholders against onnxruntime's quantiser: the compiler must see the same steps and sizes."""

import re
from collections.abc import Callable
from pathlib import Path
from time import process_time

import nets
import onnx
import pytest
from models import MODELS, Net, quantized
from onnx import ModelProto, TensorProto, checker, numpy_helper

from mcugraph.assume import as_int8
from mcugraph.errors import UnsupportedError
from mcugraph.load import load, load_model
from mcugraph.optimize import rewrite
from mcugraph.passes import STRUCTURE
from mcugraph.plan import make_plan
from mcugraph.read import read_graph
from mcugraph.report import flash_constants
from mcugraph.targets import load as load_target

ROOT = Path(__file__).parents[1]
M0 = load_target("cortex-m0")
FLOATS = {
    name: MODELS[name]
    for name in """residual separable pooling_attribute flatten_gemm nhwc_input tf_style relu6
    nhwc_both_ends concat_branches upsampled padded pooling_faces split_branches
    squeeze_excite shared_weights""".split()
} | nets.FLOAT
# Which operand of a Concat has its scale is a matter of ranges: it needs no table and no copy.
# A vector of equal shifts is stored once.
LOOSE = {"tables": 512, "arena": 8}
# (float model, the same after quantize_static): exported from trained networks.
PAIRS = ["ic", "kws", "vww", "ad"]


def figures(model: ModelProto) -> dict[str, object]:
    plan = make_plan(read_graph(rewrite(model, STRUCTURE)), M0, "net")
    weights, tables = flash_constants(plan)
    steps = sorted(step.op for step in plan.steps)
    arena = plan.memory.arena
    return {"arena": arena, "macs": plan.macs, "weights": weights, "tables": tables, "steps": steps}


def without_values(model: ModelProto) -> list[str]:
    """Return the lines of the graph with types and names, scales and magnitudes left out."""
    text = str(read_graph(rewrite(model, STRUCTURE)))
    return sorted(re.sub(r" [\d.e-]+\*\(q[+-]\d+\)|~[\d.e+-]+|~nan", "", text).splitlines())


@pytest.mark.parametrize("name", FLOATS)
def test_same_figures_as_quantised_by_onnxruntime(name: str) -> None:
    mine = figures(as_int8(load_model(FLOATS[name]())))
    theirs = figures(load_model(quantized(FLOATS[name])))
    for name_of, most in LOOSE.items():
        own, other = mine.pop(name_of), theirs.pop(name_of)
        assert isinstance(own, int)
        assert isinstance(other, int)
        assert abs(own - other) <= most
    assert mine == theirs


@pytest.mark.parametrize("name", PAIRS)
def test_mlperf_tiny_to_the_byte(name: str, shared: Path) -> None:
    mine = as_int8(load(shared / f"models/{name}_fp32.onnx"))
    theirs = load(shared / f"models/{name}_ort_qdq.onnx")
    assert figures(mine) == figures(theirs)
    assert without_values(mine) == without_values(theirs)


def test_digits_to_the_byte() -> None:
    mine = as_int8(load(ROOT / "examples/digits_float.onnx"))
    theirs = load(ROOT / "examples/digits.onnx")
    assert figures(mine) == figures(theirs)
    assert without_values(mine) == without_values(theirs)


def test_batch_normalisation_is_folded_first(shared: Path) -> None:
    normalised = figures(as_int8(load(shared / "models/kws_fp32_bn.onnx")))
    assert normalised == figures(load(shared / "models/kws_ort_qdq.onnx"))


def test_quick_enough_for_a_training_loop(shared: Path) -> None:
    model = load(shared / "models/ic_fp32.onnx")
    as_int8(model)
    start = process_time()
    as_int8(model)
    assert process_time() - start < 0.1


@pytest.mark.parametrize("name", ["residual", "relu6", "concat_branches", "preactivation"])
def test_pure_valid_and_settled(name: str) -> None:
    model = load_model(MODELS[name]())
    before = model.SerializeToString()
    result = as_int8(model)
    assert model.SerializeToString() == before
    checker.check_model(result, full_check=True)
    assert as_int8(result) == result
    assert as_int8(model) == result
    assert [value.name for value in result.graph.input] == [v.name for v in model.graph.input]
    assert [value.name for value in result.graph.output] == [v.name for v in model.graph.output]


@pytest.mark.parametrize("name", ["residual_qdq", "qdq_by_hand", "relu6_qdq", "split_uint8"])
def test_what_is_quantised_stays(name: str) -> None:
    model = load_model(MODELS[name]())
    assert as_int8(model) == model


def half_quantised() -> ModelProto:
    """A convolution that is quantised, and one behind it that is not."""
    net = Net(17)
    x = net.input("x", 1, 4, 6, 6)
    x = net.dequantize(net.quantize(x, 0.05, 3), 0.05, 3)
    w = net.dequantize(net.bytes("w", 4, 4, 3, 3), 0.01, 0)
    x = net.quantize(net("Relu", net("Conv", x, w, pads=[1, 1, 1, 1])), 0.04, -128, out="kept")
    x = net.conv("later", net.dequantize(x, 0.04, -128), 6, 4, 3, 3)
    return net.model(net("Relu", x))


def test_only_the_rest_of_a_half_quantised_model_changes() -> None:
    graph = read_graph(rewrite(as_int8(load_model(half_quantised())), STRUCTURE))
    assert {tensor.dtype for tensor in graph.tensors.values() if tensor.data is None} == {"int8"}
    assert [step.op for step in graph.steps] == ["Conv", "Conv"]
    quant = graph.tensors["kept"].quant
    assert quant is not None
    assert quant.scale.item() == pytest.approx(0.04)


def test_weights_of_no_two_layers_are_alike() -> None:
    """Else the flash would hold them once."""
    net = Net(17)
    x = net.input("x", 1, 4, 6, 6)
    for layer in range(6):
        x = net("Relu", net.conv(f"c{layer}", x, 4, 4, 3, 3))
    model = as_int8(load_model(net.model(x)))
    assert figures(model)["weights"] == 6 * (4 * 36 + 4 * 4)


def many_terms() -> ModelProto:
    net = Net(17)
    x = net("Flatten", net.input("x", 1, 40, 32, 32))
    return net.model(net.gemm("fc", x, 3, 40 * 32 * 32))


def bounds_far_from_zero() -> ModelProto:
    net = Net(17)
    low, high = net.const("low", 2, "float32"), net.const("high", 6, "float32")
    x = net("Clip", net.conv("a", net.input("x", 1, 3, 6, 6), 4, 3, 3, 3), low, high)
    return net.model(net("Clip", net.conv("b", x, 4, 4, 3, 3), high, ""))


def extreme_values() -> ModelProto:
    net = Net(17)
    x = net.conv("a", net.input("x", 1, 3, 6, 6), 4, 3, 3, 3)
    net.tensors["a.weight"] *= 0
    net.tensors["a.bias"] += 1e30
    return net.model(net("Mul", x, net.const("none", [[[0.0]]] * 4, "float32")))


@pytest.mark.parametrize("build", [many_terms, bounds_far_from_zero, extreme_values])
def test_placeholders_never_overflow(build: Callable[[], ModelProto]) -> None:
    assert figures(as_int8(load_model(build())))["macs"]


def test_what_has_no_kernel_is_refused_as_ever() -> None:
    net = Net(17)
    x = net.input("x", 5, 1, 4)
    x = net("GRU", x, net.weight("w", 1, 24, 4), net.weight("r", 1, 24, 8), hidden_size=8)
    model = as_int8(load_model(net.model(net("Relu", x))))
    with pytest.raises(UnsupportedError, match="no kernel for GRU"):
        make_plan(read_graph(rewrite(model, STRUCTURE)), M0, "net")


def test_names_are_those_of_the_quantiser() -> None:
    build = MODELS["separable"]
    mine = {tensor.name for tensor in as_int8(load_model(build())).graph.initializer}
    theirs = {
        tensor.name
        for tensor in quantized(build).graph.initializer
        if tensor.data_type == TensorProto.INT8 and numpy_helper.to_array(tensor).ndim > 1
    }
    assert theirs
    assert theirs <= mine


def test_onnxruntime_runs_it() -> None:
    model = as_int8(load_model(MODELS["squeeze_excite"]()))
    onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    assert load_model(model).graph.node
