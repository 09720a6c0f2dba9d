"""The smallest arena by OR-tools' CP-SAT, where it is installed: the extra `solver`.

Buffers that may not share a byte are intervals of bytes of which those of a crowd do not overlap;
of two buffers that may overlap in part, one lies far enough above the other. One worker, a fixed
seed and a limit that CP-SAT counts itself, so that a plan repeats with the same version of it.
"""

from __future__ import annotations

import math
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np

from mcugraph.packing import FREE, Packing, Solution

# In CP-SAT's own unit of work: some ten seconds of one core on hundreds of buffers.
WORK = 2.0
# Its bounds are floating-point numbers.
TOLERANCE = 1e-6


def expect_installed() -> None:
    """Raise ValueError, which says how to get it, where OR-tools is missing."""
    if find_spec("ortools") is None:
        raise ValueError("OR-tools are not installed: pip install 'mcugraph[solver]'")


def ask(packing: Packing, known: Solution, work: float = WORK, enough: int = 0) -> Solution:
    """A smaller arena than is known, or a higher bound; `enough` bytes will do.

    Half of the work goes into the least arena alone: without an objective, CP-SAT is far quicker.
    """
    least = max(known.bound, enough)
    if known.arena > least:
        known = within(packing, known, (least, least), work / 2)
    least = max(known.bound, enough)
    if known.arena > least:
        known = within(packing, known, (least, known.arena), work / 2)
    return known


def within(
    packing: Packing, known: Solution, limits: tuple[int, int], work: float = WORK
) -> Solution:
    """The same from one question: what is the least arena that is no smaller and no larger?"""
    expect_installed()
    cp_model = import_module("ortools.sat.python.cp_model")
    unit = _unit(packing)
    least = -(-limits[0] // unit)
    most = max(limits[1] // unit, least)
    model = cp_model.CpModel()
    arena = model.new_int_var(least, most, "arena")
    steps = [max(align // unit, 1) for align in packing.aligns.tolist()]
    counts = [model.new_int_var(0, most // step, "") for step in steps]
    starts = [step * count for step, count in zip(steps, counts, strict=True)]
    for start, size in zip(starts, packing.sizes.tolist(), strict=True):
        model.add(start + size // unit <= arena)
    _keep_apart(model, packing, starts, unit)
    if most > least:
        model.minimize(arena)
        for step, count, start in zip(steps, counts, known.starts or (), strict=False):
            model.add_hint(count, start // (unit * step))
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.random_seed = 1
    solver.parameters.max_deterministic_time = work
    status = solver.solve(model)
    if status == cp_model.INFEASIBLE:
        return Solution(known.starts, known.arena, min((most + 1) * unit, known.arena))
    proved = math.ceil(solver.best_objective_bound - TOLERANCE) if most > least else least
    bound = proved * unit if proved > least else known.bound
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return Solution(known.starts, known.arena, bound)
    found = [solver.value(start) * unit for start in starts]
    return Solution(found, packing.height(found), bound)


def _unit(packing: Packing) -> int:
    """The largest number of bytes of which every start of some smallest packing is a multiple."""
    apart = packing.gaps[packing.tied & (packing.gaps > FREE)]
    unit = math.gcd(*packing.sizes.tolist(), *apart.tolist()) or 1
    aligns = sorted(set(packing.aligns.tolist()))
    while any(unit % align and align % unit for align in aligns):
        unit = math.gcd(unit, *(align for align in aligns if unit % align))
    return unit


def _keep_apart(model: Any, packing: Packing, starts: list[Any], unit: int) -> None:
    """Crowds as intervals that do not overlap; all other pairs by which of the two lies lower."""
    whole = packing.tied & (packing.gaps == packing.sizes[:, None])
    covered = np.zeros(whole.shape, np.bool_)
    spans = [
        model.new_fixed_size_interval_var(start, size // unit, "")
        for start, size in zip(starts, packing.sizes.tolist(), strict=True)
    ]
    for crowd in packing.crowds():
        model.add_no_overlap([spans[i] for i in np.flatnonzero(crowd)])
        covered |= crowd[:, None] & crowd & whole & whole.T
    for one, two in np.argwhere(np.triu(packing.tied & ~covered)).tolist():
        lower = model.new_bool_var("")
        for low, high, way in ((one, two, lower), (two, one, ~lower)):
            gap = int(packing.gaps[low, high]) // unit
            model.add(starts[high] >= starts[low] + gap).only_enforce_if(way)
