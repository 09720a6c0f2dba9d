"""f(constants) -> constant."""

import math

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper
from onnx.reference import ReferenceEvaluator

from mcugraph.passes._edit import STANDARD, Array, Edit, attribute, is_op, subgraphs

# A result may be this much larger (bytes) than what it is computed from.
MAX_GROWTH = 1 << 20

# DequantizeLinear: weights of an integer model stay integers.
_KEPT = frozenset(
    """Bernoulli Constant DequantizeLinear DynamicQuantizeLinear Multinomial RandomNormal
    RandomNormalLike RandomUniform RandomUniformLike""".split()
)


def fold_constants(model: ModelProto) -> ModelProto:
    """f(constants) -> constant.

    Shape and Size of a tensor whose dimensions are known count as constants, and so does CastLike
    of a constant, whatever lends its type. Left alone:
    DequantizeLinear, random operators, operators with bodies, a result that is more than 1 MB
    larger than its inputs, and whatever produces a graph output.
    """
    edit = Edit(model)
    while _sweep(edit):
        edit.refresh()
    return edit.finish()


def _sweep(edit: Edit) -> bool:
    found = False
    for node in list(edit.nodes):
        if any(name in edit.outputs for name in node.output):
            continue
        values = _values(edit, node)
        if values is not None:
            _replace(edit, node, values)
            found = True
    return found


def _replace(edit: Edit, node: NodeProto, values: list[Array]) -> None:
    edit.remove(node)
    for name, value in zip(node.output, values, strict=True):
        if name:
            edit.place(name, value)


def _values(edit: Edit, node: NodeProto) -> list[Array] | None:
    if is_op(node, "Constant"):
        value = edit.constant(node.output[0])
        return None if value is None else [value]
    if is_op(node, "Shape", "Size"):
        return _extent(edit, node)
    if is_op(node, "CastLike"):
        return _cast(edit, node)
    if node.domain not in STANDARD or node.op_type in _KEPT or any(subgraphs(node)):
        return None
    inputs = {name: edit.constant(name) for name in node.input if name}
    arrays = {name: value for name, value in inputs.items() if value is not None}
    if not inputs or len(arrays) < len(inputs) or _explodes(edit, node, arrays):
        return None
    return _evaluated(edit, node, arrays)


def _extent(edit: Edit, node: NodeProto) -> list[Array] | None:
    shape = edit.shape(node.input[0])
    if shape is None:
        return None
    if node.op_type == "Shape":
        shape = shape[attribute(node, "start", 0) : attribute(node, "end")]
    known = [dim for dim in shape if dim is not None]
    if len(known) < len(shape):
        return None
    return [np.asarray(known if node.op_type == "Shape" else math.prod(known), np.int64)]


def _cast(edit: Edit, node: NodeProto) -> list[Array] | None:
    value, kind = edit.constant(node.input[0]), edit.dtype(node.input[1])
    if value is None or not kind:
        return None
    return [value.astype(helper.tensor_dtype_to_np_dtype(kind))]


def _explodes(edit: Edit, node: NodeProto, inputs: dict[str, Array]) -> bool:
    """Whether the result, where its shape is known beforehand, is far larger than its inputs."""
    size = 0
    for name in node.output:
        shape, dtype = edit.static_shape(name), edit.dtype(name)
        if shape is not None and dtype not in (TensorProto.UNDEFINED, TensorProto.STRING):
            size += math.prod(shape) * helper.tensor_dtype_to_np_dtype(dtype).itemsize
    return size > MAX_GROWTH + sum(value.nbytes for value in inputs.values())


def _evaluated(edit: Edit, node: NodeProto, inputs: dict[str, Array]) -> list[Array] | None:
    try:
        results = ReferenceEvaluator(node, opsets={"": edit.opset}).run(None, inputs)
    except Exception:  # what the reference cannot compute stays a node
        return None
    arrays = [value for value in results if isinstance(value, np.ndarray | np.generic)]
    return [np.asarray(value) for value in arrays] if len(arrays) == len(node.output) else None
