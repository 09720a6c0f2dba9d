"""Shrinking by hand-written decisions: removing equals masking, operator by operator."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx
import pytest
from models import Array, Net
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from test_laws import outputs
from zeroing import is_integer

from mcugraph.passes._edit import Edit, attribute
from mcugraph.passes._shrink import shrink

Kept = Mapping[tuple[str, int], Sequence[int]]
Case = tuple[ModelProto, Kept]
THREE = [0, 2, 5]


def shrunk(model: ModelProto, kept: Kept) -> ModelProto:
    """The model after the shrink, which is pure, valid and repeatable."""
    data = model.SerializeToString()
    results = []
    for _ in range(2):
        edit = Edit(model)
        shrink(edit, kept)
        results.append(edit.finish())
    assert model.SerializeToString() == data
    assert results[0].SerializeToString() == results[1].SerializeToString()
    onnx.checker.check_model(results[0], full_check=True)
    onnx.shape_inference.infer_shapes(results[0], check_type=True, strict_mode=True, data_prop=True)
    return results[0]


def masked(model: ModelProto, kept: Kept) -> ModelProto:
    """The model with a mask behind everything that shrinks."""
    result = ModelProto()
    result.CopyFrom(model)
    nodes = []
    for node in result.graph.node:
        nodes.append(node)
        for index, name in enumerate(node.output):
            for axis in [axis for other, axis in kept if other == name]:
                node.output[index], inner = f"{name}__{axis}", node.output[index]
                nodes.extend(mask(result, f"{name}__{axis}", axis, kept[name, axis], inner))
    copies = [NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del result.graph.node[:]
    result.graph.node.extend(copies)
    del result.graph.value_info[:]
    return result


def mask(
    model: ModelProto, name: str, axis: int, kept: Sequence[int], target: str
) -> list[NodeProto]:
    """0 * x + 0 outside `kept`, by scattering the kept slices into zeroes."""
    shapes = {value.name: value.type.tensor_type for value in model.graph.value_info}
    kind = shapes[name.rpartition("__")[0]]
    sizes = [dim.dim_value for dim in kind.shape.dim]
    alone = [1] * len(sizes)
    alone[axis] = sizes[axis]
    value = np.zeros(sizes[axis], helper.tensor_dtype_to_np_dtype(kind.elem_type))
    value[list(kept)] = 1
    tensor = numpy_helper.from_array(value.reshape(alone), f"{name}__mask")
    model.graph.initializer.append(tensor)
    return [helper.make_node("Mul", [name, tensor.name], [target])]


def check(case: Case) -> ModelProto:
    """Removing equals masking."""
    model, kept = case
    result = shrunk(model, kept)
    assert not is_integer(model)
    for one, other in zip(outputs(masked(model, kept), 1), outputs(result, 1), strict=True):
        assert one.shape == other.shape
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5 * np.abs(one).max())
    return result


def values(model: ModelProto) -> dict[str, Array]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def shapes(model: ModelProto) -> dict[str, tuple[int, ...]]:
    return {
        value.name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
        for value in model.graph.value_info
    }


def node_of(model: ModelProto, op_type: str) -> NodeProto:
    return next(node for node in model.graph.node if node.op_type == op_type)


# One operator between two convolutions: 6 channels, of which 0, 2 and 5 stay


class Between:
    """x, a convolution to 6 channels, then whatever a case adds, then a convolution to 2."""

    def __init__(self, opset: int = 18, size: int = 4) -> None:
        self.net, self.size = Net(opset), size
        x = self.net.input("x", 1, 3, size, size)
        self.top = self.net.conv("a", x, 6, 3, 3, 3)
        self.kept: dict[tuple[str, int], Sequence[int]] = {("a", 1): THREE}

    def then(self, op: str, *inputs: str, **kw: object) -> str:
        """Add an operator on the last tensor."""
        self.top = self.net(op, self.top, *inputs, **kw)
        return self.top

    def ints(self, name: str, *values: int) -> str:
        return self.net.const(name, values, np.int64)

    def keeps(self, axis: int, kept: Sequence[int], name: str = "") -> None:
        """What the last tensor keeps."""
        self.kept[name or self.top, axis] = kept

    def end(self, channels: int = 6) -> Case:
        y = self.net.conv("z", self.top, 2, channels, 1, 1)
        return self.net.model(y), self.kept

    def end_dense(self, inputs: int) -> Case:
        return self.net.model(self.net.gemm("z", self.top, 2, inputs)), self.kept


def plain() -> Case:
    net = Between()
    net.then("Sigmoid")
    net.keeps(1, THREE)
    return net.end()


def depthwise() -> Case:
    net = Between()
    net.top = net.net.conv("d", net.top, 12, 1, 3, 3, group=6)
    net.keeps(1, [0, 1, 4, 5, 10, 11])
    return net.end(12)


def grouped() -> Case:
    net = Between()
    net.kept["a", 1] = [0, 2, 3, 5]
    net.top = net.net.conv("g", net.top, 8, 3, 3, 3, group=2)
    net.keeps(1, [0, 1, 3, 5, 6, 7])
    return net.end(8)


def whole_groups() -> Case:
    net = Between()
    net.kept["a", 1] = [0, 1, 4, 5]
    net.top = net.net.conv("g", net.top, 9, 2, 1, 1, group=3)
    net.keeps(1, [0, 2, 6, 7])
    return net.end(9)


def transposed() -> Case:
    net = Between()
    w, b = net.net.weight("t.weight", 6, 4, 2, 2), net.net.weight("t.bias", 4)
    net.then("ConvTranspose", w, b, strides=[2, 2])
    net.keeps(1, [1, 2])
    return net.end(4)


def transposed_groups() -> Case:
    net = Between()
    net.kept["a", 1] = [0, 2, 3, 5]
    net.then("ConvTranspose", net.net.weight("t.weight", 6, 4, 2, 2), group=2)
    net.keeps(1, [1, 2, 5, 6])
    return net.end(8)


def gemms() -> Case:
    """Stored both ways, with a bias per column, one alone and one for every element."""
    net = Net()
    x = net.input("x", 4, 5)
    a = net("Gemm", x, net.weight("aw", 5, 6), net.weight("ab", 1, 6), out="a")
    b = net("Gemm", a, net.weight("bw", 8, 6), net.weight("bb", 1), out="b", transB=1)
    c = net("Gemm", b, net.weight("cw", 8, 7), net.weight("cb", 4, 7), out="c", alpha=0.5)
    d = net("Gemm", net("Transpose", c), net.weight("dw", 7, 3), out="d", transA=1)
    kept = {("a", 1): THREE, ("b", 1): [1, 7], ("c", 1): [0, 3, 4], ("transpose_4", 0): [0, 3, 4]}
    return net.model(d), kept


def matmuls() -> Case:
    """Vectors, batches of matrices, a weight on the left."""
    net = Net()
    x = net.input("x", 2, 3, 5)
    a = net("MatMul", x, net.weight("aw", 5, 6), out="a")
    b = net("MatMul", a, net.weight("bw", 2, 6, 4), out="b")
    c = net("MatMul", net.weight("cw", 8, 3), b, out="c")
    d = net("MatMul", net("Tanh", c), net.weight("dw", 4), out="d")
    e = net("MatMul", d, net.weight("ew", 8, 2), out="e")
    kept: Kept = {
        ("a", 2): THREE,
        ("b", 2): [1, 3],
        ("c", 2): [1, 3],
        ("c", 1): [0, 7],
        ("tanh_4", 2): [1, 3],
        ("tanh_4", 1): [0, 7],
        ("d", 1): [0, 7],
    }
    return net.model(e), kept


def attention() -> Case:
    """One of two heads."""
    net = Net()
    x = net.input("x", 1, 5, 8)
    parts = {}
    for name in "qkv":
        y = net("MatMul", x, net.weight(f"{name}w", 8, 8), out=f"{name}_flat")
        y = net("Reshape", y, net.const(f"{name}s", [1, 5, 2, 4], np.int64), out=f"{name}_heads")
        parts[name] = net("Transpose", y, perm=[0, 2, 1, 3], out=name)
    scores = net("MatMul", parts["q"], net("Transpose", "k", perm=[0, 1, 3, 2], out="t"), out="s")
    y = net("MatMul", net("Softmax", scores, out="p"), parts["v"], out="y")
    y = net("Transpose", y, perm=[0, 2, 1, 3], out="back")
    y = net("Reshape", y, net.const("flat", [1, 5, 8], np.int64), out="flat_y")
    flat = [4, 5, 6, 7]
    kept: dict[tuple[str, int], Sequence[int]] = {("flat_y", 2): flat, ("back", 2): [1]}
    kept |= {(f"{name}_flat", 2): flat for name in "qkv"}
    kept |= {(f"{name}_heads", 2): [1] for name in "qkv"}
    kept |= {(name, 1): [1] for name in ("q", "k", "v", "t", "s", "p", "y")}
    return net.model(net("MatMul", y, net.weight("ow", 8, 8))), kept


def normalised() -> Case:
    net = Between()
    net.top = net.net.norm("bn", net.top, 6)
    net.keeps(1, THREE)
    net.then("InstanceNormalization", net.net.weight("is", 6), net.net.weight("ib", 6))
    net.keeps(1, THREE)
    net.then("PRelu", net.net.weight("slope", 6, 1, 1))
    net.keeps(1, THREE)
    net.then("Mul", net.net.weight("gain", 1, 6, 1, 4))
    net.keeps(1, THREE)
    net.then("Add", net.net.weight("offset", 4))
    net.keeps(1, THREE)
    return net.end()


def beside_normalisation() -> Case:
    """Axes before the normalised ones may shrink."""
    net = Between()
    net.then("LayerNormalization", net.net.weight("ls", 4), net.net.weight("lb", 4), axis=-1)
    net.keeps(1, THREE)
    net.then("Softmax", axis=2)
    net.keeps(1, THREE)
    return net.end()


def broadened() -> Case:
    """Channels that come from a constant only."""
    net = Net()
    x = net.conv("one", net.input("x", 1, 3, 4, 4), 1, 3, 1, 1)
    x = net("Mul", x, net.weight("gain", 6, 1, 1), out="wide")
    return net.model(net.conv("z", x, 2, 6, 1, 1)), {("wide", 1): THREE}


def expanded() -> Case:
    net = Net()
    x = net.conv("one", net.input("x", 1, 3, 4, 4), 1, 3, 1, 1)
    x = net("Expand", x, net.const("shape", [6, 1, 1], np.int64), out="wide")
    x = net("Expand", x, net.const("same", [1, 6, 4, 4], np.int64), out="same_wide")
    return net.model(net.conv("z", x, 2, 6, 1, 1)), {("wide", 1): THREE, ("same_wide", 1): THREE}


def tiled() -> Case:
    net = Between()
    net.then("Tile", net.ints("twice", 1, 2, 1, 1))
    net.keeps(1, [*THREE, *(i + 6 for i in THREE)])
    net.then("ReduceSum", net.ints("channels", 1))
    net.then("Tile", net.ints("eight", 1, 8, 1, 1))
    net.keeps(1, [1, 2])
    return net.end(8)


def summed() -> Case:
    net = Between()
    net.then("ReduceSum", net.ints("axes", -1), keepdims=0)
    net.keeps(1, THREE)
    net.then("ReduceMax", net.ints("last", 2), keepdims=1)
    net.keeps(1, THREE)
    net.then("ReduceSum", net.ints("channels", 1, 2), keepdims=0)
    return net.net.model(net.top), net.kept


def joined() -> Case:
    net = Between()
    a = net.top
    net.then("Relu")
    net.keeps(1, THREE)
    net.then("Concat", net.net.weight("more", 1, 2, 4, 4), a, axis=-3)
    net.keeps(1, [0, 2, 5, 7, 8, 10, 13])
    return net.end(14)


def split_sizes() -> Case:
    return _split(18, sizes=True)


def split_attribute() -> Case:
    return _split(11, split=[2, 4])


def split_in_two() -> Case:
    return _split(18, num_outputs=2)


def _split(opset: int, sizes: bool = False, **kw: object) -> Case:
    net = Between(opset)
    first = 2 if sizes or "split" in kw else 3
    given = [net.ints("sizes", 2, 4)] if sizes else []
    left, right = net.net.many("Split", net.top, *given, out=["left", "right"], axis=1, **kw)
    net.kept |= {(left, 1): [i for i in THREE if i < first]}
    net.kept |= {(right, 1): [i - first for i in THREE if i >= first]}
    net.top = net.net("Concat", right, left, axis=1)
    order = [*range(first, 6), *range(first)]
    net.keeps(1, [place for place, i in enumerate(order) if i in THREE])
    return net.end()


def sliced_first() -> Case:
    return _slice((0, 3, 1), [0, 2])


def sliced_last() -> Case:
    return _slice((-4, 2**40, 1), [0, 3])


def sliced_by_two() -> Case:
    """Channels 1, 3, 5: one is left of what is read."""
    return _slice((1, 6, 2), [2])


def sliced_backwards() -> Case:
    return _slice((-1, -99, -1), [0, 3, 5])


def sliced_unevenly() -> Case:
    """0, 2, 4, 6, 8, of which 0, 2 and 8 stay: no step reaches them."""
    net = Between()
    net.top = net.net.conv("w", net.net.inputs[0].name, 9, 3, 1, 1)
    net.kept = {("w", 1): [0, 1, 2, 8]}
    limits = [
        net.ints(f"_{k}", *v) for k, v in zip("seat", ((0, 0), (9, 3), (1, 2), (2, 1)), strict=True)
    ]
    net.then("Slice", *limits)
    net.keeps(1, [0, 1, 4])
    return net.end(5)


def _slice(cut: tuple[int, int, int], kept: Sequence[int], opset: int = 18) -> Case:
    net = Between(opset)
    start, end, step = cut
    limits = [net.ints(f"_{k}", v) for k, v in zip("seat", (start, end, 1, step), strict=True)]
    net.then("Slice", *limits)
    net.keeps(1, kept)
    return net.end(len(range(6)[slice(start, end, step)]))


def gathered() -> Case:
    net = Between()
    net.then("Gather", net.ints("table", 5, -1, 0, 1, 2, 0), axis=1)
    net.keeps(1, [0, 1, 2, 4, 5])
    return net.end()


def one_gathered() -> Case:
    net = Between()
    net.then("Gather", net.net.const("index", 2, np.int64), axis=1)
    net.then("Unsqueeze", net.ints("axis", 1))
    return net.end(1)


def embedded() -> Case:
    net = Net()
    x = net.input("x", 1, 4, kind=TensorProto.INT64)
    x = net("Mod", x, net.const("words", 9, np.int64))
    x = net("Gather", net.weight("table", 9, 6), net("Abs", x), axis=0, out="found")
    return net.model(net("MatMul", x, net.weight("w", 6, 2))), {("found", 2): THREE}


def flattened() -> Case:
    net = Between()
    net.then("Flatten")
    net.keeps(1, [16 * c + i for c in THREE for i in range(16)])
    return net.end_dense(96)


def reshaped() -> Case:
    """0 and -1 stay, explicit sizes follow."""
    net = Between()
    net.then("Reshape", net.ints("s1", 0, 0, 16))
    net.keeps(1, THREE)
    net.then("Reshape", net.ints("s2", 1, 6, 4, -1))
    net.keeps(1, THREE)
    net.then("Reshape", net.ints("s3", -1, 96))
    net.keeps(1, [16 * c + i for c in THREE for i in range(16)])
    return net.end_dense(96)


def shuffled() -> Case:
    net = Between()
    net.kept["a", 1] = [0, 2, 3, 5]
    net.then("Reshape", net.ints("apart", 1, 2, 3, 4, 4))
    net.keeps(2, [0, 2])
    net.then("Transpose", perm=[0, 2, 1, 3, 4])
    net.keeps(1, [0, 2])
    net.then("Reshape", net.ints("together", 1, 6, 4, 4))
    net.keeps(1, [0, 1, 4, 5])
    return net.end()


def squeezed() -> Case:
    net = Between(size=1)
    net.then("Squeeze", net.ints("both", 2, 3))
    net.keeps(1, THREE)
    net.then("Unsqueeze", net.ints("again", 0, 3))
    net.keeps(2, THREE)
    net.then("Squeeze")
    net.keeps(0, THREE)
    net.then("Reshape", net.ints("row", 1, -1))
    net.keeps(1, THREE)
    return net.end_dense(6)


def padded() -> Case:
    net = Between()
    net.then("Pad", net.ints("space", 0, 0, 1, 1, 0, 0, 1, 1))
    net.keeps(1, THREE)
    net.then("Pad", net.ints("around", 1, 2), "", net.ints("channels", 1))
    net.keeps(1, [0, 1, 3, 6, 8])
    return net.end(9)


def resized() -> Case:
    net = Between()
    net.then("Resize", "", "", net.ints("sizes", 1, 6, 8, 8), mode="nearest")
    net.keeps(1, THREE)
    net.then("Resize", "", "", net.ints("two", 6, 4), mode="nearest", axes=[1, 2])
    net.keeps(1, THREE)
    net.then("Resize", "", net.net.const("scales", [1, 1, 2, 1], np.float32), mode="linear")
    net.keeps(1, THREE)
    return net.end()


def folded_by_depth() -> Case:
    net = Between()
    net.top = net.net.conv("w", net.top, 12, 6, 1, 1)
    net.keeps(1, [0, 2, 3, 5, 6, 8, 9, 11])
    net.then("DepthToSpace", blocksize=2)
    net.keeps(1, [0, 2])
    net.then("SpaceToDepth", blocksize=2)
    net.keeps(1, [0, 2, 3, 5, 6, 8, 9, 11])
    return net.end(12)


def folded_by_column() -> Case:
    net = Between()
    net.top = net.net.conv("w", net.top, 12, 6, 1, 1)
    net.keeps(1, [4, 5, 6, 7])
    net.then("DepthToSpace", blocksize=2, mode="CRD")
    net.keeps(1, [1])
    return net.end(3)


def mixed_elsewhere() -> Case:
    """Operators that mix other axes than that of the channels."""
    net = Between()
    for op, inputs, kw in (
        ("CumSum", [net.net.const("last", 3, np.int64)], {}),
        ("MeanVarianceNormalization", [], {"axes": [2, 3]}),
        ("ArgMax", [], {"axis": -1}),
        ("Cast", [], {"to": TensorProto.FLOAT}),
        ("LpNormalization", [], {"axis": 2}),
        ("ReduceSum", [], {"noop_with_empty_axes": 1}),
    ):
        net.then(op, *inputs, **kw)
        net.keeps(1, THREE)
    net.net.many("TopK", net.top, net.ints("two", 2), out=["largest", "places"], axis=2)
    net.top = "largest"
    net.keeps(1, THREE)
    net.keeps(1, THREE, "places")
    return net.end()


def softmax_of_old() -> Case:
    net = Between(11)
    net.then("Softmax", axis=2)
    net.keeps(1, THREE)
    return net.end()


def split_by_default() -> Case:
    return _split(11)


def pooled() -> Case:
    net = Between()
    for op in ("MaxPool", "AveragePool", "LpPool"):
        net.then(op, kernel_shape=[2, 2])
        net.keeps(1, THREE)
    net.then("GlobalMaxPool")
    net.keeps(1, THREE)
    return net.end()


def sized_at_run_time() -> Case:
    """Shape arithmetic that was not folded, and a number of channels that is calculated with."""
    net, second = Between(13), numpy_helper.from_array(np.array(1))
    shape = net.net("Shape", net.top)
    count = net.net("Gather", shape, net.net("Constant", value=second), axis=0)
    net.then("Add", net.net("ConstantOfShape", net.ints("size", 1, 6, 1, 1), out="ones"))
    net.keeps(1, THREE)
    net.then("Div", net.net("Cast", count, to=TensorProto.FLOAT))
    net.keeps(1, THREE)
    net.then("Expand", shape)
    net.keeps(1, THREE)
    net.then("Reshape", shape, out="same")
    net.keeps(1, THREE)
    net.then("Flatten")
    net.keeps(1, [16 * c + i for c in THREE for i in range(16)])
    model, kept = net.end_dense(96)
    known = helper.make_tensor_value_info("same", TensorProto.FLOAT, [1, 6, 4, 4])
    unknown = [value for value in model.graph.value_info if value.name == "same"]
    unknown[0].CopyFrom(known)
    return onnx.shape_inference.infer_shapes(model), kept


def attributes_of_old() -> Case:
    """Bounds, pads and scales as attributes."""
    net = Between(9)
    net.then("Slice", starts=[2, 1], ends=[6, 9], axes=[1, 2])
    net.keeps(1, [0, 3])
    net.then("Pad", pads=[0, 1, 0, 0, 0, 2, 1, 0])
    net.keeps(1, [0, 1, 4, 6])
    net.then("Upsample", net.net.const("scales", [1, 1, 2, 2], np.float32))
    net.keeps(1, [0, 1, 4, 6])
    net.then("Squeeze", axes=[0])
    net.keeps(0, [0, 1, 4, 6])
    net.then("Unsqueeze", axes=[0])
    net.keeps(1, [0, 1, 4, 6])
    return net.end(7)


def from_constants() -> Case:
    """Weights that are worked out from constants: transposed, reshaped, cut and scaled."""
    net = Between()
    w = net.net("Transpose", net.net.weight("turned", 3, 3, 6, 4), perm=[3, 2, 0, 1])
    net.then("Conv", w, pads=[1, 1, 1, 1])
    net.keeps(1, [1, 3])
    w = net.net("Reshape", net.net.weight("row", 20), net.ints("matrix", 5, 4, 1, 1))
    w = net.net("Mul", w, net.net("Exp", net.net.weight("factor", 4, 1, 1)))
    net.then("Conv", w)
    net.keeps(1, [0, 1, 4])
    half = [net.ints(name, value) for name, value in (("from", 1), ("to", 6), ("on", 0))]
    w = net.net("Slice", net.net.weight("long", 7, 4), *half)
    w = net.net("Unsqueeze", net.net("Transpose", w), net.ints("space", 2, 3))
    net.then("Conv", w)
    return net.net.model(net.top), net.kept


def from_constant_nodes() -> Case:
    net = Between()
    value = net.net.random.normal(0, 1, (4, 6, 1, 1)).astype(np.float32)
    w = net.net("Constant", value=numpy_helper.from_array(value))
    b = net.net("Constant", value_floats=[1.0, 2.0, 3.0, 4.0])
    net.then("Conv", w, b)
    net.keeps(1, [1, 3])
    return net.end(4)


def _recurrent(op: str, gates: int, **kw: object) -> Case:
    """In both directions, with everything that is optional, between two products."""
    net = Net()
    x = net("MatMul", net.input("x", 5, 2, 3), net.weight("in", 3, 4), out="fed")
    hidden, ways = 6, 2
    inputs = [
        net.weight("W", ways, gates * hidden, 4),
        net.weight("R", ways, gates * hidden, hidden),
        net.weight("B", ways, 2 * gates * hidden),
        "",
        net.weight("h", ways, 2, hidden),
    ]
    if op == "LSTM":
        inputs += [net.weight("c", ways, 2, hidden), net.weight("P", ways, 3 * hidden)]
    names = ["all", "last", "cell"] if op == "LSTM" else ["all", "last"]
    net.many(op, x, *inputs, out=names, hidden_size=hidden, direction="bidirectional", **kw)
    ends = [net("MatMul", name, net.weight(f"{name}.w", hidden, 2)) for name in names]
    kept: dict[tuple[str, int], Sequence[int]] = {("fed", 2): [1, 3], ("all", 3): THREE}
    kept |= {(name, 2): THREE for name in names[1:]}
    return net.model(*ends), kept


CASES: dict[str, Callable[[], Case]] = {
    case.__name__: case
    for case in (
        *(plain, depthwise, grouped, whole_groups, transposed, transposed_groups, gemms, matmuls),
        *(attention, normalised, beside_normalisation, broadened, expanded, tiled, summed, joined),
        *(split_sizes, split_attribute, split_in_two, sliced_first, sliced_last, sliced_by_two),
        *(sliced_backwards, sliced_unevenly, gathered, one_gathered, embedded, flattened),
        *(reshaped, shuffled, squeezed, padded, resized, folded_by_depth, folded_by_column),
        *(
            pooled,
            mixed_elsewhere,
            softmax_of_old,
            split_by_default,
            sized_at_run_time,
            from_constants,
            from_constant_nodes,
            attributes_of_old,
        ),
    )
}


@pytest.mark.parametrize("name", CASES)
def test_removing_equals_masking(name: str) -> None:
    check(CASES[name]())


def test_attributes_follow() -> None:
    assert attribute(_second(depthwise()), "group") == 3
    assert attribute(_second(grouped()), "group") == 2
    assert attribute(_second(whole_groups()), "group") == 2
    result = check(split_in_two())
    assert attribute(node_of(result, "Split"), "num_outputs") is None
    np.testing.assert_array_equal(values(result)[node_of(result, "Split").input[1]], [2, 1])
    assert attribute(node_of(check(split_attribute()), "Split"), "split") == [1, 2]


def _second(case: Case) -> NodeProto:
    return [node for node in check(case).graph.node if node.op_type == "Conv"][1]


def test_reshape_keeps_what_is_relative() -> None:
    result = check(reshaped())
    tensors = values(result)
    targets = [tensors[n.input[1]].tolist() for n in result.graph.node if n.op_type == "Reshape"]
    assert targets == [[0, 0, 16], [1, 3, 4, -1], [-1, 48]]


def test_slices_stay_slices_where_a_step_reaches() -> None:
    for case in (sliced_first, sliced_last, sliced_by_two):
        assert "Gather" not in {node.op_type for node in check(case()).graph.node}
    result = check(sliced_unevenly())
    gather = node_of(result, "Gather")
    np.testing.assert_array_equal(values(result)[gather.input[1]], [0, 2, 3])
    assert attribute(gather, "axis") == 1


@pytest.mark.parametrize(
    ("op", "gates", "kw"),
    [("RNN", 1, {}), ("GRU", 3, {}), ("GRU", 3, {"linear_before_reset": 1}), ("LSTM", 4, {})],
)
def test_hidden_units(op: str, gates: int, kw: dict[str, int]) -> None:
    """The oracle: the weights by which the units that go are read are zero."""
    model, kept = _recurrent(op, gates, **kw)
    result = shrunk(model, kept)
    zeroed = ModelProto()
    zeroed.CopyFrom(model)
    for tensor in zeroed.graph.initializer:
        value = numpy_helper.to_array(tensor).copy()
        gone = np.setdiff1d(np.arange(6), THREE)
        if tensor.name == "R":
            value[:, :, gone] = 0
        elif tensor.name.endswith(".w"):
            value[gone] = 0
        elif tensor.name == "W":
            value[:, :, [0, 2]] = 0
        tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    for one, other in zip(outputs(zeroed, 1), outputs(result, 1), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    assert attribute(node_of(result, op), "hidden_size") == 3
    sizes = {name: value.shape for name, value in values(result).items()}
    assert sizes["W"] == (2, 3 * gates, 2)
    assert sizes["R"] == (2, 3 * gates, 3)
    assert sizes["B"] == (2, 6 * gates)
    assert sizes.get("P", (2, 9)) == (2, 9)


# Sharing


def test_equal_biases_are_cloned() -> None:
    """Two convolutions share a bias because it was equal; the second keeps all of it."""
    net = Net()
    x, bias = net.input("x", 1, 3, 4, 4), net.weight("bias", 6)
    a = net("Conv", x, net.weight("aw", 6, 3, 1, 1), bias, out="a")
    b = net("Conv", x, net.weight("bw", 6, 3, 1, 1), bias, out="b")
    y = net("Add", net.conv("ya", a, 2, 6, 1, 1), net.conv("yb", b, 2, 6, 1, 1))
    case = net.model(y), {("a", 1): THREE}
    before, after = values(case[0]), values(check(case))
    np.testing.assert_array_equal(after["bias"], before["bias"][THREE])
    np.testing.assert_array_equal(after["bias__1"], before["bias"])
    both = check((case[0], {("a", 1): THREE, ("b", 1): THREE}))
    assert "bias__1" not in values(both)
    apart = values(check((case[0], {("a", 1): THREE, ("b", 1): [1]})))
    np.testing.assert_array_equal(apart["bias__1"], before["bias"][[1]])


def test_weights_used_thrice_are_cloned() -> None:
    net = Net()
    x, w = net.input("x", 1, 4, 4, 4), net.weight("w", 4, 4, 3, 3)
    for name in "abc":
        x = net("Conv", x, w, out=name, pads=[1, 1, 1, 1])
    after = values(check((net.model(x), {("a", 1): [0, 3], ("b", 1): [2]})))
    assert [after[n].shape[:2] for n in ("w", "w__1", "w__2")] == [(2, 4), (1, 2), (4, 1)]


def test_one_shape_for_two_reshapes() -> None:
    net = Between()
    b = net.net.conv("b", net.top, 6, 6, 1, 1)
    ends = []
    for name in (net.top, b):
        y = net.net("Reshape", name, net.net.const("shape", [1, 96], np.int64), out=f"{name}_flat")
        ends.append(net.net.gemm(f"{name}_fc", y, 2, 96))
    flat = [16 * c + i for c in THREE for i in range(16)]
    check((net.net.model(*ends), {**net.kept, ("a_flat", 1): flat}))


def test_constant_that_is_an_output_stays() -> None:
    net = Between()
    w = net.net.weight("gain", 6, 1, 1)
    net.then("Mul", w)
    net.keeps(1, THREE)
    y = net.net.conv("z", net.top, 2, 6, 1, 1)
    model = net.net.model(y)
    model.graph.output.append(helper.make_tensor_value_info(w, TensorProto.FLOAT, [6, 1, 1]))
    result = shrunk(model, net.kept)
    assert values(result)["gain"].shape == (6, 1, 1)
    assert node_of(result, "Mul").input[1] == "gain__1"


# Quantised


def quantised(zero: int = 0, shared: bool = False) -> Case:
    """Per channel, with an int32 bias; both convolutions may read one DequantizeLinear."""
    net = Net(17)
    x = net.dequantize(net.input("x", 1, 6, 4, 4, kind=TensorProto.INT8), 0.05, 3, out="xd")
    weights = []
    for name in "ab":
        scale = net.const(f"{name}s", np.linspace(0.01, 0.02, 6), np.float32)
        grid = net.const(f"{name}z", np.full(6, zero), np.int8)
        w = net.bytes(f"{name}w", 6, 6, 1, 1)
        weights.append(net("DequantizeLinear", w, scale, grid, out=f"{name}wd", axis=0))
    if shared:
        weights[1] = weights[0]
    for name, w in zip("ab", weights, strict=True):
        bias = net.const(f"{name}b", np.arange(6) * 100 - 250, np.int32)
        scale = net.const(f"{name}bs", np.linspace(0.01, 0.02, 6) * 0.05, np.float32)
        zeros = net.const(f"{name}bz", np.zeros(6), np.int32)
        b = net("DequantizeLinear", bias, scale, zeros, out=f"{name}bd", axis=0)
        y = net("Relu", net("Conv", x, w, b, out=name), out=f"{name}_relu")
        q = net.quantize(y, 0.05, 3, out=f"{name}_q")
        x = net.dequantize(q, 0.05, 3, out=f"{name}_d")
    kept = {(f"a{end}", 1): THREE for end in ("", "_relu", "_q", "_d")}
    return net.model(q, kind=TensorProto.INT8), kept


@pytest.mark.parametrize("zero", [0, 5])
@pytest.mark.parametrize("shared", [False, True])
def test_quantised_channels(zero: int, shared: bool) -> None:
    """The oracle: the second convolution's weights for the others are zero."""
    model, kept = quantised(zero, shared)
    result = shrunk(model, kept)
    zeroed, _ = quantised(zero)
    for tensor in zeroed.graph.initializer:
        source = "aw" if shared and tensor.name == "bw" else tensor.name
        scales = {"bs": "as"} if shared else {}
        value = values(model)[scales.get(source, source)].copy()
        if tensor.name == "bw":
            value[:, np.setdiff1d(np.arange(6), THREE)] = zero
        tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    np.testing.assert_array_equal(outputs(zeroed, 1)[0], outputs(result, 1)[0])
    after = values(result)
    sizes = [after[name].shape[0] for name in ("aw", "as", "az", "ab", "abs", "abz")]
    assert sizes == [3] * 6
    assert shapes(result)["a_q"] == (1, 3, 4, 4)


