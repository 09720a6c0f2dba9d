"""The compiled hook that counts blocks of code while unicorn runs them."""

import ctypes
import hashlib
import importlib
import os
import platform
import tempfile
from collections.abc import Callable, Iterator
from enum import IntEnum
from pathlib import Path
from typing import Any, ClassVar

from mcugraph import build

_CAPACITY = 1 << 16
_SLOTS = 4 * _CAPACITY


class Status(IntEnum):
    """Why the hook stopped the core, as in blocks.c."""

    RUNNING = 0
    INSTRUCTION_LIMIT = 1
    STACK_OVERFLOW = 2
    TABLE_FULL = 3


class Block(ctypes.Structure):
    """Code that runs from its start to its end, entered while one step was running."""

    address: int
    size: int
    bucket: int
    bucket_after: int
    instructions: int
    deepest: int
    change: int
    tail: int
    is_unknown: int
    is_open: int
    count: int
    taken: int
    _fields_: ClassVar = [
        ("address", ctypes.c_uint32),
        ("size", ctypes.c_uint32),
        ("bucket", ctypes.c_int32),
        ("bucket_after", ctypes.c_int32),
        ("instructions", ctypes.c_uint32),
        ("deepest", ctypes.c_int32),
        ("change", ctypes.c_int32),
        ("tail", ctypes.c_int32),
        ("is_unknown", ctypes.c_uint32),
        ("is_open", ctypes.c_uint32),
        ("count", ctypes.c_uint64),
        ("taken", ctypes.c_uint64),
    ]


_DESCRIBE = ctypes.CFUNCTYPE(None, ctypes.POINTER(Block))


class _State(ctypes.Structure):
    previous: Any
    used: int
    sp: int
    lowest: int
    status: int
    is_doubtful: int
    _fields_: ClassVar = [
        ("read_register", ctypes.c_void_p),
        ("stop", ctypes.c_void_p),
        ("describe", _DESCRIBE),
        ("blocks", ctypes.POINTER(Block)),
        ("slots", ctypes.POINTER(ctypes.c_uint32)),
        ("previous", ctypes.POINTER(Block)),
        ("executed", ctypes.c_uint64),
        ("limit", ctypes.c_uint64),
        ("used", ctypes.c_uint32),
        ("capacity", ctypes.c_uint32),
        ("mask", ctypes.c_uint32),
        ("sp", ctypes.c_uint32),
        ("lowest", ctypes.c_uint32),
        ("stack_limit", ctypes.c_uint32),
        ("bucket", ctypes.c_int32),
        ("sp_id", ctypes.c_int32),
        ("status", ctypes.c_int32),
        ("is_doubtful", ctypes.c_uint32),
    ]


class Blocks:
    """The blocks that one core ran since begin, and how often."""

    def __init__(self, core: Any, describe: Callable[[Block], None]) -> None:
        library = importlib.import_module("unicorn.unicorn_py3.unicorn").uclib
        constants = importlib.import_module("unicorn")
        self._blocks = (Block * _CAPACITY)()
        self._slots = (ctypes.c_uint32 * _SLOTS)()
        self._top = 0
        self._state = _State(
            read_register=ctypes.cast(library.uc_reg_read, ctypes.c_void_p),
            stop=ctypes.cast(library.uc_emu_stop, ctypes.c_void_p),
            describe=_DESCRIBE(lambda block: describe(block.contents)),
            blocks=self._blocks,
            slots=self._slots,
            capacity=_CAPACITY,
            mask=_SLOTS - 1,
            sp_id=constants.arm_const.UC_ARM_REG_SP,
        )
        self._library = ctypes.CDLL(str(_hook_library()))
        handle = ctypes.c_size_t()
        status = library.uc_hook_add(
            core._uch,
            ctypes.byref(handle),
            constants.UC_HOOK_BLOCK,
            ctypes.cast(self._library.on_block, ctypes.c_void_p),
            ctypes.byref(self._state),
            ctypes.c_uint64(1),
            ctypes.c_uint64(0),
        )
        assert status == 0, f"unicorn refuses the hook: {status}"

    def begin(self, stack: int, stack_limit: int, limit: int) -> None:
        """Forget all blocks; the stack pointer is at stack and may go down to stack_limit."""
        state = self._state
        ctypes.memset(self._blocks, 0, state.used * ctypes.sizeof(Block))
        ctypes.memset(self._slots, 0, ctypes.sizeof(self._slots))
        self._top = state.sp = state.lowest = stack
        state.stack_limit, state.limit = stack_limit, limit
        state.used = state.executed = state.status = state.is_doubtful = 0
        state.previous = None
        state.bucket = -1

    def end(self, address: int) -> None:
        """Say where the core went after the last block."""
        if self._state.previous:
            last = self._state.previous.contents
            last.taken += last.address + last.size != address

    @property
    def status(self) -> Status:
        """Whether the hook stopped the core, and why."""
        return Status(self._state.status)

    @property
    def depth(self) -> int:
        """The deepest descent of the stack pointer in bytes."""
        return self._top - self._state.lowest

    def used(self) -> Iterator[Block]:
        """Give every block that ran."""
        return (self._blocks[index] for index in range(self._state.used))


def _hook_library() -> Path:
    """Return the compiled hook; compile it where this computer has not done so yet."""
    source = build.RUNTIME / "blocks.c"
    machine = f"{platform.system()} {platform.machine()}".encode()
    key = hashlib.sha256(source.read_bytes() + machine).hexdigest()[:16]
    library = build.cache_folder() / f"blocks-{key}.so"
    if not library.exists():
        library.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=library.parent) as folder:
            made = build.build_shared([source], Path(folder) / "blocks.so")
            os.replace(made, library)
    return library
