"""Transpose(f(Transpose(x))) -> f'(x)."""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass

from onnx import ModelProto, NodeProto

from mcugraph.passes._edit import Edit, is_op
from mcugraph.passes._reorder import (
    Perm,
    accepts,
    adapt,
    fold_into_constant,
    inverse,
    is_constant_like,
    is_identity,
    is_interface,
    keeps_data,
    perm_of,
    renumber,
    then,
    tied,
    to_reshape,
)

# A Transpose at a graph input or output is a choice of memory order, not a copy.
_AT_INTERFACE = 0.001
_AS_RESHAPE = 1e-6

# A tensor and its Transposes: one tensor in memory, once its order is chosen.
Bundle = list[str]


def eliminate_transposes(model: ModelProto) -> ModelProto:
    """Transpose(f(Transpose(x))) -> f'(x).

    Tensors that are tied by Transposes and by operators that work in any order of dimensions
    (element by element, quantisers, Concat, Split, Softmax, Pad, Slice, reductions) change their
    order together. Each such set takes the order that leaves the least to transpose, where its
    order is fixed: at Conv, pooling, Gemm, graph inputs and outputs. A Transpose at a graph input
    or output is nearly free. Transposes of constants are folded (through DequantizeLinear, too),
    and one that moves only dimensions of size 1 becomes a Reshape.
    """
    edit = Edit(model)
    while _sweep(edit):
        edit.refresh()
    return edit.finish()


def _sweep(edit: Edit) -> bool:
    transposes = [node for node in edit.nodes if is_op(node, "Transpose")]
    folded = [fold_into_constant(edit, node) for node in transposes]
    if any(folded) or _Layouts(edit).apply():
        return True
    reshaped = [to_reshape(edit, node) for node in transposes]
    return any(reshaped)


@dataclass
class _Move:
    """What becomes of a bundle: `prime` holds the chosen order, `originals` keep the old one."""

    root: str
    prime: str
    perms: dict[str, Perm]
    given: bool
    transposed: bool
    originals: list[str]
    readers: list[tuple[NodeProto, str]]


