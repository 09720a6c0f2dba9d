"""Pruning to a share of the MACs, beside Torch-Pruning and scaled widths, in one run.

    python benchmarks/prune_budget.py              # all runs that results/prune_budget.json lacks
    python benchmarks/prune_budget.py ds_cnn 0     # those of one network and one seed

Every variant has the same base, data, recipe and CPU seconds (one thread), those of pruning and
fine-tuning together: the recipe goes by the clock. Variants: our pruner, with and without the
unpruned network as a teacher; Torch-Pruning at its strongest here (uniform group-L2 for ResNet-8,
global group-L2 for DS-CNN; facts measured before), with and without the same teacher; the widths of
uniform scaling trained from scratch. All remove channels only, no branches. Those settings that
differ from the defaults for the images were chosen on training images that were held out, with one
run each. Where a task asks for it, the distilled variants have twice the time as well. Needs
torch-pruning (the extra `peers`).
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import bases
import torch
import torch_pruning
from budget_table import RESULTS, results, table
from budget_tasks import TASKS, Task
from torch import Tensor, nn
from torch.nn import functional

from mcugraph.cost import cost_of
from mcugraph.prune.export import from_torch
from mcugraph.prune.pruner import BudgetPruner

SEEDS = (0, 1, 2)
VARIANTS = (
    "mcugraph",
    "mcugraph, distilled",
    "Torch-Pruning",
    "Torch-Pruning, distilled",
    "scaled widths from scratch",
)
TWICE = ", twice as long"
LONGER = tuple(variant + TWICE for variant in VARIANTS if "distilled" in variant)


class Clock:
    """CPU seconds of this process since it was made, as a share of what a run may take."""

    def __init__(self, seconds: float) -> None:
        self._start = time.process_time()
        self._seconds = seconds

    @property
    def spent(self) -> float:
        """CPU seconds."""
        return time.process_time() - self._start

    @property
    def share(self) -> float:
        """1 when all is spent."""
        return self.spent / self._seconds


class Average:
    """A running average of weights and statistics, kept from 60 % of a run on.

    It begins again where channels went.
    """

    def __init__(self, decay: float) -> None:
        self._decay = decay
        self._values: dict[str, Tensor] = {}

    @torch.no_grad()
    def add(self, model: nn.Module) -> None:
        """Take in the present values."""
        for name, value in model.state_dict().items():
            known = self._values.get(name)
            if known is None or known.shape != value.shape:
                self._values[name] = value.detach().clone()
            elif value.is_floating_point():
                known.lerp_(value.detach(), 1 - self._decay)

    def put(self, model: nn.Module) -> None:
        """Give a model the average."""
        if self._values:
            model.load_state_dict(self._values)


class Teacher:
    """What the unpruned network says of the training data, as class probabilities.

    Of an image it is asked once: what it says of that also goes for its mirror.
    """

    def __init__(self, task: Task, base: nn.Module) -> None:
        self._temperature = task.temperature
        self._once = task.name == "resnet8"
        self._base = base.to(memory_format=torch.channels_last) if self._once else base
        self._said: dict[int, Tensor] = {}

    @torch.no_grad()
    def __call__(self, x: Tensor, chosen: Tensor) -> Tensor:
        """Probabilities [n, classes] at the temperature, for the inputs of these numbers."""
        if not self._once:
            return self._told(x)
        numbers = chosen.tolist()
        new = [place for place, number in enumerate(numbers) if number not in self._said]
        if new:
            self._said.update(
                zip((numbers[place] for place in new), self._told(x[new]), strict=True)
            )
        return torch.stack([self._said[number] for number in numbers])

    def _told(self, x: Tensor) -> Tensor:
        return functional.softmax(self._base(x).float() / self._temperature, 1)


@dataclass(frozen=True)
class Run:
    """One training: of what, with which help, and for how long."""

    model: nn.Module
    pruner: BudgetPruner | None
    teacher: Teacher | None
    clock: Clock
    seed: int


def run(task: Task, share: float, variant: str, seed: int) -> dict[str, Any]:
    """Prune and train one variant; what is left of the MACs, and how good it is."""
    torch.manual_seed(seed)
    clock = Clock(task.seconds[share] * (1 + (TWICE in variant)))
    base = task.base()
    macs = _macs(base, task.example)
    model, pruner = _pruned(task, variant, share, macs)
    teacher = Teacher(task, base.eval()) if "distilled" in variant else None
    _train(task, Run(model, pruner, teacher, clock, seed))
    spent = clock.spent
    exported = from_torch(model, task.example) if pruner is None else pruner.network.to_onnx()
    images, labels = task.data("test")
    cost = cost_of(exported, "cortex-m0")
    return {
        "accuracy": round(bases.accuracy(model, images, labels), 2),
        "macs": cost.macs,
        "share": round(cost.macs / macs, 4),
        "parameters": cost.parameters,
        "arena": cost.ram,
        "seconds": round(spent, 1),
    }


def _pruned(
    task: Task, variant: str, share: float, macs: int
) -> tuple[nn.Module, BudgetPruner | None]:
    limit = int(macs * share)
    if variant.startswith("mcugraph"):
        budget, rules = f"macs={limit}", task.rules(share)
        model = task.base().train()
        pruner = BudgetPruner(model, task.example, budget, task.schedule, rules=rules)
        return pruner.network, pruner
    model = _thinned(task, limit, uniform=task.name == "resnet8" or "scratch" in variant)
    if "scratch" in variant:
        for part in model.modules():
            if hasattr(part, "reset_parameters"):
                part.reset_parameters()
    return model, None


def _thinned(task: Task, macs: int, *, uniform: bool) -> nn.Module:
    """Torch-Pruning by group-L2, step by step until the compiler's count is met."""
    model = task.base()
    tool = torch_pruning.pruner.MagnitudePruner(
        model,
        task.example,
        importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
        global_pruning=not uniform,
        pruning_ratio=0.95,
        iterative_steps=190,
        ignored_layers=[model.fc],
    )
    while _macs(model, task.example) > macs:
        tool.step()
    return model.train()


