"""Concatenations computed in place: what qualifies, that every plan holds, and that C agrees."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import ckernel
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from joined import JOINED, Grid
from models import MODELS
from nets import NETS
from onnx import ModelProto

from mcugraph.check import check_plan
from mcugraph.graph import Graph
from mcugraph.judge import Question, verify
from mcugraph.layout import layouts_of
from mcugraph.load import load_model
from mcugraph.lower.call import Call
from mcugraph.lower.model import lower_model
from mcugraph.optimize import UNLIMITED, Settings, optimize, rewrite
from mcugraph.parts import joined, place_parts
from mcugraph.plan import Aim, Plan, make_plan, plan_with
from mcugraph.read import read_graph
from mcugraph.targets import load as load_target

AIMS = [Aim(), Aim(enough=UNLIMITED), Aim(pushed=True)]


def graph_of(model: ModelProto) -> Graph:
    return read_graph(rewrite(load_model(model, {})))


@cache
def planned(name: str, aim: int = 0, *, copying: bool = False) -> Plan:
    """The plan with all operands in place that can be, or with none."""
    graph = graph_of(JOINED[name]())
    allowed = set() if copying else {step.name for step in graph.steps}
    return plan_with(graph, load_target("host"), "net", AIMS[aim], allowed)


# Operands that are computed in place, and copies that stay.
COUNTS = {
    "fire": (4, 0),
    "nested": (5, 4),
    "heads": (2, 0),
    "bridge": (3, 1),
    "vectors": (4, 0),
    "rows": (4, 2),
    "signals": (3, 2),
}


@pytest.mark.parametrize("name", JOINED)
def test_operands_that_nothing_else_reads_are_computed_in_place(name: str) -> None:
    plan = planned(name)
    copies = [c for calls in plan.calls.values() for c in calls if c.kernel == "concat"]
    assert (len(plan.layouts.parts), len(copies)) == COUNTS[name]
    assert not planned(name, copying=True).layouts.parts


@pytest.mark.parametrize("aim", range(len(AIMS)))
@pytest.mark.parametrize("name", JOINED)
def test_every_plan_holds_and_the_better_is_taken(name: str, aim: int) -> None:
    both = [planned(name, aim), planned(name, aim, copying=True)]
    for plan in both:
        check_plan(plan)
    taken = make_plan(both[0].graph, load_target("host"), "net", AIMS[aim])
    assert taken.memory.arena <= min(plan.memory.arena for plan in both)


def test_what_is_not_copied_needs_less() -> None:
    """Squeezes with a pushed input, boxes one behind the other, a bridge: smaller arenas."""
    for name, aim in (("fire", 2), ("heads", 0), ("bridge", 0), ("rows", 0)):
        assert planned(name, aim).memory.arena < planned(name, aim, copying=True).memory.arena


@pytest.mark.parametrize("goal", ["ram", "cycles"])
@pytest.mark.parametrize("name", JOINED)
def test_the_c_agrees_with_onnxruntime(name: str, goal: str, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(JOINED[name](), path)
    folder = optimize(path, "host", Settings(objective=goal)).write(tmp_path / "out")
    result = verify(path, folder, Question(count=3, bisect=True))
    assert result.ok, [step for step in result.steps if not step.ok]


def operand(net: Grid, x: str, size: tuple[int, int, int], kind: int) -> tuple[str, int]:
    """A tensor of the same height and width, and its channels."""
    channels = size[0]
    if kind == 0:
        return net.conv(x, 2, channels, 1, 1), 2
    if kind == 1:
        return net.conv(x, 3, channels, 3, 3), 3
    if kind == 2:
        return net.conv(x, channels, 1, 5, 5, group=channels), channels
    if kind == 3:
        return net("MaxPool", x, kernel_shape=[3, 3], pads=[1, 1, 1, 1]), channels
    if kind == 4:
        return net("Mul", x, net.conv(x, channels, channels, 1, 1)), channels
    return net("Add", net.conv(x, channels, channels, 3, 1, pads=[1, 0, 1, 0]), x), channels


@st.composite
def networks(draw: st.DrawFn) -> ModelProto:
    """Concatenations of what was computed before, old and new, read by all kinds of steps."""
    net = Grid(draw(st.integers(0, 9)))
    height, width = draw(st.integers(3, 9)), draw(st.integers(1, 4))
    x = net.conv(net.input(1, 2, height, width), 3, 2, 3, 3)
    known = [(x, 3)]
    for _ in range(draw(st.integers(1, 3))):
        base = draw(st.sampled_from(known[-2:]))
        chosen = [
            operand(net, base[0], (base[1], height, width), draw(st.integers(0, 5)))
            for _ in range(draw(st.integers(1, 3)))
        ]
        if draw(st.booleans()):
            chosen.insert(draw(st.integers(0, 1)), draw(st.sampled_from(known)))
        y = net("Concat", *(name for name, _ in chosen), axis=1)
        known += [*chosen[: draw(st.integers(0, 1))], (y, sum(count for _, count in chosen))]
    y, channels = known[-1]
    strides = [draw(st.integers(1, 2))] * 2
    outputs = [net.conv(y, 2, channels, 3, 3, strides=strides)]
    return net.model(*outputs, *([y] if draw(st.booleans()) else []))


@given(networks(), st.integers(0, 2))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_random_networks_hold_with_everything_in_place(model: ModelProto, aim: int) -> None:
    graph = graph_of(model)
    names = {step.name for step in graph.steps}
    plan = plan_with(graph, load_target("host"), "net", AIMS[aim], names)
    check_plan(plan)
    for name in plan.layouts.parts:
        moved = {**plan.layouts.parts, name: replace(plan.layouts.parts[name], offset=1)}
        broken = replace(plan, layouts=replace(plan.layouts, parts=moved))
        if plan.layouts.parts[name].offset != 1:
            with pytest.raises(AssertionError, match=r"lost|being read|outside"):
                check_plan(broken)


@pytest.mark.parametrize("name", ["fire", "nested", "heads", "bridge", "vectors"])
def test_parts_in_each_others_place_are_refused(name: str) -> None:
    plan = planned(name)
    parts = plan.layouts.parts
    for one, two in zip(parts, [*parts][1:], strict=False):
        if parts[one].whole == parts[two].whole:
            swapped = {**parts, one: parts[two], two: parts[one]}
            with pytest.raises(AssertionError, match=r"lost|being read|outside"):
                check_plan(replace(plan, layouts=replace(plan.layouts, parts=swapped)))


@pytest.mark.parametrize("name", JOINED)
def test_a_row_is_not_whole_before_its_last_part(name: str) -> None:
    """Without the calls of any one step that writes a part, a reader finds its bytes lost."""
    plan = planned(name, 1)
    for step in plan.steps:
        if step.output in plan.layouts.parts:
            silent = tuple(replace(call, rows=0) for call in plan.calls[step.name])
            with pytest.raises(AssertionError, match="lost"):
                check_plan(replace(plan, calls={**plan.calls, step.name: silent}))


def test_a_graph_s_input_or_output_another_scale_and_a_second_reader_are_copied() -> None:
    net = Grid(0)
    x = net.input(1, 2, 4, 4)
    kept, twice, free = (net.conv(x, 2, 2, 3, 3) for _ in range(3))
    other = net.net.quantize(net.net("Relu", net.net.dequantize(x, 1 / 32, -3)), 1 / 16, 0)
    far = net.net.dequantize(other, 1 / 16, 0)
    reals = [net.net.dequantize(name, 1 / 32, -3) for name in (x, kept, twice, free)]
    y = net.net.quantize(net.net("Concat", *reals, far, axis=1), 1 / 32, -3)
    graph = graph_of(net.model(net("Add", y, y), net.conv(twice, 1, 2, 1, 1), kept))
    layouts = layouts_of(graph)
    calls = lower_model(graph, layouts, allow_float=False)
    found, _ = place_parts(graph, layouts, calls, {step.name for step in graph.steps})
    assert [*found.parts] == [free]
    (step,) = [step for step in graph.steps if step.op == "Concat"]
    assert joined(graph, found) == {step.name}
    assert joined(graph, layouts) == set()


def all_calls() -> dict[str, list[Call]]:
    """Calls of each kernel that can put its pixels apart."""
    found: dict[str, list[Call]] = {}
    for build in (*MODELS.values(), *NETS.values(), *JOINED.values()):
        graph = graph_of(build())
        for calls in lower_model(graph, layouts_of(graph), allow_float=True).values():
            for call in calls:
                if "y_step" in call.fields and call.kernel != "concat":
                    found.setdefault(call.kernel, []).append(call)
    return found


STEPPING = """add_s8 avgpool_f32 avgpool_s8 avgpool_ties_s8 binary_f32 conv_f32 conv_s8 dense_f32
dense_s8 depthwise_f32 depthwise_s8 maxpool_f32 maxpool_s8 mul_s8 take""".split()


def test_kernels_put_pixels_apart_and_leave_what_is_between() -> None:
    found = all_calls()
    assert sorted(found) == sorted(STEPPING)
    for kernel, calls in found.items():
        for call in calls[:3]:
            check_apart(kernel, call)


def check_apart(kernel: str, call: Call) -> None:
    random = np.random.default_rng(0)
    floats = kernel.endswith("f32")
    dtype = "float32" if floats else "int8"
    inputs = [
        random.standard_normal(1 << 14).astype(dtype)
        if floats
        else random.integers(-128, 128, 1 << 16).astype(dtype)
        for _ in call.inputs
    ]
    step = call.fields["y_step"]
    width = call.fields["y_width"] if "y_width" in call.fields else call.fields["width"]
    assert isinstance(step, int)
    assert isinstance(width, int)
    pixels = call.rows * width
    plain = ckernel.run_call(call, inputs, pixels * step, dtype).reshape(pixels, step)
    wide = np.full((pixels, step + 3), 77, dtype)
    apart = ckernel.with_fields(call, y_step=step + 3)
    ckernel.run_rows(apart, inputs, wide, (0, call.rows))
    np.testing.assert_array_equal(wide[:, :step], plain)
    assert (wide[:, step:] == 77).all()
