"""Whether a budget is within reach of removing channels and branches."""

from __future__ import annotations

from collections.abc import Mapping

from onnx import ModelProto

from mcugraph.passes import drop_branches
from mcugraph.passes.channels import find_channels
from mcugraph.passes.remove_channels import kept_indices, remove_channels
from mcugraph.prune.branches import without_each
from mcugraph.prune.resources import Resources
from mcugraph.prune.rules import Rules, least_width


def check_reach(resources: Resources, rules: Rules) -> None:
    """Refuse a budget that even the smallest network exceeds: narrowest, and without branches.

    The branch that brings the most goes first. Looks at the present model again in the end.
    """
    original, model = resources.model, resources.model
    limits = {name: float(limit) for name, limit in resources.goal.limits.items()}
    count = 0
    while over := _over(resources, _narrowest(model, rules), limits):
        offers = without_each(resources) if rules.branches else []
        if not offers:
            break
        best = min(offers, key=lambda offer: offer.excess(resources.counts, limits))
        model, count = drop_branches(model, [best.branch.tensor]), count + 1
    resources.replan(original)
    if over:
        without = f" and without {count} branches" if count else ""
        raise ValueError(
            f"the budget is out of reach of removing channels: with {rules.floor:.0%} of the "
            f"channels left{without}, {told(over, limits)}; raise it, or cut the network's depth"
        )


def told(over: Mapping[str, float], limits: Mapping[str, float]) -> str:
    """What is above which limits."""
    return ", ".join(f"{n} is {over[n]:,.0f} above {limits[n]:,.0f}" for n in over)


def _over(resources: Resources, model: ModelProto, limits: Mapping[str, float]) -> dict[str, float]:
    resources.replan(model)
    return resources.over(limits)


def _narrowest(model: ModelProto, rules: Rules) -> ModelProto:
    """Each group with the fewest channels that it may keep."""
    keep = {
        group.name: kept_indices(model, group, range(least_width(group.width, rules)))
        for group in find_channels(model).groups
        if least_width(group.width, rules) < group.width
    }
    return remove_channels(model, keep) if keep else model
