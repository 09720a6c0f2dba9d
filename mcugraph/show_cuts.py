"""The places to cut a network, for the terminal, in 80 columns."""

from __future__ import annotations

from collections.abc import Iterator
from textwrap import wrap

from rich.console import Console

from mcugraph.cuts import CutCost, Cuts

WIDTH = 80
LONGEST_NAME = 17
WHOLE = "uncut"


def print_cuts(found: Cuts, console: Console) -> None:
    """A row a cut, from front to back, and the whole network; the Pareto front is marked."""
    for line in _lines(found):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _lines(found: Cuts) -> Iterator[str]:
    if not found.cuts:
        yield from wrap(
            f"no cut: no tensor through which everything flows takes the head {found.head}. Behind "
            "dense layers, take the head gap or dense16; where channels come last, rewrite the "
            "model with mcugraph.passes.eliminate_transposes first",
            WIDTH,
        )
        return
    timed = found.whole.cycles is not None
    titles = ["parameters", "flash B", "MACs", "RAM B", "cycles" if timed else "", "crossing B"]
    yield _row(f"{'cut after':<{LONGEST_NAME + 2}}", titles)
    for cut in found.cuts:
        mark = "*" if cut.pareto else " "
        yield _row(f"{mark} {_short(cut.tensor):<{LONGEST_NAME}}", _figures(cut))
    yield _row(f"  {WHOLE:<{LONGEST_NAME}}", [*_figures(found.whole)[:-1], ""])
    yield ""
    yield from wrap(_legend(found), WIDTH)


def _figures(cut: CutCost) -> list[str]:
    values = (cut.parameters, cut.flash, cut.macs, cut.ram, cut.cycles, cut.crossing_bytes)
    return ["" if value is None else f"{value:,}" for value in values]


def _row(title: str, cells: list[str]) -> str:
    widths = (11, 8, 11, 8, 12, 11)
    kept = [f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True)]
    return (title + "".join(kept)).rstrip()


def _legend(found: Cuts) -> str:
    where = f"measured on {found.target}" if found.whole.cycles else "planned; flash without code"
    return (
        f"* no deeper cut costs as little in every figure. With head {found.head} of "
        f"{found.classes} classes, {where}. Crossing: what a split there would send."
    )


def _short(name: str) -> str:
    """A long name without its middle."""
    if len(name) <= LONGEST_NAME:
        return name
    half = (LONGEST_NAME - 2) // 2
    return f"{name[:half]}..{name[-half:]}"
