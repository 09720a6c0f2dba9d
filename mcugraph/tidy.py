"""Take out of a model what no compiler needs: private text, dead parts, nameless nodes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from onnx import GraphProto, ModelProto, NodeProto

from mcugraph.passes._edit import STANDARD, Edit, is_op, slot, subgraphs

# The module path of a torch node; the other entries hold source lines and paths of the user's disk.
_SCOPES = ("pkg.torch.onnx.name_scopes", "namespace")
# The IR version says how to read the file, not what it computes; onnxruntime refuses new ones.
_IR_VERSIONS = (8, 10)
# What our own passes ask of the compiler.
_ASKED = ("mcugraph.exit", "mcugraph.packed")


def strip(model: ModelProto) -> ModelProto:
    """The same network without foreign text; no constant is an input. Any model will do."""
    own = ModelProto()
    own.CopyFrom(model)
    own.ir_version = min(max(own.ir_version, _IR_VERSIONS[0]), _IR_VERSIONS[1])
    asked = {entry.key: entry.value for entry in own.metadata_props if entry.key in _ASKED}
    _clear(own, ("doc_string", "metadata_props", "training_info"))
    for key, value in asked.items():
        own.metadata_props.add(key=key, value=value)
    for entry in own.opset_import:
        if entry.domain in STANDARD:
            entry.ClearField("domain")
    _clean_graph(own.graph)
    return own


def tidy(model: ModelProto) -> ModelProto:
    """The same network without dead parts, its nodes in order and named; for valid wiring only."""
    edit = Edit(model)
    _scalar_grids(edit)
    edit.refresh()
    own = edit.finish()
    _name_nodes(own.graph.node)
    _drop_opsets(own)
    return own


def _scalar_grids(edit: Edit) -> None:
    """Scales and zero points of one element have no axis: some fusions of onnxruntime need that."""
    for node in edit.nodes:
        if not is_op(node, "QuantizeLinear", "DequantizeLinear"):
            continue
        for index in (1, 2):
            value = edit.constant(slot(node, index))
            if value is not None and value.shape == (1,):
                edit.set_input(node, index, edit.store(slot(node, index), value.reshape(())))


def _clear(message: Any, fields: Iterable[str]) -> None:
    for field in fields:
        message.ClearField(field)


def _clean_graph(graph: GraphProto) -> None:
    held = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in held]
    kept = [type(value).FromString(value.SerializeToString()) for value in inputs]
    del graph.input[:]
    graph.input.extend(kept)
    _clear(graph, ("doc_string", "metadata_props", "quantization_annotation"))
    for entry in (*graph.initializer, *graph.input, *graph.output, *graph.value_info):
        _clear(entry, ("doc_string", "metadata_props"))
    for node in graph.node:
        _clean_node(node)


def _clean_node(node: NodeProto) -> None:
    notes = {entry.key: entry.value for entry in node.metadata_props}
    _clear(node, ("doc_string", "metadata_props"))
    scope = next((key for key in _SCOPES if key in notes), None)
    if scope is not None:
        node.metadata_props.add(key=scope, value=notes[scope])
    if node.domain in STANDARD:
        node.ClearField("domain")
    for entry in node.attribute:
        _clear(entry, ("doc_string",))
        if entry.HasField("t"):
            _clear(entry.t, ("doc_string", "metadata_props"))
    for body in subgraphs(node):
        _clean_graph(body)


def _name_nodes(nodes: Sequence[NodeProto]) -> None:
    taken: set[str] = set()
    given = {node.name for node in nodes}
    for node in nodes:
        own = node.name if node.name.isprintable() else ""
        base = own or f"{next(filter(None, node.output))}/{node.op_type}"
        name, count = base, 0
        while name in taken or (name != node.name and name in given):
            count += 1
            name = f"{base}__{count}"
        node.name = name
        taken.add(name)


def _drop_opsets(model: ModelProto) -> None:
    used = {domain for node in model.graph.node for domain in _domains(node)} | {""}
    versions = {entry.domain: entry.version for entry in model.opset_import}
    del model.opset_import[:]
    for domain, version in versions.items():
        if domain in used:
            model.opset_import.add(domain=domain, version=version)


def _domains(node: NodeProto) -> set[str]:
    inside = (_domains(inner) for body in subgraphs(node) for inner in body.node)
    return {node.domain}.union(*inside)
