"""The sets of finished steps that some order of least peak passes through.

A step that frees nothing can wait until just before a step that needs it and frees something:
waiting raises no load. So there is a best order that is a chain of *moves*; each ends the life of
some item, with the readers that are left and all they need, and frees nothing before its last step.
The states between moves are unions of such sets: far fewer than all down-sets of the graph.
Scratch is an item that its step writes and nobody reads.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from mcugraph.problem import Problem, steps_of


class State(NamedTuple):
    """Finished steps as bits, bytes alive after them, and the ends that may come next."""

    done: int
    live: int
    ready: tuple[int, ...]


class Move(NamedTuple):
    """Bytes alive while the last step of a move runs (no step before needs more), and all done."""

    load: int
    done: int


class Lattice:
    """All states of a problem, from `start` to the one where `full` is done."""

    def __init__(self, problem: Problem) -> None:
        self.full = (1 << problem.count) - 1
        self.before = _ancestors(problem)
        self.written = list(problem.extra)
        for item in problem.items:
            if item.producer is not None:
                self.written[item.producer] += item.size
        freed = _freed(problem, self.before)
        freed[self.full] += 0
        # An end is a set of steps after which something dies.
        self.ends = sorted(freed, key=lambda mask: (mask.bit_count(), mask))
        self.freed = [freed[mask] for mask in self.ends]
        self._size: dict[int, int] = {}
        self._link()
        inputs = sum(i.size for i in problem.items if i.producer is None and i.lives)
        ready = tuple(k for k, needs in enumerate(self.needs) if not needs)
        self.start = self._state(0, inputs, ready)

    def moves(self, state: State) -> list[Move]:
        """Return the moves from here that hold no smaller one, in file order."""
        steps = sorted({self.ends[k] & ~state.done for k in state.ready}, key=int.bit_count)
        least: list[int] = []
        for mask in steps:
            if not any(small & mask == small for small in least):
                least.append(mask)
        least.sort()
        return [Move(state.live + self._bytes(mask), state.done | mask) for mask in least]

    def after(self, state: State, done: int) -> State:
        """Return the state after the move that finishes `done`."""
        return self._state(done, state.live + self._bytes(done ^ state.done), state.ready)

    def waists(self) -> set[int]:
        """Return the states that every chain passes: all that is done there precedes the rest."""
        after = [0] * len(self.before)
        for step, mask in enumerate(self.before):
            for earlier in steps_of(mask ^ 1 << step):
                after[earlier] |= 1 << step
        waists, gate, common = {0, self.full}, 0, self.full
        for step, later in enumerate(after):
            gate |= 1 << step
            common &= later
            if common == self.full ^ gate:
                waists.add(_union(end for end in self.ends if end & gate == end))
        return waists

    def _link(self) -> None:
        """Find the smaller ends that each end holds, and so which ends wait for which."""
        self.needs = [0] * len(self.ends)
        self.holds: list[list[int]] = [[] for _ in self.ends]
        for k, end in enumerate(self.ends):
            for j in range(k - 1, -1, -1):
                small = self.ends[j]
                if small & end == small and small & ~self.needs[k]:
                    self.holds[j].append(k)
                    self.needs[k] |= small

    def _state(self, done: int, live: int, ready: Iterable[int]) -> State:
        """Free what has died; the ends that were reached make way for those that they held up."""
        todo, seen, left = list(ready), set(ready), []
        while todo:
            k = todo.pop()
            if self.ends[k] & ~done:
                left.append(k)
                continue
            live -= self.freed[k]
            for held in self.holds[k]:
                if held not in seen and not self.needs[held] & ~done:
                    seen.add(held)
                    todo.append(held)
        return State(done, live, tuple(sorted(left)))

    def _bytes(self, steps: int) -> int:
        if steps not in self._size:
            self._size[steps] = sum(self.written[step] for step in steps_of(steps))
        return self._size[steps]


def _ancestors(problem: Problem) -> list[int]:
    """Return each step and all that it needs, as bits."""
    writers: list[set[int]] = [set() for _ in range(problem.count)]
    for item in problem.items:
        if item.producer is not None:
            for step in item.readers:
                writers[step].add(item.producer)
    before: list[int] = []
    for step, needed in enumerate(writers):
        before.append(_union(before[writer] for writer in needed) | 1 << step)
    return before


def _freed(problem: Problem, before: list[int]) -> defaultdict[int, int]:
    """Return the bytes that die when a set of steps is done, by that set."""
    freed: defaultdict[int, int] = defaultdict(int)
    for step, extra in enumerate(problem.extra):
        if extra:
            freed[before[step]] += extra
    for item in problem.items:
        last = item.readers
        if item.producer is not None:
            last |= {item.producer}
        if item.size and last and not item.kept:
            freed[_union(before[step] for step in last)] += item.size
    return freed


def _union(masks: Iterable[int]) -> int:
    total = 0
    for mask in masks:
        total |= mask
    return total
