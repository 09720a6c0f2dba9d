"""The list of cuts: which they are, what they cost, and its text."""

from __future__ import annotations

import io
import json
from functools import cache
from pathlib import Path

import depthnets
import models
import numpy as np
import pytest
from rich.console import Console

from mcugraph.cost import cost_of
from mcugraph.cuts import FIGURES, CutCost, Cuts, find_cuts
from mcugraph.measure import can_measure
from mcugraph.passes import Head, cut_depth, legal_cuts, split_model
from mcugraph.show_cuts import print_cuts
from mcugraph.targets import load as load_target
from mcugraph.testing import Golden

DIGITS = Path(__file__).parents[1] / "examples" / "digits.onnx"


@cache
def keywords() -> Cuts:
    return find_cuts(depthnets.exported("ds_cnn"), 12)


def shown(found: Cuts) -> str:
    stream = io.StringIO()
    print_cuts(found, Console(file=stream, width=80))
    return stream.getvalue()


# The places


def test_the_places_are_the_ends_of_steps_that_all_else_follows_from() -> None:
    names = {
        name: [cut.tensor for cut in legal_cuts(models.MODELS[name]())]
        for name in (
            "residual",
            "concat_branches",
            "split_branches",
            "preactivation",
            "squeeze_excite",
        )
    }
    assert names == {
        "residual": ["relu_2", "relu_7", "relu_11", "globalaveragepool_12"],
        "concat_branches": ["relu_2", "concat_6"],
        "split_branches": ["relu_2", "concat_7"],
        "preactivation": ["bn0", "bn1", "bn2", "maxpool_8"],
        "squeeze_excite": ["relu_2", "mul_8"],
    }


def test_a_float_model_and_its_quantised_form_have_the_same_places() -> None:
    for name in ("residual", "concat", "separable", "upsampled"):
        build = "concat_branches" if name == "concat" else name
        plain = [cut for cut in legal_cuts(models.MODELS[build]()) if cut.image]
        stored = [cut for cut in legal_cuts(models.MODELS[f"{name}_qdq"]()) if cut.image]
        assert [f"{cut.tensor}_QuantizeLinear_Output" for cut in plain] == [
            cut.tensor for cut in stored
        ]
        assert [cut.crossing_bytes for cut in plain] == [cut.crossing_bytes for cut in stored]
        assert {cut.dtype for cut in plain} == {"float32"}
        assert {cut.dtype for cut in stored} == {"int8"}


@pytest.mark.parametrize("name", models.MODELS)
def test_bytes_are_those_of_the_tensor_that_crosses(name: str) -> None:
    model = models.MODELS[name]()
    for cut in legal_cuts(model):
        (entrance,) = split_model(model, cut.tensor)[1].graph.input
        shape = tuple(dim.dim_value for dim in entrance.type.tensor_type.shape.dim)
        assert (entrance.name, shape) == (cut.tensor, cut.shape)
        size = 1 if "float" in cut.dtype else np.dtype(cut.dtype).itemsize
        assert cut.crossing_bytes == np.prod(shape) * size


def test_images_are_tensors_with_channels_second() -> None:
    cuts = {cut.tensor: cut.image for cut in legal_cuts(models.tf_style())}
    assert not any(cuts.values())
    cuts = {cut.tensor: cut.image for cut in legal_cuts(models.flatten_gemm())}
    assert cuts == {"relu_2": True, "maxpool_3": True, "relu_6": False}


# What they cost


def test_parameters_are_those_of_the_paper() -> None:
    found = {cut.tensor: cut.parameters for cut in keywords().cuts}
    for tensor, count, _ in depthnets.KWS.values():
        assert found[tensor] == count
    assert keywords().whole.parameters == 24_908


def test_figures_are_those_of_the_cut_model() -> None:
    model = depthnets.exported("ds_cnn")
    for cut in keywords().cuts[::3]:
        cost = cost_of(cut_depth(model, cut.tensor, Head(classes=12)), "cortex-m0")
        assert (cut.macs, cut.ram, cut.flash) == (cost.macs, cost.ram, cost.weights)
        assert cut.cycles is None
    assert {cut.crossing_bytes for cut in keywords().cuts} == {64 * 25 * 5}


def test_a_target_is_measured() -> None:
    target = load_target("cortex-m0")
    if not can_measure(target):
        pytest.skip("no emulator is installed")
    stages: list[str] = []
    model = models.separable()
    found = find_cuts(model, 4, "gap", target, stages.append)
    assert found.target == "cortex-m0"
    assert stages[0] == "cut 1 of 5: relu_2"
    assert stages[-1] == "the whole network"
    plain = find_cuts(model, 4, "gap")
    for cut, planned in zip([*found.cuts, found.whole], [*plain.cuts, plain.whole], strict=True):
        assert cut.cycles is not None
        assert cut.cycles > cut.macs
        assert cut.flash > planned.flash
        assert cut.ram > planned.ram
    cycles = [cut.cycles or 0 for cut in found.cuts]
    assert cycles == sorted(cycles)


