"""Emulated runs: counts known by hand, counts of two independent counters, and faults."""

import importlib
import json
import shutil
import struct
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from mcugraph import build, targets
from mcugraph.counts import Counts
from mcugraph.emulate import Machine

pytest.importorskip("unicorn", reason="unicorn is not installed")
pytest.importorskip("ziglang", reason="ziglang is not installed")

HERE = Path(__file__).parent
MCUCOUNT = HERE.parents[1] / "shared" / "tools" / "mcucount" / "mcurun.py"
CALLED = (
    "counted",
    "sum4",
    "wide_frame",
    "fibonacci",
    "load_word",
    "store_word",
    "deep",
    "jump",
    "spin",
    "scale",
)
# Our cores, and the machines of the independent counter that are such cores.
MACHINES = {
    "cortex-m0": "m0big",
    "cortex-m0plus": "m0p",
    "cortex-m3": "m3",
    "cortex-m4": "m4",
    "cortex-m7": "m7",
    "an505": "m33",
}
AN505 = """extends = "cortex-m33"
[memory.flash]
origin = 0x10000000
[memory.ram]
origin = 0x38000000
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("firmware")
    (made / "an505.toml").write_text(AN505)
    return made


@cache
def firmware(folder: Path, name: str, compiler: str, optimize: str) -> tuple[Path, targets.Target]:
    if compiler == "gcc" and shutil.which("arm-none-eabi-gcc") is None:
        pytest.skip("arm-none-eabi-gcc is not installed")
    target = targets.load(folder / "an505.toml" if name == "an505" else name)
    sources = [HERE / "firmware.c", HERE / "counted.c"]
    out = folder / f"{name}{compiler}{optimize}.elf"
    options = build.Options(compiler=compiler, optimize=optimize, keep=CALLED)
    return build.build_firmware(sources, target, out, options), target


def machine(folder: Path, name: str) -> Machine:
    return Machine(*firmware(folder, name, "zig", "-O2"))


HAND_COUNTED = {
    -1: Counts(instructions=2, stores=1),
    0: Counts(instructions=16, branches=5, taken=4),
    1: Counts(instructions=3, loads=1, stores=1, multiplies=1),
    2: Counts(instructions=4, loads=1, branches=3, taken=3),
}
HAND_CYCLES = {
    "cortex-m0": (5, 24, 5, 15),
    "cortex-m0plus": (5, 20, 5, 12),
    "cortex-m4": (5, 24, 4, 13),
    "cortex-m7": (None, None, None, None),
}


@pytest.mark.parametrize("name", HAND_CYCLES)
def test_steps_are_counted_to_the_instruction_where_labels_stand_amid_blocks(
    folder: Path, name: str
) -> None:
    run = machine(folder, name).call("counted", steps="net_step_")
    cycles = zip(HAND_COUNTED.items(), HAND_CYCLES[name], strict=True)
    expected = {step: replace(counts, cycles=cycle) for (step, counts), cycle in cycles}
    assert run.result == 225
    assert run.steps == expected
    assert run.total == sum(expected.values(), start=Counts())
    assert run.stack == 12
    assert run.functions["leaf"].instructions == 1
    assert run.functions["counted"].instructions == 24


def test_each_step_is_watched_before_it_runs(folder: Path) -> None:
    core = machine(folder, "cortex-m0")
    seen: list[int] = []
    with core.watching("net_step_", seen.append):
        watched = core.call("counted", steps="net_step_")
    assert seen == [0, 1, 2]
    assert core.call("counted", steps="net_step_") == watched
    assert seen == [0, 1, 2]


def test_without_steps_all_belongs_to_what_is_before_the_first(folder: Path) -> None:
    run = machine(folder, "cortex-m0").call("counted")
    assert run.steps == {-1: run.total}


def test_a_second_call_counts_afresh_and_memories_keep_their_contents(folder: Path) -> None:
    core = machine(folder, "cortex-m0")
    first = core.call("fibonacci", 10)
    assert core.call("fibonacci", 10) == first
    assert core.read("shared_word", 4) == struct.pack("<i", 41)
    core.write("shared_word", struct.pack("<i", -5))
    assert core.call("load_word", core.address("shared_word")).result == 2**32 - 5
    core.reset()
    assert core.call("load_word", core.address("shared_word")).result == 41


@pytest.mark.parametrize("name", MACHINES)
def test_arguments_and_floats_work_in_a_function_that_is_called_alone(
    folder: Path, name: str
) -> None:
    core = machine(folder, name)
    assert core.call("sum4", 1, 2, 3, -4).result == 2**32 - 2
    assert core.call("scale", 10).result == 15


def test_text_and_exit_code_come_back_by_semihosting(tmp_path: Path) -> None:
    text = """void say(int request, const char *text);
