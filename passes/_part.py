"""A part of a model as a model of its own."""

import json
from collections.abc import Sequence

from onnx import ModelProto, ValueInfoProto, helper

from mcugraph.passes._edit import Edit
from mcugraph.passes._nodes import reads, refill

EXIT = "mcugraph.exit"


def part_of(model: ModelProto, outputs: Sequence[str], inputs: Sequence[str] = ()) -> ModelProto:
    """What computes these tensors from the model's inputs, or from the tensors `inputs` instead."""
    edit = Edit(model)
    results, sources = (
        [_value(edit, model, name) for name in names] for names in (outputs, inputs)
    )
    own = ModelProto()
    own.CopyFrom(model)
    refill(own.graph.output, results)
    refill(own.graph.node, [n for n in own.graph.node if not set(inputs) & set(n.output)])
    own.graph.input.extend(sources)
    _trim(own)
    _forget_exit(own)
    return rewritten(own)


def rewritten(model: ModelProto) -> ModelProto:
    """The model with only what its outputs need, in order, with all shapes."""
    edit = Edit(model)
    edit.changed = True
    return edit.finish()


def _trim(model: ModelProto) -> None:
    """Drop the inputs that nothing reads."""
    read = {value.name for value in model.graph.output}
    for node in Edit(model).nodes:
        read |= reads(node)
    refill(model.graph.input, [value for value in model.graph.input if value.name in read])


def exit_of(model: ModelProto) -> str | None:
    """The output that is an early exit."""
    facts = [json.loads(entry.value) for entry in model.metadata_props if entry.key == EXIT]
    return str(facts[0]["output"]) if facts else None


def _forget_exit(model: ModelProto) -> None:
    """An early exit is one only while its output is there."""
    if exit_of(model) not in {value.name for value in model.graph.output}:
        refill(model.metadata_props, [e for e in model.metadata_props if e.key != EXIT])


def _value(edit: Edit, model: ModelProto, name: str) -> ValueInfoProto:
    """A tensor as an input or output; one that the model already shows stays as it is."""
    values: list[ValueInfoProto] = [*model.graph.output, *model.graph.input]
    shown = {value.name: value for value in values}
    if name in shown:
        return shown[name]
    dtype = edit.dtype(name)
    if not dtype:
        raise ValueError(f"the type of {name} is not known: give the model its value_info")
    made: ValueInfoProto = helper.make_tensor_value_info(name, dtype, edit.shape(name))
    return made
