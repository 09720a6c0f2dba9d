"""f(w), g(w) -> f(w), g(w'), where w' = w."""

import numpy as np
from onnx import ModelProto, NodeProto

from mcugraph.passes._edit import Edit, is_op, subgraphs


def unshare_weights(model: ModelProto) -> ModelProto:
    """f(w), g(w) -> f(w), g(w'), where w' = w.

    1. A DequantizeLinear of a constant gets a copy per reader. 2. Then an initializer of more than
    one element gets a copy per reader. The first reader keeps the name; copies are w__1, w__2, ...
    Readers with bodies (If, Loop, Scan) keep the original.
    """
    edit = Edit(model)
    for node in list(edit.nodes):
        if is_op(node, "DequantizeLinear") and edit.constant(node.input[0]) is not None:
            _split_dequantizer(edit, node)
    for name in edit.initializers():
        value = edit.constant(name)
        if value is not None and value.size > 1:
            _split_constant(edit, name)
    return edit.finish()


def _others(edit: Edit, name: str) -> list[NodeProto]:
    """The readers that must get a copy."""
    users = edit.users(name)
    plain = [node for node in users if not any(subgraphs(node))]
    held = len(plain) < len(users) or name in edit.outputs
    return plain if held else plain[1:]


def _split_dequantizer(edit: Edit, node: NodeProto) -> None:
    name = node.output[0]
    for user in _others(edit, name):
        copy = edit.add("DequantizeLinear", list(node.input), edit.fresh(name))
        copy.attribute.extend(node.attribute)
        edit.reread(user, name, copy.output[0])


def _split_constant(edit: Edit, name: str) -> None:
    value = np.asarray(edit.constant(name))
    for user in _others(edit, name):
        edit.reread(user, name, edit.store(name, value))
