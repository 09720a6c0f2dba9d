"""The commands of the compiler: optimize, analyze, explain, verify, targets."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from mcugraph import targets as machines
from mcugraph.artifact import Artifact, writable
from mcugraph.explain import explain
from mcugraph.judge import Question, verify
from mcugraph.optimize import Settings, model_name, optimize
from mcugraph.options import (
    OVER_BUDGET,
    WRONG,
    AllowFloat,
    Compiler,
    Decided,
    Dims,
    Input,
    Json,
    Limits,
    Model,
    Objective,
    Out,
    Placement,
    Prefix,
    Recompute,
    TargetName,
    console,
    dims_of,
    print_json,
    progress,
    relative,
)
from mcugraph.show import print_report, print_target, print_targets, print_verification
from mcugraph.show_explain import print_explanation

app = typer.Typer()


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
    recompute: Recompute = 1.0,
    placement: Placement = "quick",
    decision: Decided = None,
    as_json: Json = False,
) -> None:
    """Compile a model into a folder of C; nothing is written where it exceeds its budget."""
    settings = Settings(
        *(name, dims_of(dim), budget, allow_float, compiler, objective, source),
        *(recompute, placement, decision),
    )
    folder = writable(out or Path("build") / model_name(model, settings))
    artifact = _compile(model, target, settings)
    _print(artifact, as_json)
    _refuse_excess(artifact)
    artifact.write(folder)
    if not as_json:
        console().print(f"wrote {relative(folder)}")


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
    recompute: Recompute = 1.0,
    placement: Placement = "quick",
    decision: Decided = None,
    as_json: Json = False,
) -> None:
    """Report what a model needs on a target, and write nothing."""
    settings = Settings(
        *(name, dims_of(dim), budget, allow_float, compiler, objective, source),
        *(recompute, placement, decision),
    )
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
    decision: Decided = None,
    as_json: Json = False,
) -> None:
    """Show where the peak of memory is, what brought it down so far, and what would next."""
    settings = Settings(
        dims=dims_of(dim), budget=budget, allow_float=allow_float, input=source, decision=decision
    )
    with progress("planning"):
        found = explain(model, target, settings)
    if as_json:
        print_json(found.as_json())
    else:
        print_explanation(found, console())
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
    question = Question(data, on, samples, dims_of(dim), target, compiler, find_first)
    with progress("comparing with onnxruntime"):
        result = verify(model, folder, question)
    if as_json:
        print_json(result.as_json())
    else:
        print_verification(result, console())
    if not result.ok:
        raise typer.Exit(WRONG)


@app.command()
def targets(
    action: Annotated[str | None, typer.Argument(help="show")] = None,
    name: Annotated[str | None, typer.Argument(help="A target's name or TOML file.")] = None,
    as_json: Json = False,
) -> None:
    """List the targets, or show one of them."""
    if action is None:
        if as_json:
            print_json({"targets": [asdict(machines.load(each)) for each in machines.names()]})
        else:
            print_targets(console())
        return
    if action != "show" or name is None:
        raise ValueError("write: mcugraph targets, or: mcugraph targets show NAME")
    target = machines.load(name)
    if as_json:
        print_json(asdict(target))
    else:
        print_target(target, console())


def _refuse_excess(artifact: Artifact) -> None:
    if not artifact.report.fits:
        raise typer.Exit(OVER_BUDGET)


def _compile(model: Path, target: str, settings: Settings) -> Artifact:
    with progress() as tell:
        return optimize(model, target, settings, tell)


def _print(artifact: Artifact, as_json: bool) -> None:
    if as_json:
        print_json(artifact.report.as_json())
    else:
        print_report(artifact.report, console())
