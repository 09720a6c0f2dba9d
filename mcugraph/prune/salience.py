"""What removing a channel costs, and how the weights that read it make up for it.

Surgeon, after Hassibi and Stork's optimal brain surgeon, for a whole channel of a reader with
weight W that reads channels of second moments S = E[x x'], in shares of each output's energy:

    e_c = mean_o [ W_oc^2 / (S^-1)_cc / (W_o S W_o') ],    W <- W - W_c (S^-1)_c. / (S^-1)_cc,

the least error, and the change of the other slices which reaches it. A reader that has lost the
share e of its signal passes 1 - e of it on, so a removal costs the drop of sum log(1 - e). Taylor:
|w_c . dL/dw_c|, the gradient of the gate. Activity: E|x_c|. L2: |w_c|_2 of the readers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mcugraph.prune.readers import Reader

CRITERIA = ("surgeon", "taylor", "activity", "l2")
# Rows of activations that one batch gives to the second moments.
ROWS = 8192
# What keeps their inverse tame, as a share of their mean; and the most that a reader can lose.
RIDGE, MOST = 1e-2, 1 - 1e-9


@dataclass(eq=False)
class Moments:
    """Means over batches of x x' and of |x| over the channels that a reader reads."""

    second: Tensor
    absolute: Tensor
    batches: int = 0

    @classmethod
    def empty(cls, width: int, device: torch.device) -> Moments:
        """Those of no batch yet."""
        return cls(torch.zeros(width, width, device=device), torch.zeros(width, device=device))

    def add(self, source: Tensor, reader: Reader) -> None:
        """Take in what was read from one batch."""
        index = reader.source_index.to(source.device)
        last = source.detach().movedim(reader.source_axis, -1)
        taps = index.shape[1]
        count = last[..., 0].numel() * taps
        chosen = torch.arange(0, count, max(1, count // ROWS), device=source.device)
        places = torch.unravel_index(chosen // taps, last.shape[:-1])
        rows = last[places].gather(1, index[:, chosen % taps].T).float()
        self.batches += 1
        self.second.lerp_(rows.T @ rows / len(rows), 1 / self.batches)
        self.absolute.lerp_(rows.abs().mean(0), 1 / self.batches)


class Surgeon:
    """One reader's view: what each removal costs, kept up to date while channels go.

    `matrix` is the weight as [outputs, taps, channels]; its slices change as others make up for
    what was removed. Nothing does without `compensate`, nor in a grouped convolution, where a slice
    reads several channels.
    """

    def __init__(
        self, weight: Tensor, reader: Reader, moments: Moments, compensate: bool = True
    ) -> None:
        self.reader = reader
        self.matrix = _as_matrix(weight, reader).double()
        second = moments.second.double()
        ridge = RIDGE * second.diagonal().mean() + torch.finfo(torch.float32).tiny
        second = second + ridge * torch.eye(len(second), device=second.device)
        if not (reader.simple and compensate):
            second = second.diagonal().diag()
        self._inverse = torch.linalg.inv(second)
        energy = torch.einsum("otc,cd,otd->o", self.matrix, second, self.matrix)
        self._share = 1 / (energy.clamp(min=1e-30) * len(energy))
        self._lost = 0.0

    def errors(self) -> Tensor:
        """e_c for every channel; meaningless for those that are gone."""
        energy = (self._share[:, None, None] * self.matrix.square()).sum((0, 1))
        found: Tensor = energy / self._inverse.diagonal().clamp(min=1e-30)
        return found

    def losses(self) -> Tensor:
        """What each removal costs now: the drop of log(1 - e)."""
        share: Tensor = self.errors() / (1 - self._lost)
        return -torch.log1p(-share.clamp(max=MOST))

    def remove(self, channel: int) -> None:
        """Let the others make up for a channel."""
        self._lost = min(self._lost + float(self.errors()[channel]), MOST)
        row = self._inverse[channel] / self._inverse[channel, channel]
        self.matrix -= self.matrix[:, :, channel : channel + 1] * row
        self._inverse -= torch.outer(self._inverse[:, channel], row)
        self.matrix[:, :, channel] = 0

    def write(self, weight: Tensor) -> None:
        """Put the slices back where the reader has them."""
        moved = weight.movedim((self.reader.output_axis, self.reader.axis), (0, -1))
        index = self.reader.index.to(weight.device)
        taps = moved.shape[1:-1]
        parts = self.matrix.reshape(len(self.matrix), *taps, index.shape[1], index.shape[0])
        moved[..., index.reshape(-1)] = parts.movedim(-1, -2).flatten(-2).to(weight.dtype)


def _as_matrix(weight: Tensor, reader: Reader) -> Tensor:
    """[outputs, taps * positions, channels]"""
    moved = weight.detach().movedim((reader.output_axis, reader.axis), (0, -1))
    parts = moved[..., reader.index.to(weight.device)].movedim(-1, -2)
    return parts.reshape(len(moved), -1, len(reader.index))


def simple_scores(
    criterion: str,
    weights: Mapping[str, Tensor],
    readers: Sequence[Reader],
    moments: Sequence[Moments],
) -> Tensor:
    """Taylor, activity or L2 salience of each channel of one group."""
    if criterion == "activity":
        return torch.stack([m.absolute for m in moments]).mean(0).double()
    scores = []
    for reader in readers:
        weight = weights[reader.weight]
        matrix = _as_matrix(weight, reader).double()
        if criterion == "l2":
            scores.append(matrix.square().sum((0, 1)))
        elif weight.grad is not None:
            scores.append((matrix * _as_matrix(weight.grad, reader).double()).sum((0, 1)))
    total = torch.stack(scores).sum(0)
    return total.sqrt() if criterion == "l2" else total.abs()
