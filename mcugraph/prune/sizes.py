"""Parameters and multiply-accumulates of a network as formulas of its widths.

Every count is a sum of products of lengths, and every length is linear in the widths of the
channel groups: what a narrower network counts is known without making it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto

from mcugraph.parameters import parameter_names
from mcugraph.passes._edit import Edit, attribute, is_op, slot
from mcugraph.passes.channels import Channels

Counts = NDArray[np.int64]
Axes = tuple[tuple[str, int], ...]
_RECURRENT = ("GRU", "LSTM", "RNN")


@dataclass(frozen=True, eq=False)
class Lengths:
    """Lengths of axes: fixed + per @ widths, of which each product takes some, times a factor.

    `rows` [products, axes] says which, padded with row 0, whose length is 1; `owners` names the
    weight that each product belongs to, "" where there is none.
    """

    fixed: Counts
    per: Counts
    rows: Counts
    factors: Counts
    owners: tuple[str, ...]

    def products(self, widths: Counts) -> Counts:
        """Factor times lengths, for each product."""
        lengths = self.fixed + self.per @ widths
        return np.asarray(self.factors * lengths[self.rows].prod(axis=1))

    def total(self, widths: Counts) -> int:
        """The sum of all products."""
        return int(self.products(widths).sum())


@dataclass(frozen=True, eq=False)
class Sizes:
    """The counts of one network; widths are in the order of the groups of its Channels.

    Exact as long as no weight is read twice. MACs are those that the compiler counts: products with
    weights, of two tensors, and the sums of average pools.
    """

    full: Counts
    parameters: Lengths
    macs: Lengths


def sizes_of(model: ModelProto, channels: Channels) -> Sizes:
    """The formulas of a model of static shapes, whose channels were found."""
    edit = Edit(model)
    full = np.array([group.width for group in channels.groups], np.int64)
    trained = parameter_names(model)
    weights = [(1, _axes(edit, n), n) for n in edit.initializers() if n in trained]
    work = [(factor, axes, _origin(edit, axes)) for factor, axes in _work(edit)]
    return Sizes(full, lengths_of(edit, channels, weights), lengths_of(edit, channels, work))


def lengths_of(edit: Edit, channels: Channels, products: list[tuple[int, Axes, str]]) -> Lengths:
    """Products of lengths, each as (factor, axes, the weight that it belongs to)."""
    places = list(dict.fromkeys(axis for _, axes, _ in products for axis in axes))
    row = {place: number for number, place in enumerate(places, 1)}
    per = np.zeros((len(places) + 1, len(channels.groups)), np.int64)
    for column, group in enumerate(channels.groups):
        for place, indices in zip(group.places, group.channels[0], strict=True):
            if (place.name, place.axis) in row:
                per[row[place.name, place.axis], column] += len(indices)
    dims = [1, *(_shape(edit, name)[axis] for name, axis in places)]
    full = np.array([group.width for group in channels.groups], np.int64)
    longest = max((len(axes) for _, axes, _ in products), default=0)
    rows = np.zeros((len(products), longest), np.int64)
    for number, (_, axes, _) in enumerate(products):
        rows[number, : len(axes)] = [row[axis] for axis in axes]
    factors = np.array([factor for factor, _, _ in products], np.int64)
    owners = tuple(owner for _, _, owner in products)
    return Lengths(np.array(dims, np.int64) - per @ full, per, rows, factors, owners)


def _shape(edit: Edit, name: str) -> tuple[int, ...]:
    shape = edit.static_shape(name)
    if shape is None:
        raise ValueError(f"the shape of {name} is not known; load the model first")
    return shape


def _axes(edit: Edit, name: str) -> Axes:
    return tuple((name, axis) for axis in range(len(_shape(edit, name))))


def _work(edit: Edit) -> Iterator[tuple[int, Axes]]:
    """(factor, axes) of each product of lengths that counts multiply-accumulates."""
    for node in edit.nodes:
        if is_op(node, "Conv", "ConvTranspose"):
            pixels = node.output[0] if is_op(node, "Conv") else node.input[0]
            batch, _, *space = _shape(edit, pixels)
            yield prod(space) * batch, _axes(edit, node.input[1])
        elif is_op(node, "Gemm"):
            yield _shape(edit, node.output[0])[0], _axes(edit, node.input[1])
        elif is_op(node, "MatMul"):
            yield _matmul(edit, node)
        elif is_op(node, *_RECURRENT):
            steps, batch, _ = _shape(edit, node.input[0])
            yield steps * batch, _axes(edit, node.input[1])
            yield steps * batch, _axes(edit, node.input[2])
        elif is_op(node, "AveragePool", "GlobalAveragePool", "ReduceMean"):
            yield _average(edit, node)


def _matmul(edit: Edit, node: NodeProto) -> tuple[int, Axes]:
    first, second = node.input
    if _is_constant(edit, second):
        return prod(_shape(edit, first)[:-1]), _axes(edit, second)
    columns = _axes(edit, second)[-1:] if len(_shape(edit, second)) > 1 else ()
    return 1, (*_axes(edit, first), *columns)


def _average(edit: Edit, node: NodeProto) -> tuple[int, Axes]:
    """What is summed; nothing for a mean over other axes than all of space."""
    source = node.input[0]
    shape = _shape(edit, source)
    channels: Axes = ((source, 1),)
    if is_op(node, "AveragePool"):
        batch, _, *space = _shape(edit, node.output[0])
        return batch * prod(space) * prod(attribute(node, "kernel_shape")), channels
    over = attribute(node, "axes")
    if slot(node, 1):
        over = edit.constant(slot(node, 1))
    spatial = list(range(2, len(shape)))
    whole = is_op(node, "GlobalAveragePool") or (
        over is not None and sorted(int(axis) % len(shape) for axis in over) == spatial
    )
    return (prod(shape[2:]) * shape[0] if whole and spatial else 0), channels


def _is_constant(edit: Edit, name: str) -> bool:
    return edit.constant(_source(edit, name)) is not None


def _origin(edit: Edit, axes: Axes) -> str:
    """The initializer that a product belongs to, behind what prepares it."""
    name = _source(edit, axes[0][0])
    return name if edit.constant(name) is not None else ""


def _source(edit: Edit, name: str) -> str:
    node = edit.producer(name)
    while is_op(node, "DequantizeLinear", "Identity", "Transpose", "QuantizeLinear"):
        assert node is not None, name
        name = node.input[0]
        node = edit.producer(name)
    return name
