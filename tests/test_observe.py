"""The observer: what it keeps of rings, and that every row starts from the oracle's rows."""

from collections.abc import Callable

import numpy as np
import pytest

from mcugraph.execute import Watch
from mcugraph.layout import Layout
from mcugraph.observe import Observer, Part, Place, StepPlaces, Subject
from mcugraph.verify import bisect, compare_steps

ROWS = 4


def place(offset: int, ring: int | None = None) -> Place:
    return Place(offset, 2 * ROWS, "int8", (ROWS, 2), Layout.row_major((ROWS, 2)), ROWS, ring)


def subject(*, upwards: bool) -> Subject:
    """y = x + 1 in a ring of one row, z = 2 * y: fused."""
    places = {"x": place(0), "y": place(8, 1), "z": place(10)}
    steps = (
        StepPlaces("one", {"x": places["x"]}, {"y": places["y"]}),
        StepPlaces("two", {"y": places["y"]}, {"z": places["z"]}),
    )
    part = Part((0, 1), (ROWS, ROWS), fused=True, upwards=upwards)
    return Subject(steps, (part,), {"x": "in"}, {"z": "out"}, places)


class Fake:
    """Runs the two steps row by row; `spoil` may change memory after an event."""

    def __init__(self, *, upwards: bool, spoil: Callable[[int, int, np.ndarray], None]) -> None:
        self.memory = np.zeros(24, np.int8)
        self.order = range(ROWS)[:: -1 if upwards else 1]
        self.spoil = spoil

    def read(self, offset: int, size: int) -> bytes:
        return self.memory[offset : offset + size].tobytes()

    def write(self, offset: int, data: bytes) -> None:
        self.memory[offset : offset + len(data)] = np.frombuffer(data, np.int8)

    def run(self, watch: Watch | None, image: bytes = b"") -> None:
        for row in self.order:
            for step in range(2):
                if watch is not None:
                    watch(step)
                if step == 0:
                    self.memory[8:10] = self.memory[2 * row : 2 * row + 2] + 1
                else:
                    self.memory[10 + 2 * row : 12 + 2 * row] = 2 * self.memory[8:10]
                self.spoil(step, row, self.memory)
        if watch is not None:
            watch(2)


def nothing(step: int, row: int, memory: np.ndarray) -> None:
    pass


def truth() -> dict[str, np.ndarray]:
    x = np.arange(2 * ROWS, dtype=np.int8).reshape(ROWS, 2)
    return {"x": x, "y": x + 1, "z": 2 * (x + 1)}


WAYS = pytest.mark.parametrize("upwards", [False, True])


@WAYS
def test_all_rows_of_a_ring_are_kept(upwards: bool) -> None:
    fake = Fake(upwards=upwards, spoil=nothing)
    fake.write(0, truth()["x"].tobytes())
    observer = Observer(subject(upwards=upwards), fake, {}, forced=False)
    fake.run(observer.watch)
    assert {name: values.tolist() for name, values in observer.tensors().items()} == {
        name: truth()[name].tolist() for name in ("y", "z")
    }


@WAYS
def test_a_wrong_row_is_blamed_on_its_own_step_only(upwards: bool) -> None:
    def spoil(step: int, row: int, memory: np.ndarray) -> None:
        if (step, row) == (0, 2):
            memory[9] += 5

    fake = Fake(upwards=upwards, spoil=spoil)
    found = compare_steps(subject(upwards=upwards), fake, [truth()])
    assert [(d.name, d.differing, d.largest) for d in found] == [("one", 1, 5), ("two", 0, 0)]
    first = bisect(subject(upwards=upwards), fake, [truth()])
    assert first is not None
    assert first.step == "one"
    assert (first.ours - first.theirs).tolist() == [[0, 0], [0, 0], [0, 5], [0, 0]]


@WAYS
def test_a_wrong_last_row_of_the_last_step_is_seen(upwards: bool) -> None:
    def spoil(step: int, row: int, memory: np.ndarray) -> None:
        if (step, row) == (1, 0 if upwards else ROWS - 1):
            memory[10 + 2 * row] -= 1

    found = compare_steps(subject(upwards=upwards), Fake(upwards=upwards, spoil=spoil), [truth()])
    assert [(d.name, d.differing) for d in found] == [("one", 0), ("two", 1)]


def test_the_end_of_a_ring_is_behind_its_rows() -> None:
    assert (place(8, 1).end, place(8, 3).end, place(8).end) == (10, 14, 16)
    assert [place(8, 3).row_offset(row) for row in range(ROWS)] == [8, 10, 12, 8]


@pytest.mark.parametrize("ring", [0, -1, 5])
def test_a_ring_of_impossible_rows_is_damage(ring: int) -> None:
    entry = {
        "offset": 0,
        "bytes": 8,
        "rows": 4,
        "ring": ring,
        "dtype": "int8",
        "shape": [4, 2],
        "memory_dims": [4, 2],
        "memory_order": [0, 1],
    }
    with pytest.raises(AssertionError, match="no such ring"):
        Place.of(entry)
    assert Place.of({**entry, "ring": 2}).ring == 2
