"""groups, cuts, prune, split and --decision: what they write, and that refusals leave nothing."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import models
import onnx
import pytest
from test_cli import DIGITS, FLOAT, IMPORT, OK, USAGE, Capture, check_message, tree

from mcugraph import artifact
from mcugraph.cli import run
from mcugraph.decision import Decision
from mcugraph.passes import remove_channels, split_model
from mcugraph.text import graph_text

KEEP = {"stem.0.weight": [0, 2, 3, 5, 7, 8, 11, 12]}
GAP = {"form": "gap", "classes": 3}


def decision_file(folder: Path, content: Any) -> str:
    """A file of this text, or of these fields and the version."""
    text = content if isinstance(content, str) else json.dumps({"version": 1, **content})
    (folder / "d.json").write_text(text, encoding="utf-8")
    return str(folder / "d.json")


def check_refused(
    arguments: list[str], code: int, words: list[str], folder: Path, capsys: Capture
) -> None:
    """One message on the error stream, nothing else printed, and the folder as it was."""
    before = tree(folder)
    assert run(arguments) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    check_message(printed.err, words)
    assert tree(folder) == before


# Decisions that do not fit: the file, and what the message says

BAD_FILES: dict[str, tuple[Any, list[str]]] = {
    "no JSON": ("{", ["d.json: not JSON"]),
    "deep": ("[" * 100_000, ["d.json: not JSON"]),
    "empty": ("", ["d.json: not JSON"]),
    "a list": ("[]", ["d.json: a decision is []", "version, cut"]),
    "no version": ('{"keep": {}}', ["d.json: version None"]),
    "true version": ('{"version": true}', ["d.json: version True"]),
    "unknown key": ({"kepe": {}}, ["unknown key 'kepe'", "'keep'"]),
    "no numbers": ({"keep": {"stem.0.weight": [0.5]}}, ["[0.5], not a list of channel numbers"]),
    "threshold": (
        {"exit": {"tensor": "relu", "head": GAP, "threshold": True}},
        ["exit.threshold is true"],
    ),
    "no head": ({"cut": {"tensor": "relu_4"}}, ["cut.head is missing"]),
    "wide head": (
        {"cut": {"tensor": "relu_4", "head": {"form": "dscnn9999999999", "classes": 3}}},
        ["cut.head: head dscnn9999999999: widths and classes are at most 65,536"],
    ),
    "many": (
        {"kepe": {}, "ranks": {"a": 0}, "exit": 3},
        ["unknown key 'kepe'", "ranks of 'a' is 0", "exit is 3"],
    ),
}
UNFIT: dict[str, tuple[Any, list[str]]] = {
    "unknown weight": (
        {"keep": {"stem.0.weigth": [0]}},
        ["keep: there is no weight or tensor 'stem.0.weigth'", "near to it: stem.0.weight"],
    ),
    "out of range": (
        {"keep": {"stem.0.weight": [0, 16]}},
        ["'stem.0.weight' has 16 channels", "0 to 15", "it says 0, 16"],
    ),
    "huge": ({"keep": {"stem.0.weight": [10**30]}}, ["'stem.0.weight' has 16 channels"]),
    "negative": ({"keep": {"stem.0.weight": [-1]}}, ["it says -1"]),
    "twice": ({"keep": {"stem.0.weight": [1, 1]}}, ["each once; it says 1, 1"]),
    "empty layer": ({"keep": {"stem.0.weight": []}}, ["'stem.0.weight': an empty layer"]),
    "other width": (
        {"keep": {"stem.0.weight": {"width": 8, "channels": [0, 1]}}},
        ["'stem.0.weight' has 16 channels here, and had 8 when this was decided"],
    ),
    "disagree": (
        {"keep": {"stem.0.weight": [2, 3], "block1.depthwise.weight": [3, 4]}},
        ["'stem.0.weight' and 'block1.depthwise.weight' share their channels", "2, 4"],
    ),
    "fixed": (
        {"keep": {"head.weight": [1, 2]}},
        ["the channels of 'head.weight' must stay: the graph output 'logits' has it"],
    ),
    "unknown tensor": (
        {"cut": {"tensor": "relu_44", "head": GAP}},
        ["cut: the model has no tensor 'relu_44'; near to it: relu_4"],
    ),
    "no image": (
        {"cut": {"tensor": "logits", "head": {"form": "conv8", "classes": 3}}},
        ["cut: head conv8 takes a tensor of shape [1,C,L] or [1,C,H,W], not [1, 10]"],
    ),
    "behind the cut": (
        {"cut": {"tensor": "relu_4", "head": GAP}, "keep": {"block3.pointwise.weight": [0]}},
        ["keep: 'block3.pointwise.weight' lies behind the cut at relu_4"],
    ),
    "no branch": (
        {"drop": ["relu_4", "relu_44"]},
        ["drop: 'relu_4' has to stay: nothing with weights", "there is no tensor 'relu_44'"],
    ),
    "no exit": (
        {"exit": {"tensor": "relu_44", "head": GAP}},
        ["exit: the model has no tensor 'relu_44'"],
    ),
    "another model's": (
        {"keep": {"conv1.weight": [0], "conv2.weight": [1]}, "cut": {"tensor": "z", "head": GAP}},
        ["cut: the model has no tensor 'z'", "'conv1.weight'", "'conv2.weight'"],
    ),
}


@pytest.mark.parametrize("name", [*BAD_FILES, *UNFIT])
def test_a_wrong_decision_is_refused(name: str, tmp_path: Path, capsys: Capture) -> None:
    content, words = (BAD_FILES | UNFIT)[name]
    decision = decision_file(tmp_path, content)
    out = str(tmp_path / "out.onnx")
    arguments = ["prune", str(FLOAT), "--decision", decision, "--out", out]
    check_refused(arguments, USAGE, words, tmp_path, capsys)


@pytest.mark.parametrize("name", ["no JSON", "many", "unknown weight", "unknown tensor"])
@pytest.mark.parametrize("command", ["optimize", "analyze", "explain"])
def test_the_compiler_refuses_it_too(
    command: str, name: str, tmp_path: Path, capsys: Capture
) -> None:
    content, words = (BAD_FILES | UNFIT)[name]
    arguments = [command, str(DIGITS), "-t", "host"]
    arguments += ["--decision", decision_file(tmp_path, content)]
    arguments += ["-o", str(tmp_path / "out")] if command == "optimize" else []
    check_refused(arguments, USAGE, words[:1], tmp_path, capsys)


def test_a_group_is_kept_as_a_whole(tmp_path: Path, capsys: Capture) -> None:
    """Flattened, one channel is many features: they stay or go together."""
    model = str(tmp_path / "m.onnx")
    onnx.save(models.MODELS["flatten_gemm"](), model)
    flat = next(n.output[0] for n in onnx.load(model).graph.node if n.op_type == "Flatten")
    decision = decision_file(tmp_path, {"keep": {flat: list(range(9))}})
    words = ["go together, but it keeps 6, 7, 8 without 9, 10, 11"]
    arguments = ["prune", model, "--decision", decision, "-o", str(tmp_path / "out.onnx")]
    check_refused(arguments, USAGE, words, tmp_path, capsys)


@pytest.mark.parametrize("name", ["residual", "residual_qdq"])
def test_a_branch_is_dropped(name: str, tmp_path: Path, capsys: Capture) -> None:
    """By its name in the float model, also where it was quantised since."""
    model, out = tmp_path / "m.onnx", tmp_path / "out.onnx"
    onnx.save(models.MODELS[name](), model)
    decision = decision_file(tmp_path, {"drop": ["b"]})
    assert run(["prune", str(model), "--decision", decision, "-o", str(out)]) == OK
    assert "wrote" in capsys.readouterr().out
    pruned = onnx.load(out)
    assert sum(node.op_type == "Add" for node in pruned.graph.node) == 1
    assert not any(t.name.startswith(("a.", "b.")) for t in pruned.graph.initializer)


# Files that can't be read or written


def a_folder(folder: Path) -> str:
    (folder / "there").mkdir()
    return str(folder / "there")


def no_text(folder: Path) -> str:
    (folder / "d.json").write_bytes(b"\xff\xfe{}")
    return str(folder / "d.json")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: str(folder / "no.json"), ["cannot read", "no.json", "No such file"]),
        (a_folder, ["cannot read", "there", "Is a directory"]),
        (no_text, ["cannot read", "d.json", "utf-8"]),
    ],
)
def test_an_unreadable_decision_is_named(
    make: Callable[[Path], str], words: list[str], tmp_path: Path, capsys: Capture
) -> None:
    decision = make(tmp_path)
    arguments = ["prune", str(FLOAT), "--decision", decision, "-o", str(tmp_path / "out.onnx")]
    check_refused(arguments, USAGE, words, tmp_path, capsys)


@pytest.mark.parametrize("command", ["groups", "cuts", "prune", "split"])
@pytest.mark.parametrize("content", [None, b"", b"hello\n", DIGITS.read_bytes()[:3000]])
def test_a_model_that_is_none_is_an_import_error(
    command: str, content: bytes | None, tmp_path: Path, capsys: Capture
) -> None:
    if content is not None:
        (tmp_path / "m.onnx").write_bytes(content)
    out = ["-o", str(tmp_path / "out")]
    more = {
        "groups": [],
        "cuts": ["--classes", "3"],
        "prune": ["--decision", decision_file(tmp_path, {"keep": KEEP}), *out],
        "split": ["--at", "relu_4", *out],
    }
    arguments = [command, str(tmp_path / "m.onnx"), *more[command]]
    check_refused(arguments, IMPORT, ["m.onnx"], tmp_path, capsys)


def missing(folder: Path) -> list[str]:
    return ["-o", str(folder / "no" / "out.onnx")]


def taken(folder: Path) -> list[str]:
    return ["-o", a_folder(folder)]


def on_the_model(folder: Path) -> list[str]:
    return ["-o", str(folder / "m.onnx")]


def saved_nowhere(folder: Path) -> list[str]:
    return ["-o", str(folder / "out.onnx"), "--save", str(folder / "no" / "s.json")]


def saved_on_itself(folder: Path) -> list[str]:
    return ["-o", str(folder / "out.onnx"), "--save", str(folder / "no/../out.onnx")]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (missing, ["cannot write", "there is no folder", "no"]),
        (taken, ["cannot write", "it is a folder"]),
        (on_the_model, ["cannot write", "m.onnx: it is read, or written, as another file"]),
        (saved_nowhere, ["s.json: there is no folder"]),
        (saved_on_itself, ["cannot write"]),
    ],
)
@pytest.mark.parametrize("way", ["--decision", "--by"])
def test_a_file_that_cannot_be_written_is_refused_first(
    way: str, make: Callable[[Path], list[str]], words: list[str], tmp_path: Path, capsys: Capture
) -> None:
    (tmp_path / "m.onnx").write_bytes(FLOAT.read_bytes())
    value = decision_file(tmp_path, {"keep": KEEP}) if way == "--decision" else "flops"
    arguments = ["prune", str(tmp_path / "m.onnx"), way, value, *make(tmp_path)]
    check_refused(arguments, USAGE, words, tmp_path, capsys)


def test_a_decision_is_not_overwritten(tmp_path: Path, capsys: Capture) -> None:
    decision = decision_file(tmp_path, {"keep": KEEP})
    arguments = ["prune", str(FLOAT), "--decision", decision, "-o", decision]
    words = ["cannot write", "d.json: it is read, or written, as another file"]
    check_refused(arguments, USAGE, words, tmp_path, capsys)


def test_a_disk_that_fails_leaves_nothing(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second of two files can't be written: then the first is not, either."""
    chmod = Path.chmod

    def full(path: Path, mode: int) -> None:
        if "tail" in path.name:
            raise OSError(28, "No space left on device")
        chmod(path, mode)

    monkeypatch.setattr(artifact.Path, "chmod", full)
    arguments = ["split", str(FLOAT), "--at", "relu_4", "-o", a_folder(tmp_path)]
    check_refused(arguments, USAGE, ["cannot write", "tail.onnx: No space left"], tmp_path, capsys)


