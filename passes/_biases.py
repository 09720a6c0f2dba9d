"""What constant inputs add to the bias of a product: y = (w @ c + b) + w @ x."""

from dataclasses import dataclass

import numpy as np
from onnx import NodeProto, helper

from mcugraph.passes._edit import Array, Edit, attribute, is_op, slot
from mcugraph.passes._intervals import along
from mcugraph.passes._products import Product
from mcugraph.passes._ranges import Ranges

_LARGEST = 2**31 - 1
# How near the scale of a bias must be to that of input times weights.
_NEAR = 1e-5


@dataclass(frozen=True)
class Fold:
    """How constant inputs of one product become part of its bias.

    `values` are the inputs, 0 where they are not constant; `replaced` says which the bias can take
    over; `unit` is what one unit of an integer bias stands for, None where it is of floats.
    """

    product: Product
    values: Array
    replaced: Array
    unit: Array | None


def fold_of(ranges: Ranges, product: Product) -> Fold:
    """What of a product's inputs can go into its bias: zeroes always, others where they are exact.

    Padding is zero, so that another constant is one only inside; a bias must have room.
    """
    x = along(ranges.of(product.x), product.axis)
    value = np.broadcast_to(x.value, (product.inputs,))
    known = ~np.isnan(value)
    values = np.where(known, value, 0.0)
    unit = _unit(ranges.edit, product) if np.any(values) else None
    any_value = (
        np.any(values) and not product.padded and _has_room(ranges.edit, product, values, unit)
    )
    replaced = known & ((values == 0) | any_value)
    return Fold(product, np.where(replaced, values, 0.0), replaced, unit)


def fold(edit: Edit, plan: Fold, gone: Array) -> None:
    """Let the bias of a product take the place of the inputs that go."""
    product = plan.product
    more = product.times(np.where(gone, plan.values, 0.0))
    if not np.any(more):
        return
    node, place = product.node, product.bias
    if place is None:
        raise AssertionError(f"{node.op_type} has no bias")
    if plan.unit is not None:
        _add_integers(edit, node, np.rint(more / plan.unit), plan.unit)
        return
    before = edit.constant(slot(node, place))
    if before is None:
        dtype = helper.tensor_dtype_to_np_dtype(edit.dtype(product.y))
        edit.set_input(node, place, edit.store(f"{product.y}__bias", more.astype(dtype)))
        return
    edit.replace_constant(node, place, (before + more).astype(before.dtype))


def _add_integers(edit: Edit, node: NodeProto, more: Array, unit: Array) -> None:
    name = slot(node, 2)
    maker = edit.producer(name) if name else None
    if maker is None:
        grid = _stored_grid(edit, node, unit)
        inner = edit.store(f"{node.output[0]}__bias_q", more.astype(np.int32))
        outer = edit.fresh(f"{node.output[0]}__bias")
        edit.add("DequantizeLinear", [inner, *grid], outer, axis=0)
        edit.set_input(node, 2, outer)
        return
    if edit.sole_user(name) is None:
        copy = edit.add("DequantizeLinear", list(maker.input), edit.fresh(name))
        copy.attribute.extend(maker.attribute)
        edit.set_input(node, 2, copy.output[0])
        maker = copy
    before = np.asarray(edit.constant(maker.input[0]))
    edit.replace_constant(maker, 0, (before + more).astype(before.dtype))


def _stored_grid(edit: Edit, node: NodeProto, unit: Array) -> list[str]:
    base, scale = f"{node.output[0]}__bias", unit.astype(np.float32)
    return [
        edit.store(f"{base}_scale", scale),
        edit.store(f"{base}_zero_point", np.zeros(scale.shape, np.int32)),
    ]


def _unit(edit: Edit, product: Product) -> Array | None:
    """Scale of the input times scale of the weights, for each output; None in float."""
    makers = [edit.producer(name) for name in product.node.input[:2]]
    scales = [
        np.asarray(edit.constant(maker.input[1]), np.float64).reshape(-1)
        for maker in makers
        if maker is not None and is_op(maker, "DequantizeLinear")
    ]
    if len(scales) < len(makers) or scales[0].size > 1:
        return None
    rows = 0 if is_op(product.node, "Conv") else 1 - attribute(product.node, "transB", 0)
    along_rows = attribute(makers[1], "axis", 1) == rows if makers[1] is not None else False
    if scales[1].size > 1 and not along_rows:
        return None
    return np.asarray(scales[0] * scales[1] * np.ones(product.outputs))


def _has_room(edit: Edit, product: Product, values: Array, unit: Array | None) -> bool:
    """Whether any of these inputs can be added to the bias without loss."""
    node, place = product.node, product.bias
    if place is None or attribute(node, "beta", 1.0) != 1:
        return False
    if unit is None:
        before = edit.constant(slot(node, place)) if slot(node, place) else np.zeros(1)
        integer = any(is_op(other, "QuantizeLinear", "DequantizeLinear") for other in edit.nodes)
        return not integer and before is not None and before.dtype.kind == "f"
    largest = product.sizes(np.abs(values)) / unit
    bias = _integer_bias(edit, product, unit)
    return bias is not None and bool(np.all(np.abs(bias) + largest < _LARGEST))


def _integer_bias(edit: Edit, product: Product, unit: Array) -> Array | None:
    """The bias in these units; None where it is of other ones."""
    name = slot(product.node, 2)
    maker = edit.producer(name)
    if not name:
        return np.zeros(product.outputs)
    if maker is None or not is_op(maker, "DequantizeLinear"):
        return None
    bias, scale = (edit.constant(slot(maker, index)) for index in (0, 1))
    zero = edit.constant(slot(maker, 2)) if slot(maker, 2) else np.zeros(1)
    if bias is None or scale is None or zero is None or np.any(zero):
        return None
    if bias.dtype != np.int32 or bias.size != product.outputs:
        return None
    ratio = scale.astype(np.float64).reshape(-1) / unit
    return bias.astype(np.float64).reshape(-1) if np.all(np.abs(ratio - 1) < _NEAR) else None
