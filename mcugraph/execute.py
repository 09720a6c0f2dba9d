"""Run the emitted C and look into its arena between any two steps: on the host or emulated."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from mcugraph import build
from mcugraph.emulate import Machine
from mcugraph.measure import STEP_LABEL, build_measured
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

    def run(self, watch: Watch | None) -> None:
        """Run one inference."""


class OnHost:
    """The C compiled by the host's compiler, called in this process."""

    def __init__(self, name: str, files: Mapping[str, str], arena: int, folder: Path) -> None:
        for file, text in {**files, "mcu_watch.c": _WATCH}.items():
            (folder / file).write_text(text, encoding="utf-8")
        sources = sorted(folder.glob("*.c"))
        options = build.Options(defines=(f"{name.upper()}_HOOK(step)={_HOOK}",), includes=(folder,))
        self._library = ctypes.CDLL(str(build.build_shared(sources, folder / "model.so", options)))
        self._run = getattr(self._library, f"{name}_run_at")
        self._arena = ctypes.create_string_buffer(max(arena, 1))

    def read(self, offset: int, size: int) -> bytes:
        """Bytes of the arena."""
        return ctypes.string_at(ctypes.addressof(self._arena) + offset, size)

    def write(self, offset: int, data: bytes) -> None:
        """Put bytes into the arena."""
        ctypes.memmove(ctypes.addressof(self._arena) + offset, data, len(data))

    def run(self, watch: Watch | None) -> None:
        """Run one inference."""
        kind = ctypes.CFUNCTYPE(None, ctypes.c_int32)
        callback = kind(watch) if watch is not None else kind()
        self._library.mcu_watch_by(callback)
        self._run(self._arena)


class OnEmulator:
    """The C compiled for the target, run on an emulated core."""

    def __init__(
        self, name: str, files: Mapping[str, str], target: Target, folder: Path, compiler: str
    ) -> None:
        program = build_measured(name, files, target, folder, compiler)
        self._machine = Machine(program, target)
        self._entry = f"{name}_run"
        self._arena = self._machine.address(f"{name}_arena")

    def read(self, offset: int, size: int) -> bytes:
        """Bytes of the arena."""
        return self._machine.read(self._arena + offset, size)

    def write(self, offset: int, data: bytes) -> None:
        """Put bytes into the arena."""
        self._machine.write(self._arena + offset, data)

    def run(self, watch: Watch | None) -> None:
        """Run one inference."""
        if watch is None:
            self._machine.call(self._entry)
            return
        with self._machine.watching(STEP_LABEL, watch):
            self._machine.call(self._entry)
