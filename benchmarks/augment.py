"""Random changes of training data: [n, ...] -> the same, by a generator's next numbers."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

CLASSES = 10
Dice = torch.Generator


def mirrored(images: Tensor, dice: Dice) -> Tensor:
    """Every other image mirrored, by chance, as float."""
    x = images.float()
    chosen = torch.rand(len(x), generator=dice) < 0.5
    x[chosen] = x[chosen].flip(3)
    return x


def moved(images: Tensor, dice: Dice) -> Tensor:
    """All of a batch moved by the same two pixels at most, in each direction."""
    i, j = _upto(4, dice, 2).tolist()
    height, width = images.shape[2:]
    return functional.pad(images, (2, 2, 2, 2))[:, :, i : i + height, j : j + width]


def mixed(inputs: Tensor, labels: Tensor, dice: Dice) -> tuple[Tensor, Tensor]:
    """Each sample with a share of another one, and the shares of both labels [n, classes]."""
    # Uniform to the fourth power has most of its mass at the ends, as mixup wants it.
    share = float(torch.rand((), generator=dice)) ** 4
    other = torch.randperm(len(inputs), generator=dice)
    y = functional.one_hot(labels, CLASSES).float()
    return inputs.lerp(inputs[other], share), y.lerp(y[other], share)


def other_voices(features: Tensor, dice: Dice) -> Tensor:
    """Features [n, 1, frames, coefficients] shifted in time, masked, and as if others spoke.

    Up to 10 frames are masked, and each coefficient is scaled and moved: chosen by training on two
    of the four speakers and testing on the other two.
    """
    count, _, frames, wide = features.shape
    shift = int(_upto(8, dice)) - 4
    x = features.roll(shift, 2) * (1 + 0.2 * _normal(dice, count, 1, 1, wide))
    x = x + 0.6 * _normal(dice, count, 1, 1, wide) + 0.05 * _normal(dice, *x.shape)
    first, time = _upto(frames - 1, dice, count, 1), torch.arange(frames)
    masked = (time >= first) & (time < first + _upto(10, dice, count, 1))
    return x.masked_fill(masked[:, None, :, None], 0.0)


def _normal(dice: Dice, *shape: int) -> Tensor:
    return torch.randn(shape, generator=dice)


def _upto(most: int, dice: Dice, *shape: int) -> Tensor:
    return torch.randint(0, most + 1, shape, generator=dice)
