"""Branches while a network is trained: a gate for each, what it takes, and what it is worth.

In y = a + f(x), a gate g from 0 to 1 is multiplied into the operator that f ends in, so that
y = a + g f(x).
With R(n) what the network takes of a resource by its channel counts n, and R_b(n) the same without
branch b, both as the compiler counts,

    R(n, g) = R(n) - sum_b (1 - g_b) (R(n) - R_b(n)).

Without the branch, the sum changes by the share e = E|s(y) - s(a)|^2 / E|s(y)|^2 of its energy, s
being the activation behind it: that costs -log(1 - e) at each of its readers, as channels do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf

import torch
from torch import Tensor

from mcugraph.passes.channels import Channels
from mcugraph.passes.drop_branches import Branch, drop_branches, find_branches
from mcugraph.prune.network import Network, Node
from mcugraph.prune.processes import average
from mcugraph.prune.readers import Scale, weight_axes
from mcugraph.prune.resources import Resources
from mcugraph.prune.salience import MOST

# Operators whose results are in proportion to their inputs, and what a gate multiplies of others.
PROPORTIONAL = """
AveragePool Dropout Flatten GlobalAveragePool GlobalMaxPool Identity LeakyRelu MaxPool PRelu Relu
Reshape Squeeze Transpose Unsqueeze
""".split()
SCALED = {
    **dict.fromkeys(("BatchNormalization", "Conv", "ConvTranspose", "Gemm"), (1, 2)),
    "MatMul": (0, 1),
}
ACTIVATIONS = ("Elu", "HardSigmoid", "HardSwish", "LeakyRelu", "Relu", "Sigmoid", "Tanh")


class Without:
    """What a network takes without one branch, by the channel counts that it has with it."""

    def __init__(self, resources: Resources, branch: Branch) -> None:
        self.branch = branch
        self._own = resources.without(drop_branches(resources.model, [branch.tensor]))
        self._per, self._rest = _carried(resources.channels, self._own.channels)

    def value(self, name: str, counts: Tensor) -> Tensor:
        """How much of a resource."""
        return self._own.value(name, self._per @ counts.double() + self._rest)

    def excess(self, counts: Tensor, limits: Mapping[str, float]) -> float:
        """What is above the limits, in units of each."""
        return float(self._own.excess(self._per @ counts.double() + self._rest, limits))


def _carried(before: Channels, after: Channels) -> tuple[Tensor, Tensor]:
    """(per, rest): counts after are per @ counts before + rest; those that could not go before."""
    home = {place: number for number, group in enumerate(before.groups) for place in group.places}
    per = torch.zeros(len(after.groups), len(before.groups), dtype=torch.float64)
    rest = torch.zeros(len(after.groups), dtype=torch.float64)
    for row, group in enumerate(after.groups):
        column = next((home[place] for place in group.places if place in home), None)
        if column is None:
            rest[row] = group.width
        else:
            per[row, column] = group.width / before.groups[column].width
    return per, rest


def without_each(resources: Resources) -> list[Without]:
    """One for each branch of the model, in graph order."""
    return [Without(resources, branch) for branch in find_branches(resources.model)]


@dataclass(eq=False)
class Side:
    """One branch of a network in training.

    Its gate multiplies `scale`, if that has weights; `sign` is -1 where it is subtracted; `energy`
    holds the sums over batches of E|s(y) - s(a)|^2 and E|s(y)|^2.
    """

    without: Without
    scale: Scale
    sign: int
    activation: Node | None
    readers: int
    energy: Tensor = field(default_factory=lambda: torch.zeros(2, dtype=torch.float64))

    @property
    def branch(self) -> Branch:
        """Where it is."""
        return self.without.branch

    def see(self, seen: Mapping[str, Tensor]) -> None:
        """Take in one batch."""
        whole, part = seen[self.branch.total].float(), seen[self.branch.tensor].float()
        rest = whole - self.sign * part
        if self.activation is not None:
            node = self.activation
            whole, rest = (node.function([x], node.attributes) for x in (whole, rest))
        parts = [(whole - rest).square().mean(), whole.square().mean()]
        self.energy += torch.stack(parts).double().cpu()

    def loss(self, importance: str, weights: Mapping[str, Tensor]) -> float | None:
        """What it costs to drop; None where it was not seen, inf where that can't be compared."""
        changed, whole = self.energy.tolist()
        if not whole:
            return None
        if importance == "surgeon":
            share = torch.tensor(changed / whole, dtype=torch.float64).clamp(max=MOST)
            return -self.readers * float(torch.log1p(-share))
        own = [weights[name] for name in self.scale.weights]
        grown = [(weight * weight.grad).sum() for weight in own if weight.grad is not None]
        return abs(float(torch.stack(grown).sum())) if importance == "taylor" and grown else inf


