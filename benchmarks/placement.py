"""Place MiniMalloc's hard instances, and say how far from the lower bound each placement is.

    python benchmarks/placement.py             place all; write results/placement.json
    python benchmarks/placement.py --solver    also ask OR-tools' CP-SAT, if it is installed

The instances lie beside the repository, in shared/data/minimalloc; each is known to fit into
1,048,576 bytes. All figures but the seconds are the same on every run: CP-SAT runs with one worker,
a fixed seed and a limit that it counts itself.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mcugraph.memory import Buffer, plan_memory

ROOT = Path(__file__).parents[1]
INSTANCES = ROOT.parent / "shared" / "data" / "minimalloc"
RESULTS = Path(__file__).parent / "results" / "placement.json"
CAPACITY = 1_048_576
# In CP-SAT's own unit of work: some seconds of one core each.
SOLVER_WORK = 4.0


def main(arguments: list[str]) -> int:
    """Place every instance; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--solver", action="store_true", help="also ask CP-SAT")
    wish = parser.parse_args(arguments)
    paths = sorted(INSTANCES.glob("*.csv"))
    if not paths:
        print(f"placement: no instances in {INSTANCES}", file=sys.stderr)
        return 1
    if wish.solver and find_spec("ortools") is None:
        print("placement: --solver needs OR-tools: pip install ortools", file=sys.stderr)
        return 1
    old = json.loads(RESULTS.read_text(encoding="utf-8"))["instances"] if RESULTS.exists() else {}
    found: dict[str, Any] = {}
    for path in paths:
        name = path.name.partition(".")[0]
        found[name] = placed(read(path))
        if wish.solver:
            found[name]["cp_sat"] = asked(read(path))
        elif "cp_sat" in old.get(name, {}):
            found[name]["cp_sat"] = old[name]["cp_sat"]
        print(name, json.dumps(found[name]), flush=True)
    results = {"schema_version": 1, "capacity": CAPACITY, "instances": found}
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return 0


def read(path: Path) -> list[Buffer]:
    """The buffers of a file: id, lower, upper (not included), size."""
    with path.open(encoding="utf-8", newline="") as file:
        return [
            Buffer(row["id"], int(row["size"]), int(row["lower"]), int(row["upper"]) - 1)
            for row in csv.DictReader(file)
        ]


def placed(buffers: Sequence[Buffer]) -> dict[str, Any]:
    """What plan_memory does with its default effort."""
    begin = time.process_time()
    plan = plan_memory(buffers)
    return {
        "buffers": len(buffers),
        "lower_bound": plan.lower_bound,
        "arena": plan.arena,
        "proved": plan.proved,
        "above_bound_percent": round(100 * (plan.arena / plan.lower_bound - 1), 1),
        "seconds": round(time.process_time() - begin, 2),
    }


def asked(buffers: Sequence[Buffer]) -> dict[str, Any]:
    """Whether CP-SAT fits the buffers into the capacity: rectangles of life and bytes."""
    cp_model = import_module("ortools.sat.python.cp_model")
    model = cp_model.CpModel()
    lives, places = [], []
    for b in buffers:
        start = model.new_int_var(0, CAPACITY - b.size, b.name)
        lives.append(model.new_fixed_size_interval_var(b.first, b.last + 1 - b.first, b.name))
        places.append(model.new_fixed_size_interval_var(start, b.size, b.name))
    model.add_no_overlap_2d(lives, places)
    model.add_cumulative(lives, [b.size for b in buffers], CAPACITY)
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.random_seed = 1
    solver.parameters.max_deterministic_time = SOLVER_WORK
    begin = time.process_time()
    status = solver.status_name(solver.solve(model))
    return {"status": status, "seconds": round(time.process_time() - begin, 2)}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
