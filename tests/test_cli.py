"""The commands as a user meets them: exit codes, messages, what is printed and what is written."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

from mcugraph import cli_compile, targets
from mcugraph.cli import run
from mcugraph.testing import Golden

ROOT = Path(__file__).parents[1]
DIGITS = ROOT / "examples/digits.onnx"
FLOAT = ROOT / "examples/digits_float.onnx"
DATA = ROOT / "examples/digits.npz"
OK, USAGE, IMPORT, UNSUPPORTED, OVER_BUDGET, WRONG = range(6)

Capture = pytest.CaptureFixture[str]


def tree(folder: Path) -> dict[str, bytes | None]:
    """All below a folder by path: the bytes of files, None for folders and links."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def text_model(path: Path, graph: str, **constants: Any) -> Path:
    head = '<ir_version: 8, opset_import: ["": 17, "my.own": 1]>\n'
    model = parser.parse_model(head + graph)
    for name, value in constants.items():
        model.graph.initializer.append(numpy_helper.from_array(value, name))
    onnx.save(model, path)
    return path


def truncated(folder: Path) -> Path:
    path = folder / "m.onnx"
    path.write_bytes(DIGITS.read_bytes()[:5000])
    return path


def no_onnx(folder: Path) -> Path:
    path = folder / "m.onnx"
    path.write_text("hello\n")
    return path


def torch_file(folder: Path) -> Path:
    path = folder / "m.onnx"
    path.write_bytes(b"\x80\x02\x8a\nl\xfc")
    return path


def empty_file(folder: Path) -> Path:
    path = folder / "m.onnx"
    path.touch()
    return path


def without_data(folder: Path) -> Path:
    path = folder / "m.onnx"
    onnx.save(
        onnx.load(FLOAT), path, save_as_external_data=True, location="m.bin", size_threshold=0
    )
    (folder / "m.bin").unlink()
    return path


def dynamic(folder: Path) -> Path:
    return text_model(
        folder / "m.onnx", "g (float[N, 3, H, W] x) => (float[N, 3, H, W] y) { y = Relu(x) }"
    )


def no_nodes(folder: Path) -> Path:
    return text_model(folder / "m.onnx", "g (float[1, 3] x) => (float[1, 3] x) { }")


def nan_scale(folder: Path) -> Path:
    model = onnx.load(DIGITS)
    scale = next(t for t in model.graph.initializer if t.name == "input_scale")
    scale.CopyFrom(numpy_helper.from_array(np.array(np.nan, np.float32), scale.name))
    onnx.save(model, folder / "m.onnx")
    return folder / "m.onnx"


def unknown_operators(folder: Path) -> Path:
    graph = """g (int8[1, 3, 8, 8] x, float s, int8 z) => (float[1, 3, 8, 8] v, float[1, 3] w)
    { y = DequantizeLinear(x, s, z)  v = LpNormalization(y)  w = Det(y) }"""
    constants = {"s": np.float32(0.1), "z": np.int8(3)}
    model = text_model(folder / "m.onnx", graph, **constants)
    loaded = onnx.load(model)
    del loaded.graph.input[1:]
    onnx.save(loaded, model)
    return model


def own_operator(folder: Path) -> Path:
    return text_model(
        folder / "m.onnx",
        "g (float[1, 3] x) => (float[1, 3] y) { a = my.own.Foo(x)  y = my.own.Bar(a) }",
    )


