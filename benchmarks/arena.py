"""What each technique does for the RAM of the MLPerf Tiny models; writes results/arena.json.

python benchmarks/arena.py        plan all of it again, then rewrite the README's tables
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import tables

from mcugraph.load import load
from mcugraph.optimize import rewrite
from mcugraph.plan import Aim, Plan, make_plan
from mcugraph.read import read_graph
from mcugraph.targets import load as load_target

SHARED = Path(__file__).parents[2] / "shared" / "models"
MODELS = ("ic", "kws", "vww", "ad")
WHOLE = 1 << 62


def planned(name: str, aim: Aim) -> Plan:
    """The plan of one model for a Cortex-M0."""
    model = rewrite(load(SHARED / f"{name}_int8_qdq.onnx"))
    return make_plan(read_graph(model), load_target("cortex-m0"), name, aim)


def measured(name: str) -> dict[str, Any]:
    """Arena bytes of every technique, and the lower bounds of the last two."""
    overlapped = planned(name, Aim(enough=WHOLE))
    streamed = planned(name, Aim())
    found: dict[str, Any] = {
        "whole": overlapped.schedule.peak,
        "overlap": overlapped.memory.arena,
        "stream": streamed.memory.arena,
        "stream_bound": streamed.memory.lower_bound,
        "order": streamed.schedule.verdict.partition(",")[0].removesuffix(")") + ")",
    }
    if streamed.rows(streamed.graph.inputs[0]) > 1:
        pushed = planned(name, replace(Aim(), pushed=True))
        found |= {"pushed": pushed.memory.arena, "pushed_bound": pushed.memory.lower_bound}
    return found


def main() -> None:
    """Measure and write."""
    if not SHARED.is_dir():
        raise SystemExit(f"{SHARED} is not here: the models of MLPerf Tiny are needed")
    figures = {name: measured(name) for name in MODELS}
    text = json.dumps(figures, indent=1) + "\n"
    (Path(__file__).parent / "results" / "arena.json").write_text(text, encoding="utf-8")
    tables.write()


if __name__ == "__main__":
    main()
