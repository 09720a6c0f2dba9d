"""A float model as if it were quantised: QDQ form with placeholder scales, for planning only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto

from mcugraph.passes import eliminate_identity, fold_batchnorm, fold_constants, qoperator_to_qdq
from mcugraph.passes._edit import Array, Edit, attribute, is_op, slot
from mcugraph.read import MOVING

# Their results keep the scale of their first input, as onnxruntime's quantiser lets them; what is
# concatenated most often has the range of one of its parts.
_TIED = MOVING | {"AveragePool"}
_BINARY = ("Add", "Div", "Max", "Min", "Mul", "PRelu", "Pow", "Sub")
_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_SHARES = ("HardSigmoid", "Sigmoid", "Softmax")
# Scales between 1/32 and 1/16, in an order in which neighbours are far apart.
_SCALE, _SCALES, _APART = 1 / 32, 97, 36
_WEIGHT, _PER_CHANNEL, _PER_LAYER = 2.0**-9, 2.0**-12, 2.0**-20


def as_int8(model: ModelProto) -> ModelProto:
    """f(x, w) -> Q(f(DQ(Q(x)), DQ(w'))): steps and sizes of the int8 model, none of its values.

    Every float32 activation gets a scale, every weight int8 values, every bias int32 values, all
    made up; constant operands of other operators are quantised as they are. Names are those of
    onnxruntime's quantiser: w_quantized, x_QuantizeLinear_Output. What is quantised stays as it is.
    """
    prepared = model
    for apply in (qoperator_to_qdq, fold_constants, eliminate_identity, fold_batchnorm):
        prepared = apply(prepared)
    edit = Edit(prepared)
    names = [name for name in _activations(edit) if not _is_settled(edit, name)]
    grids = _Grids(edit, names)
    numbers = {name: number for number, name in enumerate(edit.initializers())}
    for node in list(edit.nodes):
        if is_op(node, *_WEIGHTED):
            _quantise_weights(edit, grids, node, numbers.get(node.input[1], 0))
        elif is_op(node, "Concat", *_BINARY):
            _quantise_operands(edit, node)
    for name in names:
        _quantise(edit, grids.of(name), name)
    return edit.finish() if edit.changed else model


@dataclass(frozen=True)
class _Grid:
    scale: float
    zero: int = 0


def _activations(edit: Edit) -> Iterator[str]:
    """Every float32 tensor that is computed at run time."""
    made = [name for node in edit.nodes for name in node.output if name]
    for name in (*(i for i in edit.inputs if i not in edit.outputs), *made):
        if edit.constant(name) is None and edit.dtype(name) == TensorProto.FLOAT:
            yield name


def _is_settled(edit: Edit, name: str) -> bool:
    """Whether a tensor is never in memory as float32, as the model is."""
    maker = edit.producer(name)
    if is_op(maker, "DequantizeLinear") or not (edit.users(name) or name in edit.outputs):
        return True
    user = edit.sole_user(name)
    return is_op(user, "QuantizeLinear") or (maker is not None and _clamps(edit, user))


def _clamps(edit: Edit, node: NodeProto | None) -> bool:
    """Whether the step before computes this node: a Relu, or a Clip with constant bounds."""
    if node is None or not is_op(node, "Relu", "Clip"):
        return False
    return all(edit.constant(bound) is not None for bound in node.input[1:] if bound)


class _Grids:
    """A made-up scale and zero point for each set of tensors that share them."""

    def __init__(self, edit: Edit, names: list[str]) -> None:
        self._edit = edit
        self._source: dict[str, str] = {}
        ours = set(names)
        for node in edit.nodes:
            if is_op(node, *_TIED) and node.input[0] in ours:
                self._source |= {name: node.input[0] for name in node.output if name in ours}
        self._place = {name: place for place, name in enumerate(names)}

    def of(self, name: str) -> _Grid:
        """The grid of a float tensor, or of the integers from which it is dequantised."""
        while name in self._source:
            name = self._source[name]
        place, maker = self._place.get(name), self._edit.producer(name)
        if place is None:
            scale = self._edit.scalar(slot(maker, 1)) if maker is not None else None
            return _Grid(_SCALE if scale is None else float(scale))
        scale = _SCALE * (1 + place * _APART % _SCALES / _SCALES)
        if maker is None or not is_op(maker, "Clip", "Relu", *_SHARES):
            return _Grid(scale, place % 11 - 5)
        return _Grid(1 / 256, -128) if is_op(maker, *_SHARES) else self._saturated(maker, scale)

    def _saturated(self, node: NodeProto, scale: float) -> _Grid:
        """A grid that ends at the bounds of a Relu or Clip, if it has any."""
        low = self._edit.scalar(slot(node, 1)) if slot(node, 1) else None
        high = self._edit.scalar(slot(node, 2)) if slot(node, 2) else None
        if is_op(node, "Relu"):
            low = 0.0
        if low is not None and high is not None and high > low:
            scale = 2.0 ** np.floor(np.log2(float(high - low) / 256))
        if low is None:
            end = 127 if high is None else 127 - np.rint(high / scale)
        else:
            end = -128 - np.rint(low / scale)
        return _Grid(float(scale), int(np.clip(end, -128, 127)))


def _quantise(edit: Edit, grid: _Grid, name: str) -> None:
    """Let all readers of a tensor read its rounded values."""
    users = edit.users(name)
    known = next((user for user in users if is_op(user, "QuantizeLinear")), None)
    if known is not None:
        _dequantise_for(edit, name, users, (known.output[0], *known.input[1:]))
        return
    source, maker = name, edit.producer(name)
    if name in edit.outputs and maker is not None:
        source = edit.fresh(f"{name}_QuantizeInput")
        edit.set_output(maker, list(maker.output).index(name), source)
    scale = edit.store(f"{name}_scale", np.array(grid.scale, np.float32))
    zero = edit.store(f"{name}_zero_point", np.array(grid.zero, np.int8))
    integer = edit.fresh(f"{name}_QuantizeLinear_Output")
    if source != name:
        edit.add("DequantizeLinear", [integer, scale, zero], name)
    else:
        _dequantise_for(edit, name, users, (integer, scale, zero))
    edit.add("QuantizeLinear", [source, scale, zero], integer)


def _dequantise_for(
    edit: Edit, name: str, users: list[NodeProto], integer: tuple[str, ...]
) -> None:
    real = edit.fresh(f"{name}_DequantizeLinear_Output")
    edit.add("DequantizeLinear", list(integer), real)
    for user in users:
        if not is_op(user, "QuantizeLinear"):
            edit.reread(user, name, real)


def _quantise_weights(edit: Edit, grids: _Grids, node: NodeProto, number: int) -> None:
    """Weights with one scale a channel, and the bias in units of the sums."""
    name, bias = node.input[1], slot(node, 2)
    weights = _real(edit, name)
    if weights is None:
        return
    axis = _channel_axis(node, weights)
    channels = np.arange(weights.shape[axis])
    factors = 1 + channels * _PER_CHANNEL + number * _PER_LAYER
    scales = _WEIGHT * factors * 2.0 ** (_mixed(channels, number) % 3)
    _dequantised(edit, node, 1, (_pattern(weights, number), scales), axis)
    values = _real(edit, bias) if bias else None
    if values is not None and values.shape == channels.shape:
        sums = scales.astype(np.float32) * np.float32(grids.of(node.input[0]).scale)
        integers = _pattern(values, edit.nodes.index(node)).astype(np.int32) * 100
        _dequantised(edit, node, 2, (integers, sums), 0)


def _channel_axis(node: NodeProto, weights: Array) -> int:
    if is_op(node, "Conv") or (is_op(node, "Gemm") and attribute(node, "transB", 0)):
        return 0
    return 1 if is_op(node, "ConvTranspose") else weights.ndim - 1


def _pattern(values: Array, number: int) -> Array:
    """Small integers of the same shape, which no other layer has."""
    places = np.arange(values.size).reshape(values.shape)
    return np.asarray(_mixed(places, number) % 13 - 6, np.int8)


def _mixed(places: Array, number: int) -> Array:
    """A number for each place that is another one in each layer."""
    return np.asarray((places + 1) * (number + 1) * 40503 % 65521 >> 3)


def _quantise_operands(edit: Edit, node: NodeProto) -> None:
    """Constant operands, rounded to 127 steps of their largest."""
    for index, name in enumerate(list(node.input)):
        values = _real(edit, name)
        if values is not None and values.size:
            scale = float(np.abs(values).max()) / 127 or 1.0
            integers = np.rint(values / scale).astype(np.int8)
            _dequantised(edit, node, index, (integers, np.array(scale)), None)


def _real(edit: Edit, name: str) -> Array | None:
    """The value of a float32 constant."""
    value = edit.constant(name)
    return value if value is not None and value.dtype == np.float32 else None


def _dequantised(
    edit: Edit, node: NodeProto, index: int, parts: tuple[Array, Array], axis: int | None
) -> None:
    """Let a node read integers and their scales in place of a float constant."""
    name, (integers, scales) = node.input[index], parts
    grid = scales.astype(np.float32), np.zeros(scales.shape, integers.dtype)
    stored = [
        edit.store(f"{name}_quantized", integers),
        edit.store(f"{name}_scale", grid[0]),
        edit.store(f"{name}_zero_point", grid[1]),
    ]
    real = edit.fresh(f"{name}_DequantizeLinear_Output")
    along = {} if axis is None else {"axis": axis}
    edit.add("DequantizeLinear", stored, real, **along)
    edit.set_input(node, index, real)
