"""What a model file may have wrong, and what a good one becomes."""

import io
import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper, numpy_helper, parser

from mcugraph.bind import unresolved
from mcugraph.errors import LoadError, plain
from mcugraph.load import load, load_model

SHARED = Path(__file__).parents[2] / "shared"
HEAD = '<ir_version: 8, opset_import: ["" : 18]> g '
RANDOM = np.random.default_rng(0)


def build(text: str, head: str = HEAD, **constants: Any) -> ModelProto:
    """A model in ONNX text with its initializers as arrays."""
    model = parser.parse_model(head + text)
    del model.graph.value_info[:]
    for name, value in constants.items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    return model


def conv_net(batch: int | str = "N") -> ModelProto:
    return build(
        f"(float[{batch},3,8,8] x) => (float[{batch},4] y) {{"
        "c = Conv<pads=[1,1,1,1], strides=[2,2]>(x, w, b)  r = Clip(c, low, high)"
        "p = MaxPool<kernel_shape=[2,2], strides=[2,2]>(r)  f = Reshape(p, shape)  y = Gemm(f, v)}",
        w=RANDOM.normal(size=(4, 3, 3, 3)).astype(np.float32),
        b=np.zeros(4, np.float32),
        low=np.float32(0),
        high=np.float32(6),
        shape=np.array([-1, 16]),
        v=RANDOM.normal(size=(16, 4)).astype(np.float32),
    )


def int8_net(**changed: Any) -> ModelProto:
    constants = {
        "xs": np.float32(0.1),
        "xz": np.int8(3),
        "ws": np.float32(0.01),
        "w": RANDOM.integers(-127, 128, (8, 4)).astype(np.int8),
        "ys": np.float32(0.2),
        "yz": np.int8(-5),
    }
    return build(
        "(int8[1,8] x) => (int8[1,4] y) {"
        "xd = DequantizeLinear(x, xs, xz)  wd = DequantizeLinear(w, ws)  m = MatMul(xd, wd)"
        "r = Relu(m)  a, b = Split<num_outputs=2, axis=1>(r)  c = Concat<axis=1>(b, a)"
        "y = QuantizeLinear(c, ys, yz)}",
        **{**constants, **changed},
    )


def relu(shape: str = "1,4", text: str = "y = Relu(x)", head: str = HEAD) -> ModelProto:
    return build(f"(float[{shape}] x) => (float[?,?] y) {{{text}}}", head)


def refusal(model: ModelProto, dims: Mapping[str, int] | None = None) -> tuple[str, ...]:
    with pytest.raises(LoadError) as caught:
        load_model(model, dims)
    assert str(caught.value) == "\n".join(caught.value.problems)
    assert not any("\n" in line for line in caught.value.problems)
    return caught.value.problems


def file_refusal(path: Path) -> str:
    with pytest.raises(LoadError) as caught:
        load(path)
    assert len(caught.value.problems) == 1
    return str(caught.value)


def run(model: ModelProto, x: np.ndarray[Any, np.dtype[Any]]) -> np.ndarray[Any, np.dtype[Any]]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    result: np.ndarray[Any, np.dtype[Any]] = session.run(None, {session.get_inputs()[0].name: x})[0]
    return result


def output_shape(model: ModelProto) -> list[int]:
    return [dim.dim_value for dim in model.graph.output[0].type.tensor_type.shape.dim]


# Files


