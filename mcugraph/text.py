"""The canonical text of an ONNX model: one line a node, small enough to read and to compare."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import numpy as np
from numpy.typing import NDArray
from onnx import (
    AttributeProto,
    GraphProto,
    ModelProto,
    NodeProto,
    TensorShapeProto,
    TypeProto,
    helper,
    numpy_helper,
)
from onnx.shape_inference import infer_shapes

# Integer constants up to this size are written out: shapes, axes, pads, split sizes.
SHORT = 8


def graph_text(model: ModelProto) -> str:
    """What a model computes, whatever its file says beside that.

    Inputs, nodes in their order with sorted attributes, outputs, and metadata of our own. Constants
    are shown by type, shape and mean magnitude in three digits, scalars and short integer lists by
    value, so that the text is the same on machines whose floats differ in the last bit.
    """
    graph = infer_shapes(model, data_prop=True).graph
    lines = [*_Text(graph).lines(), *_metadata(model)]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _metadata(model: ModelProto) -> Iterator[str]:
    for entry in sorted(model.metadata_props, key=lambda entry: entry.key):
        if entry.key.startswith("mcugraph."):
            yield f"{entry.key} {entry.value}"


class _Text:
    """One graph or body; the constants and types of the graph around it are known, too."""

    def __init__(self, graph: GraphProto, around: _Text | None = None) -> None:
        self._graph = graph
        self._constants: dict[str, str] = dict(around._constants) if around else {}
        self._types: dict[str, TypeProto] = dict(around._types) if around else {}
        for tensor in graph.initializer:
            self._constants[tensor.name] = _constant(numpy_helper.to_array(tensor))
        for value in chain(graph.value_info, graph.input, graph.output):
            self._types[value.name] = value.type

    def lines(self) -> Iterator[str]:
        for value in self._graph.input:
            yield f"input  {self._typed(value.name)}"
        for node in self._graph.node:
            yield from self._node(node)
        for value in self._graph.output:
            yield f"output {value.name}"

    def _node(self, node: NodeProto) -> Iterator[str]:
        left = ", ".join(map(self._typed, filter(None, node.output)))
        right = ", ".join(self._constants.get(name, name) or "-" for name in node.input)
        op = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
        attributes = sorted(node.attribute, key=lambda entry: entry.name)
        plain = [_attribute(entry) for entry in attributes if not _is_body(entry)]
        yield " ".join([f"{left} = {op}({right})", *plain])
        for entry in filter(_is_body, attributes):
            yield f"    {entry.name}:"
            yield from (f"        {line}" for line in _Text(entry.g, self).lines())

    def _typed(self, name: str) -> str:
        kind = self._types.get(name)
        if kind is None or not kind.tensor_type.elem_type:
            return name
        dtype = helper.tensor_dtype_to_np_dtype(kind.tensor_type.elem_type)
        return f"{name}: {dtype}[{', '.join(map(_dim, kind.tensor_type.shape.dim))}]"


def _dim(dim: TensorShapeProto.Dimension) -> str:
    """A size, a name, or ? where there is neither; shape inference makes up names of its own."""
    named = dim.dim_param and not dim.dim_param.startswith("unk__")
    return dim.dim_param if named else (str(dim.dim_value) if dim.HasField("dim_value") else "?")


def _is_body(entry: AttributeProto) -> bool:
    return bool(entry.type == AttributeProto.GRAPH)


def _attribute(entry: AttributeProto) -> str:
    value = helper.get_attribute_value(entry)
    if entry.type == AttributeProto.TENSOR:
        return f"{entry.name}={_constant(numpy_helper.to_array(value))}"
    if isinstance(value, bytes):
        return f"{entry.name}={value.decode()}"
    if isinstance(value, float):
        return f"{entry.name}={value:.6g}"
    return f"{entry.name}={list(value) if isinstance(value, (list, tuple)) else value}"


def _constant(value: NDArray[np.generic]) -> str:
    if value.size == 1:
        item = value.reshape(-1)[0].item()
        return f"{item:.6g}" if isinstance(item, float) else str(item)
    if value.size <= SHORT and value.dtype == np.int64:
        return str(value.tolist())
    text = f"{value.dtype}{list(value.shape)}"
    if value.size and np.issubdtype(value.dtype, np.number):
        text += f"~{np.abs(value.astype(np.float64)).mean():.3g}"
    return text
