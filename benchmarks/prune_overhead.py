"""What pruning adds to an epoch, and what it takes off once the network has shrunk.

    python benchmarks/prune_overhead.py     # all repetitions that results/prune_overhead.json lacks

Three networks are trained in turns, an epoch each: the torch module as it is, and what a default
BudgetPruner makes of it for half of its MACs and for half of its RAM, which asks for plans and for
compiled code. Loader, loss and optimiser are the same; there is no teacher. CPU seconds of one
thread, those of the compiler among them. A run has 20 epochs, as `fit` has by default; an epoch of
the images has only 5,120 of them, which makes events weigh ten times what they would with all.
"""

from __future__ import annotations

import json
import resource
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from budget_table import OVERHEAD, PLAIN, overhead, overhead_table
from budget_tasks import TASKS, Task
from torch import Tensor, nn
from torch.nn import functional

from mcugraph.cost import cost_of
from mcugraph.prune.export import from_torch
from mcugraph.prune.pruner import BudgetPruner
from mcugraph.prune.rules import Schedule

REPETITIONS, EPOCHS = 3, 20
BATCH = {"ds_cnn": 100, "resnet8": 256}
IMAGES = {"ds_cnn": 2000, "resnet8": 5120}
BUDGETS = ("macs", "ram")


@dataclass
class Course:
    """One network in training."""

    task: Task
    model: nn.Module
    pruner: BudgetPruner | None
    optimizer: torch.optim.Optimizer
    random: torch.Generator

    def run_epoch(self) -> float:
        """CPU seconds of an epoch."""
        begin = seconds()
        for x, y in self._batches():
            self.optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=self.task.name == "resnet8"):
                loss = functional.cross_entropy(self.model(x).float(), y)
            if self.pruner is not None:
                loss = loss + self.pruner.loss()
            loss.backward()
            self.optimizer.step()
            if self.pruner is not None:
                self.pruner.step()
        return seconds() - begin

    def _batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        inputs, labels = self.task.data("train")
        order = torch.randperm(len(labels), generator=self.random)[: IMAGES[self.task.name]]
        for chosen in order.split(BATCH[self.task.name]):
            yield self.task.augmented(inputs[chosen], self.random), labels[chosen]


def seconds() -> float:
    """CPU seconds of this process and of those that it has run."""
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in both)


def run(task: Task, seed: int) -> dict[str, Any]:
    """CPU seconds of each epoch, by budget, and of what a pruner does before the first one."""
    torch.manual_seed(seed)
    task.data("train")
    cost = cost_of(from_torch(task.base(), task.example), "cortex-m0", measured=True)
    limits = {budget: f"{budget}={getattr(cost, budget) // 2}" for budget in BUDGETS}
    courses, setups = {PLAIN: _course(task, None, seed)}, {}
    for budget, limit in limits.items():
        begin = seconds()
        courses[budget] = _course(task, limit, seed)
        setups[budget] = round(seconds() - begin, 2)
    epochs: dict[str, list[float]] = {name: [] for name in courses}
    for _ in range(EPOCHS):
        for name, course in courses.items():
            epochs[name].append(round(course.run_epoch(), 3))
    return {"epochs": epochs, "setup": setups}


def _course(task: Task, limit: str | None, seed: int) -> Course:
    model, pruner = task.base().train(), None
    if limit is not None:
        steps = EPOCHS * -(-IMAGES[task.name] // BATCH[task.name])
        pruner = BudgetPruner(model, task.example, limit, Schedule(steps))
        model = pruner.network
    if task.name == "resnet8":
        model.to(memory_format=torch.channels_last)
    random = torch.Generator().manual_seed(seed)
    return Course(task, model, pruner, task.optimizer(model), random)


def main() -> None:
    """Run what is missing."""
    torch.set_num_threads(1)
    for seed in range(REPETITIONS):
        for task in TASKS.values():
            if str(seed) not in overhead().get(task.name, {}):
                found = run(task, seed)
                known = overhead()
                known.setdefault(task.name, {})[str(seed)] = found
                OVERHEAD.write_text(json.dumps(known) + "\n", encoding="utf-8")
    print(overhead_table())


if __name__ == "__main__":
    main()
