"""What a network takes of each resource, as differentiable functions of its channel counts.

With n the vector of channel counts, one a group, every axis of every tensor has the length
s(n) = constant + sum_g m_g n_g, so that parameters, multiply-accumulates and bytes are sums of
products of such lengths: R(n) = sum_t k_t s_1(n) s_2(n) ... Memory is the live set at the peak of
the compiler's own plan, which is planned again as the counts change; cycles are those measured for
each step, in proportion to its multiply-accumulates.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from math import prod

import numpy as np
import torch
from onnx import ModelProto
from torch import Tensor

from mcugraph.cost import Cost, LayerCost, cost_of, draft_of, step_cycles, tensor_name
from mcugraph.optimize import Settings
from mcugraph.passes._edit import Edit, is_op
from mcugraph.passes.channels import find_channels
from mcugraph.prune.goal import Goal
from mcugraph.prune.sizes import Axes, Lengths, lengths_of, sizes_of
from mcugraph.targets import Target

# Beside its weights, a layer stores a sum, a multiplier and a shift for each output.
OUTPUT_BYTES = 8
# What only a plan, or a compiled model, tells exactly.
MEMORY = {"arena", "ram", "weights", "flash", "cycles"}
WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
# A factor and the axes whose lengths it multiplies.
Product = tuple[float, Axes]


class Form:
    """A sum of products of lengths, in double precision; `rest` makes it exact at one point."""

    def __init__(self, lengths: Lengths, factors: Iterable[float] | None = None) -> None:
        self._fixed = torch.from_numpy(lengths.fixed).double()
        self._per = torch.from_numpy(lengths.per).double()
        self._rows = torch.from_numpy(lengths.rows)
        own = lengths.factors if factors is None else np.array([*factors])
        self._factors = torch.from_numpy(own).double()
        self.rest = 0.0

    def __call__(self, counts: Tensor) -> Tensor:
        """The value for these counts."""
        lengths = self._fixed + self._per @ counts.double()
        return (self._factors * lengths[self._rows].prod(1)).sum() + self.rest

    def settled(self, counts: Tensor, value: float) -> Form:
        """The same, moved by a constant so that it has this value here."""
        self.rest += value - float(self(counts))
        return self


class Resources:
    """The resources of one model on one machine that a goal limits.

    `counts` are the present channel counts, in the order of `channels.groups`. `value(name, n)` is
    differentiable in n and, after `replan`, exact at the present counts.
    """

    def __init__(self, model: ModelProto, machine: Target, goal: Goal) -> None:
        self.machine = machine
        self.goal = goal
        self._settings = Settings(objective=goal.objective)
        # The cycles of each step as a product, by the tensor that it makes.
        self._steps: Sequence[tuple[str, Product]] | None = None
        self.model = model
        self._code, self._stack = self._beside() if goal.measured else (0, 0)
        self.replan(model)

    def replan(self, model: ModelProto, *, measured: bool = True) -> None:
        """Look at a model whose channel counts have changed.

        Unless it is measured, its cycles follow from those that were measured last.
        """
        if measured:
            self._steps = None
        self._look_at(model)

    def _look_at(self, model: ModelProto) -> None:
        self.model = model
        self.channels = find_channels(model)
        self.counts = torch.tensor([float(group.width) for group in self.channels.groups])
        self._sizes = sizes_of(model, self.channels)
        self._edit = Edit(model)
        self._forms = {name: getattr(self, f"_{name}")() for name in self.goal.limits}

    def without(self, model: ModelProto) -> Resources:
        """The same of a model with fewer steps, whose cycles stay those that were measured."""
        other = copy(self)
        other._look_at(model)
        return other

    def value(self, name: str, counts: Tensor) -> Tensor:
        """How much of a resource the model takes with these channel counts."""
        found: Tensor = self._forms[name](counts)
        return found

    def excess(self, counts: Tensor, limits: Mapping[str, float] | None = None) -> Tensor:
        """sum_r relu(R_r(n) / B_r - 1): what is above the limits, in units of each."""
        limits = limits or {name: float(limit) for name, limit in self.goal.limits.items()}
        parts = [torch.relu(self.value(name, counts) / limit - 1) for name, limit in limits.items()]
        return torch.stack(parts).sum() if parts else counts.new_zeros(())

    def exact(self, *, final: bool = False) -> dict[str, float]:
        """What the compiler says of each limited resource of the present model.

        Unless it is final, memory is planned but not placed, code and stack are taken to be those
        of the first model, and cycles are those of the steps.
        """
        found = {name: float(self.value(name, self.counts)) for name in self.goal.limits}
        if not (final and found.keys() & MEMORY):
            return found
        planned = self._cost()
        cost = self._cost(measured=True) if self.goal.measured else planned
        settled = {
            **{"arena": planned.ram, "weights": planned.weights},
            **{"ram": cost.ram, "flash": cost.flash, "cycles": cost.cycles},
        }
        return {name: float(settled.get(name) or used) for name, used in found.items()}

    def over(self, limits: Mapping[str, float], *, final: bool = False) -> dict[str, float]:
        """By how much the present model is above each limit that it exceeds."""
        used = self.exact(final=final)
        return {name: used[name] - limit for name, limit in limits.items() if used[name] > limit}

    def _beside(self) -> tuple[int, int]:
        """Bytes of code and of stack, which hardly change while channels are removed."""
        cost = self._cost(measured=True)
        assert cost.flash is not None, "not measured"
        return cost.flash - cost.weights, cost.ram - self._cost().ram

    def _cost(self, *, measured: bool = False, placed: bool = True) -> Cost:
        """What the compiler says of the present model."""
        settings = self._settings
        return cost_of(
            self.model, self.machine, measured=measured, settings=settings, placed=placed
        )

    def _params(self) -> Form:
        return Form(self._sizes.parameters)

    def _macs(self) -> Form:
        return Form(self._sizes.macs)

    def _weights(self) -> Form:
        products: list[Product] = []
        for node in self._edit.nodes:
            if is_op(node, *WEIGHTED):
                axes = self._axes(node.input[1])
                channel = len(self._shape(node.output[0])) - 1 if is_op(node, "MatMul") else 1
                products += [(1, axes), (OUTPUT_BYTES, ((node.output[0], channel),))]
        exact = self._cost(placed=False).weights
        return self._form(products).settled(self.counts, exact)

    def _flash(self) -> Form:
        form = self._weights()
        form.rest += self._code
        return form

    def _arena(self) -> Form:
        """The live tensors at the peak; working memory goes with them."""
        draft = draft_of(self.model, self.machine, self._settings)
        live, factor = draft.live, draft.ram / sum(draft.live.values())
        products = [self._scaled(tensor_name(name), size * factor) for name, size in live.items()]
        return self._form(products)

    def _ram(self) -> Form:
        form = self._arena()
        form.rest += self._stack
        return form

    def _cycles(self) -> Form:
        if self._steps is None:
            found = step_cycles(self.model, self.machine, self._settings)
            self._steps = [(step.tensor, self._step(step, cycles)) for step, cycles in found]
        there = [each for tensor, each in self._steps if self._edit.static_shape(tensor)]
        return self._form(there)

    def _step(self, step: LayerCost, cycles: int) -> Product:
        """Cycles in proportion to the size of the weights, else to that of the result."""
        weight = step.weight
        known = weight is not None and self._edit.constant(weight) is not None
        return self._scaled(weight if known and weight is not None else step.tensor, cycles)

    def _scaled(self, name: str, value: float) -> Product:
        """A value in proportion to the lengths of the axes which hold channels."""
        held = {(p.name, p.axis) for group in self.channels.groups for p in group.places}
        axes = tuple(axis for axis in self._axes(name) if axis in held)
        return value / prod(self._shape(name)[axis] for _, axis in axes), axes

    def _axes(self, name: str) -> Axes:
        return tuple((name, axis) for axis in range(len(self._shape(name))))

    def _shape(self, name: str) -> tuple[int, ...]:
        return self._edit.static_shape(name) or ()

    def _form(self, products: list[Product]) -> Form:
        lengths = lengths_of(self._edit, self.channels, [(1, axes, "") for _, axes in products])
        return Form(lengths, [factor for factor, _ in products])
