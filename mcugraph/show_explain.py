"""An explanation for the terminal, in 80 columns."""

from __future__ import annotations

from collections.abc import Iterator
from textwrap import wrap

from rich.console import Console

from mcugraph.explain import Explanation, Technique
from mcugraph.peak import Part, Peak

WIDTH = 80
LONGEST_NAME = 34
# What is smaller than this share of the peak is shown as a sum.
SMALL = 0.01
TITLES = {
    "file order": "layer by layer, in file order",
    "best order": "in the best order",
    "overlap": "outputs over spent inputs",
    "streaming": "fused, row by row",
    "pushed input": "input pushed row by row",
}


def print_explanation(found: Explanation, console: Console) -> None:
    """The verdict, what each technique brought, the peak, and what would lower it."""
    style = "bold green" if found.fits else "bold red"
    for line in wrap(found.verdict, WIDTH):
        console.print(line, style=style)
    for line in _lines(found):
        console.print(line)


def _lines(found: Explanation) -> Iterator[str]:
    yield ""
    yield f"{'arena, bytes':<32}{'planned':>12}{'at least':>12}{'change':>10}"
    yield from _techniques(found)
    yield ""
    yield from _peak(found.peak, found.arena)
    yield ""
    yield "what would lower it"
    for hint in found.next:
        gain = "" if hint.arena is None else f" -> arena {hint.arena:,}"
        yield from _wrapped(hint.what + gain, "  * ", "    ")


def _wrapped(text: str, first: str = "", then: str = "    ") -> list[str]:
    return wrap(text, WIDTH, initial_indent=first, subsequent_indent=then, break_on_hyphens=False)


def _techniques(found: Explanation) -> Iterator[str]:
    last: Technique | None = None
    own = "pushed input" if found.pushed else "streaming"
    for each in found.techniques:
        change = "" if last is None else _change(last.arena, each.arena)
        mark = "  <- this plan" if each.name == own else ""
        title = f"  {TITLES[each.name]}"
        yield f"{title:<32}{each.arena:>12,}{each.lower_bound:>12,}{change:>10}{mark}".rstrip()
        last = each


def _change(before: int, after: int) -> str:
    return "-" if before == after else f"{100 * (after - before) / before:+.1f}%"


def _peak(peak: Peak, arena: int) -> Iterator[str]:
    moment, count = peak.moment, len(peak.steps)
    steps = f" ({count} steps)" if count > 1 else ""
    yield from _wrapped(f"the peak: {peak.section}{steps}")
    if moment is not None:
        what = f"{moment.step} is computed" if moment.step else "the input comes in"
        yield from _wrapped(f"when row {moment.row} of {moment.rows} of {what}", "  ")
    yield from _parts(peak)
    if peak.overlap:
        yield _row("where an output overwrites inputs", "", "", f"-{peak.overlap:,}")
    yield _row("together", "", "", f"{peak.bytes:,}")
    if arena > peak.bytes:
        yield _row("rounding and gaps of placement", "", "", f"{arena - peak.bytes:,}")
    later = sum(not part.live for part in peak.buffers)
    if later:
        yield f"  not needed at that moment: {later} more buffer{'' if later == 1 else 's'}"


def _parts(peak: Peak) -> Iterator[str]:
    alive = [part for part in peak.buffers if part.live]
    small = [part for part in alive if part.live < SMALL * peak.bytes]
    if len(small) < 2:
        small = []
    for part in alive[: len(alive) - len(small)]:
        yield _row(_short(part.name), part.kind, _form(part), f"{part.live:,}")
    if small:
        total = sum(part.live for part in small)
        yield _row(f"{len(small)} smaller ones", "", "", f"{total:,}")


def _row(name: str, kind: str, form: str, size: str) -> str:
    return f"  {name:<{LONGEST_NAME}} {kind:<9}{form:<20}{size:>12}"


def _form(part: Part) -> str:
    """The rows of a ring; the shape of a tensor, or how much of it is still needed."""
    if part.kind == "ring":
        return f"{part.rows} row{'' if part.rows == 1 else 's'} of {part.row_bytes:,}"
    if part.live < part.bytes:
        return f"of {part.bytes:,}"
    return "" if part.shape is None else "x".join(map(str, part.shape))


def _short(name: str) -> str:
    """A long name without its middle."""
    if len(name) <= LONGEST_NAME:
        return name
    half = (LONGEST_NAME - 2) // 2
    return f"{name[:half]}..{name[-half:]}"
