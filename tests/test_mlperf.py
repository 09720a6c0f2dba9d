"""The promises on the MLPerf Tiny models; skipped where ../shared is absent."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from mcugraph.artifact import Artifact
from mcugraph.errors import UnsupportedError
from mcugraph.judge import Question, verify
from mcugraph.optimize import Settings, optimize
from mcugraph.oracle import Oracle

# Bytes of arena, inputs and outputs included, and instructions of TFLite Micro with CMSIS-NN.
ARENA = {"ic": 14_400, "kws": 6_500, "vww": 28_500, "ad": 800}
INSTRUCTIONS = {"ic": 97_560_000, "kws": 29_010_000, "vww": 86_900_000, "ad": 1_763_000}
FORMS = ("int8_qdq", "int8_qdq_nhwc", "int8_qdq_fio", "ort_qdq")
CODE = 16 * 1024
FILES = [
    f"{model}_{form}"
    for model in ARENA
    for form in FORMS
    if (model, form) != ("ad", "int8_qdq_nhwc")
]


@pytest.fixture(scope="module")
def compiled(shared: Path) -> dict[tuple[str, str], Artifact]:
    return {}


def artifact_of(
    shared: Path, compiled: dict[tuple[str, str], Artifact], name: str, target: str
) -> Artifact:
    if (name, target) not in compiled:
        compiled[name, target] = optimize(shared / "models" / f"{name}.onnx", target)
    return compiled[name, target]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("target", ["cortex-m0", "cortex-m4", "host"])
def test_it_compiles_within_its_arena_all_integer(
    shared: Path, compiled: dict[tuple[str, str], Artifact], name: str, target: str
) -> None:
    report = artifact_of(shared, compiled, name, target).report
    assert report.ram.arena <= ARENA[name.split("_", maxsplit=1)[0]]
    assert report.ram.arena >= report.ram.arena_lower_bound
    assert report.int8 == 100
    assert not [step for step in report.steps if step.op == "Transpose"]


@pytest.mark.parametrize("name", FILES)
def test_the_m0_code_is_small_and_faster_than_tflite_micro(
    shared: Path, compiled: dict[tuple[str, str], Artifact], name: str
) -> None:
    report = artifact_of(shared, compiled, name, "cortex-m0").report
    assert report.flash.code is not None
    assert report.flash.code <= CODE
    assert report.instructions is not None
    assert report.instructions <= INSTRUCTIONS[name.split("_", maxsplit=1)[0]]
    assert sum(step.instructions or 0 for step in report.steps) <= report.instructions


@pytest.mark.parametrize("name", FILES)
def test_each_step_agrees_with_onnxruntime(
    shared: Path, compiled: dict[tuple[str, str], Artifact], name: str, tmp_path: Path
) -> None:
    folder = artifact_of(shared, compiled, name, "cortex-m0").write(tmp_path / name)
    data = vectors(shared, name, tmp_path)
    result = verify(shared / "models" / f"{name}.onnx", folder, Question(data))
    assert result.ok, [step for step in result.steps if not step.ok]
    assert all(step.largest <= 1 for step in result.steps)


def vectors(shared: Path, name: str, folder: Path) -> Path:
    """The real inputs of a model in the form that this variant takes."""
    model, _, form = name.partition("_")
    with np.load(shared / "models" / f"{model}_vectors.npz") as archive:
        x = archive["x_int8_nhwc"][: 8 if model == "vww" else 16]
    if form != "int8_qdq_nhwc" and x.ndim == 4:
        x = x.transpose(0, 3, 1, 2)
    graph = onnx.load(shared / "models" / f"{name}.onnx").graph
    if graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT:
        scale, zero = input_scale(shared, model)
        x = ((x.astype(np.float32) - zero) * scale).astype(np.float32)
    path = folder / f"{name}.npz"
    np.savez(path, input=x)
    return path


def input_scale(shared: Path, model: str) -> tuple[np.ndarray, np.ndarray]:
    """What the int8 inputs of the vectors mean."""
    graph = onnx.load(shared / "models" / f"{model}_int8_qdq_fio.onnx").graph
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
    first = next(n for n in graph.node if n.op_type == "QuantizeLinear")
    return constants[first.input[1]], constants[first.input[2]].astype(np.float32)


def test_keywords_are_as_right_as_with_onnxruntime(
    shared: Path, compiled: dict[tuple[str, str], Artifact], tmp_path: Path
) -> None:
    name = "kws_int8_qdq_nhwc"
    folder = artifact_of(shared, compiled, name, "cortex-m0").write(tmp_path / name)
    data = shared / "models" / "kws01_test1000.npz"
    result = verify(shared / "models" / f"{name}.onnx", folder, Question(data))
    assert result.samples == 1000
    assert result.ok
    assert result.top1_agreement == 1
    assert result.accuracy == (0.902, 0.902)


@pytest.mark.parametrize("model", ["ic", "kws", "ad"])
def test_the_emulated_core_gives_the_bytes_of_the_host(
    shared: Path, compiled: dict[tuple[str, str], Artifact], model: str, tmp_path: Path
) -> None:
    name = f"{model}_int8_qdq"
    folder = artifact_of(shared, compiled, name, "cortex-m0").write(tmp_path / name)
    path = shared / "models" / f"{name}.onnx"
    results = [verify(path, folder, Question(on=on, count=2)) for on in ("host", "emulator")]
    assert results[0].steps == results[1].steps
    assert results[0].fingerprint == results[1].fingerprint


@pytest.mark.parametrize(("model", "source"), [("ic", "whole"), ("kws", "whole"), ("vww", "rows")])
def test_it_fits_a_microbit_and_verifies_there(
    shared: Path, model: str, source: str, tmp_path: Path
) -> None:
    """16 KB of RAM with the stack, 256 KB of flash."""
    path = shared / "models" / f"{model}_int8_qdq.onnx"
    artifact = optimize(path, "microbit", Settings(input=source))
    assert artifact.report.fits
    assert artifact.report.ram.stack_measured
    assert artifact.report.ram.total <= 16 * 1024
    result = verify(path, artifact.write(tmp_path / model), Question(on="emulator", count=1))
    assert result.ok, result


@pytest.mark.parametrize("model", ["ic", "kws", "vww", "ad"])
def test_a_float_model_needs_leave(shared: Path, model: str, tmp_path: Path) -> None:
    path = shared / "models" / f"{model}_fp32.onnx"
    with pytest.raises(UnsupportedError, match="quantise the model to int8"):
        optimize(path, "host")
    artifact = optimize(path, "host", Settings(allow_float=True))
    result = verify(path, artifact.write(tmp_path / model), Question(count=2))
    assert result.ok, result


def test_the_judge_is_onnxruntime_as_installed(shared: Path) -> None:
    oracle = Oracle(onnx.load(shared / "models" / "kws_int8_qdq.onnx"))
    with np.load(shared / "models" / "kws_vectors.npz") as archive:
        x, expected = archive["x_int8_nhwc"], archive["y_ort_all"]
    found = [oracle.run({"input": row[None].transpose(0, 3, 1, 2)})["output"] for row in x]
    assert np.array_equal(np.concatenate(found), expected)
