"""Which consecutive steps run fused, row by row: the grouping of an order with the least peak.

The peak of a grouping is the largest of its groups' bytes. The search over the cuts of an order is
exact among its groupings (not over all orders), as long as no group has more than LONG tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from heapq import heappop, heappush

import numpy as np

from mcugraph.floors import Floors
from mcugraph.group import Group, Life, Task, ring_bytes
from mcugraph.stream import Stage, Trace, Whole, trace

# The rows of an output that is written in other rows than its own.
NO_ROWS = -1


class Fuser:
    """The bytes of every group of consecutive tasks, and the best way to cut an order."""

    def __init__(
        self,
        tasks: Sequence[Task],
        lives: Mapping[str, Life],
        footprint: Callable[[Group], int] | None = None,
    ) -> None:
        """`footprint` are the bytes of a group once it is placed, where its peak is not all."""
        self._tasks = tasks
        self._lives = lives
        self._footprint = footprint
        self._floors = Floors(tasks, lives)
        self._peaks: dict[tuple[int, int], int] = {}
        self._placed: set[tuple[int, int]] = set()

    def best(self, enough: int = 0) -> tuple[Group, ...]:
        """The grouping with the least peak; of those within `enough` bytes the least fused.

        Only groups that are chosen are placed; where one does not fit, the choice is made again.
        """
        while True:
            allowed = max(self._least(), enough)
            groups = self._cut(allowed)
            grown = [group for group in groups if self._grows(group, allowed)]
            if not grown:
                return groups

    def group(self, begin: int, end: int) -> Group | None:
        """The group of these tasks; None where they cannot run row by row."""
        fused = end - begin > 1
        if fused and any(task.stage is None for task in self._tasks[begin:end]):
            return None
        return self._group(begin, end) if self._may_fuse(begin, end) else None

    def _least(self) -> int:
        """The least peak: cuts are reached in the order of what is needed on the way to them.

        A group is measured only where its floor comes first of all.
        """
        singles = [self._peak_of(place, place + 1) for place in range(len(self._tasks))]
        hopes = self._hopes(max(singles, default=0))
        reached: set[int] = set()
        queue = [(0, 0, 0, True)]
        while queue:
            worst, back, begin, known = heappop(queue)
            end = -back
            if end in reached or not (known or self._may_fuse(begin, end)):
                continue
            if not known:
                heappush(queue, (max(worst, self._peak_of(begin, end)), back, begin, True))
                continue
            if end == len(self._tasks):
                return worst
            reached.add(end)
            for floor, later in hopes[end]:
                heappush(queue, (max(worst, floor), -later, end, False))
        raise AssertionError("every step can run alone")

    def _hopes(self, limit: int) -> list[list[tuple[int, int]]]:
        """For each cut (floor, end) of the groups that begin there and may stay within a limit."""
        hopes: list[list[tuple[int, int]]] = [[] for _ in self._tasks]
        for end in range(1, len(self._tasks) + 1):
            for begin, always, floor in self._floors.before(end):
                if always > limit:
                    break
                if floor <= limit:
                    hopes[begin].append((floor, end))
        return hopes

    def _cut(self, allowed: int) -> tuple[Group, ...]:
        """The grouping within the allowed bytes that fuses the fewest steps."""
        best: list[tuple[int, int] | None] = [(0, 0)]
        for end in range(1, len(self._tasks) + 1):
            best.append(None)
            for begin, always, floor in self._floors.before(end):
                fewest, fused = _score(best[end]), end - begin - 1
                if always > allowed or fused >= fewest:
                    break
                total = _score(best[begin]) + fused
                if floor > allowed or total >= fewest:
                    continue
                if not self._may_fuse(begin, end):
                    break
                if self._peak_of(begin, end) <= allowed:
                    best[end] = (total, begin)
        return self._walk_back(best)

    def _grows(self, group: Group, allowed: int) -> bool:
        """Place a group that was not placed before; whether it then exceeds what is allowed."""
        place = group.begin, group.end
        if self._footprint is None or not group.fused or place in self._placed:
            return False
        self._placed.add(place)
        self._peaks[place] = max(self._peaks[place], self._footprint(group))
        return self._peaks[place] > allowed

    def _walk_back(self, best: Sequence[tuple[int, int] | None]) -> tuple[Group, ...]:
        groups: list[Group] = []
        end = len(self._tasks)
        while end > 0:
            entry = best[end]
            assert entry is not None, f"no grouping ends at {end}"
            groups.insert(0, self._group(entry[1], end, both=True))
            end = entry[1]
        return tuple(groups)

    def _may_fuse(self, begin: int, end: int) -> bool:
        """Whether these tasks can run row by row."""
        return end - begin == 1 or self._rows_match(begin, end)

    def _rows_match(self, begin: int, end: int) -> bool:
        """Whether all that read a tensor of the group see it in the rows in which it is written."""
        heights: dict[str, int] = {}
        for task in self._tasks[begin:end]:
            stage = task.stage
            assert stage is not None, "a task without rows in a group"
            if any(heights.setdefault(r.tensor, r.height) != r.height for r in stage.reads):
                return False
            if any(name in heights for name in set(task.inputs) - _read(stage)):
                return False
            rows = NO_ROWS if stage.claims else stage.rows
            if heights.setdefault(stage.output, rows) != rows:
                return False
        return True

    def _peak_of(self, begin: int, end: int) -> int:
        if (begin, end) not in self._peaks:
            self._peaks[begin, end] = self._group(begin, end).peak
        return self._peaks[begin, end]

    def _group(self, begin: int, end: int, *, both: bool = False) -> Group:
        """The group; the peak of fused tasks is that of running downwards, unless `both`."""
        tasks = self._tasks[begin:end]
        rows = [task.stage for task in tasks if task.stage is not None]
        down = up = None
        if len(rows) == len(tasks):
            outside = self._outside(rows, begin, end)
            down = trace(rows, outside)
            both = both or end - begin == 1
            if both and not any(stage.gathers or not stage.reads for stage in rows):
                up = trace([stage.upwards() for stage in rows], outside)
            if up is not None and any(up.depths[name] > down.depths[name] for name in down.depths):
                up = None
        group = Group(begin, end, 0, down, up)
        return replace(group, peak=self._peak(group))

    def _outside(self, stages: Sequence[Stage], begin: int, end: int) -> dict[str, Whole]:
        """The group's inputs, and those of its results that outlive it."""
        made = {stage.output: stage for stage in stages}
        begun = {name for name in made if self._lives[name].first < begin}
        outside = {
            reads.tensor: Whole(reads.height, self._lives[reads.tensor].size // reads.height)
            for stage in stages
            for reads in stage.reads
            if reads.tensor not in made
        }
        for name, stage in made.items():
            if self._lives[name].last >= end or end - begin == 1 or name in begun or stage.claims:
                outside[name] = Whole(stage.rows, stage.row_bytes, name in begun)
        return outside

    def _peak(self, group: Group) -> int:
        """The most bytes that are needed at one time while the group runs, in the better way."""
        made = self._born(group)
        around = {
            name: life
            for name, life in self._lives.items()
            if name not in made and life.first < group.end and life.last >= group.begin
        }
        if not group.fused or group.down is None:
            return self._peak_alone(group, around)
        return min(self._peak_fused(group, around, way) for way in _ways(group))

    def _born(self, group: Group) -> set[str]:
        """The outputs of a group of which nothing was written before."""
        tasks = self._tasks[group.begin : group.end]
        made = {name for task in tasks for name in task.outputs}
        return {name for name in made if self._lives[name].first >= group.begin}

    def _peak_fused(self, group: Group, around: Mapping[str, Life], way: Trace) -> int:
        tasks = self._tasks[group.begin : group.end]
        bytes_at = np.full(len(way.events), sum(life.size for life in around.values()), np.int64)
        for name in way.spent:
            if around[name].last < group.end:
                bytes_at -= way.spent[name]
        for written in way.written.values():
            bytes_at += written
        for name, size in ring_bytes(tasks, group).items():
            bytes_at += size * np.frombuffer(way.alive[name], np.uint8).astype(np.int64)
        for task, born in zip(tasks, way.born, strict=True):
            bytes_at[born:] += task.state
        scratch = np.array([task.scratch for task in tasks])
        return int((bytes_at + scratch[list(way.events)]).max())

    def _peak_alone(self, group: Group, around: Mapping[str, Life]) -> int:
        """The same of one step, whose output may overlap the inputs that die with it."""
        (task,) = self._tasks[group.begin : group.end]
        own = sum(self._lives[name].size for name in self._born(group)) + task.scratch + task.state
        whole = own + sum(life.size for life in around.values())
        dying = [name for name, life in around.items() if life.last < group.end]
        return whole - max((self._saving(group, way, dying) for way in _ways(group)), default=0)

    def _saving(self, group: Group, way: Trace, dying: Sequence[str]) -> int:
        """Bytes by which the output of one step and its dying inputs overlap.

        Each input has a least distance from the output, so the nearest goes first.
        """
        (task,) = self._tasks[group.begin : group.end]
        (output,) = task.outputs
        if output not in way.written:
            return 0
        tight = task.tight if way is group.down else {}
        apart = [
            (tight.get(x, way.distance(x, output)), self._lives[x].size)
            for x in dying
            if x in way.spent
        ]
        end = 0
        for distance, size in sorted(apart):
            end = max(end, distance) + size
        own = self._lives[output].size
        return own + sum(size for _, size in apart) - max(end, own)


def _ways(group: Group) -> list[Trace]:
    return [way for way in (group.down, group.up) if way is not None]


def _score(entry: tuple[int, int] | None) -> int:
    return 1 << 62 if entry is None else entry[0]


def _read(stage: Stage) -> set[str]:
    return {reads.tensor for reads in stage.reads}
