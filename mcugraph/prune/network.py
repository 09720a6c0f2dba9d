"""An ONNX model as a torch module: trained as it is compiled, and shrunk where it is trained."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from torch import Tensor, nn
from torch.optim import Optimizer

from mcugraph.errors import UnsupportedError, title
from mcugraph.prune.batch import batch_reshapes, for_batch, free_inputs
from mcugraph.prune.layers import LAYERS, batch_norm
from mcugraph.prune.operators import FUNCTIONS
from mcugraph.prune.variants import variant

# Which inputs of an operator are trained where they are float constants of several elements.
NORM, BOTH = (1, 2), (0, 1)
TRAINED: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(("Conv", "ConvTranspose", "Gemm"), (1, 2)),
    **dict.fromkeys(("BatchNormalization", "InstanceNormalization"), NORM),
    **dict.fromkeys(("LayerNormalization", "GroupNormalization"), NORM),
    **dict.fromkeys(("GRU", "LSTM", "RNN"), (1, 2, 3)),
    **dict.fromkeys(("MatMul", "Add", "Sub", "Mul", "Div"), BOTH),
    "PRelu": (1,),
    "QuantizeLinear": (0,),
}
STATISTICS = (3, 4)
# Names of constants that a model does not train, in its metadata: the buffers of a torch module.
FROZEN = "mcugraph.frozen"


@dataclass(frozen=True)
class Node:
    """One operator: what it reads and writes by name, its attributes, and its function."""

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    function: Callable[..., Any]


class Network(nn.Module):
    """Executes a float (or fake-quantised) ONNX model of static shapes, for any batch size.

    `weights` gives each trained constant by its ONNX name. In training mode BatchNormalization
    takes the batch's statistics and updates its own. Raises UnsupportedError that lists all nodes
    which have no function here.
    """

    def __init__(self, model: ModelProto) -> None:
        super().__init__()
        # Replaces weights by others, such as gated ones, in each run.
        self.gating: Callable[[dict[str, Tensor]], None] | None = None
        # Tensors that are to be kept in `seen` in each run.
        self.watched: tuple[str, ...] = ()
        self.seen: dict[str, Tensor] = {}
        self._load(model)

    def _load(self, model: ModelProto) -> None:
        self._model = ModelProto()
        self._model.CopyFrom(model)
        self.inputs = free_inputs(model)
        self.outputs = [value.name for value in model.graph.output]
        self._constants = _constants(model)
        self.nodes = _nodes(model, batch_reshapes(model))
        roles = dict(_roles(self.nodes, self._constants, _frozen(model)))
        for name, role in roles.items():
            value = self._constants.pop(name)
            if role == "trained":
                self.register_parameter(_escaped(name), nn.Parameter(value))
            else:
                self.register_buffer(_escaped(name), value)
        self._trained = [name for name, role in roles.items() if role == "trained"]
        self._kept = [name for name, role in roles.items() if role == "kept"]

    @property
    def weights(self) -> dict[str, nn.Parameter]:
        """The trained constants by their names in the model."""
        return {name: self.get_parameter(_escaped(name)) for name in self._trained}

    @property
    def values(self) -> dict[str, Tensor]:
        """The trained constants and those that only live on the device, such as statistics."""
        return {**self.weights, **self._buffers_by_name()}

    def forward(self, *inputs: Tensor) -> Any:
        """The model's output, or a tuple of them."""
        values = self._run(inputs)
        found = tuple(values[name] for name in self.outputs)
        return found[0] if len(found) == 1 else found

    def features(self, names: Iterable[str], *inputs: Tensor) -> dict[str, Tensor]:
        """Named tensors inside the model, for these inputs."""
        values = self._run(inputs)
        return {name: values[name] for name in names}

    def to_onnx(self) -> ModelProto:
        """The model with the present weights and statistics."""
        model = ModelProto()
        model.CopyFrom(self._model)
        present = self.values
        for tensor in model.graph.initializer:
            if tensor.name in present:
                value = present[tensor.name].detach().float().cpu().contiguous().numpy()
                tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
        return model

    def become(
        self,
        model: ModelProto,
        kept: Mapping[str, Mapping[int, Tensor]],
        optimizers: Iterable[Optimizer] = (),
    ) -> None:
        """Take on a smaller model: the kept indices of each weight along its axes stay.

        There are new parameters then; optimisers step these, with the old ones' state sliced, and
        forget those that are no more.
        """
        old, weights = self.values, self.weights
        self._parameters.clear()
        self._buffers.clear()
        self._load(model)
        self.to(next(iter(old.values())).device)
        for name, value in self.values.items():
            if name in old:
                value.data = _sliced(old[name], kept.get(name, {}))
        swapped = {
            weights[name]: (new, kept.get(name, {}))
            for name, new in self.weights.items()
            if name in weights
        }
        gone = [weight for weight in weights.values() if weight not in swapped]
        for optimizer in optimizers:
            _forget(optimizer, gone)
            _swap(optimizer, swapped)

    def _buffers_by_name(self) -> dict[str, Tensor]:
        return {name: self.get_buffer(_escaped(name)) for name in self._kept}

    def _run(self, inputs: tuple[Tensor, ...]) -> dict[str, Tensor]:
        if len(inputs) != len(self.inputs):
            raise ValueError(f"the model has {len(self.inputs)} inputs, not {len(inputs)}")
        weights: dict[str, Tensor] = {**self.weights}
        if self.gating is not None:
            self.gating(weights)
        values: dict[str, Tensor | None] = {"": None, **self._constants, **weights}
        values |= self._buffers_by_name()
        values |= dict(zip(self.inputs, inputs, strict=True))
        batch = inputs[0].shape[0]
        for node in self.nodes:
            self._step(node, values, batch)
        found = {name: value for name, value in values.items() if value is not None}
        self.seen = {name: found[name].detach() for name in self.watched}
        return found

    def _step(self, node: Node, values: dict[str, Tensor | None], batch: int) -> None:
        operands = [values[name] for name in node.inputs]
        if node.op == "BatchNormalization":
            values[node.outputs[0]] = batch_norm(operands, node.attributes, self.training)
            return
        if node.op == "Reshape" and "batch" in node.attributes:
            operands[1] = for_batch(operands[1], node.attributes["batch"], batch)
        found = node.function(operands, node.attributes)
        parts = found if isinstance(found, tuple) else (found,)
        values.update(zip(node.outputs, parts, strict=False))


