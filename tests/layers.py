"""A layer with constant weights between DequantizeLinear and QuantizeLinear, or in float32."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import ckernel
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from steps import Case

from mcugraph.lower.call import Call, Site

Array = NDArray[Any]


@dataclass
class Weights:
    """Int8 weights with one scale each output channel (along `axis`) or one for all."""

    values: Array
    scale: Array
    axis: int = 0
    zero: int = 0


@dataclass
class Layer(Case):
    """Conv, Gemm or MatMul of x and weights; a bias of int32 has the scale of the accumulator."""

    weights: Weights | None = None
    bias: Array | None = None
    bias_scale: Array | None = None
    clip: tuple[float, float] | None = None
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    tensors: list[onnx.TensorProto] = field(default_factory=list)

    def model(self) -> onnx.ModelProto:
        self.nodes, self.tensors = [], []
        operands = [self._activation(), self._weights()]
        if self.bias is not None:
            operands.append(self._bias())
        last = self._node(self.op, operands, **self.attributes)
        if self.relu:
            last = self._node("Relu", [last])
        if self.clip is not None:
            bounds = [self._constant(np.float32(b)) for b in self.clip]
            last = self._node("Clip", [last, *bounds])
        if self.output is not None:
            scale, zero = self.output
            marks = [self._constant(np.float32(scale)), self._constant(np.int8(zero))]
            last = self._node("QuantizeLinear", [last, *marks])
        kind = helper.np_dtype_to_tensor_dtype(self.inputs[0].dtype)
        x = helper.make_tensor_value_info("x0", kind, self.inputs[0].shape)
        y = helper.make_tensor_value_info(last, kind, None)
        graph = helper.make_graph(self.nodes, "layer", [x], [y], self.tensors)
        opsets = [helper.make_opsetid("", self.opset)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
        return onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)

    def call(self, lower: Any) -> Call:
        (call,) = self.calls(lower)
        return call

    def site(self) -> Site:
        graph = self.graph()
        return Site(graph, graph.steps[0], self.layouts())

    def _activation(self) -> str:
        if not self.scales:
            return "x0"
        scale, zero = self.scales[0]
        marks = [self._constant(np.float32(scale)), self._constant(np.int8(zero))]
        return self._node("DequantizeLinear", ["x0", *marks])

    def _weights(self) -> str:
        assert self.weights is not None
        w = self.weights
        if w.values.dtype != np.int8:
            return self._constant(w.values)
        scale = np.asarray(w.scale, np.float32)
        marks = [
            self._constant(w.values),
            self._constant(scale),
            self._constant(np.full(scale.shape, w.zero, np.int8)),
        ]
        return self._node("DequantizeLinear", marks, axis=w.axis)

    def _bias(self) -> str:
        assert self.bias is not None
        if self.bias.dtype != np.int32:
            return self._constant(self.bias)
        scale = self.bias_scale
        if scale is None:
            assert self.weights is not None
            scale = np.float32(self.scales[0][0]) * np.asarray(self.weights.scale, np.float32)
        marks = [self._constant(self.bias), self._constant(np.asarray(scale, np.float32))]
        return self._node("DequantizeLinear", marks, axis=0)

    def _constant(self, value: Any) -> str:
        name = f"c{len(self.tensors)}"
        self.tensors.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def _node(self, op: str, inputs: Sequence[str], **attributes: Any) -> str:
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], name=name, **attributes))
        return name


def rows_needed(call: Call) -> tuple[int, list[int]]:
    """(the least ring depth, for each output row the input rows that must have been written)."""
    f = call.fields
    if "kernel_height" not in f:
        return 1, [r * int(f["stride_height"]) + 1 for r in range(call.rows)]
    span = (f["kernel_height"] - 1) * f["dilation_height"] + 1
    ends = [r * f["stride_height"] - f["pad_top"] + span for r in range(call.rows)]
    return min(span, f["x_height"]), [min(max(e, 0), f["x_height"]) for e in ends]


def streamed(call: Call, x: Array, size: int) -> Array:
    """The output, its rows computed one by one from the smallest ring into a ring of one row."""
    depth, needed = rows_needed(call)
    rows = x.reshape(call.fields["x_depth"], -1)
    ring = np.zeros((depth, rows.shape[1]), x.dtype)
    small = ckernel.with_fields(call, x_depth=depth, y_depth=1)
    out, written = [], 0
    for row, end in enumerate(needed):
        while written < end:
            ring[written % depth] = rows[written]
            written += 1
        target = np.zeros(size // call.rows, x.dtype)
        ckernel.run_rows(small, [ring], target, (row, row + 1))
        out.append(target)
    return np.concatenate(out)


def output_scale(x: Array, weights: Array, axis: int = 0) -> float:
    """A ratio of scales by which the sums of x and weights fill the range of int8."""
    terms = weights.size // weights.shape[axis]
    spread = max(20.0, float(x.std())) * max(1.0, float(weights.astype(float).std()))
    return float(np.sqrt(terms)) * spread / 40
