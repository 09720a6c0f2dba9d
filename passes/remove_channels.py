"""Conv(Conv(x, w), v) -> Conv(Conv(x, w[kept]), v[:, kept])."""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np
from onnx import ModelProto

from mcugraph.passes._edit import Edit, is_op
from mcugraph.passes._shrink import shrink
from mcugraph.passes.channels import ChannelGroup, Channels, Place, find_channels

_SUFFIX = "_quantized"
_SHOWN = 8
_GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}

# A channel: the number of its group and its own.
_Channel = tuple[int, int]


def remove_channels(model: ModelProto, keep: Mapping[str, Sequence[int]]) -> ModelProto:
    """Conv(Conv(x, w), v) -> Conv(Conv(x, w[kept]), v[:, kept]).

    `keep` gives, by the name of a weight or tensor, what it keeps of its channels: indices of a
    weight's output axis, of a tensor's channel axis, or hidden units of a recurrent layer. What
    goes together goes as a whole: name one of the places or all of them. The result computes what
    the model would with zeroes for the removed channels. Indices count in this model, so applying
    a decision twice is not the same as once; keeping everything leaves the model as it was.
    Raises ValueError with everything that is wrong.
    """
    decision = _Decision(model, find_channels(model))
    for name, kept in keep.items():
        decision.take(name, list(kept))
    edit = decision.edit
    shrink(edit, decision.kept())
    return edit.finish()


def kept_indices(model: ModelProto, group: ChannelGroup, channels: Iterable[int]) -> list[int]:
    """What `keep[group.name]` must say to keep just these channels of a group, and all others.

    `channels` are numbers from 0 to group.width - 1.
    """
    anchor = _Decision(model, Channels((group,), ())).anchor(group.name)
    gone = {(0, number) for number in range(group.width)} - {(0, number) for number in channels}
    return [i for i in range(anchor.size) if not gone & set(anchor.members.get(i, ()))]


@dataclass(frozen=True)
class _Anchor:
    """One axis that a decision names, and which channels stand at each of its indices."""

    place: Place
    size: int
    members: Mapping[int, Sequence[_Channel]]


