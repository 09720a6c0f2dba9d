"""Compute a tensor again where it is read late, instead of keeping it: arithmetic for memory.

Work is counted in multiply-accumulates; a step without any (Add, Relu, MaxPool, ...) counts the
elements of its result, so that nothing is free. Options are the tensors in memory at the peak that
are read again later, each with the steps that lead to it from what is there then anyway. Sketches
say which options, one after the other, lower the peaks; a real plan then says what they bring.
Sketches and plans are counted, not timed, so that the same input gives the same plan.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from mcugraph.graph import Step
from mcugraph.plan import Aim, Plan, make_plan
from mcugraph.repeat import Copy, Recomputed, Repeat, is_possible, with_repeat
from mcugraph.sketch import Sketch, Sketcher, in_order

# Steps that lead to one tensor and may run again for it, one after the other.
DEPTH = 4
# Options that are sketched for one peak, the largest first, and sketches in all.
OPTIONS, SKETCHES = 32, 600
# Plans in all: as many as have STEPS steps, within these limits.
STEPS, FEWEST, MOST = 2000, 6, 24


def recompute(plan: Plan, aim: Aim, factor: float) -> tuple[Plan, tuple[Copy, ...]]:
    """A plan of less arena and at most `factor` times the work, and the copies that it has.

    The plan itself where it is good enough for the aim, or where nothing makes it smaller. Raises
    ValueError where the factor is below 1.
    """
    if not 1 <= factor < float("inf"):
        raise ValueError(f"--allow-recompute {factor:g}: a number from 1 is allowed, like 1.3")
    if plan.memory.arena <= aim.enough:
        return plan, ()
    search = _Search(plan, aim, factor)
    best = search.pruned(search.best())
    if not best.copies:
        return plan, ()
    known = {step.name for step in plan.steps}
    steps = tuple(step.name for step in best.plan.steps if step.name not in known)
    found = Recomputed(steps, plan.memory.arena, plan.macs)
    return replace(best.plan, recomputed=found), best.copies


@dataclass(frozen=True)
class _State:
    """A plan, and how it comes from the plan without copies."""

    plan: Plan
    copies: tuple[Copy, ...] = ()


class _Search:
    """Adds copies as long as the arena gets smaller."""

    def __init__(self, plan: Plan, aim: Aim, factor: float) -> None:
        self._start, self._aim = _State(plan), aim
        self._sketcher = Sketcher(plan, allow_float=aim.allow_float)
        self._limit = int(factor * self._sketcher.first(plan).work)
        self._plans = min(max(STEPS // max(len(plan.steps), 1), FEWEST), MOST)
        self._sketches = SKETCHES

    def best(self) -> _State:
        """The last of a row of plans, each smaller than the one before."""
        here = self._start
        while True:
            after = self._smaller(here, self._promising(here.plan))
            if after is None:
                return here
            here = after

    def pruned(self, best: _State) -> _State:
        """The same without the copies that it does not need."""
        for repeat in [copy.repeat for copy in reversed(best.copies)]:
            kept = [copy.repeat for copy in best.copies if copy.repeat is not repeat]
            state = self._made(self._start, kept)
            if state is not None and state.plan.memory.arena <= best.plan.memory.arena:
                best = state
        return best

    def _promising(self, plan: Plan) -> list[Repeat]:
        """Repeats, one after the other, of which each lowers the peaks of a sketch the most."""
        sketch, repeats = self._sketcher.first(plan), list[Repeat]()
        while True:
            found = {repeat: self._sketched(sketch, repeat) for repeat in _options(sketch)}
            ranked = [(after.rank, repeat) for repeat, after in found.items() if after is not None]
            if not ranked or min(ranked)[0] >= sketch.rank:
                return repeats
            repeats.append(min(ranked)[1])
            after = found[repeats[-1]]
            assert after is not None
            sketch = after

    def _sketched(self, sketch: Sketch, repeat: Repeat) -> Sketch | None:
        """The sketch after a repeat, if it may be made."""
        more = sum(sketch.works.get(name, 0) for name in repeat.steps)
        if sketch.work + more > self._limit or self._sketches <= 0:
            return None
        self._sketches -= 1
        return self._sketcher.after(sketch, repeat)

    def _smaller(self, here: _State, repeats: Sequence[Repeat]) -> _State | None:
        """A plan of less arena with all of the repeats, or else with the first of them."""
        count = len(repeats)
        while count > 0:
            state = self._made(here, repeats[:count])
            if state is not None and state.plan.memory.arena < here.plan.memory.arena:
                return state
            count //= 2
        return None

    def _made(self, state: _State, repeats: Sequence[Repeat]) -> _State | None:
        """The state after some repeats; None where one asks for what is not there."""
        graph, copies = in_order(state.plan), list(state.copies)
        for repeat in repeats:
            if not is_possible(graph, repeat):
                return None
            graph, copy = with_repeat(graph, repeat)
            copies.append(copy)
        if self._plans <= 0:
            return None
        self._plans -= 1
        start = self._start.plan
        return _State(make_plan(graph, start.target, start.name, self._aim), tuple(copies))


# What may be computed again


def _options(sketch: Sketch) -> list[Repeat]:
    """Ways to compute again what is in memory at the peak; what may bring most comes first."""
    moment = _Moment(sketch)
    found = [
        option
        for name, size in sketch.alive.items()
        if name in sketch.graph.producers and name not in sketch.graph.outputs
        for option in moment.options(name, size)
    ]
    found.sort(
        key=lambda option: (-option[0], sum(sketch.works.get(n, 0) for n in option[1].steps))
    )
    return [repeat for _, repeat in found[:OPTIONS]]


class _Moment:
    """The peak of a sketch: who reads what before it and after it."""

    def __init__(self, sketch: Sketch) -> None:
        self._sketch, self._graph = sketch, sketch.graph
        self._place = {step.name: at for at, step in enumerate(self._graph.steps)}
        self._last: dict[str, int] = {}
        for step in self._graph.steps:
            for name in self._graph.activations(step):
                self._last[sketch.layouts.root(name)] = self._place[step.name]
        for name in self._graph.outputs:
            self._last[sketch.layouts.root(name)] = len(self._graph.steps)

    def options(self, tensor: str, size: int) -> Iterator[tuple[float, Repeat]]:
        """The ways to compute a tensor again, and the bytes of `size` that the peak may lose."""
        share = size / self._graph.tensors[tensor].bytes
        readers = sorted(self._graph.consumers.get(tensor, ()), key=self._number)
        for first in range(1, len(readers)):
            late = readers[first:]
            for steps, leaves in self._ways(tensor, late[0]):
                saving = size - share * sum(self._graph.tensors[name].bytes for name in leaves)
                yield saving, self._repeat(tensor, late, steps)

    def _ways(self, tensor: str, reader: Step) -> Iterator[tuple[dict[str, Step], list[str]]]:
        """The last steps that lead to a tensor, and what must be kept for them: more and more."""
        steps = {self._graph.producers[tensor].name: self._graph.producers[tensor]}
        for _ in range(DEPTH):
            if any(map(self._is_bound, steps.values())):
                return
            leaves = self._leaves(steps.values(), reader)
            yield steps, leaves
            sources = [self._graph.producers[n] for n in leaves if n in self._graph.producers]
            if not sources:
                return
            steps = steps | {step.name: step for step in sources}

    def _is_bound(self, step: Step) -> bool:
        """Whether no copy of a step helps: a view has no bytes; some have several results."""
        return len(step.outputs) > 1 or step.output in self._sketch.layouts.views

    def _repeat(self, tensor: str, late: Sequence[Step], steps: Mapping[str, Step]) -> Repeat:
        names = sorted(steps, key=lambda name: self._place[name])
        return Repeat(tensor, tuple(step.name for step in late), tuple(names))

    def _leaves(self, steps: Iterable[Step], reader: Step) -> list[str]:
        """What steps read that would not be kept until a reader runs."""
        own = [*steps]
        made = {step.output for step in own}
        read = dict.fromkeys(name for step in own for name in self._graph.activations(step))
        return [name for name in read if name not in made and not self._is_kept(name, reader)]

    def _is_kept(self, tensor: str, reader: Step) -> bool:
        """Whether a tensor, or the one whose bytes it views, is read then or later anyway."""
        return self._last[self._sketch.layouts.root(tensor)] >= self._place[reader.name]

    def _number(self, step: Step) -> int:
        return self._place[step.name]
