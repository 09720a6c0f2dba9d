"""Operators of two operands, element by element."""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import numpy as np
from numpy.typing import NDArray

from mcugraph.lower.binary import BINARY, STEPS, fraction_bits, fused, odd
from mcugraph.lower.call import Call, Field, Site
from mcugraph.lower.constant import float_with_constant, with_constant
from mcugraph.lower.integer import clamp_of, multiplier, scale_of, zero_of
from mcugraph.lower.rows import loops_of
from mcugraph.lower.unary import LEVELS, dequantised, float_bounds

__all__ = ["BINARY", "lower_binary"]

Doubles = NDArray[np.float64]


def lower_binary(site: Site) -> tuple[Call, ...]:
    """Add, Sub, Mul, Div, Min, Max, Pow or PRelu of two tensors, one of which may be constant."""
    if len(site.step.inputs) != 2:
        raise site.refuse(f"{len(site.step.inputs)} operands; 2 are allowed, chain them")
    constants = [i for i in range(2) if site.input(i).data is not None]
    if site.output.dtype != "int8":
        return (_float(site, constants),)
    if constants:
        return (with_constant(site, constants[0]),)
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


def _tuned(site: Site) -> dict[str, Field]:
    """The multipliers and the bias that give all 65,536 sums as onnxruntime does.

    The nearest integers miss the rounding of a few pairs; neighbours of theirs hit all.
    """
    a, b, y = site.input(0), site.input(1), site.output
    sign = -1.0 if site.step.op == "Sub" else 1.0
    ratios = np.array([scale_of(a), sign * scale_of(b)]) / scale_of(y)
    offset = zero_of(y) - float(ratios @ [zero_of(a), zero_of(b)])
    shift = fraction_bits(site, float(np.abs(ratios).sum()), abs(offset))
    wanted, side = _results(site), odd(site)
    nearest = [round(float(r) * 2**shift) for r in ratios]
    bias = round(offset * 2**shift) + 2 ** (shift - 1)
    best: tuple[int, dict[str, Field]] = (1 << 30, {})
    for tied, step, i, j in product((0, 1), STEPS, (0, 1, -1), (0, 1, -1)):
        first, second, third = nearest[0] + i, nearest[1] + j, bias + step - tied
        sums = first * LEVELS[:, None] + second * LEVELS + third
        found = np.clip((sums + ((sums >> shift ^ side) & tied)) >> shift, -128, 127)
        wrong = int((found != wanted).sum())
        if wrong < best[0]:
            numbers = {"a_multiplier": first, "b_multiplier": second, "bias": third}
            best = (wrong, {**numbers, "shift": shift, "tied": tied, "odd": side})
        if wrong == 0:
            break
    return best[1]


def _results(site: Site) -> Doubles:
    """The result for each pair (a, b), in the float32 arithmetic of onnxruntime on x86-64."""
    a, b, y = site.input(0), site.input(1), site.output
    unit, zero = np.float32(scale_of(y)), zero_of(y)
    if not fused(site):
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
    return ratio if tied and fused(site) and zero_of(site.output) % 2 else None


def _float(site: Site, constants: list[int]) -> Call:
    kind, _ = BINARY[site.step.op]
    low, high = float_bounds(site.step.activation)
    bounds: dict[str, Field] = {"kind": kind, "low": low, "high": high}
    if constants:
        return float_with_constant(site, constants[0], bounds)
    a, b, y = site.input(0), site.input(1), site.output
    loops = loops_of(site, (a, b))
    fields: dict[str, Field] = {**loops.fields("ab"), **bounds}
    return Call("binary_f32", (a.name, b.name), y.name, fields, loops.rows)
