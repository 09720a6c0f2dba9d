"""The order of steps with the least peak: exact where the search closes, else with a bound."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil
from random import Random

from mcugraph.bounds import least_load, step_bound
from mcugraph.lattice import Lattice
from mcugraph.problem import Item, Problem, loads, peak_of, window_of
from mcugraph.search import Budget, Limits, Node, beam, best_first, order_of

__all__ = ["Found", "Item", "Problem", "describe", "find_order", "loads", "peak_of"]

# The budget is counted in moves, not by a clock: the same input gives the same order on every
# machine. One core of 2020 tries some 400,000 a second; half of that is for slower and busy ones.
MOVES_A_SECOND = 200_000
# One minimum cut takes about as long as this many moves for each step of the graph.
CUT_MOVES = 20
BEAM = 8
# Places in a window that is ordered anew; moves that may be tried in it, or count for its set-up.
WINDOW = (10, 60)
WINDOW_MOVES = 20_000
WINDOW_STEP_MOVES = 10


@dataclass(frozen=True)
class Found:
    """An order, its peak in bytes and what no order can beat; proved where these are equal."""

    order: tuple[int, ...]
    peak: int
    lower_bound: int
    states: int

    @property
    def proved(self) -> bool:
        """Whether no order has a lower peak."""
        return self.peak == self.lower_bound


def describe(found: Found) -> str:
    """Return what is known about an order, for people."""
    if found.proved:
        return f"optimal (proved, {found.states:,} states)"
    percent = ceil(1000 * (found.peak / found.lower_bound - 1)) / 10
    return f"at most {percent} % above the lower bound"


def find_order(problem: Problem, seconds: float = 10.0) -> Found:
    """Return the order of least peak, or the best found within the budget, and a lower bound.

    The order of the file stays if none is better, and in those parts where none needs to be.
    Without a budget (0 seconds) it is only compared with the fullest step.
    """
    budget = Budget(seconds * MOVES_A_SECOND)
    order = tuple(range(problem.count))
    found = Found(order, peak_of(problem, order), step_bound(problem), 0)
    if not found.proved and not budget.spent:
        found = _search(problem, found, budget)
    calm = _calm(problem, found)
    return replace(found, order=calm, peak=peak_of(problem, calm), states=budget.states)


def _search(problem: Problem, found: Found, budget: Budget) -> Found:
    """Search exactly; where that does not close soon, raise the bound, and look for better orders.

    Each phase may spend up to its share of the budget.
    """
    lattice = Lattice(problem)
    budget.allow(0.2)
    found = _better(problem, found, beam(lattice, 1, _limits(found), budget))
    budget.allow(0.3)
    found = _exact(problem, found, lattice, budget)
    if found.proved:
        return found
    budget.allow(0.45)
    found = _better(problem, found, beam(lattice, BEAM, _limits(found), budget))
    budget.allow(0.5)
    found = _with_cuts(problem, found, lattice, budget)
    budget.allow(0.75)
    found = _exact(problem, found, lattice, budget)
    budget.allow(1)
    return _improve(problem, found, budget)


def _exact(problem: Problem, found: Found, lattice: Lattice, budget: Budget) -> Found:
    if found.proved:
        return found
    node, bound = best_first(lattice, _limits(found), budget)
    return replace(_better(problem, found, node), lower_bound=bound)


def _limits(found: Found) -> Limits:
    return Limits(found.lower_bound, found.peak)


def _better(problem: Problem, found: Found, node: Node | None) -> Found:
    if node is None:
        return found
    order = order_of(node)
    return replace(found, order=order, peak=peak_of(problem, order))


def _with_cuts(problem: Problem, found: Found, lattice: Lattice, budget: Budget) -> Found:
    """Raise the bound by the steps that have more alive than it, the fullest first."""
    bound = found.lower_bound
    full = sorted(zip(loads(problem, found.order), found.order, strict=True), reverse=True)
    for load, step in full:
        if load <= bound or budget.spent:
            break
        budget.spend(CUT_MOVES * problem.count, 0)
        bound = max(bound, least_load(problem, lattice, step))
    return replace(found, lower_bound=bound)


def _improve(problem: Problem, found: Found, budget: Budget) -> Found:
    """Order windows of places anew: half of them for a lower peak, half for another way to it."""
    random = Random(0)
    order = list(found.order)
    load = loads(problem, order)
    while (peak := max(load)) > found.lower_bound and not budget.spent:
        middle, width = load.index(peak), random.randint(*WINDOW)
        aside = random.random() < 0.5
        middle += random.randint(-width, width) if aside else 0
        start = max(0, middle - random.randint(0, width))
        here = max(load[start : start + width], default=0)
        level = max(here, peak - 1)
        limits = Limits(level, level + 1) if aside else Limits(found.lower_bound, here)
        _order_window(problem, order, range(start, start + width), limits, budget)
        load = loads(problem, order)
    return replace(found, order=tuple(order), peak=peak) if peak < found.peak else found


def _order_window(
    problem: Problem, order: list[int], places: range, limits: Limits, budget: Budget
) -> None:
    """Order these places anew if the search finds an order of them within the limits."""
    part = Budget(WINDOW_MOVES)
    steps = sorted(order[places.start : places.stop])
    window = window_of(problem, order, places.start, places.stop)
    node, _ = best_first(Lattice(window), limits, part)
    budget.spend(part.moves + WINDOW_STEP_MOVES * len(places), part.states)
    if node is not None:
        order[places.start : places.stop] = [steps[k] for k in order_of(node)]


def _calm(problem: Problem, found: Found) -> tuple[int, ...]:
    """Go back to file order between places that no step crosses, where the peak allows it."""
    order = list(found.order)
    file_loads = loads(problem, range(problem.count))
    start, highest = 0, -1
    for place, step in enumerate(found.order):
        highest = max(highest, step)
        if highest == place:
            if max(file_loads[start : place + 1]) <= found.peak:
                order[start : place + 1] = range(start, place + 1)
            start = place + 1
    return tuple(order)