# Options


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], ["write one of --decision, --by, --ranks, --codebook; given: none"]),
        (["--by", "flops", "--decision", "d.json"], ["given: --decision, --by"]),
        (["--ranks", "time"], ["by: there are flash, macs, params, not 'time'"]),
        (["--codebook", "1"], ["can have 2 to 16 values, not 1"]),
        (["--by", "flop"], ["by='flop'", "did you mean flops?"]),
        (["--by", "flops", "--mode", "lucky"], ["mode='lucky'", "greedy"]),
        (["--by", "flops", "--keep", "0"], ["target flops=0.0"]),
        (["--by", "flops", "--keep", "nan"], ["target flops=nan"]),
        (["--by", "flops", "--keep", "inf"], ["target flops=inf"]),
        (["--by", "flops", "--keep", "0.0001"], ["flops can't come down to 6"]),
        (["--by", "flops", "--dim", "N"], ["--dim N", "name=n"]),
    ],
)
def test_a_wrong_option_of_prune(
    options: list[str], words: list[str], tmp_path: Path, capsys: Capture
) -> None:
    arguments = ["prune", str(FLOAT), *options, "-o", str(tmp_path / "out.onnx")]
    check_refused(arguments, USAGE, words, tmp_path, capsys)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--classes", "1"], ["1 classes; a softmax is of 2 or more"]),
        (["--classes", "99999999"], ["widths and classes are at most 65,536"]),
        (["--classes", "3", "--head", "foo"], ["head of kind 'foo'", "dscnn, dense, conv, gap"]),
        (["--classes", "3", "--head", "dscnn0"], ["head dscnn0"]),
        (["--classes", "3", "--by", "speed"], ["no figure 'speed'", "macs, flash, ram, cycles"]),
        (["--classes", "3", "--by", "macs,"], ["no figure ''"]),
        (["--classes", "3", "--target", "cortex-m00"], ["no target 'cortex-m00'"]),
    ],
)
def test_a_wrong_option_of_cuts(
    options: list[str], words: list[str], tmp_path: Path, capsys: Capture
) -> None:
    check_refused(["cuts", str(FLOAT), *options], USAGE, words, tmp_path, capsys)


