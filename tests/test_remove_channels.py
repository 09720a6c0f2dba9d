"""Removing channels equals zeroing them, for every group; bad decisions say what is wrong."""

import functools
from collections.abc import Callable, Mapping, Sequence

import handmade
import models
import numpy as np
import onnx
import pytest
import zeroing
from channelnets import ChannelNet
from hypothesis import given, settings
from hypothesis import strategies as st
from models import Net
from onnx import ModelProto, numpy_helper
from zeroing import Zeroing

from mcugraph.passes.channels import ChannelGroup, find_channels
from mcugraph.passes.remove_channels import kept_indices, remove_channels

Kept = Mapping[str, Sequence[int]]
# Nothing to remove: no layers, no shapes, or integer tensors throughout that are outputs.
NOTHING = ("identities", "legacy_shapes", "qdq_by_hand", "qoperator_microsoft")
CASES: dict[str, Callable[[], ModelProto]] = {
    **{name: build for name, build in models.MODELS.items() if name not in NOTHING},
    **{f"small_{name}": build for name, build in handmade.TEN.items()},
    **{
        f"small_{name}_qdq": functools.partial(models.quantized, build)
        for name, build in handmade.TEN.items()
    },
}


@functools.cache
def case(name: str) -> tuple[ModelProto, tuple[ChannelGroup, ...], Zeroing]:
    """A model, its groups of more than one channel, and their judge."""
    model = CASES[name]()
    return model, groups_of(model), Zeroing(model)


def groups_of(model: ModelProto) -> tuple[ChannelGroup, ...]:
    return tuple(group for group in find_channels(model).groups if group.width > 1)


def removed(model: ModelProto, keep: Kept) -> ModelProto:
    """The smaller model; pure, valid and repeatable."""
    data = model.SerializeToString()
    result = remove_channels(model, keep)
    assert model.SerializeToString() == data
    assert remove_channels(model, keep).SerializeToString() == result.SerializeToString()
    onnx.checker.check_model(result, full_check=True)
    onnx.shape_inference.infer_shapes(result, check_type=True, strict_mode=True, data_prop=True)
    return result


def check(
    model: ModelProto, judge: Zeroing, decision: Sequence[tuple[ChannelGroup, Sequence[int]]]
) -> None:
    """Remove all but some channels of each group, and compare with zeroes in their place."""
    keep = {group.name: kept_indices(model, group, kept) for group, kept in decision}
    result = removed(model, keep)
    gone: dict[tuple[str, int], list[int]] = {}
    for group, kept in decision:
        lost = [group.channels[i] for i in range(group.width) if i not in set(kept)]
        for number, place in enumerate(group.places):
            if place.name in judge.made:
                indices = [index for channel in lost for index in channel[number]]
                gone.setdefault((place.name, place.axis), []).extend(indices)
    exact = zeroing.is_integer(model)
    found = zeroing.run(result, judge.feed)
    for one, other in zip(judge.outputs(gone), found, strict=True):
        assert (one.shape, one.dtype) == (other.shape, other.dtype)
        if exact:
            np.testing.assert_array_equal(one, other)
        else:
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5 * np.abs(one).max())


