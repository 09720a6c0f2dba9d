"""Tasks over memory, and the groups of them that run together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mcugraph.stream import Stage, Trace


@dataclass(frozen=True)
class Task:
    """A step at its place in the order.

    `scratch` is working memory of one call, `state` of all calls of the step. `stage` is None where
    it cannot run row by row. `tight` gives, for inputs that are read pixel by
    pixel or element by element, the bytes by which the output may start below them when the step
    runs alone and downwards: fewer than whole rows allow.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    scratch: int
    state: int
    stage: Stage | None
    tight: Mapping[str, int]


@dataclass(frozen=True)
class Life:
    """A tensor that needs `size` bytes from place `first` to place `last` of the order."""

    size: int
    first: int
    last: int


@dataclass(frozen=True)
class Group:
    """Tasks `begin` to `end` - 1, their bytes, and how they run downwards and upwards.

    `down` is None for a step that reads its inputs as a whole, `up` where rows must be downwards.
    """

    begin: int
    end: int
    peak: int
    down: Trace | None
    up: Trace | None

    @property
    def fused(self) -> bool:
        """Whether rows of several steps alternate."""
        return self.end - self.begin > 1

    def depth(self, tensor: str) -> int:
        """Rows of the ring that serves both directions."""
        return max(way.depths[tensor] for way in (self.down, self.up) if way is not None)

    def writers(self, tasks: Sequence[Task], tensor: str) -> tuple[int, ...]:
        """The places in the group of the tasks that write into a ring, merged ones included."""
        assert self.down is not None, "a group without rows has no rings"
        merged = self.down.merged
        own = enumerate(tasks[self.begin : self.end])
        return tuple(at for at, t in own if tensor in {merged.get(n, n) for n in t.outputs})


def ring_bytes(tasks: Sequence[Task], group: Group) -> dict[str, int]:
    """The bytes of each ring of a group."""
    rows = {task.stage.output: task.stage.row_bytes for task in tasks if task.stage is not None}
    names = group.down.depths if group.fused and group.down is not None else {}
    return {name: group.depth(name) * rows[name] for name in names}
