"""Bounds of every tensor of a graph, node by node: interval analysis."""

from collections.abc import Callable, Sequence

from onnx import NodeProto

from mcugraph.passes import _range_moves, _range_rules, _range_units
from mcugraph.passes._edit import Array, Edit, is_op
from mcugraph.passes._intervals import Interval, collapsed, point, span
from mcugraph.passes._products import Product, product_of
from mcugraph.passes._range_site import Site

_RULES: dict[str, Callable[[Site], Interval | Sequence[Interval] | None]] = {
    **_range_moves.RULES,
    **_range_rules.RULES,
    **_range_units.RULES,
}


class Ranges:
    """Bounds of all tensors; integers are within their type, what is not known has none."""

    def __init__(self, edit: Edit) -> None:
        self.edit = edit
        self.products: list[Product] = []
        self._found: dict[str, Interval] = {}
        for node in edit.nodes:
            self._visit(node)

    def of(self, name: str) -> Interval:
        """The bounds of a tensor."""
        if name not in self._found:
            value = self.edit.constant(name)
            numeric = value is not None and value.dtype.kind in "fiub"
            found = point(value) if value is not None and numeric else self._anything(name)
            self._found[name] = found
        return self._found[name]

    def constant(self, name: str) -> Array | None:
        """The value of a tensor all of whose elements are told apart and known."""
        found = self.of(name) if name else None
        if found is None or found.low.shape != self.edit.static_shape(name):
            return None
        return found.value if found.known.all() else None

    def _anything(self, name: str) -> Interval:
        limits = _range_rules.limits(self.edit.dtype(name))
        return span(len(self.edit.shape(name) or ()), *limits)

    def _visit(self, node: NodeProto) -> None:
        names = [name for name in (*node.input, *node.output) if name]
        if any(self.edit.static_shape(name) is None for name in names):
            return
        found = self._results(Site(self.edit, node, self.of))
        for name, result in zip(node.output, found, strict=False):
            if name:
                self._found[name] = self._fitted(result, name)

    def _results(self, site: Site) -> Sequence[Interval]:
        node = site.node
        rank = len(site.shape()) if node.input and node.input[0] else 0
        product = product_of(node, rank, self.constant)
        if product is not None:
            self.products.append(product)
            return [_range_rules.product(site, product)]
        rule = _RULES.get(node.op_type) if is_op(node, node.op_type) else None
        result = rule(site) if rule is not None else None
        if result is None:
            return []
        return [result] if isinstance(result, Interval) else result

    def _fitted(self, result: Interval, name: str) -> Interval:
        """The interval, or one for all elements where it is not of the tensor's shape."""
        shape, sizes = self.edit.static_shape(name) or (), result.low.shape
        pairs = zip(sizes, shape, strict=False)
        if len(sizes) == len(shape) and all(size in (1, dim) for size, dim in pairs):
            return result
        whole = collapsed(result, range(len(sizes)))
        return whole.each(lambda array: array.reshape((1,) * len(shape)))
