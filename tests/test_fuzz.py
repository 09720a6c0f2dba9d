"""Damaged models: a clean refusal, or C that agrees with onnxruntime; never anything else."""

import json
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from random import Random

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from models import MODELS, random_inputs
from onnx import ModelProto, TensorProto, helper, numpy_helper

from mcugraph import optimize as pipeline
from mcugraph.artifact import Artifact
from mcugraph.execute import OnHost
from mcugraph.measure import Sources
from mcugraph.optimize import Settings, optimize
from mcugraph.verify import Difference, Subject, compare_steps

BASES = sorted(MODELS)
SWAPS = (
    "Relu Sigmoid Tanh Neg Abs HardSwish Softmax",
    "MaxPool AveragePool GlobalAveragePool GlobalMaxPool",
    "Add Mul Sub Div Max Min Concat",
    "Conv MatMul Gemm",
    "Flatten Identity Squeeze Transpose",
)
SCALES = (0.0, -0.1, float("nan"), float("inf"), 1e-20, 1e-4, 0.003, 0.1, 2.0, 50.0)
COUNTS = (-1, 0, 1, 1, 2, 2, 3, 4, 5, 9)
# Seconds that no example takes, even on a busy machine.
HANG = 60
# Either will do: fused integer operators take a bias to have the scale of their sums, and let sums
# wrap around at 32 bits; float32 operators round where integers do not.
LEVELS = (
    ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
    ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
)
# One in so many of the models that compile is run.
RUN = 3


@cache
def base(name: str) -> bytes:
    return MODELS[name]().SerializeToString()


def attribute(model: ModelProto, random: Random) -> None:
    """Change, drop or lengthen an attribute, or give a node one that it did not have."""
    node = random.choice(model.graph.node)
    if not node.attribute or random.random() < 0.3:
        key = random.choice(["strides", "dilations", "pads", "axis", "group", "auto_pad", "transB"])
        value = [random.choice(COUNTS) for _ in range(random.choice([1, 2, 4]))]
        single: object = "SAME_UPPER" if key == "auto_pad" else value[0]
        keep = [a for a in node.attribute if a.name != key]
        plural = key in {"strides", "dilations", "pads"}
        added = helper.make_attribute(key, value if plural else single)
        del node.attribute[:]
        node.attribute.extend([*keep, added])
        return
    chosen = random.choice(node.attribute)
    if chosen.ints:
        chosen.ints[random.randrange(len(chosen.ints))] = random.choice(COUNTS)
        if random.random() < 0.2:
            del chosen.ints[-1]
    elif random.random() < 0.3:
        node.attribute.remove(chosen)
    else:
        chosen.i = random.choice(COUNTS)
        chosen.f = random.choice(SCALES)


def shape(model: ModelProto, random: Random) -> None:
    """Another size, rank or name of a dimension of an input or output."""
    value = random.choice([*model.graph.input, *model.graph.output])
    dims = value.type.tensor_type.shape.dim
    if not dims or random.random() < 0.2:
        dims.add().dim_value = random.choice([1, 2, 3])
    elif random.random() < 0.2:
        del dims[random.randrange(len(dims))]
    elif random.random() < 0.2:
        random.choice(dims).dim_param = "N"
    else:
        random.choice(dims).dim_value = random.choice([0, 1, 2, 3, 7, 16])


def dtype(model: ModelProto, random: Random) -> None:
    """Another type of an input, an output or a constant."""
    kinds = [TensorProto.FLOAT, TensorProto.INT8, TensorProto.UINT8, TensorProto.INT32]
    kind = random.choice([*kinds, TensorProto.INT64, TensorProto.FLOAT16, TensorProto.STRING])
    if random.random() < 0.5 and kind != TensorProto.STRING:
        tensor = random.choice(model.graph.initializer)
        array = numpy_helper.to_array(tensor)
        with np.errstate(all="ignore"):
            array = array.astype(helper.tensor_dtype_to_np_dtype(kind))
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    else:
        value = random.choice([*model.graph.input, *model.graph.output])
        value.type.tensor_type.elem_type = kind


def wire(model: ModelProto, random: Random) -> None:
    """A node reads another tensor, one more, one less, or none."""
    graph = model.graph
    node = random.choice([node for node in graph.node if node.input])
    names = [name for each in graph.node for name in (*each.input, *each.output)]
    place = random.randrange(len(node.input))
    what = random.random()
    if what < 0.15:
        del node.input[place]
    elif what < 0.3:
        node.input.append(random.choice(names))
    else:
        node.input[place] = random.choice([*names, "", "nowhere"])


