"""A sweep for the terminal: its Pareto front, and on demand every trial."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mcugraph.prune.exploration import PICTURE, RECORD, Exploration, Trial

INT8 = ".int8.onnx"
TITLES = {"ram": "RAM B", "flash": "flash B", "cycles": "cycles", "macs": "MACs"}


@contextmanager
def sweep_display(console: Console) -> Iterator[Callable[[str | Trial], None]]:
    """Show what is trained at present, and print a line for each trial that is done.

    with sweep_display(console) as tell: tell("trial 2 of 20"); tell(trial)
    """
    with console.status("exploring") as status:

        def tell(news: str | Trial) -> None:
            if isinstance(news, Trial):
                console.print(line_of(news), markup=False, highlight=False, soft_wrap=True)
            else:
                status.update(escape(news))

        yield tell


def line_of(trial: Trial) -> str:
    """A trial on one line."""
    if trial.used is None:
        first = (trial.problem or "").splitlines()[0]
        return f"{trial.number:>3}  {trial.name}: no network, {first}"
    figures = "  ".join(f"{name} {value:,}" for name, value in trial.used.items())
    return f"{trial.number:>3}  {trial.name}: score {trial.score or 0.0:.2f}  {figures}"


def print_exploration(found: Exploration, console: Console, every: bool = False) -> None:
    """The trials that no other one beats, the best score first; with `every`, all in order."""
    trials = found.trials if every else found.front
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in ("", "cut after", "budget", "int8"):
        table.add_column(title, overflow="fold")
    for title in ("score", *(TITLES[name] for name in found.figures)):
        table.add_column(title, justify="right", no_wrap=True)
    for trial in trials:
        table.add_row(*_cells(trial, found))
    console.print(table)
    impossible = [trial for trial in found.trials if trial.problem is not None]
    counts = f"{len(found.front)} of {len(found.trials)} trials are on the front"
    failed = f"; {len(impossible)} gave no network" if impossible else ""
    console.print(f"{counts}, for {found.target}{failed}", markup=False, highlight=False)
    for trial in impossible:
        first = (trial.problem or "").splitlines()[0]
        console.print(f"{trial.number}: {first}", markup=False, highlight=False)
    if found.folder:
        for line in _files(found):
            console.print(line, markup=False, highlight=False)


def _files(found: Exploration) -> list[str]:
    """Where everything is."""
    best = found.front[0].files if found.front else ()
    models = [Path(found.folder, name) for name in best if name.endswith(INT8)]
    # What other machines trained is there.
    here = [f"best score {model}" for model in models if model.exists()]
    return [f"picture    {found.folder}/{PICTURE}", f"figures    {found.folder}/{RECORD}", *here]


def _cells(trial: Trial, found: Exploration) -> list[str]:
    mark = "*" if trial.front else ""
    cells = [f"{trial.number}{mark}", trial.cut or "-", trial.budget or "-", trial.quantised]
    if trial.used is None:
        return [*cells, *("-" for _ in ("score", *found.figures))]
    figures = [f"{trial.used[name]:,}" for name in found.figures]
    return [*cells, f"{trial.score or 0.0:.2f}", *figures]