void say(int request, const char *text)
{
    register int r0 __asm__("r0") = request;
    register const char *r1 __asm__("r1") = text;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
}
int main(void) { say(4, "hello "); say(3, "you"); return 7; }
"""
    (tmp_path / "say.c").write_text(text)
    target = targets.load("microbit")
    core = Machine(build.build_firmware([tmp_path / "say.c"], target, tmp_path / "p.elf"), target)
    assert core.run().result == 7
    assert core.output == "hello y"


def stepped(program: Path, target: targets.Target) -> tuple[int, int]:
    """Return instructions and stack depth from one look at SP before every instruction."""
    unicorn = importlib.import_module("unicorn")
    core = Machine(program, target)
    seen = [0, 2**32]

    def look(uc: Any, *_: Any) -> None:
        seen[0] += 1
        seen[1] = min(seen[1], uc.reg_read(unicorn.arm_const.UC_ARM_REG_SP))

    core._uc.hook_add(unicorn.UC_HOOK_CODE, look)
    core.run()
    return seen[0], core.address("__stack_top") - seen[1]


@pytest.mark.parametrize("optimize", ["-O0", "-O2", "-Os"])
@pytest.mark.parametrize("compiler", build.COMPILERS)
@pytest.mark.parametrize("name", ["cortex-m0", "cortex-m3", "cortex-m4"])
def test_stack_and_instructions_are_those_of_looking_at_every_instruction(
    folder: Path, name: str, compiler: str, optimize: str
) -> None:
    program, target = firmware(folder, name, compiler, optimize)
    run = Machine(program, target).run()
    instructions, depth = stepped(program, target)
    assert run.stack == depth
    if name == "cortex-m0":  # elsewhere the hook is not called for what an IT skips
        assert run.total.instructions == instructions


STRADDLING = """int straddling(int skip);
__asm__(".syntax unified\\n.thumb\\n.section .text.straddling, \\"ax\\", %progbits\\n"
        ".balign 1024\\n.global straddling\\n.type straddling, %function\\n.thumb_func\\n"
        "straddling:\\n push {r4, lr}\\n .rept 509\\n nop\\n .endr\\n cmp r0, #0\\n it ne\\n"
        "popne {r4, pc}\\n"  /* the emulator's next block: they end where 1024 bytes end */
        "bl straddled\\n pop {r4, pc}\\n .size straddling, . - straddling\\n"
        ".thumb_func\\nstraddled:\\n push {r4-r7}\\n pop {r4-r7}\\n bx lr\\n .text\\n");
"""


def test_a_skipped_pop_at_the_start_of_a_block_moves_no_stack(tmp_path: Path) -> None:
    (tmp_path / "straddling.c").write_text(STRADDLING)
    target, options = targets.load("cortex-m4"), build.Options(keep=("straddling",))
    sources = [tmp_path / "straddling.c"]
    core = Machine(build.build_firmware(sources, target, tmp_path / "p.elf", options), target)
    assert core.address("straddling") % 1024 == 0
    assert core.call("straddling", 1).stack == 8
    assert core.call("straddling", 0).stack == 24
    assert core.call("straddling", 0).total.instructions == 513 + 5


def mcucount(program: Path, name: str, models: list[str]) -> dict[str, Any]:
    """Return what the independent counter says of a program: QEMU's own count, in JSON."""
    if not MCUCOUNT.exists():
        pytest.skip("the independent counter is not beside this repository")
    if shutil.which("qemu-system-arm") is None or shutil.which("gcc") is None:
        pytest.skip("the independent counter needs qemu-system-arm and gcc")
    command = [sys.executable, str(MCUCOUNT), MACHINES[name], str(program), "--json", "--mem"]
    command += [f"--cycles={model}" for model in models]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("optimize", ["-O2", "-Os"])