def constant(model: ModelProto, random: Random) -> None:
    """Extreme scales, zero points, weights and biases, or another shape of them."""
    tensor = random.choice(model.graph.initializer)
    array = numpy_helper.to_array(tensor).copy()
    if random.random() < 0.2:
        array = random.choice([array[None], array.reshape(-1), array.T, array.reshape(-1)[:0]])
    elif array.dtype.kind == "f":
        array = np.where(np.abs(array) > random.random(), random.choice(SCALES), array)
    else:
        limits = np.iinfo(array.dtype)
        array.flat[: random.randrange(array.size + 1)] = random.choice([limits.min, limits.max, 0])
    tensor.CopyFrom(
        numpy_helper.from_array(np.ascontiguousarray(array, tensor_type(tensor)), tensor.name)
    )


def tensor_type(tensor: TensorProto) -> np.dtype:
    return helper.tensor_dtype_to_np_dtype(tensor.data_type)


def rescale(model: ModelProto, random: Random) -> None:
    """A scale that is legal, far from where it was."""
    scales = [t for t in model.graph.initializer if t.data_type == TensorProto.FLOAT and not t.dims]
    if scales:
        tensor = random.choice(scales)
        value = numpy_helper.to_array(tensor) * np.float32(2.0 ** random.randint(-8, 8))
        tensor.CopyFrom(numpy_helper.from_array(np.float32(value), tensor.name))


def operator(model: ModelProto, random: Random) -> None:
    """Another operator of the same family, or an unknown one."""
    node = random.choice(model.graph.node)
    family = next((f for f in SWAPS if node.op_type in f.split()), "Frob Cos LSTM If")
    node.op_type = random.choice(family.split())


def order(model: ModelProto, random: Random) -> None:
    """Drop, double or move a node; show one more tensor."""
    graph = model.graph
    index = random.randrange(len(graph.node))
    node = onnx.NodeProto()
    node.CopyFrom(graph.node[index])
    what = random.choice(["drop", "double", "move", "bypass", "show"])
    if what in {"drop", "move", "bypass"}:
        del graph.node[index]
    if what in {"double", "move"}:
        graph.node.insert(random.randrange(len(graph.node) + 1), node)
    elif what == "bypass":
        for other in graph.node if node.input else ():
            names = [node.input[0] if n == node.output[0] else n for n in other.input]
            other.input[:] = names
    elif what == "show":
        graph.output.add(name=node.output[0])


DAMAGES: tuple[Callable[[ModelProto, Random], None], ...] = (
    attribute,
    shape,
    dtype,
    wire,
    constant,
    rescale,
    rescale,
    operator,
    order,
)


def damaged(random: Random) -> ModelProto:
    model = onnx.load_from_string(base(random.choice(BASES)))
    for _ in range(random.choice([1, 1, 2, 3])):
        if model.graph.node and model.graph.initializer:
            random.choice(DAMAGES)(model, random)
    return model


@contextmanager
def no_hang() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise AssertionError(f"no answer in {HANG} seconds")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(HANG)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def compiled(model: ModelProto, target: str) -> Artifact | None:
    """The artifact, or None where the model is cleanly refused."""
    try:
        return optimize(model, target, Settings(name="net", allow_float=True))
    except ValueError as error:
        refusal = str(error)
    check_words(refusal)
    return None


def check_words(refusal: str) -> None:
    assert refusal.strip(), "a refusal without words"
    assert "Traceback" not in refusal


def check(model: ModelProto, target: str, run: bool) -> bool:
    """Compile a model; where it compiles and shall run, hold it against onnxruntime."""
    given = model.SerializeToString(deterministic=True)
    artifact = compiled(model, target)
    assert model.SerializeToString(deterministic=True) == given, "the input was changed"
    if artifact is not None and run:
        faults = [wrong_steps(artifact, level) for level in LEVELS]
        assert not all(faults), f"{faults}\n{onnx.printer.to_text(model)}"
    return artifact is not None


def wrong_steps(artifact: Artifact, level: ort.GraphOptimizationLevel) -> list[Difference]:
    """The steps that differ from onnxruntime by more than rounding, on two random inputs."""
    subject = Subject.of(json.loads(json.dumps(artifact.report.as_json())))
    model = onnx.load_from_string(artifact.files["net.optimized.onnx"])
    session = all_tensors(model, subject.tensors, level)
    names = [value.name for value in session.get_outputs()]
    feeds = [random_inputs(model, seed) for seed in range(2)]
    truths = [dict(zip(names, session.run(names, feed), strict=True)) for feed in feeds]
    texts = {n: t.decode() for n, t in artifact.files.items() if n.endswith((".c", ".h"))}
    with tempfile.TemporaryDirectory() as folder:
        host = OnHost(Sources("net", texts), artifact.report.ram.arena, Path(folder))
        steps = compare_steps(subject, host, truths)
    return [step for step in steps if not (step.integer and step.largest <= 1) and not step.ok]