def zipped(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, "x")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "is empty"),
        (b"\x1c\0\0\0TFL3" + bytes(64), "is a TFLite file, not ONNX; convert it to ONNX"),
        (b"\x89HDF\r\n\x1a\n" + bytes(64), "is a Keras HDF5 file"),
        (zipped("archive/data.pkl"), "is a torch file (.pt), not ONNX; load it in Python"),
        (zipped("config.json", "model.weights.h5"), "is a Keras file (.keras)"),
        (zipped("m.onnx"), "is a zip archive, not ONNX; unpack it"),
        (zipped("m.onnx")[:20], "is a damaged zip archive"),
        (pickle.dumps({"a": 1}, protocol=2), "is a Python pickle"),
        (b"version https://git-lfs\noid sha256:0", "is a Git LFS pointer"),
        (b"layer1: conv 3x3\n" * 9, "is a text file"),
        (bytes(range(255, 100, -1)), "is not an ONNX file"),
        (conv_net().SerializeToString()[:-40], "is a truncated or damaged ONNX file"),
        (conv_net().SerializeToString()[:2], "holds no graph"),
    ],
)
def test_foreign_file_is_named(tmp_path: Path, content: bytes, complaint: str) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(content)
    assert complaint in file_refusal(path)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    assert "No such file" in file_refusal(tmp_path / "none.onnx")
    assert "is a folder" in file_refusal(tmp_path)
    assert "cannot read" in file_refusal(Path("a\0b.onnx"))


def saved_apart(folder: Path) -> Path:
    path = folder / "net.onnx"
    onnx.save(
        conv_net(), path, save_as_external_data=True, location="net.onnx.data", size_threshold=100
    )
    return path


def test_external_data_is_read(tmp_path: Path) -> None:
    path = saved_apart(tmp_path)
    assert (tmp_path / "net.onnx.data").stat().st_size >= 432
    model = load(str(path))
    x = RANDOM.normal(size=(1, 3, 8, 8)).astype(np.float32)
    assert np.array_equal(run(model, x), run(onnx.load(path), x))
    assert not any(t.external_data or t.data_location for t in model.graph.initializer)


def test_missing_external_data(tmp_path: Path) -> None:
    path = saved_apart(tmp_path)
    (tmp_path / "net.onnx.data").unlink()
    text = file_refusal(path)
    assert f"net.onnx.data is missing (looked for in {tmp_path}; needed by w, v)" in text
    assert "external_data=False" in text


def test_short_external_data(tmp_path: Path) -> None:
    path = saved_apart(tmp_path)
    (tmp_path / "net.onnx.data").write_bytes(bytes(40))
    with pytest.raises(LoadError, match=r"needs bytes 0 to 432 of net\.onnx\.data, which has 40"):
        load(path)


@pytest.mark.parametrize(
    ("key", "value", "complaint"),
    [
        ("location", "../secret", "leaves the model's folder"),
        ("location", "/etc/passwd", "is not a file beside the model"),
        ("location", "", "is not a file beside the model"),
        ("offset", "many", "must be integers"),
        ("length", "-4", "must not be negative"),
        ("length", "4", "does not fit its data"),
    ],
)
def test_wrong_external_data(tmp_path: Path, key: str, value: str, complaint: str) -> None:
    path = saved_apart(tmp_path)
    model = onnx.load(path, load_external_data=False)
    tensor = next(t for t in model.graph.initializer if t.external_data)
    for entry in tensor.external_data:
        entry.value = value if entry.key == key else entry.value
    path.write_bytes(model.SerializeToString())
    assert complaint in file_refusal(path)


def test_external_data_needs_the_path(tmp_path: Path) -> None:
    model = onnx.load(saved_apart(tmp_path), load_external_data=False)
    assert "constant w: its data lies outside of the model" in refusal(model)[0]


# Problems


def with_opset(version: int) -> ModelProto:
    return relu(head=f'<ir_version: 8, opset_import: ["" : {version}]> g ')


@pytest.mark.parametrize("version", [*range(13, 25)])
def test_opsets_13_to_24_load(version: int) -> None:
    assert load_model(with_opset(version)).opset_import[0].version == version


def without(field: str) -> ModelProto:
    model = relu()
    model.graph.ClearField(field)
    return model


def garbled() -> ModelProto:
    text = relu().SerializeToString().replace(b"Relu", b"R\xff\xfeu")
    return onnx.load_model_from_string(text)


def sparse() -> ModelProto:
    model = relu()
    values = helper.make_tensor("s", TensorProto.FLOAT, [1], [1.0])
    places = helper.make_tensor("p", TensorProto.INT64, [1], [0])
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, [4]))
    return model