@pytest.mark.parametrize("name", CASES)
def test_half_of_every_group(name: str) -> None:
    model, groups, judge = case(name)
    random = np.random.default_rng(len(name))
    assert groups
    for group in groups:
        kept = sorted(random.permutation(group.width)[: group.width // 2].tolist())
        check(model, judge, [(group, kept)])


@pytest.mark.parametrize("name", CASES)
@given(st.data())
@settings(deadline=None, max_examples=4, derandomize=True)
def test_random_decisions(name: str, data: st.DataObject) -> None:
    model, groups, judge = case(name)
    check(model, judge, [(group, data.draw(kept_of(group))) for group in groups])


def kept_of(group: ChannelGroup) -> st.SearchStrategy[list[int]]:
    channels = st.sets(st.integers(0, group.width - 1), min_size=1)
    return channels.map(sorted)


@given(st.integers(0, 10**6), st.data())
@settings(deadline=None, max_examples=60, derandomize=True)
def test_random_networks(seed: int, data: st.DataObject) -> None:
    model = ChannelNet(seed).model()
    groups = groups_of(model)
    if groups:
        judge = Zeroing(model)
        check(model, judge, [(group, data.draw(kept_of(group))) for group in groups])


# Anchors


def sizes(model: ModelProto) -> dict[str, tuple[int, ...]]:
    return {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}


@pytest.mark.parametrize("name", ["a.weight", "a.bias", "a", "relu_4"])
def test_any_place_names_a_group(name: str) -> None:
    after = sizes(removed(models.residual(), {name: [0, 3, 5]}))
    assert (after["a.weight"], after["a.bias"], after["b.weight"]) == (
        (3, 8, 3, 3),
        (3,),
        (8, 3, 3, 3),
    )


def test_names_of_weights_survive_quantisation() -> None:
    keep = {"stem.weight": [0, 1, 7], "a.weight": [2]}
    after = sizes(removed(models.MODELS["residual_qdq"](), keep))
    assert after["stem.weight_quantized"] == (3, 3, 3, 3)
    assert after["a.weight_quantized"] == (1, 3, 3, 3)
    assert after["a.weight_scale"] == (1,)
    float_again = sizes(removed(models.residual(), {"a.weight_quantized": [2]}))
    assert float_again["a.weight"] == (1, 8, 3, 3)


def test_all_names_of_a_group_may_be_given() -> None:
    model = models.residual()
    same = {"stem.weight": [1, 2], "b.weight": [1, 2]}
    assert removed(model, same) == removed(model, {"stem.weight": [1, 2]})


def halves() -> ModelProto:
    """Both halves of a layer go their own ways."""
    net = Net(18)
    x = net.conv("stem", net.input("x", 1, 3, 6, 6), 8, 3, 3, 3)
    a, b = net.many("Split", x, out=["a", "b"], axis=1, num_outputs=2)
    a, b = net.conv("left", a, 4, 4, 1, 1), net.conv("right", b, 4, 4, 1, 1)
    return net.model(net.conv("end", net("Add", a, b), 2, 4, 1, 1))


def test_a_weight_may_hold_several_groups() -> None:
    after = sizes(removed(halves(), {"stem.weight": [0, 1, 2, 7]}))
    assert (after["stem.weight"], after["left.weight"], after["right.weight"]) == (
        (4, 3, 3, 3),
        (4, 3, 1, 1),
        (4, 1, 1, 1),
    )


def grouped() -> ModelProto:
    net = Net(18)
    x = net.conv("stem", net.input("x", 1, 3, 6, 6), 8, 3, 3, 3)
    x = net.conv("pairs", x, 8, 4, 3, 3, group=2)
    return net.model(net.conv("end", x, 2, 8, 1, 1))


def test_channels_of_a_grouped_convolution_are_counted_on_the_whole_axis() -> None:
    after = sizes(removed(grouped(), {"pairs.weight": [0, 2, 3, 4, 6, 7], "stem": [1, 5]}))
    assert (after["pairs.weight"], after["end.weight"]) == ((6, 1, 3, 3), (2, 6, 1, 1))


def recurrent() -> ModelProto:
    net = Net(18)
    x = net.input("x", 5, 1, 3)
    weights = net.weight("W", 1, 24, 3), net.weight("R", 1, 24, 8), net.weight("B", 1, 48)
    y = net.many("GRU", x, *weights, out=["y", ""], hidden_size=8)[0]
    return net.model(net("MatMul", y, net.weight("w", 8, 2)))


@pytest.mark.parametrize("name", ["W", "R", "B", "y"])
def test_hidden_units_count_once(name: str) -> None:
    after = sizes(removed(recurrent(), {name: [0, 7]}))
    assert (after["W"], after["R"], after["B"]) == ((1, 6, 3), (1, 6, 2), (1, 12))


def test_kept_indices_of_an_anchor() -> None:
    model = grouped()
    group = find_channels(model).group("pairs.weight")
    assert kept_indices(model, group, [0, 3]) == [0, 3, 4, 7]
    group = find_channels(recurrent()).group("W")
    assert kept_indices(recurrent(), group, [2, 5]) == [2, 5]
    model = halves()
    for group in find_channels(model).groups:
        after = removed(model, {group.name: kept_indices(model, group, [0])})
        assert sizes(after)["stem.weight"][0] in (5, 8)


@pytest.mark.parametrize("name", ["residual", "residual_qdq", "separable_qoperator"])
def test_keeping_everything_changes_nothing(name: str) -> None:
    model = models.MODELS[name]()
    assert remove_channels(model, {}).SerializeToString() == model.SerializeToString()
    keep = {
        group.name: kept_indices(model, group, range(group.width)) for group in groups_of(model)
    }
    assert remove_channels(model, keep).SerializeToString() == model.SerializeToString()


def test_weights_are_the_kept_ones() -> None:
    model = models.residual()
    before = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    result = removed(model, {"stem.weight": [0, 4], "a.weight": [1, 2, 6]})
    after = {t.name: numpy_helper.to_array(t) for t in result.graph.initializer}
    np.testing.assert_array_equal(after["stem.bias"], before["stem.bias"][[0, 4]])
    np.testing.assert_array_equal(after["a.weight"], before["a.weight"][[1, 2, 6]][:, [0, 4]])
    np.testing.assert_array_equal(after["fc.weight"], before["fc.weight"])


# Bad decisions


def refused(model: ModelProto, keep: Kept, *messages: str) -> None:
    """One error; several problems stand one to a line."""
    with pytest.raises(ValueError, match=r"^cannot remove channels:") as caught:
        remove_channels(model, keep)
    lines = str(caught.value).removeprefix("cannot remove channels:").strip().splitlines()
    assert lines == list(messages)


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        (
            {"a.weights": [0]},
            "there is no weight or tensor 'a.weights'; near to it: a.weight, d.weight, c.weight",
        ),
        (
            {"nonsense": [0]},
            "there is no weight or tensor 'nonsense'; groups: stem.weight, a.weight, c.weight",
        ),
        ({"a.weight": [0.5]}, "'a.weight' keeps indices, not 0.5"),
        ({"a.weight": []}, "nothing would be kept of 'a.weight': an empty layer"),
        (
            {"a.weight": [2, 8]},
            "'a.weight' has 8 channels: kept indices ascend from 0 to 7, each once; it says 2, 8",
        ),
        (
            {"a.weight": [2, 2]},
            "'a.weight' has 8 channels: kept indices ascend from 0 to 7, each once; it says 2, 2",
        ),
        (
            {"a.weight": [3, 1]},
            "'a.weight' has 8 channels: kept indices ascend from 0 to 7, each once; it says 3, 1",
        ),
        (
            {"x": [0]},
            "the channels of 'x' must stay: the graph input 'x' has it",
        ),
        (
            {"stem.weight": [0, 1], "b.weight": [0, 2]},
            "'stem.weight' and 'b.weight' share their channels, but keep different ones: 1, 2",
        ),
    ],
)
def test_one_problem(keep: Kept, message: str) -> None:
    refused(models.residual(), keep, message)


