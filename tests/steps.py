"""One operator between DequantizeLinear and QuantizeLinear, run in C and by onnxruntime."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import ckernel
import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from mcugraph.graph import Graph
from mcugraph.layout import Layout, Layouts, layouts_of
from mcugraph.lower.call import Call, Site
from mcugraph.read import read_graph

Array = NDArray[Any]
Lowering = Callable[[Site], tuple[Call, ...]]
Scale = tuple[float, int]


@dataclass
class Case:
    """An operator on int8 inputs with (scale, zero point) each, or on float32 without scales."""

    op: str
    inputs: Sequence[Array]
    scales: Sequence[Scale] = ()
    output: Scale | None = None
    constants: Sequence[Array | None] = ()
    attributes: dict[str, Any] = field(default_factory=dict)
    relu: bool = False
    channel_last: bool = False
    outputs: int = 1
    opset: int = 18
    constant_scales: dict[int, Scale] = field(default_factory=dict)
    result: int = TensorProto.FLOAT

    def model(self) -> onnx.ModelProto:
        nodes, tensors, inputs, names = [], [], [], []
        for i, x in enumerate(self.inputs):
            kind = helper.np_dtype_to_tensor_dtype(x.dtype)
            inputs.append(helper.make_tensor_value_info(f"x{i}", kind, x.shape))
            names.append(f"x{i}")
            if self.scales:
                tensors += _scale(f"x{i}", self.scales[i])
                nodes.append(_node("DequantizeLinear", [f"x{i}", f"x{i}.s", f"x{i}.z"], [f"f{i}"]))
                names[-1] = f"f{i}"
        for i, value in enumerate(self.constants):
            names.append("" if value is None else f"c{i}")
            if value is not None:
                tensors.append(numpy_helper.from_array(value, f"c{i}"))
            if i in self.constant_scales:
                tensors += _scale(f"c{i}", self.constant_scales[i])
                nodes.append(_node("DequantizeLinear", [f"c{i}", f"c{i}.s", f"c{i}.z"], [f"d{i}"]))
                names[-1] = f"d{i}"
        results = [f"g{i}" for i in range(self.outputs)]
        nodes.append(_node(self.op, names, results, **self.attributes))
        if self.relu:
            nodes.append(_node("Relu", ["g0"], ["r0"]))
            results[0] = "r0"
        finals = [f"y{i}" for i in range(self.outputs)] if self.output else results
        if self.output:
            tensors += _scale("y", self.output)
            for result, final in zip(results, finals, strict=True):
                nodes.append(_node("QuantizeLinear", [result, "y.s", "y.z"], [final]))
        kind = TensorProto.INT8 if self.output else self.result
        outputs = [helper.make_tensor_value_info(name, kind, None) for name in finals]
        graph = helper.make_graph(nodes, "case", inputs, outputs, tensors)
        opsets = [helper.make_opsetid("", self.opset)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
        return onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)

    def oracle(self) -> list[Array]:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(self.model().SerializeToString(), options)
        return session.run(None, {f"x{i}": np.asarray(x) for i, x in enumerate(self.inputs)})

    def graph(self) -> Graph:
        return read_graph(self.model())

    def layouts(self) -> Layouts:
        graph = self.graph()
        found = layouts_of(graph)
        if not self.channel_last:
            return found
        return Layouts({n: Layout.channel_last(graph.tensors[n].shape) for n in found.of}, {})

    def calls(self, lower: Lowering) -> tuple[Call, ...]:
        graph = self.graph()
        step = next(s for s in graph.steps if s.op == self.op)
        return lower(Site(graph, step, self.layouts()))

    def run(self, lower: Lowering) -> list[Array]:
        """The outputs of the C kernels, in ONNX shape."""
        graph, layouts = self.graph(), self.layouts()
        given = {f"x{i}": x for i, x in enumerate(self.inputs)}
        memory = {n: layouts.of[n].to_memory(x) for n, x in given.items()}
        for name in graph.outputs:
            tensor = graph.tensors[name]
            memory[name] = np.zeros(tensor.size, tensor.dtype)
        for call in self.calls(lower):
            inputs = [memory[n] for n in call.inputs]
            ckernel.run_rows(call, inputs, memory[call.output], (0, call.rows))
        return [layouts.of[n].from_memory(memory[n], graph.tensors[n].shape) for n in graph.outputs]

    def differences(self, lower: Lowering) -> tuple[int, int]:
        """(elements that differ from the oracle, all elements); asserts that none differs by 2."""
        wrong = total = 0
        for ours, theirs in zip(self.run(lower), self.oracle(), strict=True):
            assert ours.shape == theirs.shape
            apart = np.abs(ours.astype(np.int64) - theirs.astype(np.int64))
            assert apart.max(initial=0) <= 1, f"{self.op}: off by {apart.max()}"
            wrong += int((apart > 0).sum())
            total += apart.size
        return wrong, total

    def close(self, lower: Lowering, rtol: float = 1e-5, atol: float = 1e-6) -> None:
        for ours, theirs in zip(self.run(lower), self.oracle(), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=atol)


def mismatches(lower: Lowering, cases: Iterable[Case]) -> float:
    """The share of elements that differ from the oracle in all cases together."""
    counts = [case.differences(lower) for case in cases]
    return sum(wrong for wrong, _ in counts) / sum(total for _, total in counts)


def streamed(call: Call, x: Array, depth: int, last: Callable[[int], int]) -> Array:
    """All rows of a call, one by one, through rings of `depth` input rows and one output row.

    `last` gives the last input row that an output row reads.
    """
    rows = x.reshape(int(call.fields["x_depth"]), -1)
    ring = np.zeros((depth, rows.shape[1]), x.dtype)
    small = ckernel.with_fields(call, x_depth=depth, y_depth=1)
    whole = ckernel.run_call(call, [x], row_size(call) * call.rows)
    written, out = 0, []
    for row in range(call.rows):
        while written < min(last(row) + 1, len(rows)):
            ring[written % depth] = rows[written]
            written += 1
        out.append(np.zeros(row_size(call), x.dtype))
        ckernel.run_rows(small, [ring], out[-1], (row, row + 1))
    np.testing.assert_array_equal(np.concatenate(out), whole)
    return whole


def row_size(call: Call) -> int:
    """Bytes or elements of an output row."""
    fields = {name: int(v) for name, v in call.fields.items() if isinstance(v, int)}
    if call.kernel == "take":
        return fields["y_width"] * (fields["y_before"] + fields["block"] + fields["y_after"])
    if "y_width" in fields:
        return fields["y_width"] * fields["channels"]
    return fields["row"] if "row" in fields else fields["y_row"]


def random_int8(random: np.random.Generator, *shape: int) -> Array:
    return random.integers(-128, 128, shape).astype(np.int8)


def random_scale(random: np.random.Generator, low: float = -7, high: float = -3) -> Scale:
    """A scale between 2^low and 2^high, as float32, and a zero point."""
    return float(np.float32(2.0 ** random.uniform(low, high))), int(random.integers(-128, 128))


def _node(op: str, inputs: Sequence[str], outputs: Sequence[str], **kw: Any) -> onnx.NodeProto:
    return helper.make_node(op, list(inputs), list(outputs), name=f"{op}_{outputs[0]}", **kw)


def _scale(name: str, scale: Scale) -> list[onnx.TensorProto]:
    return [
        numpy_helper.from_array(np.array(scale[0], np.float32), f"{name}.s"),
        numpy_helper.from_array(np.array(scale[1], np.int8), f"{name}.z"),
    ]
