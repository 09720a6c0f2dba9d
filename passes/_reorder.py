"""What a new order of dimensions means for one node: who shares it, and what is renumbered."""

import numpy as np
from onnx import NodeProto

from mcugraph.passes._edit import Array, Edit, Shape, attribute, is_op, set_attribute, slot

Perm = tuple[int, ...]

# Element by element: any order of dimensions will do. The second kind has further, scalar inputs.
_POINTWISE = frozenset("Add Div Max Mean Min Mul PRelu Pow Sub Sum".split())
_UNARY = frozenset(
    """Abs Cast Ceil Clip Elu Erf Exp Floor Gelu HardSigmoid HardSwish Identity LeakyRelu Log Mish
    Neg Reciprocal Relu Round Selu Sigmoid Sign Softplus Softsign Sqrt Swish Tanh""".split()
)
_QUANTIZERS = frozenset({"QuantizeLinear", "DequantizeLinear"})
# Along one axis, which is renumbered: its default.
_AXIS = {
    "Concat": 0,
    "Split": 0,
    "Softmax": -1,
    "LogSoftmax": -1,
    "QuantizeLinear": 1,
    "DequantizeLinear": 1,
}
_REDUCTIONS = frozenset("ReduceL1 ReduceL2 ReduceMax ReduceMean ReduceMin ReduceSum".split())
_RESHAPES = frozenset("Flatten Reshape Squeeze Unsqueeze".split())


def inverse(perm: Perm) -> Perm:
    return tuple(sorted(range(len(perm)), key=perm.__getitem__))


def then(first: Perm, second: Perm) -> Perm:
    """The permutation of transposing by `first`, then by `second`."""
    return tuple(first[i] for i in second)


def is_identity(perm: Perm) -> bool:
    return perm == tuple(range(len(perm)))


def keeps_data(perm: Perm, shape: Shape) -> bool:
    """Whether only dimensions of size 1 move."""
    moved = [axis for axis in perm if shape[axis] != 1]
    return moved == sorted(moved)


def perm_of(edit: Edit, node: NodeProto) -> Perm | None:
    perm, shape = attribute(node, "perm"), edit.shape(node.input[0])
    if perm is not None:
        return tuple(perm)
    return None if shape is None else tuple(reversed(range(len(shape))))


def is_interface(edit: Edit, node: NodeProto | None) -> bool:
    """Whether a quantiser stands right at a graph input or output: it stays there."""
    if node is None or not is_op(node, "QuantizeLinear", "DequantizeLinear"):
        return False
    if node.op_type == "QuantizeLinear":
        return node.input[0] in edit.inputs
    return node.output[0] in edit.outputs and not edit.users(node.output[0])


def tied(edit: Edit, node: NodeProto) -> list[str]:
    """Tensors that share one order of dimensions around the node; none where its order is fixed."""
    if any(not name for name in node.output) or not is_op(node, node.op_type):
        return []
    names = [*_data_inputs(edit, node), *node.output]
    ranks = {None if shape is None else len(shape) for shape in map(edit.shape, names)}
    if len(names) < 2 or len(ranks) != 1 or None in ranks or not any(names[: -len(node.output)]):
        return []
    return names if _has_plain_parameters(edit, node, *ranks) else []


def _data_inputs(edit: Edit, node: NodeProto) -> list[str]:
    if node.op_type in _POINTWISE:
        return [name for name in node.input if not is_constant_like(edit, name)]
    if node.op_type == "Concat":
        return list(node.input)
    simple = _UNARY | _QUANTIZERS | _REDUCTIONS | {"Split", "Softmax", "LogSoftmax", "Pad", "Slice"}
    if node.op_type not in simple or is_constant_like(edit, node.input[0]):
        return []
    return [node.input[0]]


def _has_plain_parameters(edit: Edit, node: NodeProto, rank: int | None) -> bool:
    """Whether everything that depends on the order is constant and can be renumbered."""
    if rank is None or attribute(node, "block_size", 0):
        return False
    if node.op_type in _POINTWISE:
        others = [edit.shape(name) for name in node.input]
        return all(shape is not None and len(shape) <= rank for shape in others)
    if node.op_type in _QUANTIZERS:
        return edit.constant(node.input[1]) is not None
    if node.op_type in _REDUCTIONS and attribute(node, "keepdims", 1) != 1:
        return False
    parameters = {"Pad": (1, 3), "Slice": (1, 2, 3)}.get(node.op_type, (1,))
    if node.op_type not in {*_REDUCTIONS, "Pad", "Slice"}:
        return True
    return all(edit.constant(slot(node, i)) is not None for i in parameters if slot(node, i))


def copy_dequantizer(edit: Edit, node: NodeProto, perm: Perm, name: str) -> str:
    """A DequantizeLinear of the permuted constant, in place where it has one reader."""
    if edit.sole_user(name) is None:
        copy = edit.add("DequantizeLinear", list(node.input), edit.fresh(name))
        copy.attribute.extend(node.attribute)
        node = copy
    value = np.asarray(edit.constant(node.input[0]))
    axis = attribute(node, "axis", 1) % max(value.ndim, 1) + len(perm) - value.ndim
    edit.replace_constant(node, 0, permuted(value, perm))
    if np.asarray(edit.constant(node.input[1])).size > 1:
        set_attribute(node, "axis", perm.index(axis))
    return str(node.output[0])


def permuted(value: Array, perm: Perm) -> Array:
    return value.reshape((1,) * (len(perm) - value.ndim) + value.shape).transpose(perm)


