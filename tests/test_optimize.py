"""The pipeline: its stages, names and settings, and what it leaves to read."""

import json
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from models import MODELS, Net

from mcugraph.errors import LoadError, UnsupportedError
from mcugraph.load import load
from mcugraph.optimize import Settings, model_name, optimize, rewrite
from mcugraph.targets import load as load_target

DIGITS = Path(__file__).parents[1] / "examples" / "digits.onnx"


def test_each_stage_is_told_in_order() -> None:
    stages: list[str] = []
    optimize(DIGITS, "host", progress=stages.append)
    assert stages == [
        "loading",
        "rewriting the graph",
        "planning memory",
        "writing C",
        "compiling and emulating",
    ]


def test_the_same_model_gives_the_same_files_and_is_left_as_it_was() -> None:
    model = load(DIGITS)
    before = model.SerializeToString(deterministic=True)
    model.graph.name = "digits"
    first, second = (optimize(model, "host") for _ in range(2))
    assert first.files == second.files
    assert first.report == second.report
    model.graph.name = onnx.load_from_string(before).graph.name
    assert model.SerializeToString(deterministic=True) == before


def test_a_file_and_its_content_give_the_same_c() -> None:
    named = Settings(name="net")
    from_file = optimize(DIGITS, "host", named)
    from_model = optimize(onnx.load(DIGITS), load_target("host"), named)
    assert from_file.files == from_model.files


def test_the_annotated_model_tells_order_and_places() -> None:
    artifact = optimize(DIGITS, "host")
    model = onnx.load_from_string(artifact.files["digits.optimized.onnx"])
    onnx.checker.check_model(model, full_check=True)
    facts = {entry.key: json.loads(entry.value) for entry in model.metadata_props}
    assert facts["mcugraph.order"] == [step.name for step in artifact.report.steps]
    assert facts["mcugraph.arena"] == artifact.report.ram.arena
    assert facts["mcugraph.target"] == "host"
    places = {name: t["offset"] for name, t in artifact.report.tensors.items()}
    assert facts["mcugraph.offsets"] == {n: o for n, o in places.items() if o is not None}


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("my-net.v2.onnx", "my_net_v2"),
        ("conv_s8.onnx", "m_conv_s8"),
        ("mcugraph.onnx", "m_mcugraph"),
        ("string.onnx", "m_string"),
    ],
)
def test_a_name_is_made_of_the_file(file: str, name: str) -> None:
    assert model_name(Path("folder") / file, Settings()) == name


def test_a_name_of_the_user_is_kept_or_refused() -> None:
    assert model_name(DIGITS, Settings(name="net")) == "net"
    for wrong in ("a-b", "1st", "", "int"):
        with pytest.raises(ValueError, match="is no C identifier"):
            model_name(DIGITS, Settings(name=wrong))
    for taken in ("conv_s8", "mcugraph", "string"):
        with pytest.raises(ValueError, match="is that of another C file"):
            model_name(DIGITS, Settings(name=taken))


def test_wrong_settings_are_refused_before_the_model_is_read() -> None:
    missing = Path("missing.onnx")
    with pytest.raises(ValueError, match="no target 'cortex-m99'"):
        optimize(missing, "cortex-m99")
    with pytest.raises(ValueError, match="is no C identifier"):
        optimize(missing, "host", Settings(name="a b"))
    with pytest.raises(LoadError):
        optimize(missing, "host")


def test_a_float_model_needs_leave() -> None:
    with pytest.raises(UnsupportedError, match="quantise the model to int8"):
        optimize(MODELS["relu6"](), "host")
    assert optimize(MODELS["relu6"](), "host", Settings(allow_float=True)).report.int8 == 0


def test_a_target_without_emulator_is_not_measured() -> None:
    target = replace(load_target("cortex-m0"), emulator=None)
    report = optimize(DIGITS, target).report
    assert (report.instructions, report.cycles, report.flash.code) == (None, None, None)
    assert not report.ram.stack_measured
    assert report.ram.stack == target.stack


def test_rewriting_keeps_inputs_and_outputs() -> None:
    for build in (MODELS["tf_style_qdq"], MODELS["residual_qoperator"], MODELS["padded"]):
        model = build()
        found = rewrite(model)
        assert [v.name for v in found.graph.input] == [v.name for v in model.graph.input]
        assert [v.name for v in found.graph.output] == [v.name for v in model.graph.output]


def test_a_shape_that_no_pass_resolves_is_a_load_error() -> None:
    net = Net(18)
    positions = net("NonZero", net("Relu", net.input("x", 1, 4)))
    model = net.model(net("Cast", positions, to=1))
    with pytest.raises(LoadError):
        optimize(model, "host")
