"""The channel groups of a network and what one channel of each costs, and what can't be pruned."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnx

from mcugraph.cost import Cost, cost_of, draft_of, tensor_name
from mcugraph.errors import UnsupportedError
from mcugraph.optimize import Settings, loaded, model_name
from mcugraph.passes import qoperator_to_qdq
from mcugraph.passes._edit import Edit
from mcugraph.passes.channels import ChannelGroup, Channels, find_channels
from mcugraph.passes.remove_channels import kept_indices, remove_channels
from mcugraph.prune.sizes import sizes_of
from mcugraph.targets import Target
from mcugraph.targets import load as load_target

SCHEMA_VERSION = 1
# The core for which memory is planned where no target is given.
PLANNED_FOR = "cortex-m0"


@dataclass(frozen=True)
class Saving:
    """What the network needs less without one channel; a float network in int8.

    `weights` are bytes of constants (kernels take channels in fours: often nothing, or much), `ram`
    of the planned arena, `at_peak` those that the channel holds at the moment of the highest peak.
    The three are None where a step can't be compiled yet.
    """

    parameters: int
    macs: int
    weights: int | None
    ram: int | None
    at_peak: int | None


@dataclass(frozen=True)
class Group:
    """Channels that go together: weights that make and that read them, tensors that carry them."""

    name: str
    width: int
    producers: tuple[str, ...]
    consumers: tuple[str, ...]
    tensors: tuple[str, ...]
    channel: Saving


@dataclass(frozen=True)
class FixedAxis:
    """An axis of a weight (`role`: input or output) or, without a role, of a tensor that stays."""

    name: str
    axis: int
    role: str
    reason: str


@dataclass(frozen=True)
class Groups:
    """All groups of a network in graph order, and its figures as it is."""

    version: int
    model: str
    target: str
    parameters: int
    macs: int
    weights: int | None
    ram: int | None
    groups: tuple[Group, ...]
    fixed: tuple[FixedAxis, ...]
    uncompiled: tuple[str, ...]

    def as_json(self) -> dict[str, object]:
        """Plain values for json.dumps."""
        return asdict(self)


def find_groups(
    model: str | Path | onnx.ModelProto,
    target: str | Target | None = None,
    settings: Settings | None = None,
    progress: Callable[[str], None] = lambda stage: None,
) -> Groups:
    """List what `remove_channels` can take from a model, each with the cost of one channel.

    Every figure is the difference of two plans. What no kernel computes yet is listed in
    `uncompiled`; parameters and MACs are exact all the same. Raises LoadError (the model) or
    ValueError (settings, target).
    """
    settings = settings or Settings()
    machine = target if isinstance(target, Target) else load_target(target or PLANNED_FOR)
    own = qoperator_to_qdq(loaded(model, settings))
    channels = find_channels(own)
    progress("planning the network")
    whole = _Whole(own, channels, machine, settings)
    groups = []
    for number, group in enumerate(channels.groups):
        progress(f"group {number + 1} of {len(channels.groups)}: {group.name}")
        groups.append(
            Group(
                group.name,
                group.width,
                group.producers,
                group.consumers,
                group.tensors,
                whole.saving(number, group),
            )
        )
    return Groups(
        version=SCHEMA_VERSION,
        model=model_name(model, settings),
        target=machine.name,
        parameters=whole.sizes.parameters.total(whole.sizes.full),
        macs=whole.sizes.macs.total(whole.sizes.full),
        weights=None if whole.cost is None else whole.cost.weights,
        ram=None if whole.cost is None else whole.cost.ram,
        groups=tuple(groups),
        fixed=tuple(FixedAxis(f.name, f.axis, f.role, f.reason) for f in channels.fixed),
        uncompiled=whole.problems,
    )


class _Whole:
    """A network, its plan where there is one, and what each of its channels saves."""

    def __init__(
        self, model: onnx.ModelProto, channels: Channels, machine: Target, settings: Settings
    ) -> None:
        self._model = model
        self._machine = machine
        self._settings = settings
        self.sizes = sizes_of(model, channels)
        self.problems: tuple[str, ...] = ()
        self.cost: Cost | None = None
        self._live: Mapping[str, int] = {}
        try:
            self.cost = cost_of(model, machine, settings=settings)
            self._live = draft_of(model, machine, settings).live
        except UnsupportedError as error:
            self.problems = error.problems

    def saving(self, number: int, group: ChannelGroup) -> Saving:
        """The figures of the network less those of the same without the group's last channel."""
        full = self.sizes.full
        fewer = full - (np.arange(len(full)) == number)
        parameters = self.sizes.parameters.total(full) - self.sizes.parameters.total(fewer)
        macs = self.sizes.macs.total(full) - self.sizes.macs.total(fewer)
        if self.cost is None:
            return Saving(parameters, macs, None, None, None)
        kept = kept_indices(self._model, group, range(group.width - 1))
        smaller = remove_channels(self._model, {group.name: kept})
        cost = cost_of(smaller, self._machine, settings=self._settings)
        saved = self.cost.weights - cost.weights, self.cost.ram - cost.ram
        return Saving(parameters, macs, *saved, self._at_peak(group))

    def _at_peak(self, group: ChannelGroup) -> int:
        """Bytes of one channel in the tensors that are live at the peak."""
        sizes = {tensor_name(name): size for name, size in self._live.items()}
        edit, total = Edit(self._model), 0
        for place, indices in zip(group.places, group.channels[0], strict=True):
            shape = edit.static_shape(place.name) if place.name in sizes else None
            if shape is not None:
                total += sizes[place.name] * len(indices) // shape[place.axis]
        return total
