"""Bounds behind operators that move, repeat, pad, pool or interpolate elements."""

import math
from collections.abc import Callable, Sequence

import numpy as np

from mcugraph.passes._edit import Array, attribute
from mcugraph.passes._intervals import STEP, Interval, collapsed, expanded, hull, widened
from mcugraph.passes._range_site import Site

Rule = Callable[[Site], Interval | Sequence[Interval] | None]


def _same(site: Site) -> Interval:
    return site.operand()


def _reshape(site: Site) -> Interval:
    x, rank = site.operand(), len(site.out_shape())
    if x.low.size == 1:
        return x.each(lambda array: array.reshape((1,) * rank))
    return expanded(x, site.shape()).each(lambda array: array.reshape(site.out_shape()))


def _transpose(site: Site) -> Interval:
    order = attribute(site.node, "perm")
    return site.operand().each(lambda array: array.transpose(order))


def _along(array: Array, axis: int, size: int) -> Array:
    """All elements along one axis."""
    shape = list(array.shape)
    shape[axis] = size
    return np.broadcast_to(array, shape)


def _concat(site: Site) -> Interval:
    parts, axis = site.operands(), site.axis(0)
    common = np.max([part.low.shape for part in parts], axis=0)

    def full(array: Array, size: int) -> Array:
        return np.broadcast_to(array, [*common[:axis], size, *common[axis + 1 :]])

    sizes = [site.shape(index)[axis] for index in range(len(parts))]
    pairs = [*zip(parts, sizes, strict=True)]
    return Interval(
        np.concatenate([full(part.low, size) for part, size in pairs], axis),
        np.concatenate([full(part.high, size) for part, size in pairs], axis),
        np.concatenate([full(part.value, size) for part, size in pairs], axis),
    )


def _split(site: Site) -> list[Interval]:
    x, axis = site.operand(), site.axis(0)
    sizes = [site.out_shape(index)[axis] for index in range(len(site.node.output))]
    whole = x.each(lambda array: _along(array, axis, site.shape()[axis]))
    indices = np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1])
    return [_taken(whole, axis, kept) for kept in indices]


def _taken(x: Interval, axis: int, indices: Array) -> Interval:
    return x.each(lambda array: np.take(array, indices, axis))


def _gather(site: Site) -> Interval | None:
    table, axis = site.edit.constant(site.node.input[1]), site.axis(0)
    if table is None:
        return None
    whole = site.operand().each(lambda array: _along(array, axis, site.shape()[axis]))
    return _taken(whole, axis, table)


def _slice(site: Site) -> Interval | None:
    x = site.operand()
    starts, ends = site.ints(1, "starts"), site.ints(2, "ends")
    axes, steps = site.ints(3, "axes"), site.ints(4, "steps")
    missing = (site.has(3) and axes is None) or (site.has(4) and steps is None)
    if starts is None or ends is None or missing:
        return None
    cuts = [slice(None)] * x.low.ndim
    axes = axes or [*range(len(starts))]
    for start, end, axis, step in zip(starts, ends, axes, steps or [1] * len(axes), strict=True):
        if x.low.shape[axis] > 1:
            cuts[axis] = slice(start, end if step > 0 or end >= -(2**31) else None, step)
    return x.each(lambda array: array[tuple(cuts)])


def _pad(site: Site) -> Interval | None:
    """Padded axes are taken as one; what is padded is a constant or taken from the tensor."""
    x, pads = site.operand(), site.ints(1, "pads")
    value = (
        site.edit.scalar(site.node.input[2]) if site.has(2) else attribute(site.node, "value", 0)
    )
    axes = site.ints(3, "axes") if site.has(3) else [*range(x.low.ndim)]
    if pads is None or value is None or axes is None:
        return None
    count = len(axes)
    touched = [axis % x.low.ndim for i, axis in enumerate(axes) if pads[i] or pads[i + count]]
    constant = attribute(site.node, "mode", "constant") == "constant"
    found = collapsed(x, touched)
    return hull(found, float(value)) if constant and touched else found


def _resize(site: Site) -> Interval | None:
    """Elements of the axes that change size are copied or mixed."""
    mode = attribute(site.node, "mode", "nearest")
    crop = attribute(site.node, "coordinate_transformation_mode", "") == "tf_crop_and_resize"
    if mode not in ("nearest", "linear") or crop:
        return None
    sizes = zip(site.shape(), site.out_shape(), strict=True)
    found = collapsed(site.operand(), [i for i, (old, new) in enumerate(sizes) if old != new])
    return found if mode == "nearest" else widened(found, 8 * STEP * found.largest)


def _repeat(site: Site) -> Interval:
    """Expand and Tile: the last axes are those of the operand."""
    x, shape = site.operand(), site.out_shape()
    more = len(shape) - x.low.ndim
    sizes = zip((1,) * more + site.shape(), shape, strict=True)
    changed = [i - more for i, (old, new) in enumerate(sizes) if old != new and i >= more]
    return collapsed(x, changed).each(lambda array: array.reshape((1,) * more + array.shape))


def _pooled_axes(site: Site) -> list[int] | None:
    """The axes over which a pool or a reduction goes."""
    rank = len(site.shape())
    if "Pool" in site.node.op_type:
        return [*range(2, rank)]
    axes = site.ints(1, "axes")
    if axes is None and site.has(1):
        return None
    if not axes and attribute(site.node, "noop_with_empty_axes", 0):
        return []
    return [axis % rank for axis in axes or range(rank)]


def _averaged(site: Site) -> Interval | None:
    """Means of elements, with zeroes where a pool counts its padding."""
    axes = _pooled_axes(site)
    if axes is None:
        return None
    found = collapsed(site.operand(), axes)
    if attribute(site.node, "count_include_pad", 0):
        found = hull(found, 0.0)
    count = math.prod(site.shape()[axis] for axis in axes)
    return _reduced(site, widened(found, (count + 4) * STEP * found.largest), axes)


def _extreme(site: Site) -> Interval | None:
    axes = _pooled_axes(site)
    return None if axes is None else _reduced(site, collapsed(site.operand(), axes), axes)


def _reduced(site: Site, found: Interval, axes: Sequence[int]) -> Interval:
    dropped = tuple(axes) if len(site.out_shape()) < len(site.shape()) else ()
    return found.each(lambda array: array.squeeze(dropped))


RULES: dict[str, Rule] = {
    **dict.fromkeys("Flatten Reshape Squeeze Unsqueeze".split(), _reshape),
    **dict.fromkeys("AveragePool GlobalAveragePool ReduceMean".split(), _averaged),
    **dict.fromkeys("MaxPool GlobalMaxPool ReduceMax ReduceMin".split(), _extreme),
    **dict.fromkeys(("Identity", "Dropout"), _same),
    **dict.fromkeys(("Expand", "Tile"), _repeat),
    "Concat": _concat,
    "Gather": _gather,
    "Pad": _pad,
    "Resize": _resize,
    "Slice": _slice,
    "Split": _split,
    "Transpose": _transpose,
}
