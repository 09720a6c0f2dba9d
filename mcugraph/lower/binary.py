"""Operators of two operands: their functions, and where onnxruntime rounds them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from mcugraph.lower.call import Site
from mcugraph.lower.integer import clamp_of, zero_of
from mcugraph.lower.unary import Floats

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


def fused(site: Site) -> bool:
    """Whether onnxruntime runs Add or Mul as one integer operator: it then adds the zero point
    before it rounds, else after; the two differ in ties.
    """
    whole = clamp_of(site.output, site.step.activation) == (-128, 127)
    integers = all(site.input(i).quant is not None for i in range(2))
    return whole and integers and site.step.op in ("Add", "Mul")


def odd(site: Site) -> int:
    """Whether ties go to odd: to even before an odd zero point is added."""
    return 0 if fused(site) else zero_of(site.output) % 2


def fraction_bits(site: Site, reach: float, offset: float) -> int:
    """Bits of fraction, 1 to 24, with which 128 * reach + offset and its partial sums fit int32."""
    if reach > LARGEST_RATIO:
        raise site.refuse(f"the input's scale is {reach:.3g} times the output's")
    bound = 128 * reach + offset + 2
    return max(n for n in range(1, 25) if n == 1 or bound * 2**n < 2**31 - 2**12)
