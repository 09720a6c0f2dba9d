"""What operators tie that only move elements."""

from collections.abc import Iterator
from math import prod

import numpy as np

from mcugraph.passes._tie_classes import Ids
from mcugraph.passes._ties import Fold, Rule, Site

_FOLDED = "folds it with another axis, with which the channels go"


def concat(site: Site) -> None:
    """y = [x1, x2, ...]; one tensor may come twice."""
    axis, start = site.attribute("axis"), 0
    target = site.ids(site.outputs[0], axis)
    for name in site.inputs:
        ids = site.ids(name, axis)
        site.tie(ids, target[start : start + len(ids)])
        site.tie_axes(name, site.outputs[0], leave=[axis])
        start += len(ids)


def split(site: Site) -> None:
    """[y1, y2, ...] = x."""
    axis, start = site.attribute("axis", 0), 0
    source = site.ids(site.inputs[0], axis)
    for name in site.outputs:
        if name:
            ids = site.ids(name, axis)
            site.tie(ids, source[start : start + len(ids)])
            site.tie_axes(name, site.inputs[0], leave=[axis])
            start += len(ids)
    if start != len(source):
        site.fix(source, "has parts of unknown size")


def slice_(site: Site) -> None:
    """y = x[start:end:step]."""
    given = [site.attribute(key) for key in ("starts", "ends", "axes", "steps")]
    arrays = [site.constant(i + 1) if value is None else value for i, value in enumerate(given)]
    x, y = site.inputs[0], site.outputs[0]
    starts, ends, axes, steps = arrays
    if starts is None or ends is None:
        site.fix_all("takes a part that is known at run time only")
        return
    axes = range(len(starts)) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    cut = {int(axis) % site.rank(x): i for i, axis in enumerate(axes)}
    for axis in range(site.rank(x)):
        ids = site.ids(x, axis)
        if axis in cut:
            start, end, step = (int(values[cut[axis]]) for values in (starts, ends, steps))
            ids = _cut(ids, start, end, step)
        site.tie(ids, site.ids(y, axis))


def _cut(ids: Ids, start: int, end: int, step: int) -> Ids:
    """ONNX's slice: ends far below zero mean the very beginning."""
    stop = None if step < 0 and end < -len(ids) else end
    return ids[start:stop:step]


def gather(site: Site) -> None:
    """y = x[.., indices, ..]."""
    x, indices, y = site.inputs[0], site.inputs[1], site.outputs[0]
    axis, rank = site.attribute("axis", 0) % site.rank(x), site.rank(indices)
    for other in range(site.rank(x)):
        if other != axis:
            beside = other if other < axis else other + rank - 1
            site.tie(site.ids(x, other), site.ids(y, beside))
            site.produces(x, other)
    ids, chosen = site.ids(x, axis), site.constant(1)
    if chosen is None:
        site.fix(ids, "reads it by indices that are known at run time only")
        for other in range(rank):
            site.tie(site.ids(indices, other), site.ids(y, axis + other))
        return
    wide = [axis + i for i, size in enumerate(chosen.shape) if size > 1]
    if len(wide) == 1:
        site.tie(ids[chosen.reshape(-1)], site.ids(y, wide[0]))
        return
    site.fix(ids[chosen.reshape(-1)], "reads it by index")
    for place in wide:
        site.fix(site.ids(y, place), "reads it by index")


def transpose(site: Site) -> None:
    """y = x with its axes in another order."""
    x, y = site.inputs[0], site.outputs[0]
    for axis, old in enumerate(site.attribute("perm", tuple(reversed(range(site.rank(x)))))):
        site.tie(site.ids(x, old), site.ids(y, axis))


def reshape(site: Site) -> None:
    """y = x with the same elements in the same order."""
    sides = [site.ties.axes[name] for name in (site.inputs[0], site.outputs[0])]
    before, after = ([ids for ids in side if len(ids) > 1] for side in sides)
    loose = [sum(not len(ids) for ids in side) for side in sides]
    known = loose[0] == loose[1] < 2
    if not known or prod(map(len, before)) != prod(map(len, after)):
        site.fix_all("has sizes that are known at run time only")
        return
    for left, right in _segments(before, after):
        if len(left) == len(right) == 1:
            site.tie(left[0], right[0])
            continue
        single = next((side[0] for side in (left, right) if len(side) == 1), None)
        flat = site.ties.fresh(prod(map(len, left))) if single is None else single
        folded = [tuple(side) for side in (left, right) if len(side) > 1]
        site.ties.folds.extend(Fold(f"{site.label} {_FOLDED}", flat, side) for side in folded)


