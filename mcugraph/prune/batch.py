"""Where the batch stands: models are exported for one sample and trained on many."""

from __future__ import annotations

from math import prod

from onnx import ModelProto, NodeProto
from onnx.shape_inference import infer_shapes
from torch import Tensor


def free_inputs(model: ModelProto) -> list[str]:
    """The inputs of a model that are not initializers."""
    held = {tensor.name for tensor in model.graph.initializer}
    return [value.name for value in model.graph.input if value.name not in held]


def batch_reshapes(model: ModelProto) -> dict[str, int]:
    """Where the batch stands in the shape that each Reshape is given: sizes are those of one."""
    graph = infer_shapes(model, data_prop=True).graph
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.value_info, *graph.output)
    }
    axes = dict.fromkeys(free_inputs(model), 0)
    found: dict[str, int] = {}
    for node in model.graph.node:
        source = next((name for name in node.input if name in axes), None)
        if source is None or any(name not in shapes for name in (source, *node.output)):
            continue
        axis = _batch_axis(node, axes[source], shapes[source], shapes[node.output[0]])
        if axis is not None:
            axes |= _batch_outputs(node, axis)
        if axis is not None and node.op_type == "Reshape":
            found[node.output[0]] = axis
    return found


def _batch_outputs(node: NodeProto, axis: int) -> dict[str, int]:
    if node.op_type in ("GRU", "LSTM", "RNN"):
        return {name: 2 if place == 0 else 1 for place, name in enumerate(node.output) if name}
    return dict.fromkeys(filter(None, node.output), axis)


def _batch_axis(node: NodeProto, axis: int, before: list[int], after: list[int]) -> int | None:
    """Where an axis of size 1 stands after a node."""
    if node.op_type == "Transpose":
        perm = next((list(a.ints) for a in node.attribute if a.name == "perm"), None)
        return len(before) - 1 - axis if perm is None else perm.index(axis)
    if node.op_type in ("Reshape", "Flatten", "Squeeze", "Unsqueeze") or (
        node.op_type.startswith("Reduce") and len(after) < len(before)
    ):
        lead = prod(before[:axis])
        fits = (j for j in range(len(after)) if prod(after[:j]) == lead and after[j] == 1)
        return next(fits, None)
    if node.op_type in ("Gather", "GRU", "LSTM", "RNN") or len(before) == len(after):
        return axis
    return axis + len(after) - len(before)


def for_batch(shape: Tensor | None, axis: int, batch: int) -> Tensor:
    """A shape that was given for one sample, for a batch."""
    assert shape is not None, "a Reshape has no shape"
    shape = shape.clone()
    if shape[axis] == 1:
        shape[axis] = batch
    return shape
