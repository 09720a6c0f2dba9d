"""Run the emitted C and look into its arena between any two steps: on the host or emulated."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Protocol

from mcugraph import build
from mcugraph.emulate import Machine
from mcugraph.measure import STEP_LABEL, Sources, build_measured, call_model
from mcugraph.targets import Target

# Called with the number of the step that is about to run, and once after the last.
Watch = Callable[[int], None]

_HOOK = "do { extern void mcu_watch(int32_t); mcu_watch(step); } while (0)"
_WATCH = """#include <stdint.h>
void mcu_watch(int32_t step);
void mcu_watch_by(void (*watch)(int32_t));
static void (*watcher)(int32_t);
void mcu_watch_by(void (*watch)(int32_t)) { watcher = watch; }
void mcu_watch(int32_t step) { if (watcher) { watcher(step); } }
"""


class Executor(Protocol):
    """A compiled model whose arena can be read and written."""

    def read(self, offset: int, size: int) -> bytes:
        """Bytes of the arena."""

    def write(self, offset: int, data: bytes) -> None:
        """Put bytes into the arena."""

    def run(self, watch: Watch | None, image: bytes = b"") -> int:
        """Run one inference, on an image where the input is pushed; 1 if it left early."""


class OnHost:
    """The C compiled by the host's compiler, called in this process."""

    def __init__(self, sources: Sources, arena: int, folder: Path) -> None:
        name, ports = sources.name, sources.ports
        written = sources.write(folder, {"mcu_watch.c": _WATCH})
        options = build.Options(defines=sources.defines(_HOOK), includes=(folder,))
        self._library = ctypes.CDLL(str(build.build_shared(written, folder / "model.so", options)))
        self._outputs = [ctypes.create_string_buffer(n) for n in ports.outputs] if ports else []
        self._run = getattr(self._library, f"{name}_{'infer' if ports else 'run'}_at")
        self._run.restype = ctypes.c_int if sources.has_exit else None
        self._arena = ctypes.create_string_buffer(max(arena, 1))

    def read(self, offset: int, size: int) -> bytes:
        """Bytes of the arena."""
        return ctypes.string_at(ctypes.addressof(self._arena) + offset, size)

    def write(self, offset: int, data: bytes) -> None:
        """Put bytes into the arena."""
        ctypes.memmove(ctypes.addressof(self._arena) + offset, data, len(data))

    def run(self, watch: Watch | None, image: bytes = b"") -> int:
        """Run one inference, on an image where the input is pushed; 1 if it left early."""
        kind = ctypes.CFUNCTYPE(None, ctypes.c_int32)
        callback = kind(watch) if watch is not None else kind()
        self._library.mcu_watch_by(callback)
        return self._run(self._arena, *([image, *self._outputs] if self._outputs else [])) or 0


class OnEmulator:
    """The C compiled for the target, run on an emulated core."""

    def __init__(self, sources: Sources, target: Target, folder: Path, compiler: str) -> None:
        name = sources.name
        program = build_measured(sources, target, folder, compiler)
        self._machine = Machine(program, target)
        self._name, self._ports, self._has_exit = name, sources.ports, sources.has_exit
        self._arena = self._machine.address(f"{name}_arena")

    def read(self, offset: int, size: int) -> bytes:
        """Bytes of the arena."""
        return self._machine.read(self._arena + offset, size)

    def write(self, offset: int, data: bytes) -> None:
        """Put bytes into the arena."""
        self._machine.write(self._arena + offset, data)

    def run(self, watch: Watch | None, image: bytes = b"") -> int:
        """Run one inference, on an image where the input is pushed; 1 if it left early."""
        if self._ports is not None:
            self._machine.write("mcu_in", image)
        watching = nullcontext() if watch is None else self._machine.watching(STEP_LABEL, watch)
        with watching:
            found = call_model(self._machine, self._name, self._ports)
        return found.result if self._has_exit else 0
