"""Modelled cycles of Cortex-M cores at zero wait states, from Arm's instruction timing tables.

Sources: Cortex-M0 TRM (DDI 0432C) and M0+ TRM (DDI 0484C), table 3-1, with the one-cycle
multiplier; Cortex-M4 TRM (DDI 0439), table 3-1 and section 3.3.2. The M0 tables are exact for an
in-order core without a cache; the M4's ranks code, as wait states and contention are not in it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mcugraph.thumb import Instruction, Kind

Costs = tuple[list[int], int]
REFILL = 2  # cycles of the M4 to fill its pipeline after a jump: 1 to 3
DIVIDE = 7  # cycles of the M4's division: 2 to 12, by its operands


@dataclass(frozen=True)
class _Simple:
    """The table of a core where an instruction's cost depends on nothing but itself."""

    jump: int
    call: int
    pop_pc: int
    system: int

    def cost(self, each: Instruction) -> int:
        jumps = (Kind.BRANCH, Kind.BRANCH_REGISTER, Kind.MOVE_PC)
        many = (Kind.LOAD_MANY, Kind.STORE_MANY)
        if each.kind in (Kind.LOAD, Kind.STORE):
            return 2
        if each.kind in many:
            return 1 + each.amount
        if each.kind in jumps:
            return self.jump
        fixed = {
            Kind.CALL: self.call,
            Kind.POP_PC: self.pop_pc + each.amount,
            Kind.SYSTEM: self.system,
            Kind.BARRIER: self.system,
        }
        return fixed.get(each.kind, 1)

    def __call__(self, code: Sequence[Instruction]) -> Costs:
        taken = self.jump - 1 if code[-1].kind is Kind.BRANCH_IF else 0
        return [self.cost(each) for each in code], taken


_PLAIN_LOADS = (Kind.LOAD, Kind.FLOAT_LOAD)
_PLAIN_STORES = (Kind.STORE, Kind.FLOAT_STORE)
_COMPUTES = (Kind.ALU, Kind.MULTIPLY, Kind.MULTIPLY_ADD)
_MANY = (Kind.LOAD_MANY, Kind.STORE_MANY, Kind.FLOAT_LOAD_MANY, Kind.FLOAT_STORE_MANY)
_FLOATS = (Kind.FLOAT, Kind.FLOAT_MULTIPLY_ADD, Kind.FLOAT_DIVIDE)
_JUMPS = (Kind.BRANCH, Kind.CALL, Kind.BRANCH_REGISTER, Kind.MOVE_PC)
_M4_FIXED = {
    Kind.LOAD_PC: 2 + REFILL,
    Kind.TABLE_BRANCH: 2 + REFILL,
    Kind.DIVIDE: DIVIDE,
    Kind.BARRIER: 4,
    Kind.SYSTEM: 2,
    **dict.fromkeys(_JUMPS, 1 + REFILL),
}


def _m4(code: Sequence[Instruction]) -> Costs:
    """Cost each instruction of a block after the one before it; a block starts afresh."""
    costs = [_m4_cost(each, before) for each, before in zip(code, (None, *code[:-1]), strict=True)]
    taken = REFILL if code[-1].kind in (Kind.BRANCH_IF, Kind.COMPARE_BRANCH) else 0
    return costs, taken


def _m4_cost(each: Instruction, before: Instruction | None) -> int:
    if each.kind in _PLAIN_LOADS + _PLAIN_STORES:
        return _m4_memory(each, before)
    if each.kind in _MANY:
        return 1 + each.amount
    if each.kind is Kind.POP_PC:
        return 1 + each.amount + REFILL
    if each.kind in _FLOATS:
        return each.amount
    return _M4_FIXED.get(each.kind, 1)


def _m4_memory(each: Instruction, before: Instruction | None) -> int:
    """Neighbouring loads and stores share a cycle; an address just computed waits for one."""
    depends = before is not None and before.result is not None and before.result in each.address
    stall = int(depends and before is not None and before.kind in _COMPUTES)
    pairs = before is not None and before.kind in _PLAIN_LOADS and not depends
    if each.kind is Kind.LOAD or each.kind is Kind.FLOAT_LOAD:
        alone = 3 if each.kind is Kind.FLOAT_LOAD and each.amount == 2 else 2
        return alone - int(pairs) + stall
    alone = each.amount if each.kind is Kind.STORE else 1 + each.amount
    return (1 if pairs and alone == 2 else alone) + stall


MODELS: dict[str, Callable[[Sequence[Instruction]], Costs]] = {
    "m0": _Simple(jump=3, call=4, pop_pc=4, system=4),
    "m0plus": _Simple(jump=2, call=3, pop_pc=3, system=3),
    "m4": _m4,
}
