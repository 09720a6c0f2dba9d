"""The table of pruning to a share of the MACs, from its results."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import mean, stdev
from typing import Any

RESULTS = Path(__file__).parent / "results" / "prune_budget.json"


def results() -> dict[str, Any]:
    """The figures so far, by network, share, variant and seed."""
    return json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}


def table() -> str:
    """Accuracy by network, share and variant: mean and spread over the seeds."""
    lines = [
        "| network | MACs left | variant | accuracy | spread | CPU s |",
        "| --- | --: | --- | --: | --: | --: |",
    ]
    for name, shares in results().items():
        for share, variants in shares.items():
            for variant, seeds in variants.items():
                runs = list(seeds.values())
                scores = [each["accuracy"] for each in runs]
                spread = f"±{stdev(scores):.1f}" if len(scores) > 1 else "-"
                cells = (
                    f"{name} | {float(share):.0%} | {variant} | {mean(scores):.1f}% | {spread} | "
                    f"{mean(each['seconds'] for each in runs):.0f}"
                )
                lines.append(f"| {cells} |")
    return "\n".join(lines)
