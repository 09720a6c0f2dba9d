"""The tables of pruning to a share of the MACs, and of what pruning adds to an epoch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

RESULTS = Path(__file__).parent / "results" / "prune_budget.json"
OVERHEAD = RESULTS.parent / "prune_overhead.json"
# What epochs without a pruner are filed under.
PLAIN = "plain"


def results() -> dict[str, Any]:
    """The figures so far, by network, share, variant and seed."""
    return json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}


def table() -> str:
    """Accuracy by network, share and variant: mean and spread over the seeds."""
    lines = [
        "| network | limit | variant | MACs left | accuracy | spread | seeds | CPU s |",
        "| --- | --: | --- | --: | --: | --: | --: | --: |",
    ]
    for name, shares in results().items():
        for share, variants in sorted(shares.items(), reverse=True):
            for variant, seeds in variants.items():
                runs = list(seeds.values())
                scores = [each["accuracy"] for each in runs]
                spread = f"±{stdev(scores):.1f}" if len(scores) > 1 else "-"
                cells = (
                    f"{name} | {float(share):.1%} | {variant} | "
                    f"{mean(each['share'] for each in runs):.1%} | {mean(scores):.1f}% | "
                    f"{spread} | {len(runs)} | {mean(each['seconds'] for each in runs):.0f}"
                )
                lines.append(f"| {cells} |")
    return "\n".join(lines)


def overhead() -> dict[str, Any]:
    """CPU seconds of epochs so far, by network and repetition."""
    return json.loads(OVERHEAD.read_text(encoding="utf-8")) if OVERHEAD.exists() else {}


def overhead_table() -> str:
    """Epochs with a pruner in units of plain ones: mean and range over the repetitions."""
    lines = [
        "| network | half of its | plain epoch, s | whole run | while pruning | afterwards |"
        " set-up, s |",
        "| --- | --- | --: | --: | --: | --: | --: |",
    ]
    for name, repetitions in overhead().items():
        runs = [each["epochs"] for each in repetitions.values()]
        plain = mean(mean(each[PLAIN]) for each in runs)
        for budget in (each for each in runs[0] if each != PLAIN):
            half = len(runs[0][PLAIN]) // 2
            parts = (slice(None), slice(half), slice(half, None))
            ratios = [_ratio(runs, budget, part) for part in parts]
            setup = mean(each["setup"][budget] for each in repetitions.values())
            cells = [name, budget, f"{plain:.2f}", *ratios, f"{setup:.1f}"]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _ratio(runs: Sequence[Mapping[str, Sequence[float]]], budget: str, part: slice) -> str:
    found = [sum(each[budget][part]) / sum(each[PLAIN][part]) for each in runs]
    return f"{mean(found):.2f} ({min(found):.2f} to {max(found):.2f})"