def test_a_tensor_without_channels_is_told() -> None:
    message = "'axes' has no channels that could go; there are: conv.weight"
    refused(models.pooling_faces(), {"axes": [0]}, message)


def test_a_group_that_is_kept_in_part_is_told() -> None:
    refused(
        grouped(),
        {"pairs.weight": [0, 1, 2, 3]},
        *(
            f"channels {i}, {i + 4} of 'pairs.weight' go together, but it keeps {i} without {i + 4}"
            for i in range(4)
        ),
    )


def test_channels_that_must_stay_are_told() -> None:
    net = Net(18)
    x = net.conv("stem", net.input("x", 1, 3, 6, 6), 8, 3, 3, 3)
    a, b = net.many("Split", x, out=["a", "b"], axis=1, num_outputs=2)
    model = net.model(net.conv("end", a, 2, 4, 1, 1), b)
    assert sizes(removed(model, {"stem.weight": [0, 4, 5, 6, 7]}))["stem.weight"][0] == 5
    refused(
        model,
        {"stem.weight": [0, 4, 5]},
        "channels 6, 7 of 'stem.weight' must stay: channels 4-7: the graph output 'b' has it",
    )


def test_a_layer_that_would_be_empty_is_told() -> None:
    net = Net(17)
    x = net.input("x", 1, 3, 6, 6)
    both = net(
        "Concat", net.conv("a", x, 4, 3, 1, 1), net.conv("b", x, 4, 3, 1, 1), axis=1, out="c"
    )
    model = net.model(net.conv("end", both, 2, 8, 1, 1))
    assert sizes(removed(model, {"c": [3, 4]}))["end.weight"] == (2, 2, 1, 1)
    refused(model, {"c": [4, 5, 6, 7]}, "nothing would be kept of a: an empty layer")


def test_a_tensor_with_channels_on_two_axes_is_told() -> None:
    net = Net(17)
    a = net("MatMul", net.input("x", 4, 3), net.weight("a", 3, 6), out="ax")
    left = net("MatMul", net.weight("rows", 5, 4), a, out="both")
    y = net("MatMul", left, net.weight("b", 6, 2))
    model = net.model(net("MatMul", net.weight("c", 2, 5), y))
    refused(model, {"both": [0]}, "'both' has channels on several axes: name one of a, rows")


def test_all_problems_come_at_once() -> None:
    keep = {"a.weight": [], "b.wait": [0], "stem.weight": [9], "c.weight": [0, 1]}
    with pytest.raises(ValueError, match=r"^cannot remove channels:\n") as caught:
        remove_channels(models.residual(), keep)
    lines = str(caught.value).splitlines()[1:]
    assert [line.split("'")[1] for line in lines] == ["a.weight", "b.wait", "stem.weight"]
