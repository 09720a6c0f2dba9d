"""The comparison itself: thresholds, distances, and steps of an executor made of Python."""

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mcugraph.execute import Watch
from mcugraph.layout import Layout
from mcugraph.observe import Part, Place, StepPlaces, Subject
from mcugraph.oracle import GIVEN, Oracle
from mcugraph.verify import Difference, bisect, compare_own_steps, compare_steps, run_model

Array = NDArray[Any]


def difference(elements: int, differing: int, largest: float = 1.0) -> Difference:
    return Difference("step", True, elements, differing, largest if differing else 0.0)


@pytest.mark.parametrize(
    ("elements", "most"),
    [
        (1, 1),
        (1_000, 1),
        (10_000, 2),
        (65_536, 4),
        (100_000, 5),
        (1_000_000, 20),
        (8_000_000, 107),
        (100_000_000, 1_095),
    ],
)
def test_an_integer_step_may_differ_in_a_hundred_thousandth_and_by_chance(
    elements: int, most: int
) -> None:
    assert difference(elements, most).ok
    assert not difference(elements, most + 1).ok


@given(st.integers(1, 10**9), st.integers(0, 10**6), st.integers(0, 10**6))
@settings(deadline=None, derandomize=True)
def test_fewer_differences_are_never_worse(elements: int, one: int, two: int) -> None:
    few, many = sorted((min(one, elements), min(two, elements)))
    assert difference(elements, few).ok >= difference(elements, many).ok
    assert difference(elements, few).ok_end_to_end >= difference(elements, many).ok_end_to_end
    assert difference(elements, 0).ok


@given(st.integers(1, 10**9), st.integers(1, 20), st.integers(2, 255))
@settings(deadline=None, derandomize=True)
def test_an_integer_step_never_differs_by_two(elements: int, differing: int, far: int) -> None:
    assert not difference(elements, differing, far).ok


@given(st.integers(1, 10**9))
@settings(deadline=None, derandomize=True)
def test_a_float_step_differs_nowhere_beyond_its_tolerance(elements: int) -> None:
    assert Difference("step", False, elements).ok
    assert not Difference("step", False, elements, 1, 1e-3).ok


@pytest.mark.parametrize(("elements", "most"), [(1, 1), (10, 1), (40, 2), (12_000, 600)])
def test_a_model_may_differ_in_a_twentieth_of_its_outputs(elements: int, most: int) -> None:
    assert difference(elements, most, 50).ok_end_to_end
    assert elements == most or not difference(elements, most + 1).ok_end_to_end


def test_integers_are_compared_exactly_and_without_overflow() -> None:
    found = Difference("step", True)
    found.add(np.array([-128, 5, 127, 0], np.int8), np.array([127, 5, -128, 1], np.int8))
    assert (found.elements, found.differing, found.largest) == (4, 3, 255)
    found.add(np.array([7], np.int8), np.array([7], np.int8))
    assert (found.elements, found.differing, found.largest) == (5, 3, 255)


@pytest.mark.parametrize(
    ("ours", "theirs", "equal"),
    [
        (1.0, 1.0 + 9e-5, True),
        (1.0, 1.0 + 2e-4, False),
        (1000.0, 1000.09, True),
        (1000.0, 1000.2, False),
        (0.0, 9e-5, True),
        (0.0, 2e-4, False),
        (np.inf, np.inf, True),
        (-np.inf, np.inf, False),
        (np.inf, 3.0e38, False),
        (0.0, np.inf, False),
        (np.nan, np.nan, True),
        (np.nan, 0.0, False),
        (0.0, np.nan, False),
    ],
)
def test_floats_are_compared_within_a_tolerance(ours: float, theirs: float, equal: bool) -> None:
    found = Difference("step", False)
    found.add(np.array([ours], np.float32), np.array([theirs], np.float32))
    assert found.ok is equal


class Fake:
    """An executor whose steps are functions on its arena."""

    def __init__(self, steps: list[Callable[[NDArray[np.int8]], None]], size: int = 16) -> None:
        self.memory, self.steps = np.zeros(size, np.int8), steps

    def read(self, offset: int, size: int) -> bytes:
        return self.memory[offset : offset + size].tobytes()

    def write(self, offset: int, data: bytes) -> None:
        self.memory[offset : offset + len(data)] = np.frombuffer(data, np.int8)

    def run(self, watch: Watch | None, image: bytes = b"") -> None:
        for index, step in enumerate(self.steps):
            if watch is not None:
                watch(index)
            step(self.memory)
        if watch is not None:
            watch(len(self.steps))


def place(offset: int, count: int = 4) -> Place:
    return Place(offset, count, "int8", (count,), Layout.row_major((count,)), 1, None)


PLACES = {"x": place(0), "y": place(4), "z": place(8)}
SUBJECT = Subject(
    (
        StepPlaces("double", {"x": PLACES["x"]}, {"y": PLACES["y"]}),
        StepPlaces("next", {"y": PLACES["y"]}, {"z": PLACES["z"]}),
    ),
    (Part((0,), (1,), False, False), Part((1,), (1,), False, False)),
    {"x": "input"},
    {"z": "output"},
    PLACES,
)


def double(memory: NDArray[np.int8]) -> None:
    memory[4:8] = 2 * memory[0:4]


def following(memory: NDArray[np.int8]) -> None:
    memory[8:12] = memory[4:8] + 1


def wrong_double(memory: NDArray[np.int8]) -> None:
    double(memory)
    memory[5] += 1