@pytest.mark.parametrize(
    ("make", "code", "words"),
    [
        (truncated, IMPORT, ["m.onnx is a truncated or damaged ONNX file"]),
        (no_onnx, IMPORT, ["m.onnx is a text file, not ONNX", "torch.onnx.export"]),
        (torch_file, IMPORT, ["Python pickle", "torch.onnx.export"]),
        (empty_file, IMPORT, ["m.onnx is empty"]),
        (without_data, IMPORT, ["external data file m.bin is missing", "stem.0.weight"]),
        (lambda folder: folder / "m.onnx", IMPORT, ["cannot read", "No such file"]),
        (lambda folder: folder, IMPORT, ["is a folder"]),
        (dynamic, IMPORT, ["--dim H=<n>", "--dim W=<n>"]),
        (no_nodes, IMPORT, ["the model has no nodes"]),
        (nan_scale, IMPORT, ["scale input_scale is nan", "node input_QuantizeLinear"]),
        (own_operator, IMPORT, ["Foo", "Bar", "my.own"]),
        (
            unknown_operators,
            UNSUPPORTED,
            [
                *("LpNormalization(", "Det(", "y: float32[1, 3, 8, 8]", "w: float32[1, 3]"),
                "there are kernels for: Abs, ",
            ],
        ),
        (lambda _: FLOAT, UNSUPPORTED, ["node_Conv_105 (Conv)", "quantise", "--allow-float"]),
    ],
)
def test_a_wrong_model_gives_its_code_and_one_message(
    make: Callable[[Path], Path],
    code: int,
    words: list[str],
    tmp_path: Path,
    capsys: Capture,
) -> None:
    model = make(tmp_path)
    check_refusal(["optimize", str(model), "--target", "cortex-m0"], code, words, tmp_path, capsys)


def check_refusal(
    arguments: list[str], code: int, words: list[str], folder: Path, capsys: Capture
) -> None:
    """One message on stderr, nothing on stdout, and not one byte changed below the folder."""
    arguments = [*arguments, *(["-o", str(folder / "out")] if "-o" not in arguments else [])]
    before = tree(folder)
    assert run(arguments) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    check_message(printed.err, words)
    assert tree(folder) == before


def check_message(message: str, words: list[str]) -> None:
    assert message.startswith("mcugraph: ")
    assert message.count("mcugraph: ") == 1
    assert "Traceback" not in message
    lines = message.rstrip("\n").split("\n")
    assert all(line.startswith(" " * 10) for line in lines[1:])
    assert len(set(lines)) == len(lines)
    assert not [word for word in words if word not in message], message


def broken_target(folder: Path) -> str:
    path = folder / "my.toml"
    path.write_text('extends = "cortex-m0"\ncolour = "red"\nstack = "much"\n')
    return str(path)


def no_toml(folder: Path) -> str:
    path = folder / "my.toml"
    path.write_text("extends = = 3\n")
    return str(path)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda _: "cortex-m00", ["did you mean cortex-m0?", "microbit", "pico"]),
        (lambda folder: str(folder / "my.toml"), ["my.toml", "No such file"]),
        (broken_target, ["my.toml:2:", "'colour'", "allowed: extends", "my.toml:3:", "'much'"]),
        (no_toml, ["my.toml:1:", "is not TOML"]),
    ],
)
def test_a_wrong_target_is_refused(
    make: Callable[[Path], str], words: list[str], tmp_path: Path, capsys: Capture
) -> None:
    target = make(tmp_path)
    check_refusal(["optimize", str(DIGITS), "--target", target], USAGE, words, tmp_path, capsys)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--budget", "ram=1XB"], ["'1XB' is no size"]),
        (["--budget", "ram=-1"], ["'-1' is no size"]),
        (["--budget", "rom=1KB"], ["'rom=1KB'", "ram=SIZE, flash=SIZE, stack=SIZE"]),
        (["--budget", "ram=1KB,"], ["''", "ram=SIZE"]),
        (["--budget", ""], ["''", "ram=SIZE"]),
        (["--dim", "N"], ["--dim N", "name=n"]),
        (["--dim", "N=0"], ["--dim N=0", "at least 1"]),
        (["--dim", "N=²"], ["--dim N=²", "name=n"]),
        (["--dim", "N=3"], ["no dynamic dimension 'N'"]),
        (["--name", "9lives"], ["'9lives' is no C identifier"]),
        (["--name", "../up"], ["'../up' is no C identifier"]),
        (["--name", "int"], ["'int' is no C identifier"]),
        (["--name", ""], ["'' is no C identifier"]),
        (["--name", "conv_s8"], ["'conv_s8'", "another C file"]),
        (["--name", "signal"], ["'signal'", "another C file"]),
        (["--compiler", "tcc"], ["no compiler 'tcc'", "zig, gcc"]),
    ],
)
def test_a_wrong_option_is_refused(
    options: list[str], words: list[str], tmp_path: Path, capsys: Capture
) -> None:
    arguments = ["optimize", str(DIGITS), "--target", "cortex-m0", *options]
    check_refusal(arguments, USAGE, words, tmp_path, capsys)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["optimize"], ["Missing argument"]),
        (["optimize", "m.onnx"], ["Missing option '--target'"]),
        (["optimise", "m.onnx"], ["No such command 'optimise'", "optimize"]),
        (["optimize", "m.onnx", "-t", "host", "--frob"], ["No such option", "--frob"]),
        (["verify", "m.onnx", "out", "--samples", "0"], ["--samples"]),
        (["verify", "m.onnx", "out", "--samples", "many"], ["--samples"]),
    ],
)
def test_a_wrong_call_is_a_usage_error(
    arguments: list[str], words: list[str], capsys: Capture
) -> None:
    assert run(arguments) == USAGE
    printed = capsys.readouterr()
    assert printed.out == ""
    assert not [word for word in words if word not in printed.err]