def test_integer_operators() -> None:
    """QLinearConv per channel, then QLinearMatMul with a scale per column, then ConvInteger."""
    net = Net(18)
    x = net.input("x", 1, 3, 4, 4, kind=TensorProto.INT8)
    scale = net.const("ws", np.linspace(0.01, 0.02, 6), np.float32)
    zero, bias = net.const("wz", np.zeros(6), np.int8), net.const("b", np.arange(6) - 3, np.int32)
    grids = [net.grid(0.05, 3), net.grid(0.1, -5), net.grid(0.2, 7)]
    y = net(
        "QLinearConv",
        *(x, *grids[0], net.bytes("w", 6, 3, 1, 1), scale, zero, *grids[1], bias),
        out="y",
    )
    z = net("Transpose", y, perm=[0, 2, 3, 1], out="z")
    columns = net.const("ms", np.linspace(0.01, 0.02, 5), np.float32)
    zeros = net.const("mz", np.zeros(5), np.int8)
    m = net.bytes("m", 6, 5)
    u = net("QLinearMatMul", z, *grids[1], m, columns, zeros, *grids[2], out="u")
    back = net("Transpose", u, perm=[0, 3, 1, 2], out="back")
    v = net("ConvInteger", back, net.bytes("v", 2, 5, 1, 1), grids[2][1])
    model = net.model(v, kind=TensorProto.INT32)
    kept = {("y", 1): THREE, ("z", 3): THREE, ("u", 3): [1, 4], ("back", 1): [1, 4]}
    result = shrunk(model, kept)
    for tensor in model.graph.initializer:
        value = numpy_helper.to_array(tensor).copy()
        if tensor.name == "m":
            value[[1, 3, 4]] = 0
        if tensor.name == "v":
            value[:, [0, 2, 3]] = 0
        tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    np.testing.assert_array_equal(outputs(model, 1)[0], outputs(result, 1)[0])
    sizes = {name: value.shape for name, value in values(result).items()}
    assert (sizes["ws"], sizes["b"], sizes["ms"], sizes["m"]) == ((3,), (3,), (2,), (3, 2))