def truth(*x: int) -> dict[str, Array]:
    values = np.array(x, np.int8)
    return {"x": values, "y": 2 * values, "z": 2 * values + 1}


TRUTHS = [truth(1, 2, 3, 4), truth(-1, 0, 5, 6)]


def test_a_subject_asks_for_inputs_and_all_that_its_steps_touch() -> None:
    assert SUBJECT.tensors == ["x", "y", "z"]


def test_right_steps_show_no_difference() -> None:
    found = compare_steps(SUBJECT, Fake([double, following]), TRUTHS)
    assert [(d.name, d.elements, d.differing) for d in found] == [("double", 8, 0), ("next", 8, 0)]
    assert bisect(SUBJECT, Fake([double, following]), TRUTHS) is None
    outputs = run_model(SUBJECT, Fake([double, following]), TRUTHS[0])
    assert {name: values.tolist() for name, values in outputs.items()} == {"output": [3, 5, 7, 9]}


def test_a_wrong_step_is_not_passed_on_to_the_next() -> None:
    found = compare_steps(SUBJECT, Fake([wrong_double, following]), TRUTHS)
    assert [(d.name, d.differing, d.largest) for d in found] == [("double", 2, 1), ("next", 0, 0)]
    assert run_model(SUBJECT, Fake([wrong_double, following]), TRUTHS[0])["output"][1] == 6


class Pieces:
    """Both steps, each from what it is given."""

    inputs = ("input", "y" + GIVEN)

    def run(self, feed: dict[str, Array]) -> dict[str, Array]:
        assert feed.keys() == {*self.inputs}
        return {"y": 2 * feed["input"], "z": feed["y" + GIVEN] + 1}


def own_steps(*steps: Callable[[NDArray[np.int8]], None]) -> list[int]:
    truths = [{**each, "input": each["x"]} for each in TRUTHS]
    found = compare_own_steps(SUBJECT, Fake([*steps]), cast(Oracle, Pieces()), truths)
    return [difference.differing for difference in found]


def test_in_the_whole_run_a_step_answers_for_itself_alone() -> None:
    def wrong_following(memory: NDArray[np.int8]) -> None:
        following(memory)
        memory[8] = 99

    def overwriting(memory: NDArray[np.int8]) -> None:
        memory[4] = 50
        following(memory)

    assert own_steps(double, following) == [0, 0]
    assert own_steps(wrong_double, following) == [2, 0]
    assert own_steps(double, wrong_following) == [0, 2]
    assert own_steps(double, overwriting) == [0, 2]


def test_bisect_names_the_first_wrong_step_of_the_first_wrong_sample() -> None:
    def wrong_for_negatives(memory: NDArray[np.int8]) -> None:
        following(memory)
        memory[8] += memory[0] < 0

    found = bisect(SUBJECT, Fake([double, wrong_for_negatives]), TRUTHS)
    assert found is not None
    assert (found.step, found.tensor) == ("next", "z")
    assert found.ours.tolist() == [0, 1, 11, 13]
    assert found.theirs.tolist() == [-1, 1, 11, 13]
    found = bisect(SUBJECT, Fake([wrong_double, wrong_for_negatives]), TRUTHS)
    assert found is not None
    assert (found.step, found.ours.tolist()) == ("double", [2, 5, 6, 8])


@given(st.permutations(range(4)), st.lists(st.integers(1, 4), min_size=4, max_size=4))
@settings(deadline=None, derandomize=True, max_examples=50)
def test_a_place_reads_what_it_wrote_in_any_memory_order(order: list[int], dims: list[int]) -> None:
    size = int(np.prod(dims))
    layout = Layout(tuple(dims), tuple(order))
    here = Place(3, 4 * size, "float32", tuple(dims), layout, 1, None)
    values = np.random.default_rng(size).standard_normal(dims).astype(np.float32)
    fake = Fake([], 4 * size + 8)
    here.put(fake, values)
    np.testing.assert_array_equal(here.get(fake), values)
    memory = np.frombuffer(fake.read(3, 4 * size), np.float32)
    np.testing.assert_array_equal(memory.reshape([dims[i] for i in order]), values.transpose(order))
    assert not fake.memory[:3].any()
    assert not fake.memory[3 + 4 * size :].any()


def test_a_subject_is_read_from_a_report() -> None:
    entry = {
        "offset": 8,
        "bytes": 6,
        "rows": 2,
        "ring": None,
        "dtype": "int8",
        "shape": [1, 2, 3],
        "memory_dims": [1, 2, 3],
        "memory_order": [0, 2, 1],
    }
    report = {
        "tensors": {"a": entry, "b": {**entry, "offset": 16}, "constant": {"offset": None}},
        "steps": [{"name": "s", "inputs": ["a"], "outputs": ["b"]}],
        "sections": [{"steps": [0], "rows": [2], "turns": [], "upwards": True}],
        "pushed": False,
        "inputs": {"a": "in"},
        "outputs": {"b": "out"},
    }
    subject = Subject.of(report)
    layout = Layout((1, 2, 3), (0, 2, 1))
    assert subject.places["b"] == Place(16, 6, "int8", (1, 2, 3), layout, 2, None)
    assert subject.parts == (Part((0,), (2,), fused=False, upwards=True),)
    assert subject.tensors == ["a", "b"]
    with pytest.raises(AssertionError, match="no offset"):
        Subject.of({**report, "tensors": {"a": {**entry, "offset": "8"}, "b": entry}})
