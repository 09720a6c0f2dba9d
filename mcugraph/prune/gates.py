"""One gate a channel, which its readers multiply it by, and one a branch: a zero removes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from mcugraph.prune.readers import Reader, Scale


class Gates:
    """Trained factors, 1 at first and from 0 to 1: of each group's channels, and of branches.

    w'[.., c, ..] = g_c w[.., c, ..] for every weight w that reads channel c; a channel counts as
    g_c of one, so that what the network takes of a resource is differentiable in its gates. The
    gate of a branch multiplies all weights of its scale; without any it stays open.
    """

    def __init__(
        self,
        readers: Sequence[Sequence[Reader]],
        widths: Sequence[int],
        device: torch.device,
        scales: Sequence[Scale] = (),
    ) -> None:
        self.readers = readers
        self.scales = scales
        self.values = [torch.ones(n, device=device, requires_grad=True) for n in widths]
        held = [bool(scale.weights) for scale in scales]
        self.branches = [torch.ones((), device=device, requires_grad=moves) for moves in held]

    @property
    def all(self) -> list[Tensor]:
        """Those of channels, then those of branches."""
        return [*self.values, *self.branches]

    def counts(self) -> Tensor:
        """n_g = sum_c g_c, differentiable."""
        if not self.values:
            return torch.zeros(0, dtype=torch.float64)
        return torch.stack([gate.sum() for gate in self.values]).double().cpu()

    def apply_to(self, weights: dict[str, Tensor]) -> None:
        """Replace each reader's weight by the gated one."""
        for readers, gate in zip(self.readers, self.values, strict=True):
            for reader in readers:
                weights[reader.weight] = gated(weights[reader.weight], reader, gate)
        for scale, gate in zip(self.scales, self.branches, strict=True):
            for name in scale.weights:
                weights[name] = weights[name] * gate

    @torch.no_grad()
    def descend(self, rate: float) -> None:
        """One step down the gradients, within [0, 1]; the gradients are then forgotten.

        The gate of a branch moves as one of its channels would.
        """
        rates = [rate] * len(self.values) + [rate / scale.width for scale in self.scales]
        for gate, own in zip(self.all, rates, strict=True):
            if gate.grad is not None:
                gate.sub_(gate.grad, alpha=own).clamp_(0, 1)
                gate.grad = None

    @torch.no_grad()
    def fold(self, weights: Mapping[str, nn.Parameter]) -> None:
        """Multiply the gates into the weights for good; all are open again."""
        for readers, gate in zip(self.readers, self.values, strict=True):
            for reader in readers:
                weights[reader.weight].copy_(gated(weights[reader.weight], reader, gate))
        for scale, gate in zip(self.scales, self.branches, strict=True):
            for name in scale.weights:
                weights[name].mul_(gate)
        for gate in self.all:
            gate.fill_(1)


def gated(weight: Tensor, reader: Reader, gate: Tensor) -> Tensor:
    """A weight whose slices along the axis of a reader are multiplied by their channels' gates."""
    index = reader.index.to(gate.device)
    spread = gate.unsqueeze(1).expand(index.shape).reshape(-1)
    factors = gate.new_ones(weight.shape[reader.axis]).index_copy(0, index.reshape(-1), spread)
    shape = [-1 if axis == reader.axis else 1 for axis in range(weight.dim())]
    return weight * factors.reshape(shape).to(weight.dtype)
