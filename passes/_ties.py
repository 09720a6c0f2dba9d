"""What goes together in a graph: indices of the axes of tensors and weights."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import NodeProto

from mcugraph.passes._edit import Array, Edit, attribute, is_op
from mcugraph.passes._tie_classes import Classes, Ids

# What a weight may pass on its way to the operator that uses it.
_CARRIERS = ("Cast", "DequantizeLinear", "Identity", "QuantizeLinear", "Transpose")


@dataclass(frozen=True, eq=False)
class Fold:
    """A flat axis and the axes whose product it is, outermost first: one of them goes with it."""

    reason: str
    flat: Ids
    factors: tuple[Ids, ...]


class Ties(Classes):
    """The classes of all coordinates (name, axis, index), the roles of weights, and folds."""

    def __init__(self, edit: Edit) -> None:
        super().__init__()
        self.edit = edit
        self.axes: dict[str, tuple[Ids, ...]] = {}
        self.roles: dict[tuple[str, int], str] = {}
        self.operands: dict[tuple[str, int], None] = {}
        self.folds: list[Fold] = []
        self._batched: list[Ids] = []
        self._constant: dict[str, bool] = {}

    def enter(self, name: str) -> bool:
        """Give a tensor its coordinates; False where its rank is not known."""
        if name not in self.axes:
            shape = self.edit.shape(name)
            if shape is None:
                return False
            self.axes[name] = tuple(self.fresh(dim or 0) for dim in shape)
        return True

    def prefer(self, ids: Ids) -> None:
        """Mark the batch axis of a product (attention heads): a fold goes with it if it can."""
        self._batched.append(ids)

    def settle(self) -> None:
        """Tie every fold to one of its factors: those that leave no choice first."""
        while self.folds:
            fold = next((fold for fold in self.folds if self._is_forced(fold)), self.folds[0])
            self.folds.remove(fold)
            ranks = [self._rank(ids) for ids in fold.factors]
            self._tie_fold(fold, ranks.index(max(ranks)))

    def is_constant(self, name: str) -> bool:
        """Whether a tensor depends on nothing but constants."""
        if name not in self._constant:
            node = self.edit.producer(name)
            given = [] if node is None else [entry for entry in node.input if entry]
            known = self.edit.constant(name) is not None
            self._constant[name] = known or (bool(given) and all(map(self.is_constant, given)))
        return self._constant[name]

    def assign(self, name: str, axis: int, role: str) -> None:
        """Note the role of an axis of a weight; nothing where the operand is no constant.

        The role is that of the initializer; what it becomes on its way (dequantised, transposed)
        goes to `operands` where the axis is an output.
        """
        if not self.is_constant(name):
            return
        path = [*self._path(name, axis % len(self.axes[name]))]
        self.roles.setdefault(path[-1], role)
        for place in path[:-1]:
            if role == "output":
                self.operands.setdefault(place)

    def _path(self, name: str, axis: int) -> Iterator[tuple[str, int]]:
        """From a constant tensor to the initializer that it is computed from."""
        yield name, axis
        node = self.edit.producer(name)
        if node is None or not is_op(node, *_CARRIERS):
            return
        if is_op(node, "Transpose"):
            axis = attribute(node, "perm", tuple(reversed(range(len(self.axes[name])))))[axis]
        yield from self._path(node.input[0], axis)

    def _is_open(self, ids: Ids) -> bool:
        return not self.fixed(ids).all()

    def _is_forced(self, fold: Fold) -> bool:
        count = sum(map(self._is_open, fold.factors))
        return count < 2 or not self._is_open(fold.flat)

    def _rank(self, ids: Ids) -> tuple[bool, bool, int]:
        heads = np.isin(self.roots(ids), self.roots(np.concatenate([ids[:0], *self._batched])))
        return self._is_open(ids), bool(heads.any()), len(ids)

    def _tie_fold(self, fold: Fold, chosen: int) -> None:
        for index, ids in enumerate(fold.factors):
            if index != chosen:
                self.fix(ids, fold.reason)
        grid = np.indices([len(ids) for ids in fold.factors])[chosen].reshape(-1)
        self.tie(fold.flat, fold.factors[chosen][grid])


@dataclass(frozen=True)
class Site:
    """One node as a rule sees it: its data inputs, its outputs, and the verbs of `Ties`."""

    ties: Ties
    node: NodeProto
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def input(self, index: int) -> str:
        """Name of an input, "" where it is absent."""
        return self.inputs[index] if index < len(self.inputs) else ""

    def attribute(self, name: str, default: Any = None) -> Any:
        """Value of an attribute of the node."""
        return attribute(self.node, name, default)

    def constant(self, index: int) -> Array | None:
        """Value of an input that is a constant."""
        return self.ties.edit.constant(self.input(index))

    def rank(self, name: str) -> int:
        """Number of axes."""
        return len(self.ties.axes[name])

    def ids(self, name: str, axis: int) -> Ids:
        """Coordinates of an axis."""
        return self.ties.axes[name][axis]

    def sizes(self, name: str) -> tuple[int, ...]:
        """Length of each axis, 0 where it is not known."""
        return tuple(len(ids) for ids in self.ties.axes[name])

    def tie(self, some: Ids, others: Ids) -> None:
        """Tie two axes index by index; axes of different or unknown lengths are fixed instead."""
        if len(some) == len(others):
            self.ties.tie(some, others)
            return
        self.fix(some, "has it in two sizes")
        self.fix(others, "has it in two sizes")

    def tie_axes(self, one: str, other: str, leave: Sequence[int] = ()) -> None:
        """Tie two tensors of one rank axis by axis, but for those to `leave`."""
        left = {axis % self.rank(one) for axis in leave}
        for axis in range(self.rank(one)):
            if axis not in left:
                self.tie(self.ids(one, axis), self.ids(other, axis))

    def spread(self, name: str, target: str) -> None:
        """Tie an operand to the tensor that it is broadcast to; axes of length 1 stay free."""
        for axis in range(1, min(self.rank(name), self.rank(target)) + 1):
            if len(self.ids(name, -axis)) != 1:
                self.tie(self.ids(name, -axis), self.ids(target, -axis))

    def fix(self, ids: Ids, what: str) -> None:
        """Say that the node makes it impossible: `what` completes the sentence."""
        self.ties.fix(ids, f"{self.label} {what}")

    def fix_all(self, what: str) -> None:
        """Fix every axis of all that the node reads and writes; take its constants for weights."""
        for name in dict.fromkeys([*self.inputs, *self.outputs]):
            axes = self.ties.axes.get(name, ())
            for axis, ids in enumerate(axes):
                self.fix(ids, what)
                if len(axes) > 1 and axis < 2:
                    self._assign(name, axis, ("output", "input")[axis])

    def produces(self, name: str, axis: int) -> None:
        """Note the output axis of a weight."""
        self._assign(name, axis, "output")

    def consumes(self, name: str, axis: int) -> None:
        """Note the input axis of a weight."""
        self._assign(name, axis, "input")

    def _assign(self, name: str, axis: int, role: str) -> None:
        if not self.ties.is_constant(self.outputs[0]):
            self.ties.assign(name, axis, role)

    @property
    def label(self) -> str:
        """The node in words."""
        return f"{self.node.op_type} '{self.node.name or self.node.output[0]}'"


# What one operator ties.
Rule = Callable[[Site], None]
