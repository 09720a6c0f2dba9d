"""Bounds behind functions of one operand."""

import math
from collections.abc import Callable

import numpy as np

from mcugraph.passes._edit import Array, attribute
from mcugraph.passes._intervals import Interval, bounded, widened
from mcugraph.passes._range_site import Site

Function = Callable[[Array], Array]
# Functions of one operand that only choose between values, or change their sign.
_EXACT = ("Abs", "Neg", "Relu")
# Where functions that fall and then rise have their least value.
_LEAST = {"Abs": 0.0, "Gelu": -0.7517915, "HardSwish": -1.5, "LeakyRelu": 0.0}
# What a float32 library may be off, as a part of 1 + |x| and 1 + |y|.
_OFF, _FARTHEST = 1e-6, 1e3


def _unit(site: Site) -> Interval:
    """From the values at both bounds, and at the least where it lies between."""
    x, kind = site.operand(), site.node.op_type
    function = _FUNCTIONS[kind](site)
    with np.errstate(all="ignore"):
        ends, value = (function(x.low), function(x.high)), function(x.value)
        least = function(np.asarray(_LEAST[kind])) if kind in _LEAST else math.inf
    inside = (x.low < _LEAST.get(kind, math.inf)) & (_LEAST.get(kind, -math.inf) < x.high)
    low = np.where(inside, np.minimum(least, np.minimum(*ends)), np.minimum(*ends))
    found = bounded(low, np.maximum(*ends), value)
    if kind in _EXACT:
        return found
    return widened(found, _OFF * (1 + np.minimum(x.largest, _FARTHEST)) * (1 + found.largest))


def _elu(site: Site) -> Function:
    alpha = attribute(site.node, "alpha", 1.0)
    return lambda x: np.maximum(x, 0) + alpha * np.expm1(np.minimum(x, 0))


def _leaky(site: Site) -> Function:
    alpha = attribute(site.node, "alpha", 0.01)
    return lambda x: np.maximum(x, 0) + alpha * np.minimum(x, 0)


def _hard_sigmoid(site: Site) -> Function:
    alpha, beta = attribute(site.node, "alpha", 0.2), attribute(site.node, "beta", 0.5)
    return lambda x: np.clip(alpha * x + beta, 0, 1)


def _gelu(site: Site) -> Function:
    if attribute(site.node, "approximate", "none") == "tanh":
        return lambda x: x * _sigmoid(2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))
    return lambda x: x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2


def _sigmoid(x: Array) -> Array:
    return np.asarray((1 + np.tanh(x / 2)) / 2)


def _always(function: Function) -> Callable[[Site], Function]:
    return lambda site: function


_FUNCTIONS: dict[str, Callable[[Site], Function]] = {
    "Abs": _always(np.abs),
    "Elu": _elu,
    "Exp": _always(np.exp),
    "Gelu": _gelu,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _always(lambda x: x * np.clip(x / 6 + 0.5, 0, 1)),
    "LeakyRelu": _leaky,
    "Neg": _always(np.negative),
    "Relu": _always(lambda x: np.maximum(x, 0)),
    "Sigmoid": _always(_sigmoid),
    "Softplus": _always(lambda x: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))),
    "Tanh": _always(np.tanh),
}
RULES = dict.fromkeys(_FUNCTIONS, _unit)