def all_tensors(
    model: ModelProto, names: list[str], level: ort.GraphOptimizationLevel
) -> ort.InferenceSession:
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    for name in {*names} - {value.name for value in model.graph.output}:
        shown.graph.output.add(name=name)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = level
    return ort.InferenceSession(
        shown.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "can_measure", lambda _: False)


LIMITS = settings(
    deadline=None,
    derandomize=True,
    max_examples=100,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.mark.usefixtures("quick")
@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="no alarm on this system")
@given(random=st.randoms(use_true_random=False), target=st.sampled_from(["host", "cortex-m0"]))
@LIMITS
def test_a_damaged_model_is_refused_or_right(random: Random, target: str) -> None:
    with no_hang():
        check(damaged(random), target, run=random.randrange(RUN) == 0)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("name", BASES)
def test_the_undamaged_model_is_right(name: str) -> None:
    assert check(onnx.load_from_string(base(name)), "host", run=True)


@pytest.mark.usefixtures("quick")
@given(data=st.data(), name=st.sampled_from(BASES))
@LIMITS
def test_damaged_bytes_are_refused_or_compile(data: st.DataObject, name: str) -> None:
    content = bytearray(base(name))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))
    with tempfile.TemporaryDirectory() as folder, no_hang():
        path = Path(folder) / "m.onnx"
        path.write_bytes(bytes(content))
        try:
            optimize(path, "host", Settings(allow_float=True))
            return
        except ValueError as error:
            refusal = str(error)
    check_words(refusal)


def value(model: ModelProto, name: str) -> TensorProto:
    return next(tensor for tensor in model.graph.initializer if tensor.name == name)


def two_scales(model: ModelProto) -> None:
    value(model, "scale_9").CopyFrom(numpy_helper.from_array(np.array(0.08, np.float32), "scale_9"))


def scales_of_inputs(model: ModelProto) -> None:
    node = next(n for n in model.graph.node if n.name == "pw1.weight_DequantizeLinear")
    del node.attribute[:]


def axis_beyond(model: ModelProto) -> None:
    node = next(n for n in model.graph.node if n.name == "fc.bias_DequantizeLinear")
    node.attribute[0].i = 1


def coarse_bias(model: ModelProto) -> None:
    for name, factor in (("x_scale", 64), ("relu_2_scale", 1 / 16)):
        scale = numpy_helper.to_array(value(model, name)) * np.float32(factor)
        value(model, name).CopyFrom(numpy_helper.from_array(np.array(scale, np.float32), name))


def large_constant(model: ModelProto) -> None:
    value(model, "size").CopyFrom(numpy_helper.from_array(np.array([2**27]), "size"))


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("name", "damage", "words"),
    [
        ("qdq_by_hand", two_scales, "y has scale 0.08 and zero point -128 here, but 0.04 and -128"),
        ("separable_qdq", scales_of_inputs, "along axis 1; one, or 8 along axis 0, are allowed"),
        ("residual_uint8", axis_beyond, "axis 1 of a tensor of rank 1"),
        ("upsampled_qdq", coarse_bias, "the bias a.bias_quantized loses 0.002"),
        ("legacy_shapes", large_constant, "134217728.* is beyond any microcontroller's memory"),
    ],
)
def test_what_earlier_runs_found_is_refused(
    name: str, damage: Callable[[ModelProto], None], words: str
) -> None:
    model = onnx.load_from_string(base(name))
    damage(model)
    with pytest.raises(ValueError, match=words):
        optimize(model, "host", Settings(allow_float=True))


@pytest.mark.usefixtures("quick")
def test_grids_of_one_element_are_scalars() -> None:
    """onnxruntime fuses no Add whose scales have an axis."""
    model = onnx.load_from_string(base("qdq_by_hand"))
    for tensor in model.graph.initializer:
        if tensor.name.startswith(("scale_", "zero_")):
            tensor.dims[:] = [1]
    assert check(model, "host", run=True)


@pytest.mark.usefixtures("quick")
def test_a_zero_point_may_be_left_out() -> None:
    model = onnx.load_from_string(base("qoperator_microsoft"))
    node = next(n for n in model.graph.node if n.op_type == "QLinearGlobalAveragePool")
    assert len(node.input) == 5
    del node.input[4:]
    assert compiled(model, "host") is None