def typed(kind: onnx.TypeProto) -> ModelProto:
    model = relu()
    model.graph.input[0].type.CopyFrom(kind)
    return model


def short_weight() -> ModelProto:
    model = conv_net()
    model.graph.initializer[0].dims[0] = 5
    return model


def twice() -> ModelProto:
    model = conv_net()
    model.graph.initializer.append(model.graph.initializer[0])
    return model


def weight(value: float) -> ModelProto:
    model = conv_net()
    array = numpy_helper.to_array(model.graph.initializer[0]).copy()
    array.flat[:3] = value
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(array, "w"))
    return model


SEQUENCE = helper.make_sequence_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, [1]))
FOREIGN = '<ir_version: 8, opset_import: ["" : 18, "lab" : 1]> g '


@pytest.mark.parametrize(
    ("model", "complaint"),
    [
        (with_opset(12), "opset 12; 13 to 24 are supported: export the model again"),
        (with_opset(25), "opset 25; 13 to 24 are supported"),
        (without("node"), "no nodes; there is nothing to compile"),
        (without("input"), "the model has no input"),
        (without("output"), "the model has no output"),
        (garbled(), "not valid text: the file is damaged"),
        (sparse(), "initializer s is sparse; store it as a dense tensor"),
        (typed(SEQUENCE), "input x is a sequence; only dense tensors"),
        (typed(onnx.TypeProto()), "input x has no type"),
        (typed(helper.make_tensor_type_proto(TensorProto.STRING, [1])), "element type string"),
        (typed(helper.make_tensor_type_proto(TensorProto.INT4, [1])), "element type int4"),
        (typed(helper.make_tensor_type_proto(1, None)), "input x has no shape"),
        (twice(), "tensor 'w' is defined 2 times"),
        (relu(text="y = Add(x, q)"), "node y (Add) reads 'q', which nothing produces"),
        (relu(text="z = Relu(x)"), "output 'y' is produced by nothing"),
        (relu(text="z = Add(x, y)  y = Relu(z)"), "nodes form a cycle: node"),
        (relu(text="y = Frob(x)"), "node y (Frob): No Op registered for Frob"),
        (relu(text="y = Relu<alpha = 1>(x)"), "node y (Relu): Unrecognized attribute: alpha"),
        (relu(text="y = lab.Frob(x)", head=FOREIGN), "no operators of domain 'lab'"),
        (relu(text="y = Conv(x, x)"), "node y/Conv (Conv): Input tensor must have at least 3"),
        (relu(text="y, z = Split<num_outputs=3>(x)"), "num_outputs is 3, but it has 2 outputs"),
        (relu(text="y = LpPool<kernel_shape=[99999999]>(x)"), "kernel_shape is 99999999"),
        (relu(shape="1,0"), "input x: dimension 1 is 0; must be at least 1"),
        (relu(shape="1,1099511627776"), "takes 4,398,046,511,104 bytes; at most 268,435,456"),
        (short_weight(), "constant w: shape [5, 3, 3, 3] does not fit its data"),
        (weight(np.nan), "constant w: 3 of 108 elements are NaN or infinite"),
        (weight(np.inf), "constant w: 3 of 108 elements are NaN or infinite"),
        (relu(text="y = LeakyRelu<alpha = nan>(x)"), "attribute alpha is NaN"),
        (int8_net(xs=np.float32(np.nan)), "node xd (DequantizeLinear): scale xs is nan"),
        (int8_net(ys=np.float32(0)), "node y (QuantizeLinear): scale ys is 0; a scale must be"),
        (int8_net(ys=np.float32(-1)), "scale ys is -1; a scale must be finite and positive"),
        (int8_net(ys=np.float32(np.inf)), "scale ys is inf"),
        (int8_net(xz=np.uint8(3)), "zero point xz is uint8, but x is int8"),
        (int8_net(xz=np.zeros(2, np.int8)), "zero point xz has 2 elements, its scale xs has 1"),
        (int8_net(ws=np.ones(3, np.float32)), "onnxruntime cannot run the model"),
    ],
)
def test_problem_is_named(model: ModelProto, complaint: str) -> None:
    assert complaint in refusal(model)[0]


