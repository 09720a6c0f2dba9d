"""Costs against the compiler's own report, and against what the papers count."""

from dataclasses import replace
from pathlib import Path

import nets
import numpy as np
import onnx
import pytest
from models import MODELS, Net, quantized
from onnx import ModelProto, numpy_helper

from mcugraph.cost import cost_of, draft_of, layer_costs, step_cycles
from mcugraph.errors import UnsupportedError
from mcugraph.load import load, load_model
from mcugraph.optimize import UNLIMITED, Settings, optimize
from mcugraph.parameters import parameters_of
from mcugraph.peak import peak_of
from mcugraph.plan import Aim, make_plan
from mcugraph.targets import load as load_target

DIGITS = Path(__file__).parents[1] / "examples"
M0 = "cortex-m0"
SMALL = ["residual", "separable", "squeeze_excite", "concat_branches"]


def redrawn(model: ModelProto, seed: int) -> ModelProto:
    """Return the model with other float weights."""
    other = ModelProto()
    other.CopyFrom(model)
    random = np.random.default_rng(seed)
    for tensor in other.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype == np.float32 and values.size > 1:
            noise = random.uniform(0.5, 1.5, values.shape).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(noise, tensor.name))
    return other


def test_as_the_report_of_the_quantised_model() -> None:
    """A float model costs what its int8 form does, down to the instructions on the core."""
    report = optimize(DIGITS / "digits.onnx", M0, Settings(name="net")).report
    cost = cost_of(load(DIGITS / "digits_float.onnx"), M0, measured=True)
    assert cost.macs == report.macs
    assert cost.weights == report.flash.weights + report.flash.tables
    assert cost.flash == report.flash.total
    assert cost.stack == report.ram.stack
    assert cost.ram == report.ram.total
    assert report.instructions is not None
    assert cost.instructions == pytest.approx(report.instructions, rel=0.01)
    assert cost.cycles is not None


def test_without_a_measurement_only_the_plan() -> None:
    model = load(DIGITS / "digits_float.onnx")
    cost = cost_of(model, load_target(M0))
    measured = cost_of(model, M0, measured=True)
    assert (cost.flash, cost.stack, cost.instructions, cost.cycles) == (None,) * 4
    assert measured.stack is not None
    assert measured.ram == cost.ram + measured.stack
    assert (measured.macs, measured.weights) == (cost.macs, cost.weights)


def test_parameters_as_the_depth_paper_counts(shared: Path) -> None:
    """Convolution biases and four vectors of a normalisation: 24,908 (De Leon and Atienza)."""
    assert parameters_of(onnx.load(shared / "models/kws_fp32_bn.onnx")) == 24_908
    assert parameters_of(onnx.load(shared / "models/ic_fp32.onnx")) == 77_706


@pytest.mark.parametrize("name", [*SMALL, "relu6", "upsampled", "padded"])
def test_parameters_are_those_of_the_quantised_model(name: str) -> None:
    whole = parameters_of(load_model(MODELS[name]()))
    assert whole == parameters_of(load_model(quantized(MODELS[name])))
    assert whole == parameters_of(load_model(quantized(MODELS[name], style="QOperator")))


def test_sizes_and_bounds_are_no_parameters() -> None:
    net = Net(18)
    x = net.conv("a", net.input("x", 1, 2, 4, 4), 4, 2, 3, 3)
    x = net("Clip", x, net.const("low", 0, np.float32), net.const("high", 6, np.float32))
    scales = net.const("scales", [1, 1, 2, 2], np.float32)
    x = net("Resize", x, "", scales, mode="nearest")
    x = net("Pad", x, net.const("pads", [0, 0, 1, 1, 0, 0, 1, 1], np.int64))
    x = net("Reshape", x, net.const("shape", [1, -1], np.int64))
    assert parameters_of(net.model(x)) == 4 * 18 + 4


@pytest.mark.parametrize("name", SMALL)
def test_weights_alone_change_nothing(name: str) -> None:
    model = load_model(MODELS[name]())
    assert cost_of(redrawn(model, 1), M0) == cost_of(model, M0)


def test_what_counts_as_another_structure() -> None:
    """Values decide where they are bounds or are folded away."""
    net = Net(18)
    x = net.conv("a", net.input("x", 1, 2, 4, 4), 4, 2, 3, 3)
    model = net.model(net("Mul", x, net.const("gain", np.full((4, 1, 1), 2), np.float32)))
    once = cost_of(model, M0)
    net.tensors["gain"] = np.ones((4, 1, 1), np.float32)
    plain = cost_of(net.model("mul_2"), M0)
    assert plain.weights < once.weights


