"""Place MiniMalloc's hard instances, and say how far from the lower bound each placement is.

    python benchmarks/placement.py                    place all; write results/placement.json
    python benchmarks/placement.py A D                place some, keep the figures of the others
    python benchmarks/placement.py --solver           also ask OR-tools' CP-SAT, if it is installed

The instances lie beside the repository, in shared/data/minimalloc; each is known to fit into
1,048,576 bytes. All figures but the seconds, of one core, are the same on every run; the orders of
mcugraph/restarts.py were picked on these instances.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time
from collections.abc import Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mcugraph import cpsat, efforts
from mcugraph.memory import Buffer, Effort, lower_bound, packing_of, plan_memory
from mcugraph.packing import Solution
from mcugraph.restarts import pack

ROOT = Path(__file__).parents[1]
INSTANCES = ROOT.parent / "shared" / "data" / "minimalloc"
RESULTS = Path(__file__).parent / "results" / "placement.json"
SCHEMA_VERSION = 2
CAPACITY = 1_048_576
# What the search and CP-SAT may spend on fitting an instance into the capacity.
NODES, WORK = 400_000, 2.0
Figures = dict[str, Any]


def main(arguments: list[str]) -> int:
    """Place the instances; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", help="A to K; all of them if none is named")
    parser.add_argument("--solver", action="store_true", help="ask CP-SAT, too")
    wish = parser.parse_args(arguments)
    paths = {path.name.partition(".")[0]: path for path in sorted(INSTANCES.glob("*.csv"))}
    if not paths:
        print(f"placement: no instances in {INSTANCES}", file=sys.stderr)
        return 1
    if wish.solver and find_spec("ortools") is None:
        print("placement: --solver needs OR-tools: pip install '.[solver]'", file=sys.stderr)
        return 1
    found = results() if RESULTS.exists() else {}
    for name in wish.names or paths:
        buffers = read(paths[name])
        asked = fitted_by_solver(buffers) if wish.solver else found.get(name, {}).get("cp_sat")
        found[name] = measured(buffers) | {"cp_sat": asked}
        print(name, json.dumps(found[name]), flush=True)
        record = {"schema_version": SCHEMA_VERSION, "capacity": CAPACITY, "instances": found}
        RESULTS.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return 0


def results() -> Figures:
    """The committed figures, by instance."""
    record: Figures = json.loads(RESULTS.read_text(encoding="utf-8"))["instances"]
    return record


def read(path: Path) -> list[Buffer]:
    """The buffers of a file: id, lower, upper (not included), size."""
    with path.open(encoding="utf-8", newline="") as file:
        return [
            Buffer(row["id"], int(row["size"]), int(row["lower"]), int(row["upper"]) - 1)
            for row in csv.DictReader(file)
        ]


def measured(buffers: Sequence[Buffer]) -> Figures:
    """Largest first, the default, all that our own search can do, and how long it takes to fit."""
    return {
        "buffers": len(buffers),
        "lower_bound": lower_bound(buffers),
        "largest_first": largest_first(buffers),
        "default": placed(buffers, Effort()),
        "thorough": placed(buffers, Effort(improve=efforts.improver("thorough"))),
        "fits": fitted(buffers),
    }


def largest_first(buffers: Sequence[Buffer]) -> int:
    """The arena of TFLite Micro's way: each, the largest first, at the lowest free offset."""
    starts: dict[str, int] = {}
    for b in sorted(buffers, key=lambda b: (-b.size, b.first)):
        near = sorted((starts[o.name], o.size) for o in buffers if o.name in starts and o.meets(b))
        start = 0
        for at, size in near:
            if at < start + b.size:
                start = max(start, at + size)
        starts[b.name] = start
    return max(starts[b.name] + b.size for b in buffers)


def placed(buffers: Sequence[Buffer], effort: Effort) -> Figures:
    """What plan_memory does."""
    begin = time.process_time()
    plan = plan_memory(buffers, effort=effort)
    seconds = time.process_time() - begin
    return {
        "arena": plan.arena,
        "lower_bound": plan.lower_bound,
        "proved": plan.proved,
        "seconds": round(seconds, 2),
    }


def fitted(buffers: Sequence[Buffer]) -> Figures:
    """Whether our search fits the buffers into the capacity, and nothing better is asked for."""
    return _fitted(buffers, partial(pack, nodes=NODES, enough=CAPACITY))


def fitted_by_solver(buffers: Sequence[Buffer]) -> Figures:
    """The same of CP-SAT."""
    limits = (CAPACITY, CAPACITY)
    return _fitted(buffers, partial(cpsat.within, limits=limits, work=WORK))


def _fitted(buffers: Sequence[Buffer], search: Any) -> Figures:
    known = Solution(None, 2 * CAPACITY, lower_bound(buffers))
    begin = time.process_time()
    found = search(packing_of(buffers, {}), known)
    seconds = time.process_time() - begin
    return {"fits": found.arena <= CAPACITY, "seconds": round(seconds, 2)}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
