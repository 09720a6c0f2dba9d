"""How far a block of code moves SP: exact wherever it computes no more than one change of SP.

ARMv6-M has no immediate for frames above 508 bytes, so compilers load the size into a register
and add that to SP; constants are followed within a block to know such a change.
"""

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from mcugraph.thumb import PC, Instruction, Kind

_MORE = frozenset(
    {
        Kind.LOAD_MANY,
        Kind.STORE_MANY,
        Kind.MULTIPLY_LONG,
        Kind.DIVIDE,
        Kind.FLOAT,
        Kind.SYSTEM,
    }
)


@dataclass(frozen=True)
class Descent:
    """SP in a block, in bytes: its lowest and its change, relative to the start of the block.

    Where a change is unknown, lowest is that before the change, and tail the lowest after it,
    relative to the end of the block; the next block has to ask for SP.
    """

    lowest: int
    change: int
    tail: int
    is_unknown: bool


def descent(changes: Sequence[int | None]) -> Descent:
    """Return what the changes of SP by each instruction of a block come to."""
    unknown = [index for index, change in enumerate(changes) if change is None]
    if not unknown:
        lowest, change = _sum(changes)
        return Descent(lowest, change, lowest - change, False)
    before, _ = _sum(changes[: unknown[0]])
    after, rest = _sum(changes[unknown[-1] + 1 :])
    return Descent(before, 0, after - rest, True)


def _sum(changes: Sequence[int | None]) -> tuple[int, int]:
    lowest = at = 0
    for change in changes:
        at += change or 0
        lowest = min(lowest, at)
    return lowest, at


def stack_changes(
    code: Sequence[Instruction], data: bytes, address: int, word: Callable[[int], int]
) -> Iterator[int | None]:
    """Give the change of SP by each instruction; word reads a word of memory, for literals.

    A change that an IT makes conditional is an unknown one.
    """
    constants: dict[int, int] = {}
    conditional, at = 0, 0
    for each in code:
        half = struct.unpack_from("<H", data, at)[0]
        change = each.stack
        if change is None and half & 0xFF87 == 0x4485:  # add sp, register
            change = constants.get((half >> 3) & 15)
        yield None if conditional and change != 0 else change
        literal = (address + at + 4 & ~3) + (half & 0xFF) * 4
        value = word(literal) if each.address == (PC,) else _computed(half, constants)
        _remember(constants, each, None if conditional else value)
        conditional = each.amount if each.kind is Kind.IT else max(conditional - 1, 0)
        at += each.size


def ends_open(code: Sequence[Instruction]) -> bool:
    """Return whether an IT at the end of a block governs what follows the block."""
    left = 0
    for each in code:
        left = each.amount if each.kind is Kind.IT else left - 1
    return left > 0


def _computed(half: int, constants: dict[int, int]) -> int | None:
    """Return the result of a 16-bit move, shift or negation of constants, or None."""
    source = constants.get((half >> 3) & 7)
    if half >> 11 == 0b00100:  # movs register, #immediate
        return half & 0xFF
    if half >> 11 == 0 and source is not None:  # lsls register, register, #immediate
        return _signed(source << ((half >> 6) & 31))
    if half >> 6 == 0b0100001001 and source is not None:  # negs register, register
        return -source
    return None


def _signed(value: int) -> int:
    return (value + (1 << 31)) % (1 << 32) - (1 << 31)


def _remember(constants: dict[int, int], each: Instruction, value: int | None) -> None:
    """Keep what the written register holds now, and forget all where more may be written."""
    if each.kind in _MORE or (each.size == 4 and each.address):
        constants.clear()
    elif each.result is not None and each.kind is not Kind.STORE:
        constants.pop(each.result, None)
        if value is not None:
            constants[each.result] = _signed(value)
