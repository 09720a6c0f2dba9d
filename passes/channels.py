"""Which channels of which tensors and weights must be removed together."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches

import numpy as np
from onnx import ModelProto

from mcugraph.passes._edit import Edit
from mcugraph.passes._tie_classes import Ids
from mcugraph.passes._tie_copies import separate
from mcugraph.passes._tie_graph import tie_graph
from mcugraph.passes._ties import Ties

_SUFFIX = "_quantized"


@dataclass(frozen=True)
class Place:
    """One axis of a tensor, weight or other constant."""

    name: str
    axis: int

    def __str__(self) -> str:
        return f"{self.name}/{self.axis}"


# The indices of one channel at each of its places, which are numbered.
_Member = dict[int, list[int]]


@dataclass(frozen=True)
class ChannelGroup:
    """Channels that pass through the same places; each can be removed by itself.

    `channels[c][p]` are the indices at `places[p]` which go with channel c. `places[0]` is the
    anchor's place, by whose indices the channels are sorted; the others are in graph order.
    `aliases` are the tensors that producers become (dequantised, transposed) on their way.
    """

    name: str
    producers: tuple[str, ...]
    consumers: tuple[str, ...]
    tensors: tuple[str, ...]
    places: tuple[Place, ...]
    channels: tuple[tuple[tuple[int, ...], ...], ...] = field(repr=False)
    aliases: tuple[str, ...] = ()

    @property
    def width(self) -> int:
        """Number of channels."""
        return len(self.channels)

    def __str__(self) -> str:
        counts = [len(indices) for indices in self.channels[0]]
        parts = [
            str(place) if count == 1 else f"{place}*{count}"
            for place, count in zip(self.places, counts, strict=True)
        ]
        return f"{self.name}: {self.width} at {' '.join(parts)}"


@dataclass(frozen=True)
class Fixed:
    """An axis with channels that can't be removed; `role` is "" unless it is a weight's axis."""

    name: str
    axis: int
    reason: str
    role: str = ""

    def __str__(self) -> str:
        return f"{self.name}/{self.axis}: {self.reason}"


@dataclass(frozen=True)
class Channels:
    """What can be removed from a model, and what can't: weights first, each in graph order."""

    groups: tuple[ChannelGroup, ...]
    fixed: tuple[Fixed, ...]

    def group(self, name: str) -> ChannelGroup:
        """The group of that name, else the one that the weight produces, the tensor carries, or
        another constant or the input of a weight belongs to; NAME and NAME_quantized are one.

        Raises ValueError where there is none, more than one, or the weight's outputs are fixed.
        """
        for alias in (name, name + _SUFFIX, name.removesuffix(_SUFFIX)):
            found = self._holders(alias)
            if len(found) > 1:
                names = ", ".join(group.name for group in found)
                raise ValueError(f"'{name}' is in {len(found)} channel groups: {names}")
            if found:
                return found[0]
        raise ValueError(self._why_not(name))

    def _holders(self, name: str) -> list[ChannelGroup]:
        held = [
            [group for group in self.groups if name == group.name],
            [group for group in self.groups if name in (*group.producers, *group.aliases)],
            [group for group in self.groups if name in group.tensors],
            [g for g in self.groups if any(p.name == name for p in g.places)],
        ]
        stuck = any(fixed.name == name and fixed.role == "output" for fixed in self.fixed)
        return next(filter(None, held[:-1] if stuck else held), [])

    def _why_not(self, name: str) -> str:
        alike = {name, name + _SUFFIX, name.removesuffix(_SUFFIX)}
        reasons = [fixed for fixed in self.fixed if fixed.name in alike]
        if reasons:
            return f"the channels of '{name}' can't be removed: {reasons[0].reason}"
        names = [name for group in self.groups for name in _names(group)]
        near = get_close_matches(name, names, 3)
        told = near or [group.name for group in self.groups]
        kind = "nearest" if near else "groups"
        return f"no channels of '{name}'; {kind}: {', '.join(told) or 'none'}"

    def __str__(self) -> str:
        lines = [*map(str, self.groups), *(f"fixed {fixed}" for fixed in self.fixed if fixed.role)]
        return "".join(f"{line}\n" for line in lines)


def _names(group: ChannelGroup) -> list[str]:
    return list(dict.fromkeys([group.name, *(place.name for place in group.places)]))


def find_channels(model: ModelProto) -> Channels:
    """Find the channels of a model: what must go together, and what must stay and why.

    A constant that is read twice counts as two, of one name: the group of its first reader is
    named after it, the group of another reader after a tensor.
    """
    edit = Edit(model)
    origins = separate(edit)
    ties = tie_graph(edit)
    places = [Place(name, axis) for name, axes in ties.axes.items() for axis in range(len(axes))]
    finder = _Finder(ties, origins, places)
    return Channels(finder.groups(), finder.fixed())


