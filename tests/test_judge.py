"""mcugraph verify on whole models: it agrees, and it notices whatever is wrong."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from models import MODELS, Net
from onnx import ModelProto, TensorProto

from mcugraph.judge import Question, verify
from mcugraph.optimize import Settings, optimize

EXAMPLES = Path(__file__).parents[1] / "examples"
DIGITS = EXAMPLES / "digits.onnx"
DATA = EXAMPLES / "digits.npz"
QUICK = Question(count=2)


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("digits") / "out"
    return optimize(DIGITS, "cortex-m0").write(folder)


@pytest.fixture
def folder(pristine: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pristine, tmp_path / "out"))


def compiled(model: ModelProto, folder: Path) -> tuple[Path, Path]:
    path = folder / "model.onnx"
    onnx.save(model, path)
    artifact = optimize(path, "host", Settings(allow_float=True))
    return path, artifact.write(folder / "out")


# What agrees


def test_host_and_emulated_core_give_the_same_bytes_and_the_right_digits(folder: Path) -> None:
    pytest.importorskip("unicorn", reason="unicorn is not installed")
    pytest.importorskip("ziglang", reason="ziglang is not installed")
    host, core = (verify(DIGITS, folder, Question(DATA, on=on)) for on in ("host", "emulator"))
    assert (host.ok, core.ok) == (True, True)
    assert host.fingerprint == core.fingerprint
    assert host.steps == core.steps
    assert (host.samples, host.top1_agreement) == (64, 1)
    assert host.accuracy == (63 / 64, 63 / 64)
    assert sum(step.differing for step in host.steps) <= 1
    assert len(host.steps) == len(json.loads((folder / "report.json").read_text())["steps"])


def test_random_samples_are_the_same_each_time_and_have_no_accuracy(folder: Path) -> None:
    first, second = (verify(DIGITS, folder, QUICK) for _ in range(2))
    assert first == second
    assert first.ok
    assert (first.samples, first.accuracy, first.divergence) == (2, None, None)
    assert json.loads(json.dumps(first.as_json()))["ok"] is True
    assert verify(DIGITS, folder, Question(count=3)).fingerprint != first.fingerprint


def test_bisect_finds_nothing_where_nothing_is_wrong(folder: Path) -> None:
    assert verify(DIGITS, folder, Question(count=2, bisect=True)).divergence is None


def test_a_float_model_agrees_within_its_tolerance(tmp_path: Path) -> None:
    path, out = compiled(MODELS["separable"](), tmp_path)
    result = verify(path, out, QUICK)
    assert result.ok
    assert not any(difference.integer for difference in result.steps)


def ports() -> ModelProto:
    """Two inputs of one shape, and two outputs of which one is int8."""
    net = Net(18)
    a, b = net.input("left", 1, 3, 4, 4), net.input("right", 1, 3, 4, 4)
    a, b = (net.dequantize(net.quantize(x, 0.03, 2), 0.03, 2) for x in (a, b))
    total = net.quantize(net("Add", a, b), 0.05, -4, out="total")
    again = net.dequantize(total, 0.05, -4)
    gated = net.quantize(net("Sigmoid", again), 1 / 256, -128)
    model = net.model(net.dequantize(gated, 1 / 256, -128, out="gated"))
    port = onnx.helper.make_tensor_value_info(total, TensorProto.INT8, (1, 3, 4, 4))
    model.graph.output.append(port)
    return model


def test_two_inputs_and_two_outputs_keep_their_names(tmp_path: Path) -> None:
    path, out = compiled(ports(), tmp_path)
    result = verify(path, out, QUICK)
    assert result.ok
    assert [output.name for output in result.model_outputs] == ["gated", "total"]
    assert [output.elements for output in result.model_outputs] == [96, 96]
    values = np.random.default_rng(0).standard_normal((5, 3, 4, 4)).astype(np.float32)
    np.savez(tmp_path / "named.npz", left=values, right=values[::-1])
    result = verify(path, out, Question(tmp_path / "named.npz"))
    assert (result.ok, result.samples) == (True, 5)


def spreading() -> ModelProto:
    """A sum of 126 is half a step: float32 rounds 126 / 252 to 0, and every output counts it."""
    net = Net(18)
    x = net.input("x", 1, 4, 1, 1, kind=TensorProto.INT8)
    eye = net.const("eye", np.eye(4, dtype=np.int8)[:, :, None, None])
    w = net.dequantize(eye, 1 / 252, 0)
    y = net.quantize(net("Conv", net.dequantize(x, 1, 0), w), 1, 0, out="quotient")
    flat = net.dequantize(net.quantize(net("Flatten", net.dequantize(y, 1, 0)), 1, 0), 1, 0)
    ones = net.dequantize(net.const("ones", np.ones((40, 4), np.int8)), 1, 0)
    return net.model(net.quantize(net("Gemm", flat, ones, transB=1), 1, 0), kind=TensorProto.INT8)


def test_a_tie_that_spreads_is_told_from_a_mistake(tmp_path: Path) -> None:
    path, out = compiled(spreading(), tmp_path)
    np.savez(tmp_path / "tie.npz", x=np.array([126, 50, 0, -90], np.int8).reshape(1, 1, 4, 1, 1))
    question = Question(tmp_path / "tie.npz")
    result = verify(path, out, question)
    (whole,) = result.model_outputs
    assert (whole.differing, whole.ok_end_to_end) == (40, False)
    assert [(step.elements, step.differing) for step in result.own_steps] == [(4, 1), (40, 0)]
    assert result.ok
    source = next(out.glob("model.c"))
    name = next(step.name for step in result.steps if step.elements == 40)
    wrong = re.sub(rf"(model_{name}_bias\[\d+\] = {{\s+)0", r"\g<1>9", source.read_text())
    assert wrong != source.read_text()
    source.write_text(wrong)
    result = verify(path, out, question)
    assert [step.ok for step in result.own_steps] == [True, False]
    assert not result.ok


# What is wrong


def changed_array(source: str, name: str) -> str:
    """The C file with the first number of an array moved by a quarter of its range."""
    pattern = rf"(static const u?int(\d+)_t digits_{name}\[\d+\] = {{\s+)(-?\d+)"
    found = re.search(pattern, source)
    assert found is not None, name
    bits, value = int(found[2]), int(found[3])
    other = value + (1 << bits - 3) * (1 if value <= 0 else -1)
    return source[: found.start(3)] + str(other) + source[found.end(3) :]


@pytest.mark.parametrize(
    "array",
    [
        "node_Conv_105_weights",
        "node_Conv_107_multiplier",
        "node_Conv_109_weights",
        "node_Conv_113_bias",
        "node_Conv_115_weights",
        "node_linear_bias",
    ],
)
def test_one_changed_number_is_seen_and_its_step_is_named(folder: Path, array: str) -> None:
    source = folder / "digits.c"
    source.write_text(changed_array(source.read_text(), array))
    result = verify(DIGITS, folder, Question(count=2, bisect=True))
    step = array.rsplit("_", 1)[0]
    assert not result.ok
    assert [difference.name for difference in result.steps if not difference.ok] == [step]
    assert result.divergence is not None
    assert result.divergence.step == step
    assert result.divergence.ours.shape == result.divergence.theirs.shape
    shown: Any = result.as_json()["divergence"]
    assert shown["step"] == step
    assert shown["ours"] != shown["onnxruntime"]


def test_a_changed_kernel_is_seen_in_each_step_that_calls_it(folder: Path) -> None:
    source = folder / "add_s8.c"
    text = source.read_text()
    assert text.count("p->low") >= 1
    source.write_text(text.replace("p->low", "(p->low + 40)"))
    result = verify(DIGITS, folder, QUICK)
    wrong = {difference.name for difference in result.steps if not difference.ok}
    assert wrong == {"node_add", "node_add_1"}


def test_c_that_does_not_compile_is_refused(folder: Path) -> None:
    (folder / "digits.c").write_text("int x = ;\n")
    with pytest.raises(ValueError, match="refuses the sources"):
        verify(DIGITS, folder, QUICK)


def test_a_folder_of_another_model_is_refused(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "other.onnx"
    onnx.save(MODELS["residual_qdq"](), path)
    with pytest.raises(ValueError, match=r"was compiled from another model than .*other\.onnx"):
        verify(path, folder, QUICK)


def test_other_weights_of_the_same_shapes_are_seen(folder: Path, tmp_path: Path) -> None:
    model = onnx.load(DIGITS)
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.INT8 and len(tensor.dims) == 4:
            values = onnx.numpy_helper.to_array(tensor)
            tensor.CopyFrom(onnx.numpy_helper.from_array(values[::-1].copy(), tensor.name))
    onnx.save(model, tmp_path / "other.onnx")
    result = verify(tmp_path / "other.onnx", folder, QUICK)
    assert all(step.ok for step in result.steps)
    assert not result.ok


@pytest.mark.parametrize("name", ["digits.c", "digits.h", "dense_s8.c", "digits.optimized.onnx"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ValueError, match=rf"lacks {name}; run mcugraph optimize again"):
        verify(DIGITS, folder, QUICK)


def test_a_damaged_model_of_the_folder_is_refused(folder: Path) -> None:
    path = folder / "digits.optimized.onnx"
    content = path.read_bytes()
    for damaged in (b"", b"no model", content[: len(content) // 2], bytes(len(content))):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"."):
            verify(DIGITS, folder, QUICK)


def test_a_model_of_the_folder_without_a_tensor_of_the_report_is_refused(folder: Path) -> None:
    shutil.copy(DIGITS, folder / "digits.optimized.onnx")
    report = json.loads((folder / "report.json").read_text())
    report["steps"][0]["outputs"] = ["nothing"]
    report["tensors"]["nothing"] = report["tensors"][report["steps"][0]["output"]]
    (folder / "report.json").write_text(json.dumps(report))
    with pytest.raises(ValueError, match="run mcugraph optimize again"):
        verify(DIGITS, folder, QUICK)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "null", "\x00\xff", '{"schema_version": 1}'])
def test_a_damaged_report_is_refused(folder: Path, text: str) -> None:
    (folder / "report.json").write_text(text, encoding="latin1")
    with pytest.raises(ValueError, match=r"report|run mcugraph optimize again"):
        verify(DIGITS, folder, QUICK)


Damage = Callable[[dict[str, Any]], object]
DAMAGES: dict[str, Damage] = {
    "a missing tensor": lambda r: r["tensors"].pop(r["steps"][0]["output"]),
    "no tensors": lambda r: r.pop("tensors"),
    "no steps": lambda r: r.pop("steps"),
    "steps as text": lambda r: r.update(steps="x"),
    "no files": lambda r: r.pop("files"),
    "files as a number": lambda r: r.update(files=3),
    "no name": lambda r: r.pop("model"),
    "a name as a number": lambda r: r.update(model=3),
    "no arena": lambda r: r["ram"].pop("arena"),
    "ram as a list": lambda r: r.update(ram=[]),
    "a small arena": lambda r: r["ram"].update(arena=8),
    "an offset as text": lambda r: r["tensors"][r["steps"][0]["output"]].update(offset="0"),
    "a far offset": lambda r: r["tensors"][r["steps"][0]["output"]].update(offset=10**9),
    "a negative offset": lambda r: r["tensors"][r["steps"][0]["output"]].update(offset=-4096),
    "a large size": lambda r: r["tensors"][r["steps"][0]["output"]].update(bytes=10**9),
    "another size": lambda r: r["tensors"][r["steps"][0]["output"]].update(bytes=7),
    "another type": lambda r: r["tensors"][r["steps"][0]["output"]].update(dtype="float32"),
    "no type": lambda r: r["tensors"][r["steps"][0]["output"]].update(dtype="nothing"),
    "another shape": lambda r: r["tensors"][r["steps"][0]["output"]].update(shape=[3, 3]),
    "another order": lambda r: r["tensors"][r["steps"][0]["output"]].update(memory_order=[0, 9]),
    "no inputs": lambda r: r.pop("inputs"),
    "an unknown input": lambda r: r.update(inputs={"nothing": "input"}),
    "outputs as a list": lambda r: r.update(outputs=[]),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_report_with_wrong_entries_is_refused(folder: Path, damage: str) -> None:
    path = folder / "report.json"
    report = json.loads(path.read_text())
    DAMAGES[damage](report)
    path.write_text(json.dumps(report))
    with pytest.raises(ValueError, match="run mcugraph optimize again"):
        verify(DIGITS, folder, QUICK)


def test_a_wrong_question_is_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match="--on moon: there are host and emulator"):
        verify(DIGITS, folder, Question(count=1, on="moon"))
    with pytest.raises(ValueError, match="host cannot be emulated here"):
        verify(DIGITS, folder, Question(count=1, on="emulator", target="host"))


def saved(folder: Path, **arrays: Any) -> Path:
    np.savez(folder / "data.npz", **arrays)
    return folder / "data.npz"


def test_wrong_labels_lower_both_accuracies(folder: Path, tmp_path: Path) -> None:
    with np.load(DATA) as archive:
        x, label = archive["input"][:8], archive["label"][:8]
    wrong = (label + 1) % 10
    mixed = np.where(np.arange(8) < 4, label, wrong)
    for truth, accuracy in ((label, 1.0), (mixed, 0.5), (wrong, 0.0)):
        data = saved(tmp_path, input=x, label=truth)
        assert verify(DIGITS, folder, Question(data)).accuracy == (accuracy, accuracy)
    data = saved(tmp_path, input=x, label=label[:3])
    assert verify(DIGITS, folder, Question(data)).accuracy is None
