"""Ten networks as torch exports them and their int8 versions: every group loses half of itself.

What is left is compared with torch's own network, its channels zeroed where they are made, and,
in integers, with the same model whose later layers no longer weigh these channels. `masking` says
which channels these are, how many parameters remain and how many multiply-accumulates.
"""

import copy
import re
from collections.abc import Iterable, Sequence

import masking
import numpy as np
import onnx
import prunable
import pytest
from exports import FORMS, SUFFIX, macs, model_of, parameters, run, unweighed, weights_of
from models import Array
from onnx import ModelProto
from torch import Tensor, nn

from mcugraph.load import load_model
from mcugraph.optimize import UNLIMITED, rewrite
from mcugraph.passes import fold_constants
from mcugraph.passes.channels import ChannelGroup, find_channels
from mcugraph.passes.remove_channels import kept_indices, remove_channels
from mcugraph.plan import Aim, make_plan
from mcugraph.read import read_graph
from mcugraph.targets import load

CASES = [(name, form) for name in prunable.GRAPHS for form in FORMS]
# What goes together: the layers that make the channels, and how many there are.
GROUPS: dict[str, list[tuple[str, int]]] = {
    "resnet8": [
        ("0.0 1.b.0", 16),
        ("1.a.0", 16),
        ("2.a.0", 32),
        ("2.b.0 2.shortcut", 32),
        ("3.a.0", 64),
        ("3.b.0 3.shortcut", 64),
    ],
    "ds_cnn": [
        ("0.0 1.0.0", 64),
        ("1.1.0 2.0.0", 64),
        ("2.1.0 3.0.0", 64),
        ("3.1.0 4.0.0", 64),
        ("4.1.0", 64),
    ],
    "identity_blocks": [("0.0 1.b.0 2.b.0", 16), ("1.a.0", 16), ("2.a.0", 16)],
    "concat": [("a.0", 8), ("b.0", 24), ("fuse.0", 16), ("stem.0", 16)],
    "conv_flatten_fc": [("conv.0", 16), ("fc1", 32), ("stem.0", 8)],
    "split_concat": [("conv.0", 16), ("stem.0", 16), ("stem.0", 16)],
    "grouped_conv": [("0.0", 4), ("1.0", 8), ("2.0", 16)],
    "squeeze_excite": [("conv.0 excite", 16), ("last.0", 16), ("squeeze", 8), ("stem.0", 16)],
    "gru": [("gru1", 24), ("gru2", 16)],
    "attention": [("k q v", 4), ("up", 64)],
}


def layers_of(name: str, group: ChannelGroup) -> list[str]:
    weights = weights_of(name)
    return sorted({weights[each.removesuffix(SUFFIX)].layer for each in group.producers})


def gone(name: str, group: ChannelGroup, kept: Iterable[int]) -> dict[str, list[int]]:
    """The outputs of each layer that go with the channels that are not kept."""
    lost = [group.channels[index] for index in sorted({*range(group.width)} - {*kept})]
    found: dict[str, set[int]] = {}
    for position, place in enumerate(group.places):
        weight = weights_of(name).get(place.name.removesuffix(SUFFIX))
        if weight is not None and place.axis == weight.outputs:
            part = prunable.module(name).get_submodule(weight.layer)
            # A recurrent layer has three rows a unit, one for each gate.
            size = part.hidden_size if isinstance(part, nn.GRU) else 1 << 31
            rows = {index % size for channel in lost for index in channel[position]}
            found.setdefault(weight.layer, set()).update(rows)
    return {layer: sorted(rows) for layer, rows in found.items()}


def halved(
    name: str, model: ModelProto, groups: Sequence[ChannelGroup], seed: int
) -> tuple[ModelProto, dict[str, list[int]]]:
    """A model without a random half of each group, and the outputs that its layers lost."""
    random = np.random.default_rng(seed)
    keep: dict[str, list[int]] = {}
    lost: dict[str, list[int]] = {}
    for group in groups:
        kept = random.permutation(group.width)[: group.width // 2].tolist()
        keep[group.name] = kept_indices(model, group, kept)
        for layer, rows in gone(name, group, kept).items():
            lost.setdefault(layer, []).extend(rows)
    return remove_channels(model, keep), lost


def check(name: str, form: str, groups: Sequence[ChannelGroup], seed: int) -> None:
    """Remove half of these groups: it runs, equals the masked network, and is as small as said."""
    model, x = model_of(name, form), prunable.inputs(name, 8)
    result, lost = halved(name, model, groups, seed)
    onnx.checker.check_model(result, full_check=True)
    y, layers = masking.masked(prunable.module(name), x, lost)
    found = run(result, x.numpy())
    zeroed = run(unweighed(name, model, layers), x.numpy())
    if form == "int8":
        np.testing.assert_array_equal(found, zeroed)
    else:
        check_close(found, y)
        check_close(zeroed, y)
    assert parameters(result) == sum(layer.parameters for layer in layers.values())
    assert macs(result) == sum(layer.macs for layer in layers.values())


def check_close(found: Array, expected: Tensor) -> None:
    atol = 1e-5 * float(expected.abs().max())
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-5, atol=atol)