def is_constant_like(edit: Edit, name: str) -> bool:
    """A constant, or its DequantizeLinear by a whole scale or one per channel."""
    if edit.constant(name) is not None:
        return True
    node = edit.producer(name)
    return (
        node is not None
        and is_op(node, "DequantizeLinear")
        and not attribute(node, "block_size", 0)
        and all(edit.constant(i) is not None for i in node.input if i)
    )


def renumber(edit: Edit, node: NodeProto, perm: Perm) -> None:
    """Let a node whose tensors are all transposed by `perm` compute the same."""
    if node.op_type in _POINTWISE:
        _renumber_operands(edit, node, perm)
    elif node.op_type in _AXIS:
        if "Linear" not in node.op_type or np.asarray(edit.constant(node.input[1])).size > 1:
            axis = attribute(node, "axis", _AXIS[node.op_type]) % len(perm)
            set_attribute(node, "axis", perm.index(axis))
    elif node.op_type in _REDUCTIONS:
        renumber_axes(edit, node, perm)
    elif node.op_type == "Pad" and not slot(node, 3):
        pads = np.asarray(edit.constant(node.input[1]))
        order = [*perm, *(len(perm) + axis for axis in perm)]
        edit.replace_constant(node, 1, pads[order])
    elif node.op_type in ("Pad", "Slice"):
        _renumber_input(edit, node, 3, perm)


def _renumber_operands(edit: Edit, node: NodeProto, perm: Perm) -> None:
    for index, name in enumerate(list(node.input)):
        value = edit.constant(name)
        if value is not None and value.size > 1:
            edit.replace_constant(node, index, permuted(value, perm))
        elif value is None and is_constant_like(edit, name):
            maker = edit.producer(name)
            assert maker is not None
            copy = copy_dequantizer(edit, maker, perm, name)
            edit.set_input(node, index, copy)


def renumber_axes(edit: Edit, node: NodeProto, perm: Perm) -> None:
    """Axes of a reduction, as attribute or as input; none given means all."""
    given = attribute(node, "axes")
    if given is not None:
        set_attribute(node, "axes", sorted(perm.index(axis % len(perm)) for axis in given))
    elif slot(node, 1):
        _renumber_input(edit, node, 1, perm)


def _renumber_input(edit: Edit, node: NodeProto, index: int, perm: Perm) -> None:
    if slot(node, index):
        axes = np.asarray(edit.constant(node.input[index]))
    else:
        axes = np.arange(np.asarray(edit.constant(node.input[1])).size)
        edit.set_input(node, index, edit.store(f"{node.output[0]}__axes", axes))
    new = np.array([perm.index(int(axis) % len(perm)) for axis in axes], axes.dtype)
    edit.replace_constant(node, index, new)


def reduced_axes(edit: Edit, node: NodeProto, rank: int) -> list[int]:
    """Axes that a reduction with constant axes removes."""
    given = attribute(node, "axes")
    if given is None and slot(node, 1):
        given = np.asarray(edit.constant(node.input[1])).tolist()
    if not given and attribute(node, "noop_with_empty_axes", 0):
        return []
    return [axis % rank for axis in given] if given else list(range(rank))


def accepts(edit: Edit, node: NodeProto, name: str, perm: Perm) -> bool:
    """Whether a node of fixed order can just as well read or write a tensor in a new order."""
    if is_identity(perm):
        return True
    if is_op(node, *_RESHAPES) and name in (node.input[0], node.output[0]):
        ends = [edit.static_shape(end) for end in (node.input[0], node.output[0])]
        if None in ends or list(node.input).count(name) > 1:
            return False
        shape = edit.static_shape(name)
        return shape is not None and 0 not in shape and keeps_data(perm, shape)
    if is_op(node, *_REDUCTIONS) and name == node.input[0] and attribute(node, "keepdims", 1) != 1:
        if slot(node, 1) and edit.constant(node.input[1]) is None:
            return False
        gone = reduced_axes(edit, node, len(perm))
        kept = [axis for axis in perm if axis not in gone]
        return kept == sorted(kept)
    return False


def adapt(edit: Edit, node: NodeProto, before: Perm, shape: Shape) -> None:
    """Let a node that `accepts` an order work in it; `shape` is that of its output."""
    if is_op(node, *_REDUCTIONS):
        renumber_axes(edit, node, before)
        return
    node.op_type = "Reshape"
    del node.attribute[:]
    edit.set_input(node, 1, edit.store(f"{node.output[0]}__shape", np.array(shape)))


def fold_into_constant(edit: Edit, node: NodeProto) -> bool:
    """Transpose(w) -> w', Transpose(DequantizeLinear(w)) -> DequantizeLinear(w')."""
    name, target, perm = node.input[0], node.output[0], perm_of(edit, node)
    if perm is None or target in edit.outputs or not is_constant_like(edit, name):
        return False
    value, maker = edit.constant(name), edit.producer(name)
    alone = edit.sole_user(name) is not None and maker is None
    if value is None and maker is not None:
        copy = copy_dequantizer(edit, maker, perm, name)
        edit.remove(node)
        edit.rewire(target, copy)
        return True
    edit.remove(node)
    new = name if alone else edit.fresh(name)
    edit.place(new, np.asarray(value).transpose(perm))
    edit.rewire(target, new)
    return True


def to_reshape(edit: Edit, node: NodeProto) -> bool:
    """A Transpose that moves only dimensions of size 1."""
    perm, shape = perm_of(edit, node), edit.static_shape(node.input[0])
    if perm is None or shape is None or 0 in shape or not keeps_data(perm, shape):
        return False
    target = node.output[0]
    edit.remove(node)
    wanted = np.array([shape[axis] for axis in perm])
    edit.add("Reshape", [node.input[0], edit.store(f"{target}__shape", wanted)], target)
    return True