def test_scales_of_qoperator_models_are_read() -> None:
    head = '<ir_version: 8, opset_import: ["" : 18, "com.microsoft" : 1]> g '
    model = build(
        "(int8[1,4] x) => (int8[1,8] y) {"
        "a = com.microsoft.QLinearAdd(x, s, z, x, s, z, nan, z)"
        "y = com.microsoft.QLinearConcat<axis=1>(s, z, x, s, z, a, zero, z)}",
        head,
        s=np.float32(0.1),
        z=np.int8(0),
        nan=np.float32(np.nan),
        zero=np.float32(0),
    )
    lines = refusal(model)
    assert len(lines) == 2
    assert "node a (QLinearAdd): scale nan is nan" in lines[0]
    assert "node y (QLinearConcat): scale zero is 0" in lines[1]


def test_all_problems_are_listed_at_once() -> None:
    model = int8_net(xs=np.float32(np.nan), xz=np.uint8(1), yz=np.zeros(3, np.int8))
    model.opset_import[0].version = 12
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "time"
    model.graph.node[3].input[0] = "lost"
    found = refusal(model)
    for complaint in (
        "opset 12",
        "reads 'lost'",
        "is nan",
        "uint8",
        "3 elements",
        "--dim time=<n>",
    ):
        assert sum(complaint in line for line in found) == 1, complaint
    assert len(found) == 6


def test_infinite_bound_of_clip_is_allowed() -> None:
    model = conv_net()
    high = next(t for t in model.graph.initializer if t.name == "high")
    high.CopyFrom(numpy_helper.from_array(np.array(np.inf, np.float32), "high"))
    assert load_model(model).graph.node


def test_bodies_do_not_crash() -> None:
    model = build(
        "(float[1,4] x, bool b) => (float[?,?] y) {"
        "y = If(b) <then_branch = g1 () => (float[1,4] t) { t = Relu(x) },"
        "else_branch = g2 () => (float[1,4] e) { e = Neg(x) }>}"
    )
    assert [node.op_type for node in load_model(model).graph.node] == ["If"]


def test_engine_messages_lose_their_traces() -> None:
    text = (
        "[ONNXRuntimeError] : 1 : FAIL : Exception during initialization: /src/a-b/ops.h:256 "
        "rt::Div<T>::Div(const rt::Info&) [with T = int] b[i] != 0 was false.\n Division by zero\n"
    )
    assert plain(text) == "b[i] != 0 was false. Division by zero"
    assert len(plain("x" * 999)) < 310


# Dimensions


def test_batch_becomes_one() -> None:
    model = load_model(conv_net())
    assert output_shape(model) == [1, 4]
    assert unresolved(model) == []
    assert output_shape(load_model(conv_net(), {"N": 3})) == [3, 4]


def test_named_dimension() -> None:
    model = relu("batch,time")
    assert refusal(model) == ("input x: dimension 1 is dynamic; give its size: --dim time=<n>",)
    assert output_shape(load_model(model, {"time": 49})) == [1, 49]


def test_nameless_dimension() -> None:
    model = relu("?,?")
    assert "--dim x:1=<n>" in refusal(model)[0]
    assert output_shape(load_model(model, {"x:1": 7})) == [1, 7]


def test_one_name_in_two_places() -> None:
    model = build("(float[N,4] x, float[4,N] w) => (float[?,?] y) { y = MatMul(x, w) }")
    assert output_shape(load_model(model)) == [1, 1]


@pytest.mark.parametrize(
    ("dims", "complaint"),
    [
        ({"tmie": 4}, "no dynamic dimension 'tmie'; there are: batch, time"),
        ({"time": 0}, "--dim time=0: must be at least 1"),
    ],
)
def test_wrong_request_is_the_callers(dims: dict[str, int], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint) as caught:
        load_model(relu("batch,time"), dims)
    assert not isinstance(caught.value, LoadError)