@pytest.mark.parametrize(("name", "form"), CASES)
def test_the_groups_are_those_of_the_network(name: str, form: str) -> None:
    groups = find_channels(model_of(name, form)).groups
    assert sorted((" ".join(layers_of(name, each)), each.width) for each in groups) == GROUPS[name]


@pytest.mark.parametrize(("name", "form"), CASES)
def test_half_of_each_group_can_go(name: str, form: str) -> None:
    for seed, group in enumerate(find_channels(model_of(name, form)).groups):
        check(name, form, [group], seed)


@pytest.mark.parametrize(("name", "form"), CASES)
def test_half_of_all_groups_can_go(name: str, form: str) -> None:
    check(name, form, find_channels(model_of(name, form)).groups, 100)


@pytest.mark.parametrize("name", ["ds_cnn", "identity_blocks", "squeeze_excite"])
def test_normalisations_that_are_not_folded_shrink_too(name: str) -> None:
    net, x = prunable.module(name), prunable.inputs(name, 8)
    model = fold_constants(prunable.export(net, x[:1], optimize=False))
    assert "BatchNormalization" in {node.op_type for node in model.graph.node}
    result, lost = halved(name, model, find_channels(model).groups, 100)
    assert {*lost} == {layer for layers, _ in GROUPS[name] for layer in layers.split()}
    check_close(run(result, x.numpy()), masking.masked(net, x, lost)[0])


def test_constants_that_layers_share_are_told_apart() -> None:
    """The exporter merges what is equal: here the biases of all layers of one width."""
    name = "identity_blocks"
    net, x = copy.deepcopy(prunable.module(name)), prunable.inputs(name, 8)
    for part in net.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.constant_(part.bias, 0.1)
            nn.init.zeros_(part.running_mean)
    model = prunable.export(net, x[:1])
    assert len({node.input[2] for node in model.graph.node if node.op_type == "Conv"}) == 1
    for seed, group in enumerate(find_channels(model).groups):
        result, lost = halved(name, model, [group], seed)
        check_close(run(result, x.numpy()), masking.masked(net, x, lost)[0])


@pytest.mark.parametrize("form", FORMS)
def test_what_a_normalisation_sees_as_a_whole_stays(form: str) -> None:
    fixed = find_channels(model_of("attention", form)).fixed
    weights = weights_of("attention")
    reasons = {
        (weights[name].layer, each.axis == weights[name].outputs): each.reason
        for each in fixed
        if (name := each.name.removesuffix(SUFFIX)) in weights
    }
    stream = [("embed", True), ("q", False), ("k", False), ("v", False), ("out", True)]
    stream += [("up", False), ("down", True), ("head", False)]
    assert {"x": reasons.pop(("embed", False)), "y": reasons.pop(("head", True))} == {
        "x": "the graph input 'x' has it",
        "y": "the graph output 'y' has it",
    }
    assert sorted(reasons) == sorted(stream)
    sentence = r"LayerNormalization 'node_layer_norm(_1)?' normalises over it"
    assert all(re.fullmatch(sentence, reason) for reason in reasons.values())


@pytest.mark.parametrize("name", sorted(prunable.GRAPHS.keys() - {"attention"}))
def test_only_inputs_and_outputs_of_the_others_stay(name: str) -> None:
    reasons = {each.reason for each in find_channels(model_of(name, "float")).fixed if each.role}
    assert reasons <= {"the graph input 'x' has it", "the graph output 'y' has it"}


def arenas(model: ModelProto) -> tuple[int, int, int]:
    """Bytes of the ResNet: whole tensors, one step after the other, and row by row."""
    graph, target = read_graph(rewrite(load_model(model))), load("cortex-m0")
    single = make_plan(graph, target, "resnet8", Aim(enough=UNLIMITED))
    rows = make_plan(graph, target, "resnet8")
    return single.schedule.peak, single.memory.arena, rows.memory.arena


def test_the_peak_falls_with_the_residual_stream() -> None:
    """At the peak lie the stream, what its block made of it, and their sum: 1,024 bytes a channel.

    What is inside of a block does not hold it down.
    """
    model = model_of("resnet8", "int8")
    whole, single, rows = arenas(model)
    thin = arenas(remove_channels(model, {"0.0.weight": range(8)}))
    inner = arenas(remove_channels(model, {"1.a.0.weight": range(8)}))
    scratch = whole - 3 * 16 * 1024
    assert 0 <= scratch < 256
    assert thin[0] - scratch == (8 + 16 + 8) * 1024
    assert inner[0] == 3 * 16 * 1024
    assert thin[1] < 0.75 * single
    assert thin[2] < 0.8 * rows
    assert inner[1] > 0.95 * single
