"""What is left of a torch network when channels are zeroed: the oracle of channel removal.

It works on torch's modules alone: a channel is zeroed where its layer, with the normalisation and
activation that follow, hands it on, and torch itself shows which later layers then read zeros.
"""

import copy
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from prunable import Unit
from torch import Tensor, nn

LAYERS = (nn.Conv2d, nn.Linear, nn.GRU, nn.LayerNorm)
Gone = Mapping[str, Sequence[int]]


@dataclass(frozen=True)
class Layer:
    """A layer with weights: the outputs that are masked, the inputs that are then always zero.

    `positions` is how often the weights are used for one inference.
    """

    module: Any
    outputs: tuple[int, ...]
    inputs: tuple[int, ...]
    positions: int

    @property
    def parameters(self) -> int:
        """What removal leaves; the normalisation after a convolution folds into one bias each."""
        if isinstance(self.module, nn.LayerNorm):
            return 2 * (self.module.weight.numel() - len(self.inputs))
        if isinstance(self.module, nn.GRU):
            return self._weights + 6 * (self.module.hidden_size - len(self.outputs))
        return self._weights + len(self.module.weight) - len(self.outputs)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one inference."""
        return self._weights * self.positions

    @property
    def _weights(self) -> int:
        if isinstance(self.module, nn.LayerNorm):
            return 0
        if isinstance(self.module, nn.GRU):
            hidden = self.module.hidden_size - len(self.outputs)
            return 3 * hidden * (self.module.input_size - len(self.inputs) + hidden)
        weight = self.module.weight
        groups = getattr(self.module, "groups", 1)
        outputs, window = len(weight) - len(self.outputs), weight[0, 0].numel()
        if groups > 1 and groups == len(weight):
            return int(outputs * window)
        inputs, rest = divmod(weight.shape[1] * groups - len(self.inputs), groups)
        assert not rest, "one group of a convolution lost more inputs than another"
        return int(outputs * inputs * window)


def masked(net: nn.Module, x: Tensor, gone: Gone) -> tuple[Tensor, dict[str, Layer]]:
    """The outputs with the channels `gone` of each named layer zeroed, and what all layers are."""
    own = copy.deepcopy(net)
    for name, channels in gone.items():
        _mask(own, name, list(channels))
    with torch.no_grad():
        y = own(x)
    zeros, positions = _observed(own, x[:2])
    return y, {
        name: Layer(own.get_submodule(name), tuple(gone.get(name, ())), zeros[name], count)
        for name, count in positions.items()
    }


def _mask(net: nn.Module, name: str, channels: list[int]) -> None:
    layer = net.get_submodule(name)
    if isinstance(layer, nn.GRU):
        _mute(layer, channels)
        return
    owner = net.get_submodule(name.rpartition(".")[0])
    axis = 1 if isinstance(layer, nn.Conv2d) else -1
    place = owner if isinstance(owner, Unit) else layer
    index = torch.tensor(channels, dtype=torch.int64)
    place.register_forward_hook(lambda module, args, y: y.index_fill(axis, index, 0))


def _mute(gru: nn.GRU, units: list[int]) -> None:
    """Zero all that feeds these units: their candidate is tanh(0), and they stay at zero."""
    rows = [gate * gru.hidden_size + unit for gate in range(3) for unit in units]
    with torch.no_grad():
        for parameter in gru.parameters():
            parameter[rows] = 0


def _observed(net: nn.Module, x: Tensor) -> tuple[dict[str, tuple[int, ...]], dict[str, int]]:
    """The input channels of each layer that are zero throughout, and its positions.

    Every ReLU is taken away: what is zero then is so because of a mask, not by chance.
    """
    zeros: dict[str, tuple[int, ...]] = {}
    positions: dict[str, int] = {}

    def observe(name: str, layer: nn.Module, given: Tensor, made: Any) -> None:
        axis = 1 if isinstance(layer, nn.Conv2d) else -1
        flat = given.movedim(axis, 0).flatten(1)
        zeros[name] = tuple((flat == 0).all(1).nonzero().flatten().tolist())
        made = made[0] if isinstance(layer, nn.GRU) else made
        positions[name] = made.numel() // made.shape[axis] // len(x)

    bare = copy.deepcopy(net)
    for name, part in [*bare.named_modules()]:
        if isinstance(part, nn.ReLU):
            bare.set_submodule(name, nn.Identity())
        if isinstance(part, LAYERS):
            hook = functools.partial(observe, name)
            part.register_forward_hook(lambda part, args, y, hook=hook: hook(part, args[0], y))
    with torch.no_grad():
        bare(x)
    return zeros, positions
