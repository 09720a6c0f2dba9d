"""f(w), g(w) -> f(w), g(w'): before ties are made, each reader gets constants of its own."""

from onnx import NodeProto

from mcugraph.passes._edit import Edit, is_op, reads, subgraphs


def separate(edit: Edit) -> dict[str, str]:
    """Copy what is constant and read more than once; the original of each copy, by its name.

    What is computed from constants alone (a weight's DequantizeLinear) is copied with them. The
    first reader keeps the original; bodies keep it too. Indices and shapes are left alone.
    """
    origins: dict[str, str] = {}
    names = dict.fromkeys(edit.initializers())
    made = [node for node in edit.nodes if _is_constant(edit, node, names)]
    for node in reversed(made):
        _copy(edit, node.output[0], node, origins)
    for name in [*names]:
        if edit.producer(name) is None:
            _copy(edit, name, None, origins)
    if any(edit.producer(name) is not None for name in origins):
        edit.refresh()
    return origins


def _is_constant(edit: Edit, node: NodeProto, names: dict[str, None]) -> bool:
    """Whether a node of one output reads constants only; notes that its output is one."""
    plain = len(node.output) == 1 and not any(subgraphs(node))
    given = is_op(node, "Constant") or bool(node.input)
    if not plain or not given or any(name not in names for name in reads(node)):
        return False
    names[node.output[0]] = None
    return True


def _copy(edit: Edit, name: str, node: NodeProto | None, origins: dict[str, str]) -> None:
    users = edit.users(name)
    held = name in edit.outputs or any(any(subgraphs(user)) for user in users)
    plain = [user for user in users if not any(subgraphs(user))]
    value = edit.constant(name)
    if value is not None and (value.size < 2 or value.dtype.kind in "OSU" or value.dtype == "i8"):
        return
    for user in plain if held else plain[1:]:
        copy = edit.fresh(name)
        if node is not None:
            made = edit.add(node.op_type, list(node.input), copy)
            made.domain = node.domain
            made.attribute.extend(node.attribute)
        elif value is not None:
            edit.place(copy, value)
        edit.reread(user, name, copy)
        origins[copy] = origins.get(name, name)
