"""The weights through which a channel is read: where a gate acts, and what removal changes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from mcugraph.passes.channels import ChannelGroup
from mcugraph.prune.network import Network, Node

RECURRENT = ("GRU", "LSTM", "RNN")


@dataclass(frozen=True, eq=False)
class Reader:
    """A weight and the axis along which it reads a group's channels: channel c at `index[c]`.

    It multiplies `source`, which holds channel c at `source_index[c]` of `source_axis`, and has its
    outputs on `output_axis`.
    """

    weight: str
    axis: int
    index: Tensor
    source: str
    source_axis: int
    source_index: Tensor
    output_axis: int

    @property
    def simple(self) -> bool:
        """Whether each slice of the weight reads one channel: not in a grouped convolution."""
        return self.index.shape == self.source_index.shape

    def reads_as(self, other: Reader) -> bool:
        """Whether another one has the same channels at the same places."""
        own = (self.index, self.source_index)
        return all(map(torch.equal, own, (other.index, other.source_index)))


@dataclass(frozen=True)
class Scale:
    """The weights to which a tensor is in proportion, all together, and how many channels it has.

    No weights where there are no such.
    """

    weights: tuple[str, ...] = ()
    width: int = 1


def find_readers(network: Network, group: ChannelGroup) -> list[Reader]:
    """All readers of a group, in graph order."""
    ranks = {name: weight.dim() for name, weight in network.weights.items()}
    return [reader for node in network.nodes for reader in _readers(ranks, node, group)]


def _readers(ranks: Mapping[str, int], node: Node, group: ChannelGroup) -> Iterator[Reader]:
    for slot, name in enumerate(node.inputs[:3]):
        axes = weight_axes(node, slot, ranks[name]) if name in ranks else None
        index = None if axes is None else _index(group, name, axes[0])
        if axes is None or index is None:
            continue
        source = _source(node, slot)
        held = [place.axis for place in group.places if place.name == source]
        if not held:
            continue
        axis = 1 if node.op.startswith("Conv") else max(held)
        found = _index(group, source, axis)
        assert found is not None, f"{source} does not hold what {name} reads"
        yield Reader(name, axes[0], index, source, axis, found, axes[1])


def weight_axes(node: Node, slot: int, rank: int) -> tuple[int, int] | None:
    """(input axis, output axis) of a weight; None where it is not summed over channels."""
    if node.op == "Conv" and slot == 1:
        return 1, 0
    if node.op == "ConvTranspose" and slot == 1:
        return 0, 1
    if node.op == "Gemm" and slot == 1:
        return (1, 0) if node.attributes.get("transB") else (0, 1)
    if node.op == "MatMul" and rank > 1:
        return (rank - 2, rank - 1) if slot == 1 else (rank - 1, rank - 2)
    return (2, 1) if node.op in RECURRENT and slot in (1, 2) else None


def _source(node: Node, slot: int) -> str:
    """What a weight multiplies; a recurrent one its layer's own result."""
    if node.op in RECURRENT:
        return node.inputs[0] if slot == 1 else node.outputs[0]
    return node.inputs[1 - slot]


def _index(group: ChannelGroup, name: str, axis: int) -> Tensor | None:
    for position, place in enumerate(group.places):
        if (place.name, place.axis) == (name, axis):
            return torch.tensor([channel[position] for channel in group.channels])
    return None
