"""Several processes that train one network together, each with its share of every batch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, distributed


@contextmanager
def joined() -> Iterator[None]:
    """Within this context, the processes that torchrun started know of each other."""
    if distributed.is_initialized() or int(os.environ.get("WORLD_SIZE", "1")) < 2:
        yield
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    # Tensors of the processor go through gloo, those of GPUs through nccl.
    distributed.init_process_group()
    try:
        yield
    finally:
        distributed.destroy_process_group()


def rank() -> int:
    """Which of the processes this one is."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def world() -> int:
    """How many processes there are."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def summed(value: Tensor) -> Tensor:
    """The sum over all processes."""
    if world() > 1:
        value = value.clone()
        distributed.all_reduce(value)
    return value


def average(value: Tensor) -> None:
    """The mean over all processes, in place."""
    if world() > 1:
        distributed.all_reduce(value)
        value /= world()


def gathered(value: Any) -> list[Any]:
    """The values of all processes, in their order."""
    if world() == 1:
        return [value]
    found: list[Any] = [None] * world()
    distributed.all_gather_object(found, value)
    return found
