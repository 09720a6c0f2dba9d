"""Read a target's TOML file and those that it extends; refuse mistakes with file and line."""

import difflib
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

EMULATORS = ("cortex-m0", "cortex-m3", "cortex-m4", "cortex-m7", "cortex-m33", "none")
CYCLES = ("m0", "m0plus", "m4", "none")
_UNITS = {"B": 1, "KB": 1024, "MB": 1024 * 1024}
_REQUIRED = ("core", "kernels")


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    raise ValueError("a text")


def _texts(value: object) -> tuple[str, ...]:
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(value)
    raise ValueError("a list of texts")


def _flag(value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise ValueError("true or false")


def _count(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    raise ValueError("a whole number that is not negative")


def _size(value: object) -> int:
    if isinstance(value, str) and (match := re.fullmatch(r"(\d+) ?(B|KB|MB)", value)):
        return int(match[1]) * _UNITS[match[2]]
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    raise ValueError('a number of bytes or a text such as "16KB"')


def _one_of(choices: tuple[str, ...]) -> Callable[[object], str | None]:
    def convert(value: object) -> str | None:
        if value in choices:
            return None if value == "none" else str(value)
        raise ValueError(f"one of {', '.join(choices)}")

    return convert


_KEYS: dict[str, Callable[[object], Any]] = {
    "extends": _text,
    "description": _text,
    "core": _text,
    "clock_hz": _count,
    "stack": _size,
    "fpu": _flag,
    "gcc": _texts,
    "zig": _texts,
    "kernels": _texts,
    "emulator": _one_of(EMULATORS),
    "cycles": _one_of(CYCLES),
}
_REGION_KEYS: dict[str, Callable[[object], Any]] = {"origin": _count, "size": _size}
_TOP = (*_KEYS, "memory")


def read(path: Path, built_in: Path) -> dict[str, Any]:
    """Return the fields of a descriptor over those of its parents; raise ValueError."""
    fields = _read(path, built_in, ())
    missing = [key for key in _REQUIRED if key not in fields]
    problems = [f"{path}: the key '{key}' is missing" for key in missing]
    for name, region in fields.get("memory", {}).items():
        if "origin" not in region:
            problems.append(f"{path}: the key 'origin' is missing in [memory.{name}]")
    _refuse(problems)
    return {"description": "", **fields}


def _read(path: Path, built_in: Path, children: tuple[Path, ...]) -> dict[str, Any]:
    table, lines = _parse(path)
    problems: list[str] = []
    own = _convert(table, _KEYS, lambda key: _where(path, lines, "", key), problems)
    own["memory"] = _memories(path, table.get("memory", {}), lines, problems)
    if "kernels" in own:
        own["kernels"] = _kernels(path, own["kernels"], built_in, lines, problems)
    parent = {}
    if "extends" in own:
        where = _where(path, lines, "", "extends")
        parent_path = _parent(where, path, own["extends"], built_in)
        if parent_path in (*children, path.resolve()):
            chain = " -> ".join(each.name for each in (*children, path, parent_path))
            raise ValueError(f"{where}: 'extends' runs in a circle: {chain}")
        parent = _read(parent_path, built_in, (*children, path.resolve()))
    _refuse(problems)
    return _merge(parent, own)


def _parse(path: Path) -> tuple[dict[str, Any], dict[tuple[str, str], int]]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: is not a text in UTF-8") from error
    try:
        return tomllib.loads(text), _lines(text)
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"line (\d+)", str(error))
        place = f"{path}:{line[1]}" if line else f"{path}:{len(text.splitlines())}"
        raise ValueError(f"{place}: is not TOML: {error}") from error


def _lines(text: str) -> dict[tuple[str, str], int]:
    """Return the line of each (table, key), and of each table as (table, "").

    A plain scanner: a key inside a multi-line text is found too, which can only misplace a line.
    """
    lines: dict[tuple[str, str], int] = {}
    table = ""
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[+\s*([^\]]+?)\s*\]", line):
            table = re.sub(r"\s*\.\s*", ".", header[1]).replace('"', "")
            lines.setdefault((table, ""), number)
        elif key := re.match(r"""\s*["']?([\w.-]+)["']?\s*=""", line):
            before, _, last = f"{table}.{key[1]}".strip(".").rpartition(".")
            lines.setdefault((before, last), number)
            lines.setdefault((before, ""), number)
    return lines


