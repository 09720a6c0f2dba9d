"""What the tensors of one node keep while a graph shrinks."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from onnx import NodeProto

from mcugraph.passes._edit import Array, Edit, Shape, attribute, set_attribute, slot

# Kept indices, ascending, of each axis that shrinks.
Keep = Mapping[int, Array]
ALL: Keep = {}


def same(one: Array | None, other: Array | None) -> bool:
    """Whether two axes keep the same; None keeps all."""
    if one is None or other is None:
        return one is other
    return np.array_equal(one, other)


def without(keep: Keep, *axes: int) -> Keep:
    return {axis: kept for axis, kept in keep.items() if axis not in axes}


def regrouped(keep: Keep, old: Sequence[int], new: Sequence[int]) -> Keep | None:
    """The same elements after a reshape; None where they are not whole slices of its axes."""
    if np.prod(old, dtype=np.int64) != np.prod(new, dtype=np.int64):
        return None
    mask = np.zeros(tuple(old), bool)
    kept = [keep.get(axis, np.arange(size)) for axis, size in enumerate(old)]
    mask[np.ix_(*kept)] = True
    mask = mask.reshape(tuple(new))
    axes = range(mask.ndim)
    found = [np.flatnonzero(mask.any(axis=tuple(a for a in axes if a != axis))) for axis in axes]
    if np.prod([len(indices) for indices in found]) != np.count_nonzero(mask):
        return None
    return {axis: found[axis] for axis in axes if len(found[axis]) < new[axis]}


@dataclass(frozen=True)
class Shrunk:
    """What is known of all tensors: their shapes before, what they keep, which are constants.

    `origins` are the constants of which others are clones.
    """

    edit: Edit
    keeps: dict[str, Keep]
    constants: dict[str, None]
    origins: dict[str, str]

    def shape(self, name: str) -> Shape | None:
        return self.edit.shape(self.origins.get(name, name))


class Site:
    """One node: what its outputs keep, and what that asks of its inputs.

    A rule reads `out` and `given`, states `need` for every input that shrinks, and puts right the
    attributes and shape operands of the node; it raises `refuse(...)` where it can't.
    """

    def __init__(self, shrunk: Shrunk, node: NodeProto) -> None:
        self.edit, self.node = shrunk.edit, node
        self.needs: dict[int, Keep] = {}
        self.seen: set[int] = set()
        self._shrunk = shrunk

    def label(self) -> str:
        """The node in the words of a message."""
        return f"{self.node.op_type} {self.node.name or self.node.output[0]}"

    def refuse(self, why: str) -> ValueError:
        return ValueError(f"cannot shrink {self.label()}: {why}")

    # What is known

    def out(self, index: int = 0) -> Keep:
        """What an output keeps."""
        self.seen.add(index)
        return self._shrunk.keeps.get(self.node.output[index], ALL)

    def only(self, *axes: int) -> Keep:
        """What the first output keeps, all of it on these axes."""
        out = self.out()
        for axis in without(out, *axes):
            raise self.refuse(f"axis {axis} of its output {self.node.output[0]} must stay whole")
        return out

    def given(self, index: int = 0) -> Keep | None:
        """What an input keeps; None for a constant, which keeps what its readers need."""
        name = slot(self.node, index)
        return None if name in self._shrunk.constants else self._shrunk.keeps.get(name, ALL)

    def shape(self, index: int = 0) -> tuple[int | None, ...]:
        """Shape of an input before the shrink."""
        return self._known(slot(self.node, index))

    def out_shape(self, index: int = 0) -> tuple[int | None, ...]:
        """Shape of an output before the shrink."""
        return self._known(self.node.output[index])

    def _known(self, name: str) -> tuple[int | None, ...]:
        shape = self._shrunk.shape(name)
        if shape is None:
            raise self.refuse(f"the shape of {name} is not known")
        return shape

    def size(self, axis: int, index: int = 0) -> int:
        """Length of an axis of an input before the shrink."""
        return self.size_of(self.shape(index), axis)

    def size_of(self, shape: Shape, axis: int) -> int:
        size = shape[axis]
        if size is None:
            raise self.refuse(f"the size of axis {axis} is not known")
        return size

    def axis(self, default: int, rank: int) -> int:
        """The attribute `axis`, counted from the front."""
        return int(attribute(self.node, "axis", default)) % max(rank, 1)

    # What is asked

    def need(self, index: int, keep: Keep) -> None:
        """Ask an input to keep just this; absent inputs and axes that stay whole are left out."""
        if not slot(self.node, index):
            return
        shape = self.shape(index) if keep else ()
        self.needs[index] = {
            axis: kept for axis, kept in sorted(keep.items()) if len(kept) != shape[axis]
        }

    def need_vector(self, index: int, kept: Array | None) -> None:
        """Ask a vector with one element per channel to shrink; a scalar stays."""
        if kept is None or not slot(self.node, index):
            return
        shape = self.shape(index)
        if shape and shape[-1] != 1:
            self.need(index, {len(shape) - 1: kept})

    # Numbers that are an attribute in old operator sets and an input in new ones

    def ints(self, index: int, name: str) -> Array | None:
        """Their value; None where they are absent or worked out at run time."""
        value = attribute(self.node, name)
        if value is not None:
            return np.asarray(value, np.int64)
        return self.edit.constant(slot(self.node, index))

    def put(self, index: int, name: str, values: Array | Iterable[int]) -> None:
        """Write them where they stand, else where this operator set has them."""
        old, new = self.ints(index, name), np.asarray(list(values), np.int64)
        if old is not None and np.array_equal(old, new):
            return
        if attribute(self.node, name) is not None:
            set_attribute(self.node, name, new.tolist())
        elif old is not None:
            self.edit.replace_constant(self.node, index, new.astype(old.dtype))
        else:
            base = f"{self.node.output[0]}__{name}"
            self.edit.set_input(self.node, index, self.edit.store(base, new))
