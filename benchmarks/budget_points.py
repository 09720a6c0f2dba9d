"""What is trained to budgets of the emitted C: networks, data, recipes, and how they are judged."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import bases
import on_host
import torch
from augment import mirrored, other_voices
from onnx import ModelProto
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from mcugraph.artifact import Artifact
from mcugraph.prune.network import Network
from mcugraph.prune.rules import Rules, Schedule
from mcugraph.prune.training import Training

# Training samples on which int8 ranges are found.
CALIBRATED = 256
# The share of a run's steps in which the learning rate rises.
WARM = 0.1


@dataclass(frozen=True)
class Case:
    """A network, its data and its recipe: `seconds` for a run, `finer` for int8 training after it.

    `steps` are about as many as there will be; the schedule of pruning goes by them.
    """

    base: Callable[[], nn.Module]
    data: Callable[[str], tuple[Tensor, Tensor]]
    augmented: Callable[[Tensor, torch.Generator], Tensor]
    optimizer: Callable[[Iterable[nn.Parameter]], Optimizer]
    finely: Callable[[Iterable[nn.Parameter]], Optimizer]
    batch: int
    steps: int
    seconds: float
    finer: float
    distil: float | None
    schedule: Schedule
    rules: Rules
    autocast: torch.dtype | None
    budgets: tuple[str, ...]

    @property
    def example(self) -> Tensor:
        """One sample."""
        return self.data("train")[0][:1].float()


IMAGES = Case(
    base=bases.resnet8,
    data=bases.cifar,
    augmented=mirrored,
    optimizer=lambda weights: SGD(weights, 0.05, 0.9, weight_decay=1e-4),
    finely=lambda weights: AdamW(weights, 2e-4),
    batch=256,
    steps=300,
    seconds=60,
    finer=20,
    distil=0.5,
    schedule=Schedule(0, events=4, end=0.05),
    rules=Rules(floor=0.3),
    autocast=torch.bfloat16,
    budgets=("ram=8KB", "flash=48KB,macs=6M", "ram=10KB,flash=32KB,cycles=40M"),
)
CASES = {
    "ds_cnn": Case(
        base=bases.ds_cnn,
        data=bases.digits,
        augmented=other_voices,
        optimizer=lambda weights: AdamW(weights, 1e-3),
        finely=lambda weights: AdamW(weights, 2e-4),
        batch=100,
        steps=280,
        seconds=35,
        finer=6,
        distil=None,
        schedule=Schedule(0, events=6, end=0.5),
        rules=Rules(),
        autocast=None,
        budgets=("ram=4KB", "flash=20KB,macs=1.2M", "ram=3KB,flash=16KB,cycles=10M"),
    ),
    "resnet8": IMAGES,
    "mobilenet_v2": replace(
        IMAGES,
        base=bases.mobilenet_v2,
        autocast=None,
        budgets=("ram=8KB", "flash=48KB,macs=2.2M", "ram=7KB,flash=40KB,cycles=30M"),
    ),
}


class Timed:
    """A loader of one epoch that ends when its CPU seconds are spent, after `least` steps or more.

    It says how many batches the schedule of pruning counts on. With `short`, the epoch ends after
    the least steps.
    """

    def __init__(self, case: Case, seconds: float, seed: int, *, short: bool = False) -> None:
        self._case, self._seconds, self._short = case, seconds, short
        self._random = torch.Generator().manual_seed(seed)
        self._least = round(case.schedule.end * case.steps)
        self.restart(seconds)

    def restart(self, seconds: float) -> None:
        """Begin a run of so many CPU seconds."""
        self._begin, self._seconds = time.process_time(), seconds

    @property
    def spent(self) -> float:
        """CPU seconds since the beginning."""
        return time.process_time() - self._begin

    def __len__(self) -> int:
        return self._case.steps

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        images, labels = self._case.data("train")
        step = 0
        while True:
            order = torch.randperm(len(labels), generator=self._random)
            for chosen in order.split(self._case.batch):
                if step >= self._least and (self._short or self.spent >= self._seconds):
                    return
                yield self._case.augmented(images[chosen], self._random), labels[chosen]
                step += 1

    def scheduler(self, optimizer: Optimizer, steps: int) -> LambdaLR:
        """Up in the first steps, then down with the time that is left."""

        def factor(step: int) -> float:
            return min((step + 1) / (WARM * steps), max(1 - self.spent / self._seconds, 1e-3))

        return LambdaLR(optimizer, factor)


def recipe(case: Case, loader: Timed, seed: int) -> Training:
    """How a case is trained."""
    images, labels = case.data("train")
    return Training(
        epochs=1,
        optimizer=case.optimizer,
        scheduler=loader.scheduler,
        distil=case.distil,
        calibration=[(images[:CALIBRATED].float(), labels[:CALIBRATED])],
        example=case.example,
        seed=seed,
        autocast=case.autocast,
        channels_last=case.example.shape[1] > 1,
    )


def float_accuracy(case: Case, network: Network) -> float:
    """Percent of right labels on the test set, in float32."""
    return round(bases.accuracy(network, *case.data("test")), 2)


def int8_accuracy(case: Case, model: ModelProto, artifact: Artifact) -> dict[str, Any]:
    """Percent of right labels on the test set: the C's and onnxruntime's."""
    images, labels = (part.numpy() for part in case.data("test"))
    images = images.astype("float32")
    ours, theirs = on_host.by_c(artifact, images), on_host.by_onnxruntime(model, images)
    same = (ours.argmax(1) == theirs.argmax(1)).mean()
    return {
        "c": on_host.percent(ours, labels),
        "onnxruntime": on_host.percent(theirs, labels),
        "same_class": round(float(same), 5),
    }


def figures(artifact: Artifact) -> dict[str, Any]:
    """What the report of the emitted C says it takes."""
    report = artifact.report
    return {
        "arena": report.ram.arena,
        "ram": report.ram.total,
        "flash": report.flash.total,
        "macs": report.macs,
        "cycles": report.cycles,
    }
