"""How operators that reshape or repeat shrink: their targets, counts and sizes."""

import numpy as np

from mcugraph.passes._edit import Shape, attribute
from mcugraph.passes._keep import Keep, Site, regrouped


def transpose(site: Site) -> None:
    rank = len(site.shape())
    order = attribute(site.node, "perm", tuple(reversed(range(rank))))
    site.need(0, {order[axis]: kept for axis, kept in site.out().items()})


def reshape(site: Site) -> None:
    """Flatten, Squeeze and Unsqueeze, too; Reshape's target follows its output."""
    before, after, out = site.shape(), site.out_shape(), site.out()
    need = regrouped(out, [dim or 1 for dim in after], [dim or 1 for dim in before])
    if need is None:
        raise site.refuse("what its output keeps is no whole slice of its input")
    site.need(0, need)
    if site.node.op_type != "Reshape":
        return
    target, wanted = site.ints(1, "shape"), _sizes(after, out)
    if target is None:
        site.put(1, "shape", [-1 if dim is None else dim for dim in wanted])
        return
    source = () if attribute(site.node, "allowzero", 0) else _sizes(before, need)
    site.put(1, "shape", [_target(int(t), i, source, wanted) for i, t in enumerate(target)])


def _sizes(shape: Shape, keep: Keep) -> Shape:
    return tuple(len(keep[axis]) if axis in keep else dim for axis, dim in enumerate(shape))


def _target(old: int, axis: int, source: Shape, wanted: Shape) -> int:
    """A new entry of Reshape's target: -1 stays, and 0 where it still copies the right size."""
    size = wanted[axis]
    if old == -1 or size is None:
        return old
    return 0 if old == 0 and source and source[axis] == size else size


def expand(site: Site) -> None:
    shape, out = site.shape(), site.out()
    by = len(site.out_shape()) - len(shape)
    need = {a - by: kept for a, kept in out.items() if a >= by and shape[a - by] != 1}
    site.need(0, need)
    target, wanted = site.ints(1, "shape"), _sizes(site.out_shape(), out)
    if target is None:
        site.put(1, "shape", _static(site, wanted))
        return
    new = np.array(target)
    for axis in out:
        place = axis - len(wanted) + len(new)
        if place >= 0 and new[place] != 1:
            new[place] = wanted[axis]
    site.put(1, "shape", new)


def constant_of_shape(site: Site) -> None:
    site.put(0, "input", _static(site, _sizes(site.out_shape(), site.out())))


def _static(site: Site, shape: Shape) -> list[int]:
    if None in shape:
        raise site.refuse(f"the shape of its output, {shape}, is not fully known")
    return [dim for dim in shape if dim is not None]


def shape_of(site: Site) -> None:
    """Whoever calculates with the sizes of a tensor goes on with those from before."""
    static, node = _static(site, site.shape()), site.node
    start, end = attribute(node, "start", 0), attribute(node, "end", len(static))
    value = np.prod(static) if node.op_type == "Size" else static[start:end]
    site.needs[0] = site.given() or {}
    if node.output[0] in site.edit.outputs:
        raise site.refuse("its output is one of the model")
    name = site.edit.store(f"{node.output[0]}__value", np.asarray(value, np.int64))
    site.edit.remove(node)
    site.edit.rewire(node.output[0], name)


def tile(site: Site) -> None:
    out, repeats = site.out(), site.ints(1, "repeats")
    if repeats is None:
        raise site.refuse("its repeats are not constant")
    new, need = np.array(repeats), {}
    for axis, kept in out.items():
        size = site.size(axis)
        if size == 1:
            new[axis] = len(kept)
            continue
        need[axis] = kept[kept < size]
        copies = [need[axis] + size * i for i in range(int(repeats[axis]))]
        if not np.array_equal(np.concatenate(copies), kept):
            raise site.refuse("its copies must keep the same indices")
    site.need(0, need)
    site.put(1, "repeats", new)


def resize(site: Site) -> None:
    """Axes that keep their size, by a scale of 1 or by the same size, may shrink."""
    out, shape = site.out(), site.shape()
    for axis in out:
        if shape[axis] != site.out_shape()[axis]:
            raise site.refuse(f"it changes the size of axis {axis}")
    mode = attribute(site.node, "coordinate_transformation_mode", "half_pixel")
    policy = attribute(site.node, "keep_aspect_ratio_policy", "stretch")
    if mode == "tf_crop_and_resize" or policy != "stretch":
        raise site.refuse(f"not in the mode {mode}, {policy}")
    site.need(0, out)
    sizes = site.ints(3, "sizes")
    if sizes is None or not sizes.size:
        return
    axes = attribute(site.node, "axes", range(len(shape)))
    wanted = _sizes(site.out_shape(), out)
    new = np.array(sizes)
    for place, axis in enumerate(axes):
        if axis % len(shape) in out:
            new[place] = wanted[axis % len(shape)]
    site.put(3, "sizes", new)


def depth_to_space(site: Site) -> None:
    _blocks(site, site.out_shape(), attribute(site.node, "mode", "DCR") == "CRD", True)


def space_to_depth(site: Site) -> None:
    _blocks(site, site.shape(), False, False)


def _blocks(site: Site, shape: Shape, inner: bool, to_space: bool) -> None:
    """A channel of the image goes with the block of channels that holds its pixels."""
    area, channels = attribute(site.node, "blocksize") ** 2, site.size_of(shape, 1)
    table = np.arange(area * channels).reshape((channels, area) if inner else (area, channels))
    table = table if inner else table.T
    out = site.only(1).get(1)
    if out is None:
        site.need(0, {})
    elif to_space:
        site.need(0, {1: np.sort(table[out].ravel())})
    else:
        kept = np.flatnonzero(np.isin(table, out).any(axis=1))
        if not np.array_equal(np.sort(table[kept].ravel()), out):
            raise site.refuse("its blocks must be kept whole")
        site.need(0, {1: kept})
