"""What the firmware of whole networks costs: our figures against an independent counter's."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from mcugraph import build
from mcugraph.counts import Counts
from mcugraph.emit import emit
from mcugraph.emulate import Machine
from mcugraph.load import load
from mcugraph.measure import STEP_LABEL, Sources, build_measured, can_measure, measure, roomy
from mcugraph.optimize import rewrite
from mcugraph.plan import Plan, make_plan
from mcugraph.read import read_graph
from mcugraph.report import Cost, flash_constants
from mcugraph.targets import load as load_target

pytest.importorskip("unicorn", reason="unicorn is not installed")
pytest.importorskip("ziglang", reason="ziglang is not installed")

ROOT = Path(__file__).parents[1]
MCUCOUNT = ROOT.parent / "shared" / "tools" / "mcucount" / "mcurun.py"
FILES = {
    "digits": ROOT / "examples" / "digits.onnx",
    "kws": ROOT.parent / "shared" / "models" / "kws_int8_qdq_nhwc.onnx",
}
# Our cores, and the machines of the independent counter that are such cores.
MACHINES = {"cortex-m0": "m0big", "cortex-m0plus": "m0p", "cortex-m4": "m4"}
CYCLES = {"m0": "m0", "m0plus": "m0p", "m4": "m4"}
MAIN = """#include <stdint.h>
#include "net.h"
int main(void);
static const int8_t x[NET_INPUT_BYTES] = {@X@};
int main(void)
{
    volatile int8_t *input = net_input();
    for (int32_t i = 0; i < NET_INPUT_BYTES; i++) {
        input[i] = x[i];
    }
    net_run();
    return 7;
}
"""


@cache
def plan_of(name: str, target: str) -> Plan:
    if not FILES[name].exists():
        pytest.skip(f"no file {FILES[name].name} beside this repository")
    graph = read_graph(rewrite(load(FILES[name])))
    return make_plan(graph, load_target(target), "net")


def need(compiler: str) -> None:
    if compiler == "gcc" and shutil.which("arm-none-eabi-gcc") is None:
        pytest.skip("arm-none-eabi-gcc is not installed")


def mcucount(program: Path, machine: str) -> dict[str, Any]:
    """What the independent counter says of net_run and of each function, in JSON."""
    if not MCUCOUNT.exists():
        pytest.skip("the independent counter is not beside this repository")
    if shutil.which("qemu-system-arm") is None or shutil.which("gcc") is None:
        pytest.skip("the independent counter needs qemu-system-arm and gcc")
    command = [sys.executable, str(MCUCOUNT), machine, str(program), "--json", "--mem"]
    command += ["--roi=net_run", *(f"--cycles={model}" for model in CYCLES.values())]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def counts_of(total: dict[str, int], model: str) -> Counts:
    keys = ("insn", "ld", "st", "mul", "br", "taken", f"cyc_{model}")
    return Counts(*(total[key] for key in keys))


def cost_of(counts: Counts) -> Cost:
    return Cost(counts.instructions, counts.cycles, counts.loads, counts.stores, counts.multiplies)


CASES = [
    *(("digits", target, compiler) for target in MACHINES for compiler in build.COMPILERS),
    ("kws", "cortex-m0", "zig"),
]


@pytest.mark.parametrize(("name", "target", "compiler"), CASES)
def test_counts_stack_and_cycles_are_those_of_an_independent_counter(
    name: str, target: str, compiler: str, tmp_path: Path
) -> None:
    need(compiler)
    plan = plan_of(name, target)
    (port,) = plan.graph.inputs
    values = [(17 * i + i // 64) % 256 - 128 for i in range(plan.graph.tensors[port].bytes)]
    files = {**emit(plan), "main.c": MAIN.replace("@X@", ", ".join(map(str, values)))}
    machine = plan.target
    program = build_measured(Sources("net", files), machine, tmp_path, compiler)
    theirs = mcucount(program, MACHINES[target])
    assert theirs["rc"] == 7
    region = next(r for r in theirs["regions"] if r["name"] == "net_run")
    for model, their_model in CYCLES.items():
        core = Machine(program, replace(machine, cycles=model))
        input_place = core.address("net_arena") + plan.offset(port)
        core.write(input_place, bytes(value % 256 for value in values))
        run = core.call("net_run", steps=STEP_LABEL)
        assert run.total == counts_of(region, their_model)
        # what runs before the region, too, is listed a second time
        functions = [(f["name"], counts_of(f, their_model)) for f in theirs["functions"]]
        assert set(run.functions.items()) <= set(functions)
        assert sum(run.steps.values(), start=Counts()) == run.total
    depth = region["sp_entry"] - region["sp_min"]
    if target == "cortex-m4":  # there it loses SP at computed changes
        assert run.stack >= depth
    else:
        assert run.stack == depth


@pytest.mark.parametrize("compiler", build.COMPILERS)
@pytest.mark.parametrize("target", MACHINES)
def test_a_measurement_repeats_and_its_steps_add_up(target: str, compiler: str) -> None:
    need(compiler)
    plan = plan_of("digits", target)
    measured = measure(plan, emit(plan), compiler)
    assert measure(plan, emit(plan), compiler) == measured
    assert measured.compiler == compiler
    assert len(measured.steps) == len(plan.steps)
    for figure in ("instructions", "cycles", "loads", "stores", "multiplies"):
        parts = [getattr(step, figure) for step in measured.steps]
        rest = getattr(measured.total, figure) - sum(parts)
        assert 0 <= rest < 120, figure
        assert min(parts) >= 0
    assert 0 < measured.code < 16 * 1024
    assert 0 < measured.stack < 1024


def test_a_measurement_is_one_run_of_the_firmware(tmp_path: Path) -> None:
    plan = plan_of("digits", "cortex-m0")
    measured = measure(plan, emit(plan), "zig")
    machine = roomy(plan.target, plan.memory.arena, sum(flash_constants(plan)))
    core = Machine(build_measured(Sources("net", emit(plan)), machine, tmp_path, "zig"), machine)
    run = core.call("net_run", steps=STEP_LABEL)
    assert run.stack == measured.stack
    assert set(run.steps) == set(range(-1, len(plan.steps) + 1))
    # Only what depends on the input may differ: less than one instruction in a hundred.
    assert abs(run.total.instructions / measured.total.instructions - 1) < 0.01
    for step, cost in zip(plan.steps, measured.steps, strict=True):
        if step.op in {"Conv", "Gemm"}:
            assert cost.multiplies >= sum(call.macs for call in plan.calls[step.name]) / 2
    labels = [s.name for s in core.elf.symbols if s.name.startswith(STEP_LABEL)]
    assert len(labels) == len(plan.steps) + 1


def test_the_labels_cost_an_instruction_a_step_at_most(tmp_path: Path) -> None:
    plan = plan_of("digits", "cortex-m0")
    machine = roomy(plan.target, plan.memory.arena, sum(flash_constants(plan)))
    labelled = Machine(
        build_measured(Sources("net", emit(plan)), machine, tmp_path, "zig"), machine
    )
    sources = sorted(tmp_path.glob("*.c"))
    options = build.Options(includes=(tmp_path,), keep=("net_run",))
    plain = build.build_firmware(sources, machine, tmp_path / "plain.elf", options)
    counts = [core.call("net_run").total for core in (Machine(plain, machine), labelled)]
    assert abs(counts[1].instructions - counts[0].instructions) <= len(plan.steps)
    assert counts[1].multiplies == counts[0].multiplies


def test_memories_have_room_for_any_model_and_keep_their_origins() -> None:
    target = load_target("microbit")
    large = roomy(target, 5 << 20, 9 << 20)
    assert [m.origin for m in large.memories] == [m.origin for m in target.memories]
    sizes = {m.name: m.size for m in large.memories}
    assert sizes["ram"] is not None
    assert sizes["ram"] >= 6 << 20
    assert sizes["flash"] is not None
    assert sizes["flash"] >= 10 << 20


def test_the_host_and_a_missing_emulator_cannot_be_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    target = load_target("cortex-m0")
    assert can_measure(target)
    assert not can_measure(load_target("host"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert not can_measure(target)
