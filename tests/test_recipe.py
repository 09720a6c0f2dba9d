"""Recipe files: run from Python to verified C, and every mistake in one told with its place."""

import io
import json
from pathlib import Path

import fitting
import onnx
import pytest
from onnx import ModelProto
from rich.console import Console

from mcugraph.decision import Decision
from mcugraph.judge import Question, verify
from mcugraph.prune.history import Epoch, Outcome
from mcugraph.prune.recipe import CHECKPOINT, Recipe, Wish, load_recipe, run_recipe
from mcugraph.show_fit import FitDisplay, line_of, print_outcome

EXAMPLE = Path(__file__).parents[1] / "examples" / "digits_recipe.py"
SMALL = """
import onnx
import fitting
from mcugraph.prune.recipe import Recipe
from mcugraph.prune.training import Training


def recipe():
    training = Training(epochs=4, evaluate=fitting.batches())
    return Recipe(onnx.load("model.onnx"), fitting.shuffled(), training)
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a small model and a recipe for it."""
    monkeypatch.chdir(tmp_path)
    onnx.save(fitting.exported(), "model.onnx")
    Path("small.py").write_text(SMALL, encoding="utf-8")
    return tmp_path


def run(wish: Wish, news: list[Epoch | str]) -> Outcome:
    outcome = run_recipe(Path("small.py"), wish, news.append)
    assert outcome is not None
    return outcome


def sizes(model: ModelProto) -> dict[str, list[int]]:
    return {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}


@pytest.mark.usefixtures("here")
def test_a_recipe_becomes_c() -> None:
    news: list[Epoch | str] = []
    outcome = run(Wish("macs=12K,arena=400", epochs=3), news)
    assert [each.number for each in news if isinstance(each, Epoch)] == [0, 1, 2, 3]
    stages = [each for each in news if isinstance(each, str)]
    assert stages == ["reading the recipe", "compiling", "comparing with onnxruntime"]
    folder = Path("build/small")
    assert outcome.folder == str(folder)
    assert {path.name for path in folder.iterdir()} == set(outcome.files.values())
    assert CHECKPOINT not in outcome.files.values()
    pruned = onnx.load(folder / "small.onnx")
    decision = Decision.load(folder / "decision.json")
    assert sizes(decision.apply(fitting.exported())) == sizes(pruned)
    report = json.loads((folder / "c" / "report.json").read_text())
    assert outcome.used == {"macs": report["macs"], "arena": report["ram"]["arena"]}
    assert outcome.met
    assert outcome.verified
    assert verify(folder / "small.int8.onnx", folder / "c", Question(count=2)).ok
    record = json.loads(json.dumps(outcome.as_json()))
    assert record["met"] is True
    assert record["history"] == json.loads((folder / "history.json").read_text())


def with_option(option: str) -> None:
    """The recipe with a further argument."""
    own = SMALL.replace("training)", f"training, {option})")
    imports = "from mcugraph.prune.depth import Depth\nfrom mcugraph.prune.exits import EarlyExit\n"
    Path("small.py").write_text(imports + own, encoding="utf-8")


@pytest.mark.usefixtures("here")
def test_a_recipe_may_end_early() -> None:
    with_option("depth=Depth(head='dscnn8', share=0.5, prune=True)")
    news: list[Epoch | str] = []
    outcome = run(Wish("macs=14K", epochs=2), news)
    assert [each.number for each in news if isinstance(each, Epoch)] == [0, 1, 2]
    assert outcome.met
    assert outcome.verified
    assert outcome.before == {"macs": 39_584}
    decision = Decision.load("build/small/decision.json")
    assert decision.cut in ("relu", "relu_1")
    assert decision.head is not None
    pruned = onnx.load("build/small/small.onnx")
    assert sizes(decision.apply(fitting.exported())) == sizes(pruned)


@pytest.mark.usefixtures("here")
def test_a_recipe_may_have_an_early_exit() -> None:
    with_option("exit=EarlyExit('relu', 'dscnn8', threshold=0.11)")
    outcome = run(Wish("macs=60K,ram=2KB", epochs=2), [])
    assert outcome.met
    assert outcome.verified
    assert outcome.before["macs"] == 39_584
    assert outcome.used["macs"] > 39_584
    assert outcome.left is not None
    assert outcome.left > 0
    # All of its probabilities are near the threshold yet: the last bit decides.
    assert outcome.scores["c"] == pytest.approx(outcome.scores["int8"], abs=100 / 8)
    assert Decision.load("build/small/decision.json").exit is not None
    assert "samples leave early" in shown(outcome)
    with pytest.raises(ValueError, match=r"with the exit .* over the budget: macs is \d\d,\d{3}"):
        run(Wish("macs=39584", epochs=2, out=Path("other")), [])
    with_option("exit=EarlyExit('relu'), depth=Depth(), quantized=training")
    with pytest.raises(ValueError, match=r"(?s)depth and exit: .*quantized and exit: "):
        run(Wish("macs=60K"), [])


def shown(outcome: Outcome) -> str:
    text = io.StringIO()
    print_outcome(outcome, Console(file=text, width=100, color_system=None))
    return text.getvalue()


@pytest.mark.usefixtures("here")
def test_a_run_that_was_stopped_is_resumed_only_if_told() -> None:
    class StopError(Exception):
        pass

    def stop(news: Epoch | str) -> None:
        if isinstance(news, Epoch) and news.number == 3:
            raise StopError

    wish = Wish("macs=12K", out=Path("out"))
    with pytest.raises(StopError):
        run_recipe(Path("small.py"), wish, stop)
    with pytest.raises(ValueError, match=r"out/checkpoint\.pt is of a run .*; write --resume"):
        run(wish, [])
    news: list[Epoch | str] = []
    outcome = run(Wish("macs=12K", out=Path("out"), resume=True), news)
    assert [each.number for each in news if isinstance(each, Epoch)] == [3, 4]
    assert not Path("out", CHECKPOINT).exists()
    again = run(Wish("macs=12K", out=Path("other")), [])
    assert again.history == outcome.history


