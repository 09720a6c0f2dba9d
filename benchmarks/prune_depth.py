"""Ending networks early: frozen or trained as a whole, by labels or by what the full network says.

    python benchmarks/prune_depth.py            # all runs that results/prune_depth.json lacks
    python benchmarks/prune_depth.py ds_cnn 0   # those of one network and one seed

DS-CNN on spoken digits ends after its second block, ResNet-8 on CIFAR-10 after its second, each in
the head dscnn32_16. All variants of a network get about the same CPU seconds (one thread): those of
a frozen network get more epochs, as theirs cost less. The last variant is no cut at all: the full
network trained on for as long, since more training helps it, too.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import bases
import torch
from torch import Tensor
from torch.nn import functional
from torch.optim import SGD, AdamW

from mcugraph.prune.attached import logits_form
from mcugraph.prune.depth import Depth, fit_depth
from mcugraph.prune.export import from_torch
from mcugraph.prune.network import Network
from mcugraph.prune.training import Still, Trainer, Training

RESULTS = Path(__file__).parent / "results" / "prune_depth.json"
SEEDS = (0, 1, 2)
LR = float(__import__("os").environ.get("LR","3e-3"))
EP = int(__import__("os").environ.get("EP","40"))
UNCUT = "uncut, trained on"
# Whether all is trained, and how much the full network is listened to.
VARIANTS = {
    "unfrozen, distilled": (True, 0.9),
    "unfrozen, hard labels": (True, 0.0),
    "frozen, distilled": (False, 0.9),
    "frozen, hard labels (the paper)": (False, 0.0),
}


@dataclass(frozen=True)
class Task:
    """A network, where it ends, its data, and the epochs that each variant gets."""

    name: str
    cut: str
    epochs: Mapping[str, int]
    images: int | None = None

    def module(self) -> torch.nn.Module:
        """The base."""
        return bases.ds_cnn() if self.name == "ds_cnn" else bases.resnet8()

    def data(self, split: str) -> tuple[Tensor, Tensor]:
        """Inputs and labels."""
        return bases.digits(split) if self.name == "ds_cnn" else bases.cifar(split)

    def training(self, epochs: int, seed: int, distil: float) -> Training:
        """How it is trained."""
        test = [(x.float(), y) for x, y in _parts(*self.data("test"), 500)]
        common = {"epochs": epochs, "seed": seed, "distil": distil, "evaluate": test}
        if self.name == "ds_cnn":
            return Training(optimizer=lambda p: AdamW(p, LR), **common)
        return Training(
            optimizer=lambda p: SGD(p, 0.05, 0.9, weight_decay=1e-4),
            autocast=torch.bfloat16,
            channels_last=True,
            **common,
        )


class Augmented:
    """Shuffled batches of 100: digits shifted in time, with noise; images shifted and mirrored."""

    def __init__(self, task: Task, seed: int) -> None:
        self.inputs, self.labels = task.data("train")
        self.spoken = task.name == "ds_cnn"
        self.count = task.images or len(self.labels)
        self.dice = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        """Batches in an epoch."""
        return -(-self.count // 100)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """An epoch, of some of the images where the task says so."""
        order = torch.randperm(len(self.labels), generator=self.dice)[: self.count]
        for index in order.split(100):
            yield self._changed(self.inputs[index].float()), self.labels[index]

    def _changed(self, x: Tensor) -> Tensor:
        if self.spoken:
            shift = int(torch.randint(-4, 5, (1,), generator=self.dice))
            return x.roll(shift, 2) + 0.05 * torch.randn(x.shape, generator=self.dice)
        mirrored = torch.rand(len(x), generator=self.dice) < 0.5
        x[mirrored] = x[mirrored].flip(3)
        i, j = torch.randint(0, 9, (2,), generator=self.dice).tolist()
        return functional.pad(x, (4, 4, 4, 4))[:, :, i : i + 32, j : j + 32]


def _parts(x: Tensor, y: Tensor, size: int) -> list[tuple[Tensor, Tensor]]:
    return list(zip(x.split(size), y.split(size), strict=True))


TASKS = (
    Task("ds_cnn", "relu_4", dict(zip((*VARIANTS, UNCUT), (EP,)*5, strict=True))),
    Task("resnet8", "relu_4", dict(zip((*VARIANTS, UNCUT), (2, 2, 2, 2, 2), strict=True)), 10000),
)


def run(task: Task, variant: str, seed: int) -> dict[str, Any]:
    """Accuracy and CPU seconds of one training."""
    torch.manual_seed(seed)
    module = task.module()
    x, _ = task.data("test")
    model = from_torch(module, x[:1].float())
    loader = Augmented(task, seed)
    unfreeze, distil = VARIANTS.get(variant, (True, 0.0))
    training = task.training(task.epochs[variant], seed, distil)
    begin = time.process_time()
    if variant == UNCUT:
        network = Network(logits_form(model)[0])
        trainer = Trainer(Still(network), loader, training, None)
        for epoch in range(training.epochs):
            trainer.run_epoch(epoch)
        score = trainer.score(network)
        return {"score": score, "seconds": time.process_time() - begin}
    # Evaluation is not part of the time.
    depth = Depth(tensor=task.cut, unfreeze=unfreeze)
    result = fit_depth(model, loader, None, training, depth)
    seconds = time.process_time() - begin
    print([(e.number, e.loss, e.score) for e in result.history], [c.score for c in result.cuts])
    return {"score": bases.accuracy(result.network, *task.data("test")), "seconds": seconds}


if __name__ == "__main__":
    torch.set_num_threads(1)
    t = next(t for t in TASKS if t.name == sys.argv[1])
    for v in sys.argv[3:] or [*VARIANTS, UNCUT]:
        print(v, run(t, v, int(sys.argv[2])), flush=True)
