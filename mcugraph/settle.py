"""Fit buffers into a given arena from the bottom up: a search for dense packings of many buffers.

In a smallest packing no buffer can move down by itself. So the lowest buffer that is not yet
settled either stays where it is, or some other one will be in its way there: it is owed, and the
buffer lies above that one. A branch ends where nobody is left to be in the way, or where a crowd,
buffers that lie one above the other, does not fit. What falls apart in time is settled part by
part; if one part has no packing, the search goes back to where it was split off.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from mcugraph.packing import FREE, Bools, Ints, Packing

# Above any offset.
HIGH = 1 << 40
# More bits than the number of buffers has.
RANK_BITS = 20
# A part is copied once this share of its buffers is settled.
SHRUNK = 0.3


@dataclass(frozen=True, eq=False)
class _Part:
    """Buffers by first use, and what they need: `up[i, j]` is how far j must be above i.

    `down` is its transpose, `high` the highest start, `loads[i, c]` the size of i in crowd c.
    """

    numbers: Ints
    sizes: Ints
    aligns: Ints
    ranks: Ints
    firsts: Ints
    lasts: Ints
    high: Ints
    up: Ints
    down: Ints
    loads: Ints

    def __len__(self) -> int:
        return len(self.numbers)

    def only(self, which: Ints) -> _Part:
        """The part of some of its buffers."""
        square = np.ix_(which, which)
        loads = self.loads[which]
        return _Part(
            numbers=self.numbers[which],
            sizes=self.sizes[which],
            aligns=self.aligns[which],
            ranks=self.ranks[which],
            firsts=self.firsts[which],
            lasts=self.lasts[which],
            high=self.high[which],
            up=self.up[square],
            down=self.down[square],
            loads=loads[:, loads.any(axis=0)],
        )


@dataclass(frozen=True, eq=False)
class _State:
    """The least starts, which buffers are open, and where one is owed another in its way."""

    part: _Part
    low: Ints
    open: Bools
    owed: Ints

    def only(self, which: Ints) -> _State:
        """The same of some buffers."""
        return _State(self.part.only(which), self.low[which], self.open[which], self.owed[which])


@dataclass(frozen=True, eq=False)
class _Agenda:
    """States to settle; `since` is the number of choices made before they were split off."""

    state: _State
    since: int
    rest: _Agenda | None


@dataclass(frozen=True)
class Fitting:
    """Starts that fit or None, nodes used, and whether there can be others (`closed`: no)."""

    starts: list[int] | None
    nodes: int
    closed: bool


class Settler:
    """Searches for a packing in an arena; `blame` counts what each buffer had to do with failing.

    The first to settle among equally low buffers is the one of least rank.
    """

    def __init__(self, packing: Packing, arena: int) -> None:
        tied, everything = packing.tied, np.arange(len(packing.sizes))
        up = np.where(tied, packing.gaps, FREE)
        by_life = np.lexsort((packing.lasts, packing.firsts))
        self._arena = arena
        self._whole = _Part(
            numbers=everything,
            sizes=packing.sizes,
            aligns=packing.aligns,
            ranks=everything,
            firsts=packing.firsts,
            lasts=packing.lasts,
            high=(arena - packing.sizes) // packing.aligns * packing.aligns,
            up=up,
            down=up.T.copy(),
            loads=np.where(packing.crowds().T, packing.sizes[:, None], 0),
        ).only(by_life)
        # Whether a buffer may get below another one that is settled already.
        self._loose = bool((tied & (~packing.solid | (up < 1))).any())
        self.blame = np.zeros(len(everything))

    def fit(self, ranks: Ints, nodes: int) -> Fitting:
        """Search with at most so many nodes."""
        whole = replace(self._whole, ranks=ranks[self._whole.numbers])
        used = 0
        starts = np.zeros(len(whole), np.int64)
        everything = self._everything(whole)
        if everything is None:
            return Fitting(None, used, closed=True)
        agenda = _split(everything, 0, None)
        choices: list[tuple[_Agenda, int]] = []
        while agenda is not None:
            if used == nodes:
                return Fitting(None, used, closed=False)
            used += 1
            state = agenda.state
            place = _lowest(state)
            starts[state.part.numbers[place]] = state.low[place]
            choices.append((agenda, place))
            settled = self._settled(state, place)
            if settled is not None:
                agenda = _split(settled, len(choices), agenda.rest)
                continue
            agenda = self._turned(choices)
            if agenda is None:
                return Fitting(None, used, closed=True)
        return Fitting(starts.tolist(), used, closed=False)

    def _everything(self, whole: _Part) -> _State | None:
        nothing = np.zeros(len(whole), np.int64)
        return self._narrowed(_State(whole, nothing, nothing == 0, nothing + FREE))

    def _turned(self, choices: list[tuple[_Agenda, int]]) -> _Agenda | None:
        """The other side of the last choice that can have to do with the failure."""
        while choices:
            agenda, place = choices.pop()
            state = self._owing(agenda.state, place)
            if state is not None:
                return _Agenda(state, agenda.since, agenda.rest)
            del choices[agenda.since :]
        return None

    def _settled(self, state: _State, place: int) -> _State | None:
        """What is left once a buffer stays at its least start; None if something has no room."""
        part, at = state.part, state.low[place]
        low, still, owed = state.low.copy(), state.open.copy(), state.owed.copy()
        still[place] = False
        above, below = at + part.up[place], at - part.down[place]
        owed[(owed > below) & (owed < above)] = FREE
        blocked = still & (low > below) & (low < above)
        low[blocked] = above[blocked]
        return self._narrowed(_State(part, low, still, owed))

    def _owing(self, state: _State, place: int) -> _State | None:
        """What is left if another buffer will be in the way of one at its least start."""
        low, owed = state.low.copy(), state.owed.copy()
        owed[place] = low[place]
        low[place] += 1
        return self._narrowed(_State(state.part, low, state.open, owed))

    def _narrowed(self, state: _State) -> _State | None:
        """The same, with all that follows for the least starts; it may change `low`."""
        part, low = state.part, state.low
        while True:
            before = low.copy()
            _align(part, low)
            if not self._pay(state):
                return None
            if self._loose:
                _clear(state)
            _align(part, low)
            if (low == before).all():
                break
        late = (low > part.high) & state.open
        if late.any():
            self.blame[part.numbers[late]] += 1
            return None
        return state if self._crowds_fit(state) else None

    def _pay(self, state: _State) -> bool:
        """Whether somebody is left to be in the way of each that is owed; it lies above them."""
        part, low = state.part, state.low
        owed = np.flatnonzero(state.open & (state.owed > FREE))
        if not len(owed):
            return True
        at = state.owed[owed, None]
        can = state.open & (low < at + part.up[owed])
        least = np.where(can, np.maximum(low, at - part.down[owed] + 1) + part.down[owed], HIGH)
        low[owed] = np.maximum(low[owed], least.min(axis=1))
        nobody = ~can.any(axis=1)
        self.blame[part.numbers[owed[nobody]]] += 1
        return not nobody.any()

    def _crowds_fit(self, state: _State) -> bool:
        """Whether each crowd ends inside the arena if its lowest are stacked first."""
        part, left = state.part, np.flatnonzero(state.open)
        downwards = left[np.argsort(-state.low[left], kind="stable")]
        ends = part.loads[downwards].cumsum(axis=0) + state.low[downwards, None]
        full = (ends > self._arena).any(axis=0)
        if full.any():
            crowd = part.loads[:, int(full.argmax())] > 0
            self.blame[part.numbers[crowd & state.open]] += 1
        return not full.any()


def _lowest(state: _State) -> int:
    """The open buffer with the least start, then the least rank."""
    key = (state.low << RANK_BITS) + state.part.ranks
    return int(np.where(state.open, key, np.iinfo(np.int64).max).argmin())


def _align(part: _Part, low: Ints) -> None:
    np.multiply(-(-low // part.aligns), part.aligns, out=low)


def _clear(state: _State) -> None:
    """Lift what cannot start where it does because of a settled buffer."""
    part, low = state.part, state.low
    settled = np.flatnonzero(~state.open)
    at = low[settled, None]
    above, below = at + part.up[settled], at - part.down[settled]
    while True:
        hit = state.open & (low < above) & (low > below)
        if not hit.any():
            return
        np.maximum(low, np.where(hit, above, FREE).max(axis=0), out=low)


def _split(state: _State, since: int, rest: _Agenda | None) -> _Agenda | None:
    """The agenda with what is still open, in parts that have no moment in common, small first."""
    left = np.flatnonzero(state.open)
    pieces = list(_pieces(state, left))
    if len(pieces) == 1 and len(left) > (1 - SHRUNK) * len(state.part):
        return _Agenda(state, since, rest)
    for piece in sorted(pieces, key=len, reverse=True):
        rest = _Agenda(state.only(_with_near(state, piece)), since, rest)
    return rest


def _pieces(state: _State, left: Ints) -> Iterator[Ints]:
    """The open buffers, in sets that no life connects."""
    ends = np.maximum.accumulate(state.part.lasts[left])
    cuts = np.flatnonzero(state.part.firsts[left][1:] > ends[:-1]) + 1
    return (piece for piece in np.split(left, cuts) if len(piece))


def _with_near(state: _State, piece: Ints) -> Ints:
    """The piece, and every settled buffer that can still be in its way."""
    settled = np.flatnonzero(~state.open)
    tops = state.low[settled, None] + state.part.up[np.ix_(settled, piece)]
    near = (state.low[piece] < tops).any(axis=1)
    return np.sort(np.concatenate([piece, settled[near]]))
