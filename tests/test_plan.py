"""Plans: sound memory, views without bytes, and every problem of a graph at once."""

from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models import MODELS, Net
from onnx import ModelProto, TensorProto

from mcugraph.assume import as_int8
from mcugraph.errors import UnsupportedError
from mcugraph.graph import Step
from mcugraph.load import load, load_model
from mcugraph.optimize import rewrite
from mcugraph.plan import Aim, Plan, make_plan
from mcugraph.read import read_graph
from mcugraph.targets import load as load_target
from mcugraph.testing import Golden

DIGITS = Path(__file__).parents[1] / "examples" / "digits.onnx"


def planned(model: ModelProto, *, allow_float: bool = True) -> Plan:
    graph = read_graph(rewrite(model))
    return make_plan(graph, load_target("cortex-m0"), "net", Aim(allow_float))


@cache
def plan_of(name: str) -> Plan:
    return planned(load(DIGITS) if name == "digits" else load_model(MODELS[name](), {}))


@pytest.mark.parametrize("name", ["digits", *MODELS])
def test_memory_is_aligned_and_ends_at_a_word(name: str) -> None:
    plan = plan_of(name)
    ends = [plan.memory.offsets[b.name] + b.size for b in plan.memory.buffers]
    assert plan.memory.arena % 8 == 0
    assert plan.memory.arena - max(ends) in range(8)
    assert plan.memory.lower_bound <= plan.memory.arena
    for tensor in plan.graph.tensors.values():
        if tensor.data is None and tensor.dtype == "float32":
            assert plan.offset(tensor.name) % 4 == 0
    for step in plan.steps:
        assert not plan.scratch(step) or plan.scratch_offset(step) % 4 == 0


@pytest.mark.parametrize("name", ["digits", *MODELS])
def test_a_view_stands_where_its_tensor_stands_and_is_no_step(name: str) -> None:
    plan = plan_of(name)
    for view, root in plan.layouts.views.items():
        assert plan.offset(view) == plan.offset(root)
        assert plan.graph.tensors[view].bytes == plan.graph.tensors[root].bytes
    computed = {step.output for step in plan.steps}
    assert computed.isdisjoint(plan.layouts.views)
    others = [s for s in plan.graph.steps if s.output not in {*computed, *plan.layouts.views}]
    assert {step.op for step in others} <= {"Concat"}
    for step in others:
        assert {plan.layouts.root(name) for name in step.inputs} == {plan.layouts.root(step.output)}


@pytest.mark.parametrize("name", ["digits", *MODELS])
def test_scratch_lives_for_the_section_of_its_step(name: str) -> None:
    plan = plan_of(name)
    scratch = [b for b in plan.memory.buffers if b.name not in plan.graph.tensors]
    wanted = [step for step in plan.steps if plan.scratch(step)]
    assert len(scratch) == len(wanted)
    for buffer, step in zip(scratch, wanted, strict=True):
        place = next(i for i, section in enumerate(plan.sections) if step in section.steps)
        assert (buffer.first, buffer.last, buffer.align) == (place, place, 4)
        assert buffer.size == plan.scratch(step)
        assert plan.memory.offsets[buffer.name] == plan.scratch_offset(step)


def test_some_plans_have_scratch_and_some_have_views() -> None:
    plans = [plan_of(name) for name in MODELS]
    assert sum(any(map(plan.scratch, plan.steps)) for plan in plans) > 5
    assert sum(bool(plan.layouts.views) for plan in plans) > 5


def line(plan: Plan, step: Step) -> str:
    (call,) = plan.calls[step.name]
    reads = ", ".join(where(plan, name) for name in call.inputs)
    scratch = f" scratch {plan.scratch_offset(step)}+{call.scratch}" if call.scratch else ""
    target = where(plan, call.output)
    return f"{step.name}: {call.kernel} {reads} -> {target}{scratch}; {call.macs} MACs"


def where(plan: Plan, name: str) -> str:
    ring = plan.rings.get(plan.place(name))
    rows = "" if ring is None else f" in a ring of {ring}"
    return f"{plan.offset(name)}+{plan.graph.tensors[name].bytes}{rows}"


