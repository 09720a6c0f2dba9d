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
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any

import bases
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import SGD, AdamW, Optimizer

from mcugraph.cost import cost_of
from mcugraph.passes import cut_depth
from mcugraph.passes.heads import Head
from mcugraph.prune.depth import Depth, fit_depth
from mcugraph.prune.export import from_torch
from mcugraph.prune.network import Network
from mcugraph.prune.training import Still, Trainer, Training

RESULTS = Path(__file__).parent / "results" / "prune_depth.json"
SEEDS = (0, 1, 2)
UNCUT = "uncut, trained on"
# Whether all is trained, and how much the full network is listened to.
VARIANTS = {
    "unfrozen, hard labels": (True, 0.0),
    "unfrozen, distilled": (True, 0.9),
    "frozen, hard labels (the paper)": (False, 0.0),
    "frozen, distilled": (False, 0.9),
    UNCUT: (True, 0.0),
}
Record = dict[str, Any]


@dataclass(frozen=True)
class Task:
    """A network, where it ends, and the epochs of each variant: `images` images each, or all."""

    title: str
    cut: str
    epochs: tuple[int, ...]
    images: int | None = None

    @property
    def spoken(self) -> bool:
        """Whether it hears digits or sees images."""
        return self.images is None

    def module(self) -> nn.Module:
        """The base."""
        return bases.ds_cnn() if self.spoken else bases.resnet8()

    def data(self, split: str) -> tuple[Tensor, Tensor]:
        """Inputs and labels."""
        return bases.digits(split) if self.spoken else bases.cifar(split)

    def training(self, variant: str, seed: int) -> Training:
        """How it is trained."""
        fast = {} if self.spoken else {"autocast": torch.bfloat16, "channels_last": True}
        return Training(
            epochs=self.epochs[list(VARIANTS).index(variant)],
            optimizer=_adamw if self.spoken else _sgd,
            distil=VARIANTS[variant][1],
            seed=seed,
            **fast,
        )


def _adamw(weights: Iterable[nn.Parameter]) -> Optimizer:
    return AdamW(weights, 3e-3, weight_decay=1e-2)


def _sgd(weights: Iterable[nn.Parameter]) -> Optimizer:
    return SGD(weights, 0.05, 0.9, weight_decay=1e-4)


TASKS = {
    "ds_cnn": Task("DS-CNN, spoken digits, behind block 2", "relu_4", (40, 30, 64, 60, 38)),
    "resnet8": Task(
        "ResNet-8, CIFAR-10, behind block 2", "relu_4", (10, 5, 14, 14, 7), images=10_000
    ),
}


class Augmented:
    """Shuffled batches of 100, changed at random; digits come with shares of two labels.

    Digits are shifted in time, masked for up to 10 frames and mixed in pairs, and each coefficient
    is scaled and moved, as other voices would: chosen by training on two of the four speakers and
    testing on the other two. Images are shifted and mirrored.
    """

    def __init__(self, task: Task, seed: int) -> None:
        self.inputs, self.labels = task.data("train")
        self.spoken = task.spoken
        self.count = task.images or len(self.labels)
        self.dice = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        """Batches in an epoch."""
        return len(range(0, self.count, 100))

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


def run(task: Task, variant: str, seed: int) -> Record:
    """Accuracy in percent, and CPU seconds of the training."""
    torch.manual_seed(seed)
    inputs, labels = task.data("test")
    model = from_torch(task.module(), inputs[:1].float())
    loader, training = Augmented(task, seed), task.training(variant, seed)
    begin = time.process_time()
    if variant == UNCUT:
        network = Network(model)
        trainer = Trainer(Still(network), loader, training, None)
        for epoch in range(training.epochs):
            trainer.run_epoch(epoch)
    else:
        depth = Depth(tensor=task.cut, unfreeze=VARIANTS[variant][0])
        network = fit_depth(model, loader, None, training, depth).network
    seconds = time.process_time() - begin
    accuracy = bases.accuracy(network, inputs, labels)
    return {"accuracy": round(accuracy, 2), "cpu_seconds": round(seconds, 1)}


def facts(task: Task) -> Record:
    """The base's accuracy, and the size of the network before and after the cut."""
    inputs, labels = task.data("test")
    module = task.module()
    model = from_torch(module, inputs[:1].float())
    shorter = cut_depth(model, task.cut, Head.parse("dscnn32_16", 10, softmax=False))
    costs = {"uncut": cost_of(model, "cortex-m0"), "cut": cost_of(shorter, "cortex-m0")}
    sizes = {name: {"params": c.parameters, "macs": c.macs} for name, c in costs.items()}
    return {"title": task.title, "base": round(bases.accuracy(module, inputs, labels), 2), **sizes}


def results() -> Record:
    """The figures so far."""
    if not RESULTS.exists():
        return {}
    found: Record = json.loads(RESULTS.read_text(encoding="utf-8"))
    return found


def table(record: Record) -> str:
    """A row a variant: mean accuracy, its spread, the change against the base, CPU seconds."""
    lines = []
    for found in record.values():
        shares = [found["cut"][name] / found["uncut"][name] for name in ("params", "macs")]
        lines += [
            f"{found['title']}: {shares[0]:.0%} of the parameters, {shares[1]:.0%} of the MACs; "
            f"the base has {found['base']:.1f} %",
            "",
            "| training | seeds | accuracy | spread | against the base | CPU s |",
            "|---|---:|---:|---:|---:|---:|",
        ]
        for variant, seeds in found["runs"].items():
            scores = [one["accuracy"] for one in seeds.values()]
            middle = mean(scores)
            spread = f"{min(scores):.1f} to {max(scores):.1f}"
            seconds = mean(one["cpu_seconds"] for one in seeds.values())
            change = f"{middle - found['base']:+.1f}"
            cells = (variant, str(len(scores)), f"{middle:.1f}", spread, change, f"{seconds:.0f}")
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def main(names: Sequence[str], seeds: Sequence[int]) -> None:
    """Make what is missing."""
    torch.set_num_threads(1)
    for name, seed, variant in product(names, seeds, VARIANTS):
        known = results().get(name, {}).get("runs", {}).get(variant, {})
        if str(seed) in known:
            continue
        sizes, figures = facts(TASKS[name]), run(TASKS[name], variant, seed)
        print(name, variant, seed, figures, flush=True)
        # Another process may have written meanwhile.
        record = results()
        runs = record.setdefault(name, {**sizes, "runs": {}})["runs"]
        runs.setdefault(variant, {})[str(seed)] = figures
        RESULTS.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(table(results()))


if __name__ == "__main__":
    chosen = sys.argv[1:2] or list(TASKS)
    main(chosen, [int(seed) for seed in sys.argv[2:]] or SEEDS)