def test_a_wrong_option_of_groups(tmp_path: Path, capsys: Capture) -> None:
    arguments = ["groups", str(FLOAT), "--target", "cortex-m00"]
    check_refused(arguments, USAGE, ["no target 'cortex-m00'"], tmp_path, capsys)


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        ("relu_44", ["the model has no tensor 'relu_44'", "relu_4"]),
        ("input", ["input is an input of the model"]),
        ("logits", ["nothing stands behind logits"]),
        ("stem.0.weight", ["stem.0.weight is a constant"]),
        ("relu_1", ["relu_1 is no place to split", "relu"]),
    ],
)
def test_an_impossible_split(
    tensor: str, words: list[str], tmp_path: Path, capsys: Capture
) -> None:
    arguments = ["split", str(FLOAT), "--at", tensor, "-o", str(tmp_path / "out")]
    check_refused(arguments, USAGE, words, tmp_path, capsys)


def a_file(folder: Path) -> tuple[str, str]:
    (folder / "file").touch()
    return str(FLOAT), str(folder / "file")


def below_a_file(folder: Path) -> tuple[str, str]:
    model, file = a_file(folder)
    return model, f"{file}/deeper"


def with_a_folder_as_tail(folder: Path) -> tuple[str, str]:
    (folder / "tail.onnx").mkdir()
    return str(FLOAT), str(folder)


