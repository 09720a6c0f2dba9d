"""Kernels that read an element or a pixel before they write in its place: run on shared bytes."""

import ctypes
from functools import cache

import numpy as np
import pytest
from ckernel import _params, library, run_call, source_of
from models import MODELS
from nets import NETS

from mcugraph.graph import Step
from mcugraph.load import load_model
from mcugraph.lower.reads import ELEMENT_WISE, PIXEL_WISE
from mcugraph.optimize import UNLIMITED, rewrite
from mcugraph.plan import Aim, Plan, make_plan
from mcugraph.read import read_graph
from mcugraph.targets import load as load_target
from mcugraph.tasks import tasks_of

ALL = {**MODELS, **NETS}


@cache
def plan_of(name: str) -> Plan:
    graph = read_graph(rewrite(load_model(ALL[name](), {})))
    aim = Aim(allow_float=True, enough=UNLIMITED)
    return make_plan(graph, load_target("host"), "net", aim)


def tight_steps(plan: Plan) -> list[tuple[Step, dict[str, int]]]:
    calls = plan.calls
    tasks = tasks_of(plan.graph, plan.layouts, calls, plan.schedule.order)
    return [(s, dict(t.tight)) for s, t in zip(plan.steps, tasks, strict=True) if t.tight]


def values(plan: Plan, name: str, random: np.random.Generator) -> np.ndarray:
    tensor = plan.graph.tensors[name]
    if tensor.dtype == "float32":
        return random.uniform(0.5, 3, tensor.size).astype(np.float32)
    return random.integers(-128, 128, tensor.size).astype(tensor.dtype)


def overlapped(plan: Plan, step: Step, source: str, shift: int, inputs: list[np.ndarray]) -> bytes:
    """The output, which starts `shift` bytes below one input."""
    (call,) = plan.calls[step.name]
    size = plan.graph.tensors[call.output].bytes
    names = [plan.layouts.root(name) for name in call.inputs]
    memory = np.zeros(size + shift + sum(x.nbytes for x in inputs), np.uint8)
    pointers = []
    for name, x in zip(names, inputs, strict=True):
        if name == source:
            memory[shift : shift + x.nbytes] = x.view(np.uint8)
            pointers.append(memory.ctypes.data + shift)
        else:
            pointers.append(x.ctypes.data)
    params, kept = _params(call, source_of(call.kernel))
    assert kept is not None
    function = getattr(library(source_of(call.kernel), ""), f"mcu_{call.kernel}")
    function.restype = None
    places = map(ctypes.c_void_p, [*pointers, memory.ctypes.data])
    function(ctypes.byref(params), *places, ctypes.c_int32(0), ctypes.c_int32(call.rows))
    return memory[:size].tobytes()


@pytest.mark.parametrize("name", ALL)
def test_an_output_may_start_its_distance_below_an_input_or_more(name: str) -> None:
    plan, random = plan_of(name), np.random.default_rng(0)
    for step, distances in tight_steps(plan):
        (call,) = plan.calls[step.name]
        known = {n: values(plan, n, random) for n in call.inputs}
        inputs = [known[n] for n in call.inputs]
        y = plan.graph.tensors[call.output]
        expected = run_call(call, inputs, y.size, y.dtype).tobytes()
        item = 4 if y.dtype == "float32" else 1
        row = y.bytes // call.rows
        for source, least in distances.items():
            for more in {0, item, 3 * item, row // 2 // item * item, row, row + item}:
                found = overlapped(plan, step, source, least + more, inputs)
                assert found == expected, (step.name, call.kernel, least, more)


def test_nearly_all_such_kernels_are_met() -> None:
    met = {
        plan_of(name).calls[step.name][0].kernel
        for name in ALL
        for step, _ in tight_steps(plan_of(name))
    }
    assert met >= (ELEMENT_WISE | PIXEL_WISE) - {"prelu_s8"}
