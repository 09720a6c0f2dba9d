"""Operators that only move elements: strided copies, pixels by index, and concatenation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod

import numpy as np
from numpy.typing import NDArray

from mcugraph.graph import Tensor
from mcugraph.lower.call import Call, Field, Site
from mcugraph.lower.rows import memory_axis, memory_shape, row_axes, rows_of
from mcugraph.lower.unary import identity, table_of

Places = NDArray[np.int64]
LOOPS = 8
INT16 = 2**15 - 1


def lower_move(site: Site) -> tuple[Call, ...]:
    """Any operator of MOVES: where it puts the elements is worked out on their places in memory."""
    x = site.input(0)
    layout = site.layout(x)
    places = np.asarray(layout.from_memory(np.arange(x.size), x.shape), np.int64)
    if site.step.op == "Split":
        return _split(site, places)
    moved = MOVES[site.step.op](site, places)
    return (_strided(site, site.output, moved),)


def _split(site: Site, places: Places) -> tuple[Call, ...]:
    axis = site.attribute("axis", 0)
    outputs = [site.graph.tensors[name] for name in site.step.outputs]
    ends = np.cumsum([t.shape[axis] for t in outputs])[:-1]
    parts = np.split(places, ends.tolist(), axis)
    return tuple(_strided(site, t, p) for t, p in zip(outputs, parts, strict=True))


def _strided(site: Site, y: Tensor, moved: Places) -> Call:
    """The call that fills `y` from the places in the input's memory."""
    if moved.shape != y.shape:
        raise site.refuse(f"the operator gives {list(moved.shape)}")
    x = site.input(0)
    flat = np.asarray(site.layout(y).to_memory(moved), np.int64)
    rows, source = rows_of(site, y), rows_of(site, x)
    grid = flat.reshape(rows.count, rows.size)
    first = int(grid[0].min()) // source.size
    within = grid - (np.arange(rows.count) + first)[:, None] * source.size
    row_wise = bool((within == within[0]).all() and within.max() < source.size)
    if not row_wise:
        first, grid = 0, flat.reshape(1, -1)
    found = _loops(grid[0])
    if found is None:
        return _indexed(site, y, flat)
    counts, steps, block = found
    size = np.dtype(x.dtype).itemsize
    fields: dict[str, Field] = {
        "x_depth": source.count if row_wise else 1,
        "x_row": source.size * size if row_wise else 0,
        "x_first": first,
        "x_offset": (int(grid[0][0]) - first * source.size) * size,
        "y_depth": len(grid),
        "y_row": grid.shape[1] * size,
        "loops": len(counts),
        "counts": np.array(counts, np.int32),
        "steps": np.array(steps, np.int32) * size,
        "block": block * size,
        "table": rescale_table(site, x, y),
    }
    return Call("permute", (x.name,), y.name, fields, len(grid))


