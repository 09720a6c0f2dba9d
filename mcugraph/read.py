"""ONNX model -> Graph; DequantizeLinear - op - [Relu or Clip] - QuantizeLinear is one step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import onnx
from onnx import numpy_helper

from mcugraph.errors import UnsupportedError, title
from mcugraph.exits import with_exit
from mcugraph.graph import Graph, Quant, Step, Tensor
from mcugraph.passes._notes import asked_to_pack
from mcugraph.proto import attributes, described

# Operators whose kernels clamp their result, so that a following Relu or Clip costs nothing.
CLAMPING = frozenset({"Add", "AveragePool", "Conv", "Gemm", "GlobalAveragePool", "MatMul", "Mul"})
# Operators that only move elements: their integer result keeps the scale of its input.
MOVING = frozenset(
    """Concat DepthToSpace Expand Flatten Gather GlobalMaxPool Identity MaxPool Pad ReduceMax
    Reshape Resize Slice SpaceToDepth Split Squeeze Tile Transpose Unsqueeze""".split()
)


def read_graph(model: onnx.ModelProto) -> Graph:
    """Read a valid static ONNX model (no dynamic dimension, no subgraph) as a Graph.

    Raises UnsupportedError where a scale or zero point is computed at run time.
    """
    reader = _Reader.of(model)
    steps = [step for node in model.graph.node for step in reader.steps(node)]
    tensors = _propagate_quant(steps, reader.tensors)
    used = {name for step in steps for name in (*step.inputs, *step.outputs) if name}
    inputs = {reader.boundary_in.get(i.name, i.name): i.name for i in reader.inputs}
    outputs = {reader.boundary_out.get(o.name, o.name): o.name for o in model.graph.output}
    graph = Graph(
        name=model.graph.name,
        steps=tuple(steps),
        tensors={
            name: tensors[name]
            for name in dict.fromkeys([*inputs, *tensors, *outputs])
            if name in used or name in inputs or name in outputs
        },
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        interface={**inputs, **outputs},
    )
    return with_exit(graph, model)


@dataclass
class _Reader:
    """What a model's nodes say about each other."""

    inputs: list[onnx.ValueInfoProto]
    tensors: dict[str, Tensor]
    producers: Mapping[str, onnx.NodeProto]
    consumers: Mapping[str, list[onnx.NodeProto]]
    outputs: frozenset[str]
    boundary_in: dict[str, str]
    boundary_out: dict[str, str]
    names: set[str]

    @classmethod
    def of(cls, model: onnx.ModelProto) -> _Reader:
        graph = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
        constants = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
        packed = asked_to_pack(model, constants)
        tensors = {
            n: Tensor(n, a.shape, str(a.dtype), data=a, packed=n in packed)
            for n, a in constants.items()
        }
        for value in (*graph.input, *graph.value_info, *graph.output):
            if value.name not in tensors:
                tensors[value.name] = described(value)
        producers = {o: n for n in graph.node for o in n.output if o}
        consumers: dict[str, list[onnx.NodeProto]] = {}
        for node in graph.node:
            for name in dict.fromkeys(node.input):
                consumers.setdefault(name, []).append(node)
        inputs = [i for i in graph.input if i.name not in constants]
        reader = cls(
            inputs,
            tensors,
            producers,
            consumers,
            frozenset(o.name for o in graph.output),
            {},
            {},
            set(),
        )
        reader._find_boundary()
        return reader

    def _find_boundary(self) -> None:
        """A float input that is only quantised, a float output that is only dequantised: int8."""
        for value in self.inputs:
            readers = self.consumers.get(value.name, [])
            if (
                len(readers) == 1
                and readers[0].op_type == "QuantizeLinear"
                and self.outputs.isdisjoint({value.name, readers[0].output[0]})
            ):
                self.boundary_in[value.name] = readers[0].output[0]
        for name in self.outputs:
            node = self.producers.get(name)
            if (
                node is not None
                and node.op_type == "DequantizeLinear"
                and not self.consumers.get(name)
                and node.input[0] in self.producers.keys() - self.boundary_in.values()
            ):
                self.boundary_out[name] = node.input[0]

    def steps(self, node: onnx.NodeProto) -> list[Step]:
        """The steps that one node stands for: none where its neighbours' steps absorb it."""
        if node.op_type == "QuantizeLinear":
            return self._quantize(node)
        if node.op_type == "DequantizeLinear":
            return self._dequantize(node)
        if self._absorbed(node):
            return []
        return self._operator(node)

    def _operator(self, node: onnx.NodeProto) -> list[Step]:
        inputs = tuple(self._integer_source(name) or name for name in node.input)
        end, activation = self._clamped(node)
        quantised = self._quantised(end) if len(node.output) == 1 else None
        if quantised is not None and any(a != b for a, b in zip(inputs, node.input, strict=True)):
            return [self._step(node, inputs, (quantised,), activation)]
        if any(self.tensors[n].dtype == "float32" for n in node.output if n):
            inputs = tuple(self._float_source(name) for name in node.input)
        outputs = (end, *node.output[1:])
        return [self._step(node, inputs, outputs, activation)]

    def _step(
        self,
        node: onnx.NodeProto,
        inputs: tuple[str, ...],
        outputs: tuple[str, ...],
        activation: tuple[float, float] | None = None,
    ) -> Step:
        name = node.name or outputs[0]
        while name in self.names:
            name += "_"
        self.names.add(name)
        return Step(name, node.op_type, inputs, outputs, attributes(node), activation)

    def _integer_source(self, name: str) -> str | None:
        """The integer tensor behind a DequantizeLinear, its Quant noted."""
        node = self.producers.get(name)
        if node is None or node.op_type != "DequantizeLinear":
            return None
        source = str(node.input[0])
        self._note_quant(source, node)
        return source

    def _float_source(self, name: str) -> str:
        """What a float operator reads: a dequantised constant as float, else the tensor itself."""
        source = self._integer_source(name)
        if source is None or self.tensors[source].data is None:
            return name
        real = self.tensors[source].real.astype(np.float32)
        self.tensors[name] = Tensor(name, real.shape, "float32", data=real)
        return name

    def _note_quant(self, name: str, node: onnx.NodeProto) -> None:
        tensor = self.tensors[name]
        quant = self._quant(node, len(tensor.shape))
        if tensor.quant is not None and not _same(tensor.quant, quant):
            raise UnsupportedError(
                [
                    f"{title(node)}: {name} has scale {quant.scale!s} and zero point "
                    f"{quant.zero_point} here, but {tensor.quant.scale!s} and "
                    f"{tensor.quant.zero_point} elsewhere; one pair a tensor is allowed"
                ]
            )
        self.tensors[name] = replace(tensor, quant=quant)

    def _quant(self, node: onnx.NodeProto, rank: int) -> Quant:
        for name in node.input[1:]:
            if name and self.tensors[name].data is None:
                raise UnsupportedError(
                    [f"{title(node)}: {name} is computed at run time; a constant is allowed"]
                )
        scale = np.asarray(self.tensors[node.input[1]].data, np.float32)
        zero = np.zeros(scale.shape, np.int32)
        if len(node.input) > 2 and node.input[2]:
            zero = np.asarray(self.tensors[node.input[2]].data).astype(np.int32)
        if scale.size == 1:
            return Quant(scale.reshape(()), zero.reshape(()))
        axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
        if not -rank <= axis < rank:
            raise UnsupportedError([f"{title(node)}: axis {axis} of a tensor of rank {rank}"])
        return Quant(scale, zero, axis % rank)

    def _sole_consumer(self, name: str) -> onnx.NodeProto | None:
        readers = self.consumers.get(name, [])
        return readers[0] if len(readers) == 1 and name not in self.outputs else None

    def _quantised(self, name: str) -> str | None:
        node = self._sole_consumer(name)
        if node is None or node.op_type != "QuantizeLinear":
            return None
        output = str(node.output[0])
        self._note_quant(output, node)
        return output

    def _clamped(self, node: onnx.NodeProto) -> tuple[str, tuple[float, float] | None]:
        """The tensor after the Relu or Clip that the operator's kernel applies, and its bounds."""
        output = node.output[0]
        after = self._sole_consumer(output)
        if node.op_type not in CLAMPING or after is None or self._bounds(after) is None:
            return output, None
        return after.output[0], self._bounds(after)

    def _absorbed(self, node: onnx.NodeProto) -> bool:
        """Whether the operator before clamps in this node's stead."""
        if self._bounds(node) is None:
            return False
        before = self.producers.get(node.input[0])
        return before is not None and self._clamped(before)[0] == node.output[0]

    def _bounds(self, node: onnx.NodeProto) -> tuple[float, float] | None:
        if node.op_type == "Relu":
            return 0.0, float("inf")
        if node.op_type != "Clip":
            return None
        low, high = float("-inf"), float("inf")
        given = [self.tensors[n].data if n else None for n in node.input[1:]]
        if any(n and d is None for n, d in zip(node.input[1:], given, strict=True)):
            return None
        if len(given) > 0 and given[0] is not None:
            low = float(given[0].item())
        if len(given) > 1 and given[1] is not None:
            high = float(given[1].item())
        return low, high

    def _quantize(self, node: onnx.NodeProto) -> list[Step]:
        self._note_quant(node.output[0], node)
        if node.output[0] in self.boundary_in.values():
            return []
        source = self._integer_source(node.input[0])
        if source is not None and self.tensors[source].data is None:
            return [self._step(node, (source,), (node.output[0],))]
        if self._is_integer_step(node.input[0]):
            return []
        return [self._step(node, (node.input[0],), (node.output[0],))]

    def _is_integer_step(self, name: str) -> bool:
        """Whether `name` is the result of an operator that is read as an integer step."""
        node = self.producers.get(name)
        if node is not None and self._absorbed(node):
            node = self.producers[node.input[0]]
        if node is None or len(node.output) != 1 or self._quantised(self._clamped(node)[0]) is None:
            return False
        return any(self._integer_source(i) for i in node.input)

    def _dequantize(self, node: onnx.NodeProto) -> list[Step]:
        """A step of its own only where a float operator or a float output reads the result."""
        self._note_quant(node.input[0], node)
        if self.tensors[node.input[0]].data is not None:
            return []
        if node.output[0] in self.boundary_out:
            return []
        readers = self.consumers.get(node.output[0], [])
        floating = [r for r in readers if not self._reads_integer(r)]
        if not floating and node.output[0] not in self.outputs:
            return []
        return [self._step(node, (node.input[0],), (node.output[0],))]

    def _reads_integer(self, node: onnx.NodeProto) -> bool:
        if node.op_type == "QuantizeLinear":
            return True
        return all(self._is_integer_step(o) for o in node.output if o)


def _same(a: Quant, b: Quant) -> bool:
    scales, zeros = np.array_equal(a.scale, b.scale), np.array_equal(a.zero_point, b.zero_point)
    return scales and zeros and a.axis == b.axis


def _propagate_quant(steps: list[Step], described: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Integer tensors without Q or DQ have the scale of what they are moved from or to."""
    tensors = dict(described)
    moving = [step for step in steps if step.op in MOVING]
    for step in moving:
        for name in filter(None, step.outputs):
            _share_quant(tensors, step.inputs[0], name)
    for step in reversed(moving):
        _share_quant(tensors, step.output, step.inputs[0])
    return tensors


def _share_quant(tensors: dict[str, Tensor], known: str, name: str) -> None:
    source, tensor = tensors[known], tensors[name]
    if source.quant is not None and tensor.quant is None and tensor.dtype == source.dtype:
        tensors[name] = replace(tensor, quant=source.quant)
