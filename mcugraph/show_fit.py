"""A training for the terminal: how it learns, and each resource against its limit."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from mcugraph.prune.history import Epoch, Outcome

BAR = 32
UNKNOWN = "-"


class FitDisplay:
    """Shows the present epoch in place; where there is no terminal, prints a line an epoch.

    with FitDisplay(console) as tell: tell(epoch); tell("compiling")
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, transient=True, refresh_per_second=4)
        self._epoch: Epoch | None = None
        self._first: Epoch | None = None

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()

    def __call__(self, news: Epoch | str) -> None:
        """Show an epoch that is done, or the stage that begins."""
        if isinstance(news, Epoch):
            self._epoch = news
            self._first = self._first or news
        if not self._console.is_terminal:
            self._console.print(news if isinstance(news, str) else line_of(news), markup=False)
            return
        parts = [Text(news, style="dim")] if isinstance(news, str) else []
        shown = [] if self._epoch is None else [self._state(self._epoch)]
        self._live.update(Group(*shown, *parts), refresh=True)

    def _state(self, epoch: Epoch) -> Table:
        """A bar for the epochs and for each resource."""
        table = Table.grid(padding=(0, 2))
        count = f"{epoch.number} of {epoch.epochs}"
        table.add_row("epoch", ProgressBar(epoch.epochs, epoch.number, width=BAR), count)
        first = self._first.score if self._first else None
        learned = f"loss {_figure(epoch.loss, 4)}   score {_figure(epoch.score, 2)}"
        table.add_row("", learned, f"unpruned {_figure(first, 2)}")
        for name, limit in epoch.limits.items():
            used = epoch.used[name]
            style = "green" if used <= limit else "red"
            bar = ProgressBar(max(used, limit), used, width=BAR, complete_style=style)
            bar.finished_style = style
            table.add_row(name, bar, f"{used:,.0f} of {limit:,}")
        return table


def line_of(epoch: Epoch) -> str:
    """An epoch on one line."""
    used = "  ".join(
        f"{name} {epoch.used[name]:,.0f}/{limit:,}" for name, limit in epoch.limits.items()
    )
    return (
        f"epoch {epoch.number:>{len(str(epoch.epochs))}}/{epoch.epochs}  "
        f"loss {_figure(epoch.loss, 4)}  score {_figure(epoch.score, 2)}  {used}"
    )


def print_outcome(outcome: Outcome, console: Console) -> None:
    """The verdict, each resource before and after, the scores, and where everything is."""
    fits, agrees = outcome.met, outcome.verified
    verdict = "WITHIN the budget" if fits else "OVER the budget"
    verdict += ", the C agrees with onnxruntime" if agrees else ", the C DIFFERS from onnxruntime"
    style = "bold green" if fits and agrees else "bold red"
    console.print(f"{verdict}; {outcome.target}", style=style)
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("measured on the C")
    for title in ("limit", "used", "of it", "unpruned"):
        table.add_column(title, justify="right")
    for name, limit in outcome.limits.items():
        used, before = outcome.used[name], outcome.before[name]
        cells = (f"{limit:,}", f"{used:,.0f}", f"{used / limit:.0%}", f"{before:,.0f}")
        table.add_row(name, *cells, style=None if used <= limit else "red")
    console.print(table)
    console.print(_scores(outcome.scores))
    if outcome.left is not None:
        console.print(f"exit      {outcome.left:.1f}% of the samples leave early")
    for name, file in outcome.files.items():
        console.print(f"{name:<9} {outcome.folder}/{file}", markup=False)


def _scores(scores: Mapping[str, float | None]) -> str:
    return "score     " + ", ".join(f"{form} {_figure(s, 2)}" for form, s in scores.items())


def _figure(value: float | None, digits: int) -> str:
    return UNKNOWN if value is None else f"{value:.{digits}f}"
