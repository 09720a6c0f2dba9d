"""The grouping of an order against all groupings of it."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
from groups import Sample, groups, straight
from hypothesis import given, settings
from hypothesis import strategies as st

from mcugraph.fuse import Fuser
from mcugraph.group import Life, Task
from mcugraph.stream import Stage

Cut = tuple[tuple[int, int], ...]


def lives_of(sample: Sample) -> dict[str, Life]:
    """What is kept outside of a group lives to the end, inputs from the start."""
    end = len(sample.stages)
    read = {
        reads.tensor: place for place, stage in enumerate(sample.stages) for reads in stage.reads
    }
    lives = {
        name: Life(whole.bytes, 0, read[name])
        for name, whole in sample.outside.items()
        if name.startswith("x")
    }
    for place, stage in enumerate(sample.stages):
        size = stage.row_bytes * (1 if stage.gathers else stage.rows)
        kept = stage.output in sample.outside or stage.output not in read
        lives[stage.output] = Life(size, place, end if kept else read[stage.output])
    return lives


@st.composite
def orders(draw: st.DrawFn) -> tuple[list[Task], dict[str, Life]]:
    """Tasks in an order, of which some cannot run row by row, with working memory."""
    sample = draw(groups())
    tasks = []
    for stage in sample.stages:
        inputs = tuple(dict.fromkeys(reads.tensor for reads in stage.reads))
        rows = None if draw(st.integers(0, 7)) == 0 else stage
        scratch, state = draw(st.sampled_from([0, 0, 3, 9])), 8 if stage.gathers else 0
        tasks.append(Task(inputs, (stage.output,), scratch, state, rows, {}))
    return tasks, lives_of(sample)


def cuts(count: int) -> Iterator[Cut]:
    """All ways to cut an order of `count` tasks into groups."""
    if count == 0:
        yield ()
    for begin in range(count):
        yield from ((*before, (begin, count)) for before in cuts(begin))


def allowed(tasks: Sequence[Task], begin: int, end: int) -> bool:
    """A task that has no rows stands alone; one that gathers ends its group."""
    stages = [task.stage for task in tasks[begin:end]]
    return end - begin == 1 or not any(
        stage is None or (stage.gathers and place < end - begin - 1)
        for place, stage in enumerate(stages)
    )


def fused(cut: Cut) -> int:
    return sum(end - begin - 1 for begin, end in cut)


@given(orders(), st.integers(0, 40))
@settings(max_examples=120, deadline=None, derandomize=True)
def test_no_other_grouping_is_better(order: tuple[list[Task], dict[str, Life]], more: int) -> None:
    tasks, lives = order
    fuser = Fuser(tasks, lives)

    def peak(cut: Cut) -> int:
        return max(fuser._group(*place).peak for place in cut)

    every = [c for c in cuts(len(tasks)) if all(allowed(tasks, *place) for place in c)]
    least = min(peak(cut) for cut in every)
    best = tuple((group.begin, group.end) for group in fuser.best())
    assert best in every
    assert peak(best) == least
    assert fused(best) == min(fused(cut) for cut in every if peak(cut) == least)
    enough = tuple((group.begin, group.end) for group in fuser.best(least + more))
    fits = [cut for cut in every if peak(cut) <= least + more]
    assert enough in fits
    assert fused(enough) == min(map(fused, fits))


def chain(count: int) -> tuple[list[Task], dict[str, Life]]:
    """Copies of eight rows of four bytes, each read by the next."""
    stages = [Stage(f"t{i}", f"t{i}", 8, 4, (straight(f"t{i - 1}", 8),)) for i in range(count)]
    tasks = [Task((f"t{i - 1}",), (f"t{i}",), 0, 0, s, {}) for i, s in enumerate(stages)]
    lives = {f"t{i}": Life(32, i, i + 1) for i in range(-1, count)}
    return tasks, lives | {"t-1": Life(32, 0, 0)}


def test_with_enough_memory_every_step_stands_alone() -> None:
    fuser = Fuser(*chain(5))
    assert not any(group.fused for group in fuser.best(1 << 40))


def test_a_step_without_rows_stands_alone() -> None:
    tasks, lives = chain(5)
    tasks[2] = replace(tasks[2], stage=None)
    for group in Fuser(tasks, lives).best():
        assert not group.begin <= 2 < group.end or not group.fused


def test_no_steps_no_groups() -> None:
    assert Fuser([], {}).best() == ()


def test_a_reader_of_other_rows_is_not_fused_with_the_writer() -> None:
    """A view of eight rows as four: its reader counts other rows than the writer."""
    tasks, lives = chain(2)
    stage = Stage("t1", "t1", 4, 8, (straight("t0", 4),))
    tasks[1] = replace(tasks[1], stage=stage)
    assert not any(group.fused for group in Fuser(tasks, lives).best())


@pytest.mark.parametrize("scratch", [0, 100])
def test_a_peak_counts_working_memory(scratch: int) -> None:
    tasks, lives = chain(1)
    tasks[0] = replace(tasks[0], scratch=scratch)
    (group,) = Fuser(tasks, lives).best()
    assert group.peak == 36 + scratch
