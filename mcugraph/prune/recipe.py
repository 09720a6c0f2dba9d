"""A recipe: a Python file that says what is trained, on what and how; and what follows of it."""

from __future__ import annotations

import importlib.util
import json
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import onnx
from onnx import ModelProto
from torch import nn

from mcugraph.artifact import writable, write_models
from mcugraph.ctext import identifier
from mcugraph.judge import Verification
from mcugraph.prune.depth import Depth, fit_depth
from mcugraph.prune.exits import EarlyExit, fit_exit
from mcugraph.prune.fit import Pruning, fit
from mcugraph.prune.given import Model
from mcugraph.prune.history import Epoch, Outcome
from mcugraph.prune.network import Network
from mcugraph.prune.processes import gathered, joined, rank
from mcugraph.prune.result import Result
from mcugraph.prune.training import Loader, Training

FUNCTION = "recipe"
CHECKPOINT = "checkpoint.pt"
SIGNATURE = f"def {FUNCTION}() -> Recipe, with Recipe from mcugraph.prune.recipe"


@dataclass(frozen=True)
class Recipe:
    """What the function `recipe` of a recipe file returns.

    `model` is a torch module or a float ONNX model or file, `train` a loader of batches
    (inputs..., target). With `depth`, the network may end early, and with `exit`, samples may leave
    it early; both are for the target of `pruning`, which also says how a depth with prune removes
    channels. With `quantized`, the int8 network is trained further, that way.
    """

    model: Model
    train: Loader
    training: Training = field(default_factory=Training)
    pruning: Pruning = field(default_factory=Pruning)
    quantized: Training | None = None
    depth: Depth | None = None
    exit: EarlyExit | None = None

    def __post_init__(self) -> None:
        """Refuse what can't be trained, all of it at once."""
        problems = []
        given: object = self.model
        if not isinstance(given, nn.Module | ModelProto | str | Path):
            kind = type(given).__name__
            problems.append(f"model is a {kind}; give a torch module, an ONNX model or its path")
        if not (hasattr(self.train, "__iter__") and hasattr(self.train, "__len__")):
            kind = type(self.train).__name__
            problems.append(f"train is a {kind}; give a DataLoader or a list of batches")
        if self.exit is not None and self.depth is not None:
            problems.append("depth and exit: a network ends early or may be left early, not both")
        if self.exit is not None and self.quantized is not None:
            problems.append("quantized and exit: an int8 network with an exit can't be trained")
        if problems:
            raise ValueError("\n".join(problems))

    def fitted(self, budget: str, training: Training) -> Result:
        """Train it for a budget: cut and with a head, with an exit, or with fewer channels."""
        if self.exit is not None:
            early = replace(self.exit, target=self.pruning.machine)
            return fit_exit(self.model, self.train, early, training, budget)
        if self.depth is not None:
            depth = replace(self.depth, pruning=self.pruning)
            return fit_depth(self.model, self.train, budget, training, depth)
        return fit(self.model, self.train, budget, training, self.pruning)


@dataclass(frozen=True)
class Wish:
    """What the command line adds to a recipe; None leaves what the recipe says."""

    budget: str
    target: str | None = None
    epochs: int | None = None
    out: Path | None = None
    resume: bool = False


def _quiet(news: Epoch | str) -> None:
    """Tell nobody."""


def run_recipe(
    path: Path, wish: Wish, tell: Callable[[Epoch | str], None] = _quiet
) -> Outcome | None:
    """Fit, export, quantise, compile and verify; writes the folder `wish.out`, default build/NAME.

    There are NAME.onnx (float), NAME.int8.onnx, decision.json, history.json and the C in c/; until
    all is done, checkpoint.pt. `tell` hears of each epoch and of each stage. Under torchrun, only
    the first process has an outcome. Raises ValueError for what is wrong with the recipe or wish.
    """
    name = identifier(path.stem)
    folder = wish.out or Path("build") / name
    checkpoint = _checkpoint(folder, wish.resume)
    with joined():
        tell = tell if rank() == 0 else _quiet
        tell("reading the recipe")
        recipe = _as_wished(load_recipe(path), wish)
        training = replace(recipe.training, checkpoint=checkpoint, progress=tell)
        result = recipe.fitted(wish.budget, training)
        if recipe.quantized is not None:
            tell("training the int8 network")
        done = _trained(result, recipe.quantized)
        if rank() > 0:
            return None
    outcome = _finished(done, folder, name, tell)
    checkpoint.unlink(missing_ok=True)
    return outcome


