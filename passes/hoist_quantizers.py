"""QuantizeLinear(move(x)) -> move(QuantizeLinear(x))."""

import numpy as np
from onnx import ModelProto, NodeProto

from mcugraph.passes._edit import Edit, is_op, slot

# Operators that only move elements of their first input.
_MOVES = frozenset(
    "DepthToSpace Flatten Reshape Slice SpaceToDepth Split Squeeze Transpose Unsqueeze".split()
)


def hoist_quantizers(model: ModelProto) -> ModelProto:
    """QuantizeLinear(move(x)) -> move(QuantizeLinear(x)).

    Elements are then moved as bytes, and DQ - op - Q stay together where a reshape or a Transpose
    stood between op and Q. 1. A move whose every output is quantised, by one scale and zero point.
    2. At a graph output: move(DequantizeLinear(x)) -> DequantizeLinear(move(x)).
    """
    edit = Edit(model)
    while _sweep(edit):
        edit.refresh()
    return edit.finish()


def _sweep(edit: Edit) -> bool:
    moves = [node for node in edit.nodes if is_op(node, *_MOVES)]
    moved = [_hoist(edit, node) or _sink(edit, node) for node in moves]
    return any(moved)


def _is_scalar(edit: Edit, node: NodeProto) -> bool:
    scale = edit.constant(slot(node, 1))
    return scale is not None and scale.size == 1


def _same_grid(edit: Edit, one: NodeProto, other: NodeProto) -> bool:
    if len(one.input) != len(other.input) or list(one.attribute) != list(other.attribute):
        return False
    pairs = zip(one.input[1:], other.input[1:], strict=True)
    values = [(edit.constant(a), edit.constant(b)) for a, b in pairs]
    return all(
        a is not None and b is not None and a.dtype == b.dtype and np.array_equal(a, b)
        for a, b in values
    )


def _quantizers(edit: Edit, move: NodeProto) -> list[NodeProto]:
    """The QuantizeLinear after each output; none where one is missing or differs."""
    found = [edit.sole_user(name) for name in move.output]
    nodes = [node for node in found if node is not None and is_op(node, "QuantizeLinear")]
    if not nodes or len(nodes) < len(found) or not _is_scalar(edit, nodes[0]):
        return []
    direct = all(node.input[0] in move.output for node in nodes)
    return nodes if direct and all(_same_grid(edit, nodes[0], node) for node in nodes) else []


def _hoist(edit: Edit, move: NodeProto) -> bool:
    """Case 1."""
    source, nodes = move.input[0], _quantizers(edit, move)
    exclusive = edit.sole_user(source) is not None or is_op(
        edit.producer(source), "DequantizeLinear"
    )
    if not nodes or not exclusive or edit.constant(source) is not None:
        return False
    early = edit.fresh(f"{nodes[0].output[0]}__early")
    made = edit.add("QuantizeLinear", [source, *nodes[0].input[1:]], early)
    made.attribute.extend(nodes[0].attribute)
    edit.set_input(move, 0, early)
    for index, node in enumerate(nodes):
        edit.remove(node)
        edit.set_output(move, index, node.output[0])
    return True


def _sink(edit: Edit, move: NodeProto) -> bool:
    """Case 2."""
    target, maker = move.output[0], edit.producer(move.input[0])
    at_end = len(move.output) == 1 and target in edit.outputs and not edit.users(target)
    if not at_end or maker is None or not is_op(maker, "DequantizeLinear"):
        return False
    if not _is_scalar(edit, maker) or edit.constant(maker.input[0]) is not None:
        return False
    late = edit.fresh(f"{target}__late")
    edit.set_input(move, 0, maker.input[0])
    edit.set_output(move, 0, late)
    made = edit.add("DequantizeLinear", [late, *maker.input[1:]], target)
    made.attribute.extend(maker.attribute)
    return True
