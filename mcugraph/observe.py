"""Watch the C while it runs: what each step writes, and what it is given to read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from mcugraph.execute import Executor
from mcugraph.layout import Layout
from mcugraph.oracle import Array


@dataclass(frozen=True)
class Place:
    """Where a tensor stands in the arena and how its memory maps to its ONNX shape.

    It has `rows` rows, of which a ring holds the last `ring`; None where it stands as a whole.
    """

    offset: int
    bytes: int
    dtype: str
    shape: tuple[int, ...]
    layout: Layout
    rows: int
    ring: int | None

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Place:
        """Read a tensor's entry of a report; KeyError, TypeError or AssertionError if damaged."""
        dims, order = tuple(entry["memory_dims"]), tuple(entry["memory_order"])
        shape, dtype = tuple(entry["shape"]), np.dtype(str(entry["dtype"]))
        offset, size, rows, ring = (entry[k] for k in ("offset", "bytes", "rows", "ring"))
        assert isinstance(offset, int), f"no offset: {entry}"
        assert isinstance(size, int), f"no size: {entry}"
        assert isinstance(rows, int), f"no rows: {entry}"
        assert offset >= 0, f"a negative offset: {entry}"
        assert rows > 0, f"no rows: {entry}"
        assert size % rows == 0, f"uneven rows: {entry}"
        assert ring is None or 0 < ring <= rows, f"no such ring: {entry}"
        assert size == prod(shape) * dtype.itemsize, f"size and shape differ: {entry}"
        assert prod(dims) == prod(shape), f"shape and memory differ: {entry}"
        assert sorted(order) == list(range(len(dims))), f"no order of axes: {entry}"
        return cls(offset, size, dtype.name, shape, Layout(dims, order), rows, ring)

    @property
    def end(self) -> int:
        """Behind its last byte in the arena."""
        return self.offset + (self.ring or self.rows) * self.row_bytes

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return self.bytes // self.rows

    def row_offset(self, row: int) -> int:
        """Where a row stands in the arena."""
        return self.offset + row % (self.ring or self.rows) * self.row_bytes

    def put(self, executor: Executor, values: Array) -> None:
        """Write the whole tensor."""
        executor.write(self.offset, self.layout.to_memory(values).tobytes())

    def get(self, executor: Executor) -> Array:
        """The whole tensor, in its ONNX shape."""
        return self.decoded(bytearray(executor.read(self.offset, self.bytes)))

    def decoded(self, memory: bytearray) -> Array:
        """The tensor, in its ONNX shape, from all of its memory."""
        return self.layout.from_memory(np.frombuffer(memory, self.dtype), self.shape)


@dataclass(frozen=True)
class StepPlaces:
    """The run-time tensors that one step reads and writes; a step that gathers has no rows."""

    name: str
    inputs: Mapping[str, Place]
    outputs: Mapping[str, Place]


@dataclass(frozen=True)
class Part:
    """Steps that run together; fused ones, with the rows of each, take turns."""

    steps: tuple[int, ...]
    rows: tuple[int, ...]
    fused: bool
    upwards: bool


@dataclass(frozen=True)
class Subject:
    """A compiled model under test: its steps, and its inputs and outputs by their ONNX names."""

    steps: tuple[StepPlaces, ...]
    parts: tuple[Part, ...]
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    places: Mapping[str, Place]
    pushed: bool = False

    @classmethod
    def of(cls, report: Mapping[str, Any]) -> Subject:
        """Read the report of a compiled folder."""
        tensors = report["tensors"]
        places = {name: Place.of(t) for name, t in tensors.items() if t["offset"] is not None}
        steps = tuple(
            StepPlaces(
                step["name"],
                {name: places[name] for name in step["inputs"]},
                {name: places[name] for name in step["outputs"]},
            )
            for step in report["steps"]
        )
        parts = tuple(
            Part(tuple(s["steps"]), tuple(s["rows"]), bool(s["turns"]), s["upwards"])
            for s in report["sections"]
        )
        pushed = report["pushed"]
        assert isinstance(pushed, bool), "is the input pushed?"
        return cls(steps, parts, report["inputs"], report["outputs"], places, pushed)

    def image(self, truth: Mapping[str, Array]) -> bytes:
        """The bytes of an input that is pushed; none where it is written into the arena."""
        if not self.pushed:
            return b""
        (name,) = self.inputs
        return self.places[name].layout.to_memory(truth[name]).tobytes()

    @property
    def tensors(self) -> list[str]:
        """The tensors that the oracle must show: inputs of the C, and all outputs of steps."""
        used = (n for step in self.steps for n in (*step.inputs, *step.outputs))
        return list(dict.fromkeys([*self.inputs, *used, *self.outputs]))


class Observer:
    """Follows one run and keeps all that the steps write, rows that rings forget included.

    With `forced`, every step reads what the oracle had: inputs are written before a part runs,
    and each row of a fused step is put right before the next step can read it.
    """

    def __init__(
        self, subject: Subject, executor: Executor, truth: Mapping[str, Array], *, forced: bool
    ) -> None:
        self._subject = subject
        self._executor = executor
        self._truth = truth
        self._forced = forced
        self._part_of = {step: part for part in subject.parts for step in part.steps}
        self._running: tuple[int, int] | None = None
        self._done = [0] * len(subject.steps)
        self.written = {
            name: bytearray(place.bytes)
            for step in subject.steps
            for name, place in step.outputs.items()
        }

    def watch(self, index: int) -> None:
        """Called before each step, or before each row of a fused one, and after the last."""
        previous = None
        if self._running is not None:
            previous = self._part_of[self._running[0]]
            self._keep(*self._running)
        if index == len(self._subject.steps):
            return
        part = self._part_of[index]
        if self._forced and part is not previous:
            self._give(part)
        rows = part.rows[part.steps.index(index)]
        done = self._done[index]
        self._running = index, rows - 1 - done if part.upwards else done
        self._done[index] += 1

    def tensors(self) -> dict[str, Array]:
        """What the steps have written, in ONNX shapes."""
        return {
            name: place.decoded(self.written[name])
            for step in self._subject.steps
            for name, place in step.outputs.items()
        }

    def _give(self, part: Part) -> None:
        """Write the oracle's inputs of a part."""
        made = {name for index in part.steps for name in self._subject.steps[index].outputs}
        for index in part.steps:
            for name, place in self._subject.steps[index].inputs.items():
                if name not in made and place.ring is None:
                    place.put(self._executor, self._truth[name])

    def _keep(self, index: int, row: int) -> None:
        """Copy what the last call has written."""
        part = self._part_of[index]
        for name, place in self._subject.steps[index].outputs.items():
            if part.fused and place.rows == part.rows[part.steps.index(index)]:
                self._keep_row(name, place, row)
            else:
                self.written[name][:] = self._executor.read(place.offset, place.bytes)

    def _keep_row(self, name: str, place: Place, row: int) -> None:
        begin, size = row * place.row_bytes, place.row_bytes
        found = self._executor.read(place.row_offset(row), size)
        self.written[name][begin : begin + size] = found
        if self._forced:
            right = place.layout.to_memory(self._truth[name]).tobytes()[begin : begin + size]
            self._executor.write(place.row_offset(row), right)
