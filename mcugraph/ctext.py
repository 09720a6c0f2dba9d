"""Python values as C text."""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

C_TYPES = {
    "int8": "int8_t",
    "uint8": "uint8_t",
    "int16": "int16_t",
    "uint16": "uint16_t",
    "int32": "int32_t",
    "uint32": "uint32_t",
    "int64": "int64_t",
    "float32": "float",
}
C_KEYWORDS = frozenset(
    """auto break case char const continue default do double else enum extern float for goto if
    inline int long register restrict return short signed sizeof static struct switch typedef
    union unsigned void volatile while""".split()
)
# A file of ours with such a name would hide the header of the C library.
C_HEADERS = frozenset(
    """assert complex ctype errno fenv float inttypes iso646 limits locale math setjmp signal stdarg
    stdbool stddef stdint stdio stdlib string tgmath time wchar wctype""".split()
)
LINE = 96


def identifier(text: str) -> str:
    """A C identifier that resembles the text."""
    name = re.sub(r"\W+", "_", text, flags=re.ASCII).strip("_") or "x"
    reserved = name[0].isdigit() or name in C_KEYWORDS or keyword.iskeyword(name)
    return f"m_{name}" if reserved else name


class Names:
    """Hands out C identifiers, each once, however their letters are cased."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = {name.lower() for name in taken}

    def fresh(self, text: str) -> str:
        """An identifier that resembles the text and was not handed out before."""
        base = name = identifier(text)
        count = 2
        while name.lower() in self._taken:
            name = f"{base}_{count}"
            count += 1
        self._taken.add(name.lower())
        return name


def number(value: float) -> str:
    """A literal: integers as they are, floats so that they read back exactly."""
    if isinstance(value, int | np.integer):
        return "INT32_MIN" if int(value) == -(2**31) else str(int(value))
    if np.isinf(value):
        return "(-1.0f / 0.0f)" if value < 0 else "(1.0f / 0.0f)"
    text = f"{np.float32(value):.9g}"
    return f"{text}f" if re.search(r"[.e]", text) else f"{text}.0f"


def array(c_name: str, values: NDArray[np.generic]) -> str:
    """The definition of a constant array."""
    flat = values.ravel()
    kind = C_TYPES[str(values.dtype)]
    rows = _rows([_element(v) for v in flat.tolist()], str(values.dtype))
    return f"static const {kind} {c_name}[{flat.size}] = {{\n{rows}\n}};\n"


def _element(value: float) -> str:
    return number(value)


def _rows(words: list[str], dtype: str) -> str:
    suffix = "u" if dtype == "uint32" else ""
    lines, line = [], "   "
    for word in words:
        if len(line) + len(word) + len(suffix) + 2 > LINE:
            lines.append(line)
            line = "   "
        line += f" {word}{suffix},"
    return "\n".join([*lines, line])


def comment(text: str) -> str:
    """A comment that the text cannot end, nor upset the compiler with what it holds."""
    plain = "".join(c if c.isprintable() else "?" for c in text)
    return f"/* {plain.replace('*/', '* /').replace('/*', '/ *')} */"
