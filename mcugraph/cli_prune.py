"""The commands of pruning: groups, cuts, prune, split, fit, explore."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Annotated

import onnx
import typer
from rich.console import Console

from mcugraph.artifact import expect_file, make_folder, write_all, write_models
from mcugraph.cost import Cost, cost_of
from mcugraph.cuts import expect_figures, find_cuts
from mcugraph.decision import Decision
from mcugraph.errors import UnsupportedError
from mcugraph.groups import find_groups
from mcugraph.optimize import Settings, foldable, loaded
from mcugraph.options import (
    OVER_BUDGET,
    WRONG,
    Dims,
    Json,
    Model,
    Out,
    console,
    dims_of,
    print_json,
    progress,
    relative,
)
from mcugraph.passes import split_model
from mcugraph.passes.cluster_weights import clusterable
from mcugraph.prune.complexity import plan_by_complexity
from mcugraph.ranks import choose_ranks
from mcugraph.show_cuts import print_cuts
from mcugraph.show_explore import print_exploration, sweep_display
from mcugraph.show_fit import FitDisplay, print_outcome
from mcugraph.show_groups import print_groups

app = typer.Typer()

OptionalTarget = Annotated[
    str | None, typer.Option("--target", "-t", help="A target's name, or the path of a TOML file.")
]
Written = Annotated[Path, typer.Option("--out", "-o", help="The ONNX file to write.")]
Deciding = Annotated[
    Path | None, typer.Option("--decision", help="What stays, where to cut, which head.")
]
By = Annotated[
    str | None, typer.Option(help="Remove channels by params, flops or memory, untrained.")
]
Ranks = Annotated[str | None, typer.Option(help="Factorise layers to save macs, flash or params.")]
Codebook = Annotated[
    int | None, typer.Option(help="Give every layer so few weight values: 2 to 16.")
]
PLANNED_FOR = "cortex-m0"


@app.command()
def groups(
    model: Model, target: OptionalTarget = None, dim: Dims = None, as_json: Json = False
) -> None:
    """List which channels can be removed together, what one costs, and what must stay."""
    with progress("finding channels") as tell:
        found = find_groups(_own(model, dim), target, progress=tell)
    if as_json:
        print_json(found.as_json())
    else:
        print_groups(found, console())


@app.command()
def cuts(
    model: Model,
    classes: Annotated[int, typer.Option(min=1, help="Classes of the new head.")],
    head: Annotated[str, typer.Option(help="dscnn32_16, dense64, conv11, gap, ...")] = "dscnn32_16",
    target: OptionalTarget = None,
    by: Annotated[
        str | None, typer.Option(help="Figures that mark the front, such as macs,ram.")
    ] = None,
    dim: Dims = None,
    as_json: Json = False,
) -> None:
    """List every place to end the network early, with what it costs before any training."""
    figures = [figure.strip() for figure in by.split(",")] if by is not None else []
    if figures:
        expect_figures(figures)
    with progress("finding cuts") as tell:
        own = _own(model, dim)
        found = find_cuts(own, classes, head, target, tell)
    if figures:
        found = found.marked(figures)
    if as_json:
        print_json(found.as_json())
    else:
        print_cuts(found, console())


@app.command()
def prune(
    model: Model,
    out: Written,
    decision: Deciding = None,
    by: By = None,
    ranks: Ranks = None,
    codebook: Codebook = None,
    keep: Annotated[
        float, typer.Option(help="What --by or --ranks leaves: a share up to 1, or a number.")
    ] = 0.5,
    mode: Annotated[str, typer.Option(help="--by: random, greedy or uniform.")] = "random",
    seed: Annotated[int, typer.Option(min=0, help="--by: the seed of the draw.")] = 0,
    save: Annotated[
        Path | None, typer.Option(help="Write the decision that was made to this file.")
    ] = None,
    dim: Dims = None,
) -> None:
    """Apply a decision to a model, trained weights and all; or make one before training."""
    asked = {"--decision": decision, "--by": by, "--ranks": ranks, "--codebook": codebook}
    given = [option for option, value in asked.items() if value is not None]
    if len(given) != 1:
        raise ValueError(f"write one of {', '.join(asked)}; given: {', '.join(given) or 'none'}")
    _expect_apart(
        [path for path in (out, save) if path], [path for path in (model, decision) if path]
    )
    own = _own(model, dim)
    with progress("deciding"):
        if decision is not None:
            chosen = Decision.load(decision)
        elif by is not None:
            chosen = plan_by_complexity(own, by, keep, seed=seed, mode=mode)
        elif ranks is not None:
            chosen = Decision(ranks=choose_ranks(own, ranks, keep))
        else:
            chosen = Decision(codebooks=dict.fromkeys(clusterable(own), codebook or 0))
        pruned = chosen.apply(own)
        lines = _compared(own, pruned)
    files = {out: pruned.SerializeToString(deterministic=True)}
    write_all(files if save is None else files | {save: chosen.dumps().encode()})
    for line in [*lines, f"wrote {relative(out)}"]:
        console().print(line)


@app.command()
def split(
    model: Model,
    at: Annotated[str, typer.Option(help="The tensor that crosses; `cuts` lists them.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder for head.onnx, tail.onnx.")],
    dim: Dims = None,
) -> None:
    """Split a model in two at a tensor: the head for the device, the tail for elsewhere."""
    own = _own(model, dim)
    head, tail = split_model(own, at)
    make_folder(out)
    files = {out / "head.onnx": head, out / "tail.onnx": tail}
    _expect_apart(list(files), [model])
    write_models(files)
    console().print(f"wrote {' and '.join(str(relative(path)) for path in files)}")


@app.command()
def fit(
    recipe: Annotated[Path, typer.Argument(help="A Python file with a function recipe().")],
    budget: Annotated[str, typer.Option(help="Limits such as ram=12KB,flash=64KB,macs=3M.")],
    target: OptionalTarget = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Overrule the recipe's.")] = None,
    out: Out = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on after a kill.")] = False,
    as_json: Json = False,
) -> None:
    """Train a network until its C keeps a budget: pruned, quantised, compiled and verified."""
    own = _trainer("recipe")
    with FitDisplay(Console(stderr=True)) as tell:
        outcome = own.run_recipe(recipe, own.Wish(budget, target, epochs, out, resume), tell)
    if outcome is None:
        return
    if as_json:
        print_json(outcome.as_json())
    else:
        print_outcome(outcome, console())
    if not outcome.met:
        raise typer.Exit(OVER_BUDGET)
    if not outcome.verified:
        raise typer.Exit(WRONG)


@app.command()
def explore(
    recipe: Annotated[Path, typer.Argument(help="A Python file with a function recipe().")],
    trials: Annotated[int, typer.Option(min=1, help="How many networks are tried.")] = 20,
    budgets: Annotated[
        str, typer.Option(help="Ranges, in shares of what the whole network takes.")
    ] = "macs=0.2..1",
    cuts: Annotated[str, typer.Option(help="front, none, or tensors with commas.")] = "front",
    head: Annotated[str, typer.Option(help="The head behind a cut.")] = "dscnn32_16",
    quantised: Annotated[str, typer.Option(help="static, trained, or both.")] = "static",
    target: OptionalTarget = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Overrule the recipe's.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The folder; default build/NAME_sweep.")
    ] = None,
    storage: Annotated[
        str | None, typer.Option(help="An Optuna URL that several machines share.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The seed of the search.")] = 0,
    every: Annotated[bool, typer.Option("--all", help="Print every trial, not the front.")] = False,
    as_json: Json = False,
) -> None:
    """Sweep budgets, cuts and quantisation: accuracy against RAM, flash and cycles."""
    own = _trainer("explore")
    sweep = _trainer("sweep").Sweep(
        *(trials, budgets, cuts, head, quantised, target, epochs, out, storage, seed)
    )
    with sweep_display(Console(stderr=True)) as tell:
        found = own.explore_recipe(recipe, sweep, tell)
    if as_json:
        print_json(found.as_json())
    else:
        print_exploration(found, console(), every)


def _trainer(name: str) -> ModuleType:
    """A module that needs torch, which takes seconds to load and may not be installed."""
    try:
        return import_module(f"mcugraph.prune.{name}")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("mcugraph"):
            raise
        raise ValueError(
            f"this needs {error.name}, which is not installed: pip install 'mcugraph[prune]'"
        ) from None


def _expect_apart(written: list[Path], read: list[Path]) -> None:
    """ValueError where a file can't be written, or would take the place of another one."""
    taken = {path.resolve() for path in read}
    for path in written:
        expect_file(path)
        if path.resolve() in taken:
            raise ValueError(f"cannot write {path}: it is read, or written, as another file")
        taken.add(path.resolve())


def _own(model: Path, dim: list[str] | None) -> onnx.ModelProto:
    return foldable(loaded(model, Settings(dims=dims_of(dim))))


def _compared(before: onnx.ModelProto, after: onnx.ModelProto) -> list[str]:
    """What pruning changed, in figures that need no training."""
    try:
        old, new = cost_of(before, PLANNED_FOR), cost_of(after, PLANNED_FOR)
    except UnsupportedError as error:
        return [f"not compiled yet: {problem}" for problem in error.problems]
    rows = {"parameters": "parameters", "MACs": "macs", "weights B": "weights", "arena B": "ram"}
    return [_row(title, old, new, field) for title, field in rows.items()]


def _row(title: str, old: Cost, new: Cost, field: str) -> str:
    before, after = getattr(old, field), getattr(new, field)
    share = f" ({after / before:.1%})" if before else ""
    return f"{title:<10} {before:>12,} -> {after:,}{share}"
