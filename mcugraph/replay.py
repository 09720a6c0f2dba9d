"""The judge of a plan: its calls replayed on a shadow of the arena, byte by byte.

Every byte remembers which row of which tensor was last written there. A call that reads a row must
find it whole, and must not write over what it still reads. A row of a concatenation is whole when
every operand has written its bytes of it, each where ONNX says, not the plan. Shares no code with
the planner.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mcugraph.lower.call import Call
from mcugraph.lower.reads import ELEMENT_WISE, PIXEL_WISE, depth_names, rows_read

Span = tuple[int, int]
Places = NDArray[np.int64]


@dataclass(frozen=True)
class Placed:
    """A tensor in the arena: `rows` rows of `row_bytes`, row r in slot r modulo `depth`.

    `holder` is the tensor whose bytes it shares: itself, unless it is a view. With a `step`, its
    pixels, of `pixel` bytes, are that many bytes apart: other tensors stand between them.
    """

    holder: str
    offset: int
    rows: int
    row_bytes: int
    depth: int
    pixel: int = 0
    step: int = 0

    @property
    def pitch(self) -> int:
        """Bytes from one row to the next."""
        return self.row_bytes // self.pixel * self.step if self.step else self.row_bytes

    def start(self, row: int) -> int:
        """Where a row begins."""
        return self.offset + row % self.depth * self.pitch

    def span(self, row: int) -> Span:
        """The bytes of a row, from begin to end, and what stands between them."""
        size = self.pitch - self.step + self.pixel if self.step else self.row_bytes
        return self.start(row), self.start(row) + size

    def places(self, row: int) -> Places:
        """The bytes of a row, one by one."""
        if not self.step:
            return np.arange(*self.span(row))
        return _blocks(self.start(row), (self.row_bytes // self.pixel, self.step, self.pixel))


@dataclass(frozen=True)
class Join:
    """A concatenation along an axis of its memory: operands with their shapes there, in order.

    Those in `copied` are written by calls of the concatenation itself, the others in its place.
    """

    operands: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    axis: int
    copied: frozenset[str]


@dataclass(frozen=True)
class Event:
    """A call for rows `begin` to `end` - 1 of its result, with its working memory."""

    call: Call
    begin: int
    end: int
    scratch: Span


class Shadow:
    """What the bytes of an arena hold."""

    def __init__(
        self, size: int, placed: Mapping[str, Placed], joins: Mapping[str, Join] | None = None
    ) -> None:
        self._bytes = np.zeros(size, np.int64)
        self._placed = placed
        self._joins = joins or {}
        self._tags: dict[tuple[str, int], int] = {}
        self._wanted = {name: self._joined(name) for name in self._joins}

    def fill(self, tensor: str) -> None:
        """All rows of a tensor are written."""
        for row in range(self._placed[tensor].rows):
            self._write(tensor, row, [])

    def push(self, tensor: str, row: int) -> None:
        """A row of the input comes in."""
        self._write(tensor, row, [])

    def need(self, tensor: str) -> None:
        """AssertionError unless all rows of a tensor are there."""
        holder = self._placed[tensor].holder
        for row in range(self._placed[holder].rows):
            self._read(holder, row, "the end")

    def run(self, event: Event) -> None:
        """One call, row by row; one whose rows are not those of its tensors as a whole, at once."""
        if self._by_rows(event.call):
            for row in range(event.begin, event.end):
                self._run_row(event, row)
        elif event.begin == 0:
            self._run_whole(event)

    def _by_rows(self, call: Call) -> bool:
        """Whether the kernel counts rows as its tensors have them; a ring must be known to it."""
        names, fields = [*call.inputs], [*depth_names(call)]
        if not call.gathers:
            names, fields = [*names, call.output], [*fields, "y_depth"]
        tensors = [self._placed[name] for name in names]
        depths = [call.fields.get(field) for field in fields]
        same = call.rows == tensors[-1].rows and all(
            depth == tensor.depth for depth, tensor in zip(depths, tensors, strict=True)
        )
        whole = all(tensor.depth == tensor.rows for tensor in tensors)
        assert same or whole, f"{call.kernel} for {call.output} does not know the depth of a ring"
        return same

    def _run_whole(self, event: Event) -> None:
        call, scratch = event.call, event.scratch
        who = f"{call.kernel} for {call.output}"
        spans = [
            self._read(name, source, who)
            for name in call.inputs
            for source in range(self._placed[name].rows)
        ]
        assert scratch[1] <= len(self._bytes), f"{who}: scratch ends outside the arena"
        assert not any(_meet(scratch, span) for span in spans), f"{who}: scratch on an input"
        self._bytes[scratch[0] : scratch[1]] = -1
        for row in range(self._placed[call.output].rows):
            self._store(call, row, [*spans, scratch])

    def _run_row(self, event: Event, row: int) -> None:
        call = event.call
        who = f"{call.kernel} for row {row} of {call.output}"
        spans = [
            self._read(name, source, who)
            for index, name in enumerate(call.inputs)
            for source in self._rows_needed(call, index, row)
        ]
        begin, end = event.scratch
        assert end <= len(self._bytes), f"{who}: scratch ends outside the arena"
        assert not any(_meet(event.scratch, span) for span in spans), f"{who}: scratch on an input"
        if call.gathers:
            self._gather(event, row, who)
        else:
            self._bytes[begin:end] = -1
        if not call.gathers:
            self._store(call, row, [*self._protected(call, row, spans), event.scratch])
        elif row == call.rows - 1:
            for own in range(self._placed[call.output].rows):
                self._write(call.output, own, [*spans, event.scratch])

    def _gather(self, event: Event, row: int, who: str) -> None:
        """The sums of a call that gathers must survive from its first row to its last."""
        begin, end = event.scratch
        tag = self._tag("(sums) " + event.call.output, 0)
        assert row == 0 or (self._bytes[begin:end] == tag).all(), f"{who}: its sums are lost"
        self._bytes[begin:end] = tag

    def _rows_needed(self, call: Call, index: int, row: int) -> range:
        """The rows of an input that a row of the result is computed from."""
        rows = rows_read(call, index)
        if rows is None:
            return range(self._placed[call.inputs[index]].rows)
        first, last = (int(end[row]) for end in rows)
        return range(first, last + 1)

    def _protected(self, call: Call, row: int, spans: list[Span]) -> list[Span]:
        """The bytes that must not be written because the same call still reads them."""
        target = self._placed[call.output].span(row)
        if self._placed[call.output].step:
            return spans
        if call.kernel in ELEMENT_WISE:
            return [span for span in spans if not _element_by_element(target, span)]
        if call.kernel in PIXEL_WISE:
            width = call.fields["y_width"]
            assert isinstance(width, int), f"{call.kernel}: {width}"
            return [span for span in spans if not _pixel_by_pixel(target, span, width)]
        return spans

    def _read(self, tensor: str, row: int, who: str) -> Span:
        """The bytes of a row, which must be those that the tensor that holds them has there."""
        view = self._placed[tensor]
        assert view.span(row)[1] <= len(self._bytes), f"{tensor} ends outside the arena"
        held, size = self._placed[view.holder], self._placed[view.holder].row_bytes
        assert not held.step, f"{who} reads {tensor}, whose pixels are apart"
        begin, end = row * view.row_bytes, (row + 1) * view.row_bytes
        for source in range(begin // size, -(-end // size)):
            start = held.span(source)[0] - source * size
            low, high = max(begin, source * size), min(end, (source + 1) * size)
            wanted = self._wanted.get(view.holder)
            tags = self._tag(view.holder, source) if wanted is None else wanted[low:high]
            right = self._bytes[start + low : start + high] == tags
            assert right.all(), f"{who} finds row {row} of {tensor} lost"
        return view.span(row)

    def _store(self, call: Call, row: int, protected: list[Span]) -> None:
        """Write a row of a call's result: of a concatenation, no more than its operand's bytes."""
        if call.output not in self._joins:
            self._write(call.output, row, protected)
            return
        assert call.kernel == "concat", f"{call.kernel} writes {call.output}"
        field = {name: value for name, value in call.fields.items() if isinstance(value, int)}
        source = row - field["y_first"]
        if 0 <= source < field["x_rows"]:
            slot = row % self._placed[call.output].depth * field["y_row"] + field["y_offset"]
            blocks = field["blocks"], field["y_step"], field["block"]
            places = _blocks(self._placed[call.output].offset + slot, blocks)
            self._mark(places, self._copy(call.output, call.inputs[0], source), protected)

    def _write(self, tensor: str, row: int, protected: list[Span]) -> None:
        placed = self._placed[tensor]
        begin, end = placed.span(row)
        assert end <= len(self._bytes), f"{tensor} ends outside the arena"
        if placed.step:
            self._mark(placed.places(row), self._tag(tensor, row), protected)
            return
        clash = [span for span in protected if _meet(span, (begin, end))]
        assert not clash, f"row {row} of {tensor} is written over what is being read"
        self._bytes[begin:end] = self._tag(tensor, row)

    def _mark(self, places: Places, tag: int, protected: list[Span]) -> None:
        """Write single bytes."""
        assert places.max() < len(self._bytes), "a part ends outside the arena"
        clash = [s for s in protected if ((places >= s[0]) & (places < s[1])).any()]
        assert not clash, "a part is written over what is being read"
        self._bytes[places] = tag

    def _joined(self, tensor: str) -> Places:
        """What each byte of a concatenation must hold, in the order of its memory."""
        join = self._joins[tensor]
        operands = [
            self._operand(tensor, name).reshape(*shape, -1)
            for name, shape in zip(join.operands, join.shapes, strict=True)
        ]
        return np.concatenate(operands, join.axis).ravel()

    def _operand(self, tensor: str, name: str) -> Places:
        """The same of one operand."""
        holder = self._placed[name].holder
        copied = name in self._joins[tensor].copied
        if holder in self._joins and not copied:
            return self._joined(holder)
        placed = self._placed[name if copied else holder]
        rows = range(placed.rows)
        tags = [self._copy(tensor, name, r) if copied else self._tag(holder, r) for r in rows]
        return np.repeat(np.array(tags, np.int64), placed.row_bytes)

    def _copy(self, tensor: str, name: str, row: int) -> int:
        """The copy of a row of an operand in a concatenation."""
        return self._tag(f"{name} in {tensor}", row)

    def _tag(self, tensor: str, row: int) -> int:
        return self._tags.setdefault((tensor, row), len(self._tags) + 1)


def _blocks(start: int, blocks: tuple[int, int, int]) -> Places:
    """The places of (count, step, size) blocks of bytes."""
    count, step, size = blocks
    return (start + np.arange(count)[:, None] * step + np.arange(size)).ravel()


def _meet(one: Span, two: Span) -> bool:
    return max(one[0], two[0]) < min(one[1], two[1])


def _element_by_element(target: Span, source: Span) -> bool:
    """Whether writing each element after reading it spoils no later one."""
    return target[1] - target[0] == source[1] - source[0] and target[0] <= source[0]


def _pixel_by_pixel(target: Span, source: Span, pixels: int) -> bool:
    """Whether writing each pixel after reading it spoils no later one."""
    written, read = (target[1] - target[0]) // pixels, (source[1] - source[0]) // pixels
    return all(
        not _meet(
            (target[0] + p * written, target[0] + (p + 1) * written),
            (source[0] + p * read, source[1]),
        )
        for p in range(pixels)
    )
