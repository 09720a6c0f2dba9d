"""The Pareto fronts of a sweep as one SVG: the score against each figure, side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import ceil, floor, log10
from xml.sax.saxutils import escape

from mcugraph.prune.exploration import Exploration, Trial, best_of

TITLES = {"ram": "RAM", "flash": "flash", "cycles": "cycles", "macs": "multiply-accumulates"}
# Bytes count in units of 1024, as budgets do.
BYTES = ((1024**2, "MB"), (1024, "KB"), (1, "bytes"))
COUNTS = ((1e9, "billions"), (1e6, "millions"), (1e3, "thousands"), (1, ""))
PANEL, HEIGHT, WIDE, HIGH, LEFT, TOP = 330, 290, 250, 200, 56, 36
# A text and a line colour for white and for dark pages; the accent is readable on both.
STYLE = """
text { font: 12px system-ui, sans-serif; fill: #1f2328 }
.title { font-weight: 600 }
.grid, .axis { stroke: #1f2328; stroke-opacity: .5 }
.grid { stroke-opacity: .12 }
.front { fill: none; stroke: #2f81f7; stroke-width: 1.5 }
.best { fill: #2f81f7 }
.other { fill: #8b949e; fill-opacity: .6 }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .grid, .axis { stroke: #e6edf3 } }
""".strip()


def front_svg(found: Exploration) -> str:
    """A panel a figure; points on its front are joined and have the number of their trial."""
    trials = [trial for trial in found.trials if trial.used is not None]
    width, names = PANEL * len(found.figures), ", ".join(found.figures)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {HEIGHT}" '
        f'width="{width}" height="{HEIGHT}" role="img">',
        f"<title>{escape(f'Score against {names} on {found.target}')}</title>",
        f"<style>{STYLE}</style>",
    ]
    if any(trial.cut for trial in trials):
        parts += _legend(width)
    for place, figure in enumerate(found.figures):
        parts.append(f'<g transform="translate({place * PANEL + LEFT} {TOP})">')
        parts += _panel(trials, figure)
        parts.append("</g>")
    return "\n".join([*parts, "</svg>", ""])


def _panel(trials: Sequence[Trial], figure: str) -> Iterator[str]:
    scales = BYTES if figure in ("ram", "flash") else COUNTS
    most = max((_figure(trial, figure) for trial in trials), default=0.0)
    unit, named = next((scale for scale in scales if most >= 2 * scale[0]), scales[-1])
    points = [(_figure(trial, figure) / unit, trial.score or 0.0) for trial in trials]
    across = ticks([x for x, _ in points] or [1.0])
    up = ticks([y for _, y in points] or [100.0])
    title = f"{TITLES[figure]} in {named}" if named else TITLES[figure]
    yield '<text class="title" x="-8" y="-16" text-anchor="end">score</text>'
    yield f'<text class="title" x="{WIDE / 2}" y="{HIGH + 42}" text-anchor="middle">{title}</text>'
    for value in up:
        y = _place(value, up, HIGH, 0)
        yield f'<line class="grid" x2="{WIDE}" y1="{y}" y2="{y}"/>'
        yield f'<text x="-8" y="{y + 4}" text-anchor="end">{value:,g}</text>'
    for value in across:
        x = _place(value, across, 0, WIDE)
        yield f'<line class="axis" x1="{x}" x2="{x}" y1="{HIGH}" y2="{HIGH + 5}"/>'
        yield f'<text x="{x}" y="{HIGH + 20}" text-anchor="middle">{value:,g}</text>'
    yield f'<line class="axis" x2="{WIDE}" y1="{HIGH}" y2="{HIGH}"/>'
    front = sorted(best_of(trials, (figure,)), key=lambda trial: _figure(trial, figure))
    places = {
        trial.number: (_place(x, across, 0, WIDE), _place(y, up, HIGH, 0))
        for trial, (x, y) in zip(trials, points, strict=True)
    }
    yield f'<path class="front" d="{_stairs([places[trial.number] for trial in front])}"/>'
    yield from _dots(trials, front, places)


def _dots(
    trials: Sequence[Trial], front: Sequence[Trial], places: dict[int, tuple[float, float]]
) -> Iterator[str]:
    best = {trial.number for trial in front}
    for trial in sorted(trials, key=lambda trial: trial.number in best):
        x, y = places[trial.number]
        kind, radius = ("best", 4) if trial.number in best else ("other", 3)
        told = f"<title>{escape(f'{trial.number}: {trial.name}, score {trial.score:.2f}')}</title>"
        yield _dot(bool(trial.cut), f'class="{kind}"', (x, y), radius, told)
    taken: list[tuple[float, float]] = []
    for trial in front:
        x, y = places[trial.number]
        # The line comes from below and leaves to the right: labels stand on its other side, but
        # for one that would cover the one before it.
        low = any(abs(x - a) < 18 and abs(y - b) < 14 for a, b in taken)
        taken.append((x, y))
        at = f'x="{x + 7}" y="{y + 16}"' if low else f'x="{x - 6}" y="{y - 6}" text-anchor="end"'
        yield f"<text {at}>{trial.number}</text>"


def _dot(cut: bool, kind: str, at: tuple[float, float], radius: int, told: str = "") -> str:
    """A circle for a whole network, a square for one that is cut."""
    x, y = at
    if not cut:
        return f'<circle {kind} cx="{x}" cy="{y}" r="{radius}">{told}</circle>'
    corner = f'x="{x - radius:g}" y="{y - radius:g}"'
    return f'<rect {kind} {corner} width="{2 * radius}" height="{2 * radius}">{told}</rect>'


def _legend(right: int) -> Iterator[str]:
    """What circles and squares are."""
    for place, text, cut in (
        (right - 190, "whole", False),
        (right - 110, "cut, with a head", True),
    ):
        yield _dot(cut, 'class="best"', (place, 16), 4)
        yield f'<text x="{place + 10}" y="20">{text}</text>'


def _stairs(points: Sequence[tuple[float, float]]) -> str:
    """What the best score is for at most so much: level until the next point."""
    if not points:
        return ""
    x, y = points[0]
    steps = [f"M{x} {y}", *(f"H{x} V{y}" for x, y in points[1:]), f"H{WIDE}"]
    return " ".join(steps)


def _figure(trial: Trial, figure: str) -> float:
    assert trial.used is not None, f"trial {trial.number} has no result"
    return float(trial.used[figure])


def _place(value: float, scale: Sequence[float], low: float, high: float) -> float:
    share = (value - scale[0]) / (scale[-1] - scale[0])
    return round(low + share * (high - low), 1)


def ticks(values: Sequence[float]) -> list[float]:
    """Round numbers, evenly spaced, from below the least value to above the greatest."""
    low, high = min(values), max(values)
    span = (high - low) or abs(high) or 1.0
    power = 10.0 ** floor(log10(span / 4))
    step = next(n * power for n in (1, 2, 5, 10) if n * power >= span / 4)
    first, last = floor(low / step), max(ceil(high / step), floor(low / step) + 1)
    return [round(number * step, 9) for number in range(first, last + 1)]
