"""What the commands share: their options, exit codes, and how they print."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

OK, USAGE, IMPORT, UNSUPPORTED, OVER_BUDGET, WRONG = range(6)

Model = Annotated[Path, typer.Argument(help="The model, an ONNX file.", show_default=False)]
TargetName = Annotated[
    str, typer.Option("--target", "-t", help="A target's name, or the path of a TOML file.")
]
Limits = Annotated[
    str | None, typer.Option("--budget", help="Limits such as ram=16KB,flash=128KB,stack=2KB.")
]
Dims = Annotated[
    list[str] | None, typer.Option("--dim", help="A dynamic dimension as name=n; repeatable.")
]
Prefix = Annotated[str | None, typer.Option("--name", help="The prefix of files and C names.")]
AllowFloat = Annotated[bool, typer.Option("--allow-float", help="Compile float32 steps, too.")]
Compiler = Annotated[str, typer.Option("--compiler", help="zig, or gcc for arm-none-eabi-gcc.")]
Objective = Annotated[
    str, typer.Option("--optimize", help="ram: the least; balanced: to fit; cycles: the fastest.")
]
Input = Annotated[
    str, typer.Option("--input", help="whole, or rows: pushed one by one, never stored whole.")
]
Recompute = Annotated[
    float, typer.Option("--allow-recompute", help="Work as a multiple of the least, to save RAM.")
]
Placement = Annotated[
    str, typer.Option("--placement", help="How hard to place: quick, thorough, or cpsat.")
]
Decided = Annotated[
    Path | None, typer.Option("--decision", help="Prune first, as this file decides.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Out = Annotated[
    Path | None, typer.Option("--out", "-o", help="The folder to write; default build/NAME.")
]


@contextmanager
def progress(text: str = "starting") -> Iterator[Callable[[str], None]]:
    """Show on the error stream what is being done; yields the function that changes the text."""
    with Console(stderr=True).status(text) as status:
        yield status.update


def console() -> Console:
    """Wide enough for the tables where the output is no terminal."""
    plain = partial(Console, soft_wrap=True, highlight=False, markup=False, emoji=False)
    found = plain()
    return found if found.is_terminal else plain(width=160)


def print_json(value: object) -> None:
    """Print a value for other programs."""
    print(json.dumps(value, indent=1, default=str))


def dims_of(texts: list[str] | None) -> dict[str, int]:
    """The dimensions of --dim name=n."""
    dims = {}
    for text in texts or []:
        name, _, value = text.rpartition("=")
        if not name or not value.isdecimal() or int(value) < 1:
            raise ValueError(f"--dim {text}: write a dimension as name=n, n at least 1")
        dims[name] = int(value)
    return dims


def relative(path: Path) -> Path:
    """The path as seen from the working directory, where it lies below it."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path
