"""What stays of each weight when channels go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mcugraph.passes.channels import Channels


def kept_places(
    channels: Channels, left: Sequence[Sequence[int]], values: Mapping[str, Tensor]
) -> dict[str, dict[int, Tensor]]:
    """The indices that stay along each axis of each weight and statistic."""
    gone: dict[tuple[str, int], set[int]] = {}
    for group, kept in zip(channels.groups, left, strict=True):
        for channel in set(range(group.width)) - set(kept):
            for place, held in zip(group.places, group.channels[channel], strict=True):
                gone.setdefault((place.name, place.axis), set()).update(held)
    found: dict[str, dict[int, Tensor]] = {}
    for (name, axis), indices in gone.items():
        if name in values:
            length = values[name].shape[axis]
            stay = [index for index in range(length) if index not in indices]
            found.setdefault(name, {})[axis] = torch.tensor(stay)
    return found
