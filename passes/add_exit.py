"""f(g(x)) -> f(g(x)), head(g(x))."""

import json

from onnx import ModelProto

from mcugraph.passes._edit import Edit, is_op
from mcugraph.passes._graft import graft, joint_of
from mcugraph.passes._part import EXIT, exit_of
from mcugraph.passes.heads import Head

_NAME = "exit"
# What may stand between the probabilities and the output.
_AFTER = "QuantizeLinear DequantizeLinear Identity Reshape Flatten Squeeze Cast".split()


def add_exit(
    model: ModelProto, tensor: str, head: Head | ModelProto, threshold: float = 0.9
) -> ModelProto:
    """f(g(x)) -> f(g(x)), head(g(x)).

    An early exit: one more output, named "exit", with the probabilities that a head gives at the
    tensor g(x). The outputs before it stay. The model's metadata says
    mcugraph.exit = {"output": "exit", "threshold": 0.9}: code may stop there as soon as the highest
    probability reaches the threshold. Heads and quantised tensors are as in cut_depth, but weights
    are named exit.0.depthwise.weight, ....
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold {threshold}: a probability above 0, at most 1")
    if exit_of(model) is not None:
        raise ValueError("the model has an early exit already")
    joint = joint_of(Edit(model), tensor, head, _NAME)
    if not _gives_probabilities(joint.head):
        raise ValueError(
            f"the head ends in {joint.head.graph.output[0].name}, which is no Softmax: the exit "
            "compares a probability with its threshold"
        )
    result, output = graft(model, joint, _NAME)
    facts = json.dumps({"output": output, "threshold": threshold})
    result.metadata_props.add(key=EXIT, value=facts)
    return result


def _gives_probabilities(head: ModelProto) -> bool:
    edit = Edit(head)
    node = edit.producer(edit.outputs[0])
    while node is not None and is_op(node, *_AFTER):
        node = edit.producer(node.input[0])
    return is_op(node, "Softmax", "Sigmoid")
