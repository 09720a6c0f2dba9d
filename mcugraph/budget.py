"""The limits that decide between fits and does not fit."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, fields, replace
from fractions import Fraction

from mcugraph.targets import Target

UNITS = {"": 1, "B": 1, "KB": 1 << 10, "K": 1 << 10, "MB": 1 << 20, "M": 1 << 20}


@dataclass(frozen=True)
class Budget:
    """Limits in bytes; None is no limit. `ram` includes the stack."""

    ram: int | None = None
    flash: int | None = None
    stack: int | None = None

    @classmethod
    def of(cls, target: Target, text: str | None = None) -> Budget:
        """The target's memories, overruled by a text such as ram=16KB,flash=128KB,stack=2KB.

        Raises ValueError that names the part of the text that is wrong and what is allowed.
        """
        ram, flash = target.memory("ram"), target.memory("flash")
        own = cls(ram.size if ram else None, flash.size if flash else None)
        return own if text is None else replace(own, **dict(map(_entry, text.split(","))))

    def exceeded(self, **used: int) -> list[str]:
        """The names of the limits that the used bytes exceed."""
        limits = {name: getattr(self, name) for name in used}
        return [name for name, limit in limits.items() if limit is not None and used[name] > limit]


def parse_bytes(text: str) -> int:
    """Bytes of a text such as 512, 16KB or 1.5MB (1 KB is 1024 bytes)."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", text.strip())
    if match is None or match[2].upper() not in UNITS:
        raise ValueError(f"'{text}' is no size; write bytes, or a number with KB or MB")
    return int(Fraction(match[1]) * UNITS[match[2].upper()])


def kilobytes(size: int) -> str:
    """Kilobytes to a tenth, rounded up: what is printed is never less than what is used."""
    return f"{math.ceil(size * 10 / 1024) / 10:.1f}"


def _entry(part: str) -> tuple[str, int]:
    allowed = [field.name for field in fields(Budget)]
    name, equals, size = part.partition("=")
    if not equals or name.strip() not in allowed:
        raise ValueError(
            f"'{part}' in the budget; allowed: {', '.join(f'{n}=SIZE' for n in allowed)}, "
            "separated by commas"
        )
    return name.strip(), parse_bytes(size)
