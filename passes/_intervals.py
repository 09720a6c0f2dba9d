"""What values a tensor can take: bounds, and the value itself where there is only one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from mcugraph.passes._edit import Array

# Stands for infinity, so that nothing times it is nothing; what is beyond FAR is as far away.
HUGE, FAR = 1e250, 1e150
# What one rounding to float32 can change, doubled.
STEP = 2.0**-23
_UNKNOWN = np.nan


@dataclass(frozen=True)
class Interval:
    """Bounds that hold however floats are rounded, and the exact value, NaN where it is not known.

    Three float64 arrays of one shape: that of the tensor, or 1 along axes on which all are alike.
    """

    low: Array
    high: Array
    value: Array

    @property
    def largest(self) -> Array:
        """The largest absolute value."""
        return np.maximum(np.abs(self.low), np.abs(self.high))

    @property
    def known(self) -> Array:
        """Where the tensor is constant."""
        return ~np.isnan(self.value)

    def each(self, function: Callable[[Array], Array]) -> "Interval":
        """All three arrays moved alike."""
        return Interval(function(self.low), function(self.high), function(self.value))


def bounded(low: Array, high: Array, value: Array | float = _UNKNOWN) -> Interval:
    """An interval; where its bounds meet, the value is known."""
    low, high, value = np.broadcast_arrays(low, high, value)
    low = np.where(np.isnan(low) | (low < -FAR), -HUGE, np.minimum(low, FAR))
    high = np.where(np.isnan(high) | (high > FAR), HUGE, np.maximum(high, -FAR))
    value = np.where(np.abs(value) < FAR, value, _UNKNOWN)
    return Interval(low, high, np.where(low == high, low, value))


def widened(interval: Interval, slack: Array) -> Interval:
    """Bounds that allow for rounding errors; a known value stays."""
    return bounded(interval.low - slack, interval.high + slack, interval.value)


def point(value: Array) -> Interval:
    """A constant."""
    value = value.astype(np.float64)
    return Interval(value, value, value)


def span(rank: int, low: float = -HUGE, high: float = HUGE) -> Interval:
    """The same bounds everywhere."""
    ones = np.ones((1,) * rank)
    return bounded(low * ones, high * ones)


def hull(interval: Interval, number: float) -> Interval:
    """The interval or this number, whichever of the two."""
    value = np.where(interval.value == number, interval.value, _UNKNOWN)
    return bounded(np.minimum(interval.low, number), np.maximum(interval.high, number), value)


def collapsed(interval: Interval, axes: Sequence[int]) -> Interval:
    """One interval for all elements along some axes."""
    axis = tuple(axes)
    if all(interval.low.shape[a] == 1 for a in axis):
        return interval
    low, high = interval.low.min(axis, keepdims=True), interval.high.max(axis, keepdims=True)
    first, last = (f(interval.value, axis=axis, keepdims=True) for f in (np.min, np.max))
    return bounded(low, high, np.where(first == last, first, _UNKNOWN))


def along(interval: Interval, axis: int) -> Interval:
    """Vectors along one axis, which may be of one element."""
    others = [a for a in range(interval.low.ndim) if a != axis]
    return collapsed(interval, others).each(np.ravel)


def expanded(interval: Interval, shape: Sequence[int]) -> Interval:
    """Arrays of the tensor's full shape; not copied."""
    return interval.each(lambda array: np.broadcast_to(array, tuple(shape)))


def added(a: Interval, b: Interval) -> Interval:
    """a + b."""
    return widened(_plainly(np.add, a, b), 2 * STEP * (a.largest + b.largest))


def _plainly(function: Callable[[Array, Array], Array], a: Interval, b: Interval) -> Interval:
    pairs = ((a.low, b.low), (a.high, b.high), (a.value, b.value))
    return bounded(*(function(one, other) for one, other in pairs))


def negated(a: Interval) -> Interval:
    """-a."""
    return Interval(-a.high, -a.low, -a.value)


def greater(a: Interval, b: Interval) -> Interval:
    """max(a, b)."""
    return _plainly(np.maximum, a, b)


def multiplied(a: Interval, b: Interval) -> Interval:
    """a * b; nothing times whatever is nothing."""
    with np.errstate(over="ignore"):
        corners = [x * y for x in (a.low, a.high) for y in (b.low, b.high)]
        slack = 2 * STEP * np.maximum.reduce([np.abs(corner) for corner in corners])
    nothing = (a.value == 0) | (b.value == 0)
    low, high = np.minimum.reduce(corners) - slack, np.maximum.reduce(corners) + slack
    low, high, value = (np.where(nothing, 0.0, part) for part in (low, high, a.value * b.value))
    return bounded(low, high, value)


def inverted(a: Interval) -> Interval:
    """1 / a, unbounded where a may be nothing."""
    unsure = (a.low <= 0) & (a.high >= 0)
    low, high, value = (np.where(unsure, 1.0, array) for array in (a.low, a.high, a.value))
    huge = np.where(unsure, HUGE, 0.0)
    with np.errstate(over="ignore"):
        return bounded(1 / high - huge, 1 / low + huge, np.where(unsure, _UNKNOWN, 1 / value))
