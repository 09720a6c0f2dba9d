"""What operators with weights tie: convolutions, products, recurrent layers."""

import numpy as np

from mcugraph.passes._tie_classes import Ids
from mcugraph.passes._ties import Rule, Site

_GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


def conv(site: Site) -> None:
    """y[n, m] = sum over c of x[n, c] * w[m, c]; groups share neither."""
    w, y = site.inputs[1], site.outputs[0]
    _windows(site, w)
    _channels(site, site.ids(w, 0), site.ids(w, 1))
    site.tie(site.ids(w, 0), site.ids(y, 1))
    site.produces(w, 0)
    if not _is_whole(site, site.attribute("group", 1)):
        site.consumes(w, 1)


def conv_transpose(site: Site) -> None:
    """y[n, m] = sum over c of x[n, c] * w[c, m]; groups share neither."""
    x, w = site.inputs[:2]
    _windows(site, w)
    _channels(site, site.ids(w, 1), site.ids(w, 0))
    site.tie(site.ids(w, 0), site.ids(x, 1))
    whole = _is_whole(site, site.attribute("group", 1))
    site.produces(w, 0 if whole else 1)
    if not whole:
        site.consumes(w, 0)


def _windows(site: Site, weight: str) -> None:
    """The batch is common; space is fixed but for a window of one element, which moves nothing."""
    x, y = site.inputs[0], site.outputs[0]
    site.tie(site.ids(x, 0), site.ids(y, 0))
    if site.input(2):
        site.tie(site.ids(site.input(2), 0), site.ids(y, 1))
    still = site.sizes(x)[2:] == site.sizes(y)[2:] and not any(site.attribute("pads", ()))
    point = still and set(site.sizes(weight)[2:]) == {1}
    for axis in range(2, site.rank(x)):
        if point:
            site.tie(site.ids(x, axis), site.ids(y, axis))
            continue
        site.fix(site.ids(x, axis), "slides over it")
        site.fix(site.ids(y, axis), "slides over it")


def _is_whole(site: Site, groups: int) -> bool:
    """Whether a group goes as a whole: it has one input or one output channel."""
    sizes = len(site.ids(site.inputs[0], 1)), len(site.ids(site.outputs[0], 1))
    return groups > 1 and groups in sizes


def _channels(site: Site, w_out: Ids, w_in: Ids) -> None:
    """Without groups input and output are free of each other; else see `_positions`."""
    inside, outside = site.ids(site.inputs[0], 1), site.ids(site.outputs[0], 1)
    groups = site.attribute("group", 1)
    if not all(map(len, (inside, outside, w_out, w_in))):
        site.fix_all("has channels of unknown number")
    elif _is_whole(site, groups):
        rows = [ids.reshape(groups, -1) for ids in (inside, outside)]
        site.ties.tie_rows(np.concatenate(rows, axis=1))
    else:
        _positions(site, inside, w_in)
        _positions(site, outside, w_out)


def _positions(site: Site, ids: Ids, of_weight: Ids) -> None:
    """Position i of every group goes together, and with position i of the weight."""
    table = ids.reshape(site.attribute("group", 1), -1)
    site.ties.tie_rows(table.T)
    if len(of_weight) == table.shape[1]:
        site.ties.tie(table[0], of_weight)


def gemm(site: Site) -> None:
    """y[m, n] = sum over k of a[m, k] * b[k, n] + c[m, n]."""
    a, b, y = site.inputs[0], site.inputs[1], site.outputs[0]
    row, column = site.attribute("transA", 0), 1 - site.attribute("transB", 0)
    _product(site, (row, 1 - row), (1 - column, column))
    site.tie(site.ids(a, row), site.ids(y, 0))
    site.tie(site.ids(b, column), site.ids(y, 1))
    if site.input(2):
        site.spread(site.input(2), y)


def _product(site: Site, left: tuple[int, int], right: tuple[int, int]) -> None:
    """The summed axis of both goes together; (free, summed) and (summed, free) are the axes."""
    a, b = site.inputs[:2]
    site.tie(site.ids(a, left[1]), site.ids(b, right[0]))
    site.produces(b, right[1])
    site.consumes(b, right[0])
    if not site.ties.is_constant(b):
        site.produces(a, left[0])
        site.consumes(a, left[1])


def matmul(site: Site) -> None:
    """y[.., m, n] = sum over k of a[.., m, k] * b[.., k, n]."""
    a, b, y = site.inputs[0], site.inputs[1], site.outputs[0]
    tall, wide = site.rank(a) > 1, site.rank(b) > 1
    _product(site, (-2 if tall else -1, -1), (-2 if wide else -1, -1))
    if tall:
        site.tie(site.ids(a, -2), site.ids(y, -2 if wide else -1))
    if wide:
        site.tie(site.ids(b, -1), site.ids(y, -1))
    lost = (not tall) + (not wide)
    for name in (a, b):
        for axis in range(3, site.rank(name) + 1):
            ids = site.ids(name, -axis)
            if len(ids) != 1:
                site.tie(ids, site.ids(y, lost - axis))
                site.ties.prefer(ids)


def recurrent(site: Site) -> None:
    """Hidden unit h: rows of every gate of w, r and b, column of r, element of every state."""
    gates = _GATES[site.node.op_type]
    w, r = site.inputs[1:3]
    stacks = [(w, gates), (r, gates), (site.input(3), 2 * gates), (site.input(7), 3)]
    stacks = [(name, count) for name, count in stacks if name]
    hidden = site.ids(r, 2)
    if any(len(site.ids(name, 1)) != count * len(hidden) for name, count in stacks):
        site.fix_all("has weights of unknown size")
        return
    for name, count in stacks:
        table = site.ids(name, 1).reshape(count, -1)
        site.ties.tie_rows(table.T)
        site.tie(table[0], hidden)
    states = [name for name in (site.input(5), site.input(6), *site.outputs) if name]
    for name in states:
        site.tie(site.ids(name, -1), hidden)
    site.tie(site.ids(w, 2), site.ids(site.inputs[0], 2))
    for name in (w, r):
        site.produces(name, 1)
        site.consumes(name, 2)
    _sequence(site, [name for name, _ in stacks], states)


def _sequence(site: Site, weights: list[str], states: list[str]) -> None:
    """Steps and directions are fixed; the batch is common to all."""
    x, y, late = site.inputs[0], site.outputs[0], site.attribute("layout", 0)
    site.fix(site.ids(x, late), "steps over it")
    if y:
        site.fix(site.ids(y, late), "steps over it")
    for name in weights:
        site.fix(site.ids(name, 0), "has it as its directions")
    for name in states:
        first = 1 if name == y else 0
        batch, direction = (0, first + 1) if late else (first + 1, first)
        site.fix(site.ids(name, direction), "has it as its directions")
        site.tie(site.ids(name, batch), site.ids(x, 1 - late))
    if site.input(4):
        site.tie(site.ids(site.input(4), 0), site.ids(x, 1 - late))


RULES: dict[str, Rule] = {
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "Gemm": gemm,
    "MatMul": matmul,
    **dict.fromkeys(_GATES, recurrent),
}
