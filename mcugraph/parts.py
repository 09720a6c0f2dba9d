"""Concatenation without copies: what computes an operand writes it into the concatenation.

An operand that nothing else reads is written where the copy would put it: pixels further apart
where the channels are joined, one run of bytes where only axes of size 1 lie above.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, replace

import numpy as np

from mcugraph.graph import Graph, Step
from mcugraph.layout import Layouts, Part
from mcugraph.lower.call import Call, Field

Calls = dict[str, tuple[Call, ...]]


def joined(graph: Graph, layouts: Layouts) -> set[str]:
    """The concatenations with an operand that is computed in place."""
    concats = [step for step in graph.steps if step.op == "Concat"]
    return {s.name for s in concats if layouts.reads(graph, s) != graph.activations(s)}


def place_parts(
    graph: Graph,
    layouts: Layouts,
    calls: Mapping[str, tuple[Call, ...]],
    allowed: Set[str],
) -> tuple[Layouts, Calls]:
    """Compute the operands of the allowed concatenations in place, as far as it can be done."""
    placer = _Placer(graph, layouts, dict(calls))
    for step in graph.steps:
        if step.op == "Concat" and step.name in allowed:
            placer.join(step)
    return replace(layouts, parts=placer.parts), placer.calls


@dataclass(frozen=True)
class _Slot:
    """The part of a concatenation that one call of it would copy to."""

    part: Part
    rows: int
    row: int


class _Placer:
    """Parts found so far, and the calls that write them."""

    def __init__(self, graph: Graph, layouts: Layouts, calls: Calls) -> None:
        self._graph = graph
        self._layouts = layouts
        self.calls = calls
        self.parts: dict[str, Part] = {}
        self._kept = {layouts.holder(name) for name in (*graph.inputs, *graph.outputs)}
        self._readers: dict[str, int] = {}
        for step in graph.steps:
            for name in step.inputs if calls[step.name] else ():
                if name and graph.tensors[name].data is None:
                    held = layouts.holder(name)
                    self._readers[held] = self._readers.get(held, 0) + 1

    def join(self, step: Step) -> None:
        """Place the operands of one concatenation; the copies of the others stay."""
        self.calls[step.name] = tuple(
            call for call in self.calls[step.name] if not self._place(call)
        )

    def _place(self, copy: Call) -> bool:
        source = self._layouts.holder(copy.inputs[0])
        slot = _slot(copy)
        alone = self._readers[source] == 1 and source not in self._kept
        if slot is None or not alone or copy.fields["table"] is not None:
            return False
        writers = dict(self._writers(source))
        if any(call.kernel == "concat" for call in writers.values()):
            return False
        if slot.part.step:
            moved = {key: _moved(call, slot, self._item(source)) for key, call in writers.items()}
            if None in moved.values():
                return False
            writers = {key: call for key, call in moved.items() if call is not None}
        for (name, place), call in writers.items():
            own = list(self.calls[name])
            own[place] = call
            self.calls[name] = tuple(own)
        size = self._graph.tensors[source].bytes
        part = slot.part if slot.part.step else replace(slot.part, pixel=size)
        self.parts[source] = part
        for name, inner in self.parts.items():
            if inner.whole == source:
                self.parts[name] = _within(inner, part)
        return True

    def _item(self, name: str) -> int:
        return np.dtype(self._graph.tensors[name].dtype).itemsize

    def _writers(self, name: str) -> Iterator[tuple[tuple[str, int], Call]]:
        """Every call that writes into a tensor, with its step and place there."""
        for step, calls in self.calls.items():
            for place, call in enumerate(calls):
                part = self.parts.get(call.output)
                if name == (call.output if part is None else part.whole):
                    yield (step, place), call


def _slot(copy: Call) -> _Slot | None:
    """Where a copy puts its operand; None where the pixels of no kernel would fit."""
    names = ("y_row", "x_rows", "block", "blocks", "y_step")
    row, rows, block, blocks, step = (_number(copy.fields, name) for name in names)
    first = _number(copy.fields, "y_first") * row + _number(copy.fields, "y_offset")
    if blocks == 1 and (block == row or copy.rows == 1):
        return _Slot(Part(copy.output, first, block, 0, aligned=False), rows, row)
    if blocks * step != row:
        return None
    return _Slot(Part(copy.output, first, block, step, aligned=True), rows, row)


def _within(inner: Part, outer: Part) -> Part:
    """A part of a part."""
    offset = inner.offset + outer.offset
    if not outer.step:
        return replace(inner, whole=outer.whole, offset=offset, aligned=False)
    return replace(outer, offset=offset, pixel=min(inner.pixel, outer.pixel))


def _moved(call: Call, slot: _Slot, item: int) -> Call | None:
    """The call with its pixels as far apart as the slot asks; None where its kernel cannot."""
    fields = dict(call.fields)
    if call.rows != slot.rows or "y_step" not in fields:
        return None
    pixel, step = slot.part.pixel, slot.part.step
    unit = 1 if call.kernel == "take" else item
    if "a_pixel" in fields and fields["width"] == 1:
        fields |= _split(fields, pixel // unit)
    width = _number(fields, "y_width" if "y_width" in fields else "width")
    if _number(fields, "y_step") * unit != pixel or width * step != slot.row:
        return None
    return replace(call, fields=fields | {"y_step": step // unit})


def _split(fields: Mapping[str, Field], pixel: int) -> dict[str, Field]:
    """A row that an element-wise kernel takes as one line, as lines of a pixel each."""
    line, steps = _number(fields, "channels"), {}
    for operand in "ab":
        steps[f"{operand}_pixel"] = pixel * _number(fields, f"{operand}_channel")
    return {**steps, "width": line // pixel, "channels": pixel, "y_step": pixel}


def _number(fields: Mapping[str, Field], name: str) -> int:
    value = fields[name]
    assert isinstance(value, int), f"{name} is {value!r}"
    return value