def test_digits(golden: Golden) -> None:
    plan = plan_of("digits")
    lines = [f"arena {plan.memory.arena}, at least {plan.memory.lower_bound}, {plan.macs} MACs"]
    for section in plan.sections:
        way = "upwards" if section.upwards else "downwards"
        lines.append(f"{section.title}: {way}, peak {section.peak}")
        lines += [f"    {line(plan, step)}" for step in section.steps]
    golden("\n".join(lines) + "\n")


@pytest.mark.parametrize("name", ["digits", "residual_qdq", "separable"])
def test_macs_are_those_of_the_weights(name: str) -> None:
    plan = plan_of(name)
    kernels = set()
    for step in plan.steps:
        calls = plan.calls[step.name]
        kernels |= {call.kernel for call in calls}
        if step.op in {"Conv", "Gemm"}:
            weights, out = (plan.graph.tensors[n] for n in (step.inputs[1], step.output))
            expected = out.size * weights.size // out.shape[1]
            assert sum(call.macs for call in calls) == expected
    assert plan.macs == sum(call.macs for calls in plan.calls.values() for call in calls) > 0
    assert plan.kernels == tuple(sorted(kernels))


def unsupported() -> ModelProto:
    net = Net(18)
    x = net("Relu", net.conv("a", net.input("x", 1, 2, 4, 4), 3, 2, 3, 3))
    x = net("LpNormalization", x, out="first")
    x = net("Sigmoid", x)
    return net.model(net("LpNormalization", x, out="second"))


def test_all_unsupported_steps_and_all_float_steps_are_named_at_once() -> None:
    with pytest.raises(UnsupportedError) as caught:
        planned(unsupported(), allow_float=False)
    floats, *rest = caught.value.problems
    assert floats.startswith("4 steps compute in float32; quantise the model to int8")
    assert "or pass --allow-float:" in floats
    assert floats.count("(LpNormalization)") == 2
    assert len(rest) == 3
    assert all("no kernel for LpNormalization" in problem for problem in rest[:2])
    assert rest[2].startswith("there are kernels for: Abs, Add,")
    with pytest.raises(UnsupportedError) as caught:
        planned(unsupported())
    assert list(caught.value.problems) == rest


def test_one_float_step_in_an_integer_model_is_named() -> None:
    net = Net(18)
    x = net.dequantize(net.input("x", 1, 4, kind=TensorProto.INT8), 0.1, 0)
    x = net.quantize(net("Sigmoid", x), 1 / 256, -128)
    model = net.model(net("Erf", net.dequantize(x, 1 / 256, -128)))
    with pytest.raises(UnsupportedError) as caught:
        planned(model, allow_float=False)
    assert caught.value.problems[0].startswith(("1 step computes", "2 steps compute"))
    assert "(Erf)" in caught.value.problems[0]
    assert "(Sigmoid)" not in caught.value.problems[0]


def test_a_port_without_a_type_in_c_is_refused() -> None:
    net = Net(18)
    x = net.input("x", 1, 4)
    small = net("Cast", net("Relu", x), to=TensorProto.DOUBLE, out="y")
    with pytest.raises(UnsupportedError, match="y is float64"):
        planned(net.model(small, kind=TensorProto.DOUBLE))


@settings(deadline=None, max_examples=20, derandomize=True)
@given(
    width=st.integers(2, 8),
    kernel=st.sampled_from([1, 3, 5]),
    stride=st.integers(1, 2),
    side=st.integers(8, 20),
)
def test_the_order_of_an_addition_is_no_matter_of_memory(
    width: int, kernel: int, stride: int, side: int
) -> None:
    net = Net()
    x = net.conv("stem", net.input("x", 1, 3, side, side), width, 3, 3, 3)
    step = {"strides": [stride, stride]}
    deep = net.conv("first", x, width, width, kernel, kernel, **step)
    deep = net.conv("second", deep, width, width, 3, 3)
    near = net.conv("shortcut", x, width, width, 1, 1, **step)
    net("Add", deep, near, out="y")
    model = as_int8(load_model(net.model("y"), {}))
    arena = planned(model).memory.arena
    (add,) = (node for node in model.graph.node if node.op_type == "Add")
    add.input[0], add.input[1] = add.input[1], add.input[0]
    assert planned(model).memory.arena == arena