def test_stale_output_shape_is_worked_out_again() -> None:
    model = conv_net(1)
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 8
    model.graph.value_info.append(helper.make_tensor_value_info("c", TensorProto.FLOAT, [8, 9]))
    assert output_shape(load_model(model)) == [1, 4]


def data_dependent(shape: str) -> ModelProto:
    return build(
        f"(float[1,4] x) => (float[{shape}] y) {{"
        "r = Relu(x)  m = ReduceMax<keepdims=0>(r)  i = Cast<to=7>(m)  j = Mul(i, zero)"
        "n = Add(j, one)  y = Reshape(r, n)}",
        zero=np.array([0]),
        one=np.array([4]),
    )


def test_unresolved_names_the_first_node() -> None:
    model = load_model(data_dependent("?"))
    (line,) = unresolved(model)
    assert line.startswith("tensor y: its shape, [?], does not follow from the shapes that node y")


def test_declared_shape_serves_where_none_can_be_worked_out() -> None:
    assert output_shape(load_model(data_dependent("4"))) == [4]
    assert "onnxruntime computes shape [4], the model says [5]" in refusal(data_dependent("5"))[0]


# The clean model


def test_private_text_is_dropped() -> None:
    model = conv_net()
    model.doc_string = "/home/me"
    model.metadata_props.add(key="path", value="/home/me")
    node, tensor = model.graph.node[0], model.graph.initializer[0]
    node.doc_string = tensor.doc_string = model.graph.doc_string = "/home/me"
    node.metadata_props.add(key="pkg.torch.onnx.stack_trace", value="/home/me")
    node.metadata_props.add(key="pkg.torch.onnx.name_scopes", value="['', 'c1']")
    node.metadata_props.add(key="namespace", value=": M/c1: Conv2d")
    model.graph.input[0].metadata_props.add(key="kind", value="/home/me")
    clean = load_model(model)
    assert b"/home/me" not in clean.SerializeToString()
    assert [(p.key, p.value) for p in clean.graph.node[0].metadata_props] == [
        ("pkg.torch.onnx.name_scopes", "['', 'c1']")
    ]


def test_dead_parts_are_dropped_and_order_is_put_right() -> None:
    model = conv_net()
    model.opset_import.add(domain="com.microsoft.nchwc", version=1)
    model.graph.initializer.append(numpy_helper.from_array(np.ones(3, np.float32), "unused"))
    model.graph.node.append(helper.make_node("Neg", ["c"], ["dead"]))
    backwards = [*model.graph.node][::-1]
    del model.graph.node[:]
    model.graph.node.extend(backwards)
    clean = load_model(model)
    assert [n.op_type for n in clean.graph.node] == ["Conv", "Clip", "MaxPool", "Reshape", "Gemm"]
    assert "unused" not in {tensor.name for tensor in clean.graph.initializer}
    assert [entry.domain for entry in clean.opset_import] == [""]


def test_no_live_node_is_refused() -> None:
    model = build("(float[1,4] x) => (float[1,4] x) { y = Relu(x) }")
    assert "no node of the model reaches an output" in refusal(model)[0]


def test_nodes_get_unique_names() -> None:
    model = conv_net()
    for node, name in zip(model.graph.node, ["a", "a", "", "a__1", "\n"], strict=True):
        node.name = name
    names = [node.name for node in load_model(model).graph.node]
    assert names == ["a", "a__2", "p/MaxPool", "a__1", "y/Gemm"]


def test_constants_are_no_inputs() -> None:
    model = conv_net()
    model.ir_version = 3
    for tensor in model.graph.initializer:
        model.graph.input.append(
            helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
        )
    clean = load_model(model)
    assert [value.name for value in clean.graph.input] == ["x"]
    assert clean.ir_version == 8


def test_alias_of_the_standard_domain() -> None:
    model = relu(
        text="y = ai.onnx.Relu(x)", head='<ir_version: 99, opset_import: ["ai.onnx":18]> g'
    )
    clean = load_model(model)
    assert (clean.graph.node[0].domain, clean.opset_import[0].domain) == ("", "")