class _Decision:
    """What is removed, gathered from all anchors, and everything that is wrong with it."""

    def __init__(self, model: ModelProto, channels: Channels) -> None:
        self.edit = Edit(model)
        self._channels = channels
        self._problems: list[str] = []
        self._gone: dict[_Channel, str] = {}
        self._asked: dict[int, str] = {}

    def take(self, name: str, kept: list[int]) -> None:
        """Note what one anchor keeps."""
        try:
            anchor = self.anchor(name)
        except ValueError as error:
            self._problems.append(str(error))
            return
        problem = _misfit(name, anchor, kept)
        if problem:
            self._problems.append(problem)
            return
        gone = set(range(anchor.size)).difference(kept)
        self._problems.extend(self._partial(name, anchor, gone))
        self._merge(name, anchor, {c for index in gone for c in anchor.members.get(index, ())})

    def kept(self) -> dict[tuple[str, int], list[int]]:
        """Kept indices of every tensor that shrinks; ValueError with all problems."""
        kept = {place: self._left(place, gone) for place, gone in self._places().items()}
        empty = dict.fromkeys(place.name for place, left in kept.items() if not left)
        if empty and not self._problems:
            self._problems.append(f"nothing would be kept of {_listed(empty)}: an empty layer")
        if len(self._problems) > 1:
            raise ValueError("\n".join(["cannot remove channels:", *self._problems]))
        if self._problems:
            raise ValueError(f"cannot remove channels: {self._problems[0]}")
        return {(place.name, place.axis): left for place, left in kept.items()}

    # Anchors

    def anchor(self, name: str) -> _Anchor:
        """The axis that a name stands for."""
        for alias in (name, name + _SUFFIX, name.removesuffix(_SUFFIX)):
            found = self._named(alias)
            places = {place for _, place in found}
            if len(places) > 1:
                names = _listed(dict.fromkeys(group.name for group, _ in found))
                raise ValueError(f"'{name}' has channels on several axes: name one of {names}")
            if places:
                return self._anchored(places.pop(), [group for group, _ in found])
        raise ValueError(self._unknown(name))

    def _named(self, name: str) -> list[tuple[ChannelGroup, Place]]:
        """The groups that a name stands for and where it has their channels; best reading first.

        What a weight reads is meant only where it makes nothing that could be meant.
        """
        groups = self._channels.groups
        made = [group for group in groups if name in (*group.producers, *group.aliases)]
        stuck = any(f.name == name and f.role == "output" for f in self._channels.fixed)
        held = [
            [(group, group.places[0]) for group in groups if name == group.name],
            [(group, _place(group, name)) for group in made],
            [(g, p) for g in groups if name in g.tensors for p in g.places if p.name == name],
            [(g, p) for g in groups for p in g.places if p.name == name and not stuck],
        ]
        return next(filter(None, held), [])

    def _anchored(self, place: Place, groups: list[ChannelGroup]) -> _Anchor:
        shape = self.edit.shape(place.name)
        size = (shape[place.axis] if shape is not None else None) or 0
        size //= _gates(self.edit, place.name)
        members: dict[int, list[_Channel]] = {}
        for number, group in enumerate(self._channels.groups):
            if group in groups:
                column = group.places.index(place)
                for channel, indices in enumerate(group.channels):
                    for index in indices[column]:
                        members.setdefault(index, []).append((number, channel))
        return _Anchor(place, size, {i: members[i] for i in members if i < size})

    def _unknown(self, name: str) -> str:
        alike = (name, name + _SUFFIX, name.removesuffix(_SUFFIX))
        stuck = [fixed for fixed in self._channels.fixed if fixed.name in alike]
        if stuck:
            first = min(stuck, key=lambda fixed: fixed.role != "output")
            return f"the channels of '{name}' must stay: {first.reason}"
        names = [n for g in self._channels.groups for n in (g.name, *g.producers, *g.tensors)]
        near = get_close_matches(name, dict.fromkeys(names), n=3)
        if self.edit.shape(name) is not None:
            return f"'{name}' has no channels that could go; there are: {_listed(self._names())}"
        if near:
            return f"there is no weight or tensor '{name}'; near to it: {_listed(near)}"
        return f"there is no weight or tensor '{name}'; groups: {_listed(self._names())}"

    def _names(self) -> list[str]:
        return [group.name for group in self._channels.groups]

    # Checks

    def _partial(self, name: str, anchor: _Anchor, gone: set[int]) -> Iterator[str]:
        """What must stay, and channels of several indices that would lose only some of them."""
        stay = sorted(gone.difference(anchor.members))
        if stay:
            told = [f for f in self._channels.fixed if f.name == anchor.place.name]
            here = [f.reason for f in told if f.axis == anchor.place.axis]
            why = here[0] if here else "another group has them"
            yield f"channels {_listed(stay)} of '{name}' must stay: {why}"
        partners: dict[_Channel, list[int]] = {}
        for index, channels in anchor.members.items():
            for channel in channels:
                partners.setdefault(channel, []).append(index)
        for indices in partners.values():
            lost = [index for index in indices if index in gone]
            if lost and len(lost) < len(indices):
                left = [index for index in indices if index not in lost]
                yield (
                    f"channels {_listed(indices)} of '{name}' go together, but it keeps "
                    f"{_listed(left)} without {_listed(lost)}"
                )

    def _merge(self, name: str, anchor: _Anchor, gone: set[_Channel]) -> None:
        """Anchors of one group must agree."""
        for number in sorted({n for channels in anchor.members.values() for n, _ in channels}):
            mine = {channel for channel in gone if channel[0] == number}
            other = self._asked.setdefault(number, name)
            theirs = {channel for channel in self._gone if channel[0] == number}
            if other != name and mine != theirs:
                self._problems.append(
                    f"'{other}' and '{name}' share their channels, but keep different ones: "
                    f"{_listed(sorted(channel for _, channel in mine ^ theirs))}"
                )
            self._gone.update(dict.fromkeys(mine, name))

    # What is left

    def _places(self) -> dict[Place, set[int]]:
        """The indices that go, at each axis of each tensor."""
        gone: dict[Place, set[int]] = {}
        for number, channel in self._gone:
            group = self._channels.groups[number]
            for place, indices in zip(group.places, group.channels[channel], strict=True):
                if place.name in group.tensors:
                    gone.setdefault(place, set()).update(indices)
        return gone

    def _left(self, place: Place, gone: set[int]) -> list[int]:
        shape = self.edit.shape(place.name) or ()
        return [index for index in range(shape[place.axis] or 0) if index not in gone]


def _misfit(name: str, anchor: _Anchor, kept: list[int]) -> str | None:
    """What is wrong with the indices themselves."""
    if not kept:
        return f"nothing would be kept of '{name}': an empty layer"
    if not all(isinstance(index, int | np.integer) for index in kept):
        return f"'{name}' keeps indices, not {_listed(kept)}"
    ascending = all(one < other for one, other in itertools.pairwise(kept))
    if not ascending or kept[0] < 0 or kept[-1] >= anchor.size:
        return (
            f"'{name}' has {anchor.size} channels: kept indices ascend from 0 to "
            f"{anchor.size - 1}, each once; it says {_listed(kept)}"
        )
    return None


def _place(group: ChannelGroup, name: str) -> Place:
    return next(place for place in group.places if place.name == name)


def _gates(edit: Edit, name: str) -> int:
    """How many rows of a recurrent weight belong to one hidden unit; 1 for all other tensors."""
    reader = next(iter(edit.users(name)), None)
    while reader is not None and is_op(reader, "DequantizeLinear", "Identity"):
        name = reader.output[0]
        reader = next(iter(edit.users(name)), None)
    if reader is None or not is_op(reader, *_GATES):
        return 1
    gates = _GATES[reader.op_type]
    rows = (gates, gates, 2 * gates)
    return next((n for n, other in zip(rows, reader.input[1:4], strict=False) if other == name), 1)


def _listed(items: Iterable[object]) -> str:
    words = [str(item) for item in items]
    return ", ".join(words[:_SHOWN]) + (", ..." if len(words) > _SHOWN else "")
