"""Operators of two operands one of which is constant."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product

import numpy as np
from numpy.typing import NDArray

from mcugraph.graph import Tensor
from mcugraph.lower.binary import BINARY, STEPS, fraction_bits, fused, odd
from mcugraph.lower.call import Call, Field, Site
from mcugraph.lower.integer import clamp_of, scale_of, zero_of
from mcugraph.lower.rows import rows_of
from mcugraph.lower.unary import LEVELS, Function, map_call

Doubles = NDArray[np.float64]


def with_constant(site: Site, index: int) -> Call:
    """The int8 call where input `index` is constant: a table for one number, else lines."""
    x, constant = site.input(1 - index), site.input(index)
    if x.shape != site.output.shape:
        raise site.refuse(f"the constant {constant.name} broadcasts {x.name}; Expand it first")
    _, function = BINARY[site.step.op]
    values = constant.real.astype(np.float32)
    if np.unique(values).size == 1:
        value = values.ravel()[0]
        if fused(site):
            return map_call(site, _fused_function(site, x, float(constant.real.flat[0])), 1 - index)
        if index == 1:
            return map_call(site, lambda real: function(real, value))
        return map_call(site, lambda real: function(value, real), 1)
    return _affine(site, x, constant.real, index)


def _fused_function(site: Site, x: Tensor, value: float) -> Function:
    """The operator with the zero point added before rounding, as a function to be quantised."""
    y = site.output
    unit, zero = scale_of(y), zero_of(y)
    reals = (LEVELS - zero_of(x)) * scale_of(x)
    reals = reals + value if site.step.op == "Add" else reals * value
    rounded = (np.rint(reals / unit + zero) - zero) * unit
    return lambda real: rounded.astype(np.float32)


def _affine(site: Site, x: Tensor, constant: Doubles, index: int) -> Call:
    slope, offset = _line(site, constant, index)
    y = site.output
    slope = slope * scale_of(x) / scale_of(y)
    offset = offset / scale_of(y) + zero_of(y) - slope * zero_of(x)
    plain = scale_of(x) / scale_of(y)
    plain_offset = zero_of(y) - plain * zero_of(x)
    low, high = clamp_of(y, site.step.activation)
    rows = rows_of(site, y)
    slope, offset = (_in_memory(site, values) for values in (slope, offset))
    count, size, period = _period(np.stack([slope, offset]), rows.count, rows.size)
    slope, offset = slope[:period], offset[:period]
    saturated = 128 * np.abs(slope) + 256
    offset = np.clip(offset, -saturated, saturated)
    steepest = float(np.abs(slope).max())
    shift = fraction_bits(site, max(steepest, plain), 128 * max(steepest, plain) + 256)
    half = 2 ** (shift - 1) - 1
    fields: dict[str, Field] = {
        "row": size,
        "period": period,
        "x_depth": count,
        "y_depth": count,
        "multiplier": np.rint(slope * 2**shift).astype(np.int32),
        "bias": (np.rint(offset * 2**shift) + half).astype(np.int32),
        "shift": shift,
        "odd": odd(site),
        "low": low,
        "high": high,
    }
    if site.step.op != "PRelu":
        _fit(fields, slope[:, None] * LEVELS + offset[:, None])
        return Call("affine_s8", (x.name,), y.name, fields, count)
    fields["plain_multiplier"] = round(plain * 2**shift)
    fields["plain_bias"] = round(plain_offset * 2**shift) + half
    fields["x_zero"] = zero_of(x)
    return Call("prelu_s8", (x.name,), y.name, fields, count)


def _fit(fields: dict[str, Field], exact: Doubles) -> None:
    """Move multipliers and biases to neighbours that round all 256 inputs of each place right."""
    shift, scale, bias = fields["shift"], fields["multiplier"], fields["bias"]
    side = fields["odd"]
    assert isinstance(shift, int)
    assert isinstance(side, int)
    assert isinstance(scale, np.ndarray)
    assert isinstance(bias, np.ndarray)
    wanted, levels = np.clip(np.rint(exact - side) + side, -128, 127), LEVELS
    nearest, least = (scale.copy(), bias.copy()), np.full(len(exact), 257)
    for step, i in product(STEPS, (0, 1, -1)):
        rest = np.flatnonzero(least)
        first = nearest[0][rest].astype(np.int64) + i
        second = nearest[1][rest].astype(np.int64) + step
        sums = first[:, None] * levels + second[:, None]
        found = np.clip((sums + ((sums >> shift ^ side) & 1)) >> shift, -128, 127)
        wrong = (found != wanted[rest]).sum(axis=1)
        better = wrong < least[rest]
        least[rest] = np.minimum(wrong, least[rest])
        scale[rest[better]], bias[rest[better]] = first[better], second[better]


def _line(site: Site, constant: Doubles, index: int) -> tuple[Doubles, Doubles]:
    """(slope, offset) of the linear function of the run-time operand."""
    ones, zeros = np.ones_like(constant), np.zeros_like(constant)
    op = site.step.op
    if op == "Add":
        return ones, constant
    if op == "Sub":
        return (ones, -constant) if index == 1 else (-ones, constant)
    if op == "Mul" or (op == "PRelu" and index == 1):
        return constant, zeros
    if op == "Div" and index == 1 and constant.all():
        return 1 / constant, zeros
    raise site.refuse("with a constant that varies only Add, Sub, Mul and Div by it are allowed")


def _in_memory(site: Site, values: Doubles) -> Doubles:
    """Values broadcast to the output, in its memory order, flat."""
    layout = site.layout(site.output)
    full = np.broadcast_to(values, site.output.shape).reshape(layout.dims)
    return full.transpose(layout.order).ravel()


def _period(values: Doubles, rows: int, size: int) -> tuple[int, int, int]:
    """(rows, row size, period) with which the columns of `values` repeat; one row if they must."""
    grid = values.reshape(len(values), rows, size)
    if (grid != grid[:, :1]).any():
        rows, size = 1, rows * size
    line = values[:, :size] if rows > 1 else values
    for period in range(1, size + 1):
        if size % period == 0 and np.array_equal(line, np.tile(line[:, :period], size // period)):
            break
    return rows, size, period


def float_with_constant(site: Site, index: int, bounds: Mapping[str, Field]) -> Call:
    """The float32 call where input `index` is constant."""
    x, y = site.input(1 - index), site.output
    if x.shape != y.shape:
        raise site.refuse(f"the constant broadcasts {x.name}; Expand it first")
    values = _in_memory(site, site.input(index).real)
    rows = rows_of(site, y)
    count, size, period = _period(values[None], rows.count, rows.size)
    fields: dict[str, Field] = {
        **bounds,
        "reversed": int(index == 0),
        "row": size,
        "period": period,
        "x_depth": count,
        "y_depth": count,
        "constant": values[:period].astype(np.float32),
    }
    return Call("binary_constant_f32", (x.name,), y.name, fields, count)
