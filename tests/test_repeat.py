"""Steps that run a second time: the graph, the ONNX model, and both of them alike."""

from typing import Any

import numpy as np
import onnx
import pytest
from models import MODELS, Net, quantized, random_inputs
from onnx import ModelProto

from mcugraph.graph import Graph
from mcugraph.load import load_model
from mcugraph.optimize import rewrite
from mcugraph.oracle import Oracle
from mcugraph.read import read_graph
from mcugraph.repeat import Copy, Repeat, is_possible, repeat_model, with_repeat


def clean(name: str) -> ModelProto:
    return rewrite(load_model(MODELS[name]()))


def repeats_of(graph: Graph) -> list[Repeat]:
    """For each tensor that several steps read: its step, and the one before, for all but one."""
    found = []
    for name, readers in graph.consumers.items():
        step = graph.producers.get(name)
        if step is None or len(readers) < 2 or len(step.outputs) > 1:
            continue
        steps = [step]
        late = tuple(reader.name for reader in readers[1:])
        found.append(Repeat(name, late, (step.name,)))
        before = graph.producers.get(step.inputs[0])
        if before is not None and len(before.outputs) == 1:
            steps.insert(0, before)
            found.append(Repeat(name, late, tuple(s.name for s in steps)))
    return found


def shape_of(graph: Graph) -> set[tuple[Any, ...]]:
    """The steps without their names and without their order."""
    return {(s.op, s.inputs, s.outputs, str(s.activation), len(s.attributes)) for s in graph.steps}


NAMES = [name for name in sorted(MODELS) if repeats_of(read_graph(clean(name)))]


@pytest.mark.parametrize("name", NAMES)
def test_graph_and_model_get_the_same_copies_and_compute_the_same(name: str) -> None:
    model = clean(name)
    graph = original = read_graph(model)
    copies: list[Copy] = []
    for repeat in repeats_of(graph):
        if is_possible(graph, repeat):
            graph, copy = with_repeat(graph, repeat)
            copies.append(copy)
    again = repeat_model(model, graph, copies)
    onnx.checker.check_model(again, full_check=True)
    read = read_graph(again)
    assert shape_of(read) == shape_of(graph)
    assert (read.inputs, read.outputs) == (original.inputs, original.outputs)
    assert len(read.steps) == len(original.steps) + sum(len(c.names) for c in copies)
    feed = random_inputs(model)
    pairs = [(old, new) for copy in copies for old, new in copy.names.items()]
    shown = Oracle(again, [tensor for pair in pairs for tensor in pair]).run(feed)
    for old, new in pairs:
        np.testing.assert_array_equal(shown[old], shown[new])
    for output, values in Oracle(model).run(feed).items():
        np.testing.assert_array_equal(shown[output], values)


def diamond() -> Graph:
    net = Net(17)
    x = net("Relu", net.conv("a", net.input("x", 1, 2, 6, 6), 2, 2, 3, 3))
    y = net("Relu", net.conv("b", x, 2, 2, 3, 3))
    model = net.model(net("Add", x, net.conv("c", y, 2, 2, 3, 3)))
    return read_graph(rewrite(load_model(quantized(lambda: model))))


def test_copies_stand_before_the_first_reader_and_only_readers_read_them() -> None:
    graph = diamond()
    first, add = graph.steps[0], graph.steps[-1]
    again, copy = with_repeat(graph, Repeat(first.output, (add.name,), (first.name,)))
    assert [s.name for s in again.steps[-2:]] == [f"{first.name}__again", add.name]
    assert again.steps[:-2] == graph.steps[:-1]
    assert copy.names == {first.output: f"{first.output}__again"}
    assert again.consumers[first.output] == (again.steps[1],)
    assert again.steps[-2].inputs == first.inputs
    more, _ = with_repeat(again, Repeat(first.output, (graph.steps[1].name,), (first.name,)))
    assert len({step.name for step in more.steps}) == len(more.steps) == len(graph.steps) + 2


def test_a_repeat_needs_its_steps_and_its_readers() -> None:
    graph = diamond()
    first, second, add = graph.steps[0], graph.steps[1], graph.steps[-1]
    assert is_possible(graph, Repeat(first.output, (add.name,), (first.name,)))
    assert not is_possible(graph, Repeat(first.output, (add.name,), ("nothing",)))
    assert not is_possible(graph, Repeat(first.output, ("nothing",), (first.name,)))
    assert not is_possible(graph, Repeat(second.output, (add.name,), (second.name,)))
    assert not is_possible(graph, Repeat(first.output, (add.name,), (second.name,)))
