"""Poisoned execution: what no later step needs may hold anything, and nothing else is written."""

import shutil
import subprocess
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from models import MODELS
from numpy.typing import NDArray

from mcugraph.check import check_memory
from mcugraph.emit import emit
from mcugraph.execute import OnEmulator, OnHost
from mcugraph.load import load, load_model
from mcugraph.optimize import rewrite
from mcugraph.plan import Plan, make_plan
from mcugraph.read import read_graph
from mcugraph.targets import load as load_target

Bytes = NDArray[np.uint8]
DIGITS = Path(__file__).parents[1] / "examples" / "digits.onnx"
GUARD = 64


@cache
def plan_of(name: str, target: str = "host") -> Plan:
    model = load(DIGITS) if name == "digits" else load_model(MODELS[name](), {})
    return make_plan(read_graph(rewrite(model)), load_target(target), "net", allow_float=True)


class Poisoned:
    """A plan's C on the host, in an arena with a guard behind it, with seeded garbage in it."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self.plan, self.arena = plan, plan.memory.arena
        self.executor = OnHost(plan.name, emit(plan), self.arena + GUARD, folder)

    def run(self, seed: int, live: list[NDArray[np.bool_]] | None = None) -> bytes:
        """The outputs, with garbage in all bytes at first and, before each step, in the dead."""
        random = np.random.default_rng(seed)
        self.fill(random, np.zeros(self.arena + GUARD, bool))
        guard = self.executor.read(self.arena, GUARD)
        for name, values in inputs(self.plan).items():
            self.executor.write(self.plan.offset(name), values)

        def watch(step: int) -> None:
            if live is not None:
                self.fill(random, live[step])

        self.executor.run(watch)
        assert self.executor.read(self.arena, GUARD) == guard
        return b"".join(
            self.executor.read(*place) for place in places(self.plan, self.plan.graph.outputs)
        )

    def fill(self, random: np.random.Generator, kept: NDArray[np.bool_]) -> None:
        old = np.frombuffer(self.executor.read(0, kept.size), np.uint8)
        new = random.integers(0, 256, kept.size, np.uint8)
        self.executor.write(0, np.where(kept, old, new).tobytes())


def inputs(plan: Plan) -> dict[str, bytes]:
    random = np.random.default_rng(0)
    values = {}
    for name in plan.graph.inputs:
        tensor = plan.graph.tensors[name]
        if tensor.dtype == "float32":
            values[name] = random.standard_normal(tensor.size).astype(np.float32).tobytes()
        else:
            values[name] = random.integers(0, 256, tensor.bytes, np.uint8).tobytes()
    return values


def places(plan: Plan, names: Any) -> list[tuple[int, int]]:
    return [(plan.offset(name), plan.graph.tensors[name].bytes) for name in names if name]


def live_bytes(plan: Plan) -> list[NDArray[np.bool_]]:
    """Before each step and after the last, the bytes that will be read before they are written.

    Backwards from the outputs, by places alone: the planner's lifetimes play no part.
    """
    guard = np.zeros(plan.memory.arena + GUARD, bool)
    guard[plan.memory.arena :] = True
    live = [mark(guard, places(plan, plan.graph.outputs), True)]
    for step in reversed(plan.steps):
        before = mark(live[0], places(plan, step.outputs), False)
        live.insert(0, mark(before, places(plan, plan.graph.activations(step)), True))
    return live


def mark(mask: NDArray[np.bool_], ranges: list[tuple[int, int]], value: bool) -> NDArray[np.bool_]:
    marked = mask.copy()
    for offset, size in ranges:
        marked[offset : offset + size] = value
    return marked


@pytest.mark.parametrize("name", ["digits", *MODELS])
def test_what_no_later_step_needs_may_hold_anything(name: str, tmp_path: Path) -> None:
    plan = plan_of(name)
    poisoned, live = Poisoned(plan, tmp_path), live_bytes(plan)
    expected = poisoned.run(1)
    assert poisoned.run(2) == expected
    assert poisoned.run(3, live) == expected
    assert poisoned.run(4, live) == expected


def test_poison_in_a_byte_that_is_needed_is_seen(tmp_path: Path) -> None:
    plan = plan_of("digits")
    poisoned, live = Poisoned(plan, tmp_path), live_bytes(plan)
    expected = poisoned.run(1)
    for step in range(len(plan.steps)):
        broken = [*live]
        needed = places(plan, plan.graph.activations(plan.steps[step]))
        broken[step] = mark(live[step], needed, False)
        assert poisoned.run(3, broken) != expected, step


@pytest.mark.parametrize("name", ["digits", "residual_qdq"])
def test_a_plan_whose_live_tensors_overlap_gives_a_wrong_result(name: str, tmp_path: Path) -> None:
    plan = plan_of(name)
    good = Poisoned(plan, tmp_path).run(1)
    tensors = {b.name: b for b in plan.memory.buffers if b.name in plan.graph.tensors}
    middle = plan.steps[len(plan.steps) // 2]
    x, y = plan.layouts.root(middle.inputs[0]), plan.layouts.root(middle.output)
    assert tensors[x].meets(tensors[y])
    overlapping = {**plan.memory.offsets, y: plan.memory.offsets[x]}
    broken = replace(plan, memory=replace(plan.memory, offsets=overlapping, arena=1 << 16))
    with pytest.raises(AssertionError, match="overlap while both are needed"):
        check_memory(broken.memory)
    folder = tmp_path / "broken"
    folder.mkdir()
    assert Poisoned(broken, folder).run(1) != good


@pytest.mark.parametrize("name", ["digits", "residual_qdq", "separable_qdq"])
def test_the_emulated_core_gives_the_bytes_of_the_host(name: str, tmp_path: Path) -> None:
    pytest.importorskip("unicorn", reason="unicorn is not installed")
    pytest.importorskip("ziglang", reason="ziglang is not installed")
    plan = plan_of(name, "cortex-m0")
    (tmp_path / "host").mkdir()
    (tmp_path / "core").mkdir()
    arena = plan.memory.arena
    host = OnHost(plan.name, emit(plan), arena, tmp_path / "host")
    core = OnEmulator(plan.name, emit(plan), plan.target, tmp_path / "core", "zig")
    seen: dict[str, list[bytes]] = {"host": [], "core": []}
    for key, executor in (("host", host), ("core", core)):
        executor.write(0, bytes(arena))
        for tensor, values in inputs(plan).items():
            executor.write(plan.offset(tensor), values)
        executor.run(lambda _, e=executor, k=key: seen[k].append(e.read(0, arena)))
        executor.run(None)
    assert len(seen["host"]) == len(plan.steps) + 1
    live = live_bytes(plan)
    for mine, theirs, needed in zip(seen["host"], seen["core"], live, strict=True):
        mask = needed[:arena]
        assert np.array_equal(
            np.frombuffer(mine, np.uint8)[mask], np.frombuffer(theirs, np.uint8)[mask]
        )


MAIN = """#include <stdio.h>
#include <stdint.h>
#include "net.h"
static uint64_t arena[(NET_ARENA_BYTES + 7) / 8];
int main(void)
{
    (void)fread(arena, 1, NET_ARENA_BYTES, stdin);
    net_run_at(arena);
    return fwrite(arena, 1, NET_ARENA_BYTES, stdout) == NET_ARENA_BYTES ? 0 : 1;
}
"""


@pytest.mark.parametrize("name", ["digits", "separable", "squeeze_excite_qdq"])
def test_sanitizers_find_nothing_in_a_whole_network(name: str, tmp_path: Path) -> None:
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    plan = plan_of(name)
    for file, text in {**emit(plan), "main.c": MAIN}.items():
        (tmp_path / file).write_text(text, encoding="utf-8")
    flags = "-std=c99 -g -O1 -fsanitize=address,undefined -fno-sanitize-recover=all".split()
    sources = sorted(map(str, tmp_path.glob("*.c")))
    program = tmp_path / "program"
    subprocess.run(["gcc", *flags, *sources, "-o", str(program)], check=True)
    arena = bytearray(plan.memory.arena)
    for tensor, values in inputs(plan).items():
        arena[plan.offset(tensor) : plan.offset(tensor) + len(values)] = values
    done = subprocess.run([str(program)], input=bytes(arena), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    expected = Poisoned(plan, tmp_path).run(1)
    found = b"".join(done.stdout[o : o + n] for o, n in places(plan, plan.graph.outputs))
    assert found == expected
