"""Which rows of its inputs a kernel reads for each row that it writes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from mcugraph.lower.call import Call

Rows = NDArray[np.int64]
Span = tuple[Rows, Rows]

# Kernels that read each element before they write it in its place, if the sizes are the same.
ELEMENT_WISE = frozenset(
    """add_s8 affine_s8 map_s8 mul_s8 prelu_s8 binary_f32 binary_constant_f32 unary_f32""".split()
)
# Kernels that read a whole pixel before the next: nothing of the row behind it is needed again.
PIXEL_WISE = frozenset({"dense_s8", "dense_f32"})


def rows_read(call: Call, index: int) -> Span | None:
    """First and last row of input `index` for each output row; None where all rows are needed."""
    family = call.kernel.removesuffix("_s8").removesuffix("_f32")
    family = family.removesuffix("_ties")
    span = FAMILIES.get(family)
    return span(call, index) if span is not None and call.rows > 1 else None


def depth_names(call: Call) -> tuple[str, ...]:
    """The field with the rows of each input: as many as its kernel keeps of it."""
    return ("a_depth", "b_depth") if "a_depth" in call.fields else ("x_depth",) * len(call.inputs)


def _number(call: Call, name: str) -> int:
    value = call.fields[name]
    assert isinstance(value, int), f"{call.kernel}.{name} is {value!r}"
    return value


def _window(call: Call, index: int) -> Span:
    rows = np.arange(call.rows, dtype=np.int64)
    height = _number(call, "x_height")
    first = rows * _number(call, "stride_height") - _number(call, "pad_top")
    last = first + (_number(call, "kernel_height") - 1) * _number(call, "dilation_height")
    return np.clip(first, 0, height), np.clip(last, -1, height - 1)


def _strided(call: Call, index: int) -> Span:
    rows = np.arange(call.rows, dtype=np.int64) * _number(call, "stride_height")
    return rows, rows


def _same(call: Call, index: int) -> Span:
    rows = np.arange(call.rows, dtype=np.int64)
    return rows, rows


def _operand(call: Call, index: int) -> Span:
    step = _number(call, f"{'ab'[index]}_row")
    rows = np.arange(call.rows, dtype=np.int64) if step else np.zeros(call.rows, np.int64)
    return rows, rows


def _taken(call: Call, index: int) -> Span | None:
    rows = np.asarray(call.fields["rows"], np.int64)
    if (rows < 0).any() or (np.diff(rows) < 0).any():
        return None
    return rows, rows


def _joined(call: Call, index: int) -> Span | None:
    whole = _number(call, "y_first") == 0 and _number(call, "x_rows") == call.rows
    return _same(call, index) if whole else None


def _permuted(call: Call, index: int) -> Span:
    rows = np.arange(call.rows, dtype=np.int64) + _number(call, "x_first")
    return rows, rows


FAMILIES: Mapping[str, Callable[[Call, int], Span | None]] = {
    "add": _operand,
    "affine": _same,
    "avgpool": _window,
    "binary": _operand,
    "binary_constant": _same,
    "concat": _joined,
    "conv": _window,
    "conv_packed": _window,
    "dense": _strided,
    "dense_packed": _strided,
    "gap": _same,
    "depthwise": _window,
    "map": _same,
    "maxpool": _window,
    "mul": _operand,
    "permute": _permuted,
    "prelu": _same,
    "softmax": _same,
    "take": _taken,
    "unary": _same,
}
