"""Dynamic dimensions: give them values, and name the tensors whose shape stays unknown."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar

from onnx import ModelProto, NodeProto, TensorShapeProto, ValueInfoProto, checker, shape_inference

from mcugraph.errors import LoadError, plain, title

T = TypeVar("T")
Dimension = TensorShapeProto.Dimension

_INFERENCE = re.compile(r"\(op_type:\s*([^,)]*)(?:, node name: (.*?))?\): (.*)")


def bind_dims(model: ModelProto, dims: Mapping[str, int]) -> list[str]:
    """Write the values of dynamic dimensions into the model's interface; returns what is missing.

    A leading dimension without a value is the batch, and becomes 1. ValueError where `dims` names
    a dimension that the model does not have.
    """
    inputs = _inputs(model)
    dynamic = {_key(v, axis, dim): axis for v in inputs for axis, dim in _dynamic(v)}
    _check_request(dims, dynamic)
    batch = {_key(v, axis, dim): 1 for v in inputs for axis, dim in _dynamic(v) if axis == 0}
    values = {**batch, **dims}
    for value in (*inputs, *model.graph.value_info, *model.graph.output):
        _substitute(value, values)
    return [line for value in inputs for line in _missing(value)]


def infer(model: ModelProto) -> ModelProto:
    """The model with the shapes and types of all tensors that follow from its inputs'.

    LoadError where the nodes contradict ONNX or one another. An output's declared shape serves only
    where none can be worked out.
    """
    declared = {value.name: _shape(value) for value in model.graph.output}
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    inferred = _guarded(
        lambda: shape_inference.infer_shapes(
            model, check_type=True, strict_mode=True, data_prop=True
        )
    )
    _restore(inferred, declared)
    _require_shapes(inferred)
    _guarded(lambda: checker.check_model(inferred, full_check=True))
    return inferred


def unresolved(model: ModelProto) -> list[str]:
    """One line for each node where a shape first stays unknown, with the reason and a way out."""
    graph = shape_inference.infer_shapes(model, data_prop=True).graph
    values = (*graph.input, *graph.value_info, *graph.output)
    shapes = {value.name: _shape(value) for value in values}
    static = {name for name, shape in shapes.items() if shape is not None and None not in shape}
    static |= {tensor.name for tensor in graph.initializer}
    return [
        _reason(node, name, shapes.get(name))
        for node in graph.node
        for name in node.output
        if name and name not in static and all(i in static for i in node.input if i)
    ]


def _guarded(work: Callable[[], T]) -> T:
    try:
        return work()
    except (shape_inference.InferenceError, checker.ValidationError) as error:
        raise LoadError(_lines(error)) from None
    except (RuntimeError, ValueError, TypeError) as error:
        raise LoadError([f"the model is not valid ONNX: {plain(error)}"]) from None


def _reason(node: NodeProto, name: str, shape: list[int | None] | None) -> str:
    known = "unknown" if shape is None else f"[{', '.join(_text(dim) for dim in shape)}]"
    return (
        f"tensor {name}: its shape, {known}, does not follow from the shapes that {title(node)} "
        "reads; export the model with static shapes"
    )


def _text(dim: int | None) -> str:
    return "?" if dim is None else str(dim)


def _inputs(model: ModelProto) -> list[ValueInfoProto]:
    return [value for value in model.graph.input if value.type.HasField("tensor_type")]


def _key(value: ValueInfoProto, axis: int, dim: Dimension) -> str:
    return dim.dim_param or f"{value.name}:{axis}"


def _dynamic(value: ValueInfoProto) -> Iterator[tuple[int, Dimension]]:
    for axis, dim in enumerate(value.type.tensor_type.shape.dim):
        if not dim.HasField("dim_value"):
            yield axis, dim


def _check_request(dims: Mapping[str, int], dynamic: Iterable[str]) -> None:
    there = ", ".join(dynamic) or "none"
    problems = [
        f"the model has no dynamic dimension {name!r}; there are: {there}"
        for name in dims
        if name not in dynamic
    ]
    problems += [f"--dim {name}={n}: must be at least 1" for name, n in dims.items() if n < 1]
    if problems:
        raise ValueError("\n".join(problems))


def _substitute(value: ValueInfoProto, values: Mapping[str, int]) -> None:
    for axis, dim in _dynamic(value):
        if _key(value, axis, dim) in values:
            dim.dim_value = values[_key(value, axis, dim)]


def _missing(value: ValueInfoProto) -> Iterator[str]:
    kind = value.type.tensor_type
    if not kind.HasField("shape"):
        yield f"input {value.name} has no shape; export the model with static shapes"
    for axis, dim in enumerate(kind.shape.dim):
        if not dim.HasField("dim_value"):
            yield (
                f"input {value.name}: dimension {axis} is dynamic; "
                f"give its size: --dim {_key(value, axis, dim)}=<n>"
            )
        elif dim.dim_value < 1:
            yield f"input {value.name}: dimension {axis} is {dim.dim_value}; must be at least 1"


def _shape(value: ValueInfoProto) -> list[int | None] | None:
    kind = value.type.tensor_type
    if not kind.HasField("shape"):
        return None
    return [d.dim_value if d.HasField("dim_value") else None for d in kind.shape.dim]


def _restore(model: ModelProto, declared: Mapping[str, list[int | None] | None]) -> None:
    for value in model.graph.output:
        shape = declared[value.name]
        found = _shape(value)
        if shape is None or (found is not None and (None in shape or None not in found)):
            continue
        dims = value.type.tensor_type.shape.dim
        del dims[:]
        dims.extend(Dimension(dim_value=dim) if dim is not None else Dimension() for dim in shape)


def _require_shapes(model: ModelProto) -> None:
    problems = [
        f"output {value.name} has no shape, and none can be worked out; export the model with "
        "static shapes"
        for value in model.graph.output
        if _shape(value) is None
    ]
    if problems:
        raise LoadError(problems)


def _lines(error: Exception) -> list[str]:
    """One line for each node that the checker or the shape inference complains of."""
    lines = [_line(text) for text in str(error).splitlines() if "op_type:" in text]
    # Once a node is wrong, its readers miss an input: only the first cause helps.
    causes = [line for line in lines if "expected to have type but instead is null" not in line]
    return causes or lines or [f"the model is not valid ONNX: {plain(error)}"]


def _line(text: str) -> str:
    match = _INFERENCE.search(text)
    if match is None:
        return plain(text)
    op, name, complaint = match.groups()
    return f"node {name or '?'} ({op}): {plain(complaint)}"