def test_matrices_of_integers() -> None:
    net = Net(18)
    x = net.input("x", 4, 3, kind=TensorProto.INT8)
    a = net.bytes("a", 3, 6)
    zeros = net.const("zeros", np.arange(6), np.int8)
    y = net("MatMulInteger", x, a, net.const("zero", 3, np.int8), zeros, out="y")
    z = net("MatMul", y, net.const("b", np.arange(12).reshape(6, 2) - 5, np.int32))
    model, kept = net.model(z, kind=TensorProto.INT32), {("y", 1): THREE}
    result = shrunk(model, kept)
    sizes = {name: value.shape for name, value in values(result).items()}
    assert (sizes["a"], sizes["zeros"], sizes["b"]) == ((3, 3), (3,), (3, 2))
    for tensor in model.graph.initializer:
        if tensor.name == "b":
            value = numpy_helper.to_array(tensor).copy()
            value[np.setdiff1d(np.arange(6), THREE)] = 0
            tensor.CopyFrom(numpy_helper.from_array(value, "b"))
    np.testing.assert_array_equal(outputs(model, 1)[0], outputs(result, 1)[0])


def test_operators_of_onnxruntime() -> None:
    """What shape inference does not know keeps its declared shape up to date."""
    net, own = Net(17), "com.microsoft"
    x = net.input("x", 1, 3, 4, 4, kind=TensorProto.INT8)
    grids = [net.grid(0.05, 3), net.grid(0.1, -5)]
    w = net.bytes("w", 6, 3, 1, 1)
    a = net("QLinearConv", x, *grids[0], w, *net.grid(0.01, 0), *grids[1], out="a")
    b = net("QLinearAdd", a, *grids[1], a, *grids[1], *grids[0], domain=own, out="b")
    c = net("QLinearConcat", *grids[1], a, *grids[1], b, *grids[0], domain=own, axis=1, out="c")
    d = net("QLinearGlobalAveragePool", c, *grids[1], *grids[0], domain=own, out="d")
    e = net("Flatten", d, out="e")
    m = net.bytes("m", 12, 2)
    f = net("QGemm", e, *grids[0], m, *net.grid(0.01, 0), "", *grids[1], domain=own)
    model = net.model(f, kind=TensorProto.INT8, shape=(1, 2))
    for name, sizes in (("b", (1, 6, 4, 4)), ("c", (1, 12, 4, 4)), ("d", (1, 12, 1, 1))):
        known = [value for value in model.graph.value_info if value.name == name]
        for value in known:
            model.graph.value_info.remove(value)
        model.graph.value_info.append(helper.make_tensor_value_info(name, TensorProto.INT8, sizes))
    both = [*THREE, *(i + 6 for i in THREE)]
    kept = {("a", 1): THREE, ("b", 1): THREE, ("c", 1): both, ("d", 1): both, ("e", 1): both}
    result = shrunk(model, kept)
    assert shapes(result)["c"] == (1, 6, 4, 4)
    for tensor in model.graph.initializer:
        if tensor.name == "m":
            value = numpy_helper.to_array(tensor).copy()
            value[np.setdiff1d(np.arange(12), both)] = 0
            tensor.CopyFrom(numpy_helper.from_array(value, "m"))
    np.testing.assert_array_equal(outputs(model, 1)[0], outputs(result, 1)[0])


