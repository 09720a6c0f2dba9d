"""Tensors as rows in memory: shapes, strides and the loops that an element-wise kernel runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from mcugraph.graph import Tensor
from mcugraph.lower.call import Site


@dataclass(frozen=True)
class Rows:
    """`count` rows of `size` elements each; a row is the first memory axis after the batch."""

    count: int
    size: int


def memory_shape(site: Site, tensor: Tensor) -> tuple[int, ...]:
    """The shape of a run-time tensor in memory, outermost axis first."""
    layout = site.layout(tensor)
    if layout.dims != tensor.shape:
        raise site.refuse(f"{tensor.name} is a view of shape {list(layout.dims)}")
    return layout.shape


def memory_axis(site: Site, tensor: Tensor, axis: int) -> int:
    """The place in memory of an ONNX axis."""
    memory_shape(site, tensor)
    return site.layout(tensor).order.index(axis % len(tensor.shape))


def row_axes(shape: Sequence[int]) -> int:
    """How many leading axes of a memory shape the rows are: batch and H, L or M."""
    return min(2, len(shape) - 1) if len(shape) > 1 else 0


def rows_of(site: Site, tensor: Tensor) -> Rows:
    """The rows of a run-time tensor; any order of its elements will do."""
    shape = site.layout(tensor).shape
    split = row_axes(shape)
    return Rows(prod(shape[:split]), prod(shape[split:]))


def strides_in(site: Site, tensor: Tensor) -> tuple[int, ...]:
    """Elements from one place to the next along each memory axis of the output; 0 repeats.

    The operand is broadcast to the output as numpy does it.
    """
    output = site.output
    layout = site.layout(tensor)
    shape = memory_shape(site, tensor)
    steps = {axis: prod(shape[i + 1 :]) for i, axis in enumerate(layout.order)}
    missing = len(output.shape) - len(tensor.shape)
    by_axis = [0] * missing + [
        steps[axis] if size > 1 else 0 for axis, size in enumerate(tensor.shape)
    ]
    return tuple(by_axis[axis] for axis in site.layout(output).order)


@dataclass(frozen=True)
class Loops:
    """[rows][width][channels] with, for every operand, the step along each."""

    rows: int
    width: int
    channels: int
    steps: tuple[tuple[int, int, int], ...]

    def fields(self, names: Sequence[str]) -> dict[str, int]:
        """The members of a kernel's parameters, the operands named a and b."""
        fields = {"width": self.width, "channels": self.channels}
        fields |= {"y_depth": self.rows, "y_step": self.channels}
        for name, (row, pixel, channel) in zip(names, self.steps, strict=True):
            fields[f"{name}_depth"] = self.rows if row else 1
            fields[f"{name}_row"] = row
            fields[f"{name}_pixel"] = pixel
            fields[f"{name}_channel"] = channel
        return fields


def loops_of(site: Site, operands: Sequence[Tensor]) -> Loops:
    """The fewest loops over the output in which every operand has constant steps."""
    shape = memory_shape(site, site.output)
    strides = [strides_in(site, operand) for operand in operands]
    axes = list(zip(shape, *strides, strict=True))
    split = row_axes(shape)
    outer, inner = _merged(axes[:split]), _merged(axes[split:])
    if len(outer) > 1 or len(inner) > 2:
        raise site.refuse("this broadcast needs more than three loops; Expand the operand first")
    nothing = (1, *([0] * len(operands)))
    row, (width, channel) = (outer or [nothing])[0], ([nothing, nothing, *inner])[-2:]
    steps = tuple(zip(row[1:], width[1:], channel[1:], strict=True))
    return Loops(row[0], width[0], channel[0], steps)


def _merged(axes: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Neighbouring axes that every operand walks through evenly, as one."""
    merged: list[tuple[int, ...]] = []
    for axis in axes:
        if axis[0] == 1:
            continue
        if merged and all(o == i * axis[0] for o, i in zip(merged[-1][1:], axis[1:], strict=True)):
            merged[-1] = (merged[-1][0] * axis[0], *axis[1:])
        else:
            merged.append(axis)
    return merged
