"""Read what we need from an ELF file: sections, symbols, load segments, sizes."""

import struct
from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

_HEADER = {1: "<16xHHIIIIIHHHHHH", 2: "<16xHHIQQQIHHHHHH"}
_SECTION = {1: "<10I", 2: "<IIQQQQIIQQ"}
_KINDS = {0: "label", 1: "object", 2: "function"}
_WRITE, _ALLOCATED, _EXECUTABLE = 1, 2, 4
_NOBITS, _SYMBOLS, _LOAD = 8, 2, 1


@dataclass(frozen=True)
class Section:
    """A named part of the file; kind and flags as ELF's sh_type and sh_flags."""

    name: str
    kind: int
    flags: int
    address: int
    offset: int
    size: int
    link: int


@dataclass(frozen=True)
class Symbol:
    """A name; address without the Thumb bit, kind one of function, object, label, other."""

    name: str
    address: int
    size: int
    kind: str
    section: int
    is_global: bool

    @property
    def is_defined(self) -> bool:
        """Whether this file itself has what the name stands for."""
        return self.section != 0


@dataclass(frozen=True)
class Segment:
    """Bytes that a loader puts into memory: at load (flash), to be used at address."""

    address: int
    load: int
    data: bytes
    size: int


@dataclass(frozen=True)
class Sizes:
    """Bytes of a program in memory; bss has no stack in it."""

    text: int
    rodata: int
    data: int
    bss: int

    @property
    def flash(self) -> int:
        """Bytes of flash: code, constants and the initial values of data."""
        return self.text + self.rodata + self.data

    @property
    def ram(self) -> int:
        """Bytes of static RAM."""
        return self.data + self.bss


@dataclass(frozen=True)
class Elf:
    """A little-endian ELF file of 32 or 64 bits."""

    sections: tuple[Section, ...]
    symbols: tuple[Symbol, ...]
    segments: tuple[Segment, ...]

    @cached_property
    def addresses(self) -> dict[str, int]:
        """The address of each defined name."""
        return {each.name: each.address for each in self.symbols if each.is_defined}

    @cached_property
    def functions(self) -> tuple[Symbol, ...]:
        """Every function, by address; of several names for one address, the global one."""
        found: dict[int, Symbol] = {}
        for each in sorted(self.symbols, key=lambda symbol: (symbol.is_global, symbol.name)):
            if each.kind == "function" and each.is_defined:
                found[each.address] = each
        return tuple(found[address] for address in sorted(found))

    @cached_property
    def _starts(self) -> list[int]:
        return [each.address for each in self.functions]

    def function_at(self, address: int) -> str:
        """Return the name of the function that has this address in it, or "?"."""
        index = bisect_right(self._starts, address) - 1
        if index < 0:
            return "?"
        function = self.functions[index]
        inside = address < function.address + max(function.size, 2)
        return function.name if inside or function.size == 0 else "?"

    def sizes(self) -> Sizes:
        """Return the bytes that the program takes in memory."""
        totals = {"text": 0, "rodata": 0, "data": 0, "bss": 0}
        for section in self.sections:
            if section.flags & _ALLOCATED:
                totals[_class(section)] += section.size
        return Sizes(**totals)

    def symbol_sizes(self) -> dict[str, int]:
        """Return the bytes of every function and object that has a size."""
        kinds = ("function", "object")
        return {each.name: each.size for each in self.symbols if each.kind in kinds and each.size}

    def defined(self) -> set[str]:
        """Return the global names that this file defines."""
        return {each.name for each in self.symbols if each.is_defined and each.is_global}

    def undefined(self) -> set[str]:
        """Return the names that this file needs from elsewhere."""
        return {each.name for each in self.symbols if not each.is_defined}


def _class(section: Section) -> str:
    if section.kind == _NOBITS:
        return "bss"
    if section.flags & _WRITE:
        return "data"
    return "text" if section.flags & _EXECUTABLE else "rodata"


def read(path: Path) -> Elf:
    """Read an ELF file; raise ValueError where it is none."""
    data = path.read_bytes()
    if data[:4] != b"\x7fELF" or data[4] not in _HEADER or data[5] != 1:
        raise ValueError(f"{path}: is not a little-endian ELF file")
    bits = data[4]
    machine, *header = struct.unpack_from(_HEADER[bits], data)[1:]
    _, _, programs, sections, _, _, _, count, _, section_count, names = header
    table = _sections(data, bits, sections, section_count, names)
    thumb = machine == 40
    segments = _segments(data, programs, count) if bits == 1 else ()
    return Elf(table, _symbols(data, bits, table, thumb), segments)


def _sections(data: bytes, bits: int, offset: int, count: int, names: int) -> tuple[Section, ...]:
    layout = _SECTION[bits]
    step = struct.calcsize(layout)
    rows = [struct.unpack_from(layout, data, offset + i * step) for i in range(count)]
    texts = rows[names][4] if rows else 0
    return tuple(Section(_text(data, texts + row[0]), *row[1:7]) for row in rows)


def _symbols(
    data: bytes, bits: int, sections: tuple[Section, ...], thumb: bool
) -> tuple[Symbol, ...]:
    found = []
    for table in sections:
        if table.kind != _SYMBOLS:
            continue
        texts = sections[table.link].offset
        step = 16 if bits == 1 else 24
        for offset in range(table.offset + step, table.offset + table.size, step):
            symbol = _symbol(data, bits, offset, texts, thumb)
            if symbol is not None:
                found.append(symbol)
    return tuple(found)


def _symbol(data: bytes, bits: int, offset: int, texts: int, thumb: bool) -> Symbol | None:
    if bits == 1:
        name, value, size, info, _, section = struct.unpack_from("<IIIBBH", data, offset)
    else:
        name, info, _, section, value, size = struct.unpack_from("<IBBHQQ", data, offset)
    text = _text(data, texts + name)
    is_file_or_section = info & 15 in (3, 4)
    if not text or text.startswith("$") or is_file_or_section:
        return None
    kind = _KINDS.get(info & 15, "other")
    address = value & ~1 if thumb and kind != "object" else value
    return Symbol(text, address, size, kind, section, info >> 4 != 0)


def _segments(data: bytes, offset: int, count: int) -> tuple[Segment, ...]:
    found = []
    for index in range(count):
        kind, start, address, load, held, size, _, _ = struct.unpack_from(
            "<8I", data, offset + index * 32
        )
        if kind == _LOAD and size:
            found.append(Segment(address, load, data[start : start + held], size))
    return tuple(found)


def _text(data: bytes, offset: int) -> str:
    return data[offset : data.index(b"\0", offset)].decode("latin1")
