"""How hard to look for the smallest arena, by name; what each does is counted, so that it repeats.

`cpsat` depends on the version of OR-tools, so it is never chosen by itself.
"""

from __future__ import annotations

from mcugraph import cpsat
from mcugraph.memory import Improve
from mcugraph.packing import Packing, Solution
from mcugraph.restarts import pack

# Nodes of the search; before CP-SAT is asked, it should be quick.
THOROUGH, AHEAD = 150_000, 6_000


def improver(name: str) -> Improve | None:
    """What is done beyond the default: quick (nothing), thorough or cpsat."""
    if name not in EFFORTS:
        raise ValueError(f"no effort {name!r} for placement; there are: {', '.join(EFFORTS)}")
    if name == "cpsat":
        cpsat.expect_installed()
    return EFFORTS[name]


def thorough(packing: Packing, known: Solution) -> Solution:
    """Up to half a minute, for hundreds of buffers."""
    return pack(packing, known, THOROUGH)


def solver(packing: Packing, known: Solution) -> Solution:
    """CP-SAT, from the best that a short search finds."""
    found = pack(packing, known, AHEAD)
    return found if found.closed else cpsat.ask(packing, found)


EFFORTS: dict[str, Improve | None] = {"quick": None, "thorough": thorough, "cpsat": solver}
