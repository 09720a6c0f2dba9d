"""The emitted C as benchmarks run it over whole test sets, against `verify`."""

import hashlib
import importlib
from pathlib import Path

import numpy as np
import onnx
import pytest

from mcugraph.judge import Question, verify
from mcugraph.optimize import Settings, optimize

ROOT = Path(__file__).parents[1]
DIGITS = ROOT / "examples" / "digits.onnx"


@pytest.mark.parametrize("objective", ["ram", "cycles"])
def test_its_outputs_and_accuracy_are_those_of_verify(
    objective: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    on_host = importlib.import_module("on_host")
    data = np.load(DIGITS.with_suffix(".npz"))
    artifact = optimize(DIGITS, "cortex-m0", Settings(name="net", objective=objective))
    artifact.write(tmp_path / "c")
    found = verify(DIGITS, tmp_path / "c", Question(data=DIGITS.with_suffix(".npz")))
    assert found.accuracy is not None
    ours = on_host.by_c(artifact, data["input"])
    assert hashlib.sha256(ours.tobytes()).hexdigest() == found.fingerprint
    assert on_host.percent(ours, data["label"]) == pytest.approx(100 * found.accuracy[0], abs=0.01)
    theirs = on_host.by_onnxruntime(onnx.load(DIGITS), data["input"])
    assert on_host.percent(theirs, data["label"]) == pytest.approx(
        100 * found.accuracy[1], abs=0.01
    )
