"""The epochs of a run, in one stage or more, and all that is needed to go on after a kill."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import onnx
import torch
from onnx import ModelProto

from mcugraph.prune import checkpoint
from mcugraph.prune.history import Epoch
from mcugraph.prune.network import Network
from mcugraph.prune.processes import gathered, rank, world
from mcugraph.prune.training import Loader, Still, Trainer, Training

# What a checkpoint is of, unless a run says so.
PLAIN = {"depth": None, "exit": None}


class Learner(Protocol):
    """What a stage trains, with all that training changes."""

    network: Network

    def state(self) -> dict[str, Any]:
        """As tensors and numbers."""

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""


class Lasting(Still):
    """A network that keeps its shape, with its state."""

    def state(self) -> dict[str, Any]:
        """All that training has changed."""
        return {name: value.detach().cpu().clone() for name, value in self.network.values.items()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from there, in the same network."""
        with torch.no_grad():
            for name, value in self.network.values.items():
                value.copy_(state[name])


@dataclass(frozen=True)
class Stage:
    """Epochs up to number `until`, in which one trainer trains.

    The trainer is made when the learner has the network to train; `used` and `score` are asked
    after each epoch, `used` with whether it is the last one of all.
    """

    learner: Learner
    trainer: Callable[[], Trainer]
    until: int
    used: Callable[[bool], Mapping[str, float]]
    score: Callable[[], float | None]


class Course:
    """One run: goes on from `training.checkpoint` where that is there, and saves every epoch.

    A kill loses at most one epoch, and what comes of the run is bitwise the same. All of `purpose`
    has to be as it was. `model` is that which the run began with, `history` what became of it.
    """

    def __init__(
        self,
        model: ModelProto,
        loader: Loader,
        training: Training,
        limits: Mapping[str, int],
        purpose: Mapping[str, Any],
    ) -> None:
        self.loader, self.training, self.limits = loader, training, limits
        self._path = None if training.checkpoint is None else Path(training.checkpoint)
        self._purpose = {
            **PLAIN,
            **purpose,
            "epochs": training.epochs,
            "batches": len(loader),
            "seed": training.seed,
            "processes": world(),
        }
        self._saved = self._load()
        self._done: list[Any] = []
        self.model = onnx.load_from_string(self._saved["original"]) if self._saved else model
        self.history = [Epoch(**entry) for entry in self._saved.get("history", ())]
        checkpoint.seed_all(training.seed + rank())

    def begin(self, used: Mapping[str, float], score: Callable[[], float | None]) -> None:
        """Note what the unpruned network is, in a run that begins."""
        if not self.history:
            self._note(None, used, score())

    def run(self, stage: Stage) -> None:
        """Train what is left of a stage's epochs."""
        number, learner = len(self._done), stage.learner
        present = self._saved.get("stage", 0)
        if self._saved and number < present:
            learner.load_state(self._saved["done"][number])
        else:
            self._train(stage, self._saved if self._saved and number == present else None)
        self._done.append(gathered(learner.state())[0])

    def _train(self, stage: Stage, saved: Mapping[str, Any] | None) -> None:
        own = None if saved is None else saved["ranks"][rank()]
        if own is not None:
            stage.learner.load_state(own["learner"])
        trainer = stage.trainer()
        if saved is not None and own is not None:
            trainer.load_state(saved["trainer"])
            checkpoint.restore_random_states(own["random"], self.loader)
        while len(self.history) <= stage.until:
            loss = trainer.run_epoch(len(self.history) - 1)
            used = stage.used(len(self.history) == self.training.epochs)
            self._note(loss, used, stage.score())
            self._save(stage.learner, trainer)

    def _note(self, loss: float | None, used: Mapping[str, float], score: float | None) -> None:
        number, epochs = len(self.history), self.training.epochs
        entry = Epoch(number, epochs, loss, score, dict(used), self.limits)
        self.history.append(entry)
        if rank() == 0:
            self.training.progress(entry)

    def _load(self) -> dict[str, Any]:
        if self._path is None or not self._path.exists():
            return {}
        return checkpoint.load(self._path, self._purpose)

    def _save(self, learner: Learner, trainer: Trainer) -> None:
        if self._path is None:
            return
        random = checkpoint.random_states(self.loader)
        ranks = gathered({"learner": learner.state(), "random": random})
        if rank() > 0:
            return
        state = {
            "purpose": self._purpose,
            "original": self.model.SerializeToString(),
            "stage": len(self._done),
            "done": self._done,
            "trainer": trainer.state(),
            "history": [asdict(entry) for entry in self.history],
            "ranks": ranks,
        }
        checkpoint.save(self._path, state)


def split_epochs(whole: int, share: float) -> tuple[int, int]:
    """How many epochs a first stage has, by its share, and how many a second: each has one."""
    first = max(1, min(round(share * whole), whole - 1))
    return first, max(1, whole - first)
