"""Networks narrowed before they are trained, by what their layers cost alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnx
from onnx import ModelProto

from mcugraph.cost import cost_of
from mcugraph.decision import Decision
from mcugraph.prune.complexity import Options, plan_by_complexity
from mcugraph.prune.goal import Goal
from mcugraph.prune.network import Network
from mcugraph.prune.resources import Resources
from mcugraph.prune.training import Still
from mcugraph.targets import Target

# How plan_by_complexity chooses, by the mode of `fit`.
MODES = {"complexity": "random", "init": "greedy", "uniform": "uniform"}
# What is planned so that a resource gets smaller.
QUANTITIES = {
    **dict.fromkeys(("params", "weights", "flash"), "params"),
    **dict.fromkeys(("macs", "cycles"), "flops"),
    **dict.fromkeys(("arena", "ram"), "memory"),
}
# Plans that are tried, each asked for that much less than was too much at least.
TRIES, CLOSER = 40, 0.99


class Planned(Still):
    """A network that was narrowed at the start, with the interface of a BudgetPruner."""

    def __init__(
        self, model: ModelProto, machine: Target, goal: Goal, mode: str, seed: int
    ) -> None:
        self.resources = Resources(model, machine, goal)
        self._decision = _decide(model, self.resources, mode, seed)
        self._used = self.resources.exact(final=True)
        super().__init__(Network(self.resources.model))

    def usage(self) -> dict[str, float]:
        """What the network takes of each limited resource."""
        return dict(self._used)

    def decision(self) -> Decision:
        """What was kept of the original model."""
        return self._decision

    def to(self, device: str) -> None:
        """Move the network."""
        self.network.to(device)

    def close(self) -> None:
        """Nothing."""

    def state(self) -> dict[str, Any]:
        """All that training has changed."""
        model = self.network.to_onnx()
        return {"model": model.SerializeToString(), "decision": self._decision.dumps()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from there, with a new network."""
        device = next(self.network.parameters()).device
        self.network = Network(onnx.load_from_string(state["model"])).to(device)
        self._decision = Decision.loads(state["decision"])
        self.resources.replan(self.network.to_onnx())
        self._used = self.resources.exact(final=True)


def _decide(model: ModelProto, resources: Resources, mode: str, seed: int) -> Decision:
    """Plan for less and less, until the compiler says that the limits are met."""
    limits = {name: float(limit) for name, limit in resources.goal.limits.items()}
    shares = _first_shares(model, resources, limits)
    decision = Decision()
    for _ in range(TRIES):
        if shares:
            first = next(iter(shares))
            options: Options = {
                "mode": MODES[mode],
                "machine": resources.machine,
                "seed": seed,
            }
            decision = plan_by_complexity(model, first, shares, **options)
            resources.replan(decision.apply(model))
        used = resources.exact(final=True)
        over = [name for name, limit in limits.items() if used[name] > limit]
        if not over:
            return decision
        for name in over:
            share = shares.get(QUANTITIES[name], 1.0)
            shares[QUANTITIES[name]] = share * min(limits[name] / used[name], CLOSER)
    raise ValueError(f"mode '{mode}' finds no network within the limits of {', '.join(over)}")


def _first_shares(
    model: ModelProto, resources: Resources, limits: Mapping[str, float]
) -> dict[str, float]:
    """The share of each quantity that may stay, were code and stack to stay as they are."""
    used = resources.exact(final=True)
    fixed = dict.fromkeys(limits, 0.0)
    if resources.goal.measured:
        cost = cost_of(model, resources.machine, measured=True)
        fixed |= {"ram": float(cost.stack or 0), "flash": float((cost.flash or 0) - cost.weights)}
    shares: dict[str, float] = {}
    for name, limit in limits.items():
        if used[name] <= limit:
            continue
        if limit <= fixed[name]:
            raise ValueError(
                f"{name}={limit:,.0f} in the budget: code or stack alone take {fixed[name]:,.0f}"
            )
        share = (limit - fixed[name]) / (used[name] - fixed[name])
        shares[QUANTITIES[name]] = min(share, shares.get(QUANTITIES[name], 1.0))
    return shares
