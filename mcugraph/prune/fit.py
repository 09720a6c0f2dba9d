"""State the budget, get the network: prune while training, or before, until the compiler agrees."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import onnx
from onnx import ModelProto

from mcugraph.prune import at_init, checkpoint
from mcugraph.prune.at_init import Planned
from mcugraph.prune.given import Model, float_model
from mcugraph.prune.goal import Goal
from mcugraph.prune.history import Epoch
from mcugraph.prune.network import Network
from mcugraph.prune.processes import gathered, joined, rank, world
from mcugraph.prune.pruner import BudgetPruner
from mcugraph.prune.result import Result
from mcugraph.prune.rules import Rules, Schedule
from mcugraph.prune.training import Loader, Trainer, Training, score_of
from mcugraph.targets import Target
from mcugraph.targets import load as load_target

MODES = ("differentiable", *at_init.MODES)


@dataclass(frozen=True)
class Pruning:
    """How a network is pruned, and for which machine.

    `mode` is differentiable (while it is trained, by `schedule` and `rules`), or one of those that
    narrow it before: complexity (drawn by cost), init (what saves most), uniform (all alike). The
    schedule's steps are those of the training.
    """

    target: str | Target = "cortex-m0"
    mode: str = "differentiable"
    schedule: Schedule = field(default_factory=lambda: Schedule(0))
    rules: Rules = field(default_factory=Rules)

    def __post_init__(self) -> None:
        """Refuse an unknown mode."""
        if self.mode not in MODES:
            near = get_close_matches(self.mode, MODES, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ValueError(f"mode '{self.mode}': there are {', '.join(MODES)}{hint}")

    @property
    def machine(self) -> Target:
        """The target itself."""
        return self.target if isinstance(self.target, Target) else load_target(self.target)


def fit(
    model: Model,
    loader: Loader,
    budget: str | Goal,
    training: Training | None = None,
    pruning: Pruning | None = None,
) -> Result:
    """Train a network so that it is within a budget such as ram=12KB,macs=3M at the end.

    `model` is a torch module, trained or not, or a float ONNX model or file; `loader` gives batches
    (inputs..., target). Goes on from `training.checkpoint` where that file is there. Under torchrun
    all processes train together, each on the batches of its own loader. Seeds torch, numpy and
    random: for a seed, the result is the same every time. Raises ValueError where an option is
    wrong or the budget is out of reach.
    """
    training, pruning = training or Training(), pruning or Pruning()
    goal = Goal.of(budget)
    with joined():
        return _Fit(float_model(model, loader, training), loader, goal, training, pruning).run()


class _Fit:
    """One run: what it started from, and what is to be saved of it."""

    def __init__(
        self,
        original: ModelProto,
        loader: Loader,
        goal: Goal,
        training: Training,
        pruning: Pruning,
    ) -> None:
        self._loader, self._goal = loader, goal
        self._training, self._pruning = training, pruning
        self._path = None if training.checkpoint is None else Path(training.checkpoint)
        saved = self._saved()
        self._original = onnx.load_from_string(saved["original"]) if saved else original
        checkpoint.seed_all(training.seed + rank())
        self._pruner = self._start()
        self._pruner.to(training.device)
        if saved:
            self._pruner.load_state(saved["ranks"][rank()]["pruner"])
        self._trainer = Trainer(self._pruner, loader, training, Network(self._original))
        self._history: list[Epoch] = []
        if saved:
            self._go_on(saved)

    def run(self) -> Result:
        """Train what is left of the epochs."""
        with self._closing():
            if not self._history:
                self._note(None, Network(self._original).to(self._training.device))
            while len(self._history) <= self._training.epochs:
                loss = self._trainer.run_epoch(len(self._history) - 1)
                self._note(loss, self._pruner.network)
                self._save()
        return Result(
            network=self._pruner.network.eval(),
            decision=self._pruner.decision(),
            used=self._history[-1].used,
            limits=self._goal.limits,
            history=tuple(self._history),
            target=self._pruner.resources.machine,
            loader=self._loader,
            training=self._training,
        )

    def _start(self) -> BudgetPruner | Planned:
        pruning, steps = self._pruning, self._training.epochs * len(self._loader)
        if pruning.mode != "differentiable":
            seed = self._training.seed
            return Planned(self._original, pruning.machine, self._goal, pruning.mode, seed)
        return BudgetPruner(
            self._original,
            None,
            self._goal,
            replace(pruning.schedule, steps=steps),
            target=pruning.machine,
            rules=pruning.rules,
        )

    @contextmanager
    def _closing(self) -> Iterator[None]:
        try:
            yield
        finally:
            self._pruner.close()

    def _note(self, loss: float | None, network: Network) -> None:
        number = len(self._history)
        last = number == self._training.epochs
        exact = self._pruner.resources.exact
        entry = Epoch(
            number=number,
            epochs=self._training.epochs,
            loss=loss,
            score=score_of(network, self._training),
            used=exact(final=True) if last else self._pruner.usage(),
            limits=self._goal.limits,
        )
        self._history.append(entry)
        if rank() == 0:
            self._training.progress(entry)

    # Checkpoints

    def _purpose(self) -> dict[str, Any]:
        """What has to be the same for a checkpoint to be of use."""
        return {
            "budget": dict(self._goal.limits),
            "target": self._pruning.machine.name,
            "mode": self._pruning.mode,
            "schedule": asdict(self._pruning.schedule),
            "rules": asdict(self._pruning.rules),
            "epochs": self._training.epochs,
            "batches": len(self._loader),
            "seed": self._training.seed,
            "processes": world(),
        }

    def _saved(self) -> dict[str, Any] | None:
        if self._path is None or not self._path.exists():
            return None
        return checkpoint.load(self._path, self._purpose())

    def _save(self) -> None:
        if self._path is None:
            return
        own = {
            "pruner": self._pruner.state(),
            "random": checkpoint.random_states(self._loader),
        }
        ranks = gathered(own)
        if rank() > 0:
            return
        state = {
            "purpose": self._purpose(),
            "original": self._original.SerializeToString(),
            "trainer": self._trainer.state(),
            "history": [asdict(entry) for entry in self._history],
            "ranks": ranks,
        }
        checkpoint.save(self._path, state)

    def _go_on(self, saved: Mapping[str, Any]) -> None:
        self._trainer.load_state(saved["trainer"])
        self._history = [Epoch(**entry) for entry in saved["history"]]
        checkpoint.restore_random_states(saved["ranks"][rank()]["random"], self._loader)