def test_local_functions_are_inlined() -> None:
    model = parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 18, "lab" : 1]> g (float[1,4] x) => (float[1,4] y)'
        '{ y = lab.Twice(x) } <domain: "lab", opset_import: ["" : 18]>'
        "Twice (a) => (b) { b = Add(a, a) }"
    )
    clean = load_model(model)
    assert [node.op_type for node in clean.graph.node] == ["Add"]
    assert not clean.functions


@pytest.mark.parametrize("model", [conv_net(), int8_net()])
def test_loading_is_pure_settled_and_faithful(model: ModelProto) -> None:
    before = model.SerializeToString()
    clean = load_model(model)
    assert model.SerializeToString() == before
    assert load_model(clean).SerializeToString() == clean.SerializeToString()
    shape = [dim.dim_value for dim in clean.graph.input[0].type.tensor_type.shape.dim]
    dtype = helper.tensor_dtype_to_np_dtype(clean.graph.input[0].type.tensor_type.elem_type)
    x = (RANDOM.uniform(-1, 1, shape) * (100 if dtype == np.int8 else 1)).astype(dtype)
    assert np.array_equal(run(clean, x), run(model, x))


# Exports


@pytest.mark.skipif(not SHARED.is_dir(), reason="../shared is absent")
@pytest.mark.parametrize("name", ["ad", "ic", "kws", "vww"])
def test_benchmark_models_load(name: str) -> None:
    for path in sorted((SHARED / "models").glob(f"{name}_*.onnx")):
        model = load(path)
        assert output_shape(model)[0] == 1, path
        assert all(node.name for node in model.graph.node), path