def _where(path: Path, lines: Mapping[tuple[str, str], int], table: str, key: str) -> str:
    inner = f"{table}.{key}".strip(".")
    nested = [number for (name, _), number in lines.items() if f"{name}.".startswith(f"{inner}.")]
    number = lines.get((table, key)) or min(nested, default=None) or lines.get((table, ""), 1)
    return f"{path}:{number}"


def _convert(
    table: Mapping[str, Any],
    keys: Mapping[str, Callable[[object], Any]],
    where: Callable[[str], str],
    problems: list[str],
    place: str = "",
) -> dict[str, Any]:
    allowed = _TOP if keys is _KEYS else tuple(keys)
    converted = {}
    for key, value in table.items():
        if key not in allowed:
            close = difflib.get_close_matches(key, allowed, n=1)
            hint = f" (did you mean '{close[0]}'?)" if close else ""
            problems.append(
                f"{where(key)}: unknown key '{key}'{place}{hint}; allowed: {', '.join(allowed)}"
            )
        elif key in keys:
            try:
                converted[key] = keys[key](value)
            except ValueError as error:
                problems.append(f"{where(key)}: '{key}'{place} is {value!r}; it must be {error}")
    return converted


def _memories(
    path: Path, table: object, lines: Mapping[tuple[str, str], int], problems: list[str]
) -> dict[str, dict[str, Any]]:
    if not isinstance(table, dict):
        problems.append(f"{_where(path, lines, '', 'memory')}: 'memory' must be a table of regions")
        return {}
    memories = {}
    for name, region in table.items():
        section = f"memory.{name}"
        if not isinstance(region, dict):
            where = _where(path, lines, "memory", name)
            problems.append(f"{where}: [{section}] must be a table with: {', '.join(_REGION_KEYS)}")
            continue

        def place(key: str, section: str = section) -> str:
            return _where(path, lines, section, key)

        memories[name] = _convert(region, _REGION_KEYS, place, problems, f" in [{section}]")
    return memories


def _kernels(
    path: Path,
    folders: tuple[str, ...],
    built_in: Path,
    lines: Mapping[tuple[str, str], int],
    problems: list[str],
) -> tuple[Path, ...]:
    """Return the directories: beside the descriptor first, else among the built-in ones."""
    found = []
    for folder in folders:
        places = (path.parent / folder, built_in / "kernels" / folder)
        there = next((place for place in places if place.is_dir()), None)
        if there is None:
            where = _where(path, lines, "", "kernels")
            known = ", ".join(sorted(each.name for each in (built_in / "kernels").glob("*/")))
            problems.append(f"{where}: no kernel directory '{folder}'; built in: {known}")
            continue
        found.append(there)
    return tuple(found)


def _parent(where: str, path: Path, name: str, built_in: Path) -> Path:
    """Return the file that is extended: a path beside this file, or a built-in target."""
    if name.endswith(".toml"):
        parent = path.parent / name
        if parent.is_file():
            return parent.resolve()
        raise ValueError(f"{where}: 'extends' names '{name}', which is not a file")
    known = sorted(each.stem for each in built_in.glob("*.toml"))
    if name in known:
        return (built_in / f"{name}.toml").resolve()
    raise ValueError(f"{where}: 'extends' names '{name}'; built in: {', '.join(known)}")


def _merge(parent: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    memory = {name: dict(region) for name, region in parent.get("memory", {}).items()}
    for name, region in own.get("memory", {}).items():
        memory.setdefault(name, {}).update(region)
    return {**parent, **own, "memory": memory}


def _refuse(problems: list[str]) -> None:
    if problems:
        raise ValueError("\n".join(problems))
