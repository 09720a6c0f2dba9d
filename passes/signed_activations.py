"""QuantizeLinear(x, s, z: uint8) -> QuantizeLinear(x, s, z - 128: int8)."""

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto

from mcugraph.passes._edit import Array, Edit, attribute, is_op, set_attribute, slot

# Operators that only move elements; their first input and their outputs are of one type.
_MOVES = frozenset(
    """Concat DepthToSpace Expand Flatten Gather Identity MaxPool Reshape Resize Slice SpaceToDepth
    Split Squeeze Tile Transpose Unsqueeze""".split()
)


def signed_activations(model: ModelProto) -> ModelProto:
    """QuantizeLinear(x, s, z: uint8) -> QuantizeLinear(x, s, z - 128: int8).

    For every set of uint8 tensors tied by operators that only move elements, made by
    QuantizeLinear or constant (weights), and read by DequantizeLinear only. Graph inputs and
    outputs keep their type, and so does what is tied to them.
    """
    edit = Edit(model)
    converted: list[NodeProto] = []
    for group in _groups(edit):
        if all(_is_free(edit, name) for name in group):
            converted += _convert(edit, group)
    for node in converted:
        if not slot(node, 2):
            _add_zero_point(edit, node)
    _move_zero_points(edit, converted)
    return edit.finish()


def _groups(edit: Edit) -> list[list[str]]:
    """Sets of uint8 tensors that must change together, in the order of the nodes."""
    names = [*edit.inputs, *edit.initializers(), *(n for node in edit.nodes for n in node.output)]
    group = {name: [name] for name in names if name and edit.dtype(name) == TensorProto.UINT8}
    for node in edit.nodes:
        tied = [name for name in _moved(node) if name in group]
        for other in tied[1:]:
            first, second = group[tied[0]], group[other]
            if first is not second:
                first.extend(second)
                group.update(dict.fromkeys(second, first))
    return list({id(members): members for members in group.values()}.values())


def _moved(node: NodeProto) -> list[str]:
    """Inputs and outputs that hold the same kind of elements."""
    if not is_op(node, *_MOVES) or attribute(node, "mode", "nearest") not in (
        "nearest",
        "DCR",
        "CRD",
    ):
        return []
    if node.op_type == "MaxPool":
        return [node.input[0], node.output[0]]
    inputs = node.input if node.op_type == "Concat" else node.input[:1]
    return [*inputs, *node.output]


def _is_free(edit: Edit, name: str) -> bool:
    """Whether nobody but the tensor's neighbours notices its type."""
    if name in edit.inputs or name in edit.outputs:
        return False
    maker = edit.producer(name)
    if maker is not None and not (_has_plain_zero(edit, maker, "QuantizeLinear") or _moved(maker)):
        return False
    return all(_reads_freely(edit, user, name) for user in edit.users(name))


def _reads_freely(edit: Edit, user: NodeProto, name: str) -> bool:
    if _has_plain_zero(edit, user, "DequantizeLinear"):
        return list(user.input).count(name) == 1 and user.input[0] == name
    return name in _moved(user)


def _has_plain_zero(edit: Edit, node: NodeProto, op_type: str) -> bool:
    if not is_op(node, op_type) or edit.constant(slot(node, 1)) is None:
        return False
    zero = slot(node, 2)
    return not zero or (edit.constant(zero) is not None and edit.producer(zero) is None)


def _convert(edit: Edit, group: list[str]) -> list[NodeProto]:
    """Change the constants of a group; returns its QuantizeLinear and DequantizeLinear nodes."""
    nodes: list[NodeProto] = []
    for name in group:
        maker, value = edit.producer(name), edit.constant(name)
        if value is not None:
            edit.place(name, _signed(value))
        elif maker is not None and is_op(maker, "QuantizeLinear"):
            nodes.append(maker)
        nodes += [user for user in edit.users(name) if is_op(user, "DequantizeLinear")]
    return nodes


def _signed(value: Array) -> Array:
    return (value.astype(np.int16) - 128).astype(np.int8)


def _add_zero_point(edit: Edit, node: NodeProto) -> None:
    scale = np.asarray(edit.constant(node.input[1]))
    name = node.output[0] if node.op_type == "QuantizeLinear" else node.input[0]
    set_attribute(node, "output_dtype", None)
    zero = np.full(scale.shape, -128, np.int8)
    edit.set_input(node, 2, edit.store(f"{name}__zero_point", zero))


def _move_zero_points(edit: Edit, converted: list[NodeProto]) -> None:
    """Shared zero points change once; those that others still read are copied."""
    ours = {id(node) for node in converted}
    for name in dict.fromkeys(node.input[2] for node in converted):
        value = np.asarray(edit.constant(name))
        if value.dtype != np.uint8:
            continue
        if all(id(user) in ours for user in edit.users(name)) and name not in edit.outputs:
            edit.place(name, _signed(value))
            continue
        copy = edit.store(name, _signed(value))
        for node in converted:
            if node.input[2] == name:
                edit.set_input(node, 2, copy)
