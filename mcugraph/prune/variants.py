"""Variants of operators that torch does not compute as ONNX says: refused before training."""

from __future__ import annotations

from onnx import NodeProto

from mcugraph.passes._edit import attribute, slot

# Recurrent layers, and the functions of one direction that torch computes.
RECURRENT = {
    "GRU": ["Sigmoid", "Tanh"],
    "LSTM": ["Sigmoid", "Tanh", "Tanh"],
    "RNN": ["Tanh"],
}


def variant(node: NodeProto) -> str | None:
    """What is special about a node that can't be trained; None where it can be."""
    if node.op_type == "AveragePool" and attribute(node, "ceil_mode", 0):
        return "a window with ceil_mode"
    if node.op_type == "Pad" and attribute(node, "mode", "constant") == "wrap":
        return "padding that wraps around"
    if node.op_type == "Resize" and attribute(node, "mode", "nearest") == "cubic":
        return "cubic interpolation"
    return _recurrent(node) if node.op_type in RECURRENT else None


def _recurrent(node: NodeProto) -> str | None:
    if slot(node, 4):
        return "a layer with sequence lengths"
    if attribute(node, "layout", 0):
        return "a layer with the batch first"
    if node.op_type == "GRU" and not attribute(node, "linear_before_reset", 0):
        return "a layer with linear_before_reset=0"
    given = [each.decode() for each in attribute(node, "activations", [])]
    usual = RECURRENT[node.op_type]
    plain = given in ([], usual, usual * 2)
    return None if plain else "a layer with activations of its own"
