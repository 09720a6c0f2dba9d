"""Average and max pools, global ones included; one channel-last row of windows at a time."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from mcugraph.lower.call import Call, Field, Site
from mcugraph.lower.geometry import Window, image_size, window_of
from mcugraph.lower.integer import clamp_of, multiplier, multipliers, scale_of, zero_of
from mcugraph.lower.unary import float_bounds, identity, table_of

INT32 = 2**31
# Bytes of the sum of one channel.
SUM = 4


def lower_average_pool(site: Site) -> tuple[Call, ...]:
    """AveragePool over a window."""
    window = window_of(site)
    _refuse_empty(site, window)
    if site.output.dtype == "int8":
        return (_average_int8(site, window),)
    return (_average_float(site, window),)


def lower_max_pool(site: Site) -> tuple[Call, ...]:
    """MaxPool over a window."""
    if len([name for name in site.step.outputs if name]) > 1:
        raise site.refuse("the Indices output; only the maxima are allowed")
    window = window_of(site)
    _refuse_empty(site, window)
    return (_max(site, window),)


def lower_global_average_pool(site: Site) -> tuple[Call, ...]:
    """The mean of each channel."""
    if site.output.dtype == "int8":
        return (_global_int8(site),)
    return (_average_float(site, _whole(site)),)


def lower_global_max_pool(site: Site) -> tuple[Call, ...]:
    """The largest element of each channel."""
    return (_max(site, _whole(site)),)


def _whole(site: Site) -> Window:
    """The window that covers the whole image."""
    size = image_size(site, site.input(0).shape)
    return Window(size, (1, 1), size, (1, 1), (1, 1), (0, 0), (0, 0))


def _refuse_empty(site: Site, window: Window) -> None:
    if min(min(counts) for counts in _taps(window)) < 1:
        raise site.refuse("a window lies outside of the input; use fewer pads")


def _taps(window: Window) -> tuple[list[int], list[int]]:
    """For each output row and each output column, the taps inside the input."""
    counts = []
    for axis in range(2):
        first = np.arange(window.output[axis]) * window.stride[axis] - window.begin[axis]
        taps = first[:, None] + np.arange(window.kernel[axis]) * window.dilation[axis]
        inside = (taps >= 0) & (taps < window.input[axis])
        counts.append([int(n) for n in inside.sum(axis=1)])
    return counts[0], counts[1]


def _shape_fields(site: Site, window: Window) -> dict[str, Field]:
    return {
        **window.fields(),
        "channels": site.input(0).shape[1],
        "y_step": site.input(0).shape[1],
        "x_depth": window.input[0],
        "y_depth": window.output[0],
    }


def _max(site: Site, window: Window) -> Call:
    x, y = site.input(0), site.output
    fields = _shape_fields(site, window)
    if y.dtype == "float32":
        return Call("maxpool_f32", (x.name,), y.name, fields, window.output[0])
    table = table_of(site, x, y, identity)
    fields["table"] = None if np.array_equal(table, np.arange(-128, 128)) else table
    return Call("maxpool_s8", (x.name,), y.name, fields, window.output[0])


def _counted(site: Site, window: Window) -> bool:
    """Whether windows divide by different numbers of taps."""
    if site.attribute("count_include_pad", 0):
        return False
    rows, columns = _taps(window)
    return min(rows) * min(columns) < window.taps


def _divisors(site: Site, window: Window) -> list[int]:
    """What the sums are divided by."""
    if not _counted(site, window):
        return [window.taps]
    rows, columns = _taps(window)
    return sorted({r * c for r in rows for c in columns})


def _average_int8(site: Site, window: Window) -> Call:
    x, y = site.input(0), site.output
    if window.dilation != (1, 1):
        raise site.refuse("dilations in an average; only 1 is allowed")
    counted = _counted(site, window)
    divisors = _divisors(site, window)
    entries = np.zeros(window.taps + 1 if counted else 1)
    for divisor in divisors:
        entries[divisor if counted else 0] = scale_of(x) / (scale_of(y) * divisor)
    scales, shifts = multipliers(entries)
    low, high = clamp_of(y, site.step.activation)
    fields: dict[str, Field] = {
        **_shape_fields(site, window),
        "x_zero": zero_of(x),
        "y_zero": zero_of(y),
        "low": low,
        "high": high,
        "counted": int(counted),
        "multiplier": scales,
        "shift": shifts,
    }
    kernel = "avgpool_s8"
    if any(_has_ties(site, divisor) for divisor in divisors):
        kernel = "avgpool_ties_s8"
        ratio = _ratio(site)
        fields["scale_up"], fields["scale_down"] = ratio.numerator, ratio.denominator
        fields["x_scale"], fields["y_scale"] = scale_of(x), scale_of(y)
    macs = int(np.prod(window.output)) * x.shape[1] * window.taps
    return Call(kernel, (x.name,), y.name, fields, window.output[0], macs=macs)


def _ratio(site: Site) -> Fraction:
    return Fraction(scale_of(site.input(0))) / Fraction(scale_of(site.output))


def _has_ties(site: Site, divisor: int) -> bool:
    """Whether a sum of `divisor` elements can lie half way between two results.

    sum * up / down = k + 1/2 needs an even `down` whose half divides the sum.
    """
    mean = _ratio(site) / divisor
    if mean.denominator % 2 or mean.denominator // 2 > 255 * divisor:
        return False
    ratio = _ratio(site)
    largest = 510 * divisor * ratio.numerator + 2 * ratio.denominator * divisor
    return largest < INT32


def _global_int8(site: Site) -> Call:
    x, y = site.input(0), site.output
    height, width = image_size(site, x.shape)
    scale, shift = multiplier(scale_of(x) / (scale_of(y) * height * width))
    low, high = clamp_of(y, site.step.activation)
    mean = _ratio(site) / (height * width)
    ties = _global_ties(site, height * width)
    fields: dict[str, Field] = {
        "x_height": height,
        "x_width": width,
        "x_depth": height,
        "channels": x.shape[1],
        "x_zero": zero_of(x),
        "y_zero": zero_of(y),
        "low": low,
        "high": high,
        "multiplier": scale,
        "shift": shift,
        "ties": ties,
        "scale_up": mean.numerator if ties is not None else 0,
        "scale_down": mean.denominator if ties is not None else 0,
    }
    channels = x.shape[1]
    return Call(
        "gap_s8",
        (x.name,),
        y.name,
        fields,
        height,
        scratch=SUM * channels,
        macs=height * width * channels,
        gathers=True,
    )


def _global_ties(site: Site, count: int) -> NDArray[np.uint32] | None:
    """Bit k + 128 says whether a mean of k + 1/2 becomes k + 1, as in onnxruntime's float32."""
    if not _has_ties(site, count):
        return None
    mean = _ratio(site) / count
    x_scale, y_scale = np.float32(scale_of(site.input(0))), np.float32(scale_of(site.output))
    scale = x_scale / (y_scale * np.float32(count))
    words = [0] * 8
    for place in range(256):
        lower = place - 128 - zero_of(site.output)
        total = (lower + Fraction(1, 2)) / mean
        if total.denominator == 1:
            upper = int(np.rint(np.float32(int(total)) * scale)) > lower
            words[place // 32] |= int(upper) << place % 32
    return np.array(words, np.uint32)


def _average_float(site: Site, window: Window) -> Call:
    low, high = float_bounds(site.step.activation)
    fields: dict[str, Field] = {
        **_shape_fields(site, window),
        "pad_bottom": window.end[0],
        "pad_right": window.end[1],
        "counted": int(not site.attribute("count_include_pad", 0)),
        "low": low,
        "high": high,
    }
    x, y = site.input(0), site.output
    return Call("avgpool_f32", (x.name,), y.name, fields, window.output[0])
