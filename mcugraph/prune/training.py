"""The training loop: a task loss, what the unpruned network says, and a pruner's own loss."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from mcugraph.prune.history import Epoch
from mcugraph.prune.network import Network
from mcugraph.prune.processes import summed, world

Loss = Callable[[Any, Any], Tensor]
# Where nothing is said: how often, in batches, a network is compared with the unpruned one, and the
# most that this counts, which is what the labels count.
COMPARED, MOST = 20, 0.5
# The share of all steps in which the learning rate rises.
WARM = 0.05


class Loader(Protocol):
    """A DataLoader, or a list of batches: each (inputs..., target), tensors of n rows."""

    def __iter__(self) -> Iterator[Any]:
        """One epoch."""

    def __len__(self) -> int:
        """Batches in an epoch."""


def distance(ours: Tensor, theirs: Tensor, heat: float) -> Tensor:
    """t^2 KL(softmax(theirs / t) | softmax(ours / t)), the mean over a batch [n, classes]."""
    own, wanted = (functional.log_softmax(each.float() / heat, 1) for each in (ours, theirs))
    return heat**2 * functional.kl_div(own, wanted, reduction="batchmean", log_target=True)


def adamw(parameters: Iterable[nn.Parameter]) -> Optimizer:
    """AdamW at 2e-3."""
    return AdamW(parameters, 2e-3, weight_decay=1e-3)


def cosine(optimizer: Optimizer, steps: int) -> LRScheduler:
    """Up in the first steps, then down to nothing along a cosine."""
    warm = max(1, round(WARM * steps))

    def factor(step: int) -> float:
        return min((step + 1) / warm, (1 + math.cos(math.pi * min(step / steps, 1))) / 2)

    return LambdaLR(optimizer, factor)


def _quiet(epoch: Epoch) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class Training:
    """How a network is trained; everything but the data has a default.

    `loss(outputs, target)` is the task's. `scheduler(optimizer, steps)` is stepped with each batch.
    `clip` bounds the norm of the gradient. `distil` is the share of the loss that is the distance
    from the unpruned network's class probabilities at `temperature`; None is the share by which the
    cross entropy of that network is below the trained one's, on the batches of training, a half at
    most, and 0 for other losses. `evaluate` is a loader of class labels, or a
    function of the network whose result is better the higher. `calibration` is for quantisation,
    `example` for the export; both come from the training data where they are not given.
    `checkpoint` is a file to go on from; `progress` hears of each epoch.
    """

    epochs: int = 20
    loss: Loss = functional.cross_entropy
    optimizer: Callable[[Iterable[nn.Parameter]], Optimizer] = adamw
    scheduler: Callable[[Optimizer, int], LRScheduler] = cosine
    clip: float | None = 2.0
    distil: float | None = None
    temperature: float = 4.0
    evaluate: Loader | Callable[[Network], float] | None = None
    calibration: Loader | None = None
    example: Any = None
    seed: int = 0
    device: str = "cpu"
    autocast: torch.dtype | None = None
    channels_last: bool = False
    checkpoint: str | Path | None = None
    progress: Callable[[Epoch], None] = _quiet

    def __post_init__(self) -> None:
        """Refuse what can't be meant, all of it at once."""
        problems = []
        if self.epochs < 1:
            problems.append(f"epochs={self.epochs}: at least 1")
        if self.distil is not None and not 0 <= self.distil <= 1:
            problems.append(f"distil={self.distil}: a share of the loss, from 0 to 1")
        if self.temperature <= 0:
            problems.append(f"temperature={self.temperature}: above 0")
        if self.clip is not None and self.clip <= 0:
            problems.append(f"clip={self.clip}: above 0, or None")
        if problems:
            raise ValueError("\n".join(problems))


class Pruner(Protocol):
    """What shrinks a network while it is trained."""

    network: Network

    def loss(self) -> Tensor:
        """What is added to the task's loss."""

    def step(self) -> None:
        """After each step of the optimiser."""


class Still:
    """A network that keeps its shape."""

    def __init__(self, network: Network) -> None:
        self.network = network

    def loss(self) -> Tensor:
        """Nothing."""
        return torch.zeros(())

    def step(self) -> None:
        """Nothing."""


