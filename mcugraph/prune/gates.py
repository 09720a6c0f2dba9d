"""One gate a channel: its readers take each channel times its gate, so a zero removes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from mcugraph.prune.readers import Reader


class Gates:
    """Trained factors, 1 at first and from 0 to 1, one for each channel of each group.

    w'[.., c, ..] = g_c w[.., c, ..] for every weight w that reads channel c; a channel counts as
    g_c of one, so that what the network takes of a resource is differentiable in its gates.
    """

    def __init__(
        self, readers: Sequence[Sequence[Reader]], widths: Sequence[int], device: torch.device
    ) -> None:
        self.readers = readers
        self.values = [torch.ones(n, device=device, requires_grad=True) for n in widths]

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

    @torch.no_grad()
    def descend(self, rate: float) -> None:
        """One step down the gradients, within [0, 1]; the gradients are then forgotten."""
        for gate in self.values:
            if gate.grad is not None:
                gate.sub_(gate.grad, alpha=rate).clamp_(0, 1)
                gate.grad = None

    @torch.no_grad()
    def fold(self, weights: Mapping[str, nn.Parameter]) -> None:
        """Multiply the gates into the weights for good; all are open again."""
        for readers, gate in zip(self.readers, self.values, strict=True):
            for reader in readers:
                weights[reader.weight].copy_(gated(weights[reader.weight], reader, gate))
            gate.fill_(1)


def gated(weight: Tensor, reader: Reader, gate: Tensor) -> Tensor:
    """A weight whose slices along the axis of a reader are multiplied by their channels' gates."""
    index = reader.index.to(gate.device)
    spread = gate.unsqueeze(1).expand(index.shape).reshape(-1)
    factors = gate.new_ones(weight.shape[reader.axis]).index_copy(0, index.reshape(-1), spread)
    shape = [-1 if axis == reader.axis else 1 for axis in range(weight.dim())]
    return weight * factors.reshape(shape).to(weight.dtype)