def test_the_example_keeps_what_it_learned(tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    wish = Wish("macs=30K,arena=900", "cortex-m0", out=tmp_path / "digits")
    outcome = run_recipe(EXAMPLE, wish)
    assert outcome is not None
    assert outcome.met
    assert outcome.verified
    scores = outcome.scores
    assert scores["unpruned"] > 98
    assert scores["float"] > 96
    assert scores["c"] > scores["float"] - 1
    assert scores["c"] == pytest.approx(scores["int8"], abs=0.5)


# What is wrong with a recipe


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("x = 1", r"bad\.py defines no function recipe; write def recipe\(\) -> Recipe"),
        ("recipe = 3", r"bad\.py defines no function recipe"),
        ("def recipe():\n    return {}", r"recipe\(\) in .*bad\.py returns a dict; write def"),
        ("\nimport nowhere_to_be_found", r"bad\.py, line 2: ModuleNotFoundError: No module"),
        ("def recipe(:", r"bad\.py, line 1: SyntaxError: "),
        ("def recipe():\n    a = 1\n    return a.b", r"bad\.py, line 3: AttributeError: "),
        (
            "from mcugraph.prune.recipe import Recipe\n\n\ndef recipe():\n    return Recipe(1, 2)",
            r"(?s)bad\.py, line 5: ValueError: model is a int; .*train is a int; give a DataLoader",
        ),
        (
            "from mcugraph.prune.training import Training\n\n\nx = Training(epochs=0)",
            r"bad\.py, line 4: ValueError: epochs=0: at least 1",
        ),
    ],
)
def test_mistakes_are_told_with_their_place(tmp_path: Path, source: str, message: str) -> None:
    path = tmp_path / "bad.py"
    path.write_text(source, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        load_recipe(path)


def test_files_that_are_no_recipes(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cannot read .*none\.py: there is no such file"):
        load_recipe(tmp_path / "none.py")
    (tmp_path / "recipe.txt").write_text("")
    with pytest.raises(ValueError, match=r"a recipe is a Python file, NAME\.py"):
        load_recipe(tmp_path / "recipe.txt")


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("wish", "message"),
    [
        (Wish("rom=3KB"), "'rom=3KB' in the budget; allowed: params, "),
        (Wish("macs=20K", "z80"), "z80"),
        (Wish("macs=20K", epochs=0), "epochs=0: at least 1"),
        (Wish("macs=20K", out=Path("small.py")), r"small\.py is a file"),
    ],
)
def test_wrong_wishes(wish: Wish, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run(wish, [])


def test_a_recipe_may_import_its_neighbours(tmp_path: Path) -> None:
    (tmp_path / "beside_a_recipe.py").write_text("MODEL = 'model.onnx'\n")
    source = "from beside_a_recipe import MODEL\nfrom mcugraph.prune.recipe import Recipe\n"
    source += "\n\ndef recipe():\n    return Recipe(MODEL, [])\n"
    (tmp_path / "own.py").write_text(source)
    assert load_recipe(tmp_path / "own.py") == Recipe("model.onnx", [])


# What is shown


def epoch(number: int, used: float) -> Epoch:
    learned = (None, 98.8) if number == 0 else (0.125, 97.5)
    return Epoch(number, 20, *learned, {"macs": used}, {"macs": 30_000})


def printed(terminal: bool, *news: Epoch | str) -> str:
    text = io.StringIO()
    console = Console(file=text, force_terminal=terminal, width=100, color_system=None)
    with FitDisplay(console) as tell:
        for each in news:
            tell(each)
    return text.getvalue()


def test_a_line_an_epoch_where_there_is_no_terminal() -> None:
    lines = printed(False, "reading the recipe", epoch(0, 67_136), epoch(7, 29_980)).splitlines()
    assert lines == [
        "reading the recipe",
        "epoch  0/20  loss -  score 98.80  macs 67,136/30,000",
        "epoch  7/20  loss 0.1250  score 97.50  macs 29,980/30,000",
    ]
    assert line_of(epoch(7, 29_980)) == lines[-1]


def test_bars_on_a_terminal() -> None:
    text = printed(True, epoch(0, 67_136), epoch(7, 29_980), "compiling")
    for part in ("7 of 20", "unpruned 98.80", "score 97.50", "29,980 of 30,000", "compiling", "━"):
        assert part in text


@pytest.mark.parametrize(("used", "agrees"), [(29_980, True), (30_001, True), (100, False)])
def test_the_verdict(used: int, agrees: bool) -> None:
    outcome = Outcome(
        target="microbit",
        limits={"macs": 30_000},
        used={"macs": used},
        before={"macs": 67_136},
        scores={"unpruned": 98.8, "float": 97.5, "int8": None},
        verified=agrees,
        folder="build/digits",
        files={"float": "digits.onnx", "c": "c"},
        history=(epoch(0, 67_136), epoch(1, used)),
    )
    console = Console(file=io.StringIO(), width=100)
    print_outcome(outcome, console)
    text = console.file.getvalue()
    assert ("WITHIN the budget" in text) == (used <= 30_000)
    assert ("DIFFERS from onnxruntime" in text) == (not agrees)
    assert f"{used / 30_000:.0%}" in text
    assert "unpruned 98.80, float 97.50, int8 -" in text
    assert "build/digits/digits.onnx" in text
