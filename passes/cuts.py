"""Where a model can be cut: the tensors through which everything flows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod

from onnx import ModelProto, NodeProto, helper

from mcugraph.passes._edit import Edit, is_op
from mcugraph.passes._flow import INTEGERS, QUANTIZERS, VIEWS, Flow, channel_axis, integer_form
from mcugraph.passes._part import exit_of

# Operators that end the step which they follow: no cut stands before them.
_ENDINGS = """
BatchNormalization Relu Clip LeakyRelu PRelu Sigmoid HardSigmoid HardSwish Tanh Elu Selu Gelu
Softplus Softmax Mish Swish
""".split()


@dataclass(frozen=True)
class Cut:
    """A tensor through which everything flows; float tensors cross as int8, a byte an element.

    `image`: axis 1 holds its channels, and space follows, so that a head can be attached.
    """

    tensor: str
    shape: tuple[int, ...]
    dtype: str
    crossing_bytes: int
    image: bool


def legal_cuts(model: ModelProto) -> tuple[Cut, ...]:
    """The places to cut a model of static shapes, from front to back.

    One after each step: not between a convolution and its normalisation or activation, not after
    a mere change of shape, and a quantised tensor by the name of its integers. Every output needs
    each of them, but for that of an early exit.
    """
    edit = Edit(model)
    flow = Flow(edit)
    early = exit_of(model)
    results = [name for name in edit.outputs if name != early]
    names = [name for node in edit.nodes for name in node.output if _ends_step(edit, name)]
    return tuple(
        _cut(edit, name, shape)
        for name in names
        if name in flow.moving
        and (shape := edit.static_shape(name)) is not None
        and not flow.crossing(name)
        and _all_need(flow, name, results)
    )


def _all_need(flow: Flow, name: str, results: Sequence[str]) -> bool:
    """Whether every result needs a tensor, and more than another form of it."""
    behind = flow.behind(name)
    made = {output for node in behind for output in node.output}
    computed = any(not is_op(node, *VIEWS, *QUANTIZERS) for node in behind)
    return computed and made.issuperset(results)


def _ends_step(edit: Edit, name: str) -> bool:
    if not name or integer_form(edit, name) != name or _is_view(edit, name):
        return False
    readers = list(_readers(edit, name))
    return not (readers and all(is_op(reader, *_ENDINGS) for reader in readers))


def _readers(edit: Edit, name: str) -> Iterator[NodeProto]:
    """What reads a tensor, in whatever shape and form."""
    for user in edit.users(name):
        if is_op(user, *VIEWS, *QUANTIZERS):
            yield from _readers(edit, user.output[0])
        else:
            yield user


def _is_view(edit: Edit, name: str) -> bool:
    """Whether a tensor is an input of the model, or another cut, in another form."""
    maker = edit.producer(name)
    if not is_op(maker, "QuantizeLinear"):
        return is_op(maker, *VIEWS)
    while maker is not None and is_op(maker, *VIEWS, "QuantizeLinear"):
        name = maker.input[0]
        maker = edit.producer(name)
    return maker is None or is_op(maker, "DequantizeLinear")


def _cut(edit: Edit, name: str, shape: tuple[int, ...]) -> Cut:
    kind = edit.dtype(name)
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    size = prod(shape) * (dtype.itemsize if kind in INTEGERS else 1)
    image = len(shape) in (3, 4) and prod(shape[2:]) > 1 and channel_axis(edit, name) == 1
    return Cut(name, shape, str(dtype), size, image)
