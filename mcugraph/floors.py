"""What a group of tasks needs at least, known without running it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from mcugraph.group import Life, Task
from mcugraph.stream import Stage

# Groups of more tasks begin and end only where less is alive than beside: this is where they pay,
# and a graph of some hundred steps would take minutes without. None has more than LONGEST.
LONG, LONGEST = 16, 128


class Floors:
    """What a group needs at least, known without running it.

    At its first event, at its last, and when the last task is about to write its first row.
    """

    def __init__(self, tasks: Sequence[Task], lives: Mapping[str, Life]) -> None:
        self._tasks = tasks
        self._lives = lives
        # Bytes alive at each cut between two tasks.
        self._alive = [0] * (len(tasks) + 1)
        self._first = {name: at for at in reversed(range(len(tasks))) for name in tasks[at].outputs}
        born = {name: place + 1 for name, place in self._first.items()}
        for name, life in lives.items():
            for cut in range(born.get(name, 0), min(life.last, len(tasks)) + 1):
                self._alive[cut] += life.size
        stages = [task.stage for task in tasks if task.stage is not None]
        self._merged = {name for stage in stages for name in stage.in_place}

    def before(self, end: int) -> Iterator[tuple[int, int, int]]:
        """(begin, always, floor) of each group up to `end` that may run by rows, smallest first.

        It needs `floor` bytes, and all larger ones need `always`.
        """
        demand = _Demand(self._tasks[end - 1])
        state = rings = 0
        for begin in range(end - 1, max(end - LONGEST, 0) - 1, -1):
            stage = self._tasks[begin].stage
            if begin < end - 1 and (stage is None or stage.gathers):
                return
            state += self._tasks[begin].state
            if stage is not None:
                rings += self._held(begin, demand, end)
                demand.add(stage)
            if end - begin > LONG and not (self._narrow(begin) and self._narrow(end)):
                continue
            spent = sum(self._spent(name, rows, end) for name, rows in demand.oldest.items())
            always = max(self._alive[end] + state, rings)
            floor = self._alive[begin] - spent + rings if begin < end - 1 else 0
            yield begin, always, max(always, floor)
            if stage is None:
                return

    def _held(self, place: int, demand: _Demand, end: int) -> int:
        """Bytes of a task's output when the last task is about to begin; once for all its parts."""
        stage = self._tasks[place].stage
        if stage is None or place > self._first[stage.output]:
            return 0
        name = stage.output
        rows = demand.rows.get(name, 0)
        oldest = demand.oldest.pop(name, (0, 1))[0]
        if stage.gathers or stage.claims or (self._lives[name].last < end and name in self._merged):
            return 0
        kept = rows if self._lives[name].last >= end else max(rows - oldest, 0)
        return kept * stage.row_bytes

    def _narrow(self, cut: int) -> bool:
        """Whether no more is alive at a cut than at those beside it."""
        beside = self._alive[max(cut - 1, 0) : cut + 2]
        return cut in (0, len(self._tasks)) or self._alive[cut] == min(beside)

    def _spent(self, name: str, rows: tuple[int, int], end: int) -> int:
        life, (oldest, height) = self._lives[name], rows
        return life.size * min(oldest, height) // height if life.last < end else 0


class _Demand:
    """The rows that are there, and still needed, when the last task of a group is about to begin.

    `rows` of each tensor are written; of each that is read, `oldest` is the first row still needed
    (and its rows in all).
    """

    def __init__(self, last: Task) -> None:
        self.rows: dict[str, int] = {}
        self.oldest: dict[str, tuple[int, int]] = {}
        self._last = last.stage

    def add(self, stage: Stage) -> None:
        """What a task reads, after all tasks that read its output."""
        done = min(self.rows.get(stage.output, 0), stage.rows)
        wanted = 1 if stage is self._last else done
        for reads in stage.reads:
            first = reads.first[done] if done < stage.rows else reads.height
            before = self.oldest.get(reads.tensor, (reads.height, 0))[0]
            self.oldest[reads.tensor] = min(first, before), reads.height
            rows = reads.last[wanted - 1] + 1 if wanted else 0
            self.rows[reads.tensor] = max(self.rows.get(reads.tensor, 0), rows)
        if stage is self._last:
            self.rows[stage.output] = 1  # the parts beside it come first
