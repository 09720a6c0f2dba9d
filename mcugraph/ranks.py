"""Which layers to factorise, and to what rank: the least is lost for what is saved."""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypedDict, Unpack

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from mcugraph.cost import Cost, cost_of
from mcugraph.optimize import Settings
from mcugraph.passes._edit import Edit, attribute, is_op
from mcugraph.passes._layers import Layer, layers_of
from mcugraph.passes.factorize import factorize, spectrum
from mcugraph.targets import Target

# What may be saved, and the figure of a Cost that says how much.
QUANTITIES = {"flash": "weights", "macs": "macs", "params": "parameters"}
Floats = NDArray[np.floating[Any]]
# Bytes of flash that a second layer costs beside its weights, and one for each of its channels.
_LAYER, _CHANNEL = 72, 9


class Options(TypedDict, total=False):
    """The machine that memory and flash are planned for, and how; `ram` is the largest arena."""

    ram: int
    machine: str | Target
    settings: Settings


def choose_ranks(
    model: ModelProto, by: str = "macs", target: float = 0.5, **options: Unpack[Options]
) -> dict[str, int]:
    """Ranks of a float model's weights, for `factorize` or a Decision, until a target is met.

    `by` is macs, flash (weights and tables of the int8 form) or params. `target` is what may
    remain: a share up to 1, else an absolute number. The sum of what the layers lose, each as a
    share of its squared weights, grows as little as it can; no layer gets more expensive. Each of
    them has a tensor more: ranks are lowered where the planned arena would get larger than `ram`,
    or than it is without factors. Raises ValueError where that is impossible or an option is wrong.
    """
    if by not in QUANTITIES:
        raise ValueError(f"by: there are {', '.join(QUANTITIES)}, not {by!r}")
    if not target > 0:
        raise ValueError(f"target is {target}, not a share up to 1 or a number above it")
    search = _Search(model, by, options)
    return search.ranks(target * search.figure(search.base) if target <= 1 else target)


@dataclass(frozen=True)
class _Step:
    """From one rank of a weight, or from none, to a lower one."""

    weight: str
    rank: int
    loss: float
    saving: float

    @property
    def price(self) -> float:
        return self.loss / self.saving


@dataclass(frozen=True, eq=False)
class _Choice:
    """A weight that has factors: what is lost and saved at each rank from 1 to the full one."""

    weight: str
    losses: Floats
    savings: Floats

    def path(self, highest: int) -> list[_Step]:
        """Steps to ranks up to the highest, their prices rising: the hull of loss over saving."""
        steps: list[_Step] = []
        reached = [(0.0, 0.0)]
        for rank in range(min(self.losses.size, highest), 0, -1):
            loss, saving = float(self.losses[rank - 1]), float(self.savings[rank - 1])
            if saving <= reached[-1][0]:
                continue
            while steps and steps[-1].price >= _slope(reached[-2], (saving, loss)):
                steps.pop()
                reached.pop()
            before = reached[-1]
            steps.append(_Step(self.weight, rank, loss - before[1], saving - before[0]))
            reached.append((saving, loss))
        return steps


def _slope(start: tuple[float, float], end: tuple[float, float]) -> float:
    return (end[1] - start[1]) / (end[0] - start[0])


class _Search:
    """A model, what it costs, and the weights that have factors."""

    def __init__(self, model: ModelProto, by: str, options: Options) -> None:
        self._model, self._by = model, by
        self._machine = options.get("machine", "cortex-m0")
        self._settings = options.get("settings")
        self.base = self._cost({})
        self._ram = options.get("ram", self.base.ram)
        self._choices = {choice.weight: choice for choice in _choices(Edit(model), by)}

    def figure(self, cost: Cost) -> int:
        """The number that is to fall."""
        return int(getattr(cost, QUANTITIES[self._by]))

    def ranks(self, limit: float) -> dict[str, int]:
        """The first ranks on the way that meet the limit and let no arena grow."""
        highest = {weight: choice.losses.size for weight, choice in self._choices.items()}
        while True:
            chosen, cost = self._walk(highest, limit)
            if cost.ram <= self._ram:
                return chosen
            highest |= self._lower(chosen)

    def _walk(self, highest: Mapping[str, int], limit: float) -> tuple[dict[str, int], Cost]:
        """Steps in the order of their price; the plan is asked where arithmetic says enough."""
        paths = [choice.path(highest[weight]) for weight, choice in self._choices.items()]
        chosen: dict[str, int] = {}
        cost, left = self.base, float(self.figure(self.base))
        for step in heapq.merge(*paths, key=lambda step: step.price):
            if left <= limit:
                cost = self._cost(chosen)
                left = float(self.figure(cost))
            if left <= limit:
                return chosen, cost
            chosen[step.weight] = step.rank
            left -= step.saving
        cost = self._cost(chosen)
        if self.figure(cost) <= limit:
            return chosen, cost
        raise ValueError(
            f"factorisation leaves at least {self.figure(cost)} of {self.figure(self.base)} "
            f"{self._by} in an arena of {self._ram} bytes; the target is {limit:.0f}"
        )

    def _lower(self, chosen: Mapping[str, int]) -> dict[str, int]:
        """The highest ranks from now on of the weights that let the arena grow, one by one."""
        kept: dict[str, int] = {}
        lower: dict[str, int] = {}
        for weight, rank in chosen.items():
            kept[weight] = rank
            if not self._fits(kept):
                del kept[weight]
                lower[weight] = self._fitting(kept, weight, rank)
                kept |= {weight: lower[weight]} if lower[weight] else {}
        return lower

    def _fitting(self, kept: Mapping[str, int], weight: str, rank: int) -> int:
        """The highest rank below one that does not fit beside those kept; 0 where none does."""
        return bisect_left(
            range(1, rank), True, key=lambda lower: not self._fits({**kept, weight: lower})
        )

    def _fits(self, ranks: Mapping[str, int]) -> bool:
        return self._cost(ranks).ram <= self._ram

    def _cost(self, ranks: Mapping[str, int]) -> Cost:
        model = factorize(self._model, ranks)
        return cost_of(model, self._machine, settings=self._settings, placed=False)


def _choices(edit: Edit, by: str) -> Iterator[_Choice]:
    for weight, layers in layers_of(edit).items():
        sizes = spectrum(edit, layers[0])
        if sizes is None or not sizes.any() or any(layer.groups > 1 for layer in layers):
            continue
        energy = sizes**2
        losses = np.maximum(1 - np.cumsum(energy) / energy.sum(), 0)
        yield _Choice(weight, losses, _savings(edit, layers, sizes.size, by))


def _savings(edit: Edit, layers: list[Layer], full: int, by: str) -> Floats:
    """What each rank from 1 to the full one saves; below zero where it costs."""
    weight = edit.constant(layers[0].weight)
    assert weight is not None
    stored = is_op(layers[0].node, "Conv") or attribute(layers[0].node, "transB", 0)
    outputs = weight.shape[0 if stored else -1]
    terms = weight.size // outputs
    ranks = np.arange(1, full + 1)
    saved = weight.size - ranks * float(terms + outputs)
    if by == "macs":
        return saved * sum(_products(edit, layer, outputs) for layer in layers)
    return saved - (_LAYER + _CHANNEL * ranks) if by == "flash" else saved


def _products(edit: Edit, layer: Layer, outputs: int) -> int:
    """How many vectors the weights are multiplied with."""
    shape = edit.static_shape(layer.node.output[0])
    if shape is None:
        raise ValueError(f"{layer.title()} has no static shape; load the model with its sizes")
    return int(np.prod(shape)) // outputs
