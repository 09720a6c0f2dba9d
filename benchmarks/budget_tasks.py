"""What is pruned to a share of its MACs: networks, data, and how they are trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import bases
import torch
from torch import Tensor, nn

from mcugraph.prune.rules import Rules, Schedule


@dataclass(frozen=True)
class Task:
    """A network, its data and its recipe; `seconds` by the share of MACs that is left."""

    name: str
    base: Callable[[], nn.Module]
    example: Tensor
    data: Callable[[str], tuple[Tensor, Tensor]]
    batch: int
    distil: float
    average: float
    rules: Rules
    schedule: Schedule
    seconds: dict[float, float]

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """AdamW for the digits, SGD for the images."""
        if self.name == "ds_cnn":
            return torch.optim.AdamW(model.parameters(), 1e-3)
        return torch.optim.SGD(model.parameters(), 0.05, 0.9, weight_decay=1e-4)

    def augmented(self, x: Tensor, random: torch.Generator) -> Tensor:
        """Digits shifted in time with some noise, images mirrored by chance."""
        if self.name == "ds_cnn":
            shift = int(torch.randint(-4, 5, (1,), generator=random))
            return torch.roll(x, shift, 2) + 0.05 * torch.randn(x.shape, generator=random)
        x = x.float()
        mirrored = torch.rand(len(x), generator=random) < 0.5
        x[mirrored] = x[mirrored].flip(3)
        return x.contiguous(memory_format=torch.channels_last)


TASKS = {
    "ds_cnn": Task(
        "ds_cnn",
        bases.ds_cnn,
        torch.zeros(1, 1, 49, 10),
        bases.digits,
        batch=100,
        distil=0.9,
        average=0.95,
        rules=Rules(),
        schedule=Schedule(280, events=6, end=0.5),
        seconds={0.49: 18, 0.24: 14},
    ),
    "resnet8": Task(
        "resnet8",
        bases.resnet8,
        torch.zeros(1, 3, 32, 32),
        bases.cifar,
        batch=256,
        distil=0.5,
        average=0.97,
        rules=Rules(floor=0.4),
        schedule=Schedule(300, events=4, end=0.05),
        seconds={0.48: 37, 0.22: 29},
    ),
}