def a_file(folder: Path) -> Path:
    (folder / "out").write_text("mine")
    return folder / "out"


def below_a_file(folder: Path) -> Path:
    return a_file(folder) / "deep/er"


def with_foreign_files(folder: Path) -> Path:
    (folder / "out").mkdir()
    (folder / "out/mine.txt").write_text("mine")
    return folder / "out"


def with_a_foreign_report(folder: Path) -> Path:
    (folder / "out").mkdir()
    (folder / "out/report.json").write_text('{"files": ["report.json"]}')
    return folder / "out"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (a_file, ["out is a file", "-o"]),
        (below_a_file, ["out is a file", "-o"]),
        (with_foreign_files, ["files of others (mine.txt)", "-o"]),
        (with_a_foreign_report, ["not a report of mcugraph"]),
    ],
)
def test_an_output_folder_that_is_not_ours_is_left_alone(
    make: Callable[[Path], Path], words: list[str], tmp_path: Path, capsys: Capture
) -> None:
    out = str(make(tmp_path))
    arguments = ["optimize", str(DIGITS), "--target", "cortex-m0", "-o", out]
    check_refusal(arguments, USAGE, words, tmp_path, capsys)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no /proc on this system")
def test_a_folder_that_cannot_be_made_is_refused(capsys: Capture) -> None:
    assert run(["optimize", str(DIGITS), "--target", "host", "-o", "/proc/mcugraph/out"]) == USAGE
    check_message(capsys.readouterr().err, ["cannot write /proc/mcugraph/out"])


def test_over_budget_writes_nothing_and_says_by_how_much(tmp_path: Path, capsys: Capture) -> None:
    arguments = ["optimize", str(DIGITS), "-t", "cortex-m0", "-o", str(tmp_path / "out")]
    assert run([*arguments, "--budget", "ram=1KB,stack=64"]) == OVER_BUDGET
    printed = capsys.readouterr()
    assert re.match(r"DOES NOT FIT cortex-m0: RAM 1\.\d/1\.0 KB .*stack \d+/64 B", printed.out)
    assert printed.err == ""
    assert tree(tmp_path) == {}
    assert run([*arguments, "--budget", "ram=1KB", "--json"]) == OVER_BUDGET
    assert json.loads(capsys.readouterr().out)["fits"] is False
    assert tree(tmp_path) == {}
    assert run([*arguments, "--budget", "ram=16KB,flash=128KB,stack=2KB"]) == OK
    before = tree(tmp_path)
    assert run([*arguments, "--budget", "flash=1KB"]) == OVER_BUDGET
    assert tree(tmp_path) == before


