"""Pixels by index: Resize to the nearest pixel, and every mode of Pad."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from mcugraph.lower.call import Call, Field, Site
from mcugraph.lower.movement import constants, rescale_table
from mcugraph.lower.rows import memory_shape, row_axes, rows_of
from mcugraph.lower.unary import quantised

Index = NDArray[np.int64]
Floats = NDArray[np.float32]
FILL = -1


def lower_pad(site: Site) -> tuple[Call, ...]:
    """Pad in the modes constant, reflect, edge and wrap; beside the pixel only with a constant."""
    mode = site.attribute("mode", "constant")
    rank = len(site.input(0).shape)
    axes = [a % rank for a in constants(site, 3)] if site.has(3) else list(range(rank))
    pads = constants(site, 1)
    before, after = [0] * rank, [0] * rank
    for i, axis in enumerate(axes):
        before[axis], after[axis] = pads[i], pads[i + len(axes)]
    if mode not in _PADDING:
        raise site.refuse(f"mode {mode!r}; {', '.join(_PADDING)} are allowed")
    shape = site.input(0).shape
    index = [
        _PADDING[mode](np.arange(-b, n + a), n)
        for n, b, a in zip(shape, before, after, strict=True)
    ]
    return (_take(site, index),)


def _constant(places: Index, size: int) -> Index:
    return np.where((places < 0) | (places >= size), FILL, places)


def _edge(places: Index, size: int) -> Index:
    return np.clip(places, 0, size - 1)


def _wrap(places: Index, size: int) -> Index:
    return places % size


def _reflect(places: Index, size: int) -> Index:
    period = max(1, 2 * size - 2)
    folded = places % period
    return np.where(folded < size, folded, period - folded)


_PADDING: Mapping[str, Callable[[Index, int], Index]] = {
    "constant": _constant,
    "reflect": _reflect,
    "edge": _edge,
    "wrap": _wrap,
}


def lower_resize(site: Site) -> tuple[Call, ...]:
    """Resize to the nearest pixel, in every coordinate mode but tf_crop_and_resize."""
    mode = site.attribute("mode", "nearest")
    if mode != "nearest":
        raise site.refuse(f"mode {mode!r}; nearest is allowed")
    x, y = site.input(0), site.output
    pairs = zip(x.shape, y.shape, _scales(site), strict=True)
    return (_take(site, [_nearest(site, n, m, scale) for n, m, scale in pairs]),)


def _scales(site: Site) -> Floats:
    """The factor of each axis."""
    x, y = site.input(0), site.output
    given = site.graph.constant(site.step, 2)
    if site.has(2) and given is None:
        raise site.refuse("scales that are computed at run time; constants are allowed")
    scales = np.array(y.shape, np.float32) / np.array(x.shape, np.float32)
    if given is not None and given.size:
        axes = site.attribute("axes", list(range(len(x.shape))))
        scales[axes] = given.astype(np.float32)
    return np.asarray(scales, np.float32)


def _nearest(site: Site, size: int, wanted: int, scale: np.float32) -> Index:
    """The input place of each output place along one axis."""
    if size == wanted and scale == 1:
        return np.arange(size)
    places = np.arange(wanted, dtype=np.float32)
    transform = site.attribute("coordinate_transformation_mode", "half_pixel")
    if transform not in _COORDINATES:
        raise site.refuse(f"{transform!r}; {', '.join(_COORDINATES)} are allowed")
    real = _COORDINATES[transform](places, scale, (size, wanted)).astype(np.float32)
    rounding = _ROUNDING[site.attribute("nearest_mode", "round_prefer_floor")]
    return np.clip(rounding(real), 0, size - 1).astype(np.int64)


def _half_pixel(places: Floats, scale: np.float32, sizes: tuple[int, int]) -> Floats:
    half = np.float32(0.5)
    return (places + half) / scale - half


def _pytorch_half_pixel(places: Floats, scale: np.float32, sizes: tuple[int, int]) -> Floats:
    return _half_pixel(places, scale, sizes) if sizes[1] > 1 else places * 0


def _symmetric(places: Floats, scale: np.float32, sizes: tuple[int, int]) -> Floats:
    size, wanted = sizes
    share = np.float32(wanted) / (scale * np.float32(size))
    offset = float(np.float32(size / 2) * (1 - share))
    exact = offset + (places.astype(np.float64) + 0.5) / float(scale) - 0.5
    return np.asarray(exact, np.float32)


def _asymmetric(places: Floats, scale: np.float32, sizes: tuple[int, int]) -> Floats:
    return places / scale


def _align_corners(places: Floats, scale: np.float32, sizes: tuple[int, int]) -> Floats:
    size, wanted = sizes
    return places * np.float32(size - 1) / np.float32(max(1, wanted - 1))


_COORDINATES: Mapping[str, Callable[[Floats, np.float32, tuple[int, int]], Floats]] = {
    "half_pixel": _half_pixel,
    "half_pixel_symmetric": _symmetric,
    "pytorch_half_pixel": _pytorch_half_pixel,
    "asymmetric": _asymmetric,
    "align_corners": _align_corners,
}
_ROUNDING: Mapping[str, Callable[[Floats], Floats]] = {
    "round_prefer_floor": lambda x: np.floor(x) + (x - np.floor(x) > 0.5),
    "round_prefer_ceil": lambda x: np.floor(x) + (x - np.floor(x) >= 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}


def _take(site: Site, index: Sequence[Index]) -> Call:
    """The call for one input index per output place along each ONNX axis; FILL stands for none."""
    x, y = site.input(0), site.output
    shape = memory_shape(site, x)
    ordered = [index[axis] for axis in site.layout(y).order]
    split = row_axes(shape)
    rows = _joined(ordered[:split], shape[:split])
    columns, before, block, after = _pixels(ordered[split:], shape[split:])
    if max(shape) > 1 << 15 or columns.max(initial=0) >= 1 << 15:
        raise site.refuse("more than 32,768 pixels in a row")
    size = np.dtype(x.dtype).itemsize
    source = rows_of(site, x)
    fields: dict[str, Field] = {
        "x_depth": source.count,
        "x_row": source.size * size,
        "y_depth": rows.size,
        "y_width": columns.size,
        "y_step": (before + block + after) * size,
        "y_before": before * size,
        "block": block * size,
        "y_after": after * size,
        "fill": _fill(site),
        "size": size,
        "rows": rows.astype(np.int16),
        "columns": columns.astype(np.int16),
        "table": rescale_table(site, x, y),
    }
    return Call("take", (x.name,), y.name, fields, rows.size)


def _plain(index: Index, size: int) -> bool:
    return np.array_equal(index, np.arange(size))


def _joined(index: Sequence[Index], shape: Sequence[int]) -> Index:
    """The index over several axes that lie one behind the other in memory."""
    found = np.zeros(1, np.int64)
    for i, n in zip(index, shape, strict=True):
        found = np.where((found[:, None] < 0) | (i < 0), FILL, found[:, None] * n + i).ravel()
    return found


def _pixels(index: Sequence[Index], shape: Sequence[int]) -> tuple[Index, int, int, int]:
    """(columns, elements before the block, in it, after it); a whole last axis is one block."""
    if not index:
        return np.zeros(1, np.int64), 0, 1, 0
    last, size = index[-1], shape[-1]
    inside = np.flatnonzero(last >= 0)
    if np.array_equal(last[inside], np.arange(size)) and np.ptp(inside) == size - 1:
        before = int(inside[0])
        return _joined(index[:-1], shape[:-1]), before, size, len(last) - before - size
    return _joined(index, shape), 0, 1, 0


def _fill(site: Site) -> int:
    """The bits of the padding value: of an int8, or of a float32."""
    y, op = site.output, site.step.op
    given = op == "Pad" and site.has(2)
    if given and site.input(2).data is None:
        raise site.refuse("the padding value is computed at run time; a constant is allowed")
    real = site.input(2).real.astype(np.float32).reshape(1) if given else np.zeros(1, np.float32)
    if y.dtype == "float32":
        return int(real.view(np.int32)[0])
    if y.quant is None:
        return int(real[0])
    if given and site.input(2).dtype == "int8" and site.input(2).quant is None:
        return int(real[0])
    return int(quantised(real, y)[0])