def load_recipe(path: Path) -> Recipe:
    """Run a recipe file; ValueError says where in it something went wrong."""
    module = _module(path)
    function = getattr(module, FUNCTION, None)
    if not callable(function):
        raise ValueError(f"{path} defines no function {FUNCTION}; write {SIGNATURE}")
    found = _guarded(path, function)
    if not isinstance(found, Recipe):
        kind = type(found).__name__
        raise ValueError(f"{FUNCTION}() in {path} returns a {kind}; write {SIGNATURE}")
    return found


def _module(path: Path) -> ModuleType:
    """The file as a module, which may import what lies beside it."""
    if not path.is_file():
        raise ValueError(f"cannot read {path}: there is no such file")
    spec = importlib.util.spec_from_file_location(f"recipe_{identifier(path.stem)}", path)
    if spec is None or spec.loader is None:
        raise ValueError(f"cannot read {path}: a recipe is a Python file, NAME.py")
    module = importlib.util.module_from_spec(spec)
    # Workers of a DataLoader look for it there.
    sys.modules[module.__name__] = module
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    loader = spec.loader
    _guarded(path, lambda: loader.exec_module(module))
    return module


def _guarded(path: Path, function: Callable[[], Any]) -> Any:
    """Run a part of the recipe; what it raises becomes an error that names the line."""
    try:
        return function()
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if Path(frame.filename) == path]
        line = error.lineno if isinstance(error, SyntaxError) else (lines or [None])[-1]
        where = f"{path}, line {line}" if line else str(path)
        raise ValueError(f"{where}: {type(error).__name__}: {error}") from error


def _checkpoint(folder: Path, resume: bool) -> Path:
    """The checkpoint's place; ValueError where one would be lost."""
    path = folder / CHECKPOINT
    if path.exists() and not resume:
        raise ValueError(f"{path} is of a run that was stopped; write --resume, or remove it")
    writable(folder / "c")
    return path


def _as_wished(recipe: Recipe, wish: Wish) -> Recipe:
    training, pruning = recipe.training, recipe.pruning
    if wish.epochs is not None:
        training = replace(training, epochs=wish.epochs)
    if wish.target is not None:
        pruning = replace(pruning, target=wish.target)
    return replace(recipe, training=training, pruning=pruning)


@dataclass(frozen=True)
class _Trained:
    """All that training gave; `score` is that of the int8 network."""

    result: Result
    quantised: ModelProto
    score: float | None

    def scores(self, verification: Verification) -> Mapping[str, float | None]:
        """What the evaluation says of each form; of the C, the share of labels that are right."""
        history = self.result.history
        found = {"unpruned": history[0].score, "float": history[-1].score, "int8": self.score}
        evaluate = self.result.training.evaluate
        right = _right(verification)
        if evaluate is not None and not callable(evaluate) and right is not None:
            found["c"] = 100 * right
        return found


def _right(verification: Verification) -> float | None:
    """The share of labels that the C gets right, where it leaves early as well."""
    if verification.exit is not None:
        return verification.exit.accuracy
    return None if verification.accuracy is None else verification.accuracy[0]


def _left(verification: Verification) -> float | None:
    early = verification.exit
    return None if early is None else 100 * early.left / early.samples


def _trained(result: Result, training: Training | None) -> _Trained:
    """Quantise, and train on where that is wanted; for all processes together."""
    own = result.quantize() if training is None else result.train_quantized(training)
    quantised = onnx.load_from_string(gathered(own.SerializeToString())[0])
    return _Trained(result, quantised, result.score(Network(quantised)))


def _finished(
    done: _Trained, folder: Path, name: str, tell: Callable[[Epoch | str], None]
) -> Outcome:
    """Write, compile and compare what was trained."""
    result, quantised = done.result, done.quantised
    tell("compiling")
    artifact = result.compile(quantised, name)
    tell("comparing with onnxruntime")
    verification = result.verify(quantised, artifact)
    folder.mkdir(parents=True, exist_ok=True)
    files = {"float": f"{name}.onnx", "int8": f"{name}.int8.onnx", "decision": "decision.json"}
    files |= {"history": "history.json", "c": "c"}
    write_models({folder / files["float"]: result.model, folder / files["int8"]: quantised})
    result.decision.save(folder / files["decision"])
    history = json.dumps([asdict(entry) for entry in result.history], indent=1)
    (folder / files["history"]).write_text(history + "\n", encoding="utf-8")
    artifact.write(folder / files["c"])
    return Outcome(
        target=result.target.name,
        limits=result.limits,
        used=result.measured(artifact),
        before=result.history[0].used,
        scores=done.scores(verification),
        verified=verification.ok,
        left=_left(verification),
        folder=str(folder),
        files=files,
        history=result.history,
    )
