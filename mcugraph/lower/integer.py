"""Integer arithmetic of a layer: real scales to 32-bit multipliers, bounds to clamps and proofs.

m32e: y = clamp(round_half_even(acc * multiplier / 2^(33 + shift)) + zero_point, low, high).
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import frexp

import numpy as np
from numpy.typing import NDArray

from mcugraph.graph import Quant, Tensor
from mcugraph.lower.call import Site
from mcugraph.lower.rounding import agreeing

# mcu_requantize is exact up to here; a sum with all its partial sums must stay within.
ACCUMULATOR = 0x7FFC0000
# A shift of 0 divides the product by 2 to this power.
POINT = 33
# With that many terms, sums of weights stored as w + 128 stay within int32 at every point.
TERMS = 43_000
# Output error, in steps of the output's scale, that a rescaled channel may have.
TOLERANCE = 1e-3


def multiplier(real: float) -> tuple[int, int]:
    """(multiplier, shift) with real = multiplier / 2^(33 + shift), relative error under 2^-31.

    A real below 2^-32 gives 0: no int32 reaches half a step with it. One above 2^24 gives 2^24:
    every integer but 0 is saturated by either. Raises ValueError where real is not finite or < 0.
    """
    if not 0 <= real < float("inf"):
        raise ValueError(f"a scale ratio of {real}; it must be finite and not negative")
    if real < 2.0**-32:
        return 0, 0
    fraction, exponent = frexp(min(real, 2.0**24))
    scaled = round(fraction * 2**31)
    if scaled == 2**31:
        scaled, exponent = 2**30, exponent + 1
    return scaled, -2 - exponent


def multipliers(reals: NDArray[np.float64]) -> tuple[NDArray[np.int32], NDArray[np.int8]]:
    """The multipliers and shifts of several scale ratios, rounding as onnxruntime does."""
    pairs = np.array([multiplier(float(real)) for real in reals], np.int64)
    points = np.maximum(POINT + pairs[:, 1], 1)
    tuned = agreeing(reals.astype(np.float32), pairs[:, 0], points, ACCUMULATOR)
    return tuned.astype(np.int32), pairs[:, 1].astype(np.int8)


def scale_of(tensor: Tensor) -> float:
    """The scale of a per-tensor quantised tensor."""
    return float(quant_of(tensor).scale.item())


def zero_of(tensor: Tensor) -> int:
    """The zero point of a per-tensor quantised tensor."""
    return int(quant_of(tensor).zero_point.item())


def quant_of(tensor: Tensor) -> Quant:
    """The quantisation of an int8 tensor; ValueError where it has none or one per channel."""
    if tensor.dtype != "int8":
        raise ValueError(f"{tensor.name} is {tensor.dtype}; int8 is allowed")
    if tensor.quant is None or not tensor.quant.per_tensor:
        raise ValueError(f"{tensor.name} needs one scale for the whole tensor")
    return tensor.quant


def clamp_of(tensor: Tensor, activation: tuple[float, float] | None) -> tuple[int, int]:
    """(low, high) of an int8 result: its range, narrowed by a fused activation."""
    low, high = activation or (float("-inf"), float("inf"))
    return _quantised(tensor, low), _quantised(tensor, high)


def _quantised(tensor: Tensor, real: float) -> int:
    """QuantizeLinear of one real number, in float32 as onnxruntime computes it."""
    quant = quant_of(tensor)
    steps = np.rint(np.float32(real) / quant.scale.item() if np.isfinite(real) else real)
    return int(np.clip(steps + zero_of(tensor), -128, 127))


@dataclass(frozen=True, eq=False)
class Affine:
    """y = requantize(weights @ x + bias): int8 [outputs, terms], and one entry an output.

    `multiplier` and `shift` have one entry where all outputs share it. The input's zero point is
    folded into the bias.
    """

    weights: NDArray[np.int8]
    bias: NDArray[np.int32]
    multiplier: NDArray[np.int32]
    shift: NDArray[np.int8]

    def fields(self) -> dict[str, NDArray[np.generic] | int]:
        """The members of a kernel's parameters but the weights, whose order is the kernel's."""
        return {
            "bias": self.bias,
            "multiplier": self.multiplier,
            "shift": self.shift,
            "scale_mask": -1 if self.multiplier.size > 1 else 0,
        }


@dataclass(frozen=True)
class _Channel:
    weights: NDArray[np.int64]
    bias: int
    ratio: float


def affine(
    site: Site, weights: NDArray[np.generic], alpha: float = 1.0, beta: float = 1.0
) -> Affine:
    """The integer layer y = alpha * (weights @ x) + beta * bias of a step.

    Input 0 is the activation, input 1 the weights (quantised per tensor or per output, given here
    as [outputs, terms]), input 2 the optional bias. A channel whose sum may leave int32 is rescaled
    where the output error stays under TOLERANCE, else refused.
    """
    x, w, y = site.input(0), site.input(1), site.output
    assert w.quant is not None, f"{w.name} has no scale"
    count, terms = weights.shape
    if terms > TERMS:
        raise site.refuse(f"{terms} terms in one sum; {TERMS} are allowed")
    _check_axis(site, w, count)
    scales = np.broadcast_to(w.quant.scale.astype(np.float64).reshape(-1), count)
    zeros = np.broadcast_to(w.quant.zero_point.reshape(-1), count)
    centred = (weights.astype(np.int64) - zeros[:, None]) * int(np.sign(alpha))
    if centred.size and (centred.min() < -128 or centred.max() > 127):
        raise site.refuse(f"weights minus their zero point do not fit int8 in {w.name}")
    units = scale_of(x) * scales * (abs(alpha) or 1.0)
    # In float32 and in this order, as onnxruntime computes it: fewer ties fall the other way.
    ratios = (units.astype(np.float32) / np.float32(scale_of(y))).tolist()
    biases = _integer_bias(site, units, beta)
    channels = [_Channel(*c) for c in zip(centred, biases, ratios, strict=True)]
    fitted = [_fit(site, index, channel) for index, channel in enumerate(channels)]
    return _assembled(fitted, zero_of(x))


def _check_axis(site: Site, weights: Tensor, outputs: int) -> None:
    """Refuse scales of weights that do not run along the outputs."""
    assert weights.quant is not None
    first = site.step.op == "Conv" or site.attribute("transB", 0)
    axis = 0 if first else len(weights.shape) - 1
    along = weights.quant.axis == axis and weights.quant.scale.size == outputs
    if not (weights.quant.per_tensor or along):
        raise site.refuse(
            f"{weights.quant.scale.size} scales of {weights.name} along axis {weights.quant.axis}; "
            f"one, or {outputs} along axis {axis}, are allowed"
        )


def _integer_bias(site: Site, units: NDArray[np.float64], beta: float) -> list[int]:
    """The bias in accumulator units: as stored where its scale is theirs, else requantised."""
    if not site.has(2):
        return [0] * units.size
    real = constant_bias(site, units.size) * beta
    tensor = site.input(2)
    if tensor.quant is not None and beta == 1.0:
        scale = tensor.quant.scale.astype(np.float64)
        if np.allclose(scale, units, rtol=1e-6, atol=0) and not tensor.quant.zero_point.any():
            assert tensor.data is not None
            return [int(b) for b in np.broadcast_to(tensor.data.reshape(-1), units.size)]
    exact = [Fraction(b) / Fraction(u) for b, u in zip(real.tolist(), units, strict=True)]
    rounded = [round(b) for b in exact]
    lost = max(abs(a - b) * Fraction(u) for a, b, u in zip(rounded, exact, units, strict=True))
    if lost > Fraction(scale_of(site.output)):
        raise site.refuse(
            f"the bias {tensor.name} loses {float(lost):.3g} where it is added to sums of int8 "
            f"products; the output's scale is {scale_of(site.output):.3g}"
        )
    return rounded


def constant_bias(site: Site, count: int) -> NDArray[np.float64]:
    """The optional bias, input 2, in real numbers, [count]; zeros where it is omitted."""
    if not site.has(2):
        return np.zeros(count)
    tensor = site.input(2)
    if tensor.data is None:
        raise site.refuse(f"the bias {tensor.name} is computed at run time; make it a constant")
    if tensor.dtype != "float32" and tensor.quant is None:
        raise site.refuse(f"the bias {tensor.name} has no scale; put a DequantizeLinear behind it")
    if tensor.size != 1 and (tensor.size, tensor.shape[-1]) != (count, count):
        raise site.refuse(
            f"the bias {tensor.name} is {list(tensor.shape)}; one value an output is allowed"
        )
    return np.broadcast_to(tensor.real.reshape(-1), count).astype(np.float64)


def _assembled(channels: list[_Channel], x_zero: int) -> Affine:
    ratios = [c.ratio for c in channels]
    shared = ratios[:1] if len(set(ratios)) == 1 else ratios
    scale, shift = multipliers(np.array(shared))
    bias = [_folded(c, x_zero) for c in channels]
    weights = np.array([c.weights for c in channels])
    return Affine(weights.astype(np.int8), np.array(bias, np.int64).astype(np.int32), scale, shift)


def _folded(channel: _Channel, x_zero: int) -> int:
    return channel.bias - x_zero * int(channel.weights.sum())


def _fits(channel: _Channel, x_zero: int) -> bool:
    """Whether every partial sum of bias and products stays within the accumulator."""
    reach = 128 * int(np.abs(channel.weights).sum())
    return abs(_folded(channel, x_zero)) + reach <= ACCUMULATOR


def _fit(site: Site, index: int, channel: _Channel) -> _Channel:
    """The channel itself, or one that fits the accumulator and gives the same output."""
    x_zero = zero_of(site.input(0))
    if _fits(channel, x_zero):
        return channel
    constant = _constant(site, channel, x_zero)
    if constant is not None:
        return _Channel(np.zeros_like(channel.weights), constant, 1.0)
    for power in range(1, 32):
        candidate = _scaled_down(channel, power)
        if _fits(candidate, x_zero):
            error = _error(channel, candidate, power, x_zero)
            if error <= TOLERANCE:
                return candidate
            break
    raise site.refuse(
        f"channel {index}: bias {channel.bias} and weights of sum {_magnitude(channel)} overflow "
        f"the 32-bit accumulator; quantise it with a larger weight scale"
    )


def _magnitude(channel: _Channel) -> int:
    return int(np.abs(channel.weights).sum())


def _constant(site: Site, channel: _Channel, x_zero: int) -> int | None:
    """The result (less the zero point) of a channel whose output is the same for every input."""
    y_zero = zero_of(site.output)
    low, high = (bound - y_zero for bound in clamp_of(site.output, site.step.activation))
    ends = np.array([-128 - x_zero, 127 - x_zero])
    products = np.multiply.outer(channel.weights, ends)
    sums = (int(products.min(axis=1).sum()), int(products.max(axis=1).sum()))
    results = {
        min(max(round(Fraction(channel.ratio) * (channel.bias + s)), low), high) for s in sums
    }
    return results.pop() if len(results) == 1 else None


def _scaled_down(channel: _Channel, power: int) -> _Channel:
    weights = np.rint(channel.weights / 2**power).astype(np.int64)
    bias = round(Fraction(channel.bias, 2**power))
    return _Channel(weights, bias, channel.ratio * 2**power)


def _error(channel: _Channel, scaled: _Channel, power: int, x_zero: int) -> float:
    """The largest output error of the scaled channel, in steps of the output's scale."""
    reach = max(127 - x_zero, x_zero + 128)
    lost = int(np.abs(channel.weights - scaled.weights * 2**power).sum()) * reach
    lost += abs(channel.bias - scaled.bias * 2**power)
    return float(lost * channel.ratio)
