"""Where the tensors of a compiled model stand in its arena, as its report says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from mcugraph.execute import Executor
from mcugraph.layout import Layout
from mcugraph.oracle import Array

# The type; Place has a field of that name.
Data = bytes


@dataclass(frozen=True)
class Place:
    """Where a tensor stands in the arena and how its memory maps to its ONNX shape.

    It has `rows` rows, of which a ring holds the last `ring`; None where it stands as a whole. A
    part of another tensor, `whole`, may have pixels of `pixel` bytes that are `step` bytes apart.
    """

    offset: int
    bytes: int
    dtype: str
    shape: tuple[int, ...]
    layout: Layout
    rows: int
    ring: int | None
    whole: str | None = None
    pixel: int = 0
    step: int = 0

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
        place = cls(offset, size, dtype.name, shape, Layout(dims, order), rows, ring)
        return place._inside(entry["part"]) if "part" in entry else place

    def _inside(self, part: Mapping[str, Any]) -> Place:
        whole, pixel, step = (part[key] for key in ("of", "pixel", "step"))
        assert isinstance(whole, str), f"a part of what? {part}"
        assert step == 0 or 0 < pixel <= step, f"no such pixels: {part}"
        assert step == 0 or self.row_bytes % pixel == 0, f"uneven pixels: {part}"
        return replace(self, whole=whole, pixel=pixel, step=step)

    @property
    def end(self) -> int:
        """Behind its last byte in the arena."""
        return self.row_offset(0) + self._reach((self.ring or self.rows) * self.row_bytes)

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return self.bytes // self.rows

    def row_offset(self, row: int) -> int:
        """Where a row stands in the arena."""
        return self.offset + self.behind(row % (self.ring or self.rows) * self.row_bytes)

    def behind(self, size: int) -> int:
        """Where the byte after `size` bytes of the tensor stands, from its first one on."""
        return size // self.pixel * self.step if self.step else size

    def _reach(self, size: int) -> int:
        """How far `size` bytes reach, from the first to the last."""
        return self.behind(size) - self.step + self.pixel

    def put(self, executor: Executor, values: Array) -> None:
        """Write the whole tensor."""
        self._write(executor, self.offset, self.layout.to_memory(values).tobytes())

    def get(self, executor: Executor) -> Array:
        """The whole tensor, in its ONNX shape."""
        return self.decoded(bytearray(self.read(executor)))

    def read(self, executor: Executor) -> Data:
        """The bytes of the whole tensor."""
        return self._read(executor, self.offset, self.bytes)

    def read_row(self, executor: Executor, row: int) -> Data:
        """The bytes of a row."""
        return self._read(executor, self.row_offset(row), self.row_bytes)

    def write_row(self, executor: Executor, row: int, data: Data) -> None:
        """Put the bytes of a row."""
        self._write(executor, self.row_offset(row), data)

    def _read(self, executor: Executor, start: int, size: int) -> Data:
        found = executor.read(start, self._reach(size))
        return self._pixels(bytearray(found)).tobytes() if self.step else found

    def _write(self, executor: Executor, start: int, data: Data) -> None:
        if self.step:
            held = bytearray(executor.read(start, self._reach(len(data))))
            data = bytes(self.spread(held, 0, data))
        executor.write(start, data)

    def spread(self, memory: bytearray, start: int, data: Data) -> bytearray:
        """Put bytes of this tensor into a piece of the memory of its whole, from `start` on."""
        reach = self._reach(len(data))
        piece = memory[start : start + reach]
        if self.step:
            into = self._pixels(piece)
            into[:] = np.frombuffer(data, np.uint8).reshape(into.shape)
        else:
            piece[:] = data
        memory[start : start + reach] = piece
        return memory

    def _pixels(self, piece: bytearray) -> NDArray[np.uint8]:
        """The pixels in a piece of memory: a view that can be written."""
        count = (len(piece) - self.pixel) // self.step + 1
        memory = np.frombuffer(piece, np.uint8)
        return as_strided(memory, (count, self.pixel), (self.step, 1))

    def decoded(self, memory: bytearray) -> Array:
        """The tensor, in its ONNX shape, from all of its memory."""
        return self.layout.from_memory(np.frombuffer(memory, self.dtype), self.shape)
