"""The budget that training has to meet: one limit a resource."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from fractions import Fraction
from typing import Any

from mcugraph.budget import parse_bytes
from mcugraph.optimize import OBJECTIVES

COUNTS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9}
BYTES = ("arena", "ram", "weights", "flash")


@dataclass(frozen=True)
class Goal:
    """Limits; None is none. Sizes are bytes: `ram` is arena and stack, `flash` weights and code.

    `params` counts as the exported model does, `cycles` as the target's timing table. `objective`
    is what the compiler plans memory for; with cycles, no rows are streamed unless the target's
    RAM asks for it.
    """

    params: int | None = None
    macs: int | None = None
    arena: int | None = None
    ram: int | None = None
    weights: int | None = None
    flash: int | None = None
    cycles: int | None = None
    objective: str = "ram"

    def __post_init__(self) -> None:
        """Refuse an objective that there isn't."""
        if self.objective not in OBJECTIVES:
            raise ValueError(f"objective={self.objective}: there are {', '.join(OBJECTIVES)}")

    @classmethod
    def of(cls, text: str | Goal) -> Goal:
        """The goal of a text such as ram=12KB,flash=64KB,macs=3M or ram=24KB,objective=cycles.

        Raises ValueError that names every part which is wrong, and what is allowed.
        """
        if isinstance(text, Goal):
            return text
        allowed = [field.name for field in fields(cls)]
        limits: dict[str, Any] = {}
        problems = []
        for part in text.split(","):
            name, equals, size = (piece.strip() for piece in part.partition("="))
            if not equals or name not in allowed:
                problems.append(f"'{part}' in the budget; allowed: {', '.join(allowed)}")
                continue
            try:
                limits[name] = _parsed(name, size)
            except ValueError as error:
                problems.append(f"{name} in the budget: {error}")
        if problems:
            raise ValueError("\n".join(problems))
        return cls(**limits)

    @property
    def limits(self) -> Mapping[str, int]:
        """The limits that there are, by resource."""
        return {name: getattr(self, name) for name in RESOURCES if getattr(self, name)}

    @property
    def measured(self) -> bool:
        """Whether it takes a compiled model to see how much is used."""
        return any(name in self.limits for name in ("ram", "flash", "cycles"))


RESOURCES = tuple(field.name for field in fields(Goal) if field.name != "objective")


def _parsed(name: str, text: str) -> int | str:
    if name == "objective":
        return text
    return parse_bytes(text) if name in BYTES else parse_count(text)


def parse_count(text: str) -> int:
    """A count such as 500, 15K or 3.5M (1 K is 1000)."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]?)", text.strip(), re.IGNORECASE)
    if match is None:
        raise ValueError(f"'{text}' is no count; write a number, or one with K, M or G")
    return int(Fraction(match[1]) * COUNTS[match[2].upper()])
