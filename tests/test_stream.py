"""Traces against a simulation of bytes: right with the given depths and distances, not less."""

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from groups import Memory, Sample, groups, simulate, straight
from hypothesis import given, settings

from mcugraph.stream import Reads, Stage, Trace, Whole, trace

EXAMPLES = settings(max_examples=250, deadline=None, derandomize=True)


def both_ways(sample: Sample) -> list[tuple[Trace, bool]]:
    ways = [(trace(sample.stages, sample.outside), False)]
    if not any(stage.gathers for stage in sample.stages):
        turned = [stage.upwards() for stage in sample.stages]
        ways.append((trace(turned, sample.outside), True))
    return ways


def memories_of(sample: Sample, way: Trace, depths: Mapping[str, int]) -> dict[str, Memory]:
    """Every ring and every whole tensor by itself; a merged one where its rows go."""
    found = {
        name: Memory(np.zeros(whole.bytes, int), 0, whole.row_bytes, whole.rows)
        for name, whole in sample.outside.items()
    }
    for stage in sample.stages:
        if stage.gathers:
            found[stage.output] = Memory(np.zeros(stage.row_bytes, int), 0, stage.row_bytes, 1)
        elif stage.output in depths:
            size = depths[stage.output] * stage.row_bytes
            place = Memory(np.zeros(size, int), 0, stage.row_bytes, depths[stage.output])
            found[stage.output] = place
    return found | {name: found[into] for name, into in way.merged.items()}


def inputs_of(stages: Sequence[Stage]) -> list[str]:
    made = {stage.output for stage in stages}
    return sorted({r.tensor for stage in stages for r in stage.reads} - made)


def solid(sample: Sample) -> bool:
    """Whether each row reads something: only then is nothing kept for longer than it is read."""
    every = [reads for stage in sample.stages for reads in stage.reads]
    return all(a <= b for r in every for a, b in zip(r.first, r.last, strict=True))


def works(sample: Sample, way: Trace, depths: Mapping[str, int], *, upwards: bool) -> bool:
    memories = memories_of(sample, way, depths)
    inputs = inputs_of(sample.stages)
    return simulate(sample.stages, way.events, memories, inputs, upwards=upwards)


@given(groups())
@EXAMPLES
def test_rings_of_the_given_depths_lose_nothing(sample: Sample) -> None:
    for way, upwards in both_ways(sample):
        assert works(sample, way, way.depths, upwards=upwards)


@given(groups())
@EXAMPLES
def test_any_ring_one_row_shallower_loses_a_row(sample: Sample) -> None:
    for way, upwards in both_ways(sample):
        for name, depth in way.depths.items():
            if depth > 1 and solid(sample):
                assert not works(sample, way, {**way.depths, name: depth - 1}, upwards=upwards)


@given(groups())
@EXAMPLES
def test_every_tensor_has_one_place(sample: Sample) -> None:
    for way, _ in both_ways(sample):
        made = {stage.output for stage in sample.stages}
        assert way.depths.keys() | way.merged.keys() | (made & sample.outside.keys()) == made
        assert not way.depths.keys() & way.merged.keys()
        assert not sample.outside.keys() & (way.depths.keys() | way.merged.keys())
        sizes = {stage.output: (stage.rows, stage.row_bytes) for stage in sample.stages}
        assert all(sizes[name] == sizes[into] for name, into in way.merged.items())
        assert not set(way.merged.values()) & way.merged.keys()
        places = [index for index, _ in sorted(enumerate(way.born), key=lambda pair: pair[1])]
        firsts = [way.events.index(index) for index in places]
        assert [way.born[index] for index in places] == firsts


def overlapped(
    sample: Sample, way: Trace, pair: tuple[str, str], distance: int
) -> dict[str, Memory]:
    """The memories with an output that starts `distance` bytes below an input."""
    source, output = pair
    memories = memories_of(sample, way, way.depths)
    size = memories[source].bytes.size + memories[output].bytes.size + abs(distance)
    together = np.zeros(3 * size, int)
    memories[source].bytes = memories[output].bytes = together
    memories[source].offset, memories[output].offset = size + distance, size
    return memories


