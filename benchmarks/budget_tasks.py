"""What is pruned to a share of its MACs: networks, data, and how they are trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt

import bases
import torch
from augment import mirrored, other_voices
from torch import Tensor, nn

from mcugraph.prune.rules import Rules, Schedule


@dataclass(frozen=True)
class Task:
    """A network, its data and its recipe; `seconds` by the share of MACs that is left.

    At the shares in `longer`, networks are also trained for twice the time.
    No group of channels gets narrower than `floor` of what uniform scaling would leave of it.
    """

    name: str
    base: Callable[[], nn.Module]
    example: Tensor
    data: Callable[[str], tuple[Tensor, Tensor]]
    batch: int
    distil: float
    temperature: float
    average: float
    floor: float
    schedule: Schedule
    seconds: dict[float, float]
    longer: tuple[float, ...] = ()

    def rules(self, share: float) -> Rules:
        """How channels are chosen where a share of the MACs is left: no branches go."""
        return Rules(floor=self.floor * sqrt(share), branches=False)

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """AdamW for the digits, SGD for the images."""
        if self.name == "ds_cnn":
            return torch.optim.AdamW(model.parameters(), 1e-3)
        return torch.optim.SGD(model.parameters(), 0.05, 0.9, weight_decay=1e-4)

    def augmented(self, x: Tensor, dice: torch.Generator) -> Tensor:
        """Digits as others might speak them, images mirrored by chance."""
        if self.name == "ds_cnn":
            return other_voices(x, dice)
        return mirrored(x, dice).contiguous(memory_format=torch.channels_last)


TASKS = {
    "ds_cnn": Task(
        "ds_cnn",
        bases.ds_cnn,
        torch.zeros(1, 1, 49, 10),
        bases.digits,
        batch=100,
        distil=0.25,
        temperature=2.0,
        average=0.95,
        floor=0.1,
        schedule=Schedule(280, events=6, end=0.5),
        seconds={0.49: 18, 0.24: 14},
    ),
    "resnet8": Task(
        "resnet8",
        bases.resnet8,
        torch.zeros(1, 3, 32, 32),
        bases.cifar,
        batch=128,
        distil=0.25,
        temperature=2.0,
        average=0.97,
        floor=0.85,
        schedule=Schedule(300, events=4, end=0.05),
        seconds={0.485: 37, 0.22: 29},
        longer=(0.485,),
    ),
}