def _macs(model: nn.Module, example: Tensor) -> int:
    """Multiply-accumulates as the compiler counts them: of weights, and of the mean at the end."""
    counts = []

    def count(part: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        pixels = output.numel() // part.weight.shape[0]
        counts.append(part.weight.numel() * pixels)
        if isinstance(part, nn.Conv2d):
            last[:] = [output.numel()]

    last = [0]
    hooks = [
        part.register_forward_hook(count)
        for part in model.modules()
        if isinstance(part, nn.Conv2d | nn.Linear)
    ]
    model.eval()(example)
    for hook in hooks:
        hook.remove()
    return sum(counts) + last[0]


def _train(task: Task, run: Run) -> None:
    """By the clock, but not before all channels went that have to go."""
    model, pruner = run.model.train(), run.pruner
    if task.name == "resnet8":
        model.to(memory_format=torch.channels_last)
    optimizer, average = task.optimizer(model), Average(task.average)
    rate = optimizer.param_groups[0]["lr"]
    last = 0 if pruner is None else task.schedule.end * task.schedule.steps
    for step, (chosen, x, y) in enumerate(_batches(task, run.seed)):
        done = run.clock.share
        if done >= 1 and step >= last:
            break
        for group in optimizer.param_groups:
            group["lr"] = rate * max(min(1.0, done / 0.1 + 1e-3) * (1 - done), 1e-3)
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=task.name == "resnet8"):
            out = model(x).float()
            told = None if run.teacher is None else run.teacher(x, chosen)
            loss = _loss(task, out, y, told)
        (loss if pruner is None else loss + pruner.loss()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 2.0)
        optimizer.step()
        if pruner is not None:
            pruner.step()
        if done > 0.6:
            average.add(model)
    average.put(model)
    if pruner is not None:
        pruner.close()


def _loss(task: Task, out: Tensor, y: Tensor, told: Tensor | None) -> Tensor:
    """Cross entropy, and the distance from what the teacher told."""
    hard = functional.cross_entropy(out, y)
    if told is None:
        return hard
    own = functional.log_softmax(out / task.temperature, 1)
    soft = functional.kl_div(own, told, reduction="batchmean") * task.temperature**2
    return (1 - task.distil) * hard + task.distil * soft


def _batches(task: Task, seed: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """(numbers, inputs, labels), epoch after epoch."""
    inputs, labels = task.data("train")
    random = torch.Generator().manual_seed(seed)
    while True:
        for chosen in torch.randperm(len(labels), generator=random).split(task.batch):
            yield chosen, task.augmented(inputs[chosen], random), labels[chosen]


def main(arguments: list[str]) -> None:
    """Run what is missing, in the order of the seeds."""
    torch.set_num_threads(1)
    names = arguments[:1] or list(TASKS)
    seeds = [int(seed) for seed in arguments[1:]] or list(SEEDS)
    for seed in seeds:
        for task in (TASKS[name] for name in names):
            task.data("train"), task.data("test")
            for share in task.seconds:
                for variant in VARIANTS + LONGER * (share in task.longer):
                    _once(task, share, variant, seed)
    print(table())


def _once(task: Task, share: float, variant: str, seed: int) -> None:
    place = results().get(task.name, {}).get(str(share), {}).get(variant, {})
    if str(seed) in place:
        return
    found = run(task, share, variant, seed)
    print(task.name, share, variant, seed, found, flush=True)
    known = results()
    known.setdefault(task.name, {}).setdefault(str(share), {}).setdefault(variant, {})[
        str(seed)
    ] = found
    RESULTS.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
