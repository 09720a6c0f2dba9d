"""Watch the C while it runs: what each step writes, and what it is given to read."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Any

from mcugraph.execute import Executor
from mcugraph.oracle import Array
from mcugraph.place import Place


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
        self._parts: dict[str, list[str]] = {}
        for step in subject.steps:
            for name, place in step.outputs.items():
                if place.whole is not None:
                    self._parts.setdefault(place.whole, []).append(name)
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
                if place.ring is None:
                    self._give_tensor(name, made)

    def _give_tensor(self, name: str, made: Set[str]) -> None:
        """Write the oracle's tensor; of one that these steps make in part, the parts made before.

        They must not write into what they make whole: it may stand where their inputs are spent.
        """
        places, whole = self._subject.places, self._subject.places[name].whole or name
        parts = self._parts.get(whole, [])
        given = [name] if made.isdisjoint({whole, *parts}) else set(parts) - made
        for each in given:
            places[each].put(self._executor, self._truth[each])

    def _keep(self, index: int, row: int) -> None:
        """Copy what the last call has written."""
        part = self._part_of[index]
        for name, place in self._subject.steps[index].outputs.items():
            if part.fused and place.rows == part.rows[part.steps.index(index)]:
                self._store(name, row * place.row_bytes, place.read_row(self._executor, row))
                self._correct(name, place, row)
            else:
                self._store(name, 0, place.read(self._executor))

    def _store(self, name: str, begin: int, found: bytes) -> None:
        """Keep bytes of a tensor from `begin` on, and in what it is a part of, if that is kept."""
        self.written[name][begin : begin + len(found)] = found
        place = self._subject.places[name]
        if place.whole in self.written:
            start = place.offset - self._subject.places[place.whole].offset + place.behind(begin)
            place.spread(self.written[place.whole], start, found)

    def _correct(self, name: str, place: Place, row: int) -> None:
        """Put a row right before the next step reads it."""
        if self._forced:
            begin = row * place.row_bytes
            right = place.layout.to_memory(self._truth[name]).tobytes()
            place.write_row(self._executor, row, right[begin : begin + place.row_bytes])
