"""Random networks that label their channels while they are built: the oracle of channel groups.

Every layer with weights gives each of its channels a new label; whatever an operator ties becomes a
pair of labels. What goes together are then the connected components of these pairs.
"""

from collections.abc import Iterable, Mapping
from random import Random

import networkx as nx
import numpy as np
import onnx
from models import Net
from onnx import ModelProto, NodeProto, numpy_helper

# One index of one axis of one weight.
Coordinate = tuple[str, int, int]
Kept = Mapping[tuple[str, int], list[int]]

SIZE = 4


class Labelled:
    """A random network; `labels` of the channels of each image [1, C, SIZE, SIZE] in `pool`."""

    def __init__(self, seed: int) -> None:
        self.dice = Random(seed)
        self.net = Net(18, seed)
        self.ties = nx.Graph()
        self.produced: set[str] = set()
        self.count = 0
        x = self.net.input("x", 1, 3, SIZE, SIZE)
        self.outer = self.fresh(3)
        self.pool = [(x, self.outer)]
        kinds = [self.conv, self.conv, self.depthwise, self.grouped, self.norm, self.pointwise]
        kinds += [self.residual, self.excited, self.joined, self.halves, self.picked]
        for _ in range(self.dice.randint(3, 9)):
            x, labels = self.dice.choice(self.pool[-3:])
            self.pool.append(self.dice.choice(kinds)(x, labels))
        self.model = self.finish()

    def fresh(self, count: int) -> list[str]:
        self.count += count
        labels = [f"#{i}" for i in range(self.count - count, self.count)]
        self.ties.add_nodes_from(labels)
        return labels

    def tie(self, ones: Iterable[object], others: Iterable[object]) -> None:
        self.ties.add_edges_from(zip(ones, others, strict=True))

    def weigh(self, name: str, axis: int, labels: list[str]) -> None:
        """Label an axis of a weight."""
        self.tie([(name, axis, i) for i in range(len(labels))], labels)

    def name(self, kind: str) -> str:
        return f"{kind}{len(self.net.nodes)}"

    # Operators

    def conv(self, x: str, labels: list[str], width: int = 0) -> tuple[str, list[str]]:
        own = self.fresh(width or self.dice.randint(2, 6))
        kernel, name = self.dice.choice([1, 3]), self.name("conv")
        y = self.net.conv(name, x, len(own), len(labels), kernel, kernel)
        self.weigh(f"{name}.weight", 0, own)
        self.weigh(f"{name}.weight", 1, labels)
        self.produced.update(own)
        return y, own

    def depthwise(self, x: str, labels: list[str]) -> tuple[str, list[str]]:
        if len(labels) == 1:
            return self.conv(x, labels)
        name, times = self.name("depthwise"), self.dice.choice([1, 1, 2])
        own = [label for label in labels for _ in range(times)]
        y = self.net.conv(name, x, len(own), 1, 3, 3, group=len(labels))
        self.weigh(f"{name}.weight", 0, own)
        return y, own

    def grouped(self, x: str, labels: list[str]) -> tuple[str, list[str]]:
        half = len(labels) // 2
        if half < 2 or len(labels) % 2:
            return self.conv(x, labels)
        name, positions = self.name("grouped"), self.fresh(self.dice.randint(2, 3))
        own = positions * 2
        y = self.net.conv(name, x, len(own), half, 1, 1, group=2)
        self.tie(labels[:half], labels[half:])
        self.weigh(f"{name}.weight", 0, own)
        self.weigh(f"{name}.weight", 1, labels[:half])
        self.produced.update(own)
        return y, own

    def norm(self, x: str, labels: list[str]) -> tuple[str, list[str]]:
        return self.net.norm(self.name("norm"), x, len(labels)), labels

    def pointwise(self, x: str, labels: list[str]) -> tuple[str, list[str]]:
        return self.net(self.dice.choice(["Relu", "Sigmoid", "Cos"]), x), labels

    def residual(self, x: str, labels: list[str]) -> tuple[str, list[str]]:
        y, own = self.conv(x, labels, len(labels))
        self.tie(own, labels)
        return self.net(self.dice.choice(["Add", "Sub", "Max"]), y, x), labels

    def excited(self, x: str, labels: list[str]) -> tuple[str, list[str]]:
        y, own = self.conv(self.net("GlobalAveragePool", x), labels)
        y, own = self.conv(self.net("Relu", y), own, len(labels))
        self.tie(own, labels)
        return self.net("Mul", x, self.net("Sigmoid", y)), labels

    def joined(self, x: str, labels: list[str]) -> tuple[str, list[str]]:
        other, more = self.dice.choice(self.pool)
        return self.net("Concat", x, other, axis=1), labels + more

    def halves(self, x: str, labels: list[str]) -> tuple[str, list[str]]:
        half = len(labels) // 2
        if half < 2:
            return self.norm(x, labels)
        sizes = self.net.const(self.name("sizes"), [half, len(labels) - half], np.int64)
        one, other = self.net.many("Split", x, sizes, out=["", ""], axis=1)
        y, own = self.conv(one, labels[:half])
        return self.net("Concat", other, y, axis=1), labels[half:] + own

    def picked(self, x: str, labels: list[str]) -> tuple[str, list[str]]:
        """Some of the channels, in another order."""
        if len(labels) < 3:
            return self.norm(x, labels)
        chosen = self.dice.sample(range(len(labels)), self.dice.randint(2, len(labels)))
        table = self.net.const(self.name("table"), chosen, np.int64)
        return self.net("Gather", x, table, axis=1), [labels[i] for i in chosen]

    def finish(self) -> ModelProto:
        """All that is unread, flattened into a linear layer; sometimes one is an output."""
        read = {name for node in self.net.nodes for name in node.input}
        tips = [tensor for tensor, _ in self.pool if tensor not in read]
        found = dict(self.pool)
        labels = [label for tip in tips for label in found[tip]]
        x = self.net("Concat", *tips, axis=1)
        flat = [label for label in labels for _ in range(SIZE * SIZE)]
        y = self.net.gemm("fc", self.net("Flatten", x), 2, len(flat))
        self.weigh("fc.weight", 1, flat)
        if self.dice.random() < 0.3:
            self.outer = [*self.outer, *found[tips[0]]]
            return self.net.model(y, tips[0])
        return self.net.model(y)

    # Answers

    def groups(self) -> set[frozenset[Coordinate]]:
        """The weights' coordinates of each channel that can go: made here, not in the interface."""
        found = set()
        for part in nx.connected_components(self.ties):
            own = frozenset(item for item in part if isinstance(item, tuple))
            if part & self.produced and not part & set(self.outer):
                found.add(own)
        return found


