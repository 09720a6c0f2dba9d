"""Compile C for a target's bare core or for the host: zig by default, GCC where asked for."""

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mcugraph.targets import FOLDER, Memory, Target

RUNTIME = FOLDER / "runtime"
WARNINGS = (
    "-std=c99",
    "-Wall",
    "-Wextra",
    "-Wconversion",
    "-Wshadow",
    "-pedantic",
    "-Werror",
)
COMPILERS = ("zig", "gcc")
# A core that is no particular part has these bytes wherever a number is needed.
ROOM = {"flash": 4 << 20, "ram": 1 << 20}


@dataclass(frozen=True)
class Options:
    """How to compile; keep names functions that nothing calls yet must stay in the firmware."""

    compiler: str = "zig"
    optimize: str = "-O2"
    defines: tuple[str, ...] = ()
    includes: tuple[Path, ...] = ()
    keep: tuple[str, ...] = ()
    sanitize: bool = False


def build_firmware(
    sources: Sequence[Path], target: Target, out: Path, options: Options | None = None
) -> Path:
    """Compile and link sources with our start-up into an ELF for a target's core.

    Sources need no main. Raises ValueError where the compiler is missing or refuses.
    """
    options = options or Options()
    if target.is_host:
        raise ValueError("the host runs no firmware; build a shared library for it instead")
    command = [*_cross(options.compiler, target), *_flags(options)]
    command += ["-ffunction-sections", "-fdata-sections", "-fno-unwind-tables"]
    command += ["-fno-asynchronous-unwind-tables", "-Wl,--gc-sections", "-Wl,-e,Reset_Handler"]
    command += [f"-Wl,-u,{name}" for name in options.keep]
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "firmware.ld"
        script.write_text(linker_script(target), encoding="utf-8")
        files = [str(RUNTIME / "start.c"), *map(str, sources)]
        tail = ["-lgcc"] if options.compiler == "gcc" else []
        _run([*command, "-T", str(script), *files, *tail, "-o", str(out)])
    return out


def build_shared(sources: Sequence[Path], out: Path, options: Options | None = None) -> Path:
    """Compile sources into a shared library of the host."""
    options = options or Options()
    _run(
        [
            *host_compiler(),
            *_flags(options),
            "-shared",
            "-fPIC",
            *map(str, sources),
            "-lm",
            "-o",
            str(out),
        ]
    )
    return out


def build_program(sources: Sequence[Path], out: Path, options: Options | None = None) -> Path:
    """Compile sources, one of which has main, into a program of the host."""
    options = options or Options()
    _run([*host_compiler(), *_flags(options), *map(str, sources), "-lm", "-o", str(out)])
    return out


def linker_script(target: Target) -> str:
    """Return the linker script of a target: its memories around the fixed sections."""
    memories = {memory.name: memory for memory in target.memories}
    missing = [name for name in ROOM if name not in memories]
    if missing:
        raise ValueError(f"target {target.name} has no [memory.{missing[0]}] to link into")
    lines = [_region(memory) for memory in target.memories]
    template = (RUNTIME / "firmware.ld").read_text(encoding="utf-8")
    return template.replace("@MEMORY@", "\n".join(lines)).replace("@STACK@", str(target.stack))


def room(memory: Memory) -> int:
    """Return the bytes of a region, or what stands for them where no part is meant."""
    return ROOM.get(memory.name, 1 << 20) if memory.size is None else memory.size


def _region(memory: Memory) -> str:
    access = "rx" if memory.name == "flash" else "rwx"
    return f"    {memory.name} ({access}) : ORIGIN = {memory.origin:#x}, LENGTH = {room(memory)}"


def host_compiler() -> list[str]:
    """Return the command of the host's C compiler: cc, gcc or clang, else zig."""
    for name in ("cc", "gcc", "clang"):
        if found := shutil.which(name):
            return [found]
    return [*zig_compiler(), "-fno-sanitize=undefined"]


def zig_compiler() -> list[str]:
    """Return the command of zig's C compiler; raise ValueError where it is not installed."""
    if importlib.util.find_spec("ziglang") is None:
        raise ValueError("zig is not installed; install it with: pip install 'mcugraph[emulate]'")
    return [sys.executable, "-m", "ziglang", "cc"]


def cache_folder() -> Path:
    """Return the folder of what is slow to make and can be made again at any time."""
    home = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA")
    usual = (Path(home) if home else Path.home() / ".cache") / "mcugraph"
    folder = Path(os.environ.get("MCUGRAPH_CACHE") or usual)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"the cache folder {folder} cannot be made ({error.strerror}); "
            "set MCUGRAPH_CACHE to a folder that can"
        ) from error
    return folder


def _cross(compiler: str, target: Target) -> list[str]:
    if compiler == "zig":
        # zig adds run-time checks unless told not to, and at -Os drops all symbols without -g
        return [*zig_compiler(), *target.zig, "-fno-sanitize=undefined", "-g"]
    if compiler == "gcc":
        found = shutil.which("arm-none-eabi-gcc")
        if found is None:
            raise ValueError(
                "arm-none-eabi-gcc is not installed; install it with: apt install gcc-arm-none-eabi"
            )
        return [found, *target.gcc, "-nostartfiles", "-nodefaultlibs"]
    raise ValueError(f"no compiler '{compiler}'; there are: {', '.join(COMPILERS)}")


def _flags(options: Options) -> list[str]:
    flags = [*WARNINGS, options.optimize]
    flags += [f"-D{define}" for define in options.defines]
    flags += [f"-I{folder}" for folder in options.includes]
    if options.sanitize:
        flags += ["-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    return flags


def _environment() -> Mapping[str, str]:
    """Give zig one cache for all builds: the first link for a core takes long, later ones not."""
    cache = str(cache_folder() / "zig")
    return {"ZIG_GLOBAL_CACHE_DIR": cache, "ZIG_LOCAL_CACHE_DIR": cache, **os.environ}


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=_environment())
    if done.returncode != 0:
        name = "zig" if "ziglang" in command else Path(command[0]).name
        raise ValueError(f"{name} refuses the sources:\n{done.stderr.strip()}")
