"""Compile portable kernels with the host's compiler and run a Call on numpy arrays."""

import ctypes
import re
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mcugraph.lower.call import Call, Field

FOLDER = Path(__file__).parents[1] / "targets" / "kernels" / "portable"
FLAGS = """-std=c99 -O2 -g -Wall -Wextra -Wconversion -Wshadow -pedantic -Werror
-fsanitize=undefined -fno-sanitize-recover=all -shared -fPIC""".split()
TYPES = {"int32_t": ctypes.c_int32, "float": ctypes.c_float}
GUARD = 64
FILL = 0x5A

Array = NDArray[np.generic]


def run_call(
    call: Call, inputs: Sequence[Array], size: int, dtype: str | None = None, flags: str = ""
) -> Array:
    """Return the flat output, `size` elements, of all rows; inputs in memory order."""
    out = np.zeros(size, dtype or inputs[0].dtype)
    run_rows(call, inputs, out, (0, call.rows), flags)
    return out


def run_rows(
    call: Call, inputs: Sequence[Array], out: Array, rows: tuple[int, int], flags: str = ""
) -> None:
    """Compute rows first .. last - 1 into `out`; writing outside of it or of scratch fails."""
    guarded, space = _guarded(out.nbytes), _guarded(call.scratch)
    target = guarded[GUARD : GUARD + out.nbytes]
    target[:] = out.reshape(-1).view(np.uint8)
    params, kept = _params(call, source_of(call.kernel))
    arrays = [np.ascontiguousarray(i) for i in inputs]
    pointers = [a.ctypes.data for a in arrays] + [target.ctypes.data]
    if call.scratch:
        pointers.append(space[GUARD:].ctypes.data)
    function = getattr(library(source_of(call.kernel), flags), f"mcu_{call.kernel}")
    function.restype = None
    function(ctypes.byref(params), *map(ctypes.c_void_p, pointers), *map(ctypes.c_int32, rows))
    assert kept is not None
    for name, block in (("output", guarded), ("scratch", space)):
        outside = np.concatenate([block[:GUARD], block[len(block) - GUARD :]])
        assert (outside == FILL).all(), f"{call.kernel} writes outside its {name}"
    out.reshape(-1).view(np.uint8)[:] = target


def with_fields(call: Call, **fields: Field) -> Call:
    """Return the call with some fields changed."""
    return replace(call, fields={**call.fields, **fields})


@cache
def source_of(kernel: str) -> Path:
    """Return the C file that defines a kernel."""
    for path in sorted(FOLDER.glob("*.c")):
        if re.search(rf"^void mcu_{kernel}\(", path.read_text(), re.MULTILINE):
            return path
    raise AssertionError(f"no file in {FOLDER} defines mcu_{kernel}")


@cache
def library(source: Path, flags: str = "") -> ctypes.CDLL:
    """Return the compiled kernel file."""
    folder = tempfile.mkdtemp(prefix="mcugraph-kernel-")
    out = Path(folder) / f"{source.stem}.so"
    command = ["cc", *FLAGS, *flags.split(), f"-I{FOLDER}", str(source), "-lm", "-o", str(out)]
    subprocess.run(command, check=True)
    return ctypes.CDLL(str(out))


def _guarded(size: int) -> NDArray[np.uint8]:
    """Return zeros between two guards, aligned to 16 bytes."""
    block = np.full(size + 2 * GUARD + 16, FILL, np.uint8)
    start = -block.ctypes.data % 16
    block = block[start : start + size + 2 * GUARD]
    block[GUARD : GUARD + size] = 0
    return block


def _params(call: Call, source: Path) -> tuple[ctypes.Structure, list[Array]]:
    """Return the parameters and the arrays that they point to."""
    members = members_of(call.kernel)
    assert {m for m, _, _ in members} == set(call.fields), (
        f"{call.kernel}: members and fields differ in "
        f"{sorted({m for m, _, _ in members} ^ set(call.fields))} ({source.name})"
    )
    kinds = [(n, ctypes.c_void_p if pointer else TYPES[t]) for n, t, pointer in members]
    struct = type("Params", (ctypes.Structure,), {"_fields_": kinds})
    kept: list[Array] = []
    values = {name: _value(call.fields[name], ctype, kept) for name, ctype, _ in members}
    return struct(**values), kept


def _value(field: Field, ctype: str, kept: list[Array]) -> int | float | None:
    if not isinstance(field, np.ndarray):
        return field
    wanted = np.dtype({"float": "float32"}.get(ctype, ctype.removesuffix("_t")))
    assert field.dtype == wanted, f"{field.dtype} for {ctype}"
    kept.append(np.ascontiguousarray(field))
    return kept[-1].ctypes.data


@cache
def members_of(kernel: str) -> tuple[tuple[str, str, bool], ...]:
    """Return (name, type, is pointer) of each member of the kernel's parameters, in order."""
    for header in sorted(FOLDER.glob("*.h")):
        text = re.sub(r"/\*.*?\*/", "", header.read_text(), flags=re.DOTALL)
        found = re.search(rf"struct mcu_{kernel} \{{(.*?)\}};", text, re.DOTALL)
        if found:
            lines = [line.strip() for line in found[1].split(";") if line.strip()]
            return tuple(_member(line) for line in lines)
    raise AssertionError(f"no header in {FOLDER} has struct mcu_{kernel}")


def _member(line: str) -> tuple[str, str, bool]:
    found = re.fullmatch(r"(?:const )?(\w+) (\*?)(\w+)", line)
    assert found, f"cannot read the member: {line}"
    return found[3], found[1], bool(found[2])
