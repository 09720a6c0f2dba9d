"""Ending networks early: frozen or trained as a whole, by labels or by what the full network says.

    python benchmarks/prune_depth.py            # all runs that results/prune_depth.json lacks
    python benchmarks/prune_depth.py ds_cnn 0   # those of one network and one seed

DS-CNN on spoken digits ends after its second block, ResNet-8 on CIFAR-10 after its second, each in
the head dscnn32_16. All variants of a network get about the same CPU seconds (one thread): those of
a frozen network get more epochs, as theirs cost less. The last variant is no cut at all: the full
network trained on for as long, since more training helps it, too.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
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
        common = {"epochs": epochs, "seed": seed, "distil": distil}
        if self.name == "ds_cnn":
            return Training(optimizer=lambda p: AdamW(p, LR), **common)
        return Training(
            optimizer=lambda p: AdamW(p, LR, weight_decay=1e-2),
            autocast=torch.bfloat16,
            channels_last=True,
            **common,
        )


class Augmented:
    """Shuffled batches of 100, changed at random; digits come with shares of two labels.

    Digits are shifted in time, masked for up to 10 frames and mixed in pairs, and each coefficient
    is scaled and moved, as other voices would: chosen by training on two of the four speakers and
    testing on the others two. Images are shifted and mirrored.
    """

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
            x, y = self.inputs[index].float(), self.labels[index]
            yield self._mixed(self._spoken(x), y) if self.spoken else (self._seen(x), y)

    def _normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.dice)

    def _upto(self, most: int, *shape: int) -> Tensor:
        return torch.randint(0, most + 1, shape, generator=self.dice)

    def _spoken(self, x: Tensor) -> Tensor:
        count, _, frames, wide = x.shape
        x = x.roll(int(self._upto(8)) - 4, 2) * (1 + 0.2 * self._normal(count, 1, 1, wide))
        x = x + 0.6 * self._normal(count, 1, 1, wide) + 0.05 * self._normal(*x.shape)
        first, time = self._upto(frames - 1, count, 1), torch.arange(frames)
        masked = (time >= first) & (time < first + self._upto(10, count, 1))
        return x.masked_fill(masked[:, None, :, None], 0.0)

    def _mixed(self, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        # Uniform to the fourth power has most of its mass at the ends, as mixup wants it.
        share = float(torch.rand((), generator=self.dice)) ** 4
        other = torch.randperm(len(x), generator=self.dice)
        y = functional.one_hot(labels, 10).float()
        return x.lerp(x[other], share), y.lerp(y[other], share)

    def _seen(self, x: Tensor) -> Tensor:
        mirrored = torch.rand(len(x), generator=self.dice) < 0.5
        x[mirrored] = x[mirrored].flip(3)
        i, j = self._upto(8, 2).tolist()
        return functional.pad(x, (4, 4, 4, 4))[:, :, i : i + 32, j : j + 32]


TASKS = (
    Task("ds_cnn", "relu_4", dict(zip((*VARIANTS, UNCUT), (EP,)*5, strict=True))),
    Task("resnet8", "relu_4", dict(zip((*VARIANTS, UNCUT), (EP,)*5, strict=True)), 10000),
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
    else:
        depth = Depth(tensor=task.cut, unfreeze=unfreeze)
        network = fit_depth(model, loader, None, training, depth).network
    seconds = time.process_time() - begin
    return {"accuracy": bases.accuracy(network, *task.data("test")), "seconds": seconds}


if __name__ == "__main__":
    torch.set_num_threads(1)
    t = next(t for t in TASKS if t.name == sys.argv[1])
    for v in sys.argv[3:] or [*VARIANTS, UNCUT]:
        print(v, run(t, v, int(sys.argv[2])), flush=True)