def where_the_model_is_the_head(folder: Path) -> tuple[str, str]:
    (folder / "head.onnx").write_bytes(FLOAT.read_bytes())
    return str(folder / "head.onnx"), str(folder)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (a_file, ["file is a file; choose a folder with -o"]),
        (below_a_file, ["file is a file; choose a folder with -o"]),
        (with_a_folder_as_tail, ["tail.onnx: it is a folder"]),
        (where_the_model_is_the_head, ["head.onnx: it is read, or written, as another file"]),
    ],
)
def test_a_split_that_has_no_place(
    make: Callable[[Path], tuple[str, str]], words: list[str], tmp_path: Path, capsys: Capture
) -> None:
    model, out = make(tmp_path)
    check_refused(["split", model, "--at", "relu_4", "-o", out], USAGE, words, tmp_path, capsys)


@pytest.mark.parametrize(
    "arguments",
    [
        ["prune", str(FLOAT)],
        ["prune", str(FLOAT), "-o", "out.onnx", "--by", "flops", "--seed", "-1"],
        ["prune", str(FLOAT), "-o", "out.onnx", "--by", "flops", "--keep", "half"],
        ["cuts", str(FLOAT)],
        ["cuts", str(FLOAT), "--classes", "0"],
        ["split", str(FLOAT), "-o", "out"],
        ["split", str(FLOAT), "--at", "relu_4"],
        ["groups"],
    ],
)
def test_a_wrong_call_is_a_usage_error(
    arguments: list[str], tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(arguments) == USAGE
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("Usage: ")
    assert tree(tmp_path) == {}


# What is right


@pytest.mark.parametrize("model", [FLOAT, DIGITS])
def test_prune_writes_what_the_pass_gives(model: Path, tmp_path: Path, capsys: Capture) -> None:
    decision = decision_file(tmp_path, {"keep": KEEP})
    out = tmp_path / "out.onnx"
    assert run(["prune", str(model), "--decision", decision, "--out", str(out)]) == OK
    assert graph_text(onnx.load(out)) == graph_text(remove_channels(onnx.load(model), KEEP))
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in printed] == [
        "parameters",
        "MACs",
        "weights",
        "arena",
        "wrote",
    ]
    assert tree(tmp_path).keys() == {"d.json", "out.onnx"}


