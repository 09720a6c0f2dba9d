"""Lifetimes and live bytes against a simulation that keeps a set of tensors."""

import pytest
from models import MODELS

from mcugraph.graph import Graph
from mcugraph.layout import layouts_of
from mcugraph.optimize import rewrite
from mcugraph.read import read_graph
from mcugraph.schedule import find_schedule, lifetimes


def simulated_live(graph: Graph, root: dict[str, str]) -> list[int]:
    """Bytes alive at each step: written or given before, still to be read, or an output."""
    live = []
    steps = [step for step in graph.steps if root[step.output] == step.output]
    for place, step in enumerate(steps):
        known = {root[n] for n in graph.inputs}
        known |= {root[n] for s in steps[: place + 1] for n in s.outputs if n}
        later = [n for s in steps[place:] for n in graph.activations(s)]
        needed = {root[n] for n in (*later, *step.outputs, *graph.outputs) if n}
        live.append(sum(graph.tensors[n].bytes for n in known & needed))
    return live


@pytest.mark.parametrize("name", sorted(MODELS))
def test_live_bytes(name: str) -> None:
    graph = read_graph(rewrite(MODELS[name]()))
    layouts = layouts_of(graph)
    working = [i for i, step in enumerate(graph.steps) if step.output not in layouts.views]
    schedule = find_schedule(graph, layouts, working, [0] * len(working))
    root = {tensor: layouts.root(tensor) for tensor in layouts.of}
    spans = lifetimes(graph, layouts, working)
    live = [
        sum(graph.tensors[n].bytes for n, span in spans.items() if span.first <= at <= span.last)
        for at in range(len(working))
    ]
    unread = {n for n in graph.inputs if n not in graph.consumers and n not in graph.outputs}
    assert not unread
    assert live == simulated_live(graph, root)
    assert schedule.peak <= max(live)
    assert sorted(schedule.order) == working
