"""Decode Thumb code as far as counting needs it: what an instruction is, and what it does to SP.

Encodings: Arm v7-M Architecture Reference Manual, chapter A5; floating point: A6.
"""

import struct
from dataclasses import dataclass
from enum import Enum

SP, PC = 13, 15
FLOAT_REGISTER = 64


class Kind(Enum):
    """Classes of instructions that cost or count differently."""

    ALU = "alu"
    NOP = "nop"
    IT = "it"
    MULTIPLY = "multiply"
    MULTIPLY_ADD = "multiply and add"
    MULTIPLY_LONG = "multiply to 64 bits"
    DIVIDE = "divide"
    LOAD = "load"
    STORE = "store"
    LOAD_MANY = "load many"
    STORE_MANY = "store many"
    POP_PC = "pop pc"
    LOAD_PC = "load pc"
    BRANCH = "branch"
    BRANCH_IF = "conditional branch"
    COMPARE_BRANCH = "compare and branch"
    TABLE_BRANCH = "table branch"
    CALL = "call"
    BRANCH_REGISTER = "branch to a register"
    MOVE_PC = "move to pc"
    BARRIER = "barrier"
    SYSTEM = "system"
    TRAP = "trap"
    FLOAT = "float"
    FLOAT_LOAD = "float load"
    FLOAT_STORE = "float store"
    FLOAT_LOAD_MANY = "float load many"
    FLOAT_STORE_MANY = "float store many"
    FLOAT_MULTIPLY_ADD = "float multiply and add"
    FLOAT_DIVIDE = "float divide"


@dataclass(frozen=True)
class Instruction:
    """One instruction: amount is registers moved, a float's cycles, or what an IT governs.

    result is the register that it writes, address the registers that make its address; stack is
    the change of SP in bytes, None where only running it tells.
    """

    kind: Kind
    amount: int = 1
    result: int | None = None
    address: tuple[int, ...] = ()
    stack: int | None = 0
    size: int = 2


_NOP = Instruction(Kind.NOP)


def decode(code: bytes) -> list[Instruction]:
    """Decode whole instructions from little-endian code."""
    halves = struct.unpack(f"<{len(code) // 2}H", code)
    found = []
    at = 0
    while at < len(halves):
        if halves[at] >> 11 >= 0b11101 and at + 1 < len(halves):
            found.append(_wide(halves[at], halves[at + 1]))
            at += 2
        else:
            found.append(_narrow(halves[at]))
            at += 1
    return found


def _narrow(code: int) -> Instruction:
    group = code >> 12
    if group < 4:
        is_compare = code >> 11 == 0b00101
        result = code & 7 if group < 2 else (code >> 8) & 7
        return Instruction(Kind.ALU, result=None if is_compare else result)
    if group == 4:
        return _narrow_registers(code)
    if group < 10:
        return _narrow_memory(code, group)
    return _narrow_other(code, group)


def _narrow_registers(code: int) -> Instruction:
    if code & 0x0800:
        return Instruction(Kind.LOAD, result=(code >> 8) & 7, address=(PC,))
    operation = (code >> 6) & 15
    if code & 0xFC00 == 0x4000:
        kind = Kind.MULTIPLY if operation == 13 else Kind.ALU
        return Instruction(kind, result=None if operation in (8, 10, 11) else code & 7)
    operation = (code >> 8) & 3
    result = (code & 7) | ((code >> 4) & 8)
    if operation == 3:
        return Instruction(Kind.BRANCH_REGISTER)
    if operation == 1:
        return Instruction(Kind.ALU)
    if result == PC:
        return Instruction(Kind.MOVE_PC)
    return Instruction(Kind.ALU, result=result, stack=None if result == SP else 0)


def _narrow_memory(code: int, group: int) -> Instruction:
    if group == 5:
        kind = Kind.STORE if (code >> 9) & 7 < 3 else Kind.LOAD
        return Instruction(kind, 2, code & 7, ((code >> 3) & 7, (code >> 6) & 7))
    kind = Kind.LOAD if code & 0x0800 else Kind.STORE
    if group == 9:
        return Instruction(kind, result=(code >> 8) & 7, address=(SP,))
    return Instruction(kind, result=code & 7, address=((code >> 3) & 7,))


