"""A sweep for the terminal: its Pareto front, and on demand every trial."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from mcugraph.prune.exploration import Exploration, Trial

TITLES = {"ram": "RAM B", "flash": "flash B", "cycles": "cycles", "macs": "MACs"}


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


def _cells(trial: Trial, found: Exploration) -> list[str]:
    mark = "*" if trial.front else ""
    cells = [f"{trial.number}{mark}", trial.cut or "-", trial.budget or "-", trial.quantised]
    if trial.used is None:
        return [*cells, *("-" for _ in ("score", *found.figures))]
    figures = [f"{trial.used[name]:,}" for name in found.figures]
    return [*cells, f"{trial.score or 0.0:.2f}", *figures]
