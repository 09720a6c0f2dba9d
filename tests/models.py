"""Small models with seeded weights: float, int8 QDQ and QOperator; `MODELS` names them all."""

import functools
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, helper, numpy_helper
from onnxruntime import quantization as q

Array = np.ndarray[Any, np.dtype[Any]]
Builder = Callable[[], ModelProto]


class Net:
    """Builds a model node by node: `y = net("Conv", x, w, pads=[1, 1, 1, 1])`."""

    def __init__(self, opset: int = 18, seed: int = 0) -> None:
        self.opset = opset
        self.random = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: dict[str, Array] = {}
        self.inputs: list[onnx.ValueInfoProto] = []
        self.count = 0

    def input(self, name: str, *shape: int, kind: int = TensorProto.FLOAT) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def const(self, name: str, value: Any, dtype: Any = None) -> str:
        self.tensors[name] = np.asarray(value, dtype)
        return name

    def weight(self, name: str, *shape: int) -> str:
        spread = 1 / np.sqrt(max(1, np.prod(shape[1:])))
        return self.const(name, self.random.normal(0, spread, shape), np.float32)

    def bytes(self, name: str, *shape: int) -> str:
        return self.const(name, self.random.integers(-127, 128, shape), np.int8)

    def __call__(self, op: str, *inputs: str, out: str = "", domain: str = "", **kw: Any) -> str:
        return self.many(op, *inputs, out=[out], domain=domain, **kw)[0]

    def many(self, op: str, *inputs: str, out: list[str], domain: str = "", **kw: Any) -> list[str]:
        outputs = []
        for name in out:
            self.count += 1
            outputs.append(name or f"{op.lower()}_{self.count}")
        node = helper.make_node(op, inputs, outputs, name=f"n{self.count}", domain=domain, **kw)
        self.nodes.append(node)
        return outputs

    def conv(self, name: str, x: str, *shape: int, **kw: Any) -> str:
        """Convolution with bias; pads to the same size unless told otherwise."""
        kw.setdefault("pads", [k // 2 for k in shape[2:]] * 2)
        w, b = self.weight(f"{name}.weight", *shape), self.weight(f"{name}.bias", shape[0])
        return self("Conv", x, w, b, out=name, kernel_shape=shape[2:], **kw)

    def norm(self, name: str, x: str, channels: int) -> str:
        parts = [
            self.const(f"{name}.{part}", self.random.uniform(0.5, 1.5, channels), np.float32)
            for part in ("weight", "bias", "mean", "var")
        ]
        return self("BatchNormalization", x, *parts, out=name)

    def gemm(self, name: str, x: str, outputs: int, inputs: int) -> str:
        w, b = self.weight(f"{name}.weight", outputs, inputs), self.weight(f"{name}.bias", outputs)
        return self("Gemm", x, w, b, out=name, transB=1)

    def quantize(self, x: str, scale: float, zero: int, out: str = "", dtype: Any = np.int8) -> str:
        return self("QuantizeLinear", x, *self.grid(scale, zero, dtype), out=out)

    def dequantize(
        self, x: str, scale: float, zero: int, out: str = "", dtype: Any = np.int8
    ) -> str:
        return self("DequantizeLinear", x, *self.grid(scale, zero, dtype), out=out)

    def grid(self, scale: float, zero: int, dtype: Any = np.int8) -> tuple[str, str]:
        self.count += 1
        return (
            self.const(f"scale_{self.count}", scale, np.float32),
            self.const(f"zero_{self.count}", zero, dtype),
        )

    def model(self, *outputs: str, kind: int = TensorProto.FLOAT, shape: Any = None) -> ModelProto:
        values = [helper.make_tensor_value_info(name, kind, shape) for name in outputs]
        tensors = [numpy_helper.from_array(value, name) for name, value in self.tensors.items()]
        graph = helper.make_graph(self.nodes, "net", self.inputs, values, tensors)
        domains = sorted({node.domain for node in self.nodes} | {""})
        imports = [helper.make_opsetid(d, 1 if d else self.opset) for d in domains]
        model = helper.make_model(graph, opset_imports=imports, ir_version=8)
        return onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)


def random_inputs(model: ModelProto, seed: int = 0) -> dict[str, Array]:
    """One random array per graph input: normal floats, integers over their whole range."""
    random = np.random.default_rng(seed)
    arrays = {}
    for value in model.graph.input:
        kind = value.type.tensor_type
        shape = [dim.dim_value or 1 for dim in kind.shape.dim]
        dtype = helper.tensor_dtype_to_np_dtype(kind.elem_type)
        if np.issubdtype(dtype, np.integer):
            info = np.iinfo(dtype)
            low, high = max(info.min, -128), min(info.max, 255)
            arrays[value.name] = random.integers(low, high + 1, shape).astype(dtype)
        else:
            arrays[value.name] = random.standard_normal(shape).astype(dtype)
    return arrays


# Float models


def conv_bn_relu(opset: int = 17) -> ModelProto:
    net = Net(opset)
    x = net.input("x", 1, 3, 8, 8)
    w = net.weight("conv.weight", 6, 3, 3, 3)
    x = net("Conv", x, w, out="conv", pads=[1, 1, 1, 1])
    x = net("Relu", net.norm("bn", x, 6))
    x = net("Relu", net.norm("bn2", net.conv("conv2", x, 4, 6, 1, 1), 4))
    return net.model(x)


def preactivation() -> ModelProto:
    """Normalisations before convolutions (foldable or not), alone, and after Gemm."""
    net = Net(22)
    x = net.norm("bn0", net.input("x", 1, 4, 6, 6), 4)
    x = net.conv("grouped", x, 8, 2, 3, 3, group=2, pads=[0, 0, 0, 0])
    x = net.conv("padded", net.norm("bn1", net("Relu", x), 8), 8, 8, 3, 3)
    x = net("MaxPool", net.norm("bn2", net("Relu", x), 8), kernel_shape=[2, 2], strides=[2, 2])
    x = net.norm("bn3", net.gemm("fc", net("Flatten", x), 5, 32), 5)
    return net.model(x)


def residual() -> ModelProto:
    net = Net()
    x = net("Relu", net.conv("stem", net.input("x", 1, 3, 8, 8), 8, 3, 3, 3))
    y = net("Relu", net.conv("a", x, 8, 8, 3, 3))
    x = net("Relu", net("Add", net.conv("b", y, 8, 8, 3, 3), x))
    y = net.conv("c", x, 12, 8, 3, 3, strides=[2, 2])
    z = net.conv("d", x, 12, 8, 1, 1, strides=[2, 2])
    x = net("GlobalAveragePool", net("Relu", net("Add", y, z)))
    return net.model(net.gemm("fc", net("Flatten", x), 5, 12))


def separable() -> ModelProto:
    net = Net()
    x = net.input("x", 1, 1, 12, 10)
    x = net("Relu", net.conv("stem", x, 8, 1, 4, 4, strides=[2, 2], pads=[1, 1, 2, 2]))
    for i in range(2):
        x = net("Relu", net.conv(f"dw{i}", x, 8, 1, 3, 3, group=8))
        x = net("Relu", net.conv(f"pw{i}", x, 8, 8, 1, 1))
    x = net("AveragePool", x, kernel_shape=[6, 5])
    x = net("Reshape", x, net.const("shape", [1, -1], np.int64), allowzero=1)
    return net.model(net("Softmax", net.gemm("fc", x, 4, 8)))


def pooling_faces() -> ModelProto:
    """The ways in which exporters write a global pool (opset 18: axes are an input)."""
    net = Net(18)
    x = net("Relu", net.conv("conv", net.input("x", 1, 3, 5, 4), 6, 3, 3, 3))
    axes = net.const("axes", [-1, -2], np.int64)
    flat = net.const("flat", [1, 6], np.int64)
    spatial = net.const("spatial", [2, 3], np.int64)
    a = net("Reshape", net("ReduceMean", x, axes, keepdims=1), flat)
    b = net("ReduceMean", x, spatial, keepdims=0)
    c = net("Flatten", net("AveragePool", x, kernel_shape=[5, 4]))
    d = net("ReduceMax", x, spatial, keepdims=0)
    e = net("Flatten", net("MaxPool", x, kernel_shape=[5, 4]))
    return net.model(net.gemm("fc", net("Concat", a, b, c, d, e, axis=1), 4, 30))


def pooling_attribute() -> ModelProto:
    net = Net(13)
    x = net("Relu", net.conv("conv", net.input("x", 1, 3, 6, 6), 6, 3, 3, 3))
    return net.model(net.gemm("fc", net("ReduceMean", x, axes=[2, 3], keepdims=0), 4, 6))


def flatten_gemm() -> ModelProto:
    net = Net(13)
    x = net("Relu", net.conv("conv", net.input("x", 1, 2, 6, 5), 4, 2, 3, 3))
    x = net("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    x = net("Relu", net.gemm("fc1", net("Flatten", x), 10, 24))
    return net.model(net.gemm("fc2", x, 3, 10))


def nhwc_input() -> ModelProto:
    """torch's permute(0, 3, 1, 2), whose pooling exports as a Gather by a table."""
    net = Net(20)
    x = net("Transpose", net.input("x", 1, 8, 8, 3), perm=[0, 3, 1, 2])
    x = net("Relu", net.conv("conv", x, 6, 3, 3, 3))
    x = net("ReduceMean", x, net.const("axes", [2, 3], np.int64), keepdims=1)
    x = net("Reshape", x, net.const("all", [-1], np.int64))
    x = net("Gather", x, net.const("table", np.arange(6).reshape(1, 6, 1, 1), np.int64), axis=0)
    x = net("Reshape", x, net.const("flat", [1, 6], np.int64))
    return net.model(net.gemm("fc", x, 4, 6))


def tf_style() -> ModelProto:
    """As tf2onnx writes Keras: NHWC between the convolutions, Transposes around each of them."""
    net = Net(15)

    def conv(name: str, x: str, *shape: int, **kw: Any) -> str:
        x = net("Transpose", x, perm=[0, 3, 1, 2])
        return net("Transpose", net.conv(name, x, *shape, **kw), perm=[0, 2, 3, 1])

    x = net.input("x", 1, 8, 8, 3)
    pads = net.const("pads", [0, 0, 0, 0, 0, 1, 1, 0], np.int64)
    x = net("Relu", conv("stem", net("Pad", x, pads), 6, 3, 3, 3, pads=[0] * 4, strides=[2, 2]))
    y = net("Relu", conv("a", x, 6, 6, 3, 3))
    y = net("Mul", conv("b", y, 6, 6, 3, 3), net.weight("gain", 6))
    x = net("Relu", net("Add", y, x))
    x = net("Concat", x, net("Sigmoid", conv("c", x, 2, 6, 1, 1)), axis=3)
    x = net("Add", x, net.weight("offset", 1, 1, 1, 8))
    x = net("ReduceMean", x, axes=[1, 2], keepdims=0)
    x = net("Add", net("MatMul", x, net.weight("fc.weight", 8, 4)), net.weight("fc.bias", 4))
    return net.model(net("Softmax", x))


def nhwc_both_ends() -> ModelProto:
    net = Net(15)
    x = net("Transpose", net.input("x", 1, 6, 6, 2), perm=[0, 3, 1, 2])
    x = net("Transpose", net("Relu", net.conv("a", x, 4, 2, 3, 3)), perm=[0, 2, 3, 1])
    left, right = net.many("Split", x, out=["left", "right"], axis=-1)
    x = net("Concat", right, net("Tanh", left), axis=-1)
    x = net("Transpose", net("Clip", x), perm=[0, 3, 1, 2])
    x = net("Transpose", net.conv("b", x, 3, 4, 3, 3), perm=[0, 2, 3, 1])
    return net.model(net("Softmax", x, axis=-1, out="y"))


def shared_weights() -> ModelProto:
    net = Net(17)
    x = net.input("x", 1, 4, 6, 6)
    w, b = net.weight("w", 4, 4, 3, 3), net.weight("b", 4)
    for _ in range(3):
        x = net("Relu", net("Conv", x, w, b, pads=[1, 1, 1, 1]))
    return net.model(net("Mul", x, net.weight("gain", 4, 1, 1)))


def concat_branches() -> ModelProto:
    net = Net(17)
    x = net("Relu", net.conv("stem", net.input("x", 1, 3, 6, 6), 4, 3, 3, 3))
    y = net("Relu", net.conv("a", x, 3, 4, 1, 1))
    z = net("AveragePool", x, kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=0)
    x = net("Concat", x, y, z, axis=1)
    return net.model(net.conv("head", x, 5, 11, 1, 1))


def split_branches() -> ModelProto:
    net = Net(18)
    x = net("Relu", net.conv("stem", net.input("x", 1, 3, 6, 6), 8, 3, 3, 3))
    a, b = net.many("Split", x, out=["a", "b"], axis=1, num_outputs=2)
    x = net("Concat", net("Relu", net.conv("conv", a, 4, 4, 3, 3)), b, axis=1)
    return net.model(net("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]))


def upsampled() -> ModelProto:
    net = Net(18)
    x = net("Relu", net.conv("a", net.input("x", 1, 2, 4, 4), 4, 2, 3, 3))
    scales = net.const("scales", [1, 1, 2, 2], np.float32)
    kw = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    x = net("Resize", x, "", scales, mode="nearest", **kw)
    return net.model(net.conv("b", x, 3, 4, 3, 3))


def padded() -> ModelProto:
    net = Net(13)
    x = net.input("x", 1, 2, 12)
    for i, step in enumerate((1, 2)):
        x = net("Pad", x, net.const(f"pads{i}", [0, 0, 2 * step, 0, 0, 0], np.int64))
        x = net("Relu", net.conv(f"c{i}", x, 4, 2 + 2 * i, 3, dilations=[step], pads=[0, 0]))
    return net.model(x)


def relu6() -> ModelProto:
    net = Net(18)
    low, high = net.const("low", 0, np.float32), net.const("high", 6, np.float32)
    x = net("Clip", net.conv("a", net.input("x", 1, 3, 8, 8), 6, 3, 3, 3), low, high)
    x = net("Clip", net.conv("b", x, 6, 1, 3, 3, group=6), low, high)
    x = net("Clip", net("Relu", net.conv("c", x, 4, 6, 1, 1)), "", high)
    return net.model(net("Relu", net("Relu", x)))


def activations() -> ModelProto:
    net = Net(18)
    x = net.input("x", 1, 3, 5, 5)
    for i, op in enumerate(["Sigmoid", "Tanh", "HardSwish", "LeakyRelu", "HardSigmoid", "Elu"]):
        x = net(op, net.conv(f"c{i}", x, 3, 3, 3, 3))
    slope = net.weight("slope", 3, 1, 1)
    return net.model(net("PRelu", x, slope))


def squeeze_excite() -> ModelProto:
    net = Net(18)
    x = net("Relu", net.conv("a", net.input("x", 1, 3, 6, 6), 6, 3, 3, 3))
    y = net("ReduceMean", x, net.const("axes", [-1, -2], np.int64), keepdims=1)
    y = net("Relu", net.conv("down", y, 2, 6, 1, 1))
    y = net("HardSigmoid", net.conv("up", y, 6, 2, 1, 1))
    return net.model(net.conv("b", net("Mul", x, y), 4, 6, 1, 1))


def legacy_shapes() -> ModelProto:
    """Shapes computed at run time, as torch's older exporter and tf2onnx leave them."""
    net = Net(13)
    x = net("Relu", net.conv("conv", net.input("x", 1, 2, 4, 4), 4, 2, 3, 3))
    zero = net("Constant", value=numpy_helper.from_array(np.array(0, np.int64)))
    batch = net("Gather", net("Shape", x), zero, axis=0)
    axes = net("Constant", value_ints=[0])
    rest = net("Constant", value_ints=[-1])
    shape = net("Concat", net("Unsqueeze", batch, axes), rest, axis=0)
    x = net("Dropout", net("Identity", net("Reshape", x, shape)))
    ones = net("ConstantOfShape", net.const("size", [64], np.int64))
    x = net("Add", x, net("Cast", ones, to=TensorProto.FLOAT))
    return net.model(net.gemm("fc", x, 3, 64))


def identities() -> ModelProto:
    """One node of each kind that changes nothing, between two that do."""
    net = Net(13)
    x = net("Relu", net.input("x", 1, 2, 4, 4))
    x = net("Identity", net("Transpose", x, perm=[0, 1, 2, 3]))
    x = net("Reshape", x, net.const("same", [1, 2, 4, 4], np.int64))
    x = net("Pad", x, net.const("nothing", [0] * 8, np.int64))
    x = net("Slice", x, net.const("start", [0], np.int64), net.const("end", [99], np.int64))
    x = net("Cast", net("Clip", net("Concat", x, axis=1)), to=TensorProto.FLOAT)
    x = net("Resize", x, "", net.const("once", [1, 1, 1, 1], np.float32), mode="nearest")
    x = net(
        "Mul", net("Add", x, net.const("zero", 0, np.float32)), net.const("one", [[1]], np.float32)
    )
    x = net("Gather", x, net.const("table", [0, 1], np.int64), axis=1)
    x = net("Expand", net("Max", x), net.const("wide", [1, 1, 1], np.int64))
    x = net("MaxPool", x, kernel_shape=[1, 1])
    x = net("Flatten", net("Unsqueeze", x, net.const("axis", [0], np.int64)), axis=2)
    return net.model(net("Sigmoid", x))


# Integer models


def _batches(model: ModelProto) -> Iterator[dict[str, Array]]:
    return iter([random_inputs(model, seed) for seed in range(8)])


@functools.cache
def _quantized_bytes(build: Builder, style: str, activations: str, weights: str) -> bytes:
    model = build()

    class Data(q.CalibrationDataReader):
        batches = _batches(model)

        def get_next(self) -> dict[str, Array] | None:
            return next(self.batches, None)

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        q.quantize_static(
            model,
            str(path),
            Data(),
            quant_format=q.QuantFormat[style],
            per_channel=True,
            activation_type=q.QuantType[activations],
            weight_type=q.QuantType[weights],
        )
        return path.read_bytes()


def quantized(
    build: Builder, style: str = "QDQ", activations: str = "QInt8", weights: str = "QInt8"
) -> ModelProto:
    """A float model as onnxruntime's quantize_static makes it, calibrated with seeded noise."""
    return onnx.load_from_string(_quantized_bytes(build, style, activations, weights))


def _qdq(build: Builder) -> Builder:
    return functools.partial(quantized, build)


def qdq_by_hand() -> ModelProto:
    """int8 in and out; the activations after Add and Clip are separate nodes."""
    net = Net(17)
    x = net.input("x", 1, 4, 6, 6, kind=TensorProto.INT8)
    w = net.dequantize(net.bytes("w", 4, 4, 3, 3), 0.01, 0)
    y = net("Conv", net.dequantize(x, 0.05, 3), w, pads=[1, 1, 1, 1])
    y = net.quantize(net("Relu", y), 0.04, -128, out="y")
    z = net("Add", net.dequantize(y, 0.04, -128), net.dequantize(x, 0.05, 3))
    z = net.quantize(net("Relu", z), 0.06, -128, out="z")
    again = net.quantize(net.dequantize(z, 0.06, -128), 0.06, -128)
    low, high = net.const("low", 0, np.float32), net.const("high", 6, np.float32)
    v = net("Conv", net.dequantize(again, 0.06, -128), w, pads=[1, 1, 1, 1])
    v = net.quantize(net("Clip", v, low, high), 6 / 255, -128, out="v")
    return net.model(net("MaxPool", v, kernel_shape=[2, 2], out="out"), kind=TensorProto.INT8)


def qdq_nhwc() -> ModelProto:
    """int8 NHWC in and out, quantisers between the Transposes, weights stored as HWIO."""
    net = Net(17)
    x = net.input("x", 1, 6, 6, 3, kind=TensorProto.INT8)
    for i, (count, scale) in enumerate([(4, 0.1), (5, 0.2)]):
        y = net("Transpose", net.dequantize(x, 0.1, -3), perm=[0, 3, 1, 2])
        w = net.bytes(f"w{i}", 3, 3, 3 if i == 0 else 4, count)
        grids = net.const(f"ws{i}", np.full(count, 0.01), np.float32)
        zeros = net.const(f"wz{i}", np.zeros(count), np.int8)
        w = net("Transpose", net("DequantizeLinear", w, grids, zeros, axis=3), perm=[3, 2, 0, 1])
        y = net("Transpose", net("Conv", y, w, pads=[1, 1, 1, 1]), perm=[0, 2, 3, 1])
        x = net.quantize(net("Relu", y), scale, -128, out=f"q{i}")
        x = net.quantize(net("Tanh", net.dequantize(x, scale, -128)), 0.1, -3, out=f"t{i}")
    return net.model(x, kind=TensorProto.INT8)


def qoperator_microsoft() -> ModelProto:
    """One of each of com.microsoft's integer operators."""
    net, own = Net(17), "com.microsoft"
    x = net.input("x", 1, 4, 6, 6, kind=TensorProto.INT8)
    a, b, c = (net.grid(s, z) for s, z in ((0.05, 3), (0.02, -10), (0.07, -128)))
    y = net("QLinearSigmoid", x, *a, *net.grid(1 / 256, -128), domain=own)
    y = net("QLinearAdd", x, *a, y, *net.grid(1 / 256, -128), *b, domain=own)
    z = net("QLinearLeakyRelu", x, *a, *c, domain=own, alpha=0.1)
    y = net("QLinearConcat", *b, y, *b, z, *c, domain=own, axis=1)
    pool = {"kernel_shape": [2, 2], "strides": [2, 2]}
    y = net("QLinearMul", y, *b, y, *b, *a, domain=own)
    y = net("QLinearAveragePool", y, *a, *a, domain=own, **pool)
    y = net("QLinearGlobalAveragePool", y, *a, *a, domain=own, channels_last=0)
    y = net("Flatten", y)
    w, bias = net.bytes("w", 8, 5), net.const("bias", [100, -200, 3, 40, 5], np.int32)
    y = net("QGemm", y, *a, w, *net.grid(0.01, 0), bias, *b, domain=own, alpha=1.0)
    y = net(
        "QLinearSoftmax", y, *b, *net.grid(1 / 256, -128), domain=own, axis=-1, opset=17, out="y"
    )
    return net.model(y, kind=TensorProto.INT8, shape=[1, 5])


def with_body() -> ModelProto:
    """An If whose bodies read tensors and weights of the outer graph; not in MODELS."""
    net = Net(17)
    x = net("Relu", net.conv("conv", net.input("x", 1, 2, 4, 4), 2, 2, 3, 3))
    same = net("Identity", x)
    w = net.weight("w", 2, 1, 1)
    x = net("Add", net("Transpose", x, perm=[0, 2, 3, 1]), net("Transpose", w, perm=[1, 2, 0]))
    total = net("ReduceSum", x, keepdims=0)
    condition = net("Greater", total, net.const("limit", 0, np.float32))
    bodies = {}
    for branch, op in (("then_branch", "Mul"), ("else_branch", "Sub")):
        value = helper.make_tensor_value_info(f"{op}_result", TensorProto.FLOAT, [1, 2, 4, 4])
        node = helper.make_node(op, [same, w], [value.name])
        bodies[branch] = helper.make_graph([node], op, [], [value])
    y = net("If", condition, **bodies)
    return net.model(net("Relu", net("Relu", y)), x)


MODELS: dict[str, Builder] = {
    "conv_bn_relu_13": functools.partial(conv_bn_relu, 13),
    "conv_bn_relu_17": functools.partial(conv_bn_relu, 17),
    "conv_bn_relu_22": functools.partial(conv_bn_relu, 22),
    "preactivation": preactivation,
    "residual": residual,
    "separable": separable,
    "pooling_faces": pooling_faces,
    "pooling_attribute": pooling_attribute,
    "flatten_gemm": flatten_gemm,
    "nhwc_input": nhwc_input,
    "nhwc_both_ends": nhwc_both_ends,
    "tf_style": tf_style,
    "shared_weights": shared_weights,
    "concat_branches": concat_branches,
    "split_branches": split_branches,
    "upsampled": upsampled,
    "padded": padded,
    "relu6": relu6,
    "activations": activations,
    "squeeze_excite": squeeze_excite,
    "legacy_shapes": legacy_shapes,
    "identities": identities,
    "qdq_by_hand": qdq_by_hand,
    "qdq_nhwc": qdq_nhwc,
    "residual_qdq": _qdq(residual),
    "separable_qdq": _qdq(separable),
    "pooling_faces_qdq": _qdq(pooling_faces),
    "tf_style_qdq": _qdq(tf_style),
    "concat_qdq": _qdq(concat_branches),
    "relu6_qdq": _qdq(relu6),
    "upsampled_qdq": _qdq(upsampled),
    "squeeze_excite_qdq": _qdq(squeeze_excite),
    "activations_qdq": _qdq(activations),
    "residual_uint8": functools.partial(quantized, residual, activations="QUInt8"),
    "split_uint8": functools.partial(
        quantized, split_branches, activations="QUInt8", weights="QUInt8"
    ),
    "residual_qoperator": functools.partial(quantized, residual, style="QOperator"),
    "separable_qoperator": functools.partial(quantized, separable, style="QOperator"),
    "qoperator_microsoft": qoperator_microsoft,
}
