"""What one node says, and what a list of nodes makes: the ground that `Edit` stands on."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, helper, numpy_helper

Array = np.ndarray[Any, np.dtype[Any]]
Shape = tuple[int | None, ...]

STANDARD = ("", "ai.onnx")


def attribute(node: NodeProto, name: str, default: Any = None) -> Any:
    """Value of an attribute, or `default` where the node does not have it; text comes as str."""
    for entry in node.attribute:
        if entry.name == name:
            value = helper.get_attribute_value(entry)
            return value.decode() if isinstance(value, bytes) else value
    return default


def set_attribute(node: NodeProto, name: str, value: Any) -> None:
    """Give an attribute a new value; None removes it."""
    kept = [entry for entry in node.attribute if entry.name != name]
    del node.attribute[:]
    node.attribute.extend(kept)
    if value is not None:
        node.attribute.append(helper.make_attribute(name, value))


def slot(node: NodeProto, index: int) -> str:
    """Name of the input at a position, or "" where the optional input is absent."""
    return node.input[index] if index < len(node.input) else ""


def is_op(node: NodeProto | None, *op_types: str) -> bool:
    """Whether the node is one of these operators of the ONNX standard."""
    return node is not None and node.domain in STANDARD and node.op_type in op_types


def constant_value(node: NodeProto) -> Array | None:
    """Value of a Constant node; None for text and sparse tensors."""
    entry = node.attribute[0]
    value = helper.get_attribute_value(entry)
    if entry.name == "value":
        return numpy_helper.to_array(value)
    if entry.name in ("value_float", "value_floats"):
        return np.asarray(value, np.float32)
    return np.asarray(value, np.int64) if entry.name.startswith("value_int") else None


def subgraphs(node: NodeProto) -> Iterator[GraphProto]:
    """Bodies of If, Loop and Scan."""
    for entry in node.attribute:
        if entry.type == AttributeProto.GRAPH:
            yield entry.g
        yield from entry.graphs


def _captured(graph: GraphProto) -> set[str]:
    """Names of the outer graph that a body reads."""
    own = {value.name for value in [*graph.input, *graph.initializer]}
    own |= {name for node in graph.node for name in node.output}
    read = {value.name for value in graph.output}
    for node in graph.node:
        read.update(reads(node))
    return read - own


def reads(node: NodeProto) -> set[str]:
    """Names that the node needs, those read inside its bodies included."""
    names = {name for name in node.input if name}
    for body in subgraphs(node):
        names |= _captured(body)
    return names


def rename_read(node: NodeProto, old: str, new: str) -> None:
    for index, name in enumerate(node.input):
        if name == old:
            node.input[index] = new
    for body in subgraphs(node):
        for inner in body.node:
            rename_read(inner, old, new)
        for value in body.output:
            if value.name == old:
                value.name = new


def refill(field: Any, entries: Iterable[Any]) -> None:
    copies = [type(entry).FromString(entry.SerializeToString()) for entry in entries]
    del field[:]
    field.extend(copies)


def inferred(model: ModelProto) -> ModelProto:
    return onnx.shape_inference.infer_shapes(model, data_prop=True)


def all_nodes(nodes: Iterable[NodeProto]) -> Iterator[NodeProto]:
    for node in nodes:
        yield node
        for body in subgraphs(node):
            yield from all_nodes(body.node)


def live(
    nodes: Sequence[NodeProto], producers: Mapping[str, NodeProto], outputs: Iterable[str]
) -> list[NodeProto]:
    """The nodes that some graph output needs, in their order."""
    wanted = [producers[name] for name in outputs if name in producers]
    seen: set[int] = set()
    while wanted:
        node = wanted.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        wanted.extend(producers[name] for name in reads(node) if name in producers)
    return [node for node in nodes if id(node) in seen]


def ordered(nodes: Sequence[NodeProto], producers: Mapping[str, NodeProto]) -> list[NodeProto]:
    """Topological order that keeps the given one; a late producer moves up to its first reader."""
    done: set[int] = set()
    order: list[NodeProto] = []
    for root in nodes:
        stack = [root]
        while stack:
            node = stack[-1]
            missing = [
                producers[name]
                for name in sorted(reads(node), reverse=True)
                if name in producers and id(producers[name]) not in done
            ]
            if missing and id(node) not in done:
                stack.extend(missing)
                continue
            stack.pop()
            if id(node) not in done:
                done.add(id(node))
                order.append(node)
    return order
