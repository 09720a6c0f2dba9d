"""Poisoned execution: what no later step needs may hold anything, and nothing else is written."""

import shutil
import subprocess
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from models import MODELS
from nets import NETS
from numpy.typing import NDArray

from mcugraph.emit import emit
from mcugraph.execute import OnEmulator, OnHost, Watch
from mcugraph.graph import Step
from mcugraph.load import load, load_model
from mcugraph.lower.call import Call
from mcugraph.lower.reads import ELEMENT_WISE, rows_read
from mcugraph.measure import Sources
from mcugraph.optimize import rewrite
from mcugraph.plan import Aim, Plan, check_plan, make_plan
from mcugraph.read import read_graph
from mcugraph.targets import load as load_target
from mcugraph.tasks import rows_of

Mask = NDArray[np.bool_]
Range = tuple[int, int]
DIGITS = Path(__file__).parents[1] / "examples" / "digits.onnx"
GUARD = 64
ALL = {**MODELS, **NETS}


@cache
def plan_of(name: str, target: str = "host") -> Plan:
    model = load(DIGITS) if name == "digits" else load_model(ALL[name](), {})
    return make_plan(read_graph(rewrite(model)), load_target(target), "net", Aim(allow_float=True))


class Poisoned:
    """A plan's C on the host, in an arena with a guard behind it, with seeded garbage in it."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self.plan, self.arena = plan, plan.memory.arena
        self.executor = OnHost(Sources(plan.name, emit(plan)), self.arena + GUARD, folder)

    def run(self, seed: int, live: list[Mask] | None = None, watch: Watch | None = None) -> bytes:
        """The outputs, with garbage in all bytes at first and, before each event, in the dead."""
        random = np.random.default_rng(seed)
        self.fill(random, np.zeros(self.arena + GUARD, bool))
        guard = self.executor.read(self.arena, GUARD)
        for name, values in inputs(self.plan).items():
            self.executor.write(self.plan.offset(name), values)
        masks = iter(live or [])

        def poison(step: int) -> None:
            self.fill(random, next(masks))

        self.executor.run(watch or (poison if live is not None else None))
        assert self.executor.read(self.arena, GUARD) == guard
        return b"".join(
            self.executor.read(*place) for place in places(self.plan, self.plan.graph.outputs)
        )

    def fill(self, random: np.random.Generator, kept: Mask) -> None:
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


def places(plan: Plan, names: Any) -> list[Range]:
    found: list[Range] = []
    for name in filter(None, names):
        for row in range(rows_of(plan.layouts, name)):
            found += row_ranges(plan, name, row)
    return found


def copied(plan: Plan, call: Call, row: int) -> list[Range]:
    """The bytes of a concatenation that the copy of one operand writes."""
    f = {key: value for key, value in call.fields.items() if isinstance(value, int)}
    if not 0 <= row - f["y_first"] < f["x_rows"]:
        return []
    depth = plan.rings.get(plan.place(call.output), call.rows)
    start = plan.offset(call.output) + row % depth * f["y_row"] + f["y_offset"]
    return [(start + block * f["y_step"], f["block"]) for block in range(f["blocks"])]


def written_by(plan: Plan, call: Call, row: int) -> list[Range]:
    if call.kernel == "concat":
        return copied(plan, call, row)
    return row_ranges(plan, call.output, row)


@dataclass(frozen=True)
class Event:
    """A step at once, or one of its rows: ranges of bytes that it reads and that it writes.

    One that `spreads` reads its inputs after it has begun to write.
    """

    reads: list[Range]
    writes: list[Range]
    spreads: bool = False


def events_of(plan: Plan) -> list[Event]:
    """What happens between any two calls of the hook."""
    found: list[Event] = []
    for section in plan.sections:
        if not section.events:
            (step,) = section.steps
            writes = places(plan, step.outputs)
            if step.op == "Concat":
                calls = plan.calls[step.name]
                writes = [w for c in calls for row in range(c.rows) for w in copied(plan, c, row)]
            found.append(Event(places(plan, plan.layouts.reads(plan.graph, step)), writes))
        done = [0] * len(section.steps)
        for index in section.events:
            step = section.steps[index]
            rows = plan.calls[step.name][0].rows
            row = rows - 1 - done[index] if section.upwards else done[index]
            done[index] += 1
            found.append(row_event(plan, step, row))
    return found


def row_event(plan: Plan, step: Step, row: int) -> Event:
    reads: list[Range] = []
    writes: list[Range] = []
    calls = plan.calls[step.name]
    for call in plan.calls[step.name]:
        for index, name in enumerate(call.inputs):
            span = rows_read(call, index)
            assert span is not None, f"{step.name} runs by rows"
            first, last = (int(rows[row]) for rows in span)
            reads += [r for at in range(first, last + 1) for r in row_ranges(plan, name, at)]
        if not call.gathers:
            writes += written_by(plan, call, row)
            continue
        state = (plan.scratch_offset(step), call.scratch)
        reads += [state] if row else []
        writes += [] if row else [state]
        writes += places(plan, [call.output]) if row == call.rows - 1 else []
    spreads = len(calls) == 1 and not calls[0].gathers and calls[0].kernel not in ELEMENT_WISE
    return Event(reads, writes, spreads)


def row_ranges(plan: Plan, name: str, row: int) -> list[Range]:
    """The bytes of a row: of a part of a wider tensor, pixel by pixel."""
    rows, part = rows_of(plan.layouts, name), plan.layouts.part(name)
    size = plan.graph.tensors[name].bytes // rows
    slot = row % plan.rings.get(plan.place(name), rows)
    if part is None or not part.step:
        return [(plan.offset(name) + slot * size, size)]
    count = size // part.pixel
    first = plan.offset(name) + slot * count * part.step
    return [(first + i * part.step, part.pixel) for i in range(count)]


def live_bytes(plan: Plan) -> list[Mask]:
    """Before each event and after the last, the bytes that will be read before they are written.

    Backwards from the outputs, by places alone: the planner's lifetimes play no part.
    """
    guard = np.zeros(plan.memory.arena + GUARD, bool)
    guard[plan.memory.arena :] = True
    live = [mark(guard, places(plan, plan.graph.outputs), True)]
    for event in reversed(events_of(plan)):
        live.insert(0, mark(mark(live[0], event.writes, False), event.reads, True))
    return live


def mark(mask: Mask, ranges: list[Range], value: bool) -> Mask:
    marked = mask.copy()
    for offset, size in ranges:
        marked[offset : offset + size] = value
    return marked


@pytest.mark.parametrize("name", ["digits", *ALL])
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
    for place, event in enumerate(events_of(plan)):
        broken = [*live]
        broken[place] = mark(live[place], event.reads, False)
        assert any(poisoned.run(seed, broken) != expected for seed in range(3)), place


@pytest.mark.parametrize("name", ["digits", "residual_qdq"])
def test_a_plan_whose_live_tensors_overlap_gives_a_wrong_result(name: str, tmp_path: Path) -> None:
    plan = plan_of(name)
    good = Poisoned(plan, tmp_path).run(1)
    section = plan.sections[0]
    x, y = plan.place(section.steps[0].inputs[0]), plan.place(section.steps[-1].output)
    shift = 1 if section.upwards else -1
    overlapping = {**plan.memory.offsets, y: plan.memory.offsets[x] + 40 * shift}
    overlapping = {name: offset + 64 for name, offset in overlapping.items()}
    broken = replace(plan, memory=replace(plan.memory, offsets=overlapping, arena=1 << 16))
    with pytest.raises(AssertionError, match=r"lost|is being read"):
        check_plan(broken)
    folder = tmp_path / "broken"
    folder.mkdir()
    assert Poisoned(broken, folder).run(1) != good


@pytest.mark.parametrize("name", ["digits", "residual_qdq", "mobile_net"])
def test_the_emulated_core_gives_the_bytes_of_the_host(name: str, tmp_path: Path) -> None:
    pytest.importorskip("unicorn", reason="unicorn is not installed")
    pytest.importorskip("ziglang", reason="ziglang is not installed")
    plan = plan_of(name, "cortex-m0")
    (tmp_path / "host").mkdir()
    (tmp_path / "core").mkdir()
    arena = plan.memory.arena
    host = OnHost(Sources(plan.name, emit(plan)), arena, tmp_path / "host")
    core = OnEmulator(Sources(plan.name, emit(plan)), plan.target, tmp_path / "core", "zig")
    seen: dict[str, list[bytes]] = {"host": [], "core": []}
    for key, executor in (("host", host), ("core", core)):
        executor.write(0, bytes(arena))
        for tensor, values in inputs(plan).items():
            executor.write(plan.offset(tensor), values)
        executor.run(lambda _, e=executor, k=key: seen[k].append(e.read(0, arena)))
        executor.run(None)
    assert len(seen["host"]) == len(events_of(plan)) + 1
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


@pytest.mark.parametrize("name", ["digits", "squeeze_excite_qdq", "mobile_net", "inception_float"])
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
