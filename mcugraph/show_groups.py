"""Channel groups for the terminal, in 80 columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from textwrap import wrap

from rich.console import Console

from mcugraph.groups import FixedAxis, Group, Groups

WIDTH = 80
NAME = 28
# Names of equal role that are written out.
SHOWN = 3


def print_groups(found: Groups, console: Console) -> None:
    """A line a group with what one channel costs, then what can't be pruned and why."""
    for line in _lines(found):
        console.print(line, highlight=False, markup=False)


def _lines(found: Groups) -> Iterator[str]:
    yield _row("one channel of", "width", "params", "MACs", "flash", "RAM", "at peak")
    for group in found.groups:
        own = group.channel
        figures = (own.parameters, own.macs, own.weights, own.ram, own.at_peak)
        yield _row(_short(group.name), *map(_number, (group.width, *figures)))
        yield from _flow(group)
    whole = (None, found.parameters, found.macs, found.weights, found.ram, None)
    yield _row("the whole network", *map(_number, whole))
    stuck = [axis for axis in found.fixed if axis.role]
    if stuck:
        yield ""
        yield "can't be pruned"
    for axis in stuck:
        yield from _wrapped(f"  {_axis(axis)}: {axis.reason}")
    if found.uncompiled:
        yield ""
        yield "no flash and RAM, as there are steps that can't be compiled"
    for problem in found.uncompiled:
        yield from _wrapped(f"  {problem}")


def _row(name: str, *cells: str) -> str:
    sizes = (6, 9, 12, 9, 8, 8)
    columns = (f"{cell:>{size}}" for cell, size in zip(cells, sizes, strict=True))
    return f"{name:<{NAME}}{''.join(columns)}".rstrip()


def _number(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _flow(group: Group) -> Iterator[str]:
    """Which other weights make the channels, and which read them."""
    also = [name for name in group.producers if name != group.name]
    if also:
        yield from _wrapped(f"  also made by {_some(also)}")
    if group.consumers:
        yield from _wrapped(f"  read by {_some(group.consumers)}")


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _axis(axis: FixedAxis) -> str:
    return f"{axis.name} ({'outputs' if axis.role == 'output' else 'inputs'})"


def _wrapped(text: str) -> list[str]:
    return wrap(text, WIDTH, subsequent_indent="    ", break_on_hyphens=False)


def _short(name: str) -> str:
    """A long name without its middle."""
    if len(name) < NAME:
        return name
    half = (NAME - 3) // 2
    return f"{name[:half]}..{name[-half:]}"
