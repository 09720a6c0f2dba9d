"""The commands: optimize, analyze, explain, verify, targets."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.status import Status

from mcugraph import targets as machines
from mcugraph.artifact import Artifact, writable
from mcugraph.errors import LoadError, UnsupportedError
from mcugraph.explain import explain
from mcugraph.judge import Question, verify
from mcugraph.optimize import Settings, model_name, optimize
from mcugraph.show import print_report, print_target, print_targets, print_verification
from mcugraph.show_explain import print_explanation

OK, USAGE, IMPORT, UNSUPPORTED, OVER_BUDGET, WRONG = range(6)

app = typer.Typer(
    help="Fit a neural network into a microcontroller, and prove that it fits.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

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
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Out = Annotated[
    Path | None, typer.Option("--out", "-o", help="The folder to write; default build/NAME.")
]


@app.command("optimize")
def optimize_command(
    model: Model,
    target: TargetName,
    out: Out = None,
    name: Prefix = None,
    dim: Dims = None,
    budget: Limits = None,
    allow_float: AllowFloat = False,
    compiler: Compiler = "zig",
    objective: Objective = "ram",
    source: Input = "whole",
    as_json: Json = False,
) -> None:
    """Compile a model into a folder of C; nothing is written where it exceeds its budget."""
    settings = Settings(name, _dims(dim), budget, allow_float, compiler, objective, source)
    folder = writable(out or Path("build") / model_name(model, settings))
    artifact = _compile(model, target, settings)
    _print(artifact, as_json)
    _refuse_excess(artifact)
    artifact.write(folder)
    if not as_json:
        _console().print(f"wrote {_relative(folder)}")


@app.command()
def analyze(
    model: Model,
    target: TargetName,
    name: Prefix = None,
    dim: Dims = None,
    budget: Limits = None,
    allow_float: AllowFloat = False,
    compiler: Compiler = "zig",
    objective: Objective = "ram",
    source: Input = "whole",
    as_json: Json = False,
) -> None:
    """Report what a model needs on a target, and write nothing."""
    settings = Settings(name, _dims(dim), budget, allow_float, compiler, objective, source)
    artifact = _compile(model, target, settings)
    _print(artifact, as_json)
    _refuse_excess(artifact)


@app.command("explain")
def explain_command(
    model: Model,
    target: TargetName,
    dim: Dims = None,
    budget: Limits = None,
    allow_float: AllowFloat = False,
    source: Input = "whole",
    as_json: Json = False,
) -> None:
    """Show where the peak of memory is, what brought it down so far, and what would next."""
    settings = Settings(dims=_dims(dim), budget=budget, allow_float=allow_float, input=source)
    with Console(stderr=True).status("planning"):
        found = explain(model, target, settings)
    if as_json:
        _json(found.as_json())
    else:
        print_explanation(found, _console())
    if not found.fits:
        raise typer.Exit(OVER_BUDGET)


@app.command("verify")
def verify_command(
    model: Model,
    folder: Annotated[Path, typer.Argument(help="The folder that optimize wrote.")],
    data: Annotated[Path | None, typer.Option(help="Samples: an .npz file.")] = None,
    on: Annotated[str, typer.Option(help="Where the C runs: host or emulator.")] = "host",
    samples: Annotated[int, typer.Option(min=1, help="Random samples without --data.")] = 10,
    dim: Dims = None,
    target: Annotated[str | None, typer.Option("--target", "-t", help="Other target.")] = None,
    compiler: Compiler = "zig",
    find_first: Annotated[
        bool, typer.Option("--bisect", help="Show the first step that differs.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Compare the C with onnxruntime, step by step and as a whole."""
    question = Question(data, on, samples, _dims(dim), target, compiler, find_first)
    with Console(stderr=True).status("comparing with onnxruntime"):
        result = verify(model, folder, question)
    if as_json:
        _json(result.as_json())
    else:
        print_verification(result, _console())
    if not result.ok:
        raise typer.Exit(WRONG)


@app.command()
def targets(
    action: Annotated[str | None, typer.Argument(help="show")] = None,
    name: Annotated[str | None, typer.Argument(help="A target's name or TOML file.")] = None,
    as_json: Json = False,
) -> None:
    """List the targets, or show one of them."""
    console = _console()
    if action is None:
        if as_json:
            _json({"targets": [asdict(machines.load(each)) for each in machines.names()]})
        else:
            print_targets(console)
        return
    if action != "show" or name is None:
        raise ValueError("write: mcugraph targets, or: mcugraph targets show NAME")
    target = machines.load(name)
    if as_json:
        _json(asdict(target))
    else:
        print_target(target, console)


def main() -> None:
    """Run the command line and exit with its code."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command; returns the exit code, after one clear message where it is not 0."""
    try:
        app(arguments)
    except SystemExit as stop:
        # The command-line library's own code for a wrong call is 2; ours is 1.
        return USAGE if stop.code == 2 else int(stop.code or OK)
    except (LoadError, UnsupportedError) as error:
        return _fail(error, IMPORT if isinstance(error, LoadError) else UNSUPPORTED)
    except (ValueError, OSError) as error:
        return _fail(error, USAGE)
    except RuntimeError as error:
        return _fail(error, WRONG)
    return OK


def _refuse_excess(artifact: Artifact) -> None:
    if not artifact.report.fits:
        raise typer.Exit(OVER_BUDGET)


def _fail(error: Exception, code: int) -> int:
    lines = str(error).splitlines()
    print("mcugraph: " + "\n          ".join(lines), file=sys.stderr)
    return code


def _compile(model: Path, target: str, settings: Settings) -> Artifact:
    with _progress() as progress:
        return optimize(model, target, settings, progress.update)


@contextmanager
def _progress() -> Iterator[Status]:
    with Console(stderr=True).status("starting") as status:
        yield status


def _print(artifact: Artifact, as_json: bool) -> None:
    if as_json:
        _json(artifact.report.as_json())
    else:
        print_report(artifact.report, _console())


def _console() -> Console:
    """Wide enough for the tables where the output is no terminal."""
    plain = partial(Console, soft_wrap=True, highlight=False, markup=False, emoji=False)
    console = plain()
    return console if console.is_terminal else plain(width=160)


def _json(value: object) -> None:
    print(json.dumps(value, indent=1, default=str))


def _dims(texts: list[str] | None) -> dict[str, int]:
    dims = {}
    for text in texts or []:
        name, _, value = text.rpartition("=")
        if not name or not value.isdecimal() or int(value) < 1:
            raise ValueError(f"--dim {text}: write a dimension as name=n, n at least 1")
        dims[name] = int(value)
    return dims


def _relative(folder: Path) -> Path:
    here = Path.cwd()
    return folder.relative_to(here) if folder.is_relative_to(here) else folder
