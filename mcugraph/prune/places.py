"""What stays of a model, and of each of its weights, when channels and branches go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from onnx import ModelProto
from torch import Tensor

from mcugraph.decision import Decision
from mcugraph.passes import drop_branches
from mcugraph.passes.channels import Channels, find_channels
from mcugraph.passes.remove_channels import kept_indices


class Survivors:
    """What is left of a model: without which branches, and which channels of each group.

    `left` counts channels as the model had them. Groups are those of `model`, which is the
    original without the branches, in the order of a network that has lost the same.
    """

    def __init__(self, original: ModelProto) -> None:
        self.original = original
        self.dropped: tuple[str, ...] = ()
        self._look()
        self.left = [list(range(group.width)) for group in self.channels.groups]

    @property
    def alive(self) -> dict[str, list[int]]:
        """The channels that are left by the names of their groups."""
        groups = self.channels.groups
        return {group.name: own for group, own in zip(groups, self.left, strict=True)}

    def keep(self, chosen: Sequence[Sequence[int]]) -> None:
        """Only these of the channels that are left stay."""
        pairs = zip(self.left, chosen, strict=True)
        self.left = [[own[channel] for channel in kept] for own, kept in pairs]

    def drop(self, branch: str) -> None:
        """A branch goes; what is tied without it may be other groups than before."""
        gone = gone_places(self.channels, self.left)
        self.dropped += (branch,)
        self._look()
        self.left = []
        for group in self.channels.groups:
            lost = [gone.get((place.name, place.axis), set()) for place in group.places]
            self.left.append(
                [
                    number
                    for number, held in enumerate(group.channels)
                    if not any(set(at) & went for at, went in zip(held, lost, strict=True))
                ]
            )

    def decision(self) -> Decision:
        """What was kept of the original, as data."""
        keep, widths = {}, {}
        for group, own in zip(self.channels.groups, self.left, strict=True):
            if len(own) < group.width:
                keep[group.name] = tuple(kept_indices(self.model, group, own))
                widths[group.name] = len(kept_indices(self.model, group, range(group.width)))
        return Decision(keep=keep, widths=widths, drop=self.dropped)

    def state(self) -> dict[str, Any]:
        """All that `load_state` needs."""
        return {"dropped": list(self.dropped), "left": [list(own) for own in self.left]}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self.dropped = tuple(state["dropped"])
        self._look()
        self.left = [list(own) for own in state["left"]]

    def _look(self) -> None:
        self.model = drop_branches(self.original, self.dropped)
        self.channels = find_channels(self.model)


def kept_places(
    channels: Channels, left: Sequence[Sequence[int]], values: Mapping[str, Tensor]
) -> dict[str, dict[int, Tensor]]:
    """The indices that stay along each axis of each weight and statistic."""
    gone = gone_places(channels, left)
    found: dict[str, dict[int, Tensor]] = {}
    for (name, axis), indices in gone.items():
        if name in values:
            length = values[name].shape[axis]
            stay = [index for index in range(length) if index not in indices]
            found.setdefault(name, {})[axis] = torch.tensor(stay)
    return found


def gone_places(
    channels: Channels, left: Sequence[Sequence[int]]
) -> dict[tuple[str, int], set[int]]:
    """The indices that go along each axis of each tensor and weight."""
    gone: dict[tuple[str, int], set[int]] = {}
    for group, kept in zip(channels.groups, left, strict=True):
        for channel in set(range(group.width)) - set(kept):
            for place, held in zip(group.places, group.channels[channel], strict=True):
                gone.setdefault((place.name, place.axis), set()).update(held)
    return gone
