"""Every test model from file to C, against onnxruntime: the end-to-end matrix."""

from pathlib import Path

import onnx
import pytest
from models import MODELS

from mcugraph.errors import UnsupportedError
from mcugraph.judge import Question, verify
from mcugraph.optimize import Settings, optimize

QUANTISED = [n for n in MODELS if n.startswith("q") or n.endswith(("_qdq", "_uint8", "_qoperator"))]
# onnxruntime's quantiser leaves Elu and PRelu in float.
PARTLY_FLOAT = {"activations_qdq"}
# Its Add has scales in the ratio 4 : 5 : 6, so that one sum in six is a tie.
TIES = {"qdq_by_hand"}


def saved(name: str, folder: Path) -> Path:
    path = folder / f"{name}.onnx"
    onnx.save(MODELS[name](), path)
    return path


@pytest.mark.parametrize("name", MODELS)
def test_every_step_agrees_with_onnxruntime(name: str, tmp_path: Path) -> None:
    path = saved(name, tmp_path)
    settings = Settings(allow_float=name not in QUANTISED or name in PARTLY_FLOAT)
    artifact = optimize(path, "host", settings)
    result = verify(path, artifact.write(tmp_path / "out"), Question(count=4))
    assert result.samples == 4
    assert len(result.steps) >= len(artifact.report.steps) > 0
    differing = [step for step in result.steps if not step.ok]
    if name in TIES:
        assert all(step.largest <= 1 and step.differing <= 24 for step in differing)
        return
    assert differing == []
    assert all(output.largest <= 1 for output in result.model_outputs)


@pytest.mark.parametrize("name", QUANTISED)
def test_a_quantised_model_runs_in_integers(name: str, tmp_path: Path) -> None:
    path = saved(name, tmp_path)
    if name in PARTLY_FLOAT:
        with pytest.raises(UnsupportedError, match="in float32; quantise"):
            optimize(path, "host")
        return
    report = optimize(path, "host").report
    assert report.int8 == 100
    assert not [t for t in report.tensors.values() if t["dtype"] == "float32"]


def test_models_in_float_are_refused_without_leave(tmp_path: Path) -> None:
    for name in MODELS:
        if name not in QUANTISED:
            with pytest.raises(UnsupportedError, match="in float32; quantise"):
                optimize(saved(name, tmp_path), "host")
