"""The rings of a plan's groups, and the kernel calls that read and write them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from mcugraph.group import Group
from mcugraph.layout import Layouts
from mcugraph.lower.call import Call
from mcugraph.lower.reads import depth_names


def rings_of(groups: Sequence[Group]) -> tuple[dict[str, int], dict[str, str]]:
    """The rows of each ring, and for tensors without one that in whose place they are written."""
    rings: dict[str, int] = {}
    merged: dict[str, str] = {}
    for group in groups:
        if group.fused and group.down is not None:
            rings |= {name: group.depth(name) for name in group.down.depths}
            merged |= group.down.merged
    return rings, merged


def with_rings(
    layouts: Layouts,
    calls: Mapping[str, tuple[Call, ...]],
    rings: Mapping[str, int],
    merged: Mapping[str, str],
) -> dict[str, tuple[Call, ...]]:
    """The calls with the depths of the rings that they read and write."""

    def depth(tensor: str) -> int | None:
        root = layouts.root(tensor)
        return rings.get(merged.get(root, root))

    return {name: tuple(_with_depths(c, depth) for c in each) for name, each in calls.items()}


def _with_depths(call: Call, depth: Callable[[str], int | None]) -> Call:
    found = {k: depth(t) for k, t in zip(depth_names(call), call.inputs, strict=True)}
    found["y_depth"] = depth(call.output)
    return replace(
        call, fields={**call.fields, **{k: d for k, d in found.items() if d is not None}}
    )
