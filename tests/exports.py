"""The networks of `prunable` as ONNX: which weights they hold, how big they are, what they compute.

Shares no code with the passes: sizes come from the shapes that a graph has, and a channel that is
gone is one whose weights are zero in all that reads it.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

import masking
import numpy as np
import onnx
import onnxruntime as ort
import prunable
from models import Array
from onnx import ModelProto, NodeProto, TensorProto, numpy_helper
from torch import nn

FORMS = ("float", "int8")
SUFFIX = "_quantized"


@dataclass(frozen=True)
class Weight:
    """An initializer and the layer whose weights it holds, outputs and inputs on these axes.

    The inputs of recurrent weights are the outputs of their own layer.
    """

    name: str
    layer: str
    outputs: int
    inputs: int
    recurrent: bool = False


@functools.cache
def source(name: str, form: str) -> bytes:
    model = prunable.GRAPHS[name]()
    return (model if form == "float" else prunable.quantized(model)).SerializeToString()


def model_of(name: str, form: str) -> ModelProto:
    return onnx.load_from_string(source(name, form))


@functools.cache
def weights_of(name: str) -> dict[str, Weight]:
    """By initializer of the float model: the exporter renames what it transposes."""
    model = model_of(name, "float")
    arrays = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
    recurrent = iter(node for node in model.graph.node if node.op_type == "GRU")
    found = []
    for layer, part in prunable.module(name).named_modules():
        if isinstance(part, nn.GRU):
            w, r = next(recurrent).input[1:3]
            found += [Weight(w, layer, 1, 2), Weight(r, layer, 1, 2, recurrent=True)]
        elif f"{layer}.weight" in arrays and isinstance(part, nn.Conv2d | nn.Linear):
            found.append(Weight(f"{layer}.weight", layer, 0, 1))
        elif isinstance(part, nn.Linear):
            turned = part.weight.numpy().T
            (own,) = (each for each, array in arrays.items() if np.array_equal(array, turned))
            found.append(Weight(own, layer, 1, 0))
    return {weight.name: weight for weight in found}


def run(model: ModelProto, x: Array) -> Array:
    """What onnxruntime computes of each input by itself, in its integer kernels where it can."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.qdqisint8allowed", "1")
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: each[None]})[0] for each in x])


def unweighed(name: str, model: ModelProto, layers: Mapping[str, masking.Layer]) -> ModelProto:
    """The model with zeros for all weights that meet a channel that is gone."""
    own = ModelProto()
    own.CopyFrom(model)
    tensors = {tensor.name.removesuffix(SUFFIX): tensor for tensor in own.graph.initializer}
    for weight in weights_of(name).values():
        tensor, layer = tensors[weight.name], layers[weight.layer]
        array = numpy_helper.to_array(tensor).copy()
        zero(
            np.moveaxis(array, (weight.outputs, weight.inputs), (0, 1)),
            layer.outputs if weight.recurrent else layer.inputs,
            getattr(layer.module, "groups", 1),
        )
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return own


def zero(weights: Array, channels: Sequence[int], groups: int) -> None:
    """Zero [outputs, inputs of a group, ...] in place where it meets these input channels."""
    rows, inputs = len(weights) // groups, weights.shape[1]
    for channel in channels:
        group, position = divmod(channel, inputs)
        weights[group * rows : (group + 1) * rows, position] = 0


def parameters(model: ModelProto) -> int:
    """Elements of all initializers but scalars, shapes, initial states, scales and zero points."""
    aside = {
        each
        for node in model.graph.node
        for each in (
            node.input[1:]
            if "Linear" in node.op_type
            else [*node.input[5:]] * (node.op_type == "GRU")
        )
    }
    sizes = [
        prod(tensor.dims)
        for tensor in model.graph.initializer
        if tensor.name not in aside and tensor.data_type != TensorProto.INT64
    ]
    return sum(size for size in sizes if size > 1)


def macs(model: ModelProto) -> int:
    """Multiply-accumulates with weights, from the shapes that the graph itself has."""
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*graph.value_info, *graph.input, *graph.output)
    } | {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    constant = {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in constant:
            constant.add(node.output[0])
    return sum(_macs(node, shapes) for node in graph.node if {*node.input[1:2]} & constant)


def _macs(node: NodeProto, shapes: Mapping[str, Sequence[int]]) -> int:
    weights = prod(shapes[node.input[1]]) if len(node.input) > 1 else 0
    match node.op_type:
        case "Conv":
            return weights * prod(shapes[node.output[0]][2:])
        case "Gemm":
            return weights
        case "MatMul":
            return weights * prod(shapes[node.output[0]][:-1])
        case "GRU":
            return (weights + prod(shapes[node.input[2]])) * shapes[node.input[0]][0]
    return 0
