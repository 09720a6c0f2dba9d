"""QLinearConv(x, w, b) -> QuantizeLinear(Conv(DequantizeLinear(x), ...))."""

from dataclasses import dataclass

import numpy as np
from onnx import ModelProto, NodeProto, helper

from mcugraph.passes._edit import STANDARD, Edit, attribute, slot


@dataclass(frozen=True)
class _Form:
    """Where an operator keeps its operands; a scale and a zero point follow each of them."""

    op_type: str
    operands: tuple[int, ...]
    result: int
    bias: int | None = None
    attributes: tuple[str, ...] = ()


_POOL = ("auto_pad", "ceil_mode", "count_include_pad", "kernel_shape", "pads", "strides")
_FORMS = {
    "QLinearConv": _Form(
        "Conv",
        (0, 3),
        6,
        8,
        ("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"),
    ),
    "QLinearMatMul": _Form("MatMul", (0, 3), 6),
    "QGemm": _Form("Gemm", (0, 3), 7, 6, ("alpha", "transA", "transB")),
    "QLinearAdd": _Form("Add", (0, 3), 6),
    "QLinearMul": _Form("Mul", (0, 3), 6),
    "QLinearAveragePool": _Form("AveragePool", (0,), 3, None, _POOL),
    "QLinearGlobalAveragePool": _Form("GlobalAveragePool", (0,), 3),
    "QLinearLeakyRelu": _Form("LeakyRelu", (0,), 3, None, ("alpha",)),
    "QLinearSigmoid": _Form("Sigmoid", (0,), 3),
    "QLinearSoftmax": _Form("Softmax", (0,), 3, None, ("axis",)),
}
_MICROSOFT = "com.microsoft"


def qoperator_to_qdq(model: ModelProto) -> ModelProto:
    """QLinearConv(x, w, b) -> QuantizeLinear(Conv(DequantizeLinear(x), ...)).

    Likewise QLinearMatMul and com.microsoft's QGemm and QLinear{Add, Mul, AveragePool,
    GlobalAveragePool, Concat, LeakyRelu, Sigmoid, Softmax}. Every operand gets a DequantizeLinear
    of its own, an int32 bias one of scale x_scale * w_scale. Outputs keep their names. Left alone:
    scales that are not constant, channels_last, a scale per row of a matrix.
    """
    edit = Edit(model)
    for node in list(edit.nodes):
        form = _form(node)
        if form is not None and _convertible(edit, node, form):
            _convert(edit, node, form)
    if edit.changed:
        edit.drop_domain(_MICROSOFT)
    return edit.finish()


def _form(node: NodeProto) -> _Form | None:
    if node.domain not in (*STANDARD, _MICROSOFT):
        return None
    if node.op_type == "QLinearConcat":
        return _Form("Concat", tuple(range(2, len(node.input), 3)), 0, None, ("axis",))
    return _FORMS.get(node.op_type)


def _convertible(edit: Edit, node: NodeProto, form: _Form) -> bool:
    places = [place + 1 for place in form.operands] + [form.result]
    scales = [edit.constant(slot(node, place)) for place in places if slot(node, place)]
    if any(scale is None or scale.ndim > 1 for scale in scales):
        return False
    per_row = scales[0] is not None and scales[0].size > 1
    old_softmax = node.op_type == "QLinearSoftmax" and attribute(node, "opset", 13) < 13
    return not (per_row or old_softmax or attribute(node, "channels_last", 0))


def _convert(edit: Edit, node: NodeProto, form: _Form) -> None:
    edit.remove(node)
    output = node.output[0]
    inputs = [_dequantized(edit, node, form, place) for place in form.operands]
    if form.bias is not None and slot(node, form.bias):
        inputs.append(_dequantized_bias(edit, node, form.bias))
    kept = {name: attribute(node, name) for name in form.attributes}
    given = {name: value for name, value in kept.items() if value is not None}
    if not slot(node, form.result):
        edit.add(form.op_type, inputs, output, **given)
        return
    real = edit.fresh(f"{output}__real")
    edit.add(form.op_type, inputs, real, **given)
    edit.add("QuantizeLinear", [real, *_grid(edit, node, form.result, output)], output)


def _grid(edit: Edit, node: NodeProto, place: int, tensor: str) -> list[str]:
    """Names of a scale and a zero point, of one element as scalars."""
    scale = np.asarray(edit.constant(node.input[place]))
    names = [node.input[place], slot(node, place + 1)]
    if not names[1]:
        zero = np.zeros(scale.shape, _byte(edit, node, tensor))
        names[1] = edit.store(f"{tensor}__zero_point", zero)
    return [_scalar(edit, name) for name in names]


def _byte(edit: Edit, node: NodeProto, tensor: str) -> np.dtype[np.generic]:
    """The type of a quantised operand; where it was not inferred, that of a zero point."""
    kind = edit.dtype(tensor) or edit.dtype(node.input[0])
    if kind:
        return np.dtype(helper.tensor_dtype_to_np_dtype(kind))
    constants = (edit.constant(name) for name in node.input if name)
    types = (value.dtype for value in constants if value is not None)
    return next((dtype for dtype in types if dtype in (np.int8, np.uint8)), np.dtype(np.uint8))


def _scalar(edit: Edit, name: str) -> str:
    value = edit.constant(name)
    if value is None or value.ndim == 0 or value.size != 1:
        return name
    return edit.store(f"{name}__scalar", value.reshape(()))


def _dequantized(edit: Edit, node: NodeProto, form: _Form, place: int) -> str:
    name = node.input[place]
    scale = np.asarray(edit.constant(node.input[place + 1]))
    target = edit.fresh(f"{name}__real")
    axis = {"axis": _channel_axis(node, form)} if scale.size > 1 else {}
    edit.add("DequantizeLinear", [name, *_grid(edit, node, place + 1, name)], target, **axis)
    return target


def _channel_axis(node: NodeProto, form: _Form) -> int:
    """Axis of the weights' output channels."""
    if form.op_type == "Conv":
        return 0
    return 0 if attribute(node, "transB", 0) else 1


def _dequantized_bias(edit: Edit, node: NodeProto, place: int) -> str:
    name = node.input[place]
    first, second = (np.asarray(edit.constant(node.input[i]), np.float32) for i in (1, 4))
    alpha = np.float32(attribute(node, "alpha", 1.0))
    product = np.asarray(alpha * first.reshape(()) * second, np.float32)
    product = product.reshape(()) if product.size == 1 else product
    shape = edit.shape(name)
    scale = edit.store(f"{name}__scale", product)
    zero = edit.store(f"{name}__zero_point", np.zeros(product.shape, np.int32))
    target = edit.fresh(f"{name}__real")
    axis = {"axis": len(shape or (1,)) - 1} if product.size > 1 else {}
    edit.add("DequantizeLinear", [name, scale, zero], target, **axis)
    return target
