"""Conv(Pad(x, p), w) -> Conv(x, w, pads + p)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto

from mcugraph.passes._edit import Array, Edit, attribute, is_op, set_attribute, slot


def fold_pad(model: ModelProto) -> ModelProto:
    """Conv(Pad(x, p), w) -> Conv(x, w, pads + p).

    1. Pads of spatial axes, constant and not negative, by zero; each Conv takes its own, and the
    Pad stays for other readers. 2. AveragePool, which then counts what is padded. 3. Quantised,
    where zero is exact: DequantizeLinear(QuantizeLinear(Pad(DequantizeLinear(x)))) of one scale and
    zero point, or DequantizeLinear(Pad(x)) by the zero point.
    """
    edit = Edit(model)
    for node in list(edit.nodes):
        while is_op(node, "Conv", "AveragePool") and _fold(edit, node):
            pass
    return edit.finish()


@dataclass(frozen=True)
class _Padded:
    """A tensor whose padding is zero: the Pad, and the way to the tensor without it."""

    pad: NodeProto
    value: Any
    unpadded: Callable[[], str]


def _fold(edit: Edit, node: NodeProto) -> bool:
    """Take one Pad into a node; False where there is none that it can take."""
    padded = _padded(edit, node.input[0])
    added = None if padded is None else _added(edit, padded)
    own = None if added is None else _own(node, added.shape[1])
    if padded is None or added is None or own is None:
        return False
    pads = [int(pad) for pad in (own + added).reshape(-1)]
    if is_op(node, "AveragePool"):
        if not _averages_zeros(edit, node, own, pads):
            return False
        set_attribute(node, "count_include_pad", 1)
    edit.set_input(node, 0, padded.unpadded())
    set_attribute(node, "auto_pad", None)
    set_attribute(node, "pads", pads)
    return True


def _padded(edit: Edit, name: str) -> _Padded | None:
    """What pads a tensor: a float Pad, or one before DequantizeLinear."""
    last = edit.producer(name)
    if last is None or is_op(last, "Pad"):
        return None if last is None else _Padded(last, 0, lambda: last.input[0])
    grid = _grid(edit, last)
    if grid is None or not is_op(last, "DequantizeLinear"):
        return None
    inner = edit.producer(last.input[0])
    if inner is not None and is_op(inner, "Pad"):
        return _Padded(inner, grid[1], lambda: _dequantized(edit, last, inner.input[0]))
    return None if inner is None else _between(edit, last, inner)


def _between(edit: Edit, last: NodeProto, inner: NodeProto) -> _Padded | None:
    """A Pad between DequantizeLinear and QuantizeLinear of one grid, which change nothing."""
    pad = edit.producer(inner.input[0])
    if pad is None or not is_op(inner, "QuantizeLinear") or not is_op(pad, "Pad"):
        return None
    first = edit.producer(pad.input[0])
    if first is None or not is_op(first, "DequantizeLinear"):
        return None
    types = [edit.dtype(each.input[0]) for each in (first, last)]
    types += [edit.dtype(each.output[0]) for each in (first, last)]
    alike = types[0] == types[1] and types[2] == types[3]
    if not alike or len({_grid(edit, each) for each in (first, inner, last)}) > 1:
        return None
    return _Padded(pad, 0, lambda: first.output[0])


def _grid(edit: Edit, node: NodeProto) -> tuple[float, int] | None:
    """The one scale and integer zero point of a quantiser."""
    scale = edit.scalar(slot(node, 1))
    zero = edit.scalar(slot(node, 2)) if slot(node, 2) else np.uint8(0)
    if scale is None or not isinstance(zero, np.integer):
        return None
    return float(scale), int(zero)


def _dequantized(edit: Edit, like: NodeProto, source: str) -> str:
    """A new DequantizeLinear of another tensor."""
    target = edit.fresh(f"{like.output[0]}__unpadded")
    made = edit.add("DequantizeLinear", [source, *like.input[1:]], target)
    made.attribute.extend(like.attribute)
    return target


def _added(edit: Edit, padded: _Padded) -> Array | None:
    """What a Pad adds before and after each spatial axis, [2, axes]; None if it does more."""
    pad, shape = padded.pad, edit.shape(padded.pad.input[0])
    given = attribute(pad, "pads") or edit.constant(slot(pad, 1))
    axes = edit.constant(slot(pad, 3)) if slot(pad, 3) else np.arange(len(shape or ()))
    if shape is None or given is None or axes is None or not _pads_with(edit, pad, padded.value):
        return None
    counts = np.zeros((2, len(shape)), np.int64)
    counts[:, axes] = np.reshape(given, (2, -1))
    spatial = len(shape) > 2 and not counts[:, :2].any() and counts.min() >= 0
    return counts[:, 2:] if spatial else None


def _pads_with(edit: Edit, pad: NodeProto, zero: int) -> bool:
    """Whether the padding is constant and has this value."""
    name = slot(pad, 2)
    value = edit.scalar(name) if name else attribute(pad, "value", 0)
    maker = edit.producer(name) if name else None
    if maker is not None and is_op(maker, "DequantizeLinear"):
        grid, stored = _grid(edit, maker), edit.scalar(maker.input[0])
        value = None if grid is None or stored is None else int(stored) - grid[1]
    return bool(attribute(pad, "mode", "constant") == "constant" and value == zero)


def _own(node: NodeProto, axes: int) -> Array | None:
    """The node's own pads, [2, axes]; None where they follow from the size of its input."""
    mode = attribute(node, "auto_pad", "NOTSET")
    if mode not in ("NOTSET", "VALID"):
        return None
    given = attribute(node, "pads") if mode == "NOTSET" else None
    return np.reshape(given or [0] * (2 * axes), (2, axes))


def _averages_zeros(edit: Edit, node: NodeProto, own: Array, pads: list[int]) -> bool:
    """Whether an average over padding can do what one over a padded input does."""
    plain = not attribute(node, "ceil_mode", 0) and set(attribute(node, "dilations", (1,))) == {1}
    counts = attribute(node, "count_include_pad", 0) == 1 or not own.any()
    kernel = attribute(node, "kernel_shape")
    inside = all(pad < size for pad, size in zip(pads, [*kernel, *kernel], strict=True))
    return edit.opset >= 7 and plain and counts and inside