def _indexed(site: Site, y: Tensor, places: Places) -> Call:
    """The call that looks up the place of each run of elements: for places without a pattern."""
    x = site.input(0)
    block = next(n for n in range(places.size, 0, -1) if _in_blocks(places, n))
    if x.size // block > INT16:
        raise site.refuse(f"its pattern needs {x.size // block} indices; {INT16} are allowed")
    size = np.dtype(x.dtype).itemsize
    fields: dict[str, Field] = {
        "x_depth": 1,
        "x_row": 0,
        "y_depth": 1,
        "y_width": places.size // block,
        "y_step": block * size,
        "y_before": 0,
        "block": block * size,
        "y_after": 0,
        "fill": 0,
        "size": size,
        "rows": np.zeros(1, np.int16),
        "columns": (places[::block] // block).astype(np.int16),
        "table": rescale_table(site, x, y),
    }
    return Call("take", (x.name,), y.name, fields, 1)


def _in_blocks(places: Places, size: int) -> bool:
    """Whether all places are runs of `size` that begin at multiples of it."""
    if places.size % size or (places[::size] % size).any():
        return False
    runs = places.reshape(-1, size)
    return bool((runs == runs[:, :1] + np.arange(size)).all())


def _loops(places: Places) -> tuple[list[int], list[int], int] | None:
    """(counts, steps, block): loops over blocks that visit the places in order, if there are."""
    found: list[tuple[int, int]] = []
    while places.size > 1:
        run = _innermost(places)
        if run is None:
            return None
        found.insert(0, run)
        places = places[:: run[0]]
    block = found.pop()[0] if found and found[-1][1] == 1 else 1
    if len(found) > LOOPS:
        return None
    found = found or [(1, 0)]
    return [count for count, _ in found], [step for _, step in found], block


def _innermost(places: Places) -> tuple[int, int] | None:
    """(count, step) of the longest even run with which all places can be walked, if any."""
    size, step = places.size, int(places[1] - places[0])
    uneven = np.flatnonzero(np.diff(places) != step)
    longest = int(uneven[0]) + 1 if uneven.size else size
    for count in range(longest, 1, -1):
        if size % count == 0:
            runs = places.reshape(-1, count)
            if (runs == runs[:, :1] + np.arange(count) * step).all():
                return count, step
    return None


def rescale_table(site: Site, x: Tensor, y: Tensor) -> NDArray[np.int8] | None:
    """The table that turns x's integers into y's; None where they are the same."""
    if x.dtype != y.dtype:
        raise site.refuse(f"{x.dtype} to {y.dtype}")
    if x.dtype != "int8" or x.quant is None or y.quant is None or x.quant.same(y.quant):
        return None
    return table_of(site, x, y, identity)


def _reshaped(site: Site, places: Places) -> Places:
    return places.reshape(site.output.shape)


def _transposed(site: Site, places: Places) -> Places:
    return places.transpose(site.attribute("perm", list(range(places.ndim))[::-1]))


def _sliced(site: Site, places: Places) -> Places:
    starts, ends = constants(site, 1), constants(site, 2)
    axes = constants(site, 3) if site.has(3) else list(range(len(starts)))
    steps = constants(site, 4) if site.has(4) else [1] * len(starts)
    index = [slice(None)] * places.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        size = places.shape[axis]
        stop = None if step < 0 and end < -size else end
        index[axis] = slice(start, stop, step)
    return places[tuple(index)]


def _expanded(site: Site, places: Places) -> Places:
    return np.broadcast_to(places, site.output.shape)


def _tiled(site: Site, places: Places) -> Places:
    return np.tile(places, constants(site, 1))


def _gathered(site: Site, places: Places) -> Places:
    index = site.graph.constant(site.step, 1)
    if index is None:
        raise site.refuse("indices that are computed at run time; constants are allowed")
    return np.take(places, index.astype(np.int64), axis=site.attribute("axis", 0))


def _depth_to_space(site: Site, places: Places) -> Places:
    n, c, h, w = places.shape
    b = site.attribute("blocksize", 1)
    if site.attribute("mode", "DCR") == "DCR":
        blocks = places.reshape(n, b, b, c // b**2, h, w).transpose(0, 3, 4, 1, 5, 2)
    else:
        blocks = places.reshape(n, c // b**2, b, b, h, w).transpose(0, 1, 4, 2, 5, 3)
    return blocks.reshape(n, c // b**2, h * b, w * b)


def _space_to_depth(site: Site, places: Places) -> Places:
    n, c, h, w = places.shape
    b = site.attribute("blocksize", 1)
    blocks = places.reshape(n, c, h // b, b, w // b, b).transpose(0, 3, 5, 1, 2, 4)
    return blocks.reshape(n, c * b**2, h // b, w // b)


MOVES: Mapping[str, Callable[[Site, Places], Places]] = {
    "DepthToSpace": _depth_to_space,
    "Expand": _expanded,
    "Flatten": _reshaped,
    "Gather": _gathered,
    "Identity": _reshaped,
    "Reshape": _reshaped,
    "Slice": _sliced,
    "SpaceToDepth": _space_to_depth,
    "Split": _reshaped,
    "Squeeze": _reshaped,
    "Tile": _tiled,
    "Transpose": _transposed,
    "Unsqueeze": _reshaped,
}


def constants(site: Site, index: int) -> list[int]:
    """The integers of an input that must be constant."""
    value = site.graph.constant(site.step, index)
    if value is None:
        raise site.refuse(f"input {index} is computed at run time; a constant is allowed")
    return [int(v) for v in value.ravel()]


def lower_concat(site: Site) -> tuple[Call, ...]:
    """One call an operand; each fills its part of the output."""
    y = site.output
    axis = memory_axis(site, y, site.attribute("axis", 0))
    shape = memory_shape(site, y)
    calls, start = [], 0
    for index in range(len(site.step.inputs)):
        x = site.input(index)
        if x.data is not None:
            raise site.refuse(f"the constant {x.name}; run-time operands are allowed")
        calls.append(_part(site, x, (shape, axis, start)))
        start += memory_shape(site, x)[axis]
    return tuple(calls)


def _part(site: Site, x: Tensor, place: tuple[tuple[int, ...], int, int]) -> Call:
    shape, axis, start = place
    y, mine = site.output, memory_shape(site, x)
    split = row_axes(shape)
    rows, size = rows_of(site, y), np.dtype(y.dtype).itemsize
    if axis < split and prod(shape[:axis]) != 1:
        raise site.refuse("along the second axis of a batch; bind the batch dimension to 1")
    inner = prod(shape[axis + 1 :]) if axis >= split else rows.size
    in_rows = axis < split
    rest = prod(shape[axis + 1 : split])
    fields: dict[str, Field] = {
        "x_rows": mine[axis] * rest if in_rows else rows.count,
        "x_depth": mine[axis] * rest if in_rows else rows.count,
        "x_row": prod(mine[split:]) * size,
        "y_depth": rows.count,
        "y_row": rows.size * size,
        "y_first": start * rest if in_rows else 0,
        "y_offset": 0 if in_rows else start * inner * size,
        "y_step": 0 if in_rows else shape[axis] * inner * size,
        "blocks": 1 if in_rows else prod(shape[split:axis]),
        "block": inner * size if in_rows else mine[axis] * inner * size,
        "table": rescale_table(site, x, y),
    }
    return Call("concat", (x.name,), y.name, fields, rows.count)