# What is impossible


def refused(case: Case, message: str) -> None:
    edit = Edit(case[0])
    with pytest.raises(ValueError, match=message):
        shrink(edit, case[1])


def test_wrong_indices_are_refused() -> None:
    model, _ = plain()
    for kept, message in (
        ({("b", 1): [0]}, "no tensor b"),
        ({("a", 4): [0]}, "size of axis 4 of a is not known"),
        ({("a", 1): []}, "a would be empty: nothing is kept of its axis 1"),
        ({("a", 1): [2, 0]}, "axis 1 of a: kept indices ascend from 0 to 5"),
        ({("a", 1): [1, 1]}, "ascend"),
        ({("a", 1): [5, 6]}, "ascend"),
        ({("x", 1): [0]}, "x is an input or output"),
        ({("z", 1): [0]}, "z is an input or output"),
        ({("a", 1): [0]}, "cannot shrink Sigmoid n2: it needs all of axis 1 of a, which keeps"),
    ):
        refused((model, kept), message)


def _refusals() -> dict[str, tuple[str, list[Array], dict[str, object], str]]:
    """An operator on the six channels, its constants, its attributes, and what it says."""
    ints = [
        np.array(values) for values in ([6, 1], [1, 2], [1, 3, 1, 1], [1, 6, 8, 8], [1, 9, 8, 8])
    ]
    pads = np.array([0, 1, 0, 0, 0, 0, 0, 0])
    limits = [np.array([at]) for at in (1, 5, 1)]
    return {
        "softmax": ("Softmax", [], {"axis": 1}, r"axes \[1\], which it mixes, must stay whole"),
        "lrn": ("LRN", [], {"size": 3}, r"axes \[1\], which it mixes, must stay whole"),
        "sum": ("CumSum", [np.array(1)], {}, "must stay whole"),
        "einsum": ("Einsum", [], {"equation": "bchw->bchw"}, "this operator is not known here"),
        "reshape": ("Reshape", [np.array([1, 4, 6, 4])], {}, "no whole slice of its input"),
        "reflect": ("Pad", [pads], {"mode": "reflect"}, "padded by a constant only"),
        "tile": ("Tile", [ints[2]], {}, "its copies must keep the same indices"),
        "gather": (
            "Gather",
            [ints[1]],
            {"axis": 1},
            r"it still needs indices \[1\] of its input a",
        ),
        "slice": ("Slice", limits, {}, r"it still needs indices \[1, 3\] of its input a"),
        "resize": (
            "Resize",
            [np.zeros(0, np.float32), np.zeros(0, np.float32), ints[4]],
            {"mode": "nearest"},
            "it changes the size of axis 1",
        ),
        "crop": (
            "Resize",
            [np.tile(np.float32([0, 1]), 4), np.zeros(0, np.float32), ints[3]],
            {"coordinate_transformation_mode": "tf_crop_and_resize"},
            "not in the mode tf_crop_and_resize",
        ),
        "depth": ("SpaceToDepth", [], {"blocksize": 2}, "its blocks must be kept whole"),
    }


