"""Lifetimes and live bytes against a simulation that keeps a set of tensors."""

import pytest
from models import MODELS

from mcugraph.graph import Graph
from mcugraph.layout import layouts_of
from mcugraph.optimize import rewrite
from mcugraph.read import read_graph
from mcugraph.schedule import file_order, lifetimes, live_bytes


def simulated_live(graph: Graph, root: dict[str, str]) -> list[int]:
    """Bytes alive at each step: written or given before, still to be read, or an output."""
    live = []
    for place, step in enumerate(graph.steps):
        known = {root[n] for n in graph.inputs}
        known |= {root[n] for s in graph.steps[: place + 1] for n in s.outputs if n}
        later = [n for s in graph.steps[place:] for n in graph.activations(s)]
        needed = {root[n] for n in (*later, *step.outputs, *graph.outputs) if n}
        live.append(sum(graph.tensors[n].bytes for n in known & needed))
    return live


@pytest.mark.parametrize("name", sorted(MODELS))
def test_live_bytes(name: str) -> None:
    graph = read_graph(rewrite(MODELS[name]()))
    layouts = layouts_of(graph)
    schedule = file_order(graph, layouts)
    root = {tensor: layouts.root(tensor) for tensor in layouts.of}
    live = live_bytes(graph, layouts, lifetimes(graph, layouts, schedule.order))
    unread = {n for n in graph.inputs if n not in graph.consumers and n not in graph.outputs}
    assert not unread
    assert live == simulated_live(graph, root)
    assert schedule.peak == max(live)
    assert schedule.order == tuple(range(len(graph.steps)))
