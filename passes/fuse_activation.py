"""QuantizeLinear(Relu(x)) -> QuantizeLinear(x), where saturation does the same."""

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper

from mcugraph.passes._edit import Array, Edit, attribute, is_op, slot

_RANGES: dict[int, tuple[int, int]] = {
    TensorProto.INT8: (-128, 127),
    TensorProto.UINT8: (0, 255),
    TensorProto.INT16: (-32768, 32767),
    TensorProto.UINT16: (0, 65535),
}
Bounds = tuple[float, float]


def fuse_activation(model: ModelProto) -> ModelProto:
    """QuantizeLinear(Relu(x)) -> QuantizeLinear(x), where saturation does the same.

    1. Relu or Clip before QuantizeLinear whose bounds quantise to the ends of the integer range
    (rounding is monotonic, so this is exact). 2. Relu and Clip of Relu or Clip merge in one.
    """
    edit = Edit(model)
    for node in list(edit.nodes):
        if is_op(node, "Relu", "Clip"):
            _merge(edit, node)
    for node in list(edit.nodes):
        if is_op(node, "QuantizeLinear"):
            _absorb(edit, node)
    return edit.finish()


def _bounds(edit: Edit, node: NodeProto | None) -> Bounds | None:
    """Lower and upper bound of a Relu or a Clip with constant, ordered bounds."""
    if node is None or is_op(node, "Relu"):
        return None if node is None else (0.0, np.inf)
    if not is_op(node, "Clip"):
        return None
    low, high = slot(node, 1), slot(node, 2)
    below = edit.scalar(low) if low else -np.inf
    above = edit.scalar(high) if high else np.inf
    if below is None or above is None or not below <= above:
        return None
    return float(below), float(above)


def _merge(edit: Edit, node: NodeProto) -> None:
    """Case 2."""
    inner = edit.producer(node.input[0])
    outer_bounds, inner_bounds = _bounds(edit, node), _bounds(edit, inner)
    if inner is None or outer_bounds is None or inner_bounds is None:
        return
    if edit.sole_user(inner.output[0]) is None:
        return
    low, high = (float(np.clip(bound, *outer_bounds)) for bound in inner_bounds)
    source, target, dtype = inner.input[0], node.output[0], edit.dtype(node.output[0])
    edit.remove(node)
    if (low, high) == (0.0, np.inf):
        edit.add("Relu", [source], target)
        return
    inputs = [
        _stored(edit, f"{target}__{name}", bound, dtype)
        for name, bound in (("min", low), ("max", high))
    ]
    edit.add("Clip", [source, *inputs], target)


def _stored(edit: Edit, base: str, bound: float, dtype: int) -> str:
    if np.isinf(bound):
        return ""
    return edit.store(base, np.asarray(bound, helper.tensor_dtype_to_np_dtype(dtype)))


def _absorb(edit: Edit, node: NodeProto) -> None:
    """Case 1."""
    inner = edit.producer(node.input[0])
    bounds = _bounds(edit, inner)
    if inner is None or bounds is None or edit.sole_user(inner.output[0]) is None:
        return
    if _saturates(edit, node, bounds):
        edit.set_input(node, 0, inner.input[0])


def _saturates(edit: Edit, node: NodeProto, bounds: Bounds) -> bool:
    """Whether both bounds quantise to the ends of the integer type, in every channel."""
    scale = edit.constant(node.input[1])
    zero = edit.constant(slot(node, 2)) if slot(node, 2) else np.uint8(0)
    if scale is None or zero is None or attribute(node, "block_size", 0):
        return False
    lowest, highest = _RANGES.get(_type_of(edit, node), (0, -1))
    low, high = (_quantize(bound, scale, np.asarray(zero)) for bound in bounds)
    return lowest < highest and bool(np.all(low <= lowest) and np.all(high >= highest))


def _type_of(edit: Edit, node: NodeProto) -> int:
    if slot(node, 2):
        return edit.dtype(slot(node, 2))
    return attribute(node, "output_dtype", 0) or TensorProto.UINT8


def _quantize(bound: float, scale: Array, zero: Array) -> Array:
    steps = np.float32(bound) / scale.astype(np.float32)
    return np.asarray(np.rint(steps) + zero.astype(np.float64))