def _narrow_other(code: int, group: int) -> Instruction:
    if group == 10:
        return Instruction(Kind.ALU, result=(code >> 8) & 7)
    if group == 11:
        return _push_pop(code) if code & 0x0600 == 0x0400 else _miscellaneous(code)
    if group == 12:
        many = Kind.LOAD_MANY if code & 0x0800 else Kind.STORE_MANY
        return Instruction(many, (code & 0xFF).bit_count())
    if group == 13:
        return Instruction(Kind.TRAP if code & 0x0F00 == 0x0F00 else Kind.BRANCH_IF)
    return Instruction(Kind.BRANCH)


def _push_pop(code: int) -> Instruction:
    count = (code & 0x1FF).bit_count()
    if not code & 0x0800:
        return Instruction(Kind.STORE_MANY, count, stack=-4 * count)
    kind = Kind.POP_PC if code & 0x0100 else Kind.LOAD_MANY
    return Instruction(kind, count, stack=4 * count)


def _miscellaneous(code: int) -> Instruction:
    if code & 0x0500 == 0x0100:
        return Instruction(Kind.COMPARE_BRANCH)
    if code & 0x0F00 == 0x0F00:
        mask = code & 15
        return Instruction(Kind.IT, 5 - (mask & -mask).bit_length()) if mask else _NOP
    if code & 0x0F00 == 0x0E00:
        return Instruction(Kind.TRAP)
    if code & 0x0F00 == 0:
        change = (code & 0x7F) * 4
        return Instruction(Kind.ALU, result=SP, stack=-change if code & 0x80 else change)
    return Instruction(Kind.ALU, result=code & 7 if code & 0x0700 == 0x0200 else None)


def _wide(first: int, second: int) -> Instruction:
    found = _wide_kind(first, second)
    stack = _wide_stack(first, second)
    return Instruction(found.kind, found.amount, found.result, found.address, stack, 4)


def _wide_kind(first: int, second: int) -> Instruction:
    if first & 0xEC00 == 0xEC00:
        return _float(first, second)
    if first >> 11 == 0b11101:
        return _wide_many(first, second)
    if first >> 11 == 0b11110:
        return _wide_branch(first, second)
    if first & 0xFE00 == 0xF800:
        return _wide_memory(first, second)
    return _wide_compute(first, second)


def _wide_compute(first: int, second: int) -> Instruction:
    if first & 0xFF80 == 0xFB80:
        return Instruction(Kind.DIVIDE if second & 0xF0 == 0xF0 else Kind.MULTIPLY_LONG)
    kind = Kind.ALU
    if first & 0xFF80 == 0xFB00:
        kind = Kind.MULTIPLY if second >> 12 == 15 else Kind.MULTIPLY_ADD
    return Instruction(kind, result=(second >> 8) & 15)


def _wide_many(first: int, second: int) -> Instruction:
    is_load = bool(first & 0x10)
    if first & 0xFE40 == 0xE800:
        if is_load and second & 0x8000:
            return Instruction(Kind.POP_PC, second.bit_count())
        return Instruction(Kind.LOAD_MANY if is_load else Kind.STORE_MANY, second.bit_count())
    if first & 0xFE40 != 0xE840:
        return Instruction(Kind.ALU, result=(second >> 8) & 15)
    if first & 0xFFF0 == 0xE8D0 and second & 0xFFE0 == 0xF000:
        return Instruction(Kind.TABLE_BRANCH)
    if first & 0xFF60 == 0xE840:  # exclusive
        kind = Kind.LOAD if is_load else Kind.STORE
        return Instruction(kind, result=second >> 12, address=(first & 15,))
    return Instruction(Kind.LOAD_MANY if is_load else Kind.STORE_MANY, 2)


def _wide_branch(first: int, second: int) -> Instruction:
    if not second & 0x8000:
        return Instruction(Kind.ALU, result=(second >> 8) & 15)
    if second & 0x4000:
        return Instruction(Kind.CALL)
    if second & 0x1000:
        return Instruction(Kind.BRANCH)
    if first & 0x0380 != 0x0380:
        return Instruction(Kind.BRANCH_IF)
    kinds = {0xF3A0: Kind.NOP, 0xF3B0: Kind.BARRIER}
    return Instruction(kinds.get(first & 0xFFF0, Kind.SYSTEM))


