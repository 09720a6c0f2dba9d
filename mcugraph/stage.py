"""A step as rows: what it writes and what it reads for each of them."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Reads:
    """Rows first[r] to last[r] of a tensor of `height` rows are read for row r of a result.

    Both ascend; a row that reads none has last < first.
    """

    tensor: str
    height: int
    first: tuple[int, ...]
    last: tuple[int, ...]

    def upwards(self) -> Reads:
        """The same with all rows counted from the end."""
        end = self.height - 1
        first = tuple(end - row for row in reversed(self.last))
        return Reads(self.tensor, self.height, first, tuple(end - r for r in reversed(self.first)))


@dataclass(frozen=True)
class Stage:
    """A step as rows: `rows` rows of `row_bytes` each of its output, and what each of them reads.

    One that `gathers` writes its whole output, `row_bytes`, with its last row. One that computes
    element by element may write over a row of an input in `in_place`. Several stages may write
    parts of the rows of one output; one whose rows are others than the output's `claims` all bytes
    of it with its first row.
    """

    step: str
    output: str
    rows: int
    row_bytes: int
    reads: tuple[Reads, ...]
    gathers: bool = False
    in_place: tuple[str, ...] = ()
    claims: int = 0

    def upwards(self) -> Stage:
        """The same step from the last row to the first, all rows counted from the end."""
        return replace(self, reads=tuple(reads.upwards() for reads in self.reads))


@dataclass(frozen=True)
class Whole:
    """A tensor that a group reads from, or writes to, memory outside of its rings.

    One that is `begun` has parts that were written before.
    """

    rows: int
    row_bytes: int
    begun: bool = False

    @property
    def bytes(self) -> int:
        """Its size."""
        return self.rows * self.row_bytes
