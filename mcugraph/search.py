"""Search among the states of a lattice for a chain of moves with the least peak."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heappop, heappush, nsmallest
from typing import NamedTuple

from mcugraph.lattice import Lattice, State
from mcugraph.problem import steps_of

# Moves that are tried to find a way down from one state: more are rarely worth their time.
LOOK_AHEAD = 64
# States that a search may hold: about half a gigabyte.
MOST_STATES = 500_000


class Node(NamedTuple):
    """A state, the most bytes on the way to it, and the node before."""

    peak: int
    state: State
    before: Node | None


class Limits(NamedTuple):
    """No peak is below `floor`, so all up to it are alike; one of `ceiling` is known already."""

    floor: int
    ceiling: int


class Budget:
    """How many moves may be tried, how many were, and how many states were looked at."""

    def __init__(self, moves: float) -> None:
        self.total = self.limit = moves
        self.moves = self.states = 0

    def allow(self, share: float) -> None:
        """Set how much of the total may be spent by the end of what comes next."""
        self.limit = share * self.total

    def spend(self, moves: int, states: int = 1) -> None:
        """Count moves and states."""
        self.moves += moves
        self.states += states

    @property
    def spent(self) -> bool:
        """Whether no move is left."""
        return self.moves >= self.limit


def best_first(lattice: Lattice, limits: Limits, budget: Budget) -> tuple[Node | None, int]:
    """Return the end of a chain below the ceiling, if one was found, and a proved lower bound.

    Unless the budget or the memory ends first, the bound is that chain's peak or the ceiling.
    """
    waists = lattice.waists()
    closed: set[int] = set()
    # Lowest peak first, then most steps done, then oldest.
    queue = [(limits.floor, 0, 0, 0, Node(limits.floor, lattice.start, None))]
    age = 0
    while queue:
        peak, _, _, done, before = heappop(queue)
        if budget.spent or len(closed) >= MOST_STATES:
            return None, peak
        if done in closed:
            continue
        *way, node = _settle(lattice, _arrive(lattice, before, peak, done), budget)
        if node.state.done == lattice.full:
            return node, peak
        if not waists.isdisjoint(passed.state.done for passed in (*way, node)):
            queue.clear()
        closed.update(passed.state.done for passed in way)
        if node.state.done in closed:
            continue
        closed.add(node.state.done)
        for load, after in lattice.moves(node.state):
            if load < limits.ceiling and after not in closed:
                age += 1
                heappush(queue, (max(peak, load), -after.bit_count(), age, after, node))
    return None, limits.ceiling


def beam(lattice: Lattice, width: int, limits: Limits, budget: Budget) -> Node | None:
    """Return the end of the best chain below the ceiling that a beam of states finds."""
    levels: list[dict[int, Node]] = [{} for _ in range(lattice.full.bit_count() + 1)]
    levels[0][0] = Node(limits.floor, lattice.start, None)
    for level in levels[:-1]:
        for node in nsmallest(width, level.values(), key=_rank):
            if budget.spent:
                return None
            *_, settled = _settle(lattice, node, budget)
            _widen(lattice, settled, levels, limits.ceiling)
        level.clear()
    return levels[-1].get(lattice.full)


def order_of(node: Node) -> tuple[int, ...]:
    """Return the steps on the way to a node; those of one move in file order."""
    parts = []
    while node.before is not None:
        parts.append(steps_of(node.state.done ^ node.before.state.done))
        node = node.before
    return tuple(step for part in reversed(parts) for step in part)


def _rank(node: Node) -> tuple[int, int, int]:
    return node.peak, node.state.live, node.state.done


def _arrive(lattice: Lattice, before: Node, peak: int, done: int) -> Node:
    if done == before.state.done:
        return before
    return Node(peak, lattice.after(before.state, done), before)


def _widen(lattice: Lattice, node: Node, levels: list[dict[int, Node]], ceiling: int) -> None:
    """Put where a node's moves lead, or its end, into the levels by the number of steps done."""
    reached = [(max(node.peak, load), done) for load, done in lattice.moves(node.state)]
    for peak, done in reached or [(node.peak, node.state.done)]:
        level = levels[done.bit_count()]
        if peak < ceiling and (done not in level or peak < level[done].peak):
            level[done] = _arrive(lattice, node, peak, done)


def _settle(lattice: Lattice, node: Node, budget: Budget) -> Iterator[Node]:
    """Yield the node, then all nodes on the ways down that it can take at once."""
    way = [node]
    while way:
        yield from way
        way = _way_down(lattice, way[-1], budget)


def _way_down(lattice: Lattice, start: Node, budget: Budget) -> list[Node]:
    """Return a chain of moves that some best order takes next, if there is one.

    It stays within the peak so far, fewer or equal bytes are alive at its end than at any state
    from its start on, and no other state lies between. Bytes alive are a submodular function of
    what is done, so whatever else comes later has fewer or equal bytes alive after it.
    """
    tries = 0
    todo: list[tuple[list[Node], list[int]]] = [([start], [])]
    for way, barred in todo:
        here = way[-1]
        moves = lattice.moves(here.state)
        budget.spend(len(moves))
        tries += len(moves)
        for load, done in moves:
            if load > start.peak or any(mask & done == mask for mask in barred):
                continue
            longer = [*way, _arrive(lattice, here, start.peak, done)]
            if longer[-1].state.live <= start.state.live:
                return longer[1:]
            if tries < LOOK_AHEAD:
                todo.append((longer, barred + [m.done for m in moves if m.done != done]))
    return []
