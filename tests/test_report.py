"""Figures and verdicts: by arithmetic on plans, and as printed from figures made up here."""

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from models import MODELS
from rich.console import Console

from mcugraph.budget import Budget
from mcugraph.load import load_model
from mcugraph.optimize import rewrite
from mcugraph.plan import Aim, Plan, make_plan
from mcugraph.read import read_graph
from mcugraph.repeat import Recomputed
from mcugraph.report import (
    Cost,
    Flash,
    Measurement,
    Ram,
    Report,
    SectionReport,
    StepReport,
    flash_constants,
    make_report,
)
from mcugraph.show import print_report
from mcugraph.targets import load as load_target
from mcugraph.testing import Golden

DIGITS = Path(__file__).parents[1] / "examples/digits.onnx"


@pytest.fixture(scope="module")
def plan() -> Plan:
    return planned(onnx.load(DIGITS))


def planned(model: onnx.ModelProto) -> Plan:
    graph = read_graph(rewrite(load_model(model)))
    return make_plan(graph, load_target("cortex-m0"), "net", Aim(allow_float=True))


def measured(plan: Plan, stack: int = 300, code: int = 5000) -> Measurement:
    """A run in which step i takes 10 * i instructions."""
    steps = tuple(Cost(10 * index, 20 * index) for index in range(len(plan.steps)))
    total = Cost(sum(s.instructions for s in steps) + 7, None)
    return Measurement(code, stack, total, steps, "zig")


def test_totals_are_the_sums_of_their_parts(plan: Plan) -> None:
    report = make_report(plan, measured(plan), Budget())
    assert report.ram == Ram(plan.memory.arena, plan.memory.lower_bound, 300, True, 1096 + 300)
    weights, tables = flash_constants(plan)
    assert report.flash == Flash(weights, tables, 5000, weights + tables + 5000)
    assert report.macs == plan.macs == sum(step.macs for step in report.steps)
    assert [step.instructions for step in report.steps] == [10 * i for i in range(12)]
    assert report.cycles is None
    assert report.fits


def test_weights_are_those_of_the_model(plan: Plan) -> None:
    """Every weight is stored once, and every bias as 32 bits; a kernel may pad with rows."""
    model = onnx.load(DIGITS)
    sizes = {t.name: int(np.prod(t.dims)) * t.data_type for t in model.graph.initializer}
    ops = [n for n in model.graph.node if n.op_type in {"Conv", "Gemm"}]
    sources = {n.output[0]: n.input[0] for n in model.graph.node}
    names = [(sources[op.input[1]], sources[op.input[2]]) for op in ops]
    weights = sum(sizes[w] // onnx.TensorProto.INT8 for w, _ in names)
    biases = sum(4 * sizes[b] // onnx.TensorProto.INT32 for _, b in names)
    report = make_report(plan, None, Budget())
    assert 0 <= report.flash.weights - (weights + biases) <= 3 * 32
    assert sum(step.weights for step in report.steps) == report.flash.weights


def test_macs_are_those_of_the_convolutions(plan: Plan) -> None:
    report = make_report(plan, None, Budget())
    macs = {step.name: step.macs for step in report.steps}
    assert macs["node_Conv_105"] == 8 * 8 * 16 * 9
    assert macs["node_Conv_109"] == 8 * 8 * 16 * 16
    assert macs["node_linear"] == 32 * 10
    assert macs["node_add"] == 0


def test_without_a_measurement_the_stack_is_what_the_target_reserves(plan: Plan) -> None:
    report = make_report(plan, None, Budget())
    assert (report.ram.stack, report.ram.stack_measured) == (2048, False)
    assert (report.flash.code, report.instructions) == (None, None)
    assert "stack 2.0 KB reserved, not measured" in report.verdict
    assert "without code" in report.verdict


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        (
            Budget(),
            "FITS cortex-m0: RAM 1.4 KB (peak at node_Conv_115), flash",
        ),
        (Budget(ram=16 << 10), "FITS cortex-m0: RAM 1.4/16.0 KB (peak"),
        (Budget(ram=1396), "FITS cortex-m0: RAM 1396/1396 B (peak"),
        (Budget(ram=1395), "DOES NOT FIT cortex-m0: RAM 1396/1395 B (peak"),
        (Budget(ram=1 << 10), "DOES NOT FIT cortex-m0: RAM 1.4/1.0 KB (peak"),
        (Budget(stack=299), "DOES NOT FIT cortex-m0: RAM 1.4 KB"),
        (Budget(stack=300), "stack 300/300 B, 100% int8"),
        (Budget(flash=1 << 10), "/1.0 KB, stack 300 B"),
    ],
)
def test_the_verdict_says_what_is_used_of_what(plan: Plan, budget: Budget, words: str) -> None:
    report = make_report(plan, measured(plan), budget)
    assert words in report.verdict
    used = {"ram": report.ram.total, "flash": report.flash.total, "stack": 300}
    limits = {name: getattr(budget, name) for name in used}
    fits = all(limit is None or used[name] <= limit for name, limit in limits.items())
    assert report.fits == fits == report.verdict.startswith("FITS")


