"""BatchNormalization(Conv(x, w, b)) -> Conv(x, w', b')."""

from dataclasses import dataclass

import numpy as np
from onnx import ModelProto, NodeProto

from mcugraph.passes._edit import Array, Edit, attribute, is_op, set_attribute, slot


@dataclass(frozen=True)
class _Affine:
    """What a batch normalisation computes per channel: x * factor + shift (float64 [C])."""

    factor: Array
    shift: Array


def fold_batchnorm(model: ModelProto) -> ModelProto:
    """BatchNormalization(Conv(x, w, b)) -> Conv(x, w', b').

    1. After Conv or Gemm: folded into their weights. 2. Before Conv or Gemm: folded into their
    weights where that is exact, i.e. unless padding would meet a shift. 3. Elsewhere:
    BatchNormalization(x) -> Add(Mul(x, factor), shift). Float constants only.
    """
    edit = Edit(model)
    for node in list(edit.nodes):
        affine = _affine(edit, node)
        if affine is None:
            continue
        if _fold_back(edit, node, affine) or _fold_ahead(edit, node, affine):
            continue
        _spell_out(edit, node, affine)
    return edit.finish()


def _affine(edit: Edit, node: NodeProto) -> _Affine | None:
    if not is_op(node, "BatchNormalization") or attribute(node, "training_mode", 0):
        return None
    given = [edit.constant(name) for name in node.input[1:5]]
    constants = [value.astype(np.float64) for value in given if value is not None]
    if len(constants) < 4 or any(node.output[1:]):
        return None
    scale, bias, mean, variance = constants
    variance = variance + attribute(node, "epsilon", 1e-5)
    if (variance <= 0).any():
        return None
    factor = scale / np.sqrt(variance)
    return _Affine(factor, bias - mean * factor)


def _weights(edit: Edit, node: NodeProto) -> tuple[Array, Array] | None:
    """Weights and bias in float64 of a Conv or Gemm whose parameters are float constants."""
    weight, bias = edit.constant(slot(node, 1)), edit.constant(slot(node, 2))
    if weight is None or (slot(node, 2) and bias is None) or weight.dtype.kind != "f":
        return None
    if node.op_type == "Conv":
        count = weight.shape[0]
    else:
        count = weight.shape[0 if attribute(node, "transB", 0) else 1]
    bias = np.zeros(count) if bias is None else bias.astype(np.float64)
    if bias.size not in (1, count) or (bias.ndim == 2 and bias.shape[0] != 1):
        return None
    beta = attribute(node, "beta", 1.0) if node.op_type == "Gemm" else 1.0
    return weight.astype(np.float64), np.broadcast_to(bias.reshape(-1) * beta, (count,))


def _store(edit: Edit, node: NodeProto, weight: Array, bias: Array, base: str) -> None:
    dtype = np.asarray(edit.constant(node.input[1])).dtype
    edit.replace_constant(node, 1, weight.astype(dtype))
    if slot(node, 2):
        edit.replace_constant(node, 2, bias.astype(dtype))
    else:
        edit.set_input(node, 2, edit.store(base, bias.astype(dtype)))
    set_attribute(node, "beta", None)


def _fold_back(edit: Edit, norm: NodeProto, affine: _Affine) -> bool:
    """Case 1."""
    node = edit.producer(norm.input[0])
    if node is None or not is_op(node, "Conv", "Gemm") or edit.sole_user(node.output[0]) is None:
        return False
    known = _weights(edit, node)
    if known is None or known[1].size != affine.factor.size:
        return False
    weight, bias = known
    axis = 1 if node.op_type == "Gemm" and not attribute(node, "transB", 0) else 0
    along = [-1 if i == axis else 1 for i in range(weight.ndim)]
    edit.remove(norm)
    _store(
        edit,
        node,
        weight * affine.factor.reshape(along),
        bias * affine.factor + affine.shift,
        norm.input[2],
    )
    edit.set_output(node, 0, norm.output[0])
    return True


def _fold_ahead(edit: Edit, norm: NodeProto, affine: _Affine) -> bool:
    """Case 2."""
    node = edit.sole_user(norm.output[0])
    if node is None or not is_op(node, "Conv", "Gemm") or norm.output[0] != node.input[0]:
        return False
    known = _weights(edit, node)
    if known is None or (np.any(affine.shift) and _pads(node)) or attribute(node, "transA", 0):
        return False
    weight, bias = known
    factor, shift = _per_input(node, weight, affine.factor), _per_input(node, weight, affine.shift)
    others = tuple(i for i in range(weight.ndim) if i != _output_axis(node))
    alpha = attribute(node, "alpha", 1.0) if node.op_type == "Gemm" else 1.0
    moved = bias + alpha * (weight * shift).sum(axis=others)
    edit.set_input(node, 0, norm.input[0])
    _store(edit, node, weight * factor, moved, norm.input[2])
    edit.remove(norm)
    return True


def _output_axis(node: NodeProto) -> int:
    return 1 if node.op_type == "Gemm" and not attribute(node, "transB", 0) else 0


def _per_input(node: NodeProto, weight: Array, channels: Array) -> Array:
    """Values per input channel, in a shape that broadcasts over the weights."""
    if node.op_type == "Gemm":
        return channels.reshape((-1, 1) if _output_axis(node) else (1, -1))
    groups = attribute(node, "group", 1)
    rows = np.repeat(channels.reshape(groups, -1), weight.shape[0] // groups, axis=0)
    return rows.reshape(*weight.shape[:2], *[1] * (weight.ndim - 2))


def _pads(node: NodeProto) -> bool:
    automatic = attribute(node, "auto_pad", "NOTSET")
    return automatic.startswith("SAME") or any(attribute(node, "pads", ()))


def _spell_out(edit: Edit, norm: NodeProto, affine: _Affine) -> None:
    """Case 3."""
    shape = edit.shape(norm.input[0])
    if shape is None or len(shape) < 2:
        return
    source, target = norm.input[0], norm.output[0]
    along = (-1, *[1] * (len(shape) - 2))
    dtype = np.asarray(edit.constant(norm.input[1])).dtype
    scaled = edit.fresh(f"{target}__scaled")
    factor = edit.store(norm.input[1], affine.factor.reshape(along).astype(dtype))
    shift = edit.store(norm.input[2], affine.shift.reshape(along).astype(dtype))
    edit.remove(norm)
    edit.add("Mul", [source, factor], scaled)
    edit.add("Add", [scaled, shift], target)
