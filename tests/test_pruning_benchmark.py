"""The comparison of pruning tools: how it judges, and the figures that it left."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import exports
import numpy as np
import onnx
import prunable
import pytest
from onnx import ModelProto, numpy_helper

from mcugraph.passes.remove_channels import remove_channels

ROOT = Path(__file__).parents[1]


@pytest.fixture
def judge(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("pruning_judge")


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("pruning_table")


def verdict_on(judge: ModuleType, folder: Path, model: ModelProto, form: str) -> str:
    onnx.save(model, folder / f"all.identity_blocks.{form}.onnx")
    return str(judge.judged(folder, "all", "identity_blocks", form)["verdict"])


def with_weights(model: ModelProto, name: str, value: np.ndarray) -> ModelProto:
    own = ModelProto()
    own.CopyFrom(model)
    tensor = next(tensor for tensor in own.graph.initializer if tensor.name == name)
    tensor.CopyFrom(numpy_helper.from_array(value, name))
    return own


@pytest.mark.parametrize("form", exports.FORMS)
def test_the_judge_tells_right_from_wrong(judge: ModuleType, tmp_path: Path, form: str) -> None:
    whole = exports.model_of("identity_blocks", form)
    half = remove_channels(whole, {"0.0.weight": range(8), "1.a.0.weight": range(3, 9)})
    name = "2.a.0.weight" + "_quantized" * (form == "int8")
    (tensor,) = (tensor for tensor in half.graph.initializer if tensor.name == name)
    weights = numpy_helper.to_array(tensor)
    wrong, short = with_weights(half, name, weights[:, ::-1]), weights[:, :5]
    assert verdict_on(judge, tmp_path, whole, form) == "nothing"
    assert verdict_on(judge, tmp_path, half, form) == "equal"
    assert verdict_on(judge, tmp_path, wrong, form) == "wrong"
    assert verdict_on(judge, tmp_path, with_weights(half, name, short), form) == "invalid"


def test_a_tool_that_gives_up_is_quoted(judge: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "all.gru.float.txt").write_text("IndexError: 16\nmore", encoding="utf-8")
    row = judge.judged(tmp_path, "all", "gru", "float")
    assert row == {"verdict": "error", "why": "IndexError: 16"}


def test_a_pruned_torch_network_is_judged_by_its_parameters(
    judge: ModuleType, tmp_path: Path
) -> None:
    net = prunable.module("conv_flatten_fc")
    state = {key: value.numpy() for key, value in net.state_dict().items()}
    state["fc1.weight"], state["fc1.bias"] = state["fc1.weight"][:16], state["fc1.bias"][:16]
    state["fc2.weight"] = state["fc2.weight"][:, :16]
    x = prunable.inputs("conv_flatten_fc", judge.SAMPLES)
    y = judge.masking.masked(net, x, {"fc1": range(16, 32)})[0].numpy()
    for found, verdict in ((y, "equal"), (-y, "wrong")):
        np.savez(tmp_path / "all.conv_flatten_fc.float.npz", y=found, **state)
        row = judge.judged(tmp_path, "all", "conv_flatten_fc", "float")
        assert row["verdict"] == verdict
        assert row["left"] == round(1 - 16 * (256 + 1 + 10) / 9946, 4)


def test_every_network_was_halved_rightly_and_further_than_by_any_peer(table: ModuleType) -> None:
    models = table.results()["models"]
    assert models.keys() == prunable.GRAPHS.keys()
    for forms in models.values():
        assert forms.keys() == set(exports.FORMS)
        for found in forms.values():
            ours, *others = found.values()
            assert ours["verdict"] == "equal"
            assert all(ours["left"] <= row["left"] for row in others if row["verdict"] == "equal")


def test_the_tables_show_all_of_it(table: ModuleType) -> None:
    record = table.results()
    matrix, memory = table.matrix(record).splitlines(), table.memory(record).splitlines()
    assert len(matrix) == 2 + 2 * len(prunable.GRAPHS)
    assert len(memory) == 2 + len(table.VARIANTS)
    assert {row.count("|") for row in matrix} == {7}
    assert {row.count("|") for row in memory} == {7}
