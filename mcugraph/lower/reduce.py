"""Reductions along axes that lie together in memory: mean, sum, extremes and their places."""

from __future__ import annotations

from math import prod

import numpy as np

from mcugraph.graph import Tensor
from mcugraph.lower.call import Call, Field, Site
from mcugraph.lower.integer import multiplier, scale_of, zero_of
from mcugraph.lower.movement import constants
from mcugraph.lower.rows import memory_axis, memory_shape
from mcugraph.lower.unary import identity, table_of

KINDS = {"ReduceSum": 0, "ReduceMean": 0, "ReduceMax": 1, "ReduceMin": 2}
SUFFIX = {"int8": "s8", "float32": "f32"}


def lower_reduce(site: Site) -> tuple[Call, ...]:
    """ReduceMean, ReduceSum, ReduceMax or ReduceMin."""
    x, y = site.input(0), site.output
    fields = _blocks(site, _axes(site))
    length = fields["length"] if site.step.op == "ReduceMean" else 1
    assert isinstance(length, int)
    if y.dtype == "float32":
        fields["kind"] = KINDS[site.step.op]
        fields["factor"] = 1 / length
        return (Call("reduce_f32", (x.name,), y.name, fields, 1),)
    if KINDS[site.step.op]:
        fields["sign"] = 1 if site.step.op == "ReduceMax" else -1
        fields["table"] = table_of(site, x, y, identity)
        return (Call("extreme_s8", (x.name,), y.name, fields, 1),)
    fields["x_zero"], fields["y_zero"] = zero_of(x), zero_of(y)
    ratio = scale_of(x) / (scale_of(y) * length)
    fields["multiplier"], fields["shift"] = multiplier(ratio)
    return (Call("sum_s8", (x.name,), y.name, fields, 1),)


def lower_argmax(site: Site) -> tuple[Call, ...]:
    """ArgMax or ArgMin."""
    x, y = site.input(0), site.output
    if x.dtype not in SUFFIX:
        raise site.refuse("int8 and float32 are allowed")
    fields = _blocks(site, [site.attribute("axis", 0)])
    fields["sign"] = 1 if site.step.op == "ArgMax" else -1
    fields["last"] = site.attribute("select_last_index", 0)
    return (Call(f"argmax_{SUFFIX[x.dtype]}", (x.name,), y.name, fields, 1),)


def _axes(site: Site) -> list[int]:
    rank = len(site.input(0).shape)
    axes = constants(site, 1) if site.has(1) else site.attribute("axes", list[int]())
    if not axes and site.attribute("noop_with_empty_axes", 0):
        raise site.refuse("no axes and noop_with_empty_axes; leave the operator out")
    return axes or list(range(rank))


def _blocks(site: Site, axes: list[int]) -> dict[str, Field]:
    """Memory of the input as [outer][length][inner], reduced along length."""
    x = site.input(0)
    shape = memory_shape(site, x)
    reduced = sorted(memory_axis(site, x, axis) for axis in axes)
    between = [shape[i] for i in range(reduced[0], reduced[-1]) if i not in reduced]
    if prod(between) != 1:
        raise site.refuse("along axes that do not lie together in memory; reduce one by one")
    inner = prod(shape[reduced[-1] + 1 :])
    _check_order(site, x, [axis % len(x.shape) for axis in axes])
    return {
        "outer": prod(shape[: reduced[0]]),
        "length": prod(shape[axis] for axis in reduced),
        "inner": inner,
    }


def _check_order(site: Site, x: Tensor, axes: list[int]) -> None:
    """Refuse an output whose memory has the remaining axes in another order."""
    layout = site.layout(x)
    places = layout.from_memory(np.arange(x.size), x.shape)
    kept = places[tuple(slice(0, 1) if i in axes else slice(None) for i in range(places.ndim))]
    order = site.layout(site.output).to_memory(kept.reshape(site.output.shape))
    if (np.diff(order.astype(np.int64)) < 0).any():
        raise site.refuse("its output would need a transpose; keep the dimensions (keepdims=1)")
