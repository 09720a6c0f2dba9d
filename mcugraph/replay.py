"""The judge of a plan: its calls replayed on a shadow of the arena, byte by byte.

Every byte remembers which row of which tensor was last written there. A call that reads a row must
find it whole, and must not write over what it still reads. Shares no code with the planner.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mcugraph.lower.call import Call
from mcugraph.lower.reads import ELEMENT_WISE, PIXEL_WISE, depth_names, rows_read

Span = tuple[int, int]


@dataclass(frozen=True)
class Placed:
    """A tensor in the arena: `rows` rows of `row_bytes`, row r in slot r modulo `depth`.

    `holder` is the tensor whose bytes it shares: itself, unless it is a view.
    """

    holder: str
    offset: int
    rows: int
    row_bytes: int
    depth: int

    def span(self, row: int) -> Span:
        """The bytes of a row, from begin to end."""
        start = self.offset + row % self.depth * self.row_bytes
        return start, start + self.row_bytes


@dataclass(frozen=True)
class Event:
    """A call for rows `begin` to `end` - 1 of its result, with its working memory."""

    call: Call
    begin: int
    end: int
    scratch: Span


class Shadow:
    """What the bytes of an arena hold."""

    def __init__(self, size: int, placed: Mapping[str, Placed]) -> None:
        self._bytes = np.zeros(size, np.int64)
        self._placed = placed
        self._tags: dict[tuple[str, int], int] = {}

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
            self._write(call.output, row, [*spans, scratch])

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
            self._write(call.output, row, [*self._protected(call, row, spans), event.scratch])
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
        begin, end = row * view.row_bytes, (row + 1) * view.row_bytes
        for source in range(begin // size, -(-end // size)):
            start = held.span(source)[0] - source * size
            low, high = max(begin, source * size), min(end, (source + 1) * size)
            right = self._bytes[start + low : start + high] == self._tag(view.holder, source)
            assert right.all(), f"{who} finds row {row} of {tensor} lost"
        return view.span(row)

    def _write(self, tensor: str, row: int, protected: list[Span]) -> None:
        begin, end = self._placed[tensor].span(row)
        assert end <= len(self._bytes), f"{tensor} ends outside the arena"
        clash = [span for span in protected if _meet(span, (begin, end))]
        assert not clash, f"row {row} of {tensor} is written over what is being read"
        self._bytes[begin:end] = self._tag(tensor, row)

    def _tag(self, tensor: str, row: int) -> int:
        return self._tags.setdefault((tensor, row), len(self._tags) + 1)


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