def _segments(before: list[Ids], after: list[Ids]) -> Iterator[tuple[list[Ids], list[Ids]]]:
    """The shortest runs of axes with one product on both sides."""
    pending = (list(before), list(after))
    sides: tuple[list[Ids], list[Ids]] = ([], [])
    while any(pending):
        sizes = [prod(map(len, side)) for side in sides]
        behind = 0 if sizes[0] <= sizes[1] else 1
        sides[behind].append(pending[behind].pop(0))
        if prod(map(len, sides[0])) == prod(map(len, sides[1])):
            yield sides
            sides = ([], [])


def expand(site: Site) -> None:
    """y = x, repeated along its axes of length 1."""
    site.spread(site.inputs[0], site.outputs[0])


def tile(site: Site) -> None:
    """y = [x, x, ...] along each axis."""
    x, y = site.inputs[0], site.outputs[0]
    for axis, count in enumerate(site.sizes(x)):
        ids = site.ids(y, axis)
        if count > 1 and len(ids):
            site.tie(np.tile(site.ids(x, axis), len(ids) // count), ids)
        elif count != 1:
            site.fix(site.ids(x, axis), "repeats it")
            site.fix(ids, "repeats it")


def pad(site: Site) -> None:
    """y = x with a border, which may be kept in part where it is constant."""
    x, y, borders = site.inputs[0], site.outputs[0], _borders(site)
    constant = site.attribute("mode", "constant") == "constant"
    for axis in range(site.rank(x)):
        some, others = site.ids(x, axis), site.ids(y, axis)
        begin, end = borders.get(axis, (0, 0)) if borders is not None else (-1, -1)
        if begin == end == 0 or (constant and min(begin, end) >= 0 and len(some)):
            site.tie(some, others[begin : len(others) - end])
            continue
        site.fix(some, "pads it")
        site.fix(others, "pads it")


def _borders(site: Site) -> dict[int, tuple[int, int]] | None:
    """How much is added before and after each axis; None where it is known at run time only."""
    pads, axes = site.attribute("pads", site.constant(1)), site.constant(3)
    if pads is None:
        return None
    rank, count = site.rank(site.inputs[0]), len(pads) // 2
    places = range(rank) if axes is None else [int(axis) % rank for axis in axes]
    return {axis: (int(pads[i]), int(pads[count + i])) for i, axis in enumerate(places)}


def depth_to_space(site: Site) -> None:
    """Blocks of channels become blocks of space: all that make one output channel go together."""
    x, y = site.inputs[0], site.outputs[0]
    _blocks(site, x, y, site.attribute("mode", "DCR") == "CRD")


def space_to_depth(site: Site) -> None:
    """Blocks of space become blocks of channels: all that come from one channel go together."""
    _blocks(site, site.outputs[0], site.inputs[0], in_rows=False)


def _blocks(site: Site, deep: str, wide: str, in_rows: bool) -> None:
    """Tie the channels of the deep tensor, block by block (in rows) or mixed, to the wide one's."""
    ids, block = site.ids(deep, 1), site.attribute("blocksize") ** 2
    table = ids.reshape(-1, block) if in_rows else ids.reshape(block, len(ids) // block).T
    site.ties.tie_rows(table)
    site.tie(table[:, 0], site.ids(wide, 1))
    site.tie(site.ids(deep, 0), site.ids(wide, 0))
    for name in (deep, wide):
        for axis in (2, 3):
            site.fix(site.ids(name, axis), "moves it in blocks")


def resize(site: Site) -> None:
    """y = x with another size of some axes."""
    x, y = site.inputs[0], site.outputs[0]
    for axis in range(site.rank(x)):
        some, others = site.ids(x, axis), site.ids(y, axis)
        if len(some) == len(others):
            site.tie(some, others)
            continue
        site.fix(some, "scales it")
        site.fix(others, "scales it")


RULES: dict[str, Rule] = {
    "Concat": concat,
    "DepthToSpace": depth_to_space,
    "Expand": expand,
    "Gather": gather,
    "Pad": pad,
    "Resize": resize,
    "Slice": slice_,
    "SpaceToDepth": space_to_depth,
    "Split": split,
    "Tile": tile,
    "Transpose": transpose,
    "Upsample": resize,
    **dict.fromkeys(("Flatten", "Reshape", "Squeeze", "Unsqueeze"), reshape),
}
