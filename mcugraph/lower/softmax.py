"""Softmax along one axis."""

from __future__ import annotations

from math import floor, prod

import numpy as np
from numpy.typing import NDArray

from mcugraph.lower.call import Call, Field, Site
from mcugraph.lower.integer import scale_of, zero_of
from mcugraph.lower.rows import memory_axis, memory_shape, row_axes


def lower_softmax(site: Site) -> tuple[Call, ...]:
    """Softmax, or LogSoftmax in float32."""
    x, y = site.input(0), site.output
    shape = memory_shape(site, x)
    if memory_shape(site, y) != shape:
        raise site.refuse("input and output lie in memory in different orders")
    axis = memory_axis(site, x, site.attribute("axis", -1))
    split = row_axes(shape) if axis >= row_axes(shape) else 0
    rows = prod(shape[:split])
    fields: dict[str, Field] = {
        "outer": prod(shape[split:axis]),
        "length": shape[axis],
        "inner": prod(shape[axis + 1 :]),
        "x_depth": rows,
        "y_depth": rows,
    }
    if y.dtype == "float32":
        fields["logarithm"] = int(site.step.op == "LogSoftmax")
        return (Call("softmax_f32", (x.name,), y.name, fields, rows),)
    if site.step.op == "LogSoftmax":
        raise site.refuse("in int8; compute Softmax in the model and the logarithm outside")
    factor = _factor(site)
    fields["table"] = _table(scale_of(x), shape[axis])
    fields["factor"] = factor
    fields["top"] = 1 << (factor.bit_length() - 1)
    fields["y_zero"] = zero_of(y)
    return (Call("softmax_s8", (x.name,), y.name, fields, rows),)


def _factor(site: Site) -> int:
    """Output steps in 1, rounded down as onnxruntime does."""
    factor = floor(np.float32(1) / np.float32(scale_of(site.output)))
    if not 1 <= factor < 2**16:
        raise site.refuse("the output's scale; 1/65535 to 1 is allowed, usually 1/256")
    return factor


def _table(scale: float, length: int) -> NDArray[np.uint32]:
    """exp(-d * scale) for d = 0 .. 255; `length` entries sum up to 2^30 at most."""
    table = np.rint(np.exp(-np.arange(256) * scale) * (2**30 // length))
    return np.asarray(table, np.uint32)
