"""Operators of two operands, element by element."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from itertools import product

import numpy as np
from numpy.typing import NDArray

from mcugraph.graph import Tensor
from mcugraph.lower.call import Call, Field, Site
from mcugraph.lower.integer import clamp_of, multiplier, scale_of, zero_of
from mcugraph.lower.rows import loops_of, rows_of
from mcugraph.lower.unary import LEVELS, Floats, Function, dequantised, float_bounds, map_call

Doubles = NDArray[np.float64]
# Kinds of enum mcu_binary, with the function in float32.
BINARY: Mapping[str, tuple[int, Callable[[Floats, Floats], Floats]]] = {
    "Add": (0, np.add),
    "Sub": (1, np.subtract),
    "Mul": (2, np.multiply),
    "Div": (3, np.divide),
    "Min": (4, np.minimum),
    "Max": (5, np.maximum),
    "Pow": (6, np.power),
    "PRelu": (7, lambda x, slope: np.where(x < 0, x * slope, x)),
}
LARGEST_RATIO = 2.0**20
# Changes of a bias that are tried to round every input right.
STEPS = (0, 1, -1, 2, -2, 8, -8, 32, -32, 128, -128)


def lower_binary(site: Site) -> tuple[Call, ...]:
    """Add, Sub, Mul, Div, Min, Max, Pow or PRelu of two tensors, one of which may be constant."""
    if len(site.step.inputs) != 2:
        raise site.refuse(f"{len(site.step.inputs)} operands; 2 are allowed, chain them")
    constants = [i for i in range(2) if site.input(i).data is not None]
    if site.output.dtype != "int8":
        return (_float(site, constants),)
    if constants:
        return (_with_constant(site, constants[0]),)
    if site.step.op in ("Add", "Sub"):
        return (_add(site),)
    if site.step.op == "Mul":
        return (_mul(site),)
    raise site.refuse("two run-time operands in int8; one of them must be constant")


def _add(site: Site) -> Call:
    a, b, y = site.input(0), site.input(1), site.output
    loops = loops_of(site, (a, b))
    low, high = clamp_of(y, site.step.activation)
    fields = {**loops.fields("ab"), **_tuned(site), "low": low, "high": high}
    return Call("add_s8", (a.name, b.name), y.name, fields, loops.rows)


def _fused(site: Site) -> bool:
    """Whether onnxruntime runs Add or Mul as one integer operator: it then adds the zero point
    before it rounds, else after; the two differ in ties.
    """
    whole = clamp_of(site.output, site.step.activation) == (-128, 127)
    integers = all(site.input(i).quant is not None for i in range(2))
    return whole and integers and site.step.op in ("Add", "Mul")


def _odd(site: Site) -> int:
    """Whether ties go to odd: to even before an odd zero point is added."""
    return 0 if _fused(site) else zero_of(site.output) % 2


def _tuned(site: Site) -> dict[str, Field]:
    """The multipliers and the bias that give all 65,536 sums as onnxruntime does.

    The nearest integers miss the rounding of a few pairs; neighbours of theirs hit all.
    """
    a, b, y = site.input(0), site.input(1), site.output
    sign = -1.0 if site.step.op == "Sub" else 1.0
    ratios = np.array([scale_of(a), sign * scale_of(b)]) / scale_of(y)
    offset = zero_of(y) - float(ratios @ [zero_of(a), zero_of(b)])
    shift = fraction_bits(site, float(np.abs(ratios).sum()), abs(offset))
    wanted, odd = _results(site), _odd(site)
    nearest = [round(float(r) * 2**shift) for r in ratios]
    bias = round(offset * 2**shift) + 2 ** (shift - 1)
    best: tuple[int, dict[str, Field]] = (1 << 30, {})
    for tied, step, i, j in product((0, 1), STEPS, (0, 1, -1), (0, 1, -1)):
        first, second, third = nearest[0] + i, nearest[1] + j, bias + step - tied
        sums = first * LEVELS[:, None] + second * LEVELS + third
        found = np.clip((sums + ((sums >> shift ^ odd) & tied)) >> shift, -128, 127)
        wrong = int((found != wanted).sum())
        if wrong < best[0]:
            numbers = {"a_multiplier": first, "b_multiplier": second, "bias": third}
            best = (wrong, {**numbers, "shift": shift, "tied": tied, "odd": odd})
        if wrong == 0:
            break
    return best[1]


def _results(site: Site) -> Doubles:
    """The result for each pair (a, b), in the float32 arithmetic of onnxruntime on x86-64."""
    a, b, y = site.input(0), site.input(1), site.output
    unit, zero = np.float32(scale_of(y)), zero_of(y)
    if not _fused(site):
        _, function = BINARY[site.step.op]
        real = function(dequantised(a)[:, None], dequantised(b)[None])
        return np.asarray(np.clip(np.rint(real / unit) + zero, -128, 127), np.float64)
    first, second = (float(np.float32(scale_of(t)) / unit) for t in (a, b))
    part = _single(second * zero_of(b))
    fixed = _single(zero - _single(first * zero_of(a) + part))
    inner = (second * LEVELS + fixed).astype(np.float32).astype(np.float64)
    sums = (first * LEVELS[:, None] + inner).astype(np.float32)
    return np.asarray(np.clip(np.rint(sums), -128, 127), np.float64)


def _single(value: float) -> float:
    return float(np.float32(value))


def fraction_bits(site: Site, reach: float, offset: float) -> int:
    """Bits of fraction, 1 to 24, with which 128 * reach + offset and its partial sums fit int32."""
    if reach > LARGEST_RATIO:
        raise site.refuse(f"the input's scale is {reach:.3g} times the output's")
    bound = 128 * reach + offset + 2
    return max(n for n in range(1, 25) if n == 1 or bound * 2**n < 2**31 - 2**12)


def _mul(site: Site) -> Call:
    a, b, y = site.input(0), site.input(1), site.output
    loops = loops_of(site, (a, b))
    scale, shift = multiplier(scale_of(a) * scale_of(b) / scale_of(y))
    ratio = _tie_ratio(site)
    low, high = clamp_of(y, site.step.activation)
    fields: dict[str, Field] = {
        **loops.fields("ab"),
        "a_zero": zero_of(a),
        "b_zero": zero_of(b),
        "y_zero": zero_of(y),
        "multiplier": scale,
        "shift": shift,
        "scale_up": ratio.numerator if ratio else 0,
        "scale_down": ratio.denominator if ratio else 0,
        "low": low,
        "high": high,
    }
    return Call("mul_s8", (a.name, b.name), y.name, fields, loops.rows)


def _tie_ratio(site: Site) -> Fraction | None:
    """The scale ratio where products can be ties that go to odd before the zero point is added."""
    first, second, unit = (
        Fraction(scale_of(t)) for t in (site.input(0), site.input(1), site.output)
    )
    ratio = first * second / unit
    largest = 2 * 255**2 * ratio.numerator + 2 * ratio.denominator
    tied = ratio.denominator % 2 == 0 and largest < 2**31
    return ratio if tied and _fused(site) and zero_of(site.output) % 2 else None


def _with_constant(site: Site, index: int) -> Call:
    """A table where the constant is one number, else one linear function a place."""
    x, constant = site.input(1 - index), site.input(index)
    if x.shape != site.output.shape:
        raise site.refuse(f"the constant {constant.name} broadcasts {x.name}; Expand it first")
    _, function = BINARY[site.step.op]
    values = constant.real.astype(np.float32)
    if np.unique(values).size == 1:
        value = values.ravel()[0]
        if _fused(site):
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
        "odd": _odd(site),
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
    odd = fields["odd"]
    assert isinstance(shift, int)
    assert isinstance(odd, int)
    assert isinstance(scale, np.ndarray)
    assert isinstance(bias, np.ndarray)
    wanted, levels = np.clip(np.rint(exact - odd) + odd, -128, 127), LEVELS
    nearest, least = (scale.copy(), bias.copy()), np.full(len(exact), 257)
    for step, i in product(STEPS, (0, 1, -1)):
        rest = np.flatnonzero(least)
        first = nearest[0][rest].astype(np.int64) + i
        second = nearest[1][rest].astype(np.int64) + step
        sums = first[:, None] * levels + second[:, None]
        found = np.clip((sums + ((sums >> shift ^ odd) & 1)) >> shift, -128, 127)
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


def _float(site: Site, constants: list[int]) -> Call:
    kind, _ = BINARY[site.step.op]
    low, high = float_bounds(site.step.activation)
    bounds: dict[str, Field] = {"kind": kind, "low": low, "high": high}
    if constants:
        return _float_with_constant(site, constants[0], bounds)
    a, b, y = site.input(0), site.input(1), site.output
    loops = loops_of(site, (a, b))
    fields: dict[str, Field] = {**loops.fields("ab"), **bounds}
    return Call("binary_f32", (a.name, b.name), y.name, fields, loops.rows)


def _float_with_constant(site: Site, index: int, bounds: Mapping[str, Field]) -> Call:
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
