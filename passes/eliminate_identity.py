"""f(x) -> x, where f changes nothing."""

import math
from collections.abc import Callable

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto

from mcugraph.passes._edit import Array, Edit, attribute, is_op, slot

_RESHAPES = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")
_NARROW = (TensorProto.INT8, TensorProto.UINT8, TensorProto.INT16, TensorProto.UINT16)
_GRIDS = ("half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "asymmetric", "align_corners")


def eliminate_identity(model: ModelProto) -> ModelProto:
    """f(x) -> x, where f changes nothing.

    1. Identity, and Dropout in inference. 2. Reshape, Flatten, Squeeze, Unsqueeze, Expand, Tile
    and Slice (step 1) to the same shape. 3. Transpose that leaves the order. 4. Cast, CastLike
    to the same type. 5. Pad by nothing. 6. Concat, Sum, Mean, Max, Min of one input, Split into
    one output. 7. Resize to the same size. 8. Clip without bounds. 9. Gather by a table 0, 1,
    2, ...; one that also changes the shape becomes a Reshape. 10. x + 0, x - 0, x * 1, x / 1.
    11. Pooling by a window of one. 12. QuantizeLinear(DequantizeLinear(x)) of one scale and
    zero point. 13. A reshape of a reshape: the outer one alone. Between an input and an output
    of the model, or two outputs, Identity takes its place.
    """
    edit = Edit(model)
    while _sweep(edit):
        edit.refresh()
    return edit.finish()


def _sweep(edit: Edit) -> bool:
    found = False
    for node in list(edit.nodes):
        source = _same_as(edit, node)
        if source is not None and not any(node.output[1:]):
            found |= edit.bypass(node, source) or _to_identity(edit, node, source)
        elif is_op(node, "Gather"):
            found |= _gather_to_reshape(edit, node)
        elif is_op(node, *_RESHAPES):
            found |= _merge_reshapes(edit, node)
    return found


def _to_identity(edit: Edit, node: NodeProto, source: str) -> bool:
    """Between two names of the interface something must stand, but nothing that computes."""
    if is_op(node, "Identity"):
        return False
    edit.remove(node)
    edit.add("Identity", [source], node.output[0])
    return True


def _same_as(edit: Edit, node: NodeProto) -> str | None:
    """The input that the node's first output equals."""
    if is_op(node, "Add", "Mul", "Sub", "Div"):
        return _neutral(edit, node)
    if is_op(node, "QuantizeLinear"):
        return _requantized(edit, node)
    rule = _RULES.get(node.op_type) if is_op(node, node.op_type) else None
    return node.input[0] if rule is not None and rule(edit, node) else None


def _always(_: Edit, node: NodeProto) -> bool:
    return True


def _one_input(_: Edit, node: NodeProto) -> bool:
    return len(node.input) == 1


def _one_output(_: Edit, node: NodeProto) -> bool:
    return len(node.output) == 1


def _in_inference(edit: Edit, node: NodeProto) -> bool:
    training = slot(node, 2)
    return not training or bool(edit.scalar(training) == np.False_)


def _same_shape(edit: Edit, node: NodeProto) -> bool:
    before, after = edit.static_shape(node.input[0]), edit.static_shape(node.output[0])
    return before is not None and before == after


def _in_order(edit: Edit, node: NodeProto) -> bool:
    order = attribute(node, "perm")
    if order is None:
        shape = edit.shape(node.input[0])
        return shape is not None and len(shape) < 2
    return list(order) == list(range(len(order)))


def _same_type(edit: Edit, node: NodeProto) -> bool:
    kind = attribute(node, "to") if node.op_type == "Cast" else edit.dtype(node.input[1])
    return bool(kind and edit.dtype(node.input[0]) == kind)


def _full_slice(edit: Edit, node: NodeProto) -> bool:
    steps = edit.constant(slot(node, 4))
    regular = not slot(node, 4) or (steps is not None and bool(np.all(steps == 1)))
    return regular and _same_shape(edit, node)


def _no_pads(edit: Edit, node: NodeProto) -> bool:
    pads = edit.constant(slot(node, 1))
    return pads is not None and not np.any(pads)


def _same_size(edit: Edit, node: NodeProto) -> bool:
    """By scales of 1 or by sizes; the other coordinate transformations may shift the grid."""
    if attribute(node, "coordinate_transformation_mode", "half_pixel") not in _GRIDS:
        return False
    scales = edit.constant(slot(node, 2))
    if scales is not None and scales.size:
        return bool(np.all(scales == 1))
    return bool(slot(node, 3)) and _same_shape(edit, node)


def _unbounded(edit: Edit, node: NodeProto) -> bool:
    low, high = slot(node, 1), slot(node, 2)
    below = not low or edit.scalar(low) == -np.inf
    return below and (not high or edit.scalar(high) == np.inf)


def _full_table(edit: Edit, node: NodeProto) -> bool:
    return _is_range(edit, node) and _same_shape(edit, node)


def _is_range(edit: Edit, node: NodeProto) -> bool:
    """Whether a Gather takes every entry of its axis, in order."""
    table, shape = edit.constant(node.input[1]), edit.shape(node.input[0])
    if table is None or shape is None:
        return False
    count = shape[attribute(node, "axis", 0)]
    wanted = np.arange(count) if count is not None else None
    flat = table.reshape(-1)
    return wanted is not None and np.array_equal(np.where(flat < 0, flat + count, flat), wanted)


def _tiny_pool(_: Edit, node: NodeProto) -> bool:
    steps = [*attribute(node, "kernel_shape", (0,)), *attribute(node, "strides", ())]
    return all(step == 1 for step in steps) and not any(attribute(node, "pads", ()))


_RULES: dict[str, Callable[[Edit, NodeProto], bool]] = {
    "Identity": _always,
    "Dropout": _in_inference,
    "Reshape": _same_shape,
    "Flatten": _same_shape,
    "Squeeze": _same_shape,
    "Unsqueeze": _same_shape,
    "Expand": _same_shape,
    "Tile": _same_shape,
    "Slice": _full_slice,
    "Transpose": _in_order,
    "Cast": _same_type,
    "CastLike": _same_type,
    "Pad": _no_pads,
    "Concat": _one_input,
    "Sum": _one_input,
    "Mean": _one_input,
    "Max": _one_input,
    "Min": _one_input,
    "Split": _one_output,
    "Resize": _same_size,
    "Clip": _unbounded,
    "Gather": _full_table,
    "AveragePool": _tiny_pool,
    "MaxPool": _tiny_pool,
}


def _neutral(edit: Edit, node: NodeProto) -> str | None:
    """Case 10: the other operand, unless the neutral one widens it."""
    wanted = 0 if node.op_type in ("Add", "Sub") else 1
    for index in (1, 0) if node.op_type in ("Add", "Mul") else (1,):
        value, other = edit.constant(node.input[index]), str(node.input[1 - index])
        if value is None or not np.all(value == wanted) or edit.constant(other) is not None:
            continue
        shape = edit.shape(other)
        if shape is not None and _fits(value, shape):
            return other
    return None


def _fits(value: Array, shape: tuple[int | None, ...]) -> bool:
    """Whether broadcasting with a constant leaves a shape as it is."""
    tail = shape[len(shape) - value.ndim :]
    if value.ndim > len(shape):
        return False
    return all(size in (1, dim) for size, dim in zip(value.shape, tail, strict=True))


def _requantized(edit: Edit, node: NodeProto) -> str | None:
    """Case 12: exact for narrow integers, whose float32 image is far finer than half a step."""
    before = edit.producer(node.input[0])
    if before is None or not is_op(before, "DequantizeLinear"):
        return None
    source = str(before.input[0])
    kind = edit.dtype(source)
    if kind not in _NARROW or kind != _quantized_type(edit, node):
        return None
    first, second = _quantization(edit, before), _quantization(edit, node)
    if first is None or second is None or not all(map(np.array_equal, first, second)):
        return None
    per_axis = first[0].size > 1
    return (
        None if per_axis and attribute(before, "axis", 1) != attribute(node, "axis", 1) else source
    )


def _quantized_type(edit: Edit, node: NodeProto) -> int:
    """Element type that a QuantizeLinear produces."""
    zero = slot(node, 2)
    return edit.dtype(zero) if zero else attribute(node, "output_dtype", 0) or TensorProto.UINT8


def _quantization(edit: Edit, node: NodeProto) -> tuple[Array, Array] | None:
    """Scale and zero point, as vectors; None unless both are constant and ordinary."""
    scale = edit.constant(node.input[1])
    if scale is None or np.any(scale < 1e-30) or attribute(node, "block_size", 0):
        return None
    zero = edit.constant(slot(node, 2)) if slot(node, 2) else np.zeros_like(scale, np.int32)
    return None if zero is None else (scale.reshape(-1), zero.reshape(-1).astype(np.int32))


def _gather_to_reshape(edit: Edit, node: NodeProto) -> bool:
    """Case 9: torch spells a pooled NHWC tensor as Gather(flat, table [1, C, 1, 1])."""
    if not _is_range(edit, node):
        return False
    return _reshape(edit, node, node.input[0])


def _merge_reshapes(edit: Edit, node: NodeProto) -> bool:
    """Case 13."""
    inner = edit.producer(node.input[0])
    if inner is None or not is_op(inner, *_RESHAPES) or edit.sole_user(node.input[0]) is None:
        return False
    return _reshape(edit, node, inner.input[0])


def _reshape(edit: Edit, node: NodeProto, source: str) -> bool:
    shape = edit.static_shape(node.output[0])
    if shape is None or math.prod(shape) == 0:
        return False
    target = node.output[0]
    edit.remove(node)
    edit.add("Reshape", [source, edit.store(f"{target}__shape", np.array(shape))], target)
    return True