class Trainer:
    """One training of a pruner's network: `run_epoch` until `training.epochs` are done."""

    def __init__(
        self, pruner: Pruner, loader: Loader, training: Training, teacher: Network | None
    ) -> None:
        self.pruner = pruner
        self._loader = loader
        self._training = training
        self._device = torch.device(training.device)
        self._teacher = None if teacher is None else teacher.to(self._device).eval()
        self._taught = teacher is not None
        self.distil = training.distil or 0.0
        self.optimizer = training.optimizer(pruner.network.parameters())
        self.scheduler = training.scheduler(self.optimizer, training.epochs * len(loader))
        self._own: list[nn.Parameter] = []
        self._module: nn.Module = pruner.network
        self._batch = 0

    def run_epoch(self, number: int) -> float:
        """Train on every batch once; the mean loss of all processes.

        Raises ValueError where it is not a number any more.
        """
        begin = getattr(getattr(self._loader, "sampler", None), "set_epoch", None)
        if begin is not None:
            begin(number)
        self.pruner.network.train()
        self._batch = 0
        total = torch.zeros(2, device=self._device, dtype=torch.float64)
        for batch in self._loader:
            inputs, target = moved(batch, self._training)
            rows = len(inputs[0])
            total += torch.stack([self._step(inputs, target) * rows, total.new_tensor(rows)])
        loss, rows = summed(total).tolist()
        if not rows:
            raise ValueError("the loader gives no batch")
        if not math.isfinite(loss):
            raise ValueError(
                f"the loss is {loss} after epoch {number + 1}: lower the learning rate or clip"
            )
        return float(loss / rows)

    def score(self, network: Network) -> float | None:
        """What the evaluation says of a network."""
        return score_of(network, self._training)

    def state(self) -> dict[str, Any]:
        """What training has changed, beside the pruner."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "distil": self.distil,
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.distil = state["distil"]

    def _step(self, inputs: Sequence[Tensor], target: Any) -> Tensor:
        self.optimizer.zero_grad(set_to_none=True)
        with computing(self._training):
            loss = self._loss(self._wrapped()(*inputs), inputs, target)
        (loss + self.pruner.loss().to(loss.device)).backward()
        if self._training.clip is not None:
            nn.utils.clip_grad_norm_(self.pruner.network.parameters(), self._training.clip)
        self.optimizer.step()
        self.scheduler.step()
        self.pruner.step()
        self._batch += 1
        return loss.detach().double()

    def _loss(self, outputs: Any, inputs: Sequence[Tensor], target: Any) -> Tensor:
        """(1 - d) task + d t^2 KL(softmax(teacher / t) | softmax(outputs / t))."""
        task = self._task(outputs, target)
        if not (self._taught and (self.distil or self._compares())):
            return task
        wanted = self._wanted(outputs, inputs)
        if self._compares():
            self._compare(task, wanted, target)
        if self.distil == 0:
            return task
        return (1 - self.distil) * task + self.distil * self._apart(outputs, wanted)

    def _task(self, outputs: Any, target: Any) -> Tensor:
        return self._training.loss(outputs, target)

    @torch.no_grad()
    def _wanted(self, outputs: Any, inputs: Sequence[Tensor]) -> Any:
        assert self._teacher is not None, "nobody to listen to"
        return self._teacher(*inputs)

    def _apart(self, outputs: Any, wanted: Tensor) -> Tensor:
        return distance(outputs, wanted, self._training.temperature)

    def _compares(self) -> bool:
        """Whether it is time to see which of the two networks knows more."""
        asked = self._training.distil is None and self._training.loss is functional.cross_entropy
        return asked and self._batch % COMPARED == 0

    def _compare(self, task: Tensor, wanted: Any, target: Any) -> None:
        """Listen to the unpruned network by how far its cross entropy is below ours, in shares."""
        both = torch.stack([functional.cross_entropy(wanted, target), task.float()])
        theirs, ours = summed(both.detach()).tolist()
        self.distil = min(MOST, max(0.0, 1 - theirs / ours)) if ours else 0.0

    def _wrapped(self) -> nn.Module:
        """The network, which after each change of its parameters the processes share anew."""
        present = list(self.pruner.network.parameters())
        same = len(present) == len(self._own) and all(map(_is, present, self._own))
        if not same:
            self._own, self._module = present, self.pruner.network
            if world() > 1:
                self._module = DistributedDataParallel(self._module)
        return self._module


@torch.no_grad()
def score_of(network: Network, training: Training) -> float | None:
    """What the evaluation says of a network; None where there is none."""
    evaluate = training.evaluate
    network.eval()
    if evaluate is None:
        return None
    with computing(training):
        if callable(evaluate):
            return float(evaluate(network))
        counts = torch.zeros(2, device=training.device, dtype=torch.float64)
        for batch in evaluate:
            inputs, target = moved(batch, training)
            right = network(*inputs).argmax(1) == target
            counts += torch.tensor([int(right.sum()), right.numel()], device=training.device)
    share, rows = summed(counts).tolist()
    return float(100 * share / max(rows, 1))


@contextmanager
def computing(training: Training) -> Iterator[None]:
    """Within this context, networks compute in the precision that was asked for."""
    kind, device = training.autocast, torch.device(training.device).type
    with torch.autocast(device, dtype=kind, enabled=kind is not None):
        yield


def moved(batch: Any, training: Training) -> tuple[list[Tensor], Any]:
    """(inputs, target) of a batch, on the device; ValueError where it is no such thing."""
    if not isinstance(batch, tuple | list) or len(batch) < 2:
        raise ValueError(f"a batch is a {type(batch).__name__}; give tuples (inputs..., target)")
    *inputs, target = (
        part.to(training.device, non_blocking=True) if isinstance(part, Tensor) else part
        for part in batch
    )
    if training.channels_last:
        inputs = [
            x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x for x in inputs
        ]
    return inputs, target


def _is(one: object, other: object) -> bool:
    return one is other
