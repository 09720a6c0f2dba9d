"""The few safe verbs on a graph: every pass edits a private copy of the model through them.

Plain protos, not graphsurgeon, on purpose: an import and export through graphsurgeon drops the
nodes' metadata (the way back to torch modules), and its edges allow two producers of one name.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, TypeProto, helper, numpy_helper

from mcugraph.passes._nodes import (
    STANDARD,
    Array,
    Shape,
    all_nodes,
    attribute,
    constant_value,
    inferred,
    is_op,
    live,
    ordered,
    reads,
    refill,
    rename_read,
    set_attribute,
    slot,
    subgraphs,
)

__all__ = [
    "STANDARD",
    "Array",
    "Edit",
    "Shape",
    "attribute",
    "is_op",
    "reads",
    "set_attribute",
    "slot",
    "subgraphs",
]


class Edit:
    """A private copy of a model with its indexes; `finish` gives the model back.

    Nodes keep their identity between verbs; names stay unique; dead nodes are not shown; order,
    unused initializers and shapes are put right by `finish`, so verbs may come in any order.
    """

    def __init__(self, model: ModelProto) -> None:
        self._model = ModelProto()
        self._model.CopyFrom(model)
        self.changed = False
        self.inputs = [value.name for value in model.graph.input]
        self.outputs = [value.name for value in model.graph.output]
        self.nodes: list[NodeProto] = []
        self._initializers: dict[str, TensorProto] = {}
        self._producers: dict[str, NodeProto] = {}
        self._users: dict[str, list[NodeProto]] = {}
        self._arrays: dict[str, Array | None] = {}
        self._names: set[str] | None = None
        self._types: dict[str, TypeProto] | None = None
        self._index()

    def _index(self) -> None:
        graph = self._model.graph
        self._initializers = {tensor.name: tensor for tensor in graph.initializer}
        makers = {name: node for node in graph.node for name in node.output if name}
        self.nodes = live(graph.node, makers, self.outputs)
        self._producers = {name: node for node in self.nodes for name in node.output if name}
        self._users, self._arrays, self._names, self._types = {}, {}, None, None
        for node in self.nodes:
            self._enlist(node)

    # Questions

    @property
    def opset(self) -> int:
        """Version of the ONNX standard that the model imports."""
        return next((o.version for o in self._model.opset_import if o.domain in STANDARD), 1)

    def producer(self, name: str) -> NodeProto | None:
        """The node that computes a tensor."""
        return self._producers.get(name)

    def users(self, name: str) -> list[NodeProto]:
        """The nodes that read a tensor, in order; a body that reads it counts as its node."""
        return list(self._users.get(name, ()))

    def sole_user(self, name: str) -> NodeProto | None:
        """The only reader of a tensor that nobody else can see."""
        users = self._users.get(name, [])
        alone = len(users) == 1 and name not in self.outputs
        return users[0] if alone and list(users[0].input).count(name) == 1 else None

    def initializers(self) -> list[str]:
        """Names of the constants that no caller can override."""
        return [name for name in self._initializers if name not in self.inputs]

    def constant(self, name: str) -> Array | None:
        """Value of an initializer or of a Constant node's output."""
        if name not in self._arrays:
            self._arrays[name] = self._read(name)
        return self._arrays[name]

    def scalar(self, name: str) -> Any:
        """Value of a constant of one element, else None."""
        value = self.constant(name)
        return value.reshape(-1)[0] if value is not None and value.size == 1 else None

    def shape(self, name: str) -> Shape | None:
        """Shape of a tensor, None for an unknown dimension."""
        value = self.constant(name)
        if value is not None:
            return tuple(value.shape)
        kind = self._type(name)
        if kind is None or not kind.tensor_type.HasField("shape"):
            return None
        dims = kind.tensor_type.shape.dim
        return tuple(d.dim_value if d.HasField("dim_value") else None for d in dims)

    def static_shape(self, name: str) -> tuple[int, ...] | None:
        """Shape of a tensor whose dimensions are all known."""
        shape = self.shape(name)
        known = tuple(dim for dim in shape or () if dim is not None)
        return None if shape is None or len(known) < len(shape) else known

    def dtype(self, name: str) -> int:
        """Element type of a tensor (onnx.TensorProto.DataType); 0 where it is not known."""
        if name in self._initializers:
            return int(self._initializers[name].data_type)
        kind = self._type(name)
        return int(kind.tensor_type.elem_type) if kind is not None else 0

    # Verbs

    def fresh(self, base: str) -> str:
        """A name that nothing in the model has: base, base__1, base__2, ..."""
        taken = self._taken()
        name, count = base, 0
        while name in taken:
            count += 1
            name = f"{base}__{count}"
        taken.add(name)
        return name

    def store(self, base: str, value: Array) -> str:
        """Add an initializer; returns its name, derived from `base`."""
        name = self.fresh(base)
        self.place(name, value)
        return name

    def place(self, name: str, value: Array) -> None:
        """Set the initializer of exactly this name."""
        self._initializers[name] = numpy_helper.from_array(np.asarray(value, order="C"), name)
        self._arrays.pop(name, None)
        self._taken().add(name)
        self.changed = True

    def replace_constant(self, node: NodeProto, index: int, value: Array) -> None:
        """Give one node's constant input a new value; its name stays where nobody else reads it."""
        name = node.input[index]
        if name in self._initializers and name not in self.inputs and self.sole_user(name):
            self.place(name, value)
            return
        self.set_input(node, index, self.store(name, value))

    def add(self, op_type: str, inputs: Sequence[str], output: str, **attributes: Any) -> NodeProto:
        """Add a node of one output, named after that output."""
        if output in self._producers:
            raise AssertionError(f"{output} has two producers")
        node = helper.make_node(op_type, inputs, [output], name=f"{output}/{op_type}", **attributes)
        self.nodes.append(node)
        self._producers[output] = node
        self._taken().add(output)
        self._enlist(node)
        self.changed = True
        return node

    def remove(self, node: NodeProto) -> None:
        """Take a node out; its outputs are then free to be produced by another one."""
        self._strike(node)
        self.nodes = [other for other in self.nodes if other is not node]
        for name in node.output:
            self._producers.pop(name, None)
        self.changed = True

    def set_input(self, node: NodeProto, index: int, name: str) -> None:
        """Let a node read another tensor ("" takes an optional input away)."""
        self._strike(node)
        node.input.extend([""] * (index + 1 - len(node.input)))
        node.input[index] = name
        while node.input and not node.input[-1]:
            node.input.pop()
        self._enlist(node)
        self.changed = True

    def set_output(self, node: NodeProto, index: int, name: str) -> None:
        """Rename what a node produces; its readers are left as they are."""
        self._producers.pop(node.output[index], None)
        if name in self._producers:
            raise AssertionError(f"{name} has two producers")
        node.output[index] = name
        self._producers[name] = node
        self._taken().add(name)
        self.changed = True

    def rewire(self, old: str, new: str) -> None:
        """Let all readers of a tensor read another one."""
        for node in self.users(old):
            self.reread(node, old, new)

    def reread(self, node: NodeProto, old: str, new: str) -> None:
        """Let one node read another tensor wherever it reads `old`."""
        self._strike(node)
        rename_read(node, old, new)
        self._enlist(node)
        self.changed = True

    def bypass(self, node: NodeProto, source: str) -> bool:
        """Drop a node whose only output equals `source`; False where an interface name forbids it.

        A graph output keeps its name: the producer of `source` then takes that name over.
        """
        target = node.output[0]
        if target not in self.outputs:
            self.remove(node)
            self.rewire(target, source)
            return True
        maker = self.producer(source)
        if maker is None or source in self.outputs:
            return False
        self.remove(node)
        self.rewire(source, target)
        self.set_output(maker, list(maker.output).index(source), target)
        return True

    def declare(self, name: str, axis: int, size: int) -> None:
        """Tell a new size of what a foreign operator makes; known after `refresh`."""
        for value in (value for value in self._model.graph.value_info if value.name == name):
            value.type.tensor_type.shape.dim[axis].dim_value = size

    def drop_domain(self, domain: str) -> None:
        """Forget an operator set that no node uses any more."""
        if all(node.domain != domain for node in all_nodes(self.nodes)):
            kept = [o for o in self._model.opset_import if o.domain != domain]
            refill(self._model.opset_import, kept)

    def finish(self) -> ModelProto:
        """The model; unchanged, byte for byte, where no verb was used."""
        if self.changed:
            self.refresh()
        return self._model

    def refresh(self) -> None:
        """Work out shapes and types again, after edits that changed them."""
        graph = self._model.graph
        order = ordered(live(self.nodes, self._producers, self.outputs), self._producers)
        used = {name for node in order for name in reads(node)} | {*self.outputs, *self.inputs}
        foreign = {name for n in order if n.domain not in STANDARD for name in n.output}
        tensors = [tensor for name, tensor in self._initializers.items() if name in used]
        refill(graph.value_info, [value for value in graph.value_info if value.name in foreign])
        refill(graph.initializer, tensors)
        refill(graph.node, order)
        self._model.CopyFrom(inferred(self._model))
        self._index()

    # Inside

    def _read(self, name: str) -> Array | None:
        if name in self._initializers:
            return None if name in self.inputs else numpy_helper.to_array(self._initializers[name])
        node = self._producers.get(name)
        return constant_value(node) if node is not None and is_op(node, "Constant") else None

    def _enlist(self, node: NodeProto) -> None:
        for name in reads(node):
            self._users.setdefault(name, []).append(node)

    def _strike(self, node: NodeProto) -> None:
        for name in reads(node):
            self._users[name] = [other for other in self._users[name] if other is not node]

    def _taken(self) -> set[str]:
        if self._names is None:
            names = {*self.inputs, *self.outputs, *self._initializers}
            for node in all_nodes(self.nodes):
                names.update(node.output, node.input)
            self._names = names
        return self._names

    def _type(self, name: str) -> TypeProto | None:
        if self._types is None:
            graph = inferred(self._model).graph
            values = [*graph.value_info, *graph.input, *graph.output]
            self._types = {value.name: value.type for value in values}
        return self._types.get(name)
