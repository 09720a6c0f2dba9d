"""Conv(x, w, b) -> Conv(x[kept], w[kept], b + w[c] @ x[c]), where x[c] is constant."""

import numpy as np
from onnx import ModelProto, NodeProto, helper

from mcugraph.passes._biases import fold, fold_of
from mcugraph.passes._edit import Array, Edit, is_op, slot
from mcugraph.passes._intervals import Interval
from mcugraph.passes._ranges import Ranges
from mcugraph.passes._shrink import shrink
from mcugraph.passes._unread import Reading
from mcugraph.passes.channels import find_channels

_PAIRS = ("Add", "Max", "Min", "Mul", "Sub")


def drop_constant_channels(model: ModelProto) -> ModelProto:
    """Conv(x, w, b) -> Conv(x[kept], w[kept], b + w[c] @ x[c]), where x[c] is constant.

    Zero weights and interval analysis tell which channels are, whatever the input. 1. Convolutions
    and Gemm take the constant channels that they read into their bias; where they pad, with
    zeroes, only channels of zeroes. 2. Channels that nothing reads any more go, and all that
    computes them; one of each tensor stays. 3. f(x, y) -> f(x, c) where all of y is constant, and
    x + 0 -> x unless that would round. Integer models give the same bytes as before.
    """
    edit = Edit(model)
    while _sweep(edit):
        pass
    return edit.finish()


def _sweep(edit: Edit) -> bool:
    model = edit.finish()
    ranges = Ranges(edit)
    return _drop_branches(edit, ranges) or _drop_channels(edit, ranges, model)


def _drop_channels(edit: Edit, ranges: Ranges, model: ModelProto) -> bool:
    """Cases 1 and 2."""
    folds = [fold_of(ranges, product) for product in ranges.products]
    if not any(plan.replaced.any() or not plan.product.reads_all for plan in folds):
        return False
    reading = Reading(edit, find_channels(model), ranges.products, [f.replaced for f in folds])
    gone = reading.unread()
    kept = reading.left(gone)
    if kept:
        for plan in folds:
            fold(edit, plan, reading.at((plan.product.x, plan.product.axis), gone))
        edit.finish()
        shrink(edit, kept)
    return bool(kept)


def _drop_branches(edit: Edit, ranges: Ranges) -> bool:
    """Case 3."""
    found = False
    for node in [node for node in edit.nodes if is_op(node, *_PAIRS) and len(node.input) == 2]:
        for index in (1, 0):
            if _is_constant(ranges, node, index):
                found |= _drop_nothing(ranges, node, index) or _store(ranges, node, index)
    return found


def _is_constant(ranges: Ranges, node: NodeProto, index: int) -> bool:
    """Whether an operand is computed at run time, but is constant; the other one is not."""
    edit, name, other = ranges.edit, str(node.input[index]), str(node.input[1 - index])
    maker = edit.producer(name)
    if maker is None or is_op(maker, "Constant"):
        return False
    if is_op(maker, "DequantizeLinear") and edit.constant(maker.input[0]) is not None:
        return False
    known, varies = ranges.of(name).known.all(), not ranges.of(other).known.all()
    shape = edit.static_shape(other)
    return bool(known and varies and shape and shape == edit.static_shape(node.output[0]))


def _drop_nothing(ranges: Ranges, node: NodeProto, index: int) -> bool:
    """x + 0 -> x."""
    other = node.input[1 - index]
    neutral = is_op(node, "Add") or (is_op(node, "Sub") and index == 1)
    if not neutral or np.any(ranges.of(node.input[index]).value):
        return False
    return _keeps_grid(ranges.edit, node, other) and ranges.edit.bypass(node, other)


def _keeps_grid(edit: Edit, node: NodeProto, source: str) -> bool:
    """Whether integers are the same behind x + 0; floats are."""
    before, after = edit.producer(source), edit.sole_user(node.output[0])
    if after is not None and is_op(after, "Relu", "Clip"):
        after = edit.sole_user(after.output[0])
    if before is None or not is_op(before, "DequantizeLinear"):
        return True
    if after is None or not is_op(after, "QuantizeLinear"):
        return False
    scales = [edit.scalar(n.input[1]) for n in (before, after)]
    zeroes = [edit.scalar(slot(n, 2)) if slot(n, 2) else 0 for n in (before, after)]
    kinds = {edit.dtype(before.input[0]), edit.dtype(after.output[0])}
    known = None not in (*scales, *zeroes)
    return known and scales[0] == scales[1] and zeroes[0] == zeroes[1] and len(kinds) == 1


def _store(ranges: Ranges, node: NodeProto, index: int) -> bool:
    """f(x, y) -> f(x, c): one element for each channel, else too much flash would be taken."""
    edit, name = ranges.edit, str(node.input[index])
    maker = edit.producer(name)
    quantised = maker is not None and is_op(maker, "DequantizeLinear")
    source = str(maker.input[0]) if maker is not None and quantised else name
    value = _compact(ranges.of(source))
    plain = maker is not None and (not quantised or edit.scalar(maker.input[1]) is not None)
    if value is None or maker is None or not plain:
        return False
    dtype = helper.tensor_dtype_to_np_dtype(edit.dtype(source))
    stored = edit.store(f"{source}__constant", value.astype(dtype))
    if quantised:
        outer = edit.fresh(f"{name}__constant")
        made = edit.add("DequantizeLinear", [stored, *maker.input[1:]], outer)
        stored = made.output[0]
    edit.set_input(node, index, stored)
    return True


def _compact(found: Interval) -> Array | None:
    """The values, once for each channel; None where they differ along two axes."""
    value = found.value
    for axis in range(value.ndim):
        first = value.take([0], axis)
        value = first if np.all(value == first) else value
    known = not np.isnan(value).any()
    return value if known and value.size == max(value.shape, default=1) else None
