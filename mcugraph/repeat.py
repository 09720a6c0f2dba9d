"""Steps that run a second time: copies in a Graph, and the same copies in its ONNX model."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, replace

import onnx

from mcugraph.graph import Graph, Step
from mcugraph.passes._edit import Edit

# What the names of second copies end in.
AGAIN = "__again"
DEQUANTIZE = "DequantizeLinear"


@dataclass(frozen=True, order=True)
class Repeat:
    """Steps to run again, producers first, for some readers of the tensor that the last writes."""

    tensor: str
    readers: tuple[str, ...]
    steps: tuple[str, ...]


@dataclass(frozen=True)
class Copy:
    """A repeat that was made: `names` maps the tensors that are computed again to their copies.

    `readers` are the outputs of the steps that read the copy.
    """

    repeat: Repeat
    names: Mapping[str, str]
    readers: tuple[str, ...]


@dataclass(frozen=True)
class Recomputed:
    """The steps that run a second time; the arena and the multiply-accumulates without them."""

    steps: tuple[str, ...]
    arena: int
    macs: int


def is_possible(graph: Graph, repeat: Repeat) -> bool:
    """Whether the graph has these steps, and the readers read what the last of them writes."""
    steps = {step.name: step for step in graph.steps}
    if not steps.keys() >= {*repeat.steps, *repeat.readers}:
        return False
    made = steps[repeat.steps[-1]].outputs == (repeat.tensor,)
    return made and all(repeat.tensor in steps[name].inputs for name in repeat.readers)


def with_repeat(graph: Graph, repeat: Repeat) -> tuple[Graph, Copy]:
    """The graph with copies of the steps in front of the first reader, which then reads theirs."""
    taken = {step.name for step in graph.steps}
    made = [step for step in graph.steps if step.name in repeat.steps]
    names = {step.output: _fresh(step.output, graph.tensors) for step in made}
    copies = [_copied(step, names, _fresh(step.name, taken)) for step in made]
    readers = [step for step in graph.steps if step.name in repeat.readers]
    steps: list[Step] = []
    for step in graph.steps:
        if step is readers[0]:
            steps += copies
        own = {repeat.tensor: names[repeat.tensor]} if step in readers else {}
        steps.append(_rewired(step, own))
    tensors = {new: replace(graph.tensors[old], name=new) for old, new in names.items()}
    again = replace(graph, steps=tuple(steps), tensors={**graph.tensors, **tensors})
    return again, Copy(repeat, names, tuple(step.output for step in readers))


def _copied(step: Step, names: Mapping[str, str], name: str) -> Step:
    return replace(_rewired(step, names), name=name, outputs=(names[step.output],))


def _rewired(step: Step, names: Mapping[str, str]) -> Step:
    return replace(step, inputs=tuple(names.get(name, name) for name in step.inputs))


def _fresh(name: str, taken: Container[str]) -> str:
    name += AGAIN
    while name in taken:
        name += "_"
    return name


def repeat_model(model: onnx.ModelProto, graph: Graph, copies: Iterable[Copy]) -> onnx.ModelProto:
    """The ONNX model whose steps are those of a graph with copies, from that without them."""
    again = onnx.ModelProto()
    again.CopyFrom(model)
    for copy in copies:
        rewriter = _Rewriter(again.graph, graph)
        for name, own in copy.names.items():
            rewriter.copy(name, own, copy.names)
        for name in copy.readers:
            rewriter.redirect(name, copy.repeat.tensor, copy.names[copy.repeat.tensor])
    edit = Edit(again)
    edit.refresh()
    return edit.finish()


class _Rewriter:
    """Adds nodes to an ONNX graph, whose steps and tensors are those of a Graph, in any order."""

    def __init__(self, own: onnx.GraphProto, graph: Graph) -> None:
        self._own, self._tensors = own, graph.tensors
        self._makers = {name: node for node in own.node for name in node.output if name}
        self._taken = {*self._makers, *self._tensors}

    def copy(self, name: str, new: str, names: Mapping[str, str]) -> None:
        """Compute a step's tensor a second time, as `new`, from the copies of what it reads."""
        names = dict(names)
        for node in self._nodes_of(name):
            names |= {inner: self._name(inner) for inner in node.output if inner != name}
        for node in self._nodes_of(name):
            self._add(node, {**names, name: new})

    def redirect(self, output: str, old: str, new: str) -> None:
        """Let the nodes of one step read another tensor; a DequantizeLinear may have others."""
        for node in self._nodes_of(output):
            for index, name in enumerate(node.input):
                source = self._makers.get(name)
                if name == old and (node.op_type != DEQUANTIZE or output in node.output):
                    node.input[index] = new
                elif source is not None and source.op_type == DEQUANTIZE and old in source.input:
                    node.input[index] = self._name(name)
                    self._add(source, {name: node.input[index], old: new})

    def _nodes_of(self, output: str) -> list[onnx.NodeProto]:
        """The nodes of the step that computes a tensor, producers first."""
        node = self._makers[output]
        inner = (name for name in node.input if name in self._makers.keys() - self._tensors.keys())
        return [*(each for name in inner for each in self._nodes_of(name)), node]

    def _add(self, node: onnx.NodeProto, names: Mapping[str, str]) -> None:
        """A copy of a node with other tensors."""
        copy = self._own.node.add()
        copy.CopyFrom(node)
        copy.name = _fresh(node.name, {other.name for other in self._own.node})
        for field in (copy.input, copy.output):
            renamed = [names.get(name, name) for name in field]
            del field[:]
            field.extend(renamed)
        self._makers.update(dict.fromkeys(copy.output, copy))

    def _name(self, base: str) -> str:
        name = _fresh(base, self._taken)
        self._taken.add(name)
        return name
