"""What may be computed again to save memory: smaller arenas, equal bytes, bounded work."""

from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
from models import Net, quantized
from nets import NETS
from onnx import ModelProto

from mcugraph.judge import Question, verify
from mcugraph.load import load_model
from mcugraph.optimize import UNLIMITED, Settings, optimize, rewrite
from mcugraph.plan import Aim, Plan, make_plan
from mcugraph.read import read_graph
from mcugraph.recompute import recompute
from mcugraph.targets import load as load_target


def unet() -> ModelProto:
    """Down and up again: the first features wait for the last step."""
    net = Net(18, seed=4)
    x = net("Relu", net.conv("a", net.input("x", 1, 1, 32, 32), 8, 1, 3, 3))
    y = net("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    y = net("Relu", net.conv("b", y, 16, 8, 3, 3))
    y = net("Relu", net.conv("c", y, 16, 16, 3, 3))
    pooled = net("GlobalAveragePool", y)
    y = net("Mul", y, net("Sigmoid", net.conv("s", pooled, 16, 16, 1, 1)))
    scales = net.const("scales", [1, 1, 2, 2], np.float32)
    kw = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    y = net("Resize", y, "", scales, mode="nearest", **kw)
    y = net("Relu", net.conv("d", net("Concat", x, y, axis=1), 8, 24, 3, 3))
    return net.model(net.conv("e", y, 1, 8, 1, 1))


@cache
def model_of(name: str) -> ModelProto:
    return quantized(unet) if name == "unet" else NETS[name]()


@cache
def plan_of(name: str) -> Plan:
    graph = read_graph(rewrite(load_model(model_of(name))))
    return make_plan(graph, load_target("cortex-m0"), "net", Aim())


@cache
def smaller(name: str, factor: float = 1.3) -> Plan:
    return recompute(plan_of(name), Aim(), factor)[0]


def total_work(plan: Plan) -> int:
    """Multiply-accumulates of every step, or the elements of its result."""
    sizes = {step.name: plan.graph.tensors[step.output].size for step in plan.steps}
    macs = {name: sum(call.macs for call in plan.calls[name]) for name in sizes}
    return sum(macs[name] or sizes[name] for name in sizes)


def test_features_that_wait_are_computed_again() -> None:
    before, after = plan_of("unet"), smaller("unet")
    assert after.memory.arena < 0.7 * before.memory.arena
    assert after.recomputed is not None
    assert after.recomputed.arena == before.memory.arena
    assert after.recomputed.macs == before.macs < after.macs
    known = {step.name for step in before.steps}
    assert {step.name for step in after.steps} - known == {*after.recomputed.steps}


@pytest.mark.parametrize("factor", [1.0, 1.001, 1.05, 1.3, 2.0])
def test_work_stays_within_the_factor(factor: float) -> None:
    before, after = plan_of("unet"), smaller("unet", factor)
    assert total_work(after) <= factor * total_work(before)
    assert after.memory.arena <= before.memory.arena
    assert (after.recomputed is None) == (after is before)


@pytest.mark.parametrize("name", ["speech_net", "dilated_net", "mobile_net"])
def test_where_nothing_waits_nothing_changes(name: str) -> None:
    plan, copies = recompute(plan_of(name), Aim(), 2.0)
    assert plan is plan_of(name)
    assert copies == ()


def test_what_is_small_enough_already_stays(tmp_path: Path) -> None:
    plan = plan_of("unet")
    for enough in (plan.memory.arena, UNLIMITED):
        assert recompute(plan, Aim(enough=enough), 1.3) == (plan, ())


@pytest.mark.parametrize("factor", [0.99, -1.0, float("nan"), float("inf")])
def test_a_factor_below_one_is_refused(factor: float) -> None:
    with pytest.raises(ValueError, match=r"--allow-recompute .*: a number from 1 is allowed"):
        recompute(plan_of("speech_net"), Aim(), factor)


def test_the_c_computes_the_same_bytes_and_agrees_with_onnxruntime(tmp_path: Path) -> None:
    path = tmp_path / "unet.onnx"
    onnx.save(model_of("unet"), path)
    found = {}
    for factor in (1.0, 1.3):
        artifact = optimize(path, "host", Settings(allow_float=True, recompute=factor))
        folder = artifact.write(tmp_path / f"out{factor}")
        found[factor] = artifact.report, verify(path, folder, Question(count=2))
    (plain, before), (again, after) = found.values()
    assert (before.ok, after.ok) == (True, True)
    assert before.fingerprint == after.fingerprint
    assert again.ram.arena < plain.ram.arena
    assert again.flash.weights == plain.flash.weights
    assert plain.recomputed is None
    assert again.recomputed is not None
    assert again.recomputed.arena == plain.ram.arena
    assert len(after.steps) == len(before.steps) + len(again.recomputed.steps)


def test_without_the_flag_nothing_runs_twice() -> None:
    assert Settings().recompute == 1
    artifact = optimize(model_of("unet"), "host", Settings(allow_float=True))
    assert not any("again" in step.name for step in artifact.report.steps)
