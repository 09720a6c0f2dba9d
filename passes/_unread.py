"""Which channels nothing reads: those that can go although nothing takes their place."""

from collections.abc import Iterator, Sequence

import numpy as np
from onnx import NodeProto

from mcugraph.passes._edit import Array, Edit, is_op, subgraphs
from mcugraph.passes._products import Product
from mcugraph.passes.channels import Channels

# Operators that compute each element of a channel from elements of that channel.
_CARRIERS = """Abs Add AveragePool BatchNormalization Cast Clip Concat DequantizeLinear Div Dropout
Elu Exp Flatten Gelu GlobalAveragePool GlobalMaxPool HardSigmoid HardSwish Identity LeakyRelu Max
MaxPool Min Mul Neg PRelu Pad QuantizeLinear ReduceMax ReduceMean ReduceMin Relu Reshape Resize
Sigmoid Softplus Sqrt Squeeze Sub Sum Tanh Transpose Unsqueeze""".split()
# Those that leave some of the elements out.
_PICKS = ("Gather", "Slice", "Split")

Place = tuple[str, int]


class Reading:
    """Channels by number, where they are in each tensor, and which of them are read.

    `replaced[i]` says which inputs of `products[i]` it can do without, as a bias takes their place.
    """

    def __init__(
        self, edit: Edit, channels: Channels, products: Sequence[Product], replaced: list[Array]
    ) -> None:
        self._edit = edit
        self._products, self._replaced = products, replaced
        self.places: dict[Place, Array] = {}
        self._count = 0
        for group in channels.groups:
            for number, place in enumerate(group.places):
                if place.name in group.tensors:
                    self._number(place.name, place.axis, [c[number] for c in group.channels])
            self._count += group.width

    def _number(self, name: str, axis: int, indices: Sequence[tuple[int, ...]]) -> None:
        shape = self._edit.shape(name) or ()
        numbers = self.places.setdefault((name, axis), np.full(shape[axis] or 0, -1))
        for channel, own in enumerate(indices, self._count):
            numbers[list(own)] = channel

    def unread(self) -> Array:
        """The channels that may go, by number; of every axis at least one stays."""
        kept = self._roots()
        while True:
            live, forced = self._spread(kept), kept.copy()
            for numbers in self.places.values():
                if np.all(numbers >= 0) and not live[numbers].any():
                    forced[numbers[0]] = True
            if np.array_equal(forced, kept):
                return ~live
            kept = forced

    def left(self, gone: Array) -> dict[Place, list[int]]:
        """The indices that stay, where some go."""
        found = {place: np.flatnonzero(~self.at(place, gone)) for place in self.places}
        sizes = {place: len(numbers) for place, numbers in self.places.items()}
        return {p: kept.tolist() for p, kept in found.items() if len(kept) < sizes[p]}

    def at(self, place: Place, marks: Array) -> Array:
        """Marks of channels along an axis of a tensor; what is no channel is not marked."""
        numbers = self.places.get(place)
        if numbers is None:
            return np.zeros(1, bool)
        return np.asarray((numbers >= 0) & marks[numbers])

    def _roots(self) -> Array:
        """The channels that are read otherwise than by weights, or by who knows what."""
        found = np.zeros(self._count, bool)
        by_weights = {id(product.node): product for product in self._products}
        for node in self._edit.nodes:
            product = by_weights.get(id(node))
            for index, name in enumerate(node.input):
                for place, numbers in self._places_of(name):
                    if product is None or index or place[1] != product.axis:
                        found[self._ends(node, numbers)] = True
            # A recurrent layer reads what it makes.
            if product is None and not _carries(node):
                for name in node.output:
                    for _, numbers in self._places_of(name):
                        found[numbers] = True
        return found

    def _places_of(self, name: str) -> Iterator[tuple[Place, Array]]:
        for axis in range(len(self._edit.shape(name) or ()) if name else 0):
            if (name, axis) in self.places:
                numbers = self.places[name, axis]
                yield (name, axis), np.unique(numbers[numbers >= 0])

    def _ends(self, node: NodeProto, numbers: Array) -> Array:
        """The channels that do not go on behind a node, but are read there."""
        if not _carries(node):
            return numbers
        if is_op(node, *_PICKS):
            return numbers[:0]
        carried = [n for name in node.output for _, n in self._places_of(name)]
        return np.setdiff1d(numbers, np.concatenate([numbers[:0], *carried]))

    def _spread(self, kept: Array) -> Array:
        """From the channels that must stay to those from which weights compute them."""
        live, before = kept.copy(), -1
        while before != live.sum():
            before = live.sum()
            for product, replaced in zip(self._products, self._replaced, strict=True):
                numbers = self.places.get((product.x, product.axis))
                if numbers is None:
                    continue
                wanted = self._wanted(product, live)
                free = replaced & ~self.at((product.x, product.axis), kept)
                read = product.reads(wanted) & ~free & (numbers >= 0)
                live[numbers[read]] = True
        return live

    def _wanted(self, product: Product, live: Array) -> Array:
        numbers = self.places.get((product.y, product.axis))
        if numbers is None:
            return np.ones(product.outputs, bool)
        return np.asarray((numbers < 0) | live[numbers])


def _carries(node: NodeProto) -> bool:
    return is_op(node, *_CARRIERS, *_PICKS) and not any(subgraphs(node))
