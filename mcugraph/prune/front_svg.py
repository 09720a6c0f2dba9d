"""The Pareto fronts of a sweep as one SVG: the score against each figure, side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import ceil, floor, log10
from xml.sax.saxutils import escape

from mcugraph.prune.exploration import Exploration, Trial, best_of

TITLES = {"ram": "RAM", "flash": "flash", "cycles": "cycles", "macs": "MACs"}
SCALES = ((1e9, "G"), (1e6, "M"), (1e3, "K"), (1, ""))
PANEL, HEIGHT, WIDE, HIGH = 330, 300, 250, 200
LEFT, TOP = 56, 40
# A text and a line colour for white and for dark pages; the accent is readable on both.
STYLE = """
text { font: 12px system-ui, sans-serif; fill: #1f2328 }
.title { font-weight: 600 }
.grid { stroke: #1f2328; stroke-opacity: .12 }
.axis { stroke: #1f2328; stroke-opacity: .5 }
.front { fill: none; stroke: #2f81f7; stroke-width: 1.5 }
.best { fill: #2f81f7 }
.other { fill: #8b949e; fill-opacity: .6 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 }
  .grid, .axis { stroke: #e6edf3 }
}
""".strip()


def front_svg(found: Exploration) -> str:
    """A panel a figure; points on its front are joined and have the number of their trial."""
    trials = [trial for trial in found.trials if trial.used is not None]
    width = PANEL * len(found.figures)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {HEIGHT}" '
        f'width="{width}" height="{HEIGHT}" role="img">',
        f"<title>Score against {escape(', '.join(found.figures))} on {escape(found.target)}</title>",
        f"<style>{STYLE}</style>",
    ]
    for place, figure in enumerate(found.figures):
        parts.append(f'<g transform="translate({place * PANEL + LEFT} {TOP})">')
        parts += _panel(trials, figure)
        parts.append("</g>")
    return "\n".join([*parts, "</svg>", ""])


def _panel(trials: Sequence[Trial], figure: str) -> Iterator[str]:
    points = [(_figure(trial, figure), trial.score or 0.0) for trial in trials]
    across = ticks([x for x, _ in points] or [1.0])
    up = ticks([y for _, y in points] or [100.0])
    unit, letter = next((s for s in SCALES if across[-1] >= s[0]), SCALES[-1])
    bytes_ = "B" if figure in ("ram", "flash") else ""
    named = f" ({letter}{bytes_})" if letter + bytes_ else ""
    yield f'<text class="title" y="-16">score, by {TITLES[figure]}{named}</text>'
    for value in up:
        y = _place(value, up, HIGH, 0)
        yield f'<line class="grid" x2="{WIDE}" y1="{y}" y2="{y}"/>'
        yield f'<text x="-8" y="{y + 4}" text-anchor="end">{value:g}</text>'
    for value in across:
        x = _place(value, across, 0, WIDE)
        yield f'<line class="axis" x1="{x}" x2="{x}" y1="{HIGH}" y2="{HIGH + 5}"/>'
        yield f'<text x="{x}" y="{HIGH + 20}" text-anchor="middle">{value / unit:g}</text>'
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
        told = escape(f"{trial.number}: {trial.name}, score {trial.score:.2f}")
        yield f'<circle class="{kind}" cx="{x}" cy="{y}" r="{radius}"><title>{told}</title></circle>'
    taken: list[tuple[float, float]] = []
    for trial in front:
        x, y = places[trial.number]
        # A label that would cover the one before it stands below its point.
        low = any(abs(x - a) < 18 and abs(y - 8 - b) < 12 for a, b in taken)
        taken.append((x, y + 18 if low else y - 8))
        yield f'<text x="{x}" y="{taken[-1][1]}" text-anchor="middle">{trial.number}</text>'


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
