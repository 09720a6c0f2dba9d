"""Compiling for each core with each compiler, and reading back what was made."""

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest

from mcugraph import build, elf, targets

PROGRAM = Path(__file__).with_name("firmware.c")
CORES = ["cortex-m0", "cortex-m0plus", "cortex-m3", "cortex-m33", "cortex-m4", "cortex-m7"]
BOARDS = ["microbit", "pico", "nucleo-l4r5zi"]


def need(compiler: str) -> None:
    if compiler == "gcc" and shutil.which("arm-none-eabi-gcc") is None:
        pytest.skip("arm-none-eabi-gcc is not installed")
    if compiler == "zig":
        pytest.importorskip("ziglang", reason="ziglang is not installed")


def source(folder: Path, text: str) -> Path:
    path = folder / "source.c"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("compiler", build.COMPILERS)
@pytest.mark.parametrize("name", CORES + BOARDS)
def test_every_core_and_board_links_at_its_memories(
    tmp_path: Path, name: str, compiler: str
) -> None:
    need(compiler)
    target = targets.load(name)
    options = build.Options(compiler=compiler, keep=("add_one",))
    program = elf.read(build.build_firmware([PROGRAM], target, tmp_path / "p.elf", options))
    flash, ram = target.memory("flash"), target.memory("ram")
    assert flash is not None
    assert ram is not None
    assert program.addresses["vectors"] == flash.origin
    assert program.addresses["__stack_top"] == ram.origin + build.room(ram)
    assert program.addresses["__data_load"] % 4 == 0
    assert {"Reset_Handler", "main", "add_one"} <= program.defined()
    assert program.undefined() == set()


@pytest.mark.parametrize("compiler", build.COMPILERS)
def test_sizes_are_those_of_the_sections(tmp_path: Path, compiler: str) -> None:
    need(compiler)
    text = (
        "#include <stdint.h>\n"
        "const uint8_t in_flash[100] = {1}; uint32_t in_data[5] = {2}; uint8_t in_bss[300];\n"
        "int get(int i);\n"
        "int get(int i) { return in_flash[i] + (int)in_data[i] + in_bss[i]; }\n"
    )
    options = build.Options(compiler=compiler, keep=("get",))
    made = build.build_firmware(
        [source(tmp_path, text)], targets.load("microbit"), tmp_path / "p.elf", options
    )
    program = elf.read(made)
    sizes, symbols = program.sizes(), program.symbol_sizes()
    assert (sizes.data, sizes.bss) == (20, 300)
    assert 100 <= sizes.rodata <= 120
    assert (symbols["in_flash"], symbols["in_data"], symbols["in_bss"]) == (100, 20, 300)
    assert 64 < sizes.text < 600
    assert sizes.flash == sizes.text + sizes.rodata + 20
    assert sizes.ram == 320
    assert program.function_at(program.addresses["get"] + 2) == "get"


@pytest.mark.parametrize("compiler", build.COMPILERS)
def test_the_same_sources_give_the_same_bytes(tmp_path: Path, compiler: str) -> None:
    need(compiler)
    target, options = targets.load("cortex-m0"), build.Options(compiler=compiler)
    first, second = (
        elf.read(build.build_firmware([PROGRAM], target, tmp_path / name, options))
        for name in ("a.elf", "b.elf")
    )
    assert first.segments == second.segments


@pytest.mark.parametrize("compiler", build.COMPILERS)
def test_a_warning_is_an_error_with_the_compilers_own_words(tmp_path: Path, compiler: str) -> None:
    need(compiler)
    bad = source(tmp_path, "int main(void) { int unused = 1; return 0; }\n")
    with pytest.raises(ValueError, match=r"(?s)refuses the sources.*unused"):
        build.build_firmware(
            [bad], targets.load("cortex-m0"), tmp_path / "p.elf", build.Options(compiler=compiler)
        )
    assert not (tmp_path / "p.elf").exists()


@pytest.mark.parametrize("compiler", build.COMPILERS)
def test_a_program_that_leaves_no_room_for_the_stack_is_refused(
    tmp_path: Path, compiler: str
) -> None:
    need(compiler)
    big = source(tmp_path, "char big[15000]; int main(void) { return big[3]; }\n")
    options = build.Options(compiler=compiler, keep=("big",))
    with pytest.raises(ValueError, match="bytes of RAM are left for the stack"):
        build.build_firmware([big], targets.load("microbit"), tmp_path / "p.elf", options)


def test_firmware_needs_no_main_and_takes_defines(tmp_path: Path) -> None:
    need("zig")
    one = source(tmp_path, "int number(void); int number(void) { return NUMBER; }\n")
    options = build.Options(defines=("NUMBER=3",), keep=("number",))
    made = build.build_firmware([one], targets.load("cortex-m0"), tmp_path / "p.elf", options)
    assert {"number", "main"} <= elf.read(made).defined()


def test_a_shared_library_of_the_host_is_callable(tmp_path: Path) -> None:
    library = build.build_shared([PROGRAM], tmp_path / "p.so")
    assert ctypes.CDLL(str(library)).sum4(1, 2, 3, -4) == -2


def test_sanitizers_stop_a_program_of_the_host(tmp_path: Path) -> None:
    text = "int main(void) { volatile int big = 2147483647; big = big + 1; return 0; }\n"
    made = build.build_program(
        [source(tmp_path, text)], tmp_path / "p", build.Options(sanitize=True)
    )
    done = subprocess.run([made], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "signed integer overflow" in done.stderr


def test_a_missing_compiler_is_named_with_the_command_that_brings_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    target = targets.load("cortex-m0")
    for compiler, message in (("gcc", "apt install"), ("zig", r"pip install 'mcugraph\[emulate")):
        with pytest.raises(ValueError, match=message):
            build.build_firmware(
                [PROGRAM], target, tmp_path / "p.elf", build.Options(compiler=compiler)
            )
    with pytest.raises(ValueError, match="pip install"):
        build.build_shared([PROGRAM], tmp_path / "p.so")


def test_a_cache_that_cannot_be_made_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = tmp_path / "taken"
    taken.write_text("")
    monkeypatch.setenv("MCUGRAPH_CACHE", str(taken / "cache"))
    with pytest.raises(ValueError, match="set MCUGRAPH_CACHE to a folder that can"):
        build.cache_folder()


def test_an_unknown_compiler_and_firmware_for_the_host_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no compiler 'icc'; there are: zig, gcc"):
        build.build_firmware(
            [PROGRAM], targets.load("cortex-m0"), tmp_path / "p", build.Options(compiler="icc")
        )
    with pytest.raises(ValueError, match="the host runs no firmware"):
        build.build_firmware([PROGRAM], targets.load("host"), tmp_path / "p")


def test_a_target_without_flash_cannot_be_linked(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('core = "x"\nkernels = ["portable"]\n[memory.ram]\norigin = 0\n')
    with pytest.raises(ValueError, match=r"target mine has no \[memory.flash\]"):
        build.linker_script(targets.load(path))


def test_what_is_no_elf_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is not a little-endian ELF file"):
        elf.read(source(tmp_path, "int x;\n"))


def test_an_object_of_the_host_lists_what_it_needs(tmp_path: Path) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no cc on this computer")
    text = 'int puts(const char *s); int say(void); int say(void) { return puts("x"); }\n'
    out = tmp_path / "source.o"
    subprocess.run([compiler, "-c", source(tmp_path, text), "-o", out], check=True)
    if out.read_bytes()[:4] != b"\x7fELF":
        pytest.skip("this host does not make ELF files")
    assert elf.read(out).undefined() == {"puts"}
    assert elf.read(out).defined() == {"say"}
