"""Random groups of stages, and a simulation of their run that knows nothing of `trace`."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from mcugraph.stream import Reads, Stage, Whole


@dataclass(frozen=True)
class Sample:
    """A group: its stages, and the tensors that live as a whole."""

    stages: tuple[Stage, ...]
    outside: Mapping[str, Whole]


@dataclass
class Memory:
    """Where a tensor stands: row r in slot r modulo `depth`, each byte tagged."""

    bytes: np.ndarray
    offset: int
    row_bytes: int
    depth: int

    def row(self, row: int) -> slice:
        start = self.offset + row % self.depth * self.row_bytes
        return slice(start, start + self.row_bytes)


def window(draw: st.DrawFn, name: str, tensor: str, height: int) -> Stage | None:
    kernel, stride = draw(st.integers(1, 5)), draw(st.integers(1, 3))
    dilation = draw(st.integers(1, 2))
    before, after = draw(st.integers(0, 3)), draw(st.integers(0, 3))
    reach = (kernel - 1) * dilation + 1
    rows = (height + before + after - reach) // stride + 1
    if rows < 1:
        return None
    first, last = [], []
    for row in range(rows):
        taps = [row * stride - before + tap * dilation for tap in range(kernel)]
        first.append(min(max(taps[0], 0), height))
        last.append(max(min(taps[-1], height - 1), -1))
    reads = Reads(tensor, height, tuple(first), tuple(last))
    return Stage(name, name, rows, draw(st.integers(1, 6)), (reads,))


def straight(tensor: str, height: int, factor: int = 1) -> Reads:
    rows = tuple(row // factor for row in range(height * factor))
    return Reads(tensor, height, rows, rows)


@st.composite
def groups(draw: st.DrawFn) -> Sample:
    """Windows, residual sums, concatenations, enlargements; at the end maybe one that gathers."""
    height, size = draw(st.integers(2, 12)), draw(st.integers(1, 6))
    known = {"x": (height, size)}
    if draw(st.booleans()):
        known["x2"] = (height, size)
    given = dict(known)
    stages: list[Stage] = []
    for number in range(draw(st.integers(1, 7))):
        name = f"t{number}"
        tensor = draw(st.sampled_from([*known][-3:]))
        rows, size = known[tensor]
        alike = sorted(t for t, (r, _) in known.items() if r == rows and t != tensor)
        kind = draw(st.sampled_from(["window", "window", "add", "add", "concat", "larger"]))
        stage: Stage | None
        if kind in ("add", "concat") and alike:
            other = draw(st.sampled_from(alike))
            both = (straight(tensor, rows), straight(other, rows))
            if kind == "add":
                same = tuple(t for t in (tensor, other) if known[t][1] == size)
                stage = Stage(name, name, rows, size, both, in_place=same)
            else:
                stage = Stage(name, name, rows, size + known[other][1], both)
        elif kind == "larger" and rows < 10:
            stage = Stage(name, name, 2 * rows, size, (straight(tensor, rows, 2),))
        else:
            stage = window(draw, name, tensor, rows)
        if stage is not None:
            stages.append(stage)
            known[name] = (stage.rows, stage.row_bytes)
    if not stages or draw(st.integers(0, 4)) == 0:
        tensor = [*known][-1]
        reads = straight(tensor, known[tensor][0])
        stages.append(Stage("g", "g", known[tensor][0], 5, (reads,), gathers=True))
    return Sample(tuple(stages), whole(draw, stages, given))


def whole(
    draw: st.DrawFn, stages: Sequence[Stage], given: Mapping[str, tuple[int, int]]
) -> dict[str, Whole]:
    """The inputs that are read, all that nothing reads, and sometimes others that are kept."""
    read = {reads.tensor for stage in stages for reads in stage.reads}
    outside = {name: Whole(*given[name]) for name in given if name in read}
    for stage in stages:
        if stage.output not in read or draw(st.integers(0, 5)) == 0:
            outside[stage.output] = Whole(stage.rows, stage.row_bytes)
    return outside


class Run:
    """Runs stages on tagged bytes: `tags` are those of earlier groups, `works` working memory.

    A row may be written over one that it is computed from only in the memory that both share.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        memories: Mapping[str, Memory],
        tags: dict[tuple[str, int], int] | None = None,
        works: Mapping[str, slice] | None = None,
    ) -> None:
        self.stages, self.memories = stages, memories
        self.tags = {} if tags is None else tags
        self.works = works or {}

    def write(self, name: str, row: int) -> None:
        tag = self.tags.setdefault((name, row), len(self.tags) + 1)
        self.memories[name].bytes[self.memories[name].row(row)] = tag

    def holds(self, name: str, row: int) -> bool:
        memory = self.memories[name]
        return bool((memory.bytes[memory.row(row)] == self.tags.get((name, row), -1)).all())

    def all_events(self, events: Iterable[int], *, upwards: bool) -> bool:
        """False where a row that is read is not there any more."""
        done = [0] * len(self.stages)
        for index in events:
            if not self._event(index, done[index], upwards=upwards):
                return False
            done[index] += 1
        assert done == [s.rows for s in self.stages], "a row is left out or computed twice"
        return self._ends()

    def _event(self, index: int, place: int, *, upwards: bool) -> bool:
        stage = self.stages[index]
        row = stage.rows - 1 - place if upwards else place
        reads = [
            (reads.tensor, source)
            for reads in stage.reads
            for source in range(reads.first[row], reads.last[row] + 1)
        ]
        if not all(self.holds(*each) for each in reads) or not self._work(stage, place):
            return False
        if not stage.gathers:
            self.write(stage.output, row)
        elif place == stage.rows - 1:
            self.write(stage.output, 0)
        mine = self.memories[stage.output]
        return all(self.holds(*each) for each in reads if self.memories[each[0]] is not mine)

    def _work(self, stage: Stage, place: int) -> bool:
        """Use the working memory; the sums of a stage that gathers must have survived."""
        if stage.output not in self.works:
            return True
        used = self.memories[stage.output].bytes[self.works[stage.output]]
        sums = self.tags.setdefault((f"sums of {stage.output}", 0), len(self.tags) + 1)
        kept = bool((used == sums).all())
        used[:] = sums
        return kept or not stage.gathers or place == 0

    def _ends(self) -> bool:
        """Whether what nobody in the group reads is there at its end."""
        read = {reads.tensor for stage in self.stages for reads in stage.reads}
        return all(
            self.holds(stage.output, row)
            for stage in self.stages
            if stage.output not in read
            for row in range(1 if stage.gathers else stage.rows)
        )


def simulate(
    stages: Sequence[Stage],
    events: Iterable[int],
    memories: Mapping[str, Memory],
    inputs: Sequence[str],
    *,
    upwards: bool = False,
) -> bool:
    """Run one group on its inputs."""
    run = Run(stages, memories)
    for name in inputs:
        for row in range(memories[name].depth):
            run.write(name, row)
    return run.all_events(events, upwards=upwards)