@pytest.mark.parametrize("name", nets.FLOAT)
def test_a_draft_is_the_plan_but_for_placement(name: str) -> None:
    model = load_model(nets.FLOAT[name]())
    placed, unplaced = cost_of(model, M0), cost_of(model, M0, placed=False)
    assert unplaced.ram <= placed.ram <= 1.15 * unplaced.ram
    assert (unplaced.parameters, unplaced.macs) == (placed.parameters, placed.macs)
    assert unplaced.weights == pytest.approx(placed.weights, abs=256)


@pytest.mark.parametrize("objective", ["ram", "cycles"])
@pytest.mark.parametrize("name", nets.FLOAT)
def test_a_draft_knows_what_is_live_at_the_peak(name: str, objective: str) -> None:
    """As the explanation of the placed plan has it, where both run the same way."""
    model, settings = load_model(nets.FLOAT[name]()), Settings(objective=objective)
    found = draft_of(model, M0, settings)
    group = max(found.groups, key=lambda each: each.peak)
    tasks = found.tasks[group.begin : group.end]
    working = sum(task.scratch + task.state for task in tasks)
    assert group.peak <= sum(found.live.values()) + working
    if group.fused:
        assert sum(found.live.values()) <= group.peak
    plan = make_plan(found.plan.graph, load_target(M0), "net", Aim(False, enough_for(objective)))
    section = max(plan.sections, key=lambda each: each.peak)
    if [s.peak for s in plan.sections] == [g.peak for g in found.groups] and not section.upwards:
        kinds = ("input", "output", "tensor", "ring")
        names = {found.plan.graph.interface.get(n, n): size for n, size in found.live.items()}
        parts = {p.name: p.live for p in peak_of(plan).buffers if p.kind in kinds and p.live}
        assert parts == names


def enough_for(objective: str) -> int:
    return UNLIMITED if objective == "cycles" else 0


def test_layers_carry_the_names_of_the_model() -> None:
    model = load(DIGITS / "digits_float.onnx")
    layers = layer_costs(model, M0)
    weights = {tensor.name for tensor in model.graph.initializer}
    anchored = [layer.weight for layer in layers if layer.op in ("Conv", "Gemm")]
    assert set(anchored) <= weights
    assert len(set(anchored)) == len(anchored) == 8
    assert {layer.tensor for layer in layers} >= {"relu", "relu_4"}
    cost = cost_of(model, M0)
    assert sum(layer.macs for layer in layers) == cost.macs
    assert sum(layer.parameters for layer in layers) == cost.parameters
    assert max(layer.live for layer in layers) <= cost.ram
    quantised = layer_costs(load(DIGITS / "digits.onnx"), M0)
    assert [(layer.macs, layer.outputs, layer.live) for layer in quantised] == [
        (layer.macs, layer.outputs, layer.live) for layer in layers
    ]
    assert [layer.weight for layer in quantised] == [
        layer.weight and f"{layer.weight}_quantized" for layer in layers
    ]


def test_copies_of_a_weight_carry_its_name() -> None:
    layers = layer_costs(load_model(MODELS["shared_weights"]()), M0)
    assert [layer.weight for layer in layers] == ["w", "w", "w", "gain"]


def test_cycles_of_each_step() -> None:
    model = load(DIGITS / "digits_float.onnx")
    steps = step_cycles(model, M0)
    cost = cost_of(model, M0, measured=True)
    assert [layer for layer, _ in steps] == list(layer_costs(model, M0))
    assert cost.cycles is not None
    assert 0.95 * cost.cycles <= sum(cycles for _, cycles in steps) <= cost.cycles


def test_objective_and_input_count() -> None:
    model = load(DIGITS / "digits_float.onnx")
    whole = cost_of(model, M0, settings=Settings(objective="cycles"))
    pushed = cost_of(model, M0, settings=Settings(input="rows"), placed=False)
    assert whole.ram > cost_of(model, M0).ram
    assert pushed == cost_of(model, M0, settings=Settings(input="rows"))
    assert pushed.ram != cost_of(model, M0).ram


def test_float_is_costed_as_float_where_it_is_allowed() -> None:
    model = load(DIGITS / "digits_float.onnx")
    allowed = cost_of(model, M0, settings=Settings(allow_float=True))
    assert allowed.weights > 3 * allowed.parameters
    assert allowed.ram > 3 * cost_of(model, M0).ram


def test_refusals() -> None:
    model = load(DIGITS / "digits_float.onnx")
    nowhere = replace(load_target(M0), name="silent", emulator=None)
    with pytest.raises(ValueError, match="silent can't be emulated"):
        cost_of(model, nowhere, measured=True)
    with pytest.raises(ValueError, match="no target"):
        cost_of(model, "cortex-m99")
    net = Net(17)
    x = net("GRU", net.input("x", 5, 1, 4), net.weight("w", 1, 24, 4), net.weight("r", 1, 24, 8),
            hidden_size=8)  # fmt: skip
    for placed in (True, False):
        with pytest.raises(UnsupportedError, match="no kernel for GRU"):
            cost_of(net.model(x), M0, placed=placed)
