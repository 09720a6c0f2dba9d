"""Machines that code is compiled for: one TOML file each, which may extend another."""

import difflib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcugraph.targets import _descriptor

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Memory:
    """A region of the address map; a size of None means: no particular part, no limit."""

    name: str
    origin: int
    size: int | None = None


@dataclass(frozen=True)
class Target:
    """One machine; kernels are directories in order, the first one that has a file wins."""

    name: str
    description: str
    core: str
    kernels: tuple[Path, ...]
    extends: str | None = None
    memories: tuple[Memory, ...] = ()
    clock_hz: int | None = None
    stack: int = 0
    fpu: bool = False
    gcc: tuple[str, ...] = ()
    zig: tuple[str, ...] = ()
    emulator: str | None = None
    cycles: str | None = None

    def memory(self, name: str) -> Memory | None:
        """Return the region of that name, or None."""
        return next((memory for memory in self.memories if memory.name == name), None)

    @property
    def is_host(self) -> bool:
        """Whether this is the computer that the compiler itself runs on."""
        return self.core == "host"


def names() -> list[str]:
    """Return the names of the built-in targets, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load(name_or_path: str | os.PathLike[str]) -> Target:
    """Return a built-in target by its name, or a user's own by the path of its TOML file.

    Raises ValueError that lists every mistake of the descriptor with its file and line.
    """
    text = os.fspath(name_or_path)
    path = Path(text) if _is_path(text) else _built_in(text)
    fields = _descriptor.read(path, FOLDER)
    regions: dict[str, dict[str, Any]] = fields.pop("memory", {})
    memories = tuple(Memory(name, **region) for name, region in regions.items())
    return Target(name=path.stem, memories=memories, **fields)


def _is_path(text: str) -> bool:
    return text.endswith(".toml") or "/" in text or os.sep in text


def _built_in(name: str) -> Path:
    known = names()
    if name in known:
        return FOLDER / f"{name}.toml"
    close = difflib.get_close_matches(name, known, n=1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    raise ValueError(f"no target '{name}'{hint}; there are: {', '.join(known)}")
