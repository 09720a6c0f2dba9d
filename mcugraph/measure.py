"""The emitted C as firmware on an emulated core: what it needs and what it costs."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mcugraph import build, elf
from mcugraph.counts import Counts, Run
from mcugraph.emulate import Machine
from mcugraph.exits import gate_of
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


@dataclass(frozen=True)
class Ports:
    """Bytes of the input and of the outputs of a model whose input is pushed."""

    input: int
    outputs: tuple[int, ...]

    def source(self) -> str:
        """C that holds a whole image and the results, beside the model's own memory."""
        sizes = [f"double mcu_in[{-(-self.input // 8)}];"]
        sizes += [f"double mcu_out_{i}[{-(-n // 8)}];" for i, n in enumerate(self.outputs)]
        return "\n".join(["extern double mcu_in[];", *sizes, ""])


@dataclass(frozen=True)
class Sources:
    """A model's C files, and what its functions are called; `ports` where the input is pushed.

    An early exit is taken where its C says, or at the value `exit_at`.
    """

    name: str
    files: Mapping[str, str]
    ports: Ports | None = None
    exit_at: str | None = None

    @property
    def has_exit(self) -> bool:
        """Whether the functions that run say if they left early."""
        return f"#define {self.name.upper()}_EXIT_AT " in self.files[f"{self.name}.h"]

    def defines(self, hook: str) -> tuple[str, ...]:
        """What the compiler is told: the hook, and where the early exit leaves."""
        upper = self.name.upper()
        leave = () if self.exit_at is None else (f"{upper}_EXIT_AT={self.exit_at}",)
        return (f"{upper}_HOOK(step)={hook}", *leave)

    def write(self, folder: Path, more: Mapping[str, str] | None = None) -> list[Path]:
        """Write the files, with some more; returns those to compile."""
        files = {**self.files, **(more or {})}
        for file, text in files.items():
            (folder / file).write_text(text, encoding="utf-8")
        return sorted(folder / file for file in files if file.endswith(".c"))


def build_measured(sources: Sources, target: Target, folder: Path, compiler: str) -> Path:
    """Link a model's C files into firmware with a label at each step; returns the ELF.

    The memories are as large as the model needs: whether it fits is the budget's question.
    """
    name, ports = sources.name, sources.ports
    keep = [f"{name}_run"]
    if ports is not None:
        keep = [f"{name}_infer", "mcu_in", *(f"mcu_out_{i}" for i in range(len(ports.outputs)))]
    options = build.Options(
        compiler=compiler,
        defines=sources.defines(HOOK),
        includes=(folder,),
        keep=tuple(keep),
    )
    written = sources.write(folder, {"mcu_ports.c": ports.source()} if ports is not None else {})
    return build.build_firmware(written, target, folder / f"{name}.elf", options)


def roomy(target: Target, arena: int, constants: int) -> Target:
    """The target with memories large enough to link and run a model of that size."""
    need = {"ram": arena, "flash": constants}
    memories = tuple(
        Memory(m.name, m.origin, max(build.room(m), need.get(m.name, 0) + (1 << 20)))
        for m in target.memories
    )
    return replace(target, memories=memories)


def measure(plan: Plan, files: Mapping[str, str], compiler: str) -> Measurement:
    """Build the firmware, run it once on a fixed input and count.

    With an early exit, once through the whole network and once only up to the exit.
    """
    target = roomy(plan.target, plan.memory.arena, sum(flash_constants(plan)))
    gate, ports = gate_of(plan.graph), ports_of(plan)
    never = None if gate is None else f"{plan.name.upper()}_EXIT_NEVER"
    with tempfile.TemporaryDirectory() as folder:
        sources = Sources(plan.name, files, ports, never)
        program = build_measured(sources, target, Path(folder), compiler)
        empty = build.build_firmware(
            (), target, Path(folder) / "empty.elf", build.Options(compiler)
        )
        code = _flash(program) - _flash(empty) - sum(flash_constants(plan))
        run = _run(plan, Machine(program, target), ports)
        left = None
        if gate is not None:
            leaving = replace(sources, exit_at=str(gate.always))
            early = build_measured(leaving, target, Path(folder), compiler)
            left = _cost(_run(plan, Machine(early, target), ports).total)
    steps = tuple(_cost(run.steps[index]) for index in range(len(plan.steps)))
    return Measurement(code, run.stack, _cost(run.total), steps, compiler, left)


def _run(plan: Plan, machine: Machine, ports: Ports | None) -> Run:
    """One inference on noise."""
    for name in plan.graph.inputs:
        place = "mcu_in" if ports else machine.address(f"{plan.name}_arena") + plan.offset(name)
        machine.write(place, _noise(plan, name))
    return call_model(machine, plan.name, ports, steps=STEP_LABEL)


def ports_of(plan: Plan) -> Ports | None:
    """The ports of a plan whose input is pushed."""
    if plan.progress is None:
        return None
    (source,) = (plan.graph.tensors[name].bytes for name in plan.graph.inputs)
    return Ports(source, tuple(plan.graph.tensors[name].bytes for name in plan.graph.outputs))


def call_model(machine: Machine, name: str, ports: Ports | None, *, steps: str = "") -> Run:
    """Run one inference, on what was written to the arena or to the input's port."""
    if ports is None:
        return machine.call(f"{name}_run", steps=steps)
    outs = [machine.address(f"mcu_out_{i}") for i in range(len(ports.outputs))]
    return machine.call(f"{name}_infer", machine.address("mcu_in"), *outs, steps=steps)


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