def test_quantised_models_and_operators() -> None:
    for name in ("separable_qdq", "separable_qoperator"):
        found = find_cuts(models.MODELS[name](), 4, "gap")
        assert len(found.cuts) == 5
        assert {cut.crossing_bytes for cut in found.cuts} == {240}


def test_dense_heads_stand_behind_dense_layers_too() -> None:
    found = find_cuts(models.flatten_gemm(), 3, "dense4")
    assert [cut.tensor for cut in found.cuts] == ["relu_2", "maxpool_3", "relu_6"]
    found = find_cuts(models.flatten_gemm(), 3, "conv4")
    assert [cut.tensor for cut in found.cuts] == ["relu_2"]


# The front


def cut(*figures: int, cycles: int | None = None) -> CutCost:
    macs, flash, ram = figures
    return CutCost(f"t{macs}", 0, flash, macs, ram, cycles, 1)


def front(*cuts: CutCost, whole: CutCost | None = None, by: tuple[str, ...] = FIGURES) -> list[int]:
    rival = whole is not None
    found = Cuts(1, "gap", 2, None, rival, whole or cut(0, 0, 0), cuts).marked(by)
    return [i for i, each in enumerate(found.cuts) if each.pareto]


def test_a_deeper_cut_that_costs_no_more_beats_a_cut() -> None:
    assert front(cut(5, 5, 5), cut(5, 5, 5), cut(6, 6, 6)) == [1, 2]
    assert front(cut(5, 5, 5), cut(4, 6, 5), cut(3, 6, 5)) == [0, 2]
    assert front(cut(5, 5, 5), cut(4, 6, 5), cut(3, 6, 5), by=("macs",)) == [2]
    assert front(cut(5, 5, 5), cut(9, 9, 9), whole=cut(8, 8, 8)) == [0]
    assert front(cut(5, 5, 5, cycles=9), cut(5, 5, 5, cycles=10)) == [0, 1]


def test_the_whole_network_is_a_rival_where_it_has_as_many_classes() -> None:
    """The paper's own remark: behind block 4 the keyword spotter is larger than it was."""
    assert keywords().rival
    assert [cut.tensor for cut in keywords().cuts if not cut.pareto] == ["relu_8"]
    assert not find_cuts(models.separable(), 3, "gap").rival


def test_an_unknown_figure() -> None:
    with pytest.raises(ValueError, match="no figure 'speed': there are macs, flash, ram, cycles"):
        keywords().marked(["ram", "speed"])


# Text


def test_json() -> None:
    text = json.loads(json.dumps(keywords().as_json()))
    assert (text["version"], text["head"], text["classes"]) == (1, "dscnn32_16", 12)
    assert set(text["cuts"][0]) == set(
        "tensor parameters flash macs ram cycles crossing_bytes pareto".split()
    )
    assert text["whole"]["parameters"] == 24_908


def test_text(golden: Golden) -> None:
    golden(shown(keywords()))


def test_text_fits_the_terminal() -> None:
    model = depthnets.exported("mobilenet")
    places = [each for each in legal_cuts(model) if each.image]
    figures = [(234_290, 257_252, 27_590_992, 128_404, 189_719_257, 4_608)] * len(places)
    cuts = tuple(
        CutCost(f"a.very.long.name.of.a.tensor.{each.tensor}", *row)
        for each, row in zip(places, figures, strict=True)
    )
    text = shown(Cuts(1, "dscnn32_16", 2, "cortex-m0", True, cuts[-1], cuts))
    assert max(map(len, text.splitlines())) <= 80


def test_no_cut() -> None:
    found = find_cuts(DIGITS, 10, "conv64_64_64_64_64_64_64_64")
    assert found.cuts == ()
    assert "takes the head\nconv64_64" in shown(found)


def test_the_example_has_cuts() -> None:
    found = find_cuts(DIGITS, 10)
    names = ["relu", "relu_2", "max_pool2d", "relu_3", "relu_4", "relu_6"]
    assert [cut.tensor for cut in found.cuts] == [f"{name}_QuantizeLinear_Output" for name in names]


def test_a_wrong_head() -> None:
    with pytest.raises(ValueError, match="write it as dscnn32_16, conv11, dense64_32 or gap"):
        find_cuts(DIGITS, 10, "dscnn-32")
