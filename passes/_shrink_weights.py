"""How operators with weights shrink: Conv, Gemm, MatMul, GRU and their integer forms."""

import numpy as np

from mcugraph.passes._edit import Array, attribute, set_attribute
from mcugraph.passes._keep import Keep, Site, without

_GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


def conv(site: Site) -> None:
    _convolve(site, 1, (2,), ())


def conv_integer(site: Site) -> None:
    _convolve(site, 1, (), (3,))


def qlinear_conv(site: Site) -> None:
    _convolve(site, 3, (8,), (4, 5))


def _convolve(site: Site, weight: int, biases: tuple[int, ...], grids: tuple[int, ...]) -> None:
    groups = attribute(site.node, "group", 1)
    outputs, inputs = _two(site, weight)
    taken = _axis(site.given(), 1, inputs * groups)
    made = _axis(_free(site), 1, outputs)
    left, inside = _grouped(site, _by_group(taken, inputs), _by_group(made, outputs // groups))
    site.need(0, {**site.out(), 1: taken})
    site.need(weight, {0: made, 1: inside})
    for index in (*biases, *grids):
        site.need_vector(index, made)
    _set_group(site, groups, left)


def conv_transpose(site: Site) -> None:
    """As Conv, with the weights the other way round: input channels first."""
    groups = attribute(site.node, "group", 1)
    inputs, outputs = _two(site, 1)
    taken = _axis(site.given(), 1, inputs)
    made = _axis(_free(site), 1, outputs * groups)
    left, inside = _grouped(site, _by_group(made, outputs), _by_group(taken, inputs // groups))
    site.need(0, {**site.out(), 1: taken})
    site.need(1, {0: taken, 1: inside})
    site.need_vector(2, made)
    _set_group(site, groups, left)


def _free(site: Site) -> Keep:
    """What the output keeps: of space only where each element is computed from one element."""
    window = site.shape(3 if site.node.op_type == "QLinearConv" else 1)[2:]
    space = range(2, len(window) + 2) if set(window) == {1} else ()
    unmoved = [axis for axis in space if site.shape()[axis] == site.out_shape()[axis]]
    return site.only(0, 1, *unmoved)


def _two(site: Site, index: int) -> tuple[int, int]:
    """The first two sizes of the weights."""
    first, second, *_ = site.shape(index)
    if first is None or second is None:
        raise site.refuse("the shape of its weights is not known")
    return first, second


def _axis(keep: Keep | None, axis: int, size: int) -> Array:
    everything = np.arange(size)
    return everything if keep is None else keep.get(axis, everything)


def _by_group(kept: Array, size: int) -> dict[int, Array]:
    """Kept positions inside each group that keeps any."""
    return {int(g): kept[kept // size == g] % size for g in np.unique(kept // size)}


def _grouped(site: Site, inside: dict[int, Array], rows: dict[int, Array]) -> tuple[int, Array]:
    """How many groups are left, and what each of them keeps of the axis that they share."""
    first = next(iter(inside))
    alike = all(np.array_equal(kept, inside[first]) for kept in inside.values())
    even = len({len(kept) for kept in rows.values()}) == 1
    if inside.keys() != rows.keys() or not alike or not even:
        raise site.refuse(
            "its groups must keep equally many input and output channels each, the same positions"
        )
    return len(inside), inside[first]


def _set_group(site: Site, groups: int, left: int) -> None:
    if left != groups:
        set_attribute(site.node, "group", left)


def gemm(site: Site) -> None:
    _gemm(site, 0, 1, 2)


def qgemm(site: Site) -> None:
    """com.microsoft's: a scale and a zero point follow each matrix."""
    columns = _gemm(site, 0, 3, 6)
    site.need_vector(4, columns)
    site.need_vector(5, columns)


def _gemm(site: Site, a: int, b: int, c: int) -> Array | None:
    """Returns the columns that are kept."""
    row, inner = (1, 0) if attribute(site.node, "transA", 0) else (0, 1)
    depth, column = (1, 0) if attribute(site.node, "transB", 0) else (0, 1)
    out = site.out()
    shared = _shared(site, (a, inner), (b, depth))
    site.need(a, _renamed(out, {0: row}) | _on(inner, shared))
    site.need(b, _renamed(out, {1: column}) | _on(depth, shared))
    if len(site.node.input) > c and site.node.input[c]:
        broadcast(site, c)
    return out.get(1)


def matmul(site: Site) -> None:
    _matmul(site, 0, 1)


def matmul_integer(site: Site) -> None:
    rows, columns = _matmul(site, 0, 1)
    site.need_vector(2, rows)
    site.need_vector(3, columns)


def qlinear_matmul(site: Site) -> None:
    rows, columns = _matmul(site, 0, 3)
    for index, kept in ((1, rows), (2, rows), (4, columns), (5, columns)):
        site.need_vector(index, kept)


def _matmul(site: Site, a: int, b: int) -> tuple[Array | None, Array | None]:
    """Returns the rows and columns that are kept."""
    sizes = {index: site.shape(index) for index in (a, b)}
    ranks = {index: len(sizes[index]) for index in (a, b)}
    flat = [index for index in (a, b) if ranks[index] == 1]
    batch = max(ranks.values()) - 2
    row, column = batch, batch + 1 - (a in flat)
    out = site.out()
    outer = without(out, *(() if a in flat else (row,)), *(() if b in flat else (column,)))
    shared = _shared(site, (a, ranks[a] - 1), (b, max(ranks[b] - 2, 0)))
    for index, own, place in ((a, row, ranks[a] - 2), (b, column, ranks[b] - 1)):
        need = _on(ranks[index] - 1 if index == a else max(ranks[index] - 2, 0), shared)
        if index not in flat:
            need = need | _renamed(out, {own: place})
        for axis, kept in outer.items():
            here = axis - batch + ranks[index] - 2
            if here >= 0 and sizes[index][here] != 1:
                need[here] = kept
        site.need(index, need)
    return None if a in flat else out.get(row), None if b in flat else out.get(column)


def _shared(site: Site, *places: tuple[int, int]) -> Array | None:
    """What is kept of the axis that a product sums over: as the operand that is no constant."""
    given = ((site.given(index), axis) for index, axis in places)
    return next((keep.get(axis) for keep, axis in given if keep is not None), None)


def _on(axis: int, kept: Array | None) -> dict[int, Array]:
    return {} if kept is None else {axis: kept}


def _renamed(keep: Keep, axes: dict[int, int]) -> dict[int, Array]:
    return {new: keep[old] for old, new in axes.items() if old in keep}


def broadcast(site: Site, *indices: int) -> None:
    """Operands of an elementwise operator: axes align from the back, size 1 stays."""
    out, rank = site.out(), len(site.out_shape())
    for index in indices:
        shape = site.shape(index)
        by = rank - len(shape)
        need = {a - by: kept for a, kept in out.items() if a >= by and shape[a - by] != 1}
        site.need(index, need)


def recurrent(site: Site) -> None:
    """Gates are stacked along one axis of the weights, forward and backward along another."""
    node = site.node
    hidden = site.shape(2)[2]
    last = {0: 3, 1: 2, 2: 2}
    outs = {i: site.out(i) for i, name in enumerate(node.output) if name}
    units = [out.get(last[i]) for i, out in outs.items() if _is_read(site, i)]
    if hidden is None or any(without(out, last[i]) for i, out in outs.items()):
        raise site.refuse("only its inputs and its hidden units can shrink")
    kept = units[0] if units and units[0] is not None else np.arange(hidden)
    if any(not np.array_equal(kept, np.arange(hidden) if u is None else u) for u in units):
        raise site.refuse("its outputs must keep the same hidden units")
    gates = _GATES[node.op_type]
    rows = _stacked(kept, hidden, gates)
    taken = site.given()
    inputs = _on(2, None if taken is None else taken.get(2))
    site.need(0, inputs)
    site.need(1, {1: rows, **inputs})
    site.need(2, {1: rows, 2: kept})
    site.need(3, {1: _stacked(kept, hidden, 2 * gates)})
    site.need(5, {2: kept})
    site.need(6, {2: kept})
    site.need(7, {1: _stacked(kept, hidden, 3)})
    set_attribute(node, "hidden_size", len(kept))


def _is_read(site: Site, index: int) -> bool:
    name = site.node.output[index]
    return bool(site.out(index)) or bool(site.edit.users(name)) or name in site.edit.outputs


def _stacked(kept: Array, size: int, times: int) -> Array:
    return np.concatenate([kept + size * i for i in range(times)])
