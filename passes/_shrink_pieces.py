"""How operators that join, cut and pad shrink: their sizes, bounds, tables and pads."""

from collections.abc import Sequence

import numpy as np

from mcugraph.passes._edit import Array, attribute, set_attribute
from mcugraph.passes._keep import Site, same, without


def concat(site: Site) -> None:
    _concat(site, range(len(site.node.input)))


def qlinear_concat(site: Site) -> None:
    """com.microsoft's: a scale and a zero point follow each operand."""
    _concat(site, range(2, len(site.node.input), 3))


def _concat(site: Site, places: Sequence[int]) -> None:
    out = site.out()
    axis = site.axis(1, len(site.shape(places[0])))
    offset = 0
    for index in places:
        size = site.size(axis, index)
        need = dict(out)
        if axis in out:
            need[axis] = _inside(out[axis], offset, size)
        site.need(index, need)
        offset += size


def split(site: Site) -> None:
    node = site.node
    axis = site.axis(0, len(site.shape()))
    sizes = [site.size_of(site.out_shape(i), axis) for i in range(len(node.output))]
    outs = [site.out(i) for i in range(len(sizes))]
    kept = [out.get(axis, np.arange(size)) for out, size in zip(outs, sizes, strict=True)]
    others = without(outs[0], axis)
    for out in outs[1:]:
        if not all(same(others.get(a), out.get(a)) for a in {*others, *out} - {axis}):
            raise site.refuse("its outputs must keep the same indices of the other axes")
    starts = np.cumsum([0, *sizes[:-1]])
    whole = np.concatenate([k + start for k, start in zip(kept, starts, strict=True)])
    site.need(0, {**others, axis: whole})
    new = [len(k) for k in kept]
    if site.ints(1, "split") is None and len(set(new)) > 1 and new != sizes:
        _write_sizes(site, new)
    elif site.ints(1, "split") is not None:
        site.put(1, "split", new)


def _write_sizes(site: Site, sizes: list[int]) -> None:
    if site.edit.opset < 13:
        set_attribute(site.node, "split", sizes)
        return
    set_attribute(site.node, "num_outputs", None)
    site.put(1, "split", sizes)


def slice_(site: Site) -> None:
    """Bounds of a sliced axis are counted anew; a Gather takes over what no step reaches."""
    shape, out, given = site.shape(), site.out(), site.given()
    starts, ends = site.ints(1, "starts"), site.ints(2, "ends")
    if starts is None or ends is None:
        raise site.refuse("its bounds are not constant")
    axes, steps = _axes(site, 3, len(starts), len(shape)), site.ints(4, "steps")
    bounds = np.array([starts, ends, np.ones_like(starts) if steps is None else steps])
    need, tables = dict(without(out, *axes)), dict[int, Array]()
    for place, axis in enumerate(axes):
        taken = None if given is None else given.get(axis)
        if taken is None and axis not in out:
            continue
        picked = np.arange(site.size(axis))[slice(*bounds[:, place].tolist())]
        table = _counted(site, picked[out[axis]] if axis in out else picked, taken)
        need |= {} if taken is None else {axis: taken}
        found = _bounds(table)
        bounds[:, place] = found or (0, 2**31 - 1, 1)
        tables |= {} if found else {axis: table}
    site.need(0, need)
    for index, name in enumerate(("starts", "ends", "steps"), 1):
        if index < 3 or steps is not None or np.any(bounds[2] != 1):
            site.put(index if index < 3 else 4, name, bounds[index - 1])
    for axis, table in tables.items():
        _gather_after(site, axis, table)


def _gather_after(site: Site, axis: int, table: Array) -> None:
    edit, name = site.edit, site.node.output[0]
    whole = edit.fresh(f"{name}__whole")
    edit.set_output(site.node, 0, whole)
    edit.add("Gather", [whole, edit.store(f"{name}__table", table)], name, axis=axis)


def gather(site: Site) -> None:
    shape, rank, out = site.shape(), len(site.shape(1)), site.out()
    axis = site.axis(0, len(shape))
    taken = (site.given() or {}).get(axis)
    rows = {a - axis: kept for a, kept in out.items() if axis <= a < axis + rank}
    others = {a if a < axis else a - rank + 1: k for a, k in out.items() if a - axis not in rows}
    site.need(0, {**others, **({} if taken is None else {axis: taken})})
    table = site.edit.constant(site.node.input[1])
    if table is None:
        site.need(1, rows)
        if taken is not None:
            raise site.refuse("its indices are not constant")
        return
    picked = np.where(table < 0, table + site.size(axis), table)
    for row, kept in rows.items():
        picked = np.take(picked, kept, axis=row)
    new = _counted(site, picked, taken)
    if not np.array_equal(new, table):
        site.edit.replace_constant(site.node, 1, new.astype(table.dtype))


def _axes(site: Site, index: int, count: int, rank: int) -> list[int]:
    axes = site.ints(index, "axes")
    if axes is None and len(site.node.input) > index and site.node.input[index]:
        raise site.refuse("its axes are not constant")
    return list(range(count)) if axes is None else [int(axis) % rank for axis in axes]


def _counted(site: Site, wanted: Array, taken: Array | None) -> Array:
    """Old indices of an axis, counted among those that it keeps."""
    if taken is None:
        return wanted
    if not np.isin(wanted, taken).all():
        missing = sorted(set(wanted.ravel().tolist()) - set(taken.tolist()))
        raise site.refuse(f"it still needs indices {missing} of its input {site.node.input[0]}")
    return np.searchsorted(taken, wanted)


def _bounds(indices: Array) -> tuple[int, int, int] | None:
    """Start, end and step of a slice that takes just these; None where there is no such step."""
    steps = set(np.diff(indices).tolist()) or {1}
    step = steps.pop()
    if steps or step == 0:
        return None
    end = int(indices[-1]) + (1 if step > 0 else -1)
    return int(indices[0]), end if end >= 0 else -(2**31), step


def pad(site: Site) -> None:
    """Padding of an axis that shrinks may itself be kept in part."""
    shape, out = site.shape(), site.out()
    pads = site.ints(1, "pads")
    if pads is None:
        raise site.refuse("its pads are not constant")
    axes = _axes(site, 3, len(pads) // 2, len(shape))
    new, need = np.array(pads), dict(out)
    for axis, kept in out.items():
        places = [i for i, other in enumerate(axes) if other == axis]
        begins, ends = places, [i + len(axes) for i in places]
        if not np.any(pads[[*begins, *ends]]):
            continue
        size, begin = site.size(axis), int(pads[begins[0]])
        if attribute(site.node, "mode", "constant") != "constant" or pads.min() < 0:
            raise site.refuse(f"axis {axis}, which shrinks, may be padded by a constant only")
        need[axis] = _inside(kept, begin, size)
        new[begins[0]] = np.count_nonzero(kept < begin)
        new[ends[0]] = np.count_nonzero(kept >= begin + size)
    site.need(0, need)
    site.put(1, "pads", new)


def _inside(kept: Array, offset: int, size: int) -> Array:
    """Those indices that fall into a segment, counted from its start."""
    return kept[(kept >= offset) & (kept < offset + size)] - offset
