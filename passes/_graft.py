"""A classifier grafted onto a tensor of a model."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from onnx import ModelProto, NodeProto, checker, helper, inliner, version_converter

from mcugraph.passes._edit import STANDARD, Array, Edit, Shape, is_op, subgraphs
from mcugraph.passes._flow import INTEGERS, Flow, attachable, channel_axis, grid_of, integer_form
from mcugraph.passes._nodes import reads
from mcugraph.passes._part import rewritten
from mcugraph.passes.heads import PREFIX, Head, head_model


@dataclass(frozen=True)
class Joint:
    """Where a head goes: it reads `root`, or what a new DequantizeLinear of these inputs makes."""

    root: str
    dequantizer: tuple[str, ...]
    head: ModelProto


def joint_of(edit: Edit, tensor: str, head: Head | ModelProto, prefix: str = PREFIX) -> Joint:
    """Check that a head fits a tensor; ValueError says why it does not.

    A float head reads the dequantised form of a quantised tensor, an integer head the stored one.
    """
    attachable(edit, Flow(edit), tensor)
    if isinstance(head, Head):
        root, dequantizer = _real_form(edit, tensor)
        shape = _image(edit, tensor, root)
        return Joint(root, dequantizer, head_model(head, shape, edit.opset, prefix))
    own = _checked(head)
    if own.graph.input[0].type.tensor_type.elem_type in INTEGERS:
        joint = Joint(integer_form(edit, tensor), (), own)
        _check_grid(edit, joint)
    else:
        joint = Joint(*_real_form(edit, tensor), own)
    _check_type(edit, joint)
    return joint


def graft(model: ModelProto, joint: Joint, base: str) -> tuple[ModelProto, str]:
    """The model with the head, whose output is one more output, and the name of that: `base`.

    What the head calls as the model does gets a suffix: name__1.
    """
    own, head = _alike(rewritten(model), joint.head)
    edit = Edit(own)
    source = joint.root
    if joint.dequantizer:
        source = edit.fresh(f"{joint.root}_DequantizeLinear_Output")
        made = helper.make_node("DequantizeLinear", joint.dequantizer, [source], name=source)
        own.graph.node.append(made)
    names = {"": "", head.graph.input[0].name: source}
    names[head.graph.output[0].name] = output = edit.fresh(base)
    for tensor in head.graph.initializer:
        names[tensor.name] = edit.fresh(tensor.name)
        own.graph.initializer.add().CopyFrom(tensor)
        own.graph.initializer[-1].name = names[tensor.name]
    for node in head.graph.node:
        names.update({name: edit.fresh(name) for name in node.output if name not in names})
        _add_node(own, node, names)
    value = own.graph.output.add(name=output)
    value.type.CopyFrom(head.graph.output[0].type)
    return rewritten(own), output


def _add_node(own: ModelProto, node: NodeProto, names: Mapping[str, str]) -> None:
    taken = {other.name for other in own.graph.node}
    copy = own.graph.node.add()
    copy.CopyFrom(node)
    copy.input[:] = [names[name] for name in node.input]
    copy.output[:] = [names[name] for name in node.output]
    count = 0
    while copy.name and copy.name in taken:
        count += 1
        copy.name = f"{node.name}__{count}"


def _alike(model: ModelProto, head: ModelProto) -> tuple[ModelProto, ModelProto]:
    """Both at the newer of their operator sets, the model with those that only the head has."""
    opsets = (Edit(model).opset, Edit(head).opset)
    model, head = (_at_opset(each, max(opsets)) for each in (model, head))
    versions = {entry.domain or "": entry.version for entry in model.opset_import}
    for entry in head.opset_import:
        if entry.domain not in STANDARD and versions.get(entry.domain) != entry.version:
            if entry.domain in versions:
                raise ValueError(f"the head has another version of operator set {entry.domain}")
            model.opset_import.add().CopyFrom(entry)
    model.ir_version = max(model.ir_version, head.ir_version)
    return model, head


def _at_opset(model: ModelProto, version: int) -> ModelProto:
    if Edit(model).opset == version:
        return model
    try:
        converted: ModelProto = version_converter.convert_version(model, version)
    except (RuntimeError, version_converter.ConvertError) as error:
        raise ValueError(
            f"{model.graph.name} can't be converted from opset {Edit(model).opset} to {version}: "
            "export model and head with the same opset"
        ) from error
    return converted


def _checked(head: ModelProto) -> ModelProto:
    """A head from elsewhere without local functions; one input, one output, no bodies."""
    try:
        checker.check_model(head)
        own: ModelProto = inliner.inline_local_functions(head) if head.functions else head
    except (checker.ValidationError, RuntimeError) as error:
        raise ValueError(f"the head is no valid model: {error}") from error
    constants = {tensor.name for tensor in own.graph.initializer}
    inputs = [value.name for value in own.graph.input if value.name not in constants]
    outputs = [value.name for value in own.graph.output]
    if len(inputs) != 1 or len(outputs) != 1:
        raise ValueError(
            f"a head has one input and one output; this has inputs {', '.join(inputs) or 'none'} "
            f"and outputs {', '.join(outputs)}"
        )
    if not any(inputs[0] in reads(node) for node in own.graph.node):
        raise ValueError(f"no node of the head reads its input {inputs[0]}")
    if any(any(subgraphs(node)) for node in own.graph.node):
        raise ValueError("a head with bodies (If, Loop, Scan) can't be attached")
    return _first_input(own, inputs[0])


def _first_input(head: ModelProto, name: str) -> ModelProto:
    """A copy whose only input this is."""
    own = ModelProto()
    own.CopyFrom(head)
    kept = next(value for value in head.graph.input if value.name == name)
    del own.graph.input[:]
    own.graph.input.add().CopyFrom(kept)
    return own


def _image(edit: Edit, tensor: str, root: str) -> Shape:
    """The shape of a tensor whose channels come second."""
    shape = edit.shape(root)
    if shape is None:
        raise ValueError(f"the shape of {tensor} is not known: give the model its value_info")
    if channel_axis(edit, root) == -1:
        raise ValueError(
            f"the channels of {tensor} come last: apply eliminate_transposes first, or cut at the "
            "other side of its Transpose"
        )
    return shape


def _real_form(edit: Edit, tensor: str) -> tuple[str, tuple[str, ...]]:
    """The float tensor, or the integer one and the inputs of the DequantizeLinear that it lacks."""
    if is_op(edit.producer(tensor), "DequantizeLinear"):
        return tensor, ()
    stored = integer_form(edit, tensor)
    for node in edit.users(stored):
        if is_op(node, "DequantizeLinear"):
            return node.output[0], ()
    if edit.dtype(stored) not in INTEGERS:
        return stored, ()
    grid = grid_of(edit, stored)
    if grid is None:
        raise ValueError(
            f"{tensor} is quantised, but neither QuantizeLinear nor DequantizeLinear tells its "
            "scale: apply qoperator_to_qdq first"
        )
    return stored, (stored, *grid)


def _check_type(edit: Edit, joint: Joint) -> None:
    """The head must take what the tensor is."""
    kind = joint.head.graph.input[0].type.tensor_type
    wanted = tuple(d.dim_value if d.HasField("dim_value") else None for d in kind.shape.dim)
    shape = edit.shape(joint.root)
    if not edit.dtype(joint.root):
        raise ValueError(f"the type of {joint.root} is not known: give the model its value_info")
    dtype = kind.elem_type if joint.dequantizer else edit.dtype(joint.root)
    known = shape is not None and kind.HasField("shape")
    fits = not known or (
        len(shape or ()) == len(wanted)
        and all(a == b or None in (a, b) for a, b in zip(shape or (), wanted, strict=True))
    )
    if dtype != kind.elem_type or not fits:
        raise ValueError(
            f"the head takes {_text(kind.elem_type, wanted)}, but {joint.root} is "
            f"{_text(dtype, shape)}"
        )


def _text(dtype: int, shape: Shape | None) -> str:
    dims = "..." if shape is None else ", ".join("?" if d is None else str(d) for d in shape)
    return f"{helper.tensor_dtype_to_np_dtype(dtype)}[{dims}]"


def _check_grid(edit: Edit, joint: Joint) -> None:
    """An integer head must read the tensor's integers at the tensor's scale."""
    head = Edit(joint.head)
    ours, theirs = grid_of(edit, joint.root), grid_of(head, joint.head.graph.input[0].name)
    if ours is None or theirs is None:
        return
    values = [_values(edit, ours), _values(head, theirs)]
    if not all(np.array_equal(a, b) for a, b in zip(*values, strict=True)):
        raise ValueError(
            f"{joint.root} has scale {values[0][0]} and zero point {values[0][1]}, but the head "
            f"reads it with {values[1][0]} and {values[1][1]}: quantise the head at that scale"
        )


def _values(edit: Edit, grid: tuple[str, ...]) -> tuple[Array | None, Array | None]:
    """Scale and zero point; the latter is 0 where it is left out."""
    zero = edit.constant(grid[1]) if len(grid) > 1 else np.zeros(())
    return edit.constant(grid[0]), zero
