"""The ties of a whole graph: one rule a node, then what its interface and its sizes fix."""

from collections.abc import Iterator, Mapping

from onnx import NodeProto

from mcugraph.passes import _tie_integer, _tie_moves, _tie_plain, _tie_weights
from mcugraph.passes._edit import STANDARD, Edit, reads, subgraphs
from mcugraph.passes._ties import Site, Ties

_DOMAINS = (*STANDARD, "com.microsoft")
_RULES = {**_tie_plain.RULES, **_tie_moves.RULES, **_tie_weights.RULES, **_tie_integer.RULES}


def tie_graph(edit: Edit) -> Ties:
    """Tie all coordinates of a graph; constants that are read twice count as one."""
    ties = Ties(edit)
    for kind, names in (("input", edit.inputs), ("output", edit.outputs)):
        for name in names:
            ties.enter(name)
            for ids in ties.axes.get(name, ()):
                ties.fix(ids, f"the graph {kind} '{name}' has it")
    for node in _in_order(ties):
        _tie_node(ties, node)
    for name, axes in ties.axes.items():
        for ids in axes:
            if len(ids) == 1:
                ties.fix(ids, f"'{name}' has no other channel")
    ties.settle()
    return ties


def _in_order(ties: Ties) -> Iterator[NodeProto]:
    """The nodes in their order, but what prepares a weight just before the node that uses it."""
    nodes = ties.edit.nodes
    makers = {name: node for node in nodes for name in node.output if ties.is_constant(name)}
    done: set[int] = set()
    for node in nodes:
        if not any(name in makers for name in node.output):
            yield from _preparations(node, makers, done)
            yield node


def _preparations(
    node: NodeProto, makers: Mapping[str, NodeProto], done: set[int]
) -> Iterator[NodeProto]:
    for maker in (makers[name] for name in node.input if name in makers):
        if id(maker) not in done:
            done.add(id(maker))
            yield from _preparations(maker, makers, done)
            yield maker


def _tie_node(ties: Ties, node: NodeProto) -> None:
    names = dict.fromkeys([*node.input, *sorted(reads(node)), *node.output])
    unknown = [name for name in names if name and not ties.enter(name)]
    site = Site(
        ties, node, tuple(names) if any(subgraphs(node)) else (*node.input,), (*node.output,)
    )
    rule = _RULES.get(node.op_type) if node.domain in _DOMAINS else None
    reason = _obstacle(node, rule is not None, unknown)
    if rule is not None and not reason:
        rule(site)
    elif node.op_type != "Constant":
        site.fix_all(reason)


def _obstacle(node: NodeProto, is_known: bool, unknown: list[str]) -> str:
    if any(subgraphs(node)):
        return "has a body that reads or makes it"
    if not is_known:
        return "is an operator whose channels are not known"
    hint = "" if node.domain in STANDARD else "; make it QDQ first: qoperator_to_qdq"
    return f"has '{unknown[0]}', whose shape is not known{hint}" if unknown else ""