def removed(model: ModelProto, kept: Kept) -> ModelProto:
    """The model with every place sliced as it stands, and the attributes that count channels."""
    own = ModelProto()
    own.CopyFrom(model)
    own.graph.ClearField("value_info")
    for tensor in own.graph.initializer:
        array = numpy_helper.to_array(tensor)
        for axis in range(array.ndim):
            if (tensor.name, axis) in kept:
                array = array.take(kept[tensor.name, axis], axis)
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    tensors = {tensor.name: tensor for tensor in own.graph.initializer}
    for node in own.graph.node:
        _recount(node, tensors, kept)
    return onnx.shape_inference.infer_shapes(own, check_type=True, strict_mode=True, data_prop=True)


def _recount(node: NodeProto, tensors: Mapping[str, onnx.TensorProto], kept: Kept) -> None:
    def renew(name: str, values: list[int]) -> None:
        tensors[name].CopyFrom(numpy_helper.from_array(np.array(values, np.int64), name))

    if node.op_type == "Split":
        sizes = numpy_helper.to_array(tensors[node.input[1]]).tolist()
        pairs = zip(node.output, sizes, strict=True)
        renew(node.input[1], [len(kept.get((name, 1), range(size))) for name, size in pairs])
    elif node.op_type == "Gather" and (node.input[0], 1) in kept:
        table = numpy_helper.to_array(tensors[node.input[1]]).tolist()
        rows = kept[node.input[0], 1]
        mine = kept.get((node.output[0], 1), range(len(table)))
        renew(node.input[1], [rows.index(table[i]) for i in mine])
    elif node.op_type == "Conv":
        for attribute in node.attribute:
            if attribute.name == "group" and tensors[node.input[1]].dims[1] == 1:
                attribute.i = len(kept.get((node.input[0], 1), range(attribute.i)))


def silenced(model: ModelProto, gone: Mapping[tuple[str, int], list[int]]) -> ModelProto:
    """The model in which no weight reads these channels: zeroes along its input axis, 1."""
    own = ModelProto()
    own.CopyFrom(model)
    for tensor in own.graph.initializer:
        if (tensor.name, 1) in gone:
            array = numpy_helper.to_array(tensor).copy()
            array[:, gone[tensor.name, 1]] = 0
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return own