def test_the_memories_of_a_board_are_its_budget(tmp_path: Path, capsys: Capture) -> None:
    board = tmp_path / "tiny.toml"
    board.write_text('extends = "microbit"\n[memory.ram]\nsize = "1KB"\n')
    assert run(["analyze", str(DIGITS), "--target", str(board)]) == OVER_BUDGET
    assert capsys.readouterr().out.startswith("DOES NOT FIT tiny: RAM 1.")
    assert run(["analyze", str(DIGITS), "--target", str(board), "--budget", "ram=4KB"]) == OK


KEYS = {
    "": "schema_version model target verdict ram flash macs instructions cycles int8 steps",
    "ram": "arena arena_lower_bound stack total",
    "flash": "weights tables code total",
}
STEP_KEYS = "name op kernel output macs live_bytes scratch weights instructions cycles"


@pytest.mark.parametrize("target", targets.names())
def test_digits_compile_for_every_target(target: str, tmp_path: Path, capsys: Capture) -> None:
    arguments = ["optimize", str(DIGITS), "--target", target, "-o"]
    assert run([*arguments, str(tmp_path / "a"), "--json"]) == OK
    report = json.loads(capsys.readouterr().out)
    check_report(report, target)
    assert run([*arguments, str(tmp_path / "b")]) == OK
    assert capsys.readouterr().out.splitlines()[0] == report["verdict"]
    assert tree(tmp_path / "a") == tree(tmp_path / "b")
    written = json.loads((tmp_path / "a/report.json").read_text())
    assert written.pop("files") == sorted(tree(tmp_path / "a"))
    assert written == report


def check_report(report: dict[str, Any], target: str) -> None:
    for place, keys in KEYS.items():
        assert set(keys.split()) <= set(report[place] if place else report)
    assert all(set(STEP_KEYS.split()) <= set(step) for step in report["steps"])
    assert (report["schema_version"], report["model"], report["target"]) == (1, "digits", target)
    assert report["verdict"].startswith(f"FITS {target}: RAM ")
    assert report["int8"] == 100
    ram, flash, steps = report["ram"], report["flash"], report["steps"]
    assert ram["total"] == ram["arena"] + ram["stack"]
    assert ram["arena"] >= ram["arena_lower_bound"] == max(s["live_bytes"] for s in steps)
    assert flash["total"] == flash["weights"] + flash["tables"] + (flash["code"] or 0)
    assert report["macs"] == sum(step["macs"] for step in steps)
    if target == "host":
        assert (flash["code"], report["instructions"], report["cycles"]) == (None, None, None)
        return
    within = sum(step["instructions"] for step in steps)
    assert within <= report["instructions"] <= within + 100
    if report["cycles"] is not None:
        assert report["instructions"] < report["cycles"]


def test_analyze_prints_the_same_and_writes_nothing(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["analyze", str(DIGITS), "-t", "cortex-m0"]) == OK
    analyzed = capsys.readouterr().out
    assert tree(tmp_path) == {}
    assert run(["optimize", str(DIGITS), "-t", "cortex-m0"]) == OK
    assert capsys.readouterr().out == analyzed + "wrote build/digits\n"
    assert run(["analyze", str(FLOAT), "-t", "cortex-m0"]) == UNSUPPORTED


def test_our_own_folder_is_replaced(tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "out"
    assert run(["optimize", str(DIGITS), "-t", "host", "-o", str(out), "--name", "first"]) == OK
    assert (out / "first.c").exists()
    assert run(["optimize", str(DIGITS), "-t", "host", "-o", str(out)]) == OK
    assert (out / "digits.c").exists()
    assert not (out / "first.c").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]
    capsys.readouterr()


