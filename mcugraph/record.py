"""One frozen record of all that the emitter needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mcugraph.arrange import scratch_name, state_name
from mcugraph.exits import gate_of
from mcugraph.graph import Graph, Step
from mcugraph.layout import Layouts
from mcugraph.lower.call import Call
from mcugraph.memory import MemoryPlan
from mcugraph.repeat import Recomputed
from mcugraph.schedule import Schedule
from mcugraph.targets import Target
from mcugraph.tasks import rows_of


@dataclass(frozen=True)
class Section:
    """Steps that run together, one row of one step at a time in the order of `events`.

    A single step has no events: it runs at once, from its last row to its first if `upwards`.
    """

    steps: tuple[Step, ...]
    events: tuple[int, ...]
    upwards: bool
    peak: int

    @property
    def title(self) -> str:
        """Its first and last step."""
        if not self.steps:
            return "the input"
        first, last = self.steps[0].name, self.steps[-1].name
        return first if first == last else f"{first} to {last}, fused"

    @property
    def turns(self) -> NDArray[np.generic]:
        """The events as the table that the C reads."""
        return np.array(self.events, np.uint8 if len(self.steps) < 256 else np.uint16)


@dataclass(frozen=True)
class Plan:
    """A graph, its schedule, its memory and the kernel calls of every step, for one target.

    `rings` gives the rows of each tensor that is kept in a ring; `merged` the tensor in whose place
    another one's rows are written; `progress` is the offset of the state of a run whose input is
    pushed: its first section has one more event, number len(steps), that waits for a row.
    """

    name: str
    graph: Graph
    layouts: Layouts
    schedule: Schedule
    sections: tuple[Section, ...]
    calls: Mapping[str, tuple[Call, ...]]
    memory: MemoryPlan
    rings: Mapping[str, int]
    merged: Mapping[str, str]
    progress: int | None
    target: Target
    recomputed: Recomputed | None = None

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps that compute something, in execution order: a view is no step."""
        return tuple(step for section in self.sections for step in section.steps)

    @property
    def leaving(self) -> int | None:
        """The number of the section after which the run may end early."""
        early = self.graph.before_exit
        names = ({step.name for step in section.steps} for section in self.sections)
        return max((at for at, own in enumerate(names) if early & own), default=None)

    def place(self, tensor: str) -> str:
        """The buffer in which a run-time tensor stands."""
        root = self.layouts.root(tensor)
        return self.merged.get(root, root)

    def offset(self, tensor: str) -> int:
        """Where a run-time tensor, or the first pixel of a part, stands in the arena, in bytes."""
        part = self.layouts.part(tensor)
        return self.memory.offsets[self.place(tensor)] + (0 if part is None else part.offset)

    def rows(self, tensor: str) -> int:
        """The rows of a run-time tensor."""
        return rows_of(self.layouts, tensor)

    def depth(self, tensor: str) -> int:
        """How many of its rows are in memory at a time."""
        return self.rings.get(self.place(tensor), self.rows(tensor))

    def scratch_offset(self, step: Step) -> int:
        """Where a step's scratch stands in the arena, in bytes."""
        number = self.steps.index(step) + (self.progress is not None)
        gathers = any(call.gathers for call in self.calls[step.name])
        return self.memory.offsets[state_name(number) if gathers else scratch_name(number)]

    def scratch(self, step: Step) -> int:
        """Bytes of working memory that a step needs."""
        return max((call.scratch for call in self.calls[step.name]), default=0)

    def peak(self, step: Step) -> int:
        """Bytes that are needed at one time, at most, while the step's section runs."""
        return next(section.peak for section in self.sections if step in section.steps)

    def row_by_row(self, section: Section) -> bool:
        """Whether a step that runs alone takes its rows one after the other, all calls in each."""
        calls = self.calls[section.steps[0].name]
        return section.upwards or len({call.rows for call in calls}) == 1 < len(calls)

    @property
    def kernels(self) -> tuple[str, ...]:
        """The names of the kernels used, sorted."""
        names = {call.kernel for step in self.steps for call in self.calls[step.name]}
        gate = gate_of(self.graph)
        return tuple(sorted(names if gate is None else {*names, gate.kernel}))

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one inference."""
        return sum(call.macs for calls in self.calls.values() for call in calls)
