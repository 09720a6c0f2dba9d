"""Row streaming: which rows a step reads, in which order fused steps run, how deep their rings are.

Every row of every step is computed once, on demand of the rows that read it: no recomputation.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mcugraph.stage import Reads, Stage, Whole

__all__ = ["Reads", "Stage", "Trace", "Whole", "trace"]

Ints = NDArray[np.int64]
# The row of a tensor that no unfinished row reads.
NEVER = 1 << 30


@dataclass(frozen=True)
class Trace:
    """How a group runs: the stage of each event, and what that asks of memory.

    `depths` are the rows of each ring; `merged` gives, for a tensor without a ring of its own, the
    tensor over whose next row it is written. `needed` gives, for each input, the bytes from its
    start that each event no longer needs; `written` for each output the bytes that it has after
    each event; `born` the first event of each stage.
    """

    events: tuple[int, ...]
    depths: Mapping[str, int]
    merged: Mapping[str, str]
    spent: Mapping[str, tuple[int, ...]]
    written: Mapping[str, tuple[int, ...]]
    born: tuple[int, ...]
    alive: Mapping[str, bytes]

    def distance(self, source: str, output: str) -> int:
        """Bytes by which an output must start below an input that it may overwrite."""
        pairs = zip(self.written[output], self.spent[source], strict=True)
        return max(written - spent for written, spent in pairs if written)


def trace(stages: Sequence[Stage], outside: Mapping[str, Whole]) -> Trace:
    """Run a group of stages on demand of its last rows.

    `outside` are the tensors that live as a whole: inputs of the group, and outputs that others
    read after it; every other output lives in a ring.
    """
    merged = _merged(stages, outside)
    events = _events(stages, merged)
    run = _Run(stages, outside, merged, np.array(events))
    born = tuple(int(places[0]) for places in run.places)
    ends = run.spent(), run.written(), born
    return Trace(tuple(events), run.depths(), merged, *ends, run.alive())


def _merged(stages: Sequence[Stage], outside: Mapping[str, Whole]) -> dict[str, str]:
    """Inner tensors whose only reader computes element by element: each gives up its own ring.

    Its row is written where the reader's row goes. Only one input of a step can be there.
    """
    readers: dict[str, int] = {}
    for stage in stages:
        for reads in stage.reads:
            readers[reads.tensor] = readers.get(reads.tensor, 0) + 1
    made = {stage.output: stage for stage in stages}
    merged: dict[str, str] = {}
    for stage in stages:
        for name in reversed(stage.in_place):
            source = made.get(name)
            if source is None or name in outside or readers[name] > 1 or source.gathers:
                continue
            if source.row_bytes == stage.row_bytes and source.rows == stage.rows:
                merged[name] = stage.output
                break
    return {name: _final(merged, name) for name in merged}


def _final(merged: Mapping[str, str], name: str) -> str:
    while name in merged:
        name = merged[name]
    return name


def _events(stages: Sequence[Stage], merged: Mapping[str, str]) -> list[int]:
    """The stage of each event: before a row comes all that it reads and that is not there yet.

    The input that reaches furthest back comes first, so that no row of the others waits for it;
    the one that the row is written over comes last. Parts of a row that none of them reads keep in
    step.
    """
    sources = _sources(stages, merged)
    done = [0] * len(stages)
    events: list[int] = []
    for final in range(len(stages) - 1, -1, -1):
        pending = [(final, stages[final].rows - 1)]
        while pending:
            index, wanted = pending[-1]
            row = done[index]
            if row > wanted:
                pending.pop()
                continue
            for source, last in sources[index]:
                if done[source] <= last[row]:
                    pending.append((source, last[row]))
                    break
            else:
                events.append(index)
                done[index] = row + 1
    return events


def _sources(
    stages: Sequence[Stage], merged: Mapping[str, str]
) -> list[list[tuple[int, tuple[int, ...]]]]:
    """For each stage the stages that it asks, in this order, and for which rows."""
    writers = _writers(stages)
    read = {reads.tensor for stage in stages for reads in stage.reads}
    reach: list[int] = []
    sources = []
    for stage in stages:
        inner = [
            (reads.tensor in merged, -reach[writer], reads, writer)
            for reads in stage.reads
            for writer in writers.get(reads.tensor, ())
        ]
        inner.sort(key=lambda each: each[:2])
        middle = stage.rows // 2
        ahead = (r.last[middle] - r.first[middle] - before for _, before, r, _ in inner)
        reach.append(max(ahead, default=0))
        sources.append([(writer, reads.last) for _, _, reads, writer in inner])
        if stage.output not in read and not stage.claims:
            beside = [at for at in writers[stage.output] if at < len(sources) - 1]
            sources[-1][:0] = [(at, tuple(range(stage.rows))) for at in beside]
    return sources


def _writers(stages: Sequence[Stage]) -> dict[str, list[int]]:
    """The stages that write each output, or parts of it."""
    writers: dict[str, list[int]] = {}
    for index, stage in enumerate(stages):
        writers.setdefault(stage.output, []).append(index)
    return writers


class _Run:
    """What the events of a group ask of memory; `places` are the events of each stage."""

    def __init__(
        self,
        stages: Sequence[Stage],
        outside: Mapping[str, Whole],
        merged: Mapping[str, str],
        events: Ints,
    ) -> None:
        self._stages = stages
        self._outside = outside
        self._merged = merged
        self._count = len(events)
        self.places = _places(events, [stage.rows for stage in stages])
        self._writers = _writers(stages)
        self._readers: dict[str, list[tuple[int, Reads]]] = {}
        for index, stage in enumerate(stages):
            for reads in stage.reads:
                self._readers.setdefault(reads.tensor, []).append((index, reads))

    def depths(self) -> dict[str, int]:
        """For each ring the rows that it must hold: a new one, and all that are still read."""
        depths: dict[str, int] = {}
        for index, stage in enumerate(self._stages):
            name = self._merged.get(stage.output, stage.output)
            if name not in self._outside:
                rows = np.arange(stage.rows)
                held = rows - self._oldest(name, self.places[index]) + 1
                depths[name] = max(depths.get(name, 1), int(held.max()))
        return depths

    def spent(self) -> dict[str, tuple[int, ...]]:
        """For each input, the bytes from its start that are needed no more, before each event."""
        spent = {}
        for name in sorted(self._readers):
            whole = self._outside.get(name)
            if whole is None or (name in self._writers and not whole.begun):
                continue
            events = np.arange(self._count)
            rows = np.minimum(self._oldest(name, events), whole.rows)
            for done in self._done(self._writers.get(name, ()), events):
                rows = np.minimum(rows, done)
            spent[name] = tuple((rows * whole.row_bytes).tolist())
        return spent

    def written(self) -> dict[str, tuple[int, ...]]:
        """For each output the bytes that it has after each event."""
        outside = self._outside
        outputs = [name for name in self._writers if name in outside and not outside[name].begun]
        return {name: tuple(self._size(name).tolist()) for name in outputs}

    def alive(self) -> dict[str, bytes]:
        """For each ring, whether it is in use at each event."""
        alive = {}
        for name in self.depths():
            writers = [
                index
                for index, stage in enumerate(self._stages)
                if self._merged.get(stage.output, stage.output) == name
            ]
            events = np.arange(self._count)
            done = self._done(writers, events)
            latest = np.maximum.reduce(done)
            used = latest > np.minimum(self._oldest(name, events), np.minimum.reduce(done))
            used[np.concatenate([self.places[index] for index in writers])] = True
            alive[name] = used.tobytes()
        return alive

    def _size(self, tensor: str) -> Ints:
        """Bytes of an output that are written, rows of others on their way into it included."""
        names = [tensor, *(name for name, into in self._merged.items() if into == tensor)]
        writers = [index for name in names for index in self._writers[name]]
        sizes = np.zeros(self._count, np.int64)
        done = self._done(writers, np.arange(1, self._count + 1))
        for index, rows in zip(writers, done, strict=True):
            sizes = np.maximum(sizes, _extent(self._stages[index], rows))
        return sizes

    def _done(self, stages: Iterable[int], events: Ints) -> list[Ints]:
        """The rows that each of some stages has computed before each of some events."""
        return [np.searchsorted(self.places[index], events) for index in stages]

    def _oldest(self, tensor: str, events: Ints) -> Ints:
        """Before each of some events, the first row of a tensor that is still to be read."""
        oldest = np.full(len(events), NEVER)
        for index, reads in self._readers.get(tensor, ()):
            first = np.append(reads.first, NEVER)
            done = np.searchsorted(self.places[index], events)
            oldest = np.minimum(oldest, first[done])
        return oldest


def _extent(stage: Stage, rows: Ints) -> Ints:
    """Bytes from the start of its output to the end of what a stage has written after some rows."""
    if stage.gathers:
        rows = rows // stage.rows
    return (rows > 0) * stage.claims if stage.claims else rows * stage.row_bytes


def _places(events: Ints, rows: Sequence[int]) -> list[Ints]:
    """The places at which each stage comes among the events."""
    return np.split(np.argsort(events, kind="stable"), np.cumsum(rows)[:-1])