class Branches:
    """All branches of a network; none where there is nothing to decide any more."""

    def __init__(
        self, network: Network, withouts: Sequence[Without], groups: Mapping[str, int]
    ) -> None:
        """`groups` gives the number of readers of a tensor's channels by its name."""
        self._network = network
        self.sides = [self._side(without, groups) for without in withouts]

    @property
    def scales(self) -> list[Scale]:
        """What each branch's gate multiplies."""
        return [side.scale for side in self.sides]

    @property
    def watched(self) -> set[str]:
        """The tensors that `see` wants."""
        return {name for s in self.sides for name in (s.branch.tensor, s.branch.total)}

    def see(self, seen: Mapping[str, Tensor]) -> None:
        """Take in one batch."""
        for side in self.sides:
            side.see(seen)

    def average(self) -> None:
        """Let all processes know what each has seen."""
        for side in self.sides:
            average(side.energy)

    def remember(self, others: Iterable[Side]) -> None:
        """Take over what was seen of the same branches."""
        known = {side.branch.tensor: side.energy for side in others}
        for side in self.sides:
            side.energy = known.get(side.branch.tensor, side.energy)

    def excess(
        self,
        resources: Resources,
        counts: Tensor,
        gates: Sequence[Tensor],
        limits: Mapping[str, float],
    ) -> Tensor:
        """sum_r relu(R_r(n, g) / B_r - 1)."""
        if not self.sides:
            return resources.excess(counts, limits)
        parts = []
        for name, limit in limits.items():
            used = whole = resources.value(name, counts)
            for side, gate in zip(self.sides, gates, strict=True):
                used = used - (1 - gate.cpu()) * (whole - side.without.value(name, counts))
            parts.append(torch.relu(used / limit - 1))
        return torch.stack(parts).sum() if parts else counts.new_zeros(())

    def _side(self, without: Without, groups: Mapping[str, int]) -> Side:
        nodes, total = self._network.nodes, without.branch.total
        after = [node for node in nodes if total in node.inputs]
        alone = len(after) == 1 and after[0].op in ACTIVATIONS
        subtracts = any(node.op == "Sub" and total in node.outputs for node in nodes)
        return Side(
            without,
            scale=scale_of(self._network, without.branch.tensor),
            sign=-1 if subtracts else 1,
            activation=after[0] if alone else None,
            readers=max(1, groups.get(total, 0)),
        )


def scale_of(network: Network, tensor: str) -> Scale:
    """That of the operator that a tensor comes from, with biases added behind it."""
    makers = {name: node for node in network.nodes for name in node.outputs}
    weights, found, node = network.weights, list[str](), makers.get(tensor)
    while node is not None and (node.op in PROPORTIONAL or _adds_bias(node, weights)):
        found += [name for name in node.inputs if name in weights and node.op == "Add"]
        node = next((makers[name] for name in node.inputs if name in makers), None)
    if node is None or node.op not in SCALED:
        return Scale()
    given = [node.inputs[slot] for slot in SCALED[node.op] if slot < len(node.inputs)]
    own = [name for name in given if name and name not in (*makers, *network.inputs)]
    read = Counter(name for each in network.nodes for name in each.inputs)
    fine = all(name in weights and read[name] == 1 for name in (*own, *found))
    if not (own and fine):
        return Scale()
    first, place = weights[own[0]], list(node.inputs).index(own[0])
    axes = weight_axes(node, place, first.dim())
    return Scale((*own, *found), first.shape[0 if axes is None else axes[1]])


def _adds_bias(node: Node, weights: Mapping[str, Tensor]) -> bool:
    return node.op == "Add" and any(name in weights for name in node.inputs)
