"""What is behind a tensor, what else crosses there, and where a quantised tensor stands."""

from difflib import get_close_matches

from onnx import NodeProto, TensorProto

from mcugraph.passes._edit import STANDARD, Edit, attribute, is_op, reads

INTEGERS = (TensorProto.INT8, TensorProto.UINT8, TensorProto.INT16, TensorProto.UINT16)
# Operators that change nothing but the shape, and those that pick some elements of their input.
VIEWS = frozenset("Reshape Flatten Squeeze Unsqueeze Transpose Identity Dropout".split())
_PICKS = frozenset("MaxPool GlobalMaxPool Slice Split Gather".split())
QUANTIZERS = frozenset({"QuantizeLinear", "DequantizeLinear"})
# Operators whose channels are axis 1, and those after which nothing is known of the axes.
_SPATIAL = "Conv ConvTranspose BatchNormalization MaxPool AveragePool".split()
_MIXING = """
Reshape Flatten Squeeze Unsqueeze MatMul Gemm Gather GRU LSTM RNN LayerNormalization Einsum
""".split()
_SHOWN = 4


class Flow:
    """How the tensors that are computed at run time follow from each other."""

    def __init__(self, edit: Edit) -> None:
        constants = set(edit.initializers())
        self.moving = dict.fromkeys(name for name in edit.inputs if name not in constants)
        self._edit = edit
        self._reads = {id(node): sorted(reads(node)) for node in edit.nodes}
        for node in edit.nodes:
            read = self._reads[id(node)]
            random = not read and not is_op(node, "Constant")
            if random or any(name in self.moving for name in read):
                self.moving.update(dict.fromkeys(name for name in node.output if name))

    def behind(self, tensor: str) -> list[NodeProto]:
        """The nodes that need a tensor, directly or not, in order."""
        reached, found = {tensor}, []
        for node in self._edit.nodes:
            if not reached.isdisjoint(self._reads[id(node)]):
                reached.update(node.output)
                found.append(node)
        return found

    def crossing(self, tensor: str) -> list[str]:
        """What else the nodes behind a tensor read of what is computed without it."""
        nodes = self.behind(tensor)
        made = {tensor, *(name for node in nodes for name in node.output)}
        read = dict.fromkeys(name for node in nodes for name in self._reads[id(node)])
        return [name for name in read if name in self.moving and name not in made]


def attachable(edit: Edit, flow: Flow, tensor: str) -> None:
    """ValueError unless the tensor is one that a model computes from its inputs."""
    if tensor in edit.inputs:
        raise ValueError(f"{tensor} is an input of the model: nothing stands before it")
    if tensor in flow.moving:
        return
    if edit.constant(tensor) is not None or edit.producer(tensor) is not None:
        raise ValueError(f"{tensor} is a constant: give a tensor that is computed from the input")
    near = get_close_matches(tensor, flow.moving, n=_SHOWN, cutoff=0.3) or list(flow.moving)
    raise ValueError(f"the model has no tensor {tensor!r}; near to it: {', '.join(near[:_SHOWN])}")


def integer_form(edit: Edit, tensor: str) -> str:
    """The quantised tensor of which this is the real form; itself where there is none."""
    maker = edit.producer(tensor)
    if maker is not None and is_op(maker, "DequantizeLinear"):
        return str(maker.input[0])
    user = edit.sole_user(tensor)
    alone = user is not None and is_op(user, "QuantizeLinear")
    return str(user.output[0]) if user is not None and alone else tensor


def grid_of(edit: Edit, tensor: str) -> tuple[str, ...] | None:
    """Names of scale and zero point of a quantised tensor, where a Q or DQ tells them."""
    for node in edit.users(tensor):
        if is_op(node, "DequantizeLinear"):
            return tuple(node.input[1:])
    maker = edit.producer(tensor)
    while maker is not None and maker.domain in STANDARD and maker.op_type in VIEWS | _PICKS:
        maker = edit.producer(maker.input[0])
    return tuple(maker.input[1:]) if maker is not None and is_op(maker, "QuantizeLinear") else None


def channel_axis(edit: Edit, tensor: str) -> int | None:
    """The axis of the channels behind convolutions and pools: 1, or -1 behind a Transpose."""
    node = edit.producer(tensor)
    while node is not None and not is_op(node, *_SPATIAL):
        if is_op(node, "Transpose"):
            inner = channel_axis(edit, node.input[0])
            return -1 if inner == 1 and list(attribute(node, "perm", ())[:2]) == [0, 2] else None
        if is_op(node, *_MIXING) or not node.input:
            return None
        node = edit.producer(node.input[0])
    return None if node is None else 1
