"""The one verb of channel removal: some indices of some axes go, and all else follows."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from onnx import NodeProto

from mcugraph.passes._edit import STANDARD, Array, Edit, Shape, is_op, reads, subgraphs
from mcugraph.passes._keep import ALL, Keep, Shrunk, Site, same
from mcugraph.passes._shrink_rules import FOREIGN, RULES

_Reader = tuple[NodeProto, int]


def shrink(edit: Edit, kept: Mapping[tuple[str, int], Sequence[int]]) -> None:
    """Let tensors keep only these indices, given by (tensor, axis) for all that shrink together.

    Constants follow from the tensors that are computed with them, whether they are in `kept` or
    not: each reader gets the slice that it needs, and what readers share is cloned where their
    slices differ. Attributes and shape operands are put right. The nodes of `edit` are new
    afterwards. ValueError, naming the node, where the tensors do not fit together.
    """
    constants = _constants(edit)
    keeps = _keeps(edit, kept, constants)
    if keeps:
        shapes = {name: edit.shape(name) for node in edit.nodes for name in node.output if name}
        _Shrinking(edit, keeps, constants).run()
        _declare(edit, keeps)
        edit.changed = True
        edit.refresh()
        _check(edit, keeps, {n: s for n, s in shapes.items() if n not in constants})


def _constants(edit: Edit) -> dict[str, None]:
    """Initializers, and what is computed from nothing else by nodes of one output."""
    found = dict.fromkeys(edit.initializers())
    for node in edit.nodes:
        held = len(node.output) > 1 or any(subgraphs(node))
        made = is_op(node, "Constant") or bool(node.input)
        if made and not held and all(name in found for name in reads(node)):
            found[node.output[0]] = None
    return found


def _keeps(
    edit: Edit, kept: Mapping[tuple[str, int], Sequence[int]], constants: Mapping[str, None]
) -> dict[str, Keep]:
    """Kept indices by tensor, for the tensors that do shrink; constants follow later."""
    keeps: dict[str, dict[int, Array]] = {}
    for (name, axis), indices in kept.items():
        if name in constants:
            continue
        size, wanted = _size(edit, name, axis), np.asarray(indices, np.int64)
        if name in edit.inputs or name in edit.outputs:
            raise ValueError(f"{name} is an input or output of the model: it keeps its shape")
        if not wanted.size:
            raise ValueError(f"{name} would be empty: nothing is kept of its axis {axis}")
        if np.any(np.diff(wanted) <= 0) or wanted[0] < 0 or wanted[-1] >= size:
            raise ValueError(
                f"axis {axis} of {name}: kept indices ascend from 0 to {size - 1} at most, "
                f"they are {wanted.tolist()}"
            )
        if len(wanted) < size:
            keeps.setdefault(name, {})[axis] = wanted
    return dict(keeps)


def _size(edit: Edit, name: str, axis: int) -> int:
    if name not in edit.inputs and edit.producer(name) is None:
        raise ValueError(f"the model has no tensor {name}")
    shape = edit.shape(name)
    size = shape[axis] if shape is not None and 0 <= axis < len(shape) else None
    if size is None:
        raise ValueError(f"the size of axis {axis} of {name} is not known")
    return size


class _Shrinking:
    """From the last node to the first: what a node's readers need, it asks of its inputs."""

    def __init__(
        self, edit: Edit, keeps: Mapping[str, Keep], constants: Mapping[str, None]
    ) -> None:
        self._edit, self._shrunk = edit, Shrunk(edit, dict(keeps), dict(constants), {})
        self._demands: dict[tuple[int, int], tuple[NodeProto, Keep]] = {}

    def run(self) -> None:
        leaves = [*self._edit.initializers()]
        for node in reversed(list(self._edit.nodes)):
            name = node.output[0]
            if is_op(node, "Constant"):
                leaves.append(name)
            elif name in self._shrunk.constants:
                for copy in self._copies(node):
                    self._visit(copy)
            else:
                self._visit(node)
        for name in leaves:
            self._slice(name)

    def _visit(self, node: NodeProto) -> None:
        names, outputs = list(node.input), list(node.output)
        site = Site(self._shrunk, node)
        self._check_bodies(site)
        if any(self._shrinks(name) for name in (*names, *outputs)):
            _rule(site)(site)
        for index, name in enumerate(outputs):
            if self._shrinks(name) and index not in site.seen:
                raise site.refuse(f"its output {name} must stay whole")
        for index, name in enumerate(names):
            need = site.needs.get(index, ALL)
            if name in self._shrunk.constants:
                self._demands[id(node), index] = (node, need)
            elif name:
                _agree(site, name, need, self._shrunk.keeps.get(name, ALL))

    def _shrinks(self, name: str) -> bool:
        return bool(self._shrunk.keeps.get(name))

    def _check_bodies(self, site: Site) -> None:
        for name in sorted(reads(site.node) - set(site.node.input)):
            if self._shrinks(name):
                raise site.refuse(f"its body reads {name}")

    # Constants

    def _variants(self, name: str) -> list[tuple[Keep, list[_Reader]]]:
        """The slices of a constant that its readers need; a reader without index comes first."""
        edit = self._edit
        users = edit.users(name)
        inner = any(name not in user.input for user in users)
        whole: tuple[Keep, list[_Reader]] = (ALL, [])
        found = [whole] if inner or name in edit.outputs else []
        for user in users:
            for index in (i for i, other in enumerate(user.input) if other == name):
                _, need = self._demands.get((id(user), index), (user, ALL))
                match = next((readers for keep, readers in found if _equal(keep, need)), None)
                if match is None:
                    match = []
                    found.append((need, match))
                match.append((user, index))
        return found

    def _copies(self, node: NodeProto) -> list[NodeProto]:
        """A node that computes a constant, once for each slice of it; the first is itself."""
        edit, copies = self._edit, []
        for number, (keep, readers) in enumerate(self._variants(node.output[0])):
            copy = node
            if number:
                copy = edit.add(node.op_type, list(node.input), edit.fresh(node.output[0]))
                copy.domain = node.domain
                copy.attribute.extend(node.attribute)
                self._shrunk.constants[copy.output[0]] = None
                self._shrunk.origins[copy.output[0]] = node.output[0]
                self._reread(readers, copy.output[0], keep)
            self._shrunk.keeps[copy.output[0]] = keep
            copies.append(copy)
        return copies

    def _slice(self, name: str) -> None:
        edit, variants = self._edit, self._variants(name)
        if not any(keep for keep, _ in variants):
            return
        value = edit.constant(name)
        if value is None:
            raise ValueError(f"cannot shrink the constant {name}: it is not an array of numbers")
        for number, (keep, readers) in enumerate(variants):
            part = value
            for axis, kept in keep.items():
                part = np.take(part, kept, axis=axis)
            if not part.size:
                raise ValueError(f"the constant {name} would be empty")
            if number == 0 and edit.producer(name) is None:
                edit.place(name, part)
            elif number or keep:
                self._reread(readers, edit.store(name, part), keep)

    def _reread(self, readers: list[_Reader], name: str, keep: Keep) -> None:
        for user, index in readers:
            self._edit.set_input(user, index, name)
            self._demands[id(user), index] = (user, keep)


