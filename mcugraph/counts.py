"""What a run cost: the executions of each block of code, turned into counts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mcugraph.cycles import MODELS
from mcugraph.thumb import Instruction, Kind

_LOADS = frozenset(
    {
        Kind.LOAD,
        Kind.LOAD_MANY,
        Kind.POP_PC,
        Kind.LOAD_PC,
        Kind.FLOAT_LOAD,
        Kind.FLOAT_LOAD_MANY,
    }
)
_STORES = frozenset({Kind.STORE, Kind.STORE_MANY, Kind.FLOAT_STORE, Kind.FLOAT_STORE_MANY})
_MULTIPLIES = frozenset(
    {Kind.MULTIPLY, Kind.MULTIPLY_ADD, Kind.MULTIPLY_LONG, Kind.FLOAT_MULTIPLY_ADD}
)
_BRANCHES = frozenset(
    {
        Kind.BRANCH,
        Kind.BRANCH_IF,
        Kind.BRANCH_REGISTER,
        Kind.CALL,
        Kind.COMPARE_BRANCH,
        Kind.LOAD_PC,
        Kind.MOVE_PC,
        Kind.POP_PC,
        Kind.TABLE_BRANCH,
    }
)


@dataclass(frozen=True)
class Counts:
    """Executed instructions, by what they do: one that loads many registers is one load.

    taken is how often control went elsewhere than to the next instruction; cycles is None where
    the core has no table.
    """

    instructions: int = 0
    loads: int = 0
    stores: int = 0
    multiplies: int = 0
    branches: int = 0
    taken: int = 0
    cycles: int | None = 0

    def __add__(self, other: "Counts") -> "Counts":
        cycles = None
        if self.cycles is not None and other.cycles is not None:
            cycles = self.cycles + other.cycles
        return Counts(
            self.instructions + other.instructions,
            self.loads + other.loads,
            self.stores + other.stores,
            self.multiplies + other.multiplies,
            self.branches + other.branches,
            self.taken + other.taken,
            cycles,
        )

    def __mul__(self, times: int) -> "Counts":
        return Counts(
            self.instructions * times,
            self.loads * times,
            self.stores * times,
            self.multiplies * times,
            self.branches * times,
            self.taken * times,
            None if self.cycles is None else self.cycles * times,
        )


@dataclass(frozen=True)
class Run:
    """What a run cost, in all and in parts; stack is its deepest descent of SP in bytes.

    result is r0 at the end of a call, or the exit code of a program; steps are by their number,
    and -1 is what ran before the first; functions are counted without those that they call.
    """

    result: int
    total: Counts
    stack: int
    steps: Mapping[int, Counts]
    functions: Mapping[str, Counts]


@dataclass(frozen=True)
class Part:
    """Instructions in a row that belong to one step, and what the last one adds when it jumps."""

    step: int
    once: Counts
    jump: Counts

    def times(self, count: int, taken: int) -> Counts:
        """Return the counts of so many executions, so many of which ended by a jump."""
        return self.once * count + self.jump * taken


def parts(
    code: Sequence[Instruction], cuts: Sequence[tuple[int, int]], model: str | None
) -> list[Part]:
    """Divide a block at (index of an instruction, step that begins there); the first is at 0."""
    costs, jump = MODELS[model](code) if model else ([0] * len(code), 0)
    cycles = None if model is None else 0
    none = Counts(cycles=cycles)
    found = []
    ends = [index for index, _ in cuts[1:]] + [len(code)]
    for (begin, step), end in zip(cuts, ends, strict=True):
        once = _count(code[begin:end], None if model is None else sum(costs[begin:end]))
        found.append(Part(step, once, none))
    last = found[-1]
    taken = Counts(taken=1, cycles=None if model is None else jump)
    return [*found[:-1], Part(last.step, last.once, taken)]


def _count(code: Sequence[Instruction], cycles: int | None) -> Counts:
    def number(kinds: frozenset[Kind]) -> int:
        return sum(each.kind in kinds for each in code)

    return Counts(
        len(code),
        number(_LOADS),
        number(_STORES),
        number(_MULTIPLIES),
        number(_BRANCHES),
        0,
        cycles,
    )
