"""Bounds behind operators that compute: products, normalisation, quantisers, operands in pairs."""

import math
from collections.abc import Callable
from functools import reduce

import numpy as np
from onnx import TensorProto, helper

from mcugraph.passes._edit import Array, attribute, slot
from mcugraph.passes._intervals import (
    STEP,
    Interval,
    added,
    along,
    bounded,
    greater,
    inverted,
    multiplied,
    negated,
    point,
    span,
)
from mcugraph.passes._products import Product
from mcugraph.passes._range_site import Site, placed

NARROW = (TensorProto.INT8, TensorProto.UINT8, TensorProto.INT16, TensorProto.UINT16)
# What the computation of x / scale + zero may be off, in steps.
_TIE = 2.0**-10


def limits(kind: int) -> tuple[float, float]:
    """The least and the greatest element of a type."""
    if kind not in NARROW:
        return -math.inf, math.inf
    info = np.iinfo(helper.tensor_dtype_to_np_dtype(kind))
    return float(info.min), float(info.max)


def product(site: Site, found: Product) -> Interval:
    """Conv, Gemm, MatMul by constant weights."""
    rank = len(site.out_shape())
    x = along(site.operand(), found.axis).each(lambda a: np.broadcast_to(a, (found.inputs,)))
    result = found.bounds(x).each(lambda a: placed(a, rank, found.axis))
    if found.bias is None or not site.has(found.bias):
        return result
    bias = site.operand(found.bias)
    if site.node.op_type == "Conv":
        bias = bias.each(lambda a: placed(a, rank, 1))
    return added(result, multiplied(bias, span(rank, *[attribute(site.node, "beta", 1.0)] * 2)))


def _grid(site: Site) -> tuple[Array, Array] | None:
    """Scale and zero point, shaped for the tensor."""
    scale = site.edit.constant(site.node.input[1])
    zero = site.edit.constant(slot(site.node, 2)) if site.has(2) else np.zeros(1)
    blocks = attribute(site.node, "block_size", 0)
    if scale is None or zero is None or blocks or max(scale.ndim, zero.ndim) > 1:
        return None
    rank, axis = len(site.shape()), site.axis(1)
    arrays = [array.astype(np.float64) for array in (scale, zero)]
    first, second = (a.reshape(()) if a.size == 1 else placed(a, rank, axis) for a in arrays)
    return (first, second) if np.all(first > 0) else None


def _dequantize(site: Site) -> Interval | None:
    grid = _grid(site)
    return None if grid is None else site.operand().each(lambda a: (a - grid[1]) * grid[0])


def _quantize(site: Site) -> Interval | None:
    """Known where both bounds, with a margin, are rounded to one integer."""
    x, grid, kind = site.operand(), _grid(site), site.edit.dtype(site.node.output[0])
    if grid is None or kind not in NARROW:
        return None

    def level(real: Array, sign: int) -> Array:
        steps = real / grid[0]
        slack = sign * (np.abs(steps) * 4 * STEP + _TIE)
        return np.clip(np.rint(steps + slack + grid[1]), *limits(kind))

    return bounded(level(x.low, -1), level(x.high, 1))


def _normalize(site: Site) -> Interval | None:
    """BatchNormalization: gamma * (x - mean) / deviation + beta."""
    found = [site.edit.constant(name) for name in site.node.input[1:5]]
    parts = [np.asarray(part, np.float64) for part in found if part is not None]
    if len(parts) < len(found) or attribute(site.node, "training_mode", 0):
        return None
    gamma, beta, mean, variance = (placed(part, len(site.shape()), 1) for part in parts)
    deviation = np.sqrt(variance + attribute(site.node, "epsilon", 1e-5))
    if not np.all(deviation > 0):
        return None
    centred = added(site.operand(), point(-mean))
    return added(multiplied(centred, point(gamma / deviation)), point(beta))


def _all(function: Callable[[Interval, Interval], Interval]) -> Callable[[Site], Interval]:
    return lambda site: reduce(function, site.operands())


def _lesser(a: Interval, b: Interval) -> Interval:
    return negated(greater(negated(a), negated(b)))


def _subtracted(a: Interval, b: Interval) -> Interval:
    return added(a, negated(b))


def _divided(a: Interval, b: Interval) -> Interval:
    return multiplied(a, inverted(b))


def _clip(site: Site) -> Interval:
    x = site.operand()
    for index, name, nearer in ((1, "min", greater), (2, "max", _lesser)):
        given = attribute(site.node, name)
        if site.has(index):
            x = nearer(x, site.operand(index))
        elif given is not None:
            x = nearer(x, span(0, given, given))
    return x


def _parametric(site: Site) -> Interval:
    """PRelu: max(x, 0) + slope * min(x, 0)."""
    x, nothing = site.operand(), span(0, 0.0, 0.0)
    return added(greater(x, nothing), multiplied(site.operand(1), _lesser(x, nothing)))


def _share(site: Site) -> Interval:
    """Softmax."""
    return span(len(site.out_shape()), 0.0, 1.0)


RULES: dict[str, Callable[[Site], Interval | None]] = {
    "Add": _all(added),
    "BatchNormalization": _normalize,
    "Clip": _clip,
    "DequantizeLinear": _dequantize,
    "Div": _all(_divided),
    "Max": _all(greater),
    "Min": _all(_lesser),
    "Mul": _all(multiplied),
    "PRelu": _parametric,
    "QuantizeLinear": _quantize,
    "Softmax": _share,
    "Sub": _all(_subtracted),
    "Sum": _all(added),
}
