"""f(g(x)) -> g(x), f(y)."""

from onnx import ModelProto

from mcugraph.passes._edit import Edit
from mcugraph.passes._flow import Flow, attachable, integer_form
from mcugraph.passes._part import part_of


def split_model(model: ModelProto, tensor: str) -> tuple[ModelProto, ModelProto]:
    """f(g(x)) -> g(x), f(y).

    Two models, e.g. for a device and for what it reports to: the head computes the tensor, which is
    its first output, from the model's inputs; the tail has it as its only input. A quantised tensor
    (either of its names) crosses as integers. Outputs that do not need the tensor stay with the
    head. ValueError where the tail would need other tensors, too.
    """
    edit = Edit(model)
    flow = Flow(edit)
    attachable(edit, flow, tensor)
    crossing = integer_form(edit, tensor)
    behind = flow.behind(crossing)
    if not behind:
        raise ValueError(f"nothing stands behind {tensor}: the tail would be empty")
    others = flow.crossing(crossing)
    if others:
        raise ValueError(
            f"{tensor} is no place to split: what is behind it also needs {', '.join(others)}; "
            "legal_cuts lists the places"
        )
    made = {name for node in behind for name in node.output}
    first = [name for name in edit.outputs if name not in made and name != crossing]
    last = [name for name in edit.outputs if name in made]
    return part_of(model, [crossing, *first]), part_of(model, last, [crossing])
