"""f(g(x)) -> head(g(x))."""

from onnx import ModelProto

from mcugraph.passes._edit import Edit
from mcugraph.passes._graft import graft, joint_of
from mcugraph.passes._part import part_of
from mcugraph.passes.heads import Head


def cut_depth(model: ModelProto, tensor: str, head: Head | ModelProto) -> ModelProto:
    """f(g(x)) -> head(g(x)).

    Cut after the tensor g(x), drop what it does not need, and attach a classifier: a Head, or a
    model of one input and one output. An output that was the only one keeps its name. At a
    quantised tensor (either of its names) a float head reads the dequantised values, and a model
    with an integer input the integers. What is kept computes as before. ValueError where there is
    no such tensor, or the head does not fit it.
    """
    edit = Edit(model)
    joint = joint_of(edit, tensor, head)
    name = edit.outputs[0] if len(edit.outputs) == 1 else joint.head.graph.output[0].name
    kept, output = graft(part_of(model, [joint.root]), joint, name)
    return part_of(kept, [output])
