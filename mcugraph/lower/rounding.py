"""Multipliers that round every sum as onnxruntime's float32 arithmetic does.

onnxruntime requantises in float32: round_half_even(float32(acc) * ratio). Exact arithmetic differs
from it where float32 rounds the product onto a tie: about once in 100,000 sums. Both are odd and
monotonic in acc, so they agree everywhere if they agree around the 256 positive sums at which the
result changes. Each of these sums allows an interval of 31-bit multipliers; the one that most
intervals share is taken; it costs nothing at run time.

No multiplier agrees where the ratio is nearly a fraction with a small even denominator, such as
1 / 252 or 1 / 254: sums lie on ties, and float32 rounds some to the even neighbour, others up,
while a product moves all one way. Up to every second tie then differs by one: with 1 / 254, two
sums in 1,000. Measured ranges do not give such scales; scales set by hand may.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Floats = NDArray[np.float32]

# How far a multiplier may move: two units in the last place of the ratio's float32.
REACH = 255
OFFSETS = np.arange(-REACH, REACH + 1)
# Results of this size, less the zero point, and larger ones are clamped to the ends of int8.
CLAMPED = 256
NEIGHBOURS = np.arange(-2, 3)


def agreeing(ratios: Floats, multipliers: Integers, points: Integers, limit: int) -> Integers:
    """For each channel, the multiplier near the given one that rounds most sums as float32 does.

    `points` are the right shifts of the products; sums reach from -limit to limit.
    """
    sums = _critical_sums(ratios, limit)
    lowest, highest = _allowed(sums, _float32(sums, ratios), points[:, None])
    first = np.clip(lowest - multipliers[:, None], -REACH, REACH + 1) + REACH
    last = np.clip(highest - multipliers[:, None], -REACH - 1, REACH) + REACH
    shared = np.zeros((len(ratios), OFFSETS.size + 1), np.int64)
    channel = np.arange(len(ratios))[:, None]
    np.add.at(shared, (channel, first), 1)
    np.add.at(shared, (channel, last + 1), -1)
    shared = shared.cumsum(axis=1)[:, :-1]
    candidates = np.clip(multipliers[:, None] + OFFSETS, 0, 2**31 - 1)
    # Most sums first, then the smallest move.
    best = np.argmax(shared * (REACH + 1) - np.abs(OFFSETS), axis=1)
    chosen: Integers = candidates[channel[:, 0], best]
    return chosen


def _critical_sums(ratios: Floats, limit: int) -> Integers:
    """[channels, sums] around each half step between two results; all positive."""
    wide = ratios.astype(np.float64)[:, None]
    with np.errstate(divide="ignore"):
        middle = np.clip(np.rint((np.arange(CLAMPED) + 0.5) / wide), 1, limit)
    # Above 2^24 float32 holds only some of the integers.
    spacing = np.maximum(1, 2.0 ** (np.floor(np.log2(middle)) - 23))
    near = middle[:, :, None] + NEIGHBOURS * spacing[:, :, None]
    sums: Integers = np.clip(near, 1, limit).astype(np.int64)
    return sums.reshape(len(ratios), -1)


def _float32(sums: Integers, ratios: Floats) -> Integers:
    """onnxruntime's results, as far as int8 can tell them apart."""
    products = sums.astype(np.float32) * ratios[:, None]
    results: Integers = np.minimum(np.rint(products), CLAMPED).astype(np.int64)
    return results


def _allowed(sums: Integers, results: Integers, points: Integers) -> tuple[Integers, Integers]:
    """The multipliers, both ends included, by which mcu_requantize gives these results.

    result - 1/2 <= sum * multiplier / 2^point <= result + 1/2, where only even results have ties.
    """
    half, odd = np.int64(1) << (points - 1), results & 1
    lowest = -(((1 - 2 * results) * half - odd) // sums)
    highest = ((2 * results + 1) * half - odd) // sums
    return lowest, np.where(results == CLAMPED, np.iinfo(np.int64).max // 2, highest)
