"""Ending networks early: frozen or trained as a whole, by labels or by what the full network says.

    python benchmarks/prune_depth.py            # all runs that results/prune_depth.json lacks
    python benchmarks/prune_depth.py ds_cnn 0   # those of one network and one seed

DS-CNN on spoken digits ends after its second block; ResNet-8 on CIFAR-10 after its second, and, as
another network in the results, inside its third. All variants of a network get about the same CPU
seconds (one thread): those of a frozen network get more epochs, as theirs cost less. One variant is
no cut at all: the full network trained on for as long, since more training helps it, too. Settings
were chosen on training data that was held out: two of four speakers, 5,000 images.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import bases
import torch
from augment import mirrored, mixed, moved, other_voices
from depth_table import RESULTS, results, table
from onnx import ModelProto
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from mcugraph.cost import cost_of
from mcugraph.passes import cut_depth
from mcugraph.passes.heads import Head
from mcugraph.prune.depth import Depth, fit_depth
from mcugraph.prune.export import from_torch
from mcugraph.prune.fit import fit
from mcugraph.prune.network import Network
from mcugraph.prune.training import Still, Trainer, Training

SEEDS = (0, 1, 2)
TARGET = "cortex-m0"
UNCUT, ALONE = "uncut, trained on", "channels alone, to the same MACs"
HALVED = "unfrozen, with half of its MACs"
# The share of the loss that comes from the full network; None is what `Training` makes of it.
DISTIL = {
    "unfrozen": None,
    "unfrozen, hard labels": 0.0,
    "unfrozen, distilled at 0.9": 0.9,
    "frozen, hard labels (the paper)": 0.0,
    "frozen, distilled at 0.9": 0.9,
    UNCUT: 0.0,
    HALVED: None,
    ALONE: None,
}
Record = dict[str, Any]


@dataclass(frozen=True)
class Task:
    """A network, where it ends, and the epochs of each variant: `images` images each, or all."""

    title: str
    cut: str
    head: str
    epochs: Mapping[str, int]
    images: int | None = None

    @property
    def spoken(self) -> bool:
        """Whether it hears digits or sees images."""
        return self.images is None

    @property
    def base(self) -> nn.Module:
        """The base."""
        return bases.ds_cnn() if self.spoken else bases.resnet8()

    @property
    def model(self) -> ModelProto:
        """The base, as it is trained."""
        return from_torch(self.base, self.data("test")[0][:1].float())

    @property
    def shorter(self) -> ModelProto:
        """The base, cut."""
        return cut_depth(self.model, self.cut, Head.parse(self.head, 10, softmax=False))

    def data(self, split: str) -> tuple[Tensor, Tensor]:
        """Inputs and labels."""
        return bases.digits(split) if self.spoken else bases.cifar(split)

    def training(self, variant: str, seed: int) -> Training:
        """How it is trained."""
        return Training(
            epochs=self.epochs[variant],
            optimizer=_spoken if self.spoken else _seen,
            distil=DISTIL[variant],
            seed=seed,
            autocast=None if self.spoken else torch.bfloat16,
            channels_last=not self.spoken,
        )


def _spoken(weights: Iterable[nn.Parameter]) -> Optimizer:
    return AdamW(weights, 3e-3, weight_decay=1e-2)


def _seen(weights: Iterable[nn.Parameter]) -> Optimizer:
    return AdamW(weights, 1e-2, weight_decay=1e-3)


SPOKEN, SEEN = (40, 40, 30, 64, 60, 38, 40, 44), (9, 10, 0, 18, 0, 10, 0, 0)
TASKS = {
    "ds_cnn": Task(
        "DS-CNN, spoken digits, behind block 2",
        "relu_4",
        "dscnn32_16",
        dict(zip(DISTIL, SPOKEN, strict=True)),
    ),
    "resnet8": Task(
        "ResNet-8, CIFAR-10, behind block 2",
        "relu_4",
        "dscnn64_64",
        {name: count for name, count in zip(DISTIL, SEEN, strict=True) if count},
        images=10_000,
    ),
    "resnet8_later": Task(
        "ResNet-8, CIFAR-10, inside block 3",
        "relu_5",
        "dscnn32_16",
        {"unfrozen": 11, "frozen, hard labels (the paper)": 22},
        images=10_000,
    ),
}


class Augmented:
    """Shuffled batches, changed at random; digits come with shares of two labels.

    Digits are spoken as by other voices and mixed in pairs; images are shifted and mirrored.
    """

    def __init__(self, task: Task, seed: int) -> None:
        self.inputs, self.labels = task.data("train")
        self.spoken = task.spoken
        self.count = task.images or len(self.labels)
        self.batch = 100 if task.spoken else 128
        self.dice = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        """Batches in an epoch."""
        return len(range(0, self.count, self.batch))

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """An epoch, of some of the images where the task says so."""
        order = torch.randperm(len(self.labels), generator=self.dice)[: self.count]
        for index in order.split(self.batch):
            x, y = self.inputs[index].float(), self.labels[index]
            if self.spoken:
                yield mixed(other_voices(x, self.dice), y, self.dice)
            else:
                yield moved(mirrored(x, self.dice), self.dice), y


def run(task: Task, variant: str, seed: int) -> Record:
    """Accuracy in percent, CPU seconds of the training, and what was pruned to."""
    torch.manual_seed(seed)
    inputs, labels = task.data("test")
    model, loader = task.model, Augmented(task, seed)
    half = f"macs={cost_of(task.shorter, TARGET).macs // 2}"
    begin = time.process_time()
    training, kept = task.training(variant, seed), "unfrozen" in variant
    if variant == UNCUT:
        network = _trained_on(model, loader, training)
    elif variant == ALONE:
        network = fit(model, loader, half, training).network
    else:
        depth = Depth(task.cut, task.head, unfreeze=kept, prune=variant == HALVED)
        budget = half if variant == HALVED else None
        network = fit_depth(model, loader, budget, training, depth).network
    seconds = time.process_time() - begin
    accuracy = bases.accuracy(network, inputs, labels)
    found = {"accuracy": round(accuracy, 2), "cpu_seconds": round(seconds, 1)}
    return found | _sizes(network.to_onnx()) if variant in (HALVED, ALONE) else found


def _trained_on(model: ModelProto, loader: Augmented, training: Training) -> Network:
    network = Network(model)
    trainer = Trainer(Still(network), loader, training, None)
    for epoch in range(training.epochs):
        trainer.run_epoch(epoch)
    return network


def facts(task: Task) -> Record:
    """The base's accuracy, and the size of the network before and after the cut."""
    sizes = {"uncut": _sizes(task.model), "cut": _sizes(task.shorter)}
    return {
        "title": task.title,
        "head": task.head,
        "base": round(bases.accuracy(task.base, *task.data("test")), 2),
        **sizes,
    }


def _sizes(model: ModelProto) -> Record:
    cost = cost_of(model, TARGET, measured=True)
    return {"params": cost.parameters, "macs": cost.macs, "flash": cost.flash, "ram": cost.ram}


def main(names: Sequence[str], seeds: Sequence[int]) -> None:
    """Make what is missing."""
    torch.set_num_threads(1)
    for name, seed in product(names, seeds):
        task = TASKS[name]
        for variant in task.epochs:
            known = results().get(name, {}).get("runs", {}).get(variant, {})
            if str(seed) in known:
                continue
            figures = run(task, variant, seed)
            print(name, variant, seed, figures, flush=True)
            # Another process may have written meanwhile.
            record = results()
            own = record.setdefault(name, {"runs": {}})
            own |= {} if "base" in own else facts(task)
            own["runs"].setdefault(variant, {})[str(seed)] = figures
            own["runs"] = {name: own["runs"][name] for name in task.epochs if name in own["runs"]}
            RESULTS.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(table())


if __name__ == "__main__":
    chosen = sys.argv[1:2] or list(TASKS)
    main(chosen, [int(seed) for seed in sys.argv[2:]] or SEEDS)
