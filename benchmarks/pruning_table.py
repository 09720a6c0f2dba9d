"""The README's tables of what pruning tools leave of ten networks, from results/pruning.json."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "pruning.json"
OURS = "mcugraph"
PEERS = ("onnxsim", "qonnx", "torch-pruning")
# What a cell says in place of the share of parameters that is left.
WORDS = {
    "nothing": "nothing removed",
    "wrong": "wrong outputs",
    "invalid": "invalid model",
    "error": "error",
}
# The figures of a variant of ResNet-8, and the variants.
FIGURES = {
    "parameters": "parameters",
    "macs": "MACs",
    "whole": "whole tensors",
    "overlap": "+ overlap",
    "stream": "+ row by row",
}
VARIANTS = {
    "unpruned": "as it was",
    "onnxsim": "onnxsim, 50 %",
    "stream": "residual stream of the first block 16 -> 8",
    OURS: "mcugraph, 50 % of all groups",
}

Record = Mapping[str, Any]


def results() -> Record:
    """The committed figures."""
    found: Record = json.loads(RESULTS.read_text(encoding="utf-8"))
    return found


def matrix(record: Record) -> str:
    """The share of parameters that each tool left of each network, or why that is no figure."""
    tools = (OURS, *PEERS)
    titles = [OURS, *(f"{tool} {record['versions'][tool]}" for tool in PEERS)]
    rows = [
        (name, form, *(_cell(found.get(tool)) for tool in tools))
        for name, forms in record["models"].items()
        for form, found in forms.items()
    ]
    return _table(("network", "form", *titles), rows)


def memory(record: Record) -> str:
    """Bytes of arena of the int8 ResNet-8, pruned in several ways."""
    rows = [
        (title, *(f"{record['resnet8'][variant][figure]:,}" for figure in FIGURES))
        for variant, title in VARIANTS.items()
    ]
    return _table(("ResNet-8, int8", *FIGURES.values()), rows)


def _cell(row: Record | None) -> str:
    if row is None:
        return "-"
    if row["verdict"] == "equal":
        return f"{row['left']:.2f}"
    alone = row.get("groups", [])
    good = f"; {alone.count('equal')} of {len(alone)} groups alone" if "equal" in alone else ""
    return WORDS[row["verdict"]] + good


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    rule = ["---", *["--:"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, rule, *rows))
