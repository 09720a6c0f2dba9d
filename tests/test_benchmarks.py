"""The benchmark's command, and the figures that it left."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType

import pytest

from mcugraph.cli import OK, USAGE

ROOT = Path(__file__).parents[1]
FILES = {"digits": 1, "ic": 4, "kws": 4, "vww": 4, "ad": 3}


@pytest.fixture
def mlperf(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("mlperf")


def test_the_readme_is_what_the_results_say(mlperf: ModuleType) -> None:
    assert mlperf.main(["--check"]) == OK


def test_a_stale_table_is_named(
    mlperf: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    stale = tmp_path / "README.md"
    text = mlperf.tables.README.read_text(encoding="utf-8")
    stale.write_text(text.replace("BBC micro:bit", "BBC"), encoding="utf-8")
    monkeypatch.setattr(mlperf.tables, "README", stale)
    assert mlperf.main(["--check"]) == USAGE
    assert capsys.readouterr().err.startswith("README: table targets is stale")
    assert mlperf.main(["--tables"]) == OK
    assert stale.read_text(encoding="utf-8") == text


def test_missing_models_are_named(
    mlperf: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(mlperf, "MODELS", tmp_path)
    assert mlperf.main(["--models", "ad"]) == USAGE
    missing = "ad_int8_qdq.onnx, ad_int8_qdq_fio.onnx, ad_ort_qdq.onnx not found"
    assert missing in capsys.readouterr().err


def test_all_that_was_measured_agreed(mlperf: ModuleType) -> None:
    files = json.loads(mlperf.tables.RESULTS.read_text(encoding="utf-8"))["files"].values()
    counts = {name: sum(file["model"] == name for file in files) for name in FILES}
    assert counts == FILES
    assert all(file["agreement"]["ok"] for file in files)
    assert {cost["int8"] for file in files for cost in file["targets"].values()} == {100}


def test_digits_are_measured_afresh(mlperf: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("unicorn", "ziglang"):
        pytest.importorskip(name)
    monkeypatch.setattr(mlperf, "TARGETS", ("cortex-m0", "host"))
    (path,) = mlperf.files("digits")
    found = mlperf.measure(path, "digits")
    assert found["agreement"]["samples"] == 64
    assert found["targets"]["host"]["code"] is None
    assert found["targets"]["cortex-m0"]["arena"] >= found["targets"]["cortex-m0"]["lower_bound"]
