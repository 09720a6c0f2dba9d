"""The tables of networks that end early and of early exits, from their results."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from statistics import mean
from typing import Any

RESULTS = Path(__file__).parent / "results" / "prune_depth.json"
EXITS = RESULTS.with_name("prune_exit.json")
HEADER = ("network", "training", "accuracy", "spread", "to the base", "CPU s")
SIZES = {"params": "parameters", "macs": "MACs", "flash": "flash B", "ram": "RAM B"}

Record = dict[str, Any]


def results() -> Record:
    """The figures so far, by network, variant and seed."""
    found: Record = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    return found


def table() -> str:
    """A row for each base, and for each variant: the mean over its seeds, and what it costs."""
    titles = (*HEADER, *SIZES.values())
    rule = ["---", "---"] + ["--:"] * (len(titles) - 2)
    rows = [row for found in results().values() for row in _rows(found)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (titles, rule, *rows))


def _rows(found: Record) -> Iterator[list[str]]:
    title = f"{found['title']} ({found['head']})"
    yield [title, "the base", f"{found['base']:.1f}", "-", "-", "-", *_sizes(found["uncut"])]
    for variant, seeds in found["runs"].items():
        runs = list(seeds.values())
        scores = [run["accuracy"] for run in runs]
        kind = "uncut" if "uncut" in variant else "cut"
        yield [
            title,
            variant,
            f"{mean(scores):.1f}",
            f"{min(scores):.1f} to {max(scores):.1f}",
            f"{mean(scores) - found['base']:+.1f}",
            f"{mean(run['cpu_seconds'] for run in runs):.0f}",
            *_sizes(runs[0] if "macs" in runs[0] else found[kind]),
        ]


def _sizes(found: Record) -> list[str]:
    return [f"{found[name]:,}" for name in SIZES]


def exit_results() -> Record:
    """The figures of the early exit so far, by seed."""
    found: Record = json.loads(EXITS.read_text(encoding="utf-8")) if EXITS.exists() else {}
    return found


def exits() -> str:
    """A row for each threshold, and one for the C: means over the seeds."""
    columns = ("threshold", "leave early", "accuracy", "of those that leave", "mean MACs")
    titles = ("form", *columns, "flash B", "RAM B")
    rule = ["---"] + ["--:"] * (len(titles) - 1)
    runs = list(exit_results().values())
    rows = [
        _exit("float", list(each)) for each in zip(*(run["float"] for run in runs), strict=True)
    ]
    rows += [_exit("int8, the C", [run["c"] for run in runs])] if runs else []
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (titles, rule, *rows))


def _exit(form: str, found: list[Record]) -> list[str]:
    early = [run["early"] for run in found if run.get("early") is not None]
    return [
        form,
        f"{found[0]['threshold']:g}",
        f"{mean(run['share'] for run in found):.0f}%",
        f"{mean(run['score'] for run in found):.1f}%",
        f"{mean(early):.1f}%" if early else "-",
        f"{mean(run['macs'] for run in found):,.0f}",
        *(f"{found[0][name]:,}" if name in found[0] else "-" for name in ("flash", "ram")),
    ]
