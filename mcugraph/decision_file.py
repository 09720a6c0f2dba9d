"""The JSON of a decision: written for people, read with every mistake listed at once."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from mcugraph.errors import ProblemsError
from mcugraph.passes.heads import Head

VERSION = 1
_FIELDS = ("version", "cut", "exit", "drop", "keep", "ranks", "codebooks")
_CUT = ("tensor", "head")
_HEAD = ("form", "classes", "softmax", "seed")
_KEPT = ("width", "channels")
_NUMBERS = re.compile(r"\[\s+((?:-?\d+,\s+)*-?\d+)\s+\]")


class DecisionError(ProblemsError):
    """A decision that can't be read, or does not fit the model."""


@dataclass(frozen=True)
class Exit:
    """An early exit: the network may stop at a tensor whose head is sure enough."""

    tensor: str
    head: Head
    threshold: float = 0.9


def written(decision: Mapping[str, Any]) -> str:
    """The text of a decision's fields; what is empty is left out, a list of numbers is a line."""
    cut, leave = decision["cut"], decision["exit"]
    widths = decision["widths"]
    content: dict[str, Any] = {"version": VERSION}
    if cut is not None:
        content["cut"] = {"tensor": cut, "head": _head_fields(decision["head"])}
    if leave is not None:
        head = _head_fields(leave.head)
        content["exit"] = {"tensor": leave.tensor, "head": head, "threshold": leave.threshold}
    if decision["drop"]:
        content["drop"] = list(decision["drop"])
    if decision["keep"]:
        content["keep"] = {
            name: {"width": widths[name], "channels": list(kept)} if name in widths else list(kept)
            for name, kept in decision["keep"].items()
        }
    content |= {key: dict(decision[key]) for key in ("ranks", "codebooks") if decision[key]}
    text = json.dumps(content, indent=2, ensure_ascii=False)
    return _NUMBERS.sub(lambda found: f"[{' '.join(found[1].split())}]", text) + "\n"


def _head_fields(head: Head) -> dict[str, Any]:
    fields: dict[str, Any] = {"form": head.name, "classes": head.classes}
    return fields | {"softmax": head.softmax, "seed": head.seed}


def read_fields(text: str) -> dict[str, Any]:
    """The fields of a decision from its text; DecisionError lists everything that is wrong."""
    try:
        content = json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise DecisionError([f"not JSON: {error}"]) from None
    reader = _Reader()
    fields = reader.decision(content)
    if reader.problems:
        raise DecisionError(reader.problems)
    return fields


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    twice = [name for name, _ in pairs if [n for n, _ in pairs].count(name) > 1]
    if twice:
        raise ValueError(f"{twice[0]!r} stands there twice")
    return found


@dataclass
class _Reader:
    problems: list[str] = field(default_factory=list)

    def decision(self, content: Any) -> dict[str, Any]:
        """All fields, with None or nothing where they are absent."""
        if not self._is_table(content, "a decision", _FIELDS):
            return {}
        version = content.get("version")
        if not _is_int(version) or version != VERSION:
            self._note(f"version {version!r}: {VERSION} is what this program reads")
        fields: dict[str, Any] = {"cut": None, "head": None, "exit": None}
        if self._is_table(content.get("cut", {}), "cut", _CUT) and "cut" in content:
            fields["cut"] = self._text(content["cut"], "cut")
            fields["head"] = self._head(content["cut"].get("head"), "cut.head")
        if self._is_table(content.get("exit", {}), "exit", (*_CUT, "threshold")):
            fields["exit"] = self._exit(content["exit"]) if "exit" in content else None
        fields["drop"] = self._names(content.get("drop", []), "drop")
        kept = dict(self._entries(content, "keep", self._kept))
        fields["keep"] = {name: channels for name, (channels, _) in kept.items()}
        fields["widths"] = {name: width for name, (_, width) in kept.items() if width}
        for key in ("ranks", "codebooks"):
            fields[key] = dict(self._entries(content, key, self._positive))
        return fields

    def _note(self, problem: str) -> None:
        self.problems.append(problem)

    def _is_table(self, value: Any, where: str, allowed: tuple[str, ...]) -> bool:
        """Whether it is an object; keys that are not allowed are noted."""
        if not isinstance(value, dict):
            self._note(f"{where} is {_told(value)}, not an object of {', '.join(allowed)}")
            return False
        for key in value:
            if key not in allowed:
                near = get_close_matches(key, allowed, 1)
                hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(allowed)}"
                self._note(f"{where} has an unknown key {key!r}: {hint}")
        return True

    def _entries(
        self, content: Mapping[str, Any], key: str, read: Callable[[Any, str], Any]
    ) -> Iterator[tuple[str, Any]]:
        entries = content.get(key, {})
        if not isinstance(entries, dict):
            self._note(f"{key} is {_told(entries)}, not an object by names of weights or tensors")
            return
        for name, value in entries.items():
            found = read(value, f"{key} of {name!r}")
            if found is not None:
                yield name, found

    def _text(self, table: Mapping[str, Any], where: str) -> str:
        value = table.get("tensor")
        if not isinstance(value, str):
            self._note(f"{where}.tensor is {_told(value)}, not the name of a tensor")
        return str(value)

    def _names(self, value: Any, where: str) -> tuple[str, ...]:
        if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
            self._note(f"{where} is {_told(value)}, not a list of names of tensors")
            return ()
        return tuple(value)

    def _head(self, table: Any, where: str) -> Head | None:
        if table is None:
            self._note(f"{where} is missing: an object of {', '.join(_HEAD)}")
        elif self._is_table(table, where, _HEAD):
            form, classes = table.get("form"), table.get("classes")
            softmax, seed = table.get("softmax", True), table.get("seed", 0)
            numbers = _is_count(classes) and _is_count(seed + 1 if _is_int(seed) else None)
            if isinstance(form, str) and numbers and isinstance(softmax, bool):
                try:
                    return Head.parse(form, classes, softmax=softmax, seed=seed)
                except ValueError as error:
                    self._note(f"{where}: {error}")
                    return None
            self._note(
                f"{where}: form is a text such as dscnn32_16, classes and seed are numbers, "
                "softmax is true or false"
            )
        return None

    def _exit(self, table: Mapping[str, Any]) -> Exit | None:
        tensor, head = self._text(table, "exit"), self._head(table.get("head"), "exit.head")
        threshold = table.get("threshold", 0.9)
        if not (isinstance(threshold, float) or _is_int(threshold)) or not 0 < threshold <= 1:
            self._note(
                f"exit.threshold is {_told(threshold)}, not a probability above 0, at most 1"
            )
            return None
        return None if head is None else Exit(tensor, head, float(threshold))

    def _kept(self, value: Any, where: str) -> tuple[tuple[int, ...], int | None] | None:
        width = None
        if isinstance(value, dict):
            self._is_table(value, where, _KEPT)
            width, value = value.get("width"), value.get("channels")
            if not _is_count(width):
                self._note(f"{where}: width is {_told(width)}, not a number of channels")
                return None
        if not isinstance(value, list) or not all(_is_int(index) for index in value):
            self._note(f"{where} is {_told(value)}, not a list of channel numbers")
            return None
        return tuple(value), width

    def _positive(self, value: Any, where: str) -> int | None:
        if _is_count(value):
            return int(value)
        self._note(f"{where} is {_told(value)}, not a whole number above 0")
        return None


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return _is_int(value) and value > 0


def _told(value: Any) -> str:
    """A value as JSON has it, not too long."""
    text = json.dumps(value)
    return "missing" if value is None else text if len(text) <= 40 else f"{text[:37]}..."