@pytest.mark.parametrize("name", _refusals())
def test_what_would_need_other_channels_is_refused(name: str) -> None:
    op, constants, kw, message = _refusals()[name]
    net = Between(21)
    names = [net.net.const(f"c{i}", value) for i, value in enumerate(constants)]
    net.then(op, *names, out="top", **kw)
    model = net.net.model(net.net("ReduceSum", "top", keepdims=0))
    axis = 2 if op == "Reshape" else 1
    sizes = shapes(model)["top"] or (1, 6)
    refused((model, {**net.kept, ("top", axis): [0, *range(2, sizes[axis] - 1)]}), message)


def test_blocks_along_the_channels_are_refused() -> None:
    net = Net(21)
    a = net.conv("a", net.input("x", 1, 3, 4, 4), 6, 3, 1, 1)
    scale = net.const("scale", np.full((1, 3, 4, 4), 0.1), np.float32)
    q = net("QuantizeLinear", a, scale, out="q", axis=1, block_size=2)
    d = net("DequantizeLinear", q, scale, out="d", axis=1, block_size=2)
    model = net.model(net("ReduceSum", d, keepdims=0))
    kept = {(name, 1): [0, 1, 4, 5] for name in "aqd"}
    refused((model, kept), "axis 1 is quantised in blocks")
    rows = {(name, 2): [0, 2] for name in "qd"}
    refused((model, rows), "it needs indices .* of axis 2 of a, which keeps all")


def test_groups_must_stay_even() -> None:
    net = Between()
    net.kept["a", 1] = [0, 2, 3]
    net.top = net.net.conv("g", net.top, 8, 3, 3, 3, group=2)
    refused(net.end(8), "its groups must keep equally many")


def test_an_axis_that_is_moved_in_windows_is_refused() -> None:
    net = Between()
    net.kept = {("a", 2): [0, 1]}
    net.then("ReduceSum", net.ints("rows", 2))
    refused(net.end(), "Conv n1: axis 2 of its output a must stay whole")


def test_a_body_that_reads_a_tensor_is_refused() -> None:
    net = Between()
    result = helper.make_tensor_value_info("r", TensorProto.FLOAT, [1, 6, 4, 4])
    body = helper.make_graph([helper.make_node("Relu", ["a"], ["r"])], "b", [], [result])
    net.top = net.net(
        "If", net.net.const("yes", True, np.bool_), then_branch=body, else_branch=body
    )
    refused(net.end(), "If n2: its body reads a")


def test_keeping_everything_changes_nothing() -> None:
    model, _ = plain()
    edit = Edit(model)
    shrink(edit, {("a", 1): range(6)})
    assert edit.finish().SerializeToString() == model.SerializeToString()
