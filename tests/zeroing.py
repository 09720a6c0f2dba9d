"""Removing equals zeroing: a judge that knows nothing of channels, it perturbs and looks.

Removed channels are perturbed where a layer makes them. Whatever then changes at the data inputs of
the layers behind belongs to them: there it is set to zero, or the weights that read it are.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from models import Array, random_inputs
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

# The indices that go, by tensor and axis.
Gone = Mapping[tuple[str, int], Sequence[int]]

_FAR = 1000.0
_LEVEL = ort.GraphOptimizationLevel
# The data inputs of the operators that sum over channels; where the weights of the first are.
_SUMMING = {
    **dict.fromkeys(("Conv", "ConvTranspose", "Gemm", "MatMul"), (0, 1)),
    **dict.fromkeys(("GRU", "LSTM", "RNN", "QLinearConv", "QGemm", "ReduceSum"), (0,)),
    "QLinearMatMul": (0, 3),
}
_WEIGHTS = {
    **dict.fromkeys(("Conv", "ConvTranspose", "Gemm", "MatMul"), 1),
    **dict.fromkeys(("QLinearConv", "QGemm", "QLinearMatMul"), 3),
}


class Zeroing:
    """A model for one random input, some of whose channels can be set to zero."""

    def __init__(self, model: ModelProto, seed: int = 3) -> None:
        self.model, self.feed = model, random_inputs(model, seed)
        self._tensors = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
        self._constants = _constants(model)
        self.made = [name for node in self._layers() for name in node.output if name]
        self.made += _broadened(model, self._constants)
        read = {node.input[index] for node, index in self._sums()}
        seen = sorted(read.union(self.made))
        self._values = dict(zip(seen, _run(_showing(model, seen), self.feed, False), strict=True))
        self._names = sorted(read - self.feed.keys())
        self._probe = _session(_showing(self._probing(), self._names), False)

    def outputs(self, gone: Gone) -> list[Array]:
        """What the model computes with zeroes for these indices of what its layers make."""
        masked = ModelProto()
        masked.CopyFrom(self.model)
        changed, nodes = self._changed(gone), []
        for node in masked.graph.node:
            for index in _SUMMING.get(node.op_type, ()):
                lost = changed.get(node.input[index])
                if lost is not None and lost.any():
                    nodes.extend(self._zero(masked.graph, node, index, lost))
            self._mute(masked.graph, node, gone)
            nodes.append(node)
        _refill(masked.graph.node, nodes)
        return run(masked, self.feed)

    def _layers(self) -> Iterator[NodeProto]:
        return (node for node in self.model.graph.node if node.op_type in _SUMMING)

    def _sums(self) -> Iterator[tuple[NodeProto, int]]:
        for node in self._layers():
            for index in _SUMMING[node.op_type]:
                if node.input[index] not in self._constants and not self._is_depthwise(node):
                    yield node, index

    def _is_depthwise(self, node: NodeProto) -> bool:
        """Whether channels do not mix: they are then the same before and behind."""
        if _given(node, "group", 1) == 1:
            return False
        shape = self._initial(node.input[_WEIGHTS[node.op_type]]).shape
        return _given(node, "group", 1) == shape[0] or shape[1] == 1

    def _maker(self, name: str) -> NodeProto:
        return next(node for node in self.model.graph.node if name in node.output)

    def _initial(self, name: str) -> Array:
        while name not in self._tensors:
            name = self._maker(name).input[0]
        return self._tensors[name]

    # Looking

    def _probing(self) -> ModelProto:
        """Every sum reads what it read before; everything that a layer makes can be perturbed."""
        probe = ModelProto()
        probe.CopyFrom(self.model)
        graph, nodes = probe.graph, []
        held = {(node.output[0], index) for node, index in self._sums()}
        for node in graph.node:
            for index, name in enumerate(node.input):
                if (node.output[0], index) in held:
                    node.input[index] = f"{node.output[0]}__held_{index}"
                    _store(graph, node.input[index], self._values[name])
            nodes.append(node)
            for index, name in enumerate(node.output):
                if name in self.made:
                    node.output[index] = f"{name}__raw"
                    nodes.extend(self._perturb(graph, name))
        _refill(graph.node, nodes)
        return probe

    def _perturb(self, graph: GraphProto, name: str) -> list[NodeProto]:
        """What is made, or what is fed instead where it is marked as lost."""
        value = self._values[name]
        kind = helper.np_dtype_to_tensor_dtype(value.dtype)
        for end, own in (("instead", kind), ("lost", TensorProto.BOOL)):
            feed = helper.make_tensor_value_info(f"{name}__{end}", own, value.shape)
            graph.input.append(feed)
        if value.dtype.kind == "f":
            inputs = [f"{name}__lost", f"{name}__instead", f"{name}__raw"]
            return [helper.make_node("Where", inputs, [name])]
        casts = {"raw": "wide", "instead": "instead_wide"}
        wide = [
            helper.make_node("Cast", [f"{name}__{old}"], [f"{name}__{new}"], to=TensorProto.INT32)
            for old, new in casts.items()
        ]
        chosen = helper.make_node(
            "Where", [f"{name}__lost", f"{name}__instead_wide", f"{name}__wide"], [f"{name}__set"]
        )
        return [*wide, chosen, helper.make_node("Cast", [f"{name}__set"], [name], to=kind)]

    def _changed(self, gone: Gone) -> dict[str, Array]:
        changed = {name: np.zeros(self._values[name].shape, bool) for name in self._names}
        for way in range(3):
            values = self._probe.run(self._names, self.feed | self._fed(gone, way))
            for name, value in zip(self._names, values, strict=True):
                changed[name] |= value != self._values[name]
        return changed

    def _fed(self, gone: Gone, way: int) -> dict[str, Array]:
        """Zero, far down, or far up: one of them shows behind any quantiser or activation."""
        feed = {}
        for name in self.made:
            value = self._values[name]
            ends = (-_FAR, _FAR) if value.dtype.kind == "f" else _limits(value.dtype)
            lost = np.zeros(value.shape, bool)
            for axis in (axis for other, axis in gone if other == name):
                lost[(slice(None),) * axis + (list(gone[name, axis]),)] = True
            feed[f"{name}__lost"] = lost
            feed[f"{name}__instead"] = np.full(value.shape, (0, *ends)[way], value.dtype)
        return feed

    # Zeroing

    def _zero(self, graph: GraphProto, node: NodeProto, index: int, lost: Array) -> list[NodeProto]:
        """Zero the weights of channels that are lost as a whole, else the elements themselves.

        Weights leave the graph as it is, so that onnxruntime fuses the same integer steps.
        """
        place = _WEIGHTS.get(node.op_type)
        axis = 1 if "Conv" in node.op_type else lost.ndim - 1
        others = tuple(other for other in range(lost.ndim) if other != axis)
        whole = np.array_equal(lost.any(axis=others), lost.all(axis=others))
        if index or place is None or node.input[place] not in self._constants or not whole:
            return self._mask(graph, node, index, ~lost)
        return self._zero_weights(graph, node, place, np.flatnonzero(lost.any(axis=others)))

    def _zero_weights(
        self, graph: GraphProto, node: NodeProto, place: int, channels: Array
    ) -> list[NodeProto]:
        """A copy of the weights, and of what prepares them, for this node."""
        chain, name = [], node.input[place]
        while name not in self._tensors:
            chain.append(self._maker(name))
            name = chain[-1].input[0]
        value = self._tensors[name]
        zero = np.zeros((), value.dtype)
        if place == 3:
            zero = self._tensors[node.input[place + 2]]
            zero = zero.reshape(-1, 1, 1, 1) if node.op_type == "QLinearConv" else zero
        orders = [_given(step, "perm", ()) for step in chain if step.op_type == "Transpose"]
        shape = value.shape
        for order in reversed(orders):
            shape = tuple(shape[axis] for axis in order)
        mask = _readers(node, shape, channels)
        for order in orders:
            mask = np.transpose(mask, np.argsort(order))
        for step in chain:
            if step.op_type == "DequantizeLinear" and len(step.input) > 2:
                zero = self._tensors[step.input[2]]
                lone = [1] * value.ndim
                lone[_given(step, "axis", 1) % value.ndim] = -1
                zero = zero.reshape(lone) if zero.size > 1 else zero
        new = f"{name}__zeroed_{len(graph.initializer)}"
        _store(graph, new, np.where(mask, zero, value).astype(value.dtype))
        copies = []
        for number, step in enumerate(reversed(chain)):
            copies.append(_copied(step, new, f"{new}_{number}"))
            new = copies[-1].output[0]
        node.input[place] = new
        return copies

    def _mask(self, graph: GraphProto, node: NodeProto, index: int, kept: Array) -> list[NodeProto]:
        """Let one node read zeroes; where it reads a DequantizeLinear, zero what that reads."""
        name, new = node.input[index], f"{node.input[index]}__masked_{len(graph.initializer)}"
        maker = next((other for other in self.model.graph.node if name in other.output), None)
        node.input[index] = new
        if self._values[name].dtype.kind != "f":
            return self._integer_mask(
                graph, (name, new), kept, self._tensors[node.input[index + 2]]
            )
        if maker is not None and maker.op_type == "DequantizeLinear":
            zero = self._tensors[maker.input[2]]
            nodes = self._integer_mask(graph, (maker.input[0], f"{new}_q"), kept, zero)
            return [*nodes, _copied(maker, f"{new}_q", new)]
        _store(graph, f"{new}_mask", kept.astype(self._values[name].dtype))
        return [helper.make_node("Mul", [name, f"{new}_mask"], [new])]

    def _integer_mask(
        self, graph: GraphProto, names: tuple[str, str], kept: Array, zero: Array
    ) -> list[NodeProto]:
        name, new = names
        _store(graph, f"{new}_mask", kept.astype(np.int32))
        _store(graph, f"{new}_zero", (~kept * np.asarray(zero, np.int32)).astype(np.int32))
        kind = helper.np_dtype_to_tensor_dtype(np.asarray(zero).dtype)
        return [
            helper.make_node("Cast", [name], [f"{new}_i"], to=TensorProto.INT32),
            helper.make_node("Mul", [f"{new}_i", f"{new}_mask"], [f"{new}_m"]),
            helper.make_node("Add", [f"{new}_m", f"{new}_zero"], [f"{new}_a"]),
            helper.make_node("Cast", [f"{new}_a"], [new], to=kind),
        ]

    def _mute(self, graph: GraphProto, node: NodeProto, gone: Gone) -> None:
        """A recurrent layer reads its own units."""
        if node.op_type in ("GRU", "LSTM", "RNN"):
            lost = {i for (name, _), units in gone.items() if name in node.output for i in units}
            weight = self._tensors[node.input[2]].copy()
            weight[:, :, sorted(lost)] = 0
            node.input[2] = f"{node.output[0] or node.output[1]}__muted"
            _store(graph, node.input[2], weight)


def is_integer(model: ModelProto) -> bool:
    """Whether any layer has integer weights."""
    kinds, tensors = (TensorProto.INT8, TensorProto.UINT8), model.graph.initializer
    return any(tensor.data_type in kinds and len(tensor.dims) > 1 for tensor in tensors)


def run(model: ModelProto, feed: Mapping[str, Array]) -> list[Array]:
    """What onnxruntime computes: integer models with its integer kernels, float ones as written."""
    return _run(model, feed, is_integer(model))


def _readers(node: NodeProto, shape: tuple[int, ...], channels: Array) -> Array:
    """The weights that read some channels."""
    mask = np.zeros(shape, bool)
    if node.op_type in ("Conv", "QLinearConv"):
        rows = shape[0] // _given(node, "group", 1)
        for channel in channels.tolist():
            group, position = divmod(channel, shape[1])
            mask[group * rows : (group + 1) * rows, position] = True
    elif node.op_type == "ConvTranspose":
        mask[channels] = True
    elif _given(node, "transB", 0):
        mask[:, channels] = True
    else:
        mask[..., channels, :] = True
    return mask


def _given(node: NodeProto, name: str, default: Any) -> Any:
    found = (helper.get_attribute_value(a) for a in node.attribute if a.name == name)
    return next(found, default)


def _copied(node: NodeProto, source: str, target: str) -> NodeProto:
    copy = NodeProto()
    copy.CopyFrom(node)
    copy.name, copy.input[0], copy.output[0] = f"{target}_node", source, target
    return copy


def _broadened(model: ModelProto, constants: set[str]) -> list[str]:
    """Tensors whose channels are born of a constant or of repetition, not in a layer."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    shapes = {value.name: _dims(value) for value in [*graph.value_info, *graph.input]}
    found = []
    for node in model.graph.node:
        given = [shapes.get(name) for name in node.input if name and name not in constants]
        made = shapes.get(node.output[0])
        if node.op_type in ("Add", "Mul", "Sub", "Expand", "Tile") and made and all(given):
            alike = [dims for dims in given if dims is not None and len(dims) == len(made)]
            if any(max(sizes) < size for *sizes, size in zip(*alike, made, strict=True)):
                found.append(node.output[0])
    return found


def _dims(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    return tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)


def _limits(dtype: np.dtype[Any]) -> tuple[int, int]:
    return int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)


def _constants(model: ModelProto) -> set[str]:
    found = {tensor.name for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" or (node.input and found.issuperset(node.input)):
            found.update(node.output)
    return found


def _showing(model: ModelProto, names: Sequence[str]) -> ModelProto:
    shown = ModelProto()
    shown.CopyFrom(model)
    _refill(shown.graph.output, [onnx.ValueInfoProto(name=name) for name in names])
    return shown


def _session(model: ModelProto, optimise: bool) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.qdqisint8allowed", "1")
    level = _LEVEL.ORT_ENABLE_ALL if optimise else _LEVEL.ORT_DISABLE_ALL
    options.graph_optimization_level = level
    return ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def _run(model: ModelProto, feed: Mapping[str, Array], optimise: bool) -> list[Array]:
    return list(_session(model, optimise).run(None, dict(feed)))


def _store(graph: GraphProto, name: str, value: Array) -> None:
    graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(value), name))


def _refill(field: Any, entries: Sequence[Any]) -> None:
    copies = [type(entry).FromString(entry.SerializeToString()) for entry in entries]
    del field[:]
    field.extend(copies)
