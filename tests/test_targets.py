"""Descriptors: the built-in ones load, a user's own extend them, mistakes are refused by line."""

from pathlib import Path

import pytest

from mcugraph import targets

CORES = ["cortex-m0", "cortex-m0plus", "cortex-m3", "cortex-m33", "cortex-m4", "cortex-m7"]
BOARDS = {
    "microbit": ("cortex-m0", 16 * 1024, 256 * 1024),
    "pico": ("cortex-m0plus", 264 * 1024, 2048 * 1024),
    "nucleo-l4r5zi": ("cortex-m4", 640 * 1024, 2048 * 1024),
}


def refusal(folder: Path, text: str) -> list[str]:
    path = folder / "my.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="toml") as caught:
        targets.load(path)
    return str(caught.value).replace(str(folder) + "/", "").splitlines()


def test_the_built_in_targets_are_the_host_the_cores_and_the_boards() -> None:
    assert targets.names() == sorted(["host", *CORES, *BOARDS])


@pytest.mark.parametrize("name", targets.names())
def test_every_built_in_target_loads_and_says_what_it_is(name: str) -> None:
    target = targets.load(name)
    assert target.name == name
    assert target.description
    assert [folder.name for folder in target.kernels] == ["portable"]
    assert target.is_host == (name == "host")


@pytest.mark.parametrize("name", CORES)
def test_a_core_that_is_no_part_has_no_memory_limits(name: str) -> None:
    target = targets.load(name)
    assert target.core == name
    assert [memory.size for memory in target.memories] == [None, None]
    assert target.emulator == name.removesuffix("plus")


@pytest.mark.parametrize("name", BOARDS)
def test_a_board_has_the_memories_of_its_part(name: str) -> None:
    target = targets.load(name)
    ram, flash = target.memory("ram"), target.memory("flash")
    assert ram is not None
    assert flash is not None
    assert (target.core, ram.size, flash.size) == BOARDS[name]
    assert target.clock_hz


def test_an_own_target_extends_a_built_in_one_region_by_region(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('extends = "microbit"\n[memory.ram]\nsize = 8192\n[memory.tcm]\norigin = 0\n')
    target = targets.load(str(path))
    board = targets.load("microbit")
    assert target.name == "mine"
    assert target.memory("ram") == targets.Memory("ram", 0x20000000, 8192)
    assert target.memory("flash") == board.memory("flash")
    assert target.memory("tcm") == targets.Memory("tcm", 0, None)
    assert (target.zig, target.clock_hz) == (board.zig, board.clock_hz)


def test_an_own_target_extends_a_file_beside_it_and_brings_its_kernels(tmp_path: Path) -> None:
    (tmp_path / "faster").mkdir()
    (tmp_path / "base.toml").write_text('extends = "cortex-m4"\nstack = "4KB"\n')
    mine = tmp_path / "mine.toml"
    mine.write_text('extends = "base.toml"\nkernels = ["faster", "portable"]\ncycles = "none"\n')
    target = targets.load(mine)
    assert target.stack == 4096
    assert [folder.name for folder in target.kernels] == ["faster", "portable"]
    assert target.kernels[0].parent == tmp_path
    assert target.cycles is None


def test_an_unknown_target_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ValueError, match=r"no target 'cortex-m9' \(did you mean cortex-m\w+\?\)"):
        targets.load("cortex-m9")


def test_all_mistakes_are_listed_with_line_and_allowed_keys(tmp_path: Path) -> None:
    problems = refusal(
        tmp_path,
        'extends = "cortex-m0"\n'
        "# a comment\n"
        "clock = 16000000\n"
        'stack = "lots"\n'
        "fpu = 1\n"
        "\n"
        "[memory.ram]\n"
        'ram_size = "16KB"\n'
        "origin = -1\n",
    )
    assert problems == [
        "my.toml:3: unknown key 'clock' (did you mean 'clock_hz'?); allowed: extends, description, "
        "core, clock_hz, stack, fpu, gcc, zig, kernels, emulator, cycles, memory",
        "my.toml:4: 'stack' is 'lots'; it must be a number of bytes or a text such as \"16KB\"",
        "my.toml:5: 'fpu' is 1; it must be true or false",
        "my.toml:8: unknown key 'ram_size' in [memory.ram] (did you mean 'size'?); "
        "allowed: origin, size",
        "my.toml:9: 'origin' in [memory.ram] is -1; it must be a whole number that is not negative",
    ]


MISTAKES = [
    ("core = \n", "my.toml:1: is not TOML"),
    ('extends = "cortex-m9"\n', "my.toml:1: 'extends' names 'cortex-m9'; built in: cortex-m0,"),
    ('\nextends = "no.toml"\n', "my.toml:2: 'extends' names 'no.toml', which is not a file"),
    ('extends = "my.toml"\n', "my.toml:1: 'extends' runs in a circle: my.toml -> my.toml"),
    ('core = "x"\n', "my.toml: the key 'kernels' is missing"),
    ('extends = "host"\ncycles = "m9"\n', "my.toml:2: 'cycles' is 'm9'; it must be one of m0,"),
    ('extends = "host"\nkernels = ["odd"]\n', "my.toml:2: no kernel directory 'odd'; built in:"),
    ('extends = "host"\nzig = "-x"\n', "my.toml:2: 'zig' is '-x'; it must be a list of texts"),
    ('extends = "host"\n[memory]\nram = 3\n', "my.toml:3: [memory.ram] must be a table with:"),
    ('extends = "host"\nmemory = 3\n', "my.toml:2: 'memory' must be a table of regions"),
    ('extends = "host"\n[memory.x]\nsize = 1\n', "my.toml: the key 'origin' is missing in [memory"),
    ('extends = "host"\n[memory.x.y]\nsize = 1\n', "my.toml:2: unknown key 'y' in [memory.x]"),
]


@pytest.mark.parametrize(("text", "message"), MISTAKES)
def test_a_mistake_is_refused_where_it_stands(tmp_path: Path, text: str, message: str) -> None:
    assert refusal(tmp_path, text)[0].startswith(message)


def test_a_circle_of_two_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other.toml").write_text('extends = "my.toml"\n')
    problems = refusal(tmp_path, 'extends = "other.toml"\n')
    assert problems == [
        "other.toml:1: 'extends' runs in a circle: my.toml -> other.toml -> my.toml"
    ]


def test_a_missing_file_and_a_binary_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be read: No such file"):
        targets.load(tmp_path / "none.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="is not a text in UTF-8"):
        targets.load(tmp_path / "bytes.toml")