def test_a_drawn_decision_can_be_saved_and_gives_the_same_again(
    tmp_path: Path, capsys: Capture
) -> None:
    names = {name: str(tmp_path / name) for name in ("a.onnx", "b.onnx", "s.json")}
    drawn = ["--by", "flops", "--keep", "0.4", "--seed", "3", "--save", names["s.json"]]
    assert run(["prune", str(FLOAT), *drawn, "-o", names["a.onnx"]]) == OK
    again = ["--decision", names["s.json"], "-o", names["b.onnx"]]
    assert run(["prune", str(FLOAT), *again]) == OK
    assert Decision.load(names["s.json"]).check(onnx.load(FLOAT)) == ()
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    first, second = capsys.readouterr().out.split("wrote")[:2]
    assert first.splitlines() == second.splitlines()[1:]


def test_split_writes_two_models(tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "new" / "deep"
    assert run(["split", str(FLOAT), "--at", "relu_4", "-o", str(out)]) == OK
    parts = split_model(onnx.load(FLOAT), "relu_4")
    for name, part in zip(("head", "tail"), parts, strict=True):
        assert graph_text(onnx.load(out / f"{name}.onnx")) == graph_text(part)
    assert "head.onnx and " in capsys.readouterr().out
    assert tree(out).keys() == {"head.onnx", "tail.onnx"}


def test_optimize_compiles_what_is_left(tmp_path: Path, capsys: Capture) -> None:
    decision = decision_file(tmp_path, {"keep": KEEP})
    arguments = ["analyze", str(DIGITS), "-t", "host", "--json"]
    assert run(arguments) == OK
    whole = json.loads(capsys.readouterr().out)
    assert run([*arguments, "--decision", decision]) == OK
    assert json.loads(capsys.readouterr().out)["macs"] < 0.7 * whole["macs"]


@pytest.mark.parametrize("command", ["fit recipe.py --budget macs=3K", "explore recipe.py"])
def test_training_without_torch_says_what_to_install(
    command: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    monkeypatch.setattr("mcugraph.cli_prune.import_module", missing)
    assert run(command.split()) == USAGE
    assert (
        "needs torch, which is not installed: pip install 'mcugraph[prune]'"
        in capsys.readouterr().err
    )
