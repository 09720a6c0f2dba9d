"""The tables of training to budgets of the emitted C, from their results."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import mean, stdev
from typing import Any

# The variant that is beyond the limit.
WHOLE = "not pruned"
FOLDER = Path(__file__).parent / "results"
POINTS, RAM = FOLDER / "prune_points.json", FOLDER / "prune_ram.json"
# The ways to int8 whose C was run.
INT8 = ("calibrated", "trained")


def results(path: Path = POINTS) -> dict[str, Any]:
    """The figures so far, by network and budget; "" is the whole network, without one."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def table() -> str:
    """What the C takes of each resource, and how good it is."""
    lines = [
        "| network | budget | RAM B | flash B | MACs | M0 cycles | float | C | ort | CPU s |",
        "| --- | --- | --: | --: | --: | --: | --: | --: | --: | --: |",
    ]
    for name, budgets in results().items():
        for budget, found in budgets.items():
            used, last = found["used"], [found[way] for way in INT8 if way in found][-1]
            cells = [
                *(name, f"`{budget}`" if budget else "none"),
                *(f"{used[key]:,}" for key in ("ram", "flash", "macs")),
                f"{used['cycles'] / 1e6:.1f} M",
                *(f"{score:.1f}%" for score in (found["float"], last["c"], last["onnxruntime"])),
                f"{found['seconds']:.0f}" if budget else "-",
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def ram_table() -> str:
    """ResNet-8 by limit and variant: means of the seeds, and the spread of the accuracy."""
    lines = [
        "| limit of the arena | variant | arena B | MACs | flash B | float | spread | C - float |",
        "| --- | --- | --: | --: | --: | --: | --: | --: |",
    ]
    for limit, variants in results(RAM).items():
        for variant in sorted(variants, key=lambda name: name != WHOLE):
            runs = list(variants[variant].values())
            scores = [each["float"] for each in runs]
            used = [mean(each["used"][key] for each in runs) for key in ("arena", "macs", "flash")]
            both = [each for each in runs if "calibrated" in each]
            apart = mean(each["calibrated"]["c"] - each["float"] for each in both)
            cells = [limit, variant, *(f"{size:,.0f}" for size in used)]
            cells += [f"{mean(scores):.1f}%", f"±{stdev(scores):.1f}" if len(scores) > 1 else "-"]
            lines.append(f"| {' | '.join(cells)} | {apart:+.1f} |")
    return "\n".join(lines)
