"""Pruning at initialisation by complexity: which layers get narrower, before anything is trained.

After Zawish, Davy and Abraham, Complexity-Driven CNN Compression (arXiv 2208.12816): a layer is
drawn by its share of the parameters, operations or memory, some of its filters go, and so on until
the budget is met; the network is then trained from scratch. As no filter is better than another
before training, the last ones go.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from typing import TypedDict, Unpack

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from mcugraph.cost import cost_of, draft_of, tensor_name
from mcugraph.decision import Decision
from mcugraph.optimize import Settings
from mcugraph.passes.channels import find_channels
from mcugraph.passes.remove_channels import remove_channels
from mcugraph.prune.sizes import Counts, Lengths, sizes_of
from mcugraph.targets import Target

QUANTITIES = ("params", "flops", "memory")
MODES = ("random", "greedy", "uniform")
# Of the filters that a group has at first, the share that goes at a time.
LEAST, MOST = 0.01, 0.05
# The uniform mode tries widths in steps of one part in that many.
PARTS = 256

Shares = NDArray[np.float64]


class Options(TypedDict, total=False):
    """How layers are chosen, and for what machine memory is planned.

    `floor` is how many channels every group keeps at least; narrower ones stay as they are.
    """

    seed: int
    mode: str
    floor: int
    machine: str | Target
    settings: Settings


def plan_by_complexity(
    model: ModelProto,
    by: str = "params",
    target: float | Mapping[str, float] = 0.5,
    **options: Unpack[Options],
) -> Decision:
    """Narrow the layers of a loaded model until a budget is met.

    `by` is params, flops (multiply-accumulates) or memory (the planned arena). `target` is what may
    remain: a share up to 1, else an absolute number; or several of them by their quantity, of which
    `by`, then the others are met. mode="random" draws layers by their share, from `seed`;
    "greedy" takes the one that saves most for the share of its width; "uniform" narrows all alike.
    Raises ValueError where an option is wrong, or the budget can't be met.
    """
    mode = options.get("mode", "random")
    _check("by", by, QUANTITIES)
    _check("mode", mode, MODES)
    network = _Network(model, options)
    limits = network.limits(target if isinstance(target, Mapping) else {by: target}, by)
    if mode == "uniform":
        return network.decision(_uniform(network, limits))
    choose = _searcher(network)
    if mode == "random":
        choose = _drawer(network, options.get("seed", 0))
    return network.decision(_stepwise(network, limits, choose))


def _check(what: str, given: str, allowed: Sequence[str]) -> None:
    if given not in allowed:
        near = get_close_matches(given, allowed, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ValueError(f"{what}={given!r}: there are {', '.join(allowed)}{hint}")


@dataclass(frozen=True)
class _Memory:
    """The peak of a network: its bytes, and those of each group that are live then."""

    ram: int
    live: Shares


class _Network:
    """A model whose widths change; groups are in the order of its channels."""

    def __init__(self, model: ModelProto, options: Options) -> None:
        self._model = model
        self._machine = options.get("machine", "cortex-m0")
        self._settings = options.get("settings")
        self._channels = find_channels(model)
        self._sizes = sizes_of(model, self._channels)
        self._peaks: dict[tuple[int, ...], _Memory] = {}
        floor = options.get("floor", 4)
        if floor < 1:
            raise ValueError(f"floor={floor}: every layer keeps at least one channel")
        self.full = self._sizes.full
        self.floor = np.minimum(self.full, floor)
        if not len(self.full):
            raise ValueError("the model has no channels that could go")

    def decision(self, widths: Counts) -> Decision:
        """The first channels of every group."""
        return Decision.of_widths(self._model, self._channels, widths.tolist())

    def limits(self, target: Mapping[str, float], by: str) -> dict[str, int]:
        """What each quantity may be at most; `by` comes first."""
        found: dict[str, int] = {}
        for name in sorted(target, key=lambda name: name != by):
            _check("target", name, QUANTITIES)
            whole, wanted = self.value(name, self.full), target[name]
            if not 0 < wanted < math.inf:
                raise ValueError(f"target {name}={wanted}: a share up to 1, or a number above it")
            found[name] = int(whole * wanted if wanted <= 1 else wanted)
        return found

    def value(self, quantity: str, widths: Counts) -> int:
        """A quantity of the network with these widths."""
        if quantity == "memory":
            return cost_of(self._pruned(widths), self._machine, settings=self._settings).ram
        return self._terms(quantity).total(widths)

    def exceeds(self, quantity: str, widths: Counts, limit: int) -> bool:
        """Whether it is above a limit; a plan is only placed where its peak is not."""
        if quantity == "memory" and self._peak(widths).ram > limit:
            return True
        return self.value(quantity, widths) > limit

    def shares(self, quantity: str, widths: Counts) -> Iterator[tuple[int, float]]:
        """(group, complexity) of each layer; in memory, of each group that is live at the peak.

        Layers at their floor are left out.
        """
        for group, weight in self._weighted(quantity, widths):
            if group is not None and widths[group] > self.floor[group]:
                yield group, float(weight)

    def _weighted(self, quantity: str, widths: Counts) -> Iterable[tuple[int | None, float]]:
        if quantity == "memory":
            return enumerate(self._peak(widths).live.tolist())
        terms = self._terms(quantity)
        groups = (self._layers.get(owner) for owner in terms.owners)
        return zip(groups, terms.products(widths).tolist(), strict=True)

    def saving(self, quantity: str, widths: Counts, group: int) -> float:
        """What a group's next channels save, by the share of its width that they are."""
        if quantity == "memory":
            return float(self._peak(widths).live[group])
        fewer = widths.copy()
        fewer[group] -= 1
        terms = self._terms(quantity)
        return float(terms.total(widths) - terms.total(fewer)) * float(widths[group])

    def _terms(self, quantity: str) -> Lengths:
        return self._sizes.parameters if quantity == "params" else self._sizes.macs

    @cached_property
    def _layers(self) -> dict[str, int]:
        """The group of each weight's outputs."""
        groups = enumerate(self._channels.groups)
        return {name: number for number, group in groups for name in group.producers}

    def _pruned(self, widths: Counts) -> ModelProto:
        return remove_channels(self._model, self.decision(widths).keep)

    def _peak(self, widths: Counts) -> _Memory:
        key = tuple(widths.tolist())
        if key not in self._peaks:
            found = draft_of(self._pruned(widths), self._machine, self._settings)
            live = np.zeros(len(widths))
            for name, size in found.live.items():
                for group, part in self._parts(tensor_name(name), widths):
                    live[group] += size * part
            self._peaks[key] = _Memory(found.ram, live)
        return self._peaks[key]

    def _parts(self, tensor: str, widths: Counts) -> list[tuple[int, float]]:
        """(group, its share) of those that a tensor carries."""
        carried = [
            (number, int(widths[number]) * len(indices))
            for number, group in enumerate(self._channels.groups)
            for place, indices in zip(group.places, group.channels[0], strict=True)
            if place.name == tensor
        ]
        total = sum(length for _, length in carried)
        return [(number, length / total) for number, length in carried]


