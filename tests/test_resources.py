"""Resources as functions of channel counts: their gradients, and what the compiler says."""

from math import prod
from pathlib import Path

import onnx
import pytest
import torch
from onnx import ModelProto
from onnx.shape_inference import infer_shapes

from mcugraph.cost import cost_of
from mcugraph.passes import fold_constants, remove_channels
from mcugraph.passes.channels import find_channels
from mcugraph.passes.remove_channels import kept_indices
from mcugraph.prune import resources
from mcugraph.prune.goal import Goal, parse_count
from mcugraph.prune.resources import Resources
from mcugraph.targets import load

DIGITS = Path(__file__).parents[1] / "examples/digits_float.onnx"
M0 = load("cortex-m0")
PLANNED = "params=1,macs=1,arena=1,weights=1"


def digits() -> ModelProto:
    return fold_constants(onnx.load(DIGITS))


def narrowed(model: ModelProto, less: list[int]) -> ModelProto:
    """The model with so many channels less in each group."""
    groups = find_channels(model).groups
    keep = {
        group.name: kept_indices(model, group, range(group.width - count))
        for group, count in zip(groups, less, strict=True)
        if count
    }
    return remove_channels(model, keep)


def test_gradients_are_finite_differences() -> None:
    found = Resources(digits(), M0, Goal.of(PLANNED + ",cycles=1"))
    counts = (found.counts.double() * 0.7).requires_grad_()
    for name in found.goal.limits:
        (gradient,) = torch.autograd.grad(found.value(name, counts), counts)
        for group in range(len(counts)):
            step = torch.zeros_like(counts)
            step[group] = 1e-3
            with torch.no_grad():
                rise = found.value(name, counts + step) - found.value(name, counts - step)
            assert float(rise) / 2e-3 == pytest.approx(float(gradient[group]), rel=1e-6, abs=1e-9)


def test_the_gradient_of_the_excess_is_a_finite_difference() -> None:
    found = Resources(digits(), M0, Goal.of("macs=30K,arena=600,params=10M"))
    counts = found.counts.double().requires_grad_()
    (gradient,) = torch.autograd.grad(found.excess(counts), counts)
    for group in range(len(counts)):
        step = torch.zeros_like(counts)
        step[group] = 1e-3
        with torch.no_grad():
            rise = found.excess(counts + step) - found.excess(counts - step)
        assert float(rise) / 2e-3 == pytest.approx(float(gradient[group]), rel=1e-5)


@pytest.mark.parametrize("less", [[0, 0], [1, 0], [0, 5], [7, 12]])
def test_parameters_and_macs_are_exact_at_any_counts(less: list[int]) -> None:
    model = digits()
    found = Resources(model, M0, Goal.of("params=1,macs=1"))
    counts = found.counts - torch.tensor([float(count) for count in less])
    cost = cost_of(narrowed(model, less), M0)
    assert float(found.value("params", counts)) == cost.parameters
    assert float(found.value("macs", counts)) == cost.macs


def test_what_is_planned_is_exact_at_the_present_counts() -> None:
    model = narrowed(digits(), [3, 4])
    found = Resources(model, M0, Goal.of(PLANNED))
    quick = cost_of(model, M0, placed=False)
    assert float(found.value("arena", found.counts)) == pytest.approx(quick.ram, rel=1e-12)
    assert float(found.value("weights", found.counts)) == quick.weights


def test_memory_presses_only_on_what_is_live_at_the_peak() -> None:
    found = Resources(digits(), M0, Goal.of("arena=1"))
    counts = found.counts.double().requires_grad_()
    (gradient,) = torch.autograd.grad(found.value("arena", counts), counts)
    names = [group.name for group in found.channels.groups]
    pressed = dict(zip(names, gradient.tolist(), strict=True))
    assert pressed["stem.0.weight"] > 0
    less = narrowed(digits(), [1, 0])
    drop = cost_of(digits(), M0, placed=False).ram - cost_of(less, M0, placed=False).ram
    assert pressed["stem.0.weight"] == pytest.approx(drop, rel=0.2)


def test_what_is_measured_is_what_the_firmware_takes() -> None:
    pytest.importorskip("unicorn", reason="needs the emulator")
    found = Resources(digits(), M0, Goal.of("ram=4KB,flash=32KB,cycles=9M"))
    cost = cost_of(digits(), M0, measured=True)
    exact = found.exact(final=True)
    assert exact == {"ram": cost.ram, "flash": cost.flash, "cycles": cost.cycles}
    for name, value in exact.items():
        assert float(found.value(name, found.counts)) == pytest.approx(value, rel=0.05)


def test_between_measurements_cycles_follow_from_the_last_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("unicorn", reason="needs the emulator")
    found = Resources(digits(), M0, Goal.of("cycles=1"))
    less = narrowed(digits(), [2, 4])
    with monkeypatch.context() as patch:
        patch.delattr(resources, "step_cycles")
        found.replan(less, measured=False)
        guessed = found.exact()["cycles"]
    found.replan(less)
    measured = found.exact()["cycles"]
    cycles = cost_of(less, M0, measured=True).cycles
    assert cycles is not None
    assert 0.95 * cycles < measured < cycles
    assert guessed != measured
    assert guessed == pytest.approx(measured, rel=0.15)


def test_memory_is_planned_for_the_objective() -> None:
    """Without streaming, a step needs its largest tensor as a whole, beside what it reads."""
    streamed = Resources(digits(), M0, Goal.of("arena=1"))
    whole = Resources(digits(), M0, Goal.of("arena=1,objective=cycles"))
    largest = max(
        prod(dim.dim_value for dim in value.type.tensor_type.shape.dim)
        for value in infer_shapes(digits()).graph.value_info
    )
    for final in (False, True):
        arenas = [each.exact(final=final)["arena"] for each in (streamed, whole)]
        assert arenas[0] < 1.1 * largest < arenas[1]
    assert Goal.of("arena=1,objective=cycles").limits == {"arena": 1}
    with pytest.raises(ValueError, match="objective=speed: there are ram"):
        Goal.of("arena=1,objective=speed")


def test_goals_are_read_and_all_that_is_wrong_is_told_at_once() -> None:
    assert Goal.of("ram=12KB, macs=3M,params=15.5K").limits == {
        "params": 15_500,
        "macs": 3_000_000,
        "ram": 12_288,
    }
    with pytest.raises(ValueError, match=r"(?s)'rom=3' .* allowed: params, macs.*'x' is no count"):
        Goal.of("rom=3,macs=x")
    assert parse_count("1.5G") == 1_500_000_000