@dataclass(frozen=True)
class _Finder:
    """Reads groups from ties; `origins` are the constants that copies were made of."""

    ties: Ties
    origins: Mapping[str, str]
    places: list[Place]

    def groups(self) -> tuple[ChannelGroup, ...]:
        """Channels of one signature (places, and how many indices at each) are one group."""
        alike: dict[tuple[tuple[int, int], ...], list[_Member]] = {}
        for member in self._members():
            signature = tuple((number, len(indices)) for number, indices in member.items())
            alike.setdefault(signature, []).append(member)
        anchors = [self._anchors(members[0]) for members in alike.values()]
        counts = Counter(name for own in anchors for name in {self.places[i].name for i in own})
        groups = []
        for members, own in zip(alike.values(), anchors, strict=True):
            alone = [number for number in own if counts[self.places[number].name] == 1]
            groups.append(self._group(members, (alone or own)[0], not alone))
        return tuple(groups)

    def _members(self) -> Iterable[_Member]:
        """The coordinates of each channel that a weight produces and nothing fixes."""
        ties, found = self.ties, dict[int, _Member]()
        for (name, axis), role in ties.roles.items():
            if role == "output":
                ids = ties.axes[name][axis]
                found.update((root, {}) for root in ties.roots(ids[~ties.fixed(ids)]).tolist())
        for number, place in enumerate(self.places):
            for index, root in enumerate(ties.roots(self._ids(place)).tolist()):
                if root in found:
                    found[root].setdefault(number, []).append(index)
        return found.values()

    def _ids(self, place: Place) -> Ids:
        return self.ties.axes[place.name][place.axis]

    def _role(self, number: int) -> str:
        place = self.places[number]
        return self.ties.roles.get((place.name, place.axis), "")

    def _is_tensor(self, number: int) -> bool:
        return not self.ties.is_constant(self.places[number].name)

    def _anchors(self, member: _Member) -> list[int]:
        """The places that may name a group, best first."""
        producers = [number for number in member if self._role(number) == "output"]
        tensors = filter(self._is_tensor, member)
        return [i for i in (*producers, *tensors) if self.places[i].name not in self.origins]

    def _group(self, members: list[_Member], anchor: int, is_shared: bool) -> ChannelGroup:
        """The group of these channels; if its anchor is another's too, its first index is told."""
        members = sorted(members, key=lambda member: member[anchor])
        numbers = [anchor, *(number for number in members[0] if number != anchor)]
        columns: dict[tuple[Place, tuple[tuple[int, ...], ...]], None] = {}
        for number in numbers:
            column = tuple(tuple(member[number]) for member in members)
            columns[self._outer(number), column] = None
        name = self.places[anchor].name
        return ChannelGroup(
            f"{name}[{members[0][anchor][0]}]" if is_shared else name,
            producers=self._names(n for n in members[0] if self._role(n) == "output"),
            consumers=self._names(n for n in members[0] if self._role(n) == "input"),
            tensors=self._names(filter(self._is_tensor, numbers)),
            places=tuple(place for place, _ in columns),
            channels=tuple(zip(*(column for _, column in columns), strict=True)),
            aliases=self._names(filter(self._is_alias, numbers)),
        )

    def _outer(self, number: int) -> Place:
        place = self.places[number]
        return Place(self.origins.get(place.name, place.name), place.axis)

    def _names(self, numbers: Iterable[int]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self._outer(number).name for number in numbers))

    def _is_alias(self, number: int) -> bool:
        place = self.places[number]
        return (place.name, place.axis) in self.ties.operands and place.name not in self.origins

    def fixed(self) -> tuple[Fixed, ...]:
        """Axes of weights that can't shrink, then whatever is tied to them."""
        weights = [Place(*place) for place in self.ties.roles]
        weighted = {root for place in weights for root in self._stuck(place).values()}
        found: dict[Fixed, None] = {}
        for place in dict.fromkeys([*weights, *self.places]):
            indices = [i for i, root in self._stuck(place).items() if root in weighted]
            if indices:
                ids = self._ids(place)
                reason = _which(indices, len(ids)) + self.ties.reason(ids[indices[0]])
                name = self.origins.get(place.name, place.name)
                role = self.ties.roles.get((place.name, place.axis), "")
                found[Fixed(name, place.axis, reason, role)] = None
        return tuple(found)

    def _stuck(self, place: Place) -> dict[int, int]:
        """The indices of an axis that can't go, and the roots of their classes."""
        ids = self._ids(place)
        indices = np.flatnonzero(self.ties.fixed(ids))
        return dict(zip(indices.tolist(), self.ties.roots(ids[indices]).tolist(), strict=True))


def _which(indices: list[int], size: int) -> str:
    """The indices that a reason is about, where others are free."""
    if len(indices) == size:
        return ""
    runs = np.split(indices, np.flatnonzero(np.diff(indices) > 1) + 1)
    told = [f"{run[0]}" if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs]
    return f"channels {', '.join(told)}: "
