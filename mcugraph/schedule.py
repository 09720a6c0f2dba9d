"""The order in which steps run, and how long their tensors live."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from mcugraph.graph import Graph, Step
from mcugraph.layout import Layouts
from mcugraph.order import Item, Problem, describe, find_order

# How long the search for the best order may take, as mcugraph.order counts it.
SECONDS = 5.0


@dataclass(frozen=True)
class Schedule:
    """Step indices in execution order, and how good the order is.

    `peak` is the most bytes of whole tensors and scratch at once; no order has one below
    `lower_bound`. `verdict` says so for people.
    """

    order: tuple[int, ...]
    peak: int
    lower_bound: int
    verdict: str


@dataclass(frozen=True)
class Lifetime:
    """First and last place in the order at which a tensor's bytes are needed."""

    first: int
    last: int


def find_schedule(
    graph: Graph, layouts: Layouts, working: Sequence[int], scratch: Sequence[int]
) -> Schedule:
    """The order of the working steps with the least peak; `scratch` is what each needs beside."""
    numbers = {index: number for number, index in enumerate(working)}
    producers: dict[str, tuple[int, Step]] = {}
    readers: dict[str, set[int]] = {layouts.root(name): set() for name in graph.inputs}
    for index, number in numbers.items():
        step = graph.steps[index]
        for name in layouts.reads(graph, step):
            readers.setdefault(layouts.root(name), set()).add(number)
        for name in filter(None, step.outputs):
            producers[layouts.holder(name)] = (number, step)
            readers.setdefault(layouts.root(name), set())
    kept = {layouts.root(name) for name in graph.outputs}
    items = tuple(
        Item(name, _own_bytes(graph, layouts, name, step), number, frozenset(who), root in kept)
        for root, who in readers.items()
        for name, number, step in _written(layouts, producers, root)
    )
    items += tuple(_exit_first(graph, layouts, numbers, producers))
    found = find_order(Problem(len(working), items, tuple(scratch)), SECONDS)
    order = tuple(working[number] for number in found.order)
    return Schedule(order, found.peak, found.lower_bound, describe(found))


def _exit_first(
    graph: Graph,
    layouts: Layouts,
    numbers: Mapping[int, int],
    producers: Mapping[str, tuple[int, Step]],
) -> Iterator[Item]:
    """Items without bytes, for which all that an early exit does not need waits."""
    if graph.exit is None:
        return
    early = {i for i, step in enumerate(graph.steps) if step.name in graph.before_exit}
    later = frozenset(number for index, number in numbers.items() if index not in early)
    for name, number, _ in _written(layouts, producers, layouts.root(graph.exit.tensor)):
        yield Item(f"(exit) {name}", 0, number, later)


def _written(
    layouts: Layouts, producers: Mapping[str, tuple[int, Step]], root: str
) -> Iterator[tuple[str, int | None, Step | None]]:
    """(name, producer, its step) of what is written into a buffer: its parts, or all of it."""
    parts = [n for n, part in layouts.parts.items() if part.whole == root and n in producers]
    if root in producers or not parts:
        yield (root, *producers.get(root, (None, None)))
    for name in parts:
        yield (name, *producers[name])


def _own_bytes(graph: Graph, layouts: Layouts, name: str, step: Step | None) -> int:
    """What its step writes of a tensor: of a concatenation, what was not computed in its place."""
    if step is None or step.op != "Concat":
        return graph.tensors[name].bytes
    return sum(graph.tensors[x].bytes for x in layouts.reads(graph, step))


def lifetimes(graph: Graph, layouts: Layouts, order: Iterable[int]) -> dict[str, Lifetime]:
    """When each buffer is needed; a view keeps the tensor that holds its bytes.

    The application writes all inputs before the run and reads all outputs after it: inputs live
    from the first place on, outputs to the last.
    """
    places = {index: place for place, index in enumerate(order)}
    end = max(len(places) - 1, 0)
    spans: dict[str, Lifetime] = {}
    for name in graph.inputs:
        _extend(spans, layouts.root(name), 0)
    for index, place in places.items():
        step = graph.steps[index]
        for name in (*layouts.reads(graph, step), *step.outputs):
            if name:
                _extend(spans, layouts.root(name), place)
    for name in graph.outputs:
        _extend(spans, layouts.root(name), end)
    return spans


def _extend(spans: dict[str, Lifetime], name: str, place: int) -> None:
    span = spans.get(name, Lifetime(place, place))
    spans[name] = Lifetime(min(span.first, place), max(span.last, place))