@pytest.mark.parametrize("compiler", build.COMPILERS)
@pytest.mark.parametrize("name", MACHINES)
def test_counts_are_those_of_an_independent_counter(
    folder: Path, name: str, compiler: str, optimize: str
) -> None:
    program, target = firmware(folder, name, compiler, optimize)
    models = {"m0": "m0", "m0plus": "m0p", "m4": "m4"}
    theirs = mcucount(program, name, list(models.values()))
    for model, their_model in models.items():
        core = Machine(program, replace(target, cycles=model))
        run = core.run()
        assert run.result == theirs["rc"]
        assert run.total == counts_of(theirs["regions"][0], their_model)
        functions = {each["name"]: counts_of(each, their_model) for each in theirs["functions"]}
        assert run.functions == functions
    # It loses SP at computed changes and follows skipped pops, but never sees more than there is.
    depth = core.address("__stack_top") - theirs["regions"][0]["sp_min"]
    assert run.stack >= depth
    if (name, compiler) == ("cortex-m0", "zig"):
        assert run.stack == depth


def counts_of(total: dict[str, int], model: str) -> Counts:
    keys = ("insn", "ld", "st", "mul", "br", "taken", f"cyc_{model}")
    return Counts(*(total[key] for key in keys))


FAULTS = [
    ("load_word", (0x40000000,), r"read 4 bytes at 0x40000000, .* in load_word"),
    ("store_word", (0, 1), r"wrote 4 bytes at 0x0, .* in store_word"),
    ("store_word", (0x60000000, 1), r"wrote 4 bytes at 0x60000000, .* in store_word"),
    ("jump", (0x60000001,), r"jumped to .*0x60000000"),
    ("spin", (), r"ran past the limit of 1000000 instructions, .* in spin"),
    ("deep", (0,), r"let the stack grow into other data \(below 0x20000\w+\), .* in deep"),
]


@pytest.mark.parametrize("name", ["cortex-m0", "cortex-m4", "microbit"])
@pytest.mark.parametrize(("function", "arguments", "message"), FAULTS)
def test_a_fault_names_the_access_and_the_function(
    folder: Path, name: str, function: str, arguments: tuple[int, ...], message: str
) -> None:
    core = machine(folder, name)
    with pytest.raises(RuntimeError, match=message):
        core.call(function, *arguments, limit=10**6)
    assert core.call("sum4", 1, 1, 1, 1).result == 10


def test_an_access_that_is_not_aligned_faults_on_an_m0_and_not_on_an_m4(folder: Path) -> None:
    with pytest.raises(RuntimeError, match=r"not aligned, .* in load_word"):
        machine(folder, "cortex-m0").call("load_word", 0x20000002)
    machine(folder, "cortex-m4").call("load_word", 0x20000002)


def test_code_of_a_bigger_core_does_not_run_on_a_smaller_one(folder: Path) -> None:
    program, _ = firmware(folder, "cortex-m4", "zig", "-O2")
    with pytest.raises(RuntimeError, match=r"nvalid instruction"):
        Machine(program, targets.load("cortex-m0")).run()


def test_a_wrong_request_is_refused(folder: Path) -> None:
    core = machine(folder, "cortex-m0")
    with pytest.raises(ValueError, match="the firmware has no symbol 'nothing'"):
        core.call("nothing")
    with pytest.raises(ValueError, match="at most 4 are possible"):
        core.call("sum4", 1, 2, 3, 4, 5)
    with pytest.raises(RuntimeError, match="left Reset_Handler by semihosting"):
        core.call("Reset_Handler")
    with pytest.raises(ValueError, match="target host has no emulator"):
        Machine(HERE / "none.elf", targets.load("host"))


def test_a_missing_emulator_is_named_with_the_command_that_brings_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "unicorn", None)
    with pytest.raises(ValueError, match=r"pip install 'mcugraph\[emulate\]'"):
        Machine(HERE / "none.elf", targets.load("cortex-m0"))