@pytest.mark.parametrize(
    ("name", "share"), [("qdq_by_hand", 100), ("residual", 0), ("residual_qdq", 100)]
)
def test_the_share_of_integer_steps(name: str, share: int) -> None:
    report = make_report(planned(MODELS[name]()), None, Budget())
    assert report.int8 == share
    assert report.verdict.endswith(f"{share}% int8")


def test_a_mixed_model_is_never_rounded_up_to_all_integer(plan: Plan) -> None:
    report = make_report(planned(MODELS["residual"]()), None, Budget())
    assert report.int8 < 100
    assert "100% int8" not in report.verdict


@pytest.mark.parametrize("name", sorted(MODELS))
def test_the_peak_is_the_lower_bound_and_json_is_plain(name: str) -> None:
    plan = planned(MODELS[name]())
    report = make_report(plan, measured(plan), Budget())
    assert max(step.live_bytes for step in report.steps) <= report.ram.arena_lower_bound
    assert report.ram.arena_lower_bound <= report.ram.arena
    again = json.loads(json.dumps(report.as_json(), allow_nan=False))
    assert len(again["steps"]) == len(plan.steps)
    for step in again["steps"]:
        assert step["output"] == step["outputs"][0]
        assert set(step["inputs"]) <= set(again["tensors"])


def step(name: str, op: str, kernel: str, *, live: int = 900, macs: int = 0) -> StepReport:
    return StepReport(name, op, kernel, ("x",), "y", ("y",), macs, live, 12, 4096, 123456, 234567)


@pytest.fixture
def report() -> Report:
    """Figures that no change of a kernel or a compiler moves."""
    return Report(
        schema_version=1,
        model="net",
        target="cortex-m0",
        verdict="FITS cortex-m0: RAM 2.3/16.0 KB, flash 12.0/128.0 KB, stack 300 B, 100% int8",
        fits=True,
        order="optimal (proved, 3 states)",
        placement="at most 2.4 % above the lower bound",
        recomputed=None,
        ram=Ram(2048, 2000, 300, True, 2348),
        flash=Flash(8192, 1024, 3072, 12288),
        macs=1234567,
        instructions=370368,
        cycles=703701,
        int8=100,
        compiler="zig",
        pushed=False,
        inputs={"x": "x"},
        outputs={"y": "y"},
        steps=(
            step("/model/features/0/[conv]/Conv_quant", "Conv", "conv_s8", macs=1234567),
            step("/model/pool:smile:", "GlobalAveragePool", "gap_s8", live=2000),
            step("gemm", "Gemm", "dense_s8 add_s8"),
        ),
        sections=(
            SectionReport((0, 1), (8, 8), (0, 0, 1, 0, 1), upwards=False, peak=900),
            SectionReport((2,), (1,), (), upwards=False, peak=900),
        ),
        tensors={},
    )


@pytest.fixture
def shown(report: Report) -> Callable[..., str]:
    def show(width: int, **changed: Any) -> str:
        out = io.StringIO()
        console = Console(
            file=out, width=width, soft_wrap=True, markup=False, emoji=False, highlight=False
        )
        print_report(replace(report, **changed), console)
        return out.getvalue()

    return show


@pytest.mark.parametrize("width", [60, 80, 160])
def test_the_report_as_printed(shown: Callable[..., str], width: int, golden: Golden) -> None:
    golden(shown(width))


@pytest.mark.parametrize("width", range(66, 180))
def test_no_row_is_wider_than_the_terminal_and_no_number_is_cut(
    shown: Callable[..., str], width: int
) -> None:
    table = shown(width).splitlines()[1:5]
    assert all(len(line.rstrip()) <= width for line in table)
    assert all("123,456" in line for line in table[1:])
    assert "2,000*" in table[2]
    assert "dense_s8 add_s8" in table[3]


def test_a_network_too_large_to_compare_plans_says_so(
    report: Report, shown: Callable[..., str]
) -> None:
    line = "plans  the first one: above 128 steps, others are not compared with it"
    assert line not in shown(80).splitlines()
    assert line in shown(80, steps=report.steps * 43).splitlines()


def test_what_runs_twice_is_named_with_the_figures_without_it(shown: Callable[..., str]) -> None:
    text = shown(80, recomputed=Recomputed(("a__again", "b__again"), 4096, 1000000))
    line = "again  a__again, b__again: computed twice; without that, arena 4,096 and 1,000,000 MACs"
    assert line in text.splitlines()


def test_a_placement_is_proved_or_has_a_bound(plan: Plan) -> None:
    proved = replace(plan.memory, proved=True)
    assert make_report(replace(plan, memory=proved), None, Budget()).placement == "optimal (proved)"
    above = replace(plan.memory, proved=False, arena=1096, lower_bound=1000)
    found = make_report(replace(plan, memory=above), None, Budget()).placement
    assert found == "at most 9.6 % above the lower bound"


def test_what_was_not_measured_has_no_column(shown: Callable[..., str], report: Report) -> None:
    steps = tuple(replace(s, instructions=None, cycles=None) for s in report.steps)
    flash = replace(report.flash, code=None)
    ram = replace(report.ram, stack_measured=False)
    text = shown(160, steps=steps, flash=flash, ram=ram, instructions=None)
    assert "instructions" not in text
    assert "+ code not measured" in text
    assert "+ stack 300 reserved" in text
    assert "install mcugraph[emulate]" in text
