"""Classifiers attached to tensors inside a network: the graph in which they are trained.

All are further outputs of one graph, so that one run of the network feeds every head.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from onnx import ModelProto, numpy_helper
from torch import Tensor

from mcugraph.passes._edit import Array, Edit, is_op
from mcugraph.passes._graft import graft, joint_of
from mcugraph.passes._part import part_of
from mcugraph.passes.heads import PREFIX, Head
from mcugraph.prune.layers import batch_norm
from mcugraph.prune.network import Network, Node
from mcugraph.prune.training import Loader, Still, Trainer, Training, distance


class PartlyFrozen(Network):
    """A network of which only the weights with these names are trained.

    A BatchNormalization whose scale is not trained keeps its statistics and computes with them.
    """

    def __init__(self, model: ModelProto, trained: Iterable[str]) -> None:
        super().__init__(model)
        names = set(trained)
        for name, weight in self.weights.items():
            weight.requires_grad_(name in names)

    def _step(self, node: Node, values: dict[str, Tensor | None], batch: int) -> None:
        if node.op == "BatchNormalization":
            operands = [values[name] for name in node.inputs]
            scale = operands[1]
            live = self.training and scale is not None and scale.requires_grad
            values[node.outputs[0]] = batch_norm(operands, node.attributes, live)
            return
        super()._step(node, values, batch)


class SeveralOutputs(Trainer):
    """Trains outputs together: sum_k share_k loss_k, each with the full network as its teacher.

    Where there is none, the first output is the teacher: nothing trains it then.
    """

    def __init__(
        self,
        network: Network,
        loader: Loader,
        training: Training,
        teacher: Network | None,
        shares: Sequence[float],
    ) -> None:
        super().__init__(Still(network), loader, training, teacher)
        self._taught = True
        self._shares = shares

    def run_epoch(self, number: int) -> float:
        """Train on every batch once; the mean loss of all processes and, by share, of outputs."""
        return super().run_epoch(number) / sum(self._shares)

    def _task(self, outputs: Any, target: Any) -> Tensor:
        return self._sum(outputs, lambda output: self._training.loss(output, target))

    def _wanted(self, outputs: Any, inputs: Sequence[Tensor]) -> Any:
        if self._teacher is None:
            return outputs[0].detach()
        return super()._wanted(outputs, inputs)

    def _apart(self, outputs: Any, wanted: Tensor) -> Tensor:
        heat = self._training.temperature
        return self._sum(outputs, lambda output: distance(output, wanted, heat))

    def _compare(self, task: Tensor, wanted: Any, target: Any) -> None:
        super()._compare(task / sum(self._shares), wanted, target)

    def _sum(self, outputs: Sequence[Tensor], loss: Callable[[Tensor], Tensor]) -> Tensor:
        pairs = zip(outputs, self._shares, strict=True)
        return torch.stack([share * loss(output) for output, share in pairs if share]).sum()


def logits_form(model: ModelProto) -> tuple[ModelProto, bool]:
    """(the model without a Softmax at its end, whether there was one): what losses are made for."""
    if len(model.graph.output) != 1:
        raise ValueError(
            f"the model has {len(model.graph.output)} outputs; a classifier with one is needed"
        )
    edit = Edit(model)
    node = edit.producer(edit.outputs[0])
    if not is_op(node, "Softmax"):
        return model, False
    assert node is not None, "is_op said so"
    return part_of(model, [node.input[0]]), True


def classes_of(model: ModelProto) -> int:
    """How many classes the only output [1, classes] tells apart; ValueError where it does not."""
    shape = Edit(model).static_shape(model.graph.output[0].name)
    if shape is None or len(shape) != 2:
        raise ValueError(
            f"{model.graph.output[0].name} is no vector of classes; say how many a head has"
        )
    return shape[1]


def with_heads(model: ModelProto, heads: Mapping[str, Head]) -> ModelProto:
    """The model with the logits of one head a tensor as further outputs, in this order."""
    for number, (tensor, head) in enumerate(heads.items()):
        name = prefix_of(number)
        joint = joint_of(Edit(model), tensor, replace(head, softmax=False), name)
        model, _ = graft(model, joint, name)
    return model


def prefix_of(number: int) -> str:
    """What the names of the weights of a head in `with_heads` begin with."""
    return f"{PREFIX}{number}"


def new_weights(model: ModelProto, before: ModelProto) -> set[str]:
    """The names of the constants that a model has and another has not."""
    known = {tensor.name for tensor in before.graph.initializer}
    return {tensor.name for tensor in model.graph.initializer} - known


def head_weights(network: Network, number: int, prefix: str = PREFIX) -> dict[str, Array]:
    """The weights of a head in `with_heads`, under the names that a Head wants."""
    own = f"{prefix_of(number)}."
    return {
        f"{prefix}.{name.removeprefix(own)}": value.detach().float().cpu().numpy().copy()
        for name, value in network.values.items()
        if name.startswith(own)
    }


def with_values(model: ModelProto, network: Network) -> ModelProto:
    """The model with the weights and statistics of a network, wherever it has that name."""
    own = ModelProto()
    own.CopyFrom(model)
    present = network.values
    for tensor in own.graph.initializer:
        if tensor.name in present:
            value = present[tensor.name].detach().float().cpu().contiguous().numpy()
            assert list(value.shape) == list(tensor.dims), f"{tensor.name} has another shape"
            tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    return own
