"""Bytes below which no order of the steps can stay."""

from __future__ import annotations

import networkx as nx

from mcugraph.lattice import Lattice
from mcugraph.problem import Item, Problem

DONE, OPEN = "done", "open"


def step_bound(problem: Problem) -> int:
    """Return the most bytes that one step touches or has as scratch, beside kept inputs."""
    touched = list(problem.extra)
    always = 0
    for item in problem.items:
        if item.producer is None and item.kept:
            always += item.size
            continue
        for step in item.readers:
            touched[step] += item.size
        if item.producer is not None:
            touched[item.producer] += item.size
    return max((always + size for size in touched), default=0)


def least_load(problem: Problem, lattice: Lattice, step: int) -> int:
    """Return the fewest bytes alive at a step, over all sets of steps that can be done before it.

    A minimum cut between what must be done by then and what cannot be: an item costs its size
    where its producer is done and one of its readers is not.
    """
    places: list[int | str] = [
        DONE if lattice.before[step] >> s & 1 else OPEN if mask >> step & 1 else s
        for s, mask in enumerate(lattice.before)
    ]
    places[step] = OPEN
    network = nx.DiGraph()
    network.add_nodes_from((DONE, OPEN))
    fixed = lattice.written[step]
    for item in problem.items:
        if item.lives and item.producer != step:
            fixed += _add_item(network, item, places)
    flow: int = nx.maximum_flow_value(network, DONE, OPEN)
    return fixed + flow


def _add_item(network: nx.DiGraph, item: Item, places: list[int | str]) -> int:
    """Add what an item may cost and what its readers need; return its size if it surely lives."""
    source = DONE if item.producer is None else places[item.producer]
    readers = {places[step] for step in item.readers} - {DONE}
    to_end = item.kept or OPEN in readers
    if source == OPEN or not (to_end or readers):
        return 0
    if source != DONE:
        network.add_edges_from((reader, source) for reader in readers - {OPEN})
    elif to_end:
        return item.size
    sink = OPEN if to_end else item
    known = network.get_edge_data(source, sink, {"capacity": 0})["capacity"]
    network.add_edge(source, sink, capacity=known + item.size)
    if not to_end:
        network.add_edges_from((item, reader) for reader in readers)
    return 0