class _Layouts:
    """Which order every tensor takes: new = transpose(old, perms[name])."""

    def __init__(self, edit: Edit) -> None:
        self.edit = edit
        self.ties: dict[int, list[str]] = {id(node): [] for node in edit.nodes}
        self.turns: dict[int, Perm] = {}
        for node in edit.nodes:
            self._tie(node)
        self.offsets: dict[str, Perm] = {}
        self.components: list[list[str]] = []
        while not self._walk():
            self.offsets, self.components = {}, []
        self.perms = self._choice()

    def _is_start(self, name: str) -> bool:
        return name in self.edit.inputs or is_interface(self.edit, self.edit.producer(name))

    def _ends(self, users: list[NodeProto]) -> bool:
        return all(is_interface(self.edit, user) for user in users)

    def _tie(self, node: NodeProto) -> None:
        if not is_op(node, "Transpose"):
            fixed = is_interface(self.edit, node)
            self.ties[id(node)] = [] if fixed else tied(self.edit, node)
            return
        perm = perm_of(self.edit, node)
        if perm is not None and self.edit.shape(node.input[0]) is not None:
            self.turns[id(node)] = perm
            self.ties[id(node)] = [node.input[0], node.output[0]]

    # Sets of tensors whose orders depend on each other

    def _links(self) -> dict[str, list[tuple[str, Perm | None, int]]]:
        links: dict[str, list[tuple[str, Perm | None, int]]] = {}
        for node in self.edit.nodes:
            names, turn = self.ties.get(id(node), []), self.turns.get(id(node))
            for one, other in itertools.pairwise(names):
                forth = None if turn is None else inverse(turn)
                links.setdefault(one, []).append((other, forth, id(node)))
                links.setdefault(other, []).append((one, turn, id(node)))
        return links

    def _walk(self) -> bool:
        """Give each tensor its order relative to its set; unties a node that contradicts itself."""
        links = self._links()
        for start in links:
            if start in self.offsets:
                continue
            rank = len(self.edit.shape(start) or ())
            self.offsets[start] = tuple(range(rank))
            component = [start]
            for name in component:
                for other, turn, node in links[name]:
                    offset = self.offsets[name] if turn is None else then(turn, self.offsets[name])
                    if other not in self.offsets:
                        self.offsets[other] = offset
                        component.append(other)
                    elif self.offsets[other] != offset:
                        self.ties[node] = []
                        self.turns.pop(node, None)
                        return False
            self.components.append(component)
        return True

    # The cheapest order of each set

    def _choice(self) -> dict[str, Perm]:
        chosen: dict[str, Perm] = {}
        for component in self.components:
            bundles = self._bundles(component)
            now = self._present_cost(component)
            candidates = dict.fromkeys(inverse(self.offsets[name]) for name in component)
            costs = {root: self._cost(bundles, root) for root in candidates}
            best = min(costs, key=costs.__getitem__)
            if costs[best] < now * (1 - 1e-9):
                chosen.update({name: then(self.offsets[name], best) for name in component})
        return chosen

    def _bundles(self, component: list[str]) -> list[Bundle]:
        bundles: dict[str, Bundle] = {}
        for name in component:
            root = name
            while id(maker := self.edit.producer(root)) in self.turns and maker is not None:
                root = maker.input[0]
            bundle = bundles.setdefault(root, [root])
            if name != root:
                bundle.append(name)
        return list(bundles.values())

    def _refuses(self, node: NodeProto, name: str, perm: Perm) -> bool:
        """Whether a neighbour of a tensor insists on its present order."""
        return name not in self.ties[id(node)] and not accepts(self.edit, node, name, perm)

    def _is_given(self, root: str, perm: Perm) -> bool:
        """Whether a tensor comes in its present order and `perm` is another one."""
        maker = self.edit.producer(root)
        return not is_identity(perm) and (maker is None or self._refuses(maker, root, perm))

    def _insisting(self, name: str, perm: Perm) -> list[NodeProto]:
        users = self.edit.users(name)
        return [user for user in users if self._refuses(user, name, perm)]

    def _needs_original(self, name: str, perm: Perm) -> bool:
        return name in self.edit.outputs or bool(self._insisting(name, perm))

    def _needs_prime(self, bundle: Bundle, perms: Mapping[str, Perm]) -> bool:
        """Whether somebody reads the chosen order of a tensor that comes in another one."""
        for name in bundle:
            others = [user for user in self.edit.users(name) if id(user) not in self.turns]
            if len(others) > len(self._insisting(name, perms[name])):
                return True
            if name != bundle[0] and self._needs_original(name, perms[name]):
                return True
        return False

    def _cost(self, bundles: list[Bundle], order: Perm) -> float:
        total = 0.0
        for bundle in bundles:
            perms = {name: then(self.offsets[name], order) for name in bundle}
            given = self._is_given(bundle[0], perms[bundle[0]])
            if given and self._needs_prime(bundle, perms):
                total += self._weight(bundle[0], perms[bundle[0]], self._is_start(bundle[0]))
            for name in bundle[1 if given else 0 :]:
                if not is_identity(perms[name]) and self._needs_original(name, perms[name]):
                    free = self._ends(self._insisting(name, perms[name]))
                    total += self._weight(name, perms[name], free)
        return total

    def _present_cost(self, component: list[str]) -> float:
        total = 0.0
        for name in component:
            maker = self.edit.producer(name)
            if maker is None or id(maker) not in self.turns:
                continue
            free = self._ends(self.edit.users(name)) or self._is_start(maker.input[0])
            total += self._weight(maker.input[0], self.turns[id(maker)], free)
        return total

    def _weight(self, name: str, perm: Perm, at_interface: bool) -> float:
        shape = self.edit.shape(name) or ()
        if keeps_data(perm, shape):
            return _AS_RESHAPE
        if is_constant_like(self.edit, name):
            return 0.0
        return (1 + math.prod(dim or 1 for dim in shape)) * (_AT_INTERFACE if at_interface else 1)

    # The rewrite

    def apply(self) -> bool:
        """Rewrite the graph in the chosen orders; False where nothing can be saved."""
        if not self.perms:
            return False
        chosen = [component for component in self.components if component[0] in self.perms]
        moves = [self._plan(bundle) for part in chosen for bundle in self._bundles(part)]
        changes = self._changes()
        for node in list(self.edit.nodes):
            if id(node) in self.turns and node.output[0] in self.perms:
                self.edit.remove(node)
        for move in moves:
            self._move(move)
        for node, perm, shape in changes:
            if self.ties[id(node)]:
                renumber(self.edit, node, perm)
            else:
                adapt(self.edit, node, perm, shape)
        return True

    def _plan(self, bundle: Bundle) -> _Move:
        """All that is asked of the graph, before anything changes."""
        root, perms = bundle[0], {name: self.perms[name] for name in bundle}
        given = self._is_given(root, perms[root])
        originals = [
            name
            for name in bundle
            if self._needs_original(name, perms[name]) and not (given and name == root)
        ]
        same = [name for name in bundle if is_identity(perms[name])]
        same.sort(key=lambda name: (name != root, name not in self.edit.outputs))
        keep = not given and root not in originals
        prime = same[0] if same else root if keep else self.edit.fresh(f"{root}__t")
        readers = [
            (user, name)
            for name in bundle
            for user in self.edit.users(name)
            if id(user) not in self.turns and not self._refuses(user, name, perms[name])
        ]
        transposed = given and self._needs_prime(bundle, perms)
        return _Move(root, prime, perms, given, transposed, originals, readers)

    def _changes(self) -> list[tuple[NodeProto, Perm, tuple[int, ...]]]:
        """Nodes to renumber or adapt: the new order of the input, the new shape of the output."""
        changes: list[tuple[NodeProto, Perm, tuple[int, ...]]] = []
        for node in self.edit.nodes:
            if id(node) in self.turns or not node.input:
                continue
            if self.ties[id(node)]:
                perm = self.perms.get(self.ties[id(node)][0], ())
                if not is_identity(perm):
                    changes.append((node, perm, ()))
                continue
            before, after = (self._accepted(node, name) for name in (node.input[0], node.output[0]))
            if before or after:
                shape = self.edit.static_shape(node.output[0]) or ()
                wanted = tuple(shape[axis] for axis in after) if after else shape
                changes.append((node, before, wanted))
        return changes

    def _accepted(self, node: NodeProto, name: str) -> Perm:
        """The new order of a tensor that a node of fixed order goes along with, if any."""
        perm = self.perms.get(name, ())
        return () if is_identity(perm) or not accepts(self.edit, node, name, perm) else perm

    def _move(self, move: _Move) -> None:
        edit, maker = self.edit, self.edit.producer(move.root)
        if move.transposed:
            edit.add("Transpose", [move.root], move.prime, perm=move.perms[move.root])
        elif move.prime != move.root and maker is not None and not move.given:
            edit.set_output(maker, list(maker.output).index(move.root), move.prime)
        for user, name in move.readers:
            edit.reread(user, name, move.prime)
        prime = move.prime
        for name in sorted(move.originals, key=lambda name: is_identity(move.perms[name])):
            if not is_identity(move.perms[name]):
                edit.add("Transpose", [prime], name, perm=inverse(move.perms[name]))
            elif name != prime and edit.bypass(edit.add("Identity", [prime], name), prime):
                prime = name