def _wide_memory(first: int, second: int) -> Instruction:
    base, data = first & 15, second >> 12
    is_load = bool(first & 0x10)
    if is_load and data == PC:
        is_hint = first & 0x60 != 0x40  # preload
        return Instruction(Kind.NOP if is_hint else Kind.LOAD_PC)
    kind = Kind.LOAD if is_load else Kind.STORE
    by_register = not first & 0x80 and second & 0x0FC0 == 0 and base != PC
    if by_register:
        return Instruction(kind, 2, data, (base, second & 15))
    return Instruction(kind, 1, data, (base,))


def _float(first: int, second: int) -> Instruction:
    if (second >> 8) & 15 not in (10, 11) or first & 0x1000:
        return Instruction(Kind.FLOAT)
    if first & 0x0E00 == 0x0C00:
        return _float_memory(first, second)
    operation = (first >> 4) & 0xB
    if second & 0x10:
        return Instruction(Kind.FLOAT)
    if operation in (0, 1, 9, 10):
        return Instruction(Kind.FLOAT_MULTIPLY_ADD, 3)
    is_root = operation == 11 and first & 15 == 1 and second & 0xC0 == 0xC0
    if operation == 8 or is_root:
        return Instruction(Kind.FLOAT_DIVIDE, 14)
    return Instruction(Kind.FLOAT)


def _float_memory(first: int, second: int) -> Instruction:
    if first & 0x0FE0 == 0x0C40:
        return Instruction(Kind.FLOAT, 2)
    is_load = bool(first & 0x10)
    if first & 0x0120 == 0x0100:
        words = 2 if second & 0x0100 else 1
        kind = Kind.FLOAT_LOAD if is_load else Kind.FLOAT_STORE
        return Instruction(kind, words, FLOAT_REGISTER, (first & 15,))
    kind = Kind.FLOAT_LOAD_MANY if is_load else Kind.FLOAT_STORE_MANY
    return Instruction(kind, second & 0xFF)


def _wide_stack(first: int, second: int) -> int | None:
    """Return the change of SP by a 32-bit instruction; None where it is not known."""
    if first & 0xFE10 == 0xF810 and second >> 12 == SP:
        return None
    if first & 15 == SP and first >> 9 in (0b1110100, 0b1110110, 0b1111100):
        return _written_back(first, second)
    writes_sp = (second >> 8) & 15 == SP
    if first & 0xF800 == 0xF000 and not second & 0x8000 and writes_sp:
        return _immediate_stack(first, second)
    if first & 0xFE00 == 0xEA00 and writes_sp:
        return None
    return 0


def _written_back(first: int, second: int) -> int:
    """Return what a load or store with SP as its base adds to SP."""
    if first >> 9 == 0b1111100:
        has_index = bool(second & 0x0800) and not first & 0x80
        step = second & 0xFF if second & 0x0200 else -(second & 0xFF)
        return step if has_index and second & 0x0100 else 0
    if not first & 0x20:
        return 0
    words = second.bit_count() if first & 0xFE40 == 0xE800 else second & 0xFF
    return 4 * words if first & 0x80 else -4 * words


def _immediate_stack(first: int, second: int) -> int | None:
    value = (first >> 10 & 1) << 11 | (second >> 12 & 7) << 8 | second & 0xFF
    operation = first & 0xFBEF
    if operation in (0xF10D, 0xF1AD):
        value = _expand(value)
    elif operation not in (0xF20D, 0xF2AD):
        return None
    return value if operation in (0xF10D, 0xF20D) else -value


def _expand(value: int) -> int:
    """Return the constant of a modified 12-bit immediate (ThumbExpandImm)."""
    low = value & 0xFF
    patterns = (low, low | low << 16, low << 8 | low << 24, low * 0x01010101)
    if value >> 8 < 4:
        return patterns[value >> 8]
    turn = value >> 7
    base = (value & 0x7F) | 0x80
    return (base >> turn | base << (32 - turn)) & 0xFFFFFFFF