@pytest.mark.filterwarnings("ignore")
def test_torch_export_with_dynamic_dimensions(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnxscript")
    network = torch.nn.Sequential(
        torch.nn.Conv1d(4, 8, 3), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool1d(1), torch.nn.Flatten()
    ).eval()
    path, x = tmp_path / "net.onnx", torch.randn(2, 4, 49)
    dynamic = torch.export.Dim.DYNAMIC
    torch.onnx.export(
        network, (x,), path, dynamo=True, dynamic_shapes=({0: dynamic, 2: dynamic},), verbose=False
    )
    assert path.with_name("net.onnx.data").is_file()
    text = file_refusal(path)
    time = text.split("--dim ")[1].split("=")[0]
    model = load(path, {time: 49})
    assert output_shape(model) == [1, 8]
    assert str(tmp_path.parents[-2]).encode() not in model.SerializeToString()
    expected = network(x[:1]).detach().numpy()
    assert np.allclose(run(model, x[:1].numpy()), expected, rtol=1e-4, atol=1e-5)


# Damage


def check_damaged(read: Callable[[], ModelProto]) -> None:
    """Only LoadError, or a model that onnxruntime loads."""
    try:
        model = read()
    except LoadError as error:
        problems: tuple[str, ...] = error.problems
    else:
        problems = ("none",)
        onnxruntime.InferenceSession(
            model.SerializeToString(), quiet(), providers=["CPUExecutionProvider"]
        )
    assert problems
    assert all(line and "\n" not in line for line in problems)


def quiet() -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return options


def damage_bytes(text: bytes, data: st.DataObject) -> bytes:
    at = data.draw(st.integers(0, len(text)))
    kind = data.draw(st.sampled_from(["flip", "flip", "flip", "insert", "delete", "cut"]))
    if kind == "cut":
        return text[:at]
    some = data.draw(st.binary(min_size=1, max_size=4))
    return (
        text[:at] + (b"" if kind == "delete" else some) + text[at + len(some) * (kind[0] != "i") :]
    )


def test_damaged_bytes(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "net.onnx"
    models = [conv_net().SerializeToString(), int8_net().SerializeToString()]

    @settings(deadline=None, max_examples=150, derandomize=True, database=None)
    @given(st.data())
    def check(data: st.DataObject) -> None:
        text = data.draw(st.sampled_from(models))
        for _ in range(data.draw(st.integers(1, 3))):
            text = damage_bytes(text, data)
        path.write_bytes(text)
        check_damaged(lambda: load(path))

    check()
    assert capfd.readouterr().err == ""


WILD = st.sampled_from([0, -1, 1, 2, 3, 7, 2**20, 2**31, 2**40, 2**63 - 1, -(2**63)])
OPERATORS = (
    "Cast Concat Conv Expand Gather Gemm Loop MaxPool Pad Relu Reshape Slice Split Tile".split()
)


def damage_node(model: ModelProto, data: st.DataObject) -> None:
    node = data.draw(st.sampled_from([*model.graph.node]))
    names = [name for other in model.graph.node for name in (*other.input, *other.output)]
    kind = data.draw(st.sampled_from(["drop", "read", "write", "op", "domain", "copy"]))
    if kind == "drop" and node.input:
        node.input.pop(data.draw(st.integers(0, len(node.input) - 1)))
    elif kind == "read" and node.input:
        index = data.draw(st.integers(0, len(node.input) - 1))
        node.input[index] = data.draw(st.sampled_from([*names, "", "new"]))
    elif kind == "write":
        node.output[0] = data.draw(st.sampled_from([*names, "", "new"]))
    elif kind == "op":
        node.op_type = data.draw(st.sampled_from(OPERATORS))
    elif kind == "domain":
        node.domain = data.draw(st.sampled_from(["ai.onnx", "com.microsoft", "lab"]))
    else:
        model.graph.node.append(node)


def damage_attribute(model: ModelProto, data: st.DataObject) -> None:
    entries = [entry for node in model.graph.node for entry in node.attribute]
    entry = data.draw(st.sampled_from(entries))
    if entry.ints:
        entry.ints[data.draw(st.integers(0, len(entry.ints) - 1))] = data.draw(WILD)
    else:
        entry.i = data.draw(WILD)


def damage_constant(model: ModelProto, data: st.DataObject) -> None:
    tensor = data.draw(st.sampled_from([*model.graph.initializer]))
    kind = data.draw(st.sampled_from(["shape", "type", "value", "value"]))
    if kind == "shape":
        tensor.dims.append(data.draw(WILD))
    elif kind == "type":
        tensor.data_type = data.draw(st.integers(0, 30))
    elif not all(0 <= dim < 100 for dim in tensor.dims):
        return
    elif tensor.data_type == TensorProto.FLOAT:
        value = data.draw(st.sampled_from([np.nan, np.inf, 0.0, -1.0, 1e-40, 3e38]))
        fill = np.full(list(tensor.dims), value, np.float32)
        tensor.CopyFrom(numpy_helper.from_array(fill, tensor.name))
    elif tensor.data_type == TensorProto.INT64:
        fill64 = np.full(list(tensor.dims), data.draw(WILD), np.int64)
        tensor.CopyFrom(numpy_helper.from_array(fill64, tensor.name))


def damage_interface(model: ModelProto, data: st.DataObject) -> None:
    value = data.draw(st.sampled_from([*model.graph.input, *model.graph.output]))
    kind = value.type.tensor_type
    if data.draw(st.booleans()):
        kind.elem_type = data.draw(st.integers(0, 30))
    else:
        data.draw(st.sampled_from([*kind.shape.dim])).dim_value = data.draw(WILD)


def test_damaged_structure(capfd: pytest.CaptureFixture[str]) -> None:
    ways = [damage_node, damage_attribute, damage_constant, damage_interface]
    models = [conv_net(), int8_net()]

    @settings(deadline=None, max_examples=250, derandomize=True, database=None)
    @given(st.data())
    def check(data: st.DataObject) -> None:
        model = ModelProto()
        model.CopyFrom(data.draw(st.sampled_from(models)))
        for _ in range(data.draw(st.integers(1, 2))):
            data.draw(st.sampled_from(ways))(model, data)
        check_damaged(lambda: load_model(model))

    check()
    assert capfd.readouterr().err == ""