def _escaped(name: str) -> str:
    """torch reserves the dot for modules in modules."""
    return name.replace(".", "/")


def _constants(model: ModelProto) -> dict[str, Tensor]:
    found = {t.name: _tensor(t) for t in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant":
            found[node.output[0]] = _constant(node)
    return found


def _tensor(value: TensorProto) -> Tensor:
    return torch.from_numpy(np.array(numpy_helper.to_array(value)))


def _constant(node: NodeProto) -> Tensor:
    value = helper.get_attribute_value(node.attribute[0])
    if isinstance(value, TensorProto):
        return _tensor(value)
    dtype = torch.float32 if node.attribute[0].name.startswith("value_float") else torch.int64
    return torch.tensor(value, dtype=dtype)


def _frozen(model: ModelProto) -> set[str]:
    found = next((e.value for e in model.metadata_props if e.key == FROZEN), "")
    return set(filter(None, found.split("\n")))


def _roles(
    nodes: Iterable[Node], constants: Mapping[str, Tensor], frozen: set[str]
) -> Iterator[tuple[str, str]]:
    """(name, trained or kept) of the constants that live on the device."""
    roles: dict[str, str] = {}
    for node in nodes:
        for place, name in enumerate(node.inputs):
            value = constants.get(name)
            if value is None or not value.is_floating_point() or value.dim() == 0:
                continue
            plain = place in TRAINED.get(node.op, ()) and name not in frozen
            if node.op in ("Add", "Sub", "Mul", "Div"):
                plain = plain and value.numel() > 1
            role = "trained" if plain else "kept"
            roles[name] = role if roles.get(name, role) == role else "trained"
    yield from roles.items()


def _nodes(model: ModelProto, reshapes: Mapping[str, int]) -> list[Node]:
    functions: dict[str, Callable[..., Any]] = {**FUNCTIONS, **LAYERS}
    functions["BatchNormalization"] = batch_norm
    working = [node for node in model.graph.node if node.op_type != "Constant"]
    known = [node.op_type in functions and node.domain in ("", "ai.onnx") for node in working]
    if not all(known):
        unknown = [node for node, fine in zip(working, known, strict=True) if not fine]
        raise UnsupportedError(f"{title(node)}: can't be trained here" for node in unknown)
    variants = [(node, why) for node in working if (why := variant(node))]
    if variants:
        raise UnsupportedError(
            f"{title(node)}: {why} can't be trained here" for node, why in variants
        )
    return [_node(node, functions[node.op_type], reshapes) for node in working]


def _node(node: NodeProto, function: Callable[..., Any], reshapes: Mapping[str, int]) -> Node:
    attributes = {a.name: _plain(helper.get_attribute_value(a)) for a in node.attribute}
    attributes["outputs"] = len(node.output)
    if node.op_type == "Cast":
        dtype = helper.tensor_dtype_to_np_dtype(attributes["to"])
        attributes["dtype"] = torch.from_numpy(np.zeros(0, dtype)).dtype
    if node.output[0] in reshapes:
        attributes["batch"] = reshapes[node.output[0]]
    return Node(node.op_type, tuple(node.input), tuple(node.output), attributes, function)


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode()
    return list(value) if isinstance(value, (list, tuple)) else value


def _sliced(value: Tensor, kept: Mapping[int, Tensor]) -> Tensor:
    for axis, indices in kept.items():
        value = value.index_select(axis, indices.to(value.device))
    return value.detach().clone()


def _forget(optimizer: Optimizer, gone: Iterable[nn.Parameter]) -> None:
    """Let an optimiser step some parameters no more."""
    lost = {id(weight) for weight in gone}
    for group in optimizer.param_groups:
        group["params"] = [p for p in group["params"] if id(p) not in lost]
    for weight in gone:
        optimizer.state.pop(weight, None)


def _swap(
    optimizer: Optimizer,
    swapped: Mapping[nn.Parameter, tuple[nn.Parameter, Mapping[int, Tensor]]],
) -> None:
    """Put new parameters into the place of old ones, with their state as far as it has a shape."""
    for group in optimizer.param_groups:
        group["params"] = [swapped[p][0] if p in swapped else p for p in group["params"]]
    for old, (new, kept) in swapped.items():
        state = optimizer.state.pop(old, None)
        if state is not None:
            optimizer.state[new] = {
                key: _sliced(value, kept)
                if isinstance(value, Tensor) and value.shape == old.shape
                else value
                for key, value in state.items()
            }
