"""Which constants of a model were trained, and how many numbers they hold."""

from __future__ import annotations

from math import prod

from onnx import ModelProto, TensorProto

from mcugraph.passes import qoperator_to_qdq

FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)
# Inputs that are bounds, sizes and scales rather than anything that was trained.
SETTINGS = {
    "Clip": (1, 2),
    "DequantizeLinear": (1, 2),
    "Dropout": (1, 2),
    "Pad": (1, 2, 3),
    "QuantizeLinear": (1, 2),
    "Resize": (1, 2, 3),
    "Upsample": (1,),
}


def parameters_of(model: ModelProto) -> int:
    """The trained numbers of a model: weights, biases, normalisation vectors, not sizes or bounds.

    Integers count where they are dequantised, scales and zero points do not.
    """
    own = qoperator_to_qdq(model)
    trained = parameter_names(own)
    return sum(prod(tensor.dims) for tensor in own.graph.initializer if tensor.name in trained)


def parameter_names(model: ModelProto) -> set[str]:
    """The initializers that hold trained numbers, of a model without QOperator nodes."""
    graph = model.graph
    arrays = {tensor.name for tensor in graph.initializer if len(tensor.dims)}
    floats = {tensor.name for tensor in graph.initializer if tensor.data_type in FLOATS}
    return {
        name
        for node in graph.node
        for index, name in enumerate(node.input)
        if name in arrays and index not in SETTINGS.get(node.op_type, ())
        if name in floats or node.op_type == "DequantizeLinear"
    }
