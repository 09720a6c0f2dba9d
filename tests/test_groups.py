"""What one channel costs, against models that have one channel fewer."""

import io
import json
from pathlib import Path

import pytest
from models import MODELS, Net, quantized
from onnx import ModelProto
from rich.console import Console

from mcugraph.cost import cost_of
from mcugraph.errors import LoadError
from mcugraph.groups import Groups, find_groups
from mcugraph.load import load, load_model
from mcugraph.optimize import Settings
from mcugraph.passes.channels import find_channels
from mcugraph.passes.remove_channels import remove_channels
from mcugraph.show_groups import WIDTH, print_groups
from mcugraph.testing import Golden

DIGITS = Path(__file__).parents[1] / "examples"
M0 = "cortex-m0"


def shown(found: Groups) -> str:
    console = Console(file=io.StringIO(), width=WIDTH, color_system=None)
    print_groups(found, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def recurrent() -> ModelProto:
    net = Net(17)
    x = net("Relu", net.conv("conv", net.input("x", 1, 4, 8), 6, 4, 3, pads=[1, 1]))
    x = net("Transpose", x, perm=[2, 0, 1])
    x = net("GRU", x, net.weight("w", 1, 24, 6), net.weight("r", 1, 24, 8), hidden_size=8)
    x = net("Reshape", x, net.const("flat", [8, 8], "int64"))
    return net.model(net.gemm("fc", x, 3, 8))


@pytest.mark.parametrize(
    "name", ["residual", "separable", "squeeze_excite", "concat_branches", "residual_qdq"]
)
def test_difference_to_one_channel_fewer(name: str) -> None:
    """The last channel is taken out by its coordinates."""
    model = load_model(MODELS[name]())
    found = find_groups(model, M0)
    whole = cost_of(model, M0)
    assert (found.parameters, found.macs) == (whole.parameters, whole.macs)
    assert (found.weights, found.ram) == (whole.weights, whole.ram)
    assert [group.name for group in found.groups] == [g.name for g in find_channels(model).groups]
    for group, told in zip(find_channels(model).groups, found.groups, strict=True):
        (gone,) = group.channels[-1][0]
        size = max(index for channel in group.channels for index in channel[0]) + 1
        kept = [index for index in range(size) if index != gone]
        less = cost_of(remove_channels(model, {group.name: kept}), M0)
        saved = (whole.parameters - less.parameters, whole.macs - less.macs)
        assert (told.channel.parameters, told.channel.macs) == saved
        assert told.channel.weights == whole.weights - less.weights
        assert told.channel.ram == whole.ram - less.ram
        assert told.width == group.width
        assert (told.producers, told.consumers) == (group.producers, group.consumers)


def test_only_what_is_live_at_the_peak_saves_memory() -> None:
    found = find_groups(DIGITS / "digits_float.onnx")
    stem, later = found.groups
    assert stem.channel.at_peak
    assert stem.channel.ram
    assert (later.channel.at_peak, later.channel.ram) == (0, 0)
    assert found.target == M0
    assert found.model == "digits_float"


def test_objective_counts() -> None:
    whole = Settings(objective="cycles")
    found = find_groups(DIGITS / "digits_float.onnx", M0, whole)
    assert found.ram == cost_of(load(DIGITS / "digits_float.onnx"), M0, settings=whole).ram
    assert found.groups[0].channel.at_peak == 2 * 64


def test_reasons_of_what_stays() -> None:
    found = find_groups(DIGITS / "digits_float.onnx")
    roles = {(axis.name, axis.role): axis.reason for axis in found.fixed if axis.role}
    assert "the graph output 'logits' has it" in roles["head.weight", "output"]
    assert "the graph input 'input' has it" in roles["stem.0.weight", "input"]


def test_what_has_no_kernel_yet_is_counted_all_the_same() -> None:
    found = find_groups(recurrent())
    assert any("no kernel for GRU" in problem for problem in found.uncompiled)
    assert (found.weights, found.ram) == (None, None)
    assert {group.name: group.width for group in found.groups}["w"] == 8
    unit = next(group.channel for group in found.groups if group.name == "w")
    assert (unit.weights, unit.ram, unit.at_peak) == (None, None, None)
    assert unit.parameters == 3 * 6 + (24 * 8 - 21 * 7) + 3
    assert "no kernel for GRU" in " ".join(shown(found).split())


def test_json() -> None:
    found = find_groups(load_model(quantized(MODELS["separable"])))
    content = json.loads(json.dumps(found.as_json()))
    assert content["version"] == 1
    assert set(content["groups"][0]) == {
        *("name", "width", "producers", "consumers", "tensors", "channel")
    }
    assert set(content["groups"][0]["channel"]) == {
        *("parameters", "macs", "weights", "ram", "at_peak")
    }


def test_progress_and_mistakes(tmp_path: Path) -> None:
    stages: list[str] = []
    find_groups(load_model(MODELS["residual"]()), M0, None, stages.append)
    assert stages[0] == "planning the network"
    assert stages[-1].startswith(f"group {len(stages) - 1} of {len(stages) - 1}: ")
    with pytest.raises(LoadError, match="cannot read"):
        find_groups(tmp_path / "missing.onnx")
    with pytest.raises(ValueError, match="no target 'cortex-m9'"):
        find_groups(DIGITS / "digits.onnx", "cortex-m9")


def test_printed(golden: Golden) -> None:
    golden(shown(find_groups(DIGITS / "digits.onnx")))


def test_long_and_large_things_stay_in_80_columns(shared: Path) -> None:
    whole = Settings(objective="cycles")
    text = shown(find_groups(shared / "models/kws_fp32.onnx", M0, whole))
    assert max(map(len, text.splitlines())) <= WIDTH
    assert "the whole network                    22,604   2,664,768" in text
