"""The emitted C as firmware on an emulated core: what it needs and what it costs."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from mcugraph import build, elf
from mcugraph.counts import Counts
from mcugraph.emulate import Machine
from mcugraph.plan import Plan
from mcugraph.report import Cost, Measurement, flash_constants
from mcugraph.targets import Memory, Target

STEP_LABEL = "mcu_step_"
# The label of a step costs no instruction; %= tells the labels of inlined copies apart.
HOOK = f'__asm volatile(".globl {STEP_LABEL}" #step "_%=\\n{STEP_LABEL}" #step "_%=:" ::)'
SEED = 1


def can_measure(target: Target) -> bool:
    """Whether the target has an emulator and the `emulate` extra is installed."""
    installed = all(importlib.util.find_spec(name) for name in ("unicorn", "ziglang"))
    return target.emulator is not None and installed


def build_measured(
    name: str, files: Mapping[str, str], target: Target, folder: Path, compiler: str
) -> Path:
    """Link a model's C files into firmware with a label at each step; returns the ELF.

    The memories are as large as the model needs: whether it fits is the budget's question.
    """
    for file, text in files.items():
        (folder / file).write_text(text, encoding="utf-8")
    options = build.Options(
        compiler=compiler,
        defines=(f"{name.upper()}_HOOK(step)={HOOK}",),
        includes=(folder,),
        keep=(f"{name}_run",),
    )
    sources = sorted(folder / file for file in files if file.endswith(".c"))
    return build.build_firmware(sources, target, folder / f"{name}.elf", options)


def roomy(target: Target, arena: int, constants: int) -> Target:
    """The target with memories large enough to link and run a model of that size."""
    need = {"ram": arena, "flash": constants}
    memories = tuple(
        Memory(m.name, m.origin, max(build.room(m), need.get(m.name, 0) + (1 << 20)))
        for m in target.memories
    )
    return replace(target, memories=memories)


def measure(plan: Plan, files: Mapping[str, str], compiler: str) -> Measurement:
    """Build the firmware, run it once on a fixed input and count."""
    target = roomy(plan.target, plan.memory.arena, sum(flash_constants(plan)))
    with tempfile.TemporaryDirectory() as folder:
        program = build_measured(plan.name, files, target, Path(folder), compiler)
        empty = build.build_firmware(
            (), target, Path(folder) / "empty.elf", build.Options(compiler)
        )
        code = _flash(program) - _flash(empty) - sum(flash_constants(plan))
        machine = Machine(program, target)
    for name in plan.graph.inputs:
        machine.write(machine.address(f"{plan.name}_arena") + plan.offset(name), _noise(plan, name))
    run = machine.call(f"{plan.name}_run", steps=STEP_LABEL)
    steps = tuple(_cost(run.steps[index]) for index in range(len(plan.steps)))
    return Measurement(code, run.stack, _cost(run.total), steps, compiler)


def _flash(program: Path) -> int:
    sizes = elf.read(program).sizes()
    return sizes.text + sizes.rodata + sizes.data


def _noise(plan: Plan, name: str) -> bytes:
    """The same bytes every time, spread over the type's range."""
    tensor = plan.graph.tensors[name]
    random = np.random.default_rng(SEED)
    if tensor.dtype == "float32":
        return random.standard_normal(tensor.size, np.float32).tobytes()
    limits = np.iinfo(tensor.dtype)
    return random.integers(
        limits.min, limits.max, tensor.size, tensor.dtype, endpoint=True
    ).tobytes()


def _cost(counts: Counts) -> Cost:
    return Cost(counts.instructions, counts.cycles, counts.loads, counts.stores, counts.multiplies)