def _rule(site: Site) -> Callable[[Site], None]:
    rules = RULES if site.node.domain in STANDARD else FOREIGN
    rule = rules.get(site.node.op_type)
    if rule is None:
        raise site.refuse("this operator is not known here")
    return rule


def _equal(one: Keep, other: Keep) -> bool:
    return one.keys() == other.keys() and all(same(one[axis], other[axis]) for axis in one)


def _agree(site: Site, name: str, need: Keep, given: Keep) -> None:
    for axis in sorted(need.keys() | given.keys()):
        if not same(need.get(axis), given.get(axis)):
            raise site.refuse(
                f"it needs {_words(need.get(axis))} of axis {axis} of {name}, "
                f"which keeps {_words(given.get(axis))}"
            )


def _words(kept: Array | None) -> str:
    return "all" if kept is None else f"indices {kept.tolist()}"


def _declare(edit: Edit, keeps: Mapping[str, Keep]) -> None:
    """Shapes that inference does not work out: those behind operators of other domains."""
    for name, keep in keeps.items():
        node = edit.producer(name)
        if node is not None and node.domain not in STANDARD:
            for axis, kept in keep.items():
                edit.declare(name, axis, len(kept))


def _check(edit: Edit, keeps: Mapping[str, Keep], shapes: Mapping[str, Shape | None]) -> None:
    """No model leaves here in which a tensor has another shape than was asked for."""
    for name, before in shapes.items():
        node = edit.producer(name)
        if before is None or node is None:
            continue
        keep, after = keeps.get(name, ALL), edit.shape(name)
        wanted = tuple(len(keep[a]) if a in keep else dim for a, dim in enumerate(before))
        if after != wanted:
            raise ValueError(
                f"cannot shrink {node.op_type} {node.name or name}: {name} would have the shape "
                f"{after} instead of {wanted}; fold shape arithmetic first (fold_constants)"
            )