@given(groups())
@EXAMPLES
def test_an_output_may_start_exactly_the_distance_below_an_input(sample: Sample) -> None:
    way = trace(sample.stages, sample.outside)
    inputs = inputs_of(sample.stages)
    for pair in ((x, y) for x in way.spent for y in way.written):
        distance = way.distance(*pair)
        memories = overlapped(sample, way, pair, distance)
        assert simulate(sample.stages, way.events, memories, inputs)
        largest = [
            spent
            for written, spent in zip(way.written[pair[1]], way.spent[pair[0]], strict=True)
            if written and written - spent == distance
        ]
        if solid(sample) and min(largest) < sample.outside[pair[0]].bytes:
            memories = overlapped(sample, way, pair, distance - 1)
            assert not simulate(sample.stages, way.events, memories, inputs)


@given(groups())
@EXAMPLES
def test_upwards_an_output_may_end_exactly_the_distance_above_an_input(sample: Sample) -> None:
    if any(stage.gathers for stage in sample.stages):
        return
    way = trace([stage.upwards() for stage in sample.stages], sample.outside)
    inputs = inputs_of(sample.stages)
    for x, y in ((x, y) for x in way.spent for y in way.written):
        distance = way.distance(x, y)
        shift = sample.outside[x].bytes + distance - sample.outside[y].bytes
        memories = overlapped(sample, way, (x, y), -shift)
        assert simulate(sample.stages, way.events, memories, inputs, upwards=True)


def sums(name: str, *tensors: str) -> Stage:
    reads = tuple(straight(tensor, 6) for tensor in tensors)
    return Stage(name, name, 6, 4, reads, in_place=tensors)


def padded(name: str, tensor: str) -> Stage:
    """A window of three rows, padded by one at both ends."""
    first = tuple(max(row - 1, 0) for row in range(6))
    last = tuple(min(row + 1, 5) for row in range(6))
    return Stage(name, name, 6, 4, (Reads(tensor, 6, first, last),))


def test_windows_of_three_rows_need_three_and_a_residual_waits_for_its_branch() -> None:
    branch = [padded("b", "a"), padded("c", "b"), padded("d", "c")]
    stages = [padded("a", "x"), *branch, sums("y", "d", "a")]
    found = trace(stages, {"x": Whole(6, 4), "y": Whole(6, 4)})
    assert found.depths == {"a": 4, "b": 3, "c": 3}
    assert found.merged == {"d": "y"}
    assert found.events[:10] == (0, 0, 1, 0, 1, 2, 0, 1, 2, 3)


def test_sums_in_a_chain_stand_in_one_place() -> None:
    stages = [padded("a", "x"), sums("b", "a", "x"), sums("c", "b", "x"), padded("y", "c")]
    found = trace(stages, {"x": Whole(6, 4), "y": Whole(6, 4)})
    assert found.depths == {"c": 3}
    assert found.merged == {"a": "c", "b": "c"}


@pytest.mark.parametrize("kept", [True, False])
def test_what_others_read_later_is_not_merged(kept: bool) -> None:
    stages = [padded("a", "x"), sums("y", "a", "x")]
    outside = {"x": Whole(6, 4), "y": Whole(6, 4)} | ({"a": Whole(6, 4)} if kept else {})
    assert trace(stages, outside).merged == ({} if kept else {"a": "y"})


def test_a_sum_of_a_tensor_with_itself_needs_its_own_row() -> None:
    stages = [padded("a", "x"), sums("y", "a", "a")]
    found = trace(stages, {"x": Whole(6, 4), "y": Whole(6, 4)})
    assert (found.merged, found.depths) == ({}, {"a": 1})
