"""The order in which steps run, and which of them run fused."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mcugraph.graph import Graph
from mcugraph.layout import Layouts


@dataclass(frozen=True)
class Schedule:
    """Step indices in execution order, in groups whose steps run interleaved row by row.

    A group of one step runs it whole. `peak` is the most bytes of tensors alive at once.
    """

    groups: tuple[tuple[int, ...], ...]
    peak: int

    @property
    def order(self) -> tuple[int, ...]:
        """Step indices in execution order."""
        return tuple(index for group in self.groups for index in group)


@dataclass(frozen=True)
class Lifetime:
    """First and last place in the order at which a tensor's bytes are needed."""

    first: int
    last: int


def file_order(graph: Graph, layouts: Layouts) -> Schedule:
    """Every step by itself, in the order of the file."""
    order = tuple(range(len(graph.steps)))
    live = live_bytes(graph, layouts, lifetimes(graph, layouts, order))
    return Schedule(tuple((index,) for index in order), max(live, default=0))


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
        for name in (*graph.activations(step), *step.outputs):
            if name:
                _extend(spans, layouts.root(name), place)
    for name in graph.outputs:
        _extend(spans, layouts.root(name), end)
    return spans


def live_bytes(graph: Graph, layouts: Layouts, spans: Mapping[str, Lifetime]) -> list[int]:
    """Bytes of tensors alive at each place in the order."""
    end = 1 + max((span.last for span in spans.values()), default=-1)
    live = [0] * end
    for name, span in spans.items():
        for place in range(span.first, span.last + 1):
            live[place] += graph.tensors[name].bytes
    return live


def _extend(spans: dict[str, Lifetime], name: str, place: int) -> None:
    span = spans.get(name, Lifetime(place, place))
    spans[name] = Lifetime(min(span.first, place), max(span.last, place))
