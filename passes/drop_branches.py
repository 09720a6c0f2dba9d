"""a + f(x) -> a."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from onnx import ModelProto, NodeProto

from mcugraph.passes._edit import Edit, is_op, reads
from mcugraph.passes._flow import QUANTIZERS, Flow
from mcugraph.passes._layers import refuse

# Operators of several terms, and those whose weights make a branch worth dropping.
_SUMS = ("Add", "Sub", "Sum")
_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul", "GRU", "LSTM", "RNN")
_SHOWN = 8


@dataclass(frozen=True)
class Branch:
    """A term of a sum that can go: `tensor` is its result, by its name in the float model.

    `total` is the result of the sum, `weights` are the constants that nothing else reads.
    """

    tensor: str
    total: str
    weights: tuple[str, ...]


def find_branches(model: ModelProto) -> tuple[Branch, ...]:
    """The branches of a model of static shapes, in graph order; any one of them can go.

    Each is a term of an Add, Sub or Sum that does not broadcast, beside another one that is
    computed at run time; what computes it holds weights, and is needed for nothing else. Where all
    terms of a sum are branches, one has to stay.
    """
    edit = Edit(model)
    return tuple(term.branch(edit) for term in _terms(edit) if term.problem is None)


def drop_branches(model: ModelProto, names: Iterable[str]) -> ModelProto:
    """a + f(x) -> a.

    `names` are results f(x) of branches, in any order; of a quantised tensor, any of its names. One
    branch may lie in another. The result computes what the model would with zeroes in their place,
    exactly; the sum of integers is still rounded to its own scale. Raises ValueError with
    everything that is wrong.
    """
    edit = Edit(model)
    pending = list(dict.fromkeys(names))
    rivals: dict[str, _Term] = {}
    while pending:
        terms = list(_terms(edit))
        term = next((t for t in reversed(terms) if t.is_asked(pending)), None)
        if term is None:
            first = Edit(model)
            told = [_why(first, [*_terms(first), *terms], rivals, name) for name in pending]
            refuse("cannot drop branches", told)
            break
        within = {name for other in terms if other.node in term for name in other.names}
        pending = [name for name in pending if name not in within.union(term.names)]
        beside = (t for t in terms if t.node is term.node and t is not term)
        rivals |= {name: term for other in beside for name in other.names}
        _drop(edit, term)
        edit.refresh()
    return edit.finish()


@dataclass(frozen=True, eq=False)
class _Term:
    """One operand of a sum by all its names, the float model's first; `problem`: why it stays."""

    node: NodeProto
    index: int
    names: tuple[str, ...]
    cone: Sequence[NodeProto]
    problem: str | None

    def __contains__(self, node: NodeProto) -> bool:
        """Whether a node is needed for nothing else."""
        return any(each is node for each in self.cone)

    def is_asked(self, names: Iterable[str]) -> bool:
        """Whether it can go, and is to."""
        return self.problem is None and not set(self.names).isdisjoint(names)

    def branch(self, edit: Edit) -> Branch:
        """As others see it."""
        read = dict.fromkeys(name for node in self.cone for name in node.input)
        constants = (name for name in read if edit.constant(name) is not None)
        own = (name for name in constants if all(user in self for user in edit.users(name)))
        return Branch(self.names[0], str(self.node.output[0]), tuple(own))


def _terms(edit: Edit) -> Iterator[_Term]:
    flow = Flow(edit)
    for node in edit.nodes:
        for index, operand in enumerate(node.input if is_op(node, *_SUMS) else ()):
            names, cone = _names(edit, operand), _cone(edit, node, operand)
            problem = _problem(flow, edit, node, index) or _needed(edit, cone)
            yield _Term(node, index, names, cone, problem)


def _names(edit: Edit, operand: str) -> tuple[str, ...]:
    """A tensor by its name before it was quantised, as integers, and as real numbers again."""
    names = [operand]
    maker = edit.producer(operand)
    while maker is not None and is_op(maker, *QUANTIZERS):
        names.append(maker.input[0])
        maker = edit.producer(maker.input[0])
    return tuple(reversed(names))


def _cone(edit: Edit, total: NodeProto, operand: str) -> list[NodeProto]:
    """What reaches the outputs only through one operand of a sum."""
    wanted, needed = list(edit.outputs), set[int]()
    while wanted:
        node = edit.producer(wanted.pop())
        if node is not None and id(node) not in needed:
            needed.add(id(node))
            wanted.extend(reads(node) - ({operand} if node is total else set()))
    return [node for node in edit.nodes if id(node) not in needed]


def _problem(flow: Flow, edit: Edit, node: NodeProto, index: int) -> str | None:
    """Why an operand has to stay, as the sum says."""
    operand, total = node.input[index], node.output[0]
    others = [name for place, name in enumerate(node.input) if place != index]
    shapes = {edit.static_shape(name) for name in (*node.input, total)}
    if operand not in flow.moving:
        return "it is a constant"
    if operand in others:
        return f"{total} has it twice"
    if not any(name in flow.moving for name in others):
        return f"it is all that {total} is computed from"
    if index == 0 and is_op(node, "Sub"):
        return f"{others[0]} is subtracted from it"
    if len(shapes) > 1 or None in shapes:
        return f"{total} and its terms are not of one static shape"
    return None


def _needed(edit: Edit, cone: Sequence[NodeProto]) -> str | None:
    """Why an operand has to stay, as what computes it says."""
    if not any(is_op(node, *_WEIGHTED) for node in cone):
        return "nothing with weights is computed for it alone"
    own = {id(node) for node in cone}
    left = {name for node in edit.nodes if id(node) not in own for name in reads(node)}
    read = {name for node in cone for name in reads(node)}
    lost = [name for name in edit.inputs if name in read - left]
    return f"nothing else reads the input {lost[0]}" if lost else None


def _drop(edit: Edit, term: _Term) -> None:
    """Take the operand out, and a Relu that then follows another one.

    Between names of the interface there is an Identity then.
    """
    node = term.node
    left = [name for place, name in enumerate(node.input) if place != term.index]
    after = edit.sole_user(node.output[0])
    if len(left) == 1 and edit.bypass(node, left[0]):
        before = edit.producer(left[0])
        if after is not None and is_op(after, "Relu") and is_op(before, "Relu"):
            edit.bypass(after, left[0])
        return
    edit.remove(node)
    edit.add("Sum" if len(left) > 1 else "Identity", left, node.output[0])


def _why(edit: Edit, terms: Sequence[_Term], rivals: dict[str, _Term], name: str) -> str:
    """What is wrong with a name in a model; `terms` are its own, then those that are left."""
    known = [term.problem for term in terms if name in term.names and term.problem is not None]
    if name in rivals:
        other = rivals[name]
        return f"'{name}' and '{other.names[0]}' make {other.node.output[0]}: one has to stay"
    if known:
        return f"'{name}' has to stay: {known[0]}"
    names = dict.fromkeys(term.names[0] for term in terms if term.problem is None)
    there = f"branches: {', '.join(list(names)[:_SHOWN]) or 'none'}"
    near = get_close_matches(name, {each for term in terms for each in term.names}, _SHOWN)
    if edit.dtype(name) or edit.constant(name) is not None:
        return f"'{name}' is no term of a sum; {there}"
    return f"there is no tensor '{name}'; " + (f"near to it: {', '.join(near)}" if near else there)
