"""Decisions as files, and against the passes that they call."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models import MODELS, quantized
from onnx import ModelProto, numpy_helper
from onnxruntime import InferenceSession

from mcugraph.decision import Decision, DecisionError, Exit
from mcugraph.load import load_model
from mcugraph.passes import add_exit, cut_depth, drop_branches
from mcugraph.passes.channels import find_channels
from mcugraph.passes.heads import Head, head_model
from mcugraph.passes.remove_channels import remove_channels
from mcugraph.testing import Golden

HEAD = Head("dscnn", (8, 4), 3)
FULL = Decision(
    keep={"a.weight": (0, 2, 5), "stem.weight": (0, 1, 2, 3, 4, 7)},
    widths={"a.weight": 8, "stem.weight": 8},
    cut="relu_8",
    head=HEAD,
    exit=Exit("relu_4", Head("gap", (), 3, seed=7), 0.75),
    ranks={"c.weight": 4},
    codebooks={"fc.weight": 16},
    drop=("b", "d"),
)


DROP = Decision({"stem.weight": (0, 2, 5)}, {"stem.weight": 8}, drop=("b",))


def residual() -> ModelProto:
    return load_model(MODELS["residual"]())


def initializers(model: ModelProto) -> dict[str, tuple[int, ...]]:
    return {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}


# The file


def test_text(golden: Golden) -> None:
    golden(FULL.dumps(), ".json")


def test_read_as_written(tmp_path: Path) -> None:
    for decision in (
        FULL,
        Decision(),
        Decision(keep={"w": (0,)}),
        Decision(codebooks={"w": 4}),
        DROP,
    ):
        decision.save(tmp_path / "d.json")
        assert Decision.load(tmp_path / "d.json") == decision
        assert Decision.loads(decision.dumps()).dumps() == decision.dumps()


@settings(max_examples=50, deadline=None, derandomize=True)
@given(
    keep=st.dictionaries(st.text(), st.lists(st.integers(0, 300), max_size=40).map(tuple)),
    drop=st.lists(st.text(), max_size=3).map(tuple),
    ranks=st.dictionaries(st.text(), st.integers(1, 99), max_size=3),
    data=st.data(),
)
def test_any_names_and_numbers_come_back(
    keep: dict[str, tuple[int, ...]],
    drop: tuple[str, ...],
    ranks: dict[str, int],
    data: st.DataObject,
) -> None:
    widths = {name: data.draw(st.integers(1, 300)) for name in keep if data.draw(st.booleans())}
    decision = Decision(keep, widths, ranks=ranks, drop=drop)
    assert Decision.loads(decision.dumps()) == decision


def test_numbers_of_a_group_stand_on_one_line() -> None:
    text = Decision(keep={"w": tuple(range(200))}, widths={"w": 256}).dumps()
    assert len(text.splitlines()) == 9
    assert json.loads(text)["keep"]["w"] == {"width": 256, "channels": list(range(200))}


def test_short_form_without_widths() -> None:
    decision = Decision.loads('{"version": 1, "keep": {"w": [0, 3]}}')
    assert decision == Decision(keep={"w": (0, 3)})


MISTAKES: dict[str, tuple[Any, list[str]]] = {
    "version": ({"version": 2}, ["version 2: 1 is what this program reads"]),
    "no version": ({}, ["version None: 1 is what"]),
    "no object": ([1], ["a decision is [1], not an object of version, cut"]),
    "misspelt": (
        {"version": 1, "kepe": {}, "codebok": {}, "xyz": 1},
        ["key 'kepe': did you mean 'keep'?", "did you mean 'codebooks'?", "'xyz': there are"],
    ),
    "keep": (
        {"version": 1, "keep": {"a": 3, "b": [0, "x"], "c": {"width": 0, "channels": []}}},
        ["keep of 'a' is 3, not a list", "keep of 'b' is [0, \"x\"]", "keep of 'c': width is 0"],
    ),
    "kept": (
        {"version": 1, "keep": {"a": {"widht": 4, "width": 4, "channels": [True]}}},
        ["'widht': did you mean 'width'?", "keep of 'a' is [true], not a list"],
    ),
    "drop": (
        {"version": 1, "drop": ["a", 3]},
        ['drop is ["a", 3], not a list of names of tensors'],
    ),
    "ranks": (
        {"version": 1, "ranks": {"a": 0, "b": 1.5}, "codebooks": [3]},
        ["ranks of 'a' is 0", "ranks of 'b' is 1.5", "codebooks is [3], not an object"],
    ),
    "cut": (
        {"version": 1, "cut": {"tensor": 3}},
        ["cut.tensor is 3, not the name", "cut.head is missing: an object of form, classes"],
    ),
    "head": (
        {"version": 1, "cut": {"tensor": "t", "head": {"form": "dscnn", "classes": 2}}},
        ["cut.head: head dscnn: gap takes no widths"],
    ),
    "classes": (
        {"version": 1, "cut": {"tensor": "t", "head": {"form": "gap", "classes": "two"}}},
        ["cut.head: form is a text such as dscnn32_16, classes and seed are numbers"],
    ),
    "exit": (
        {
            "version": 1,
            "exit": {"tensor": "t", "head": {"form": "gap", "classes": 2}, "threshold": 2},
        },
        ["exit.threshold is 2, not a probability"],
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_told_all_at_once(name: str) -> None:
    content, told = MISTAKES[name]
    with pytest.raises(DecisionError) as caught:
        Decision.loads(json.dumps(content))
    assert len(caught.value.problems) == len(told)
    for problem, part in zip(caught.value.problems, told, strict=True):
        assert part in problem


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "not JSON: Expecting property name"),
        ('{"version": 1, "keep": {"a": [0], "a": [1]}}', "'a' stands there twice"),
        ("", "not JSON"),
    ],
)
def test_what_is_no_json(text: str, told: str) -> None:
    with pytest.raises(DecisionError, match=told):
        Decision.loads(text)


def test_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "d.json").write_text('{"version": 3, "cutt": 1}')
    with pytest.raises(DecisionError) as caught:
        Decision.load(tmp_path / "d.json")
    assert all(
        problem.startswith(str(tmp_path / "d.json:")[:-1]) for problem in caught.value.problems
    )
    with pytest.raises(DecisionError, match=r"cannot read .*missing\.json: No such file"):
        Decision.load(tmp_path / "missing.json")


def test_cut_and_head_go_together() -> None:
    with pytest.raises(ValueError, match="a cut needs a head"):
        Decision(cut="x")


# Applied


@pytest.mark.parametrize("name", ["residual", "separable", "concat_branches", "flatten_gemm"])
def test_first_channels_of_each_group(name: str) -> None:
    model = load_model(MODELS[name]())
    channels = find_channels(model)
    widths = [max(1, group.width // 2) for group in channels.groups]
    decision = Decision.of_widths(model, channels, widths)
    assert decision.check(model) == ()
    result = decision.apply(model)
    assert [group.width for group in find_channels(result).groups if group.width > 1] == [
        width for width in widths if width > 1
    ]
    assert Decision.of_widths(model, channels, [g.width for g in channels.groups]) == Decision()


def test_each_stage_is_its_pass() -> None:
    model = residual()
    keep = {"a.weight": (0, 2, 5)}
    assert Decision(keep=keep).apply(model) == remove_channels(model, keep)
    names = [node.output[0] for node in model.graph.node if node.op_type == "Relu"]
    assert Decision(cut=names[2], head=HEAD).apply(model) == cut_depth(model, names[2], HEAD)
    assert Decision(drop=("b",)).apply(model) == drop_branches(model, ["b"])
    early = Exit(names[0], HEAD, 0.5)
    assert Decision(exit=early).apply(model) == add_exit(model, names[0], HEAD, 0.5)


def test_cut_comes_before_channels() -> None:
    model = residual()
    names = [node.output[0] for node in model.graph.node if node.op_type == "Relu"]
    decision = Decision({"stem.weight": (0, 1, 2)}, {"stem.weight": 8}, names[2], HEAD)
    shapes = initializers(decision.apply(model))
    assert shapes["head.0.depthwise.weight"] == (3, 1, 3, 3)
    assert not any(name.startswith("c.") for name in shapes)


def test_branches_go_before_channels() -> None:
    """Without the first block, the stem's channels are no others'."""
    model = residual()
    assert set(find_channels(model).group("stem.weight").producers) == {"stem.weight", "b.weight"}
    result = DROP.apply(model)
    assert result == remove_channels(drop_branches(model, ["b"]), DROP.keep)
    assert initializers(result)["c.weight"] == (12, 3, 3, 3)
    assert "b.weight" not in initializers(result)


def test_branches_of_the_float_model_fit_the_quantised_one() -> None:
    model = load_model(quantized(MODELS["residual"]))
    assert DROP.check(model) == ()
    shapes = initializers(DROP.apply(model))
    assert shapes["stem.weight_quantized"] == (3, 3, 3, 3)
    assert not any(name.startswith(("a.", "b.")) for name in shapes)


def test_trained_head_weights() -> None:
    model = residual()
    cut = next(node.output[0] for node in model.graph.node if node.op_type == "Relu")
    head = head_model(HEAD, (1, 8, 8, 8))
    weights = {t.name: numpy_helper.to_array(t) * 0 + 3 for t in head.graph.initializer}
    result = Decision(cut=cut, head=HEAD).apply(model, weights)
    values = {t.name: numpy_helper.to_array(t) for t in result.graph.initializer}
    assert (values["head.classifier.weight"] == 3).all()
    with pytest.raises(DecisionError, match="is missing"):
        Decision(cut=cut, head=HEAD).apply(model, {"head.other": np.zeros(1)})


def test_decided_on_the_export_applied_after_quantisation() -> None:
    decision = Decision({"a.weight": (0, 2, 5)}, {"a.weight": 8})
    model = quantized(MODELS["residual"])
    assert decision.check(load_model(model)) == ()
    result = decision.apply(load_model(model))
    assert initializers(result)["a.weight_quantized"] == (3, 8, 3, 3)
    session = InferenceSession(result.SerializeToString())
    (output,) = session.run(None, {"x": np.ones((1, 3, 8, 8), np.float32)})
    assert output.shape == (1, 5)


def test_the_other_way_round_too() -> None:
    decision = Decision({"a.weight_quantized": (1, 2)}, {"a.weight_quantized": 8})
    assert initializers(decision.apply(residual()))["a.weight"] == (2, 8, 3, 3)


PROBLEMS: dict[str, tuple[Decision, list[str]]] = {
    "unknown": (
        Decision({"a.wieght": (0,)}),
        ["no weight or tensor 'a.wieght'; near to it: a.weight"],
    ),
    "range": (Decision({"a.weight": (0, 8)}), ["'a.weight' has 8 channels"]),
    "negative": (Decision({"a.weight": (-1, 3)}), ["'a.weight' has 8 channels"]),
    "empty": (Decision({"a.weight": ()}), ["an empty layer"]),
    "fixed": (Decision({"x": (0, 1)}), ["the channels of 'x' must stay"]),
    "width": (
        Decision({"a.weight": (0, 1)}, {"a.weight": 16}),
        ["'a.weight' has 8 channels here, and had 16 when this was decided"],
    ),
    "torn": (
        Decision({"stem.weight": (0, 1), "b.weight": (0, 2)}),
        ["'stem.weight' and 'b.weight'"],
    ),
    "cut": (Decision(cut="nowhere", head=HEAD), ["cut: "]),
    "drop": (
        Decision({"a.weight": (0,)}, drop=("b", "relu_4")),
        ["drop: 'relu_4' is no term of a sum; branches: b, c, d"],
    ),
    "ranks": (
        Decision(ranks={"a.weight": 99, "nix": 1}),
        ["ranks: 'a.weight' can have ranks from 1 to 8, not 99", "ranks: there is no weight 'nix'"],
    ),
    "codebooks": (
        Decision(codebooks={"a.weight": 17}),
        ["codebooks: 'a.weight' can have 2 to 16 values, not 17"],
    ),
    "several": (
        Decision(
            {"a.weight": (9,), "b.weight": (0,), "nix": (0,)},
            {"b.weight": 4},
            exit=Exit("nowhere", HEAD),
        ),
        ["exit: ", "keep: 'b.weight' has 8 channels here", "'a.weight' has 8", "'nix'"],
    ),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_problems_with_a_model(name: str) -> None:
    decision, told = PROBLEMS[name]
    model = residual()
    before = model.SerializeToString()
    found = decision.check(model)
    assert len(found) == len(told), found
    for problem, part in zip(found, told, strict=True):
        assert part in problem
    with pytest.raises(DecisionError) as caught:
        decision.apply(model)
    assert caught.value.problems == found
    assert model.SerializeToString() == before


def test_behind_the_cut() -> None:
    model = residual()
    cut = next(node.output[0] for node in model.graph.node if node.op_type == "Relu")
    found = Decision({"a.weight": (0,)}, cut=cut, head=HEAD).check(model)
    assert found == (f"keep: 'a.weight' lies behind the cut at {cut}",)


def test_in_a_branch_that_goes() -> None:
    found = Decision({"a.weight": (0,)}, drop=("b",)).check(residual())
    assert found == ("keep: 'a.weight' lies in a branch that goes (b)",)


def test_applied_twice_is_noticed() -> None:
    decision = Decision({"a.weight": (0, 2)}, {"a.weight": 8})
    once = decision.apply(residual())
    with pytest.raises(DecisionError, match="has 2 channels here, and had 8"):
        decision.apply(once)


@pytest.mark.parametrize("build", [lambda: FULL, Decision])
def test_plain_data(build: Callable[[], Decision]) -> None:
    assert build() == build()
    assert "keep" in repr(build())