def test_a_name_that_would_hide_a_header_is_changed(tmp_path: Path, capsys: Capture) -> None:
    for stem, name in (("signal", "m_signal"), ("my model-2", "my_model_2"), ("int", "m_int")):
        shutil.copy(DIGITS, tmp_path / f"{stem}.onnx")
        assert run(["analyze", str(tmp_path / f"{stem}.onnx"), "-t", "host", "--json"]) == OK
        assert json.loads(capsys.readouterr().out)["model"] == name


def test_a_dynamic_dimension_is_bound(tmp_path: Path, capsys: Capture) -> None:
    model = str(dynamic(tmp_path))
    arguments = ["analyze", model, "-t", "host", "--allow-float", "--json"]
    assert run([*arguments, "--dim", "H=4", "--dim", "W=5"]) == OK
    assert json.loads(capsys.readouterr().out)["tensors"]["x"]["shape"] == [1, 3, 4, 5]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Digits compiled for the M0; tests copy it before they change it."""
    folder = tmp_path_factory.mktemp("built") / "digits"
    assert run(["optimize", str(DIGITS), "-t", "cortex-m0", "-o", str(folder)]) == OK
    return folder


@pytest.mark.parametrize("place", ["host", "emulator"])
def test_verify_agrees(built: Path, place: str, capsys: Capture) -> None:
    count = ["--samples", "2"]
    assert run(["verify", str(DIGITS), str(built), "--on", place, *count]) == OK
    printed = capsys.readouterr()
    assert printed.out.startswith(
        f"AGREES with onnxruntime: digits on the {place}, 2 samples, 12 steps\n"
    )
    assert "Traceback" not in printed.err


def test_verify_on_data_with_labels(built: Path, capsys: Capture) -> None:
    assert run(["verify", str(DIGITS), str(built), "--data", str(DATA), "--json"]) == OK
    result = json.loads(capsys.readouterr().out)
    assert result["ok"]
    assert result["schema_version"] == 1
    assert len(result["steps"]) == 12
    assert result["top1_agreement"] == 1


def test_a_changed_weight_is_found_and_its_step_named(
    built: Path, tmp_path: Path, capsys: Capture
) -> None:
    folder = tmp_path / "digits"
    shutil.copytree(built, folder)
    source = (folder / "digits.c").read_text()
    head = "digits_node_Conv_113_bias[32] = {\n   "
    assert source.count(head) == 1
    (folder / "digits.c").write_text(source.replace(head, f"{head} 9000 +"))
    assert run(["verify", str(DIGITS), str(folder), "--bisect"]) == WRONG
    printed = capsys.readouterr()
    assert printed.out.startswith("DIFFERS from onnxruntime")
    assert "first difference: step node_Conv_113, tensor" in printed.out
    assert "ours:" in printed.out
    assert re.search(r"^\[0(, \d)+\] +-?\d+ +-?\d+$", printed.out, re.MULTILINE)
    assert printed.err == ""
    assert run(["verify", str(DIGITS), str(folder), "--bisect", "--json"]) == WRONG
    result = json.loads(capsys.readouterr().out)
    assert not result["ok"]
    assert result["divergence"]["step"] == "node_Conv_113"
    wrong = [s["name"] for s in result["steps"] if s["largest"] > 1]
    assert wrong == ["node_Conv_113"]


def other_model(folder: Path) -> Path:
    return text_model(folder / "m.onnx", "g (float[1, 3] x) => (float[1, 3] y) { y = Relu(x) }")


def wrong_shape(folder: Path) -> Path:
    np.savez(folder / "x.npz", input=np.zeros((5, 3, 8, 8), np.float32))
    return folder / "x.npz"


def wrong_type(folder: Path) -> Path:
    np.savez(folder / "x.npz", input=np.zeros((5, 1, 8, 8), np.int32))
    return folder / "x.npz"


def no_samples(folder: Path) -> Path:
    np.savez(folder / "x.npz", input=np.zeros((0, 1, 8, 8), np.float32))
    return folder / "x.npz"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (no_onnx, ["m.onnx", "no .npz file"]),
        (lambda folder: folder / "no.npz", ["no.npz"]),
        (wrong_shape, ["float32[5, 3, 8, 8]", "[n, 1, 8, 8]", "no array fits input input"]),
        (wrong_type, ["int32[5, 1, 8, 8]", "of float32", "no array fits input input"]),
        (no_samples, ["holds no sample"]),
    ],
)
def test_wrong_samples_are_refused(
    built: Path,
    make: Callable[[Path], Path],
    words: list[str],
    tmp_path: Path,
    capsys: Capture,
) -> None:
    data = make(tmp_path)
    assert run(["verify", str(DIGITS), str(built), "--data", str(data)]) == USAGE
    printed = capsys.readouterr()
    assert printed.out == ""
    check_message(printed.err, words)


def damaged_report(built: Path, folder: Path) -> None:
    report = json.loads((built / "report.json").read_text())
    del report["tensors"]
    (folder / "report.json").write_text(json.dumps(report))


def half_a_report(built: Path, folder: Path) -> None:
    text = (built / "report.json").read_text()
    (folder / "report.json").write_text(text[: len(text) // 2])


def strange_tensors(built: Path, folder: Path) -> None:
    report = json.loads((built / "report.json").read_text())
    report["tensors"] = {"input": {"offset": "x"}}
    (folder / "report.json").write_text(json.dumps(report))


def no_source(_: Path, folder: Path) -> None:
    (folder / "digits.c").unlink()


def no_model(_: Path, folder: Path) -> None:
    (folder / "digits.optimized.onnx").unlink()


def broken_source(_: Path, folder: Path) -> None:
    (folder / "digits.c").write_text("int x = ;\n")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (damaged_report, ["report", "run mcugraph optimize again"]),
        (half_a_report, ["was not written by mcugraph optimize"]),
        (strange_tensors, ["report", "run mcugraph optimize again"]),
        (no_source, ["lacks digits.c"]),
        (no_model, ["lacks digits.optimized.onnx"]),
        (broken_source, ["refuses the sources", "digits.c:1"]),
    ],
)
def test_verify_refuses_a_damaged_folder(
    built: Path,
    damage: Callable[[Path, Path], None],
    words: list[str],
    tmp_path: Path,
    capsys: Capture,
) -> None:
    folder = tmp_path / "digits"
    shutil.copytree(built, folder)
    damage(built, folder)
    assert run(["verify", str(DIGITS), str(folder)]) == USAGE
    message = capsys.readouterr().err
    assert not [word for word in words if word not in message], message
    assert "Traceback" not in message


def test_verify_refuses_what_does_not_belong_together(
    built: Path, tmp_path: Path, capsys: Capture
) -> None:
    cases: list[tuple[list[str], int, list[str]]] = [
        ([str(DIGITS), str(tmp_path)], USAGE, ["was not written by mcugraph optimize"]),
        ([str(DIGITS), str(tmp_path / "no")], USAGE, ["was not written by mcugraph optimize"]),
        ([str(other_model(tmp_path)), str(built)], USAGE, ["from another model"]),
        ([str(tmp_path / "no.onnx"), str(built)], IMPORT, ["cannot read"]),
        ([str(DIGITS), str(built), "--on", "moon"], USAGE, ["there are host and emulator"]),
    ]
    for arguments, code, words in cases:
        assert run(["verify", *arguments]) == code
        check_message(capsys.readouterr().err, words)


def test_a_float_model_compiles_with_leave_and_agrees(tmp_path: Path, capsys: Capture) -> None:
    out = str(tmp_path / "out")
    assert run(["optimize", str(FLOAT), "-t", "cortex-m4", "--allow-float", "-o", out]) == OK
    assert "0% int8" in capsys.readouterr().out
    for place in ("host", "emulator"):
        assert run(["verify", str(FLOAT), out, "--on", place, "--samples", "2"]) == OK
    capsys.readouterr()


def test_targets_are_listed_and_shown(tmp_path: Path, capsys: Capture) -> None:
    assert run(["targets"]) == OK
    printed = capsys.readouterr().out
    assert [line.split()[0] for line in printed.splitlines()] == ["target", *targets.names()]
    assert re.search(r"microbit +cortex-m0 +16 KB +256 KB +BBC", printed)
    assert run(["targets", "show", "cortex-m0"]) == OK
    assert "-mcpu=cortex_m0" in capsys.readouterr().out
    own = tmp_path / "my.toml"
    own.write_text('extends = "pico"\ndescription = "[mine]"\n')
    assert run(["targets", "show", str(own)]) == OK
    printed = capsys.readouterr().out
    assert printed.startswith("my: [mine]\n")
    assert "264 KB at 0x20000000" in printed
    assert run(["targets", "--json"]) == OK
    listed = json.loads(capsys.readouterr().out)["targets"]
    assert [target["name"] for target in listed] == targets.names()


def test_a_wrong_request_for_targets_is_refused(capsys: Capture) -> None:
    for arguments, word in ((["show"], "show NAME"), (["list"], "show NAME"), (["show", "m0"], "")):
        assert run(["targets", *arguments]) == USAGE
        check_message(capsys.readouterr().err, [word])


@pytest.mark.parametrize("command", ["optimize", "analyze", "verify", "targets", ""])
def test_help_is_there(command: str, capsys: Capture) -> None:
    assert run([*filter(None, [command]), "--help"]) == OK
    printed = capsys.readouterr()
    assert "Usage" in printed.out
    assert printed.err == ""


def test_digits_on_the_host_as_printed(capsys: Capture, golden: Golden) -> None:
    assert run(["analyze", str(DIGITS), "-t", "host"]) == OK
    golden(capsys.readouterr().out)


def test_an_error_of_the_system_has_no_traceback(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cli_compile, "optimize", fail)
    assert run(["analyze", str(DIGITS), "-t", "host"]) == USAGE
    check_message(capsys.readouterr().err, ["No space left on device"])


def command(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "80"}
    return subprocess.run(
        [sys.executable, "-m", "mcugraph", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env=environment,
    )


def test_a_process_of_its_own_gives_the_codes(tmp_path: Path) -> None:
    done = command("optimize", str(DIGITS), "--target", "cortex-m0", folder=tmp_path)
    assert (done.returncode, done.stderr) == (OK, "")
    assert done.stdout.startswith("FITS cortex-m0: RAM ")
    assert done.stdout.endswith(f"wrote {Path('build/digits')}\n")
    assert (tmp_path / "build/digits/digits.c").is_file()
    done = command("verify", str(DIGITS), "build/digits", "--samples", "1", folder=tmp_path)
    assert (done.returncode, done.stderr) == (OK, "")
    done = command("optimize", str(FLOAT), "--target", "cortex-m0", folder=tmp_path)
    assert (done.returncode, done.stdout) == (UNSUPPORTED, "")
    check_message(done.stderr, ["--allow-float"])
    done = command(folder=tmp_path)
    assert done.returncode == USAGE


def two_outputs() -> onnx.ModelProto:
    """Names of tensors that differ only in case, or look like functions of ours."""
    ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 4]) for n in ("x", "X")]
    names = ("Y", "y", "y_at")
    outs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 4]) for n in names]
    nodes = [helper.make_node("Add", ["x", "X"], [name], name=name) for name in names]
    graph = helper.make_graph(nodes, "g", ports, outs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_names_that_look_alike_stay_apart(tmp_path: Path, capsys: Capture) -> None:
    onnx.save(two_outputs(), tmp_path / "m.onnx")
    out = str(tmp_path / "out")
    model = str(tmp_path / "m.onnx")
    assert run(["optimize", model, "-t", "cortex-m0", "--allow-float", "-o", out]) == OK
    assert run(["verify", model, out]) == OK
    capsys.readouterr()
