"""Functions of one tensor, element by element: a 256-byte table for int8, a formula for float32."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import erf, sqrt

import numpy as np
from numpy.typing import NDArray

from mcugraph.graph import Tensor
from mcugraph.lower.call import Call, Field, Site
from mcugraph.lower.integer import clamp_of, quant_of
from mcugraph.lower.rows import rows_of

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Function = Callable[[Floats], Floats]
LEVELS = np.arange(-128, 128)


@dataclass(frozen=True)
class Unary:
    """A function with its parameters; `kind` is the member of enum mcu_unary that computes it."""

    kind: int
    function: Function
    alpha: float = 0.0
    beta: float = 0.0


def lower_unary(site: Site) -> tuple[Call, ...]:
    """A table that maps each int8 value, or the float32 kernel of the function."""
    unary = unary_of(site)
    if site.output.dtype == "int8":
        return (map_call(site, unary.function),)
    return (float_call(site, unary),)


def map_call(site: Site, function: Function, index: int = 0) -> Call:
    """The call that applies a function of real numbers to int8 input `index`."""
    x, y = site.input(index), site.output
    table = table_of(site, x, y, function)
    rows = rows_of(site, y)
    fields: dict[str, Field] = {
        "row": rows.size,
        "x_depth": rows.count,
        "y_depth": rows.count,
        "table": table,
    }
    return Call("map_s8", (x.name,), y.name, fields, rows.count)


def float_call(site: Site, unary: Unary) -> Call:
    """The call that computes a function of float32."""
    x, y = site.input(0), site.output
    if {x.dtype, y.dtype} != {"float32"}:
        raise site.refuse("the operands must be float32 or int8")
    rows = rows_of(site, y)
    fields: dict[str, Field] = {
        "kind": unary.kind,
        "alpha": finite(unary.alpha),
        "beta": finite(unary.beta),
        "row": rows.size,
        "x_depth": rows.count,
        "y_depth": rows.count,
    }
    return Call("unary_f32", (x.name,), y.name, fields, rows.count)


def finite(value: float) -> float:
    """The nearest finite float32: C without math.h cannot write infinity."""
    largest = float(np.finfo(np.float32).max)
    return min(max(value, -largest), largest)


def float_bounds(activation: tuple[float, float] | None) -> tuple[float, float]:
    """(low, high) of a float32 result with a fused activation."""
    low, high = activation or (float("-inf"), float("inf"))
    return finite(low), finite(high)


def table_of(site: Site, x: Tensor, y: Tensor, function: Function) -> NDArray[np.int8]:
    """y for x = -128 .. 127: dequantised, computed and quantised in float32 as onnxruntime does."""
    low, high = clamp_of(y, site.step.activation)
    with np.errstate(all="ignore"):
        real = function(dequantised(x))
    return np.clip(quantised(real, y), low, high).astype(np.int8)


def dequantised(tensor: Tensor) -> Floats:
    """The real numbers of the 256 values of an int8 tensor, in float32."""
    quant = quant_of(tensor)
    levels = (LEVELS - quant.zero_point.item()).astype(np.float32)
    return np.asarray(levels * np.float32(quant.scale.item()), np.float32)


def quantised(real: Floats, tensor: Tensor) -> NDArray[np.int64]:
    """QuantizeLinear in float32, half to even; NaN becomes -128 as in onnxruntime on x86-64."""
    quant = quant_of(tensor)
    with np.errstate(all="ignore"):
        steps = np.rint(real.astype(np.float32) / np.float32(quant.scale.item()))
    steps = np.nan_to_num(steps, nan=-1e6, posinf=1e6, neginf=-1e6)
    levels: NDArray[np.int64] = np.clip(steps + quant.zero_point.item(), -128, 127).astype(np.int64)
    return levels


def identity(x: Floats) -> Floats:
    """x: a table of it only changes the scale."""
    return x


def unary_of(site: Site) -> Unary:
    """The function that a step computes; refuses an operator that is none."""
    op = site.step.op
    if op in _PLAIN:
        kind, function = _PLAIN[op]
        return Unary(kind, _in_double(function))
    return _WITH_PARAMETERS[op](site)


def _in_double(function: Callable[[Doubles], Doubles]) -> Function:
    return lambda x: function(x.astype(np.float64)).astype(np.float32)


def _sigmoid(x: Doubles) -> Doubles:
    return 1 / (1 + np.exp(-x))


def _softplus(x: Doubles) -> Doubles:
    return np.logaddexp(0, x)


def _erf(x: Doubles) -> Doubles:
    return np.array([erf(v) for v in x.ravel()]).reshape(x.shape)


_PLAIN: Mapping[str, tuple[int, Callable[[Doubles], Doubles]]] = {
    "Sigmoid": (3, _sigmoid),
    "Tanh": (4, np.tanh),
    "Softplus": (10, _softplus),
    "Softsign": (11, lambda x: x / (1 + np.abs(x))),
    "Mish": (12, lambda x: x * np.tanh(_softplus(x))),
    "Exp": (15, np.exp),
    "Log": (16, np.log),
    "Sqrt": (17, np.sqrt),
    "Neg": (18, np.negative),
    "Abs": (19, np.abs),
    "Erf": (20, _erf),
    "Reciprocal": (21, np.reciprocal),
    "Floor": (22, np.floor),
    "Ceil": (23, np.ceil),
    "Round": (24, np.rint),
    "Sign": (25, np.sign),
    "Sin": (26, np.sin),
    "Cos": (27, np.cos),
}


def clip(low: float, high: float) -> Unary:
    """The function that clamps to [low, high]."""
    return Unary(0, lambda x: np.clip(x, np.float32(low), np.float32(high)), low, high)


def _relu(site: Site) -> Unary:
    return clip(0.0, float("inf"))


def _clip(site: Site) -> Unary:
    bounds = []
    for index, default in ((1, float("-inf")), (2, float("inf"))):
        value = site.graph.constant(site.step, index)
        if site.has(index) and value is None:
            raise site.refuse("its bounds are computed at run time; constants are allowed")
        real = site.input(index).real if site.has(index) else np.array(default)
        bounds.append(float(real.item()))
    return clip(*bounds)


def _leaky(site: Site) -> Unary:
    alpha = site.attribute("alpha", 0.01)
    slope = np.float32(alpha)
    return Unary(1, lambda x: np.where(x >= 0, x, x * slope), alpha)


def _hard_sigmoid(site: Site) -> Unary:
    alpha, beta = site.attribute("alpha", 0.2), site.attribute("beta", 0.5)
    a, b = np.float32(alpha), np.float32(beta)
    return Unary(5, lambda x: np.clip(x * a + b, np.float32(0), np.float32(1)), alpha, beta)


def _hard_swish(site: Site) -> Unary:
    sixth, half = np.float32(1 / 6), np.float32(0.5)
    return Unary(6, lambda x: x * np.clip(x * sixth + half, np.float32(0), np.float32(1)))


def _elu(site: Site) -> Unary:
    alpha = site.attribute("alpha", 1.0)
    return Unary(7, _in_double(lambda x: np.where(x >= 0, x, alpha * np.expm1(x))), alpha, 1.0)


def _selu(site: Site) -> Unary:
    alpha = site.attribute("alpha", 1.6732632423543772)
    gamma = site.attribute("gamma", 1.0507009873554805)
    return Unary(
        7, _in_double(lambda x: gamma * np.where(x >= 0, x, alpha * np.expm1(x))), alpha, gamma
    )


def _celu(site: Site) -> Unary:
    alpha = site.attribute("alpha", 1.0)
    return Unary(8, _in_double(lambda x: np.where(x >= 0, x, alpha * np.expm1(x / alpha))), alpha)


def _gelu(site: Site) -> Unary:
    if site.attribute("approximate", "none") == "tanh":
        factor = sqrt(2 / np.pi)
        return Unary(
            13, _in_double(lambda x: x / 2 * (1 + np.tanh(factor * (x + 0.044715 * x**3))))
        )
    return Unary(9, _in_double(lambda x: x / 2 * (1 + _erf(x / sqrt(2)))))


def _swish(site: Site) -> Unary:
    alpha = site.attribute("alpha", 1.0)
    return Unary(14, _in_double(lambda x: x * _sigmoid(alpha * x)), alpha)


def _thresholded(site: Site) -> Unary:
    alpha = site.attribute("alpha", 1.0)
    return Unary(2, lambda x: np.where(x > np.float32(alpha), x, np.float32(0)), alpha)


_WITH_PARAMETERS: Mapping[str, Callable[[Site], Unary]] = {
    "Relu": _relu,
    "Clip": _clip,
    "LeakyRelu": _leaky,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _hard_swish,
    "Elu": _elu,
    "Selu": _selu,
    "Celu": _celu,
    "Gelu": _gelu,
    "Swish": _swish,
    "ThresholdedRelu": _thresholded,
}
UNARY = frozenset({*_PLAIN, *_WITH_PARAMETERS})