# (group, channels to remove) by a quantity and the present widths; None where nothing can go.
_Chooser = Callable[[str, Counts], tuple[int, int] | None]


def _stepwise(network: _Network, limits: Mapping[str, int], choose: _Chooser) -> Counts:
    """Some filters of one layer after the other, until no limit is exceeded."""
    widths = network.full.copy()
    for quantity, limit in limits.items():
        while network.exceeds(quantity, widths, limit):
            chosen = choose(quantity, widths)
            if chosen is None:
                raise ValueError(_too_tight(network, quantity, limit, widths))
            group, count = chosen
            widths[group] = max(int(widths[group]) - count, int(network.floor[group]))
    return widths


def _drawer(network: _Network, seed: int) -> _Chooser:
    """A layer by its share of the quantity, and 1 to 5 % of its filters."""
    chance = np.random.default_rng(seed)

    def choose(quantity: str, widths: Counts) -> tuple[int, int] | None:
        found = list(network.shares(quantity, widths))
        weights = np.array([weight for _, weight in found])
        if not weights.sum():
            return None
        group = found[chance.choice(len(found), p=weights / weights.sum())][0]
        return group, max(1, int(chance.uniform(LEAST, MOST) * int(network.full[group])))

    return choose


def _searcher(network: _Network) -> _Chooser:
    """The group that saves most for the share of its width that goes."""

    def choose(quantity: str, widths: Counts) -> tuple[int, int] | None:
        free = np.flatnonzero(widths > network.floor).tolist()
        savings = {group: network.saving(quantity, widths, group) for group in free}
        best = max(free, key=lambda group: savings[group], default=None)
        if best is None or not savings[best]:
            return None
        return best, max(1, int(MOST * int(network.full[best])))

    return choose


def _uniform(network: _Network, limits: Mapping[str, int]) -> Counts:
    """The widest network whose layers all have the same share of their width."""

    def widths(part: int) -> Counts:
        return np.maximum(-(-network.full * part // PARTS), network.floor)

    def fits(part: int) -> bool:
        own = widths(part)
        return not any(network.exceeds(name, own, limit) for name, limit in limits.items())

    low, high = 0, PARTS + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    for quantity, limit in limits.items():
        if network.exceeds(quantity, widths(low), limit):
            raise ValueError(_too_tight(network, quantity, limit, widths(low)))
    return widths(low)


def _too_tight(network: _Network, quantity: str, limit: int, widths: Counts) -> str:
    least = network.value(quantity, widths)
    return (
        f"{quantity} can't come down to {limit:,}: {least:,} are left where no layer that counts "
        f"may get narrower; lower the floor, or cut the depth"
    )
