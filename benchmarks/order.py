"""Find the order of least peak for every graph of shared/data/graphs.

    python benchmarks/order.py               all; writes results/order.json
    python benchmarks/order.py --seconds 60  with another time budget

All figures but the seconds are the same on every run.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
from pathlib import Path
from typing import Any

from mcugraph.order import describe, find_order, peak_of

ROOT = Path(__file__).parents[1]
GRAPHS = ROOT.parent / "shared" / "data" / "graphs"
RESULTS = ROOT / "benchmarks" / "results" / "order.json"
SCHEMA_VERSION = 1


def main(arguments: list[str]) -> int:
    """Measure all graphs, print and write the results; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10.0, help="time budget of each graph")
    wish = parser.parse_args(arguments)
    if not GRAPHS.is_dir():
        print("order: there is no shared/data/graphs beside the repository", file=sys.stderr)
        return 1
    graphs = {path.stem: measured(path, wish.seconds) for path in sorted(GRAPHS.glob("*.json"))}
    results = {"schema_version": SCHEMA_VERSION, "budget": wish.seconds, "graphs": graphs}
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(f"{sum(graph['seconds'] for graph in graphs.values()):.2f} s for {len(graphs)} graphs")
    return 0


def measured(path: Path, seconds: float) -> dict[str, Any]:
    """Return the figures of one graph, and print them."""
    problem = graphfile().load_graph(path).problem()
    start = time.process_time()
    found = find_order(problem, seconds)
    used = time.process_time() - start
    before = peak_of(problem, range(problem.count))
    print(f"{path.stem:28}{problem.count:5}{before:11,}{found.peak:11,}  {describe(found)}")
    return {
        "steps": problem.count,
        "file_order": before,
        "peak": found.peak,
        "lower_bound": found.lower_bound,
        "proved": found.proved,
        "states": found.states,
        "seconds": round(used, 3),
    }


def graphfile() -> Any:
    """Return the reader of graph files, which the tests share."""
    sys.path.append(str(ROOT / "tests"))
    return importlib.import_module("graphfile")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
