"""The emitted C as a firmware engineer meets it: compilers, linkers, sanitizers, C++, CMake."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from models import MODELS, Net
from onnx import TensorProto

from mcugraph import build, elf, header
from mcugraph.ctext import Names, comment, identifier
from mcugraph.emit import emit
from mcugraph.execute import OnHost
from mcugraph.load import load_model
from mcugraph.measure import Sources, measure
from mcugraph.optimize import Settings, model_name, rewrite
from mcugraph.plan import Aim, Plan, make_plan
from mcugraph.read import read_graph
from mcugraph.report import flash_constants
from mcugraph.targets import load as load_target
from mcugraph.testing import Golden

DIGITS = Path(__file__).parents[1] / "examples/digits.onnx"
FLOAT = Path(__file__).parents[1] / "examples/digits_float.onnx"
WARNINGS = """-std=c99 -Wall -Wextra -Wconversion -Wshadow -pedantic -Werror
    -Wmissing-prototypes -Wstrict-prototypes -Wundef -Wcast-qual -Wvla""".split()
COMPILERS = ("gcc", "clang")
# All that the C may want from elsewhere: what compilers themselves emit calls to.
MEMORY = {"memcpy", "memset", "memmove"}
HELPERS = re.compile(r"__aeabi_(mem\w+|lmul|llsl|llsr|lasr)|__(ashl|ashr|lshr|mul)di3")

Files = Mapping[str, str]


def planned(model: onnx.ModelProto, name: str, target: str = "host") -> Plan:
    graph = read_graph(rewrite(load_model(model)))
    return make_plan(graph, load_target(target), name, Aim(allow_float=True))


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"no {name} on this machine")
    return found


def call(*command: object, folder: Path) -> str:
    """Run a tool that must succeed without a word on stderr; returns what it prints."""
    done = subprocess.run(
        [*map(str, command)], capture_output=True, text=True, check=False, cwd=folder
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr + done.stdout
    return done.stdout


def put(folder: Path, files: Files) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def sources(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.c"))


@pytest.fixture(scope="module")
def plans() -> dict[str, Plan]:
    """Digits, int8 and float, and all small models, each under a name of its own."""
    given = {"digits": onnx.load(DIGITS), "digits_float": onnx.load(FLOAT)}
    given |= {name: build_model() for name, build_model in MODELS.items()}
    return {name: planned(model, name) for name, model in given.items()}


@pytest.fixture(scope="module")
def everything(plans: dict[str, Plan], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The C of all models in one folder: what they share is written once."""
    folder = tmp_path_factory.mktemp("everything")
    shared: dict[str, str] = {}
    for plan in plans.values():
        files = emit(plan)
        assert all(
            shared.get(name, text) == text for name, text in files.items() if "CM" not in name
        )
        shared |= files
    return put(folder, shared)


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("level", ["-O0", "-O2", "-Os"])
def test_no_compiler_warns(everything: Path, compiler: str, level: str, tmp_path: Path) -> None:
    call(tool(compiler), *WARNINGS, level, "-c", *sources(everything), folder=tmp_path)


def exercise(plans: Iterable[Plan]) -> str:
    """A program that runs each model twice in memory of exactly its size, and prints a sum."""
    names = [plan.name for plan in plans]
    lines = ["#include <stdio.h>", "#include <stdlib.h>", "#include <string.h>"]
    lines += [f'#include "{name}.h"' for name in names]
    lines += ["static unsigned seed = 1;", "static void *filled(size_t size, int real) {"]
    lines += ["  unsigned char *p = malloc(size);", "  for (size_t i = 0; i < size; i++) {"]
    lines += ["    seed = seed * 1103515245u + 12345u;"]
    lines += ["    p[i] = (unsigned char)(seed >> 16); }", "  for (size_t i = 0; real && i < size;"]
    lines += ["       i += 4) { float x = (float)(p[i] - 128) / 64; memcpy(p + i, &x, 4); }"]
    lines += ["  return p; }", "int main(void) {"]
    for plan in plans:
        lines += _exercised(plan)
    return "\n".join([*lines, "return 0; }"])


def _exercised(plan: Plan) -> list[str]:
    upper, ports = plan.name.upper(), [*header.inputs(plan), *header.outputs(plan)]
    names = [f"{upper}_{port.c_name.upper()}_BYTES" for port in ports]
    reals = [int(port.c_type == "float") for port in ports]
    lines = ["{", f"  void *arena = filled({upper}_ARENA_BYTES, 0);"]
    lines += [
        f"  void *p{i} = filled({bytes_}, {real});"
        for i, (bytes_, real) in enumerate(zip(names, reals, strict=True))
    ]
    arguments = ", ".join(f"p{i}" for i in range(len(ports)))
    lines += [f"  {plan.name}_infer_at(arena, {arguments});"]
    outs = range(len(header.inputs(plan)), len(ports))
    for i in outs:
        lines += [f"  void *q{i} = malloc({names[i]}); memcpy(q{i}, p{i}, {names[i]});"]
    lines += [f"  {plan.name}_infer({arguments});"]
    for i in outs:
        lines += [f'  if (memcmp(p{i}, q{i}, {names[i]})) {{ puts("{plan.name}"); }}']
        lines += [f"  free(q{i});"]
    frees = [f"free(p{i});" for i in range(len(ports))]
    return [*lines, f"  free(arena); {' '.join(frees)}", "}"]


@pytest.mark.parametrize("compiler", COMPILERS)
def test_sanitizers_find_nothing_in_memory_of_exact_size(
    plans: dict[str, Plan], everything: Path, compiler: str, tmp_path: Path
) -> None:
    """All models are linked into one program; the kernels are there once."""
    (tmp_path / "main.c").write_text(exercise(plans.values()))
    checks = ["-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    files = [tmp_path / "main.c", *sources(everything)]
    call(tool(compiler), *checks, f"-I{everything}", *files, "-o", "all", folder=tmp_path)
    assert call("./all", folder=tmp_path) == ""


REENTER = """#include <stdio.h>
#include <string.h>
#include "digits.h"
static unsigned char outer[DIGITS_ARENA_BYTES], inner[DIGITS_ARENA_BYTES];
static int8_t in[2][DIGITS_INPUT_SIZE], alone[2][DIGITS_OUTPUT_SIZE], out[2][DIGITS_OUTPUT_SIZE];
static int at = -1, calls, wrong, depth;
void hook(int step);
void hook(int step) {
    calls++;
    if (depth == 0 && step == at) {
        depth = 1;
        digits_infer_at(inner, in[1], out[1]);
        depth = 0;
    }
}
int main(void) {
    for (int i = 0; i < 2; i++) {
        for (int k = 0; k < DIGITS_INPUT_SIZE; k++) {
            in[i][k] = (int8_t)(k * (3 + 7 * i) % 251 - 125);
        }
        digits_infer(in[i], alone[i]);
    }
    int steps = calls / 2;
    wrong += memcmp(alone[0], alone[1], sizeof alone[0]) == 0;
    for (at = 0; at < steps; at++) {
        memset(outer, at, sizeof outer);
        memset(inner, 77, sizeof inner);
        digits_infer_at(outer, in[0], out[0]);
        wrong += memcmp(out, alone, sizeof out) != 0;
    }
    memcpy(digits_input(), in[1], sizeof in[1]);
    digits_run();
    wrong += memcmp(digits_output(), alone[1], sizeof alone[1]) != 0;
    printf("%d steps, %d wrong", steps, wrong);
    return 0;
}
"""


def hooks(plan: Plan) -> int:
    """How often the hook is called: once a step, or a row of a fused one, and at the end."""
    return 1 + sum(len(section.events) or 1 for section in plan.sections)


def test_two_inferences_interleave_at_every_step(tmp_path: Path) -> None:
    plan = planned(onnx.load(DIGITS), "digits")
    put(tmp_path, emit(plan) | {"main.c": REENTER})
    define = "-DDIGITS_HOOK(step)=do { extern void hook(int); hook(step); } while (0)"
    call(tool("gcc"), "-O1", define, *sources(tmp_path), "-o", "main", folder=tmp_path)
    assert call("./main", folder=tmp_path) == f"{hooks(plan)} steps, 0 wrong"


def test_it_links_without_a_c_library(everything: Path, tmp_path: Path) -> None:
    """Where memcpy, memset and memmove come from elsewhere, nothing else is missing."""
    memory = """#include <stddef.h>
    void *memcpy(void *to, const void *from, size_t n) { (void)from; (void)n; return to; }
    void *memmove(void *to, const void *from, size_t n) { (void)from; (void)n; return to; }
    void *memset(void *to, int c, size_t n) { (void)c; (void)n; return to; }\n"""
    put(tmp_path, {"memory.c": memory})
    flags = ["-O2", "-ffreestanding", "-nostdlib", "-fPIC", "-shared", "-Wl,-z,defs"]
    files = [tmp_path / "memory.c", *sources(everything)]
    call(tool("gcc"), *flags, *files, "-lgcc", "-o", "all.so", folder=tmp_path)


def test_only_freestanding_headers_are_included(everything: Path) -> None:
    texts = [path.read_text(encoding="utf-8") for path in everything.iterdir()]
    included = {name for text in texts for name in re.findall(r"#include <(.*)>", text)}
    assert included <= {"stdint.h", "stddef.h", "limits.h", "float.h"}


def objects(folder: Path, compiler: str, plan: Plan) -> dict[str, elf.Elf]:
    """Each C file compiled by itself for the plan's target."""
    target = plan.target
    if compiler == "zig":
        pytest.importorskip("ziglang", reason="no zig on this machine")
        command = [*build.zig_compiler(), *target.zig, "-fno-sanitize=undefined", "-g"]
        command += ["-fno-unwind-tables", "-fno-asynchronous-unwind-tables"]
    else:
        command = [tool("arm-none-eabi-gcc"), *target.gcc]
    put(folder, emit(plan))
    found = {}
    for path in sources(folder):
        out = path.with_suffix(".o")
        call(*command, *WARNINGS, "-O2", "-c", path, "-o", out, folder=folder)
        found[path.name] = elf.read(out)
    return found


@pytest.mark.parametrize("compiler", ["zig", "gcc"])
def test_symbols_of_an_int8_model_on_the_m0(compiler: str, tmp_path: Path) -> None:
    plan = planned(onnx.load(DIGITS), "digits", "cortex-m0")
    found = objects(tmp_path, compiler, plan)
    defined = [name for each in found.values() for name in each.defined()]
    assert len(defined) == len(set(defined))
    assert all(re.match(r"(digits|mcu)_", name) for name in defined)
    assert {name for name in defined if name.startswith("digits_")} == set(header.functions(plan))
    wanted = {name for each in found.values() for name in each.undefined()} - {""}
    foreign = wanted - set(defined) - MEMORY
    assert not [name for name in foreign if not HELPERS.fullmatch(name)], foreign
    assert writable_objects(found.values()) == {"digits_arena": plan.memory.arena}


def writable_objects(found: Iterable[elf.Elf]) -> dict[str, int]:
    """Names and bytes of what stands in RAM."""
    return {
        symbol.name: symbol.size
        for each in found
        for symbol in each.symbols
        if symbol.kind == "object" and symbol.is_defined and symbol.size
        if each.sections[symbol.section].flags & 1
    }


@pytest.mark.parametrize("name", ["digits", "residual_qdq", "qoperator_microsoft", "separable"])
def test_constants_take_the_flash_that_the_report_says(name: str, tmp_path: Path) -> None:
    model = onnx.load(DIGITS) if name == "digits" else MODELS[name]()
    plan = planned(model, name, "cortex-m0")
    own = objects(tmp_path, "zig", plan)[f"{name}.c"]
    constants = sum(
        symbol.size
        for symbol in own.symbols
        if symbol.kind == "object" and symbol.is_defined
        if not own.sections[symbol.section].flags & 5
    )
    assert constants == sum(flash_constants(plan))


@pytest.mark.parametrize("compiler", ["zig", "gcc"])
def test_firmware_is_small_and_holds_what_the_report_says(compiler: str, tmp_path: Path) -> None:
    plan = planned(onnx.load(DIGITS), "digits", "cortex-m0")
    files = emit(plan)
    pytest.importorskip("ziglang") if compiler == "zig" else tool("arm-none-eabi-gcc")
    measured = measure(plan, files, compiler)
    assert 2000 < measured.code <= 16 * 1024
    options = build.Options(compiler, includes=(tmp_path,), keep=("digits_run",))
    put(tmp_path, files)
    program = build.build_firmware(sources(tmp_path), plan.target, tmp_path / "m.elf", options)
    firmware = elf.read(program)
    assert firmware.symbol_sizes()["digits_arena"] == plan.memory.arena
    whole = measured.code + sum(flash_constants(plan))
    assert whole <= firmware.sizes().flash <= whole + 1024
    assert not {"malloc", "free", "printf", "_sbrk"} & firmware.addresses.keys()


CPP = """#include "digits.h"
#include "qdq_by_hand.h"
#include <cstdio>
int main() {
    static int8_t out[DIGITS_OUTPUT_SIZE + QDQ_BY_HAND_OUTPUT_SIZE];
    digits_infer(digits_input(), out);
    qdq_by_hand_infer(qdq_by_hand_input(), out);
    return 0;
}
"""


@pytest.mark.parametrize("compiler", ["g++", "clang++"])
def test_the_headers_serve_cpp(everything: Path, compiler: str, tmp_path: Path) -> None:
    wanted = ("digits.c", "qdq_by_hand.c")
    kernels = [
        p for p in sources(everything) if re.search(r"_(s8|f32)\.c$|take|concat|perm", p.name)
    ]
    files = [*(everything / name for name in wanted), *kernels]
    call(tool("gcc"), "-c", *files, folder=tmp_path)
    put(tmp_path, {"main.cpp": CPP})
    flags = ["-std=c++11", "-Wall", "-Wextra", "-pedantic", "-Werror", f"-I{everything}"]
    call(tool(compiler), *flags, "main.cpp", *tmp_path.glob("*.o"), "-o", "main", folder=tmp_path)
    assert call("./main", folder=tmp_path) == ""


PROJECT = """cmake_minimum_required(VERSION 3.16)
project(app C)
add_subdirectory(digits)
add_subdirectory(other)
add_executable(app main.c)
target_link_libraries(app PRIVATE digits other)
"""
APP = """#include "digits.h"
#include "other.h"
int main(void) { digits_run(); other_run(); return 0; }
"""


def test_cmake_builds_two_models_into_one_program(tmp_path: Path) -> None:
    cmake = tool("cmake")
    put(tmp_path / "digits", emit(planned(onnx.load(DIGITS), "digits")))
    put(tmp_path / "other", emit(planned(MODELS["qdq_by_hand"](), "other")))
    put(tmp_path, {"CMakeLists.txt": PROJECT, "main.c": APP})
    call(cmake, "-S", ".", "-B", "out", "-DCMAKE_C_COMPILER=" + tool("gcc"), folder=tmp_path)
    call(cmake, "--build", "out", folder=tmp_path)
    assert call("out/app", folder=tmp_path) == ""


def tiny() -> onnx.ModelProto:
    """One convolution with activation and one pool, int8."""
    net = Net(17)
    x = net.input("image", 1, 1, 4, 4, kind=TensorProto.INT8)
    w = net.dequantize(net.bytes("weights", 2, 1, 3, 3), 0.01, 0)
    y = net("Conv", net.dequantize(x, 0.05, 3), w)
    y = net.quantize(net("Relu", y), 0.04, -128)
    return net.model(net("MaxPool", y, kernel_shape=[2, 2], out="peaks"), kind=TensorProto.INT8)


def test_a_tiny_model_is_readable(golden: Golden) -> None:
    files = emit(planned(tiny(), "tiny", "cortex-m0"))
    golden(files["tiny.c"], ".c")
    golden(files["tiny.h"], ".h")
    golden(files["CMakeLists.txt"], ".cmake")


def test_emission_is_repeatable(plans: dict[str, Plan]) -> None:
    for plan in plans.values():
        assert emit(plan) == emit(plan)


HOSTILE = (
    *"input output run infer arena input_at run_at infer_at".split(),
    *"a step memcpy int32_t NULL while x/*y x*/y */ /* // ??/ \\ %d ünïcödé 名前".split(),
    "two\nlines",
    "\u202eleft\x00",
    '"quoted"',
    "long" * 60,
    "X",
    "x",
)


def hostile() -> onnx.ModelProto:
    """A chain of steps whose names and tensors would upset a careless emitter."""
    net = Net(17)
    x = net.input(HOSTILE[0], 1, 4)
    for name in HOSTILE:
        x = net("Abs", x, out=f"{name} " if name.isprintable() else "")
        net.nodes[-1].name = name
    return net.model(x)


@pytest.mark.parametrize("compiler", COMPILERS)
def test_no_name_in_a_model_upsets_the_c(compiler: str, tmp_path: Path) -> None:
    plan = planned(hostile(), "net")
    put(tmp_path, emit(plan))
    call(tool(compiler), *WARNINGS, "-c", *sources(tmp_path), folder=tmp_path)


def test_ports_of_several_inputs_have_names_of_their_own(tmp_path: Path) -> None:
    net = Net(17)
    first, second = net.input("x", 1, 4), net.input("X at", 1, 4)
    outs = [net("Add", first, second, out=name) for name in ("y", "Y", "y_at", "y at")]
    plan = planned(net.model(*outs), "net")
    names = header.functions(plan)
    assert len({name.lower() for name in names}) == len(names)
    put(tmp_path, emit(plan))
    call(tool("gcc"), *WARNINGS, "-c", *sources(tmp_path), folder=tmp_path)


def test_every_step_is_called_once_in_order_with_its_place(plans: dict[str, Plan]) -> None:
    for plan in plans.values():
        text = emit(plan)[f"{plan.name}.c"]
        found = re.findall(rf"^ +{plan.name.upper()}_HOOK\((\d+)\);", text, re.M)
        assert sorted(map(int, found)) == list(range(len(plan.steps) + 1))
        calls = re.findall(r"^ +mcu_(\w+)\(", text, re.M)
        wanted = [call.kernel for step in plan.steps for call in plan.calls[step.name]]
        assert sorted(calls) == sorted(wanted)


def test_a_step_sees_the_arena_of_the_plan(tmp_path: Path) -> None:
    """The input stands where the header says, and the result where the plan says."""
    model = tiny()
    plan = planned(model, "tiny")
    host = OnHost(Sources("tiny", emit(plan)), plan.memory.arena, tmp_path)
    image = np.arange(-8, 8, dtype=np.int8)
    host.write(header.inputs(plan)[0].offset, image.tobytes())
    seen: list[int] = []
    host.run(seen.append)
    assert sorted(set(seen)) == [0, 1, 2]
    port = header.outputs(plan)[0]
    result = np.frombuffer(host.read(port.offset, port.tensor.bytes), np.int8)
    assert result.shape == (2,)


def test_constants_are_written_once(tmp_path: Path) -> None:
    """Two layers with the same weights share them in flash."""
    net = Net(17)
    x = net.input("x", 1, 2, 4, 4)
    w, b = net.weight("w", 2, 2, 3, 3), net.weight("b", 2)
    y = net("Conv", net("Conv", x, w, b, pads=[1] * 4), w, b, pads=[1] * 4)
    plan = planned(net.model(y), "net")
    text = emit(plan)["net.c"]
    assert len(re.findall(r"static const float \w+\[36\]", text)) == 1
    assert flash_constants(plan)[0] == 4 * (36 + 2)


@pytest.mark.parametrize(
    ("text", "name"),
    [("a/b.c", "a_b_c"), ("9x", "m_9x"), ("", "x"), ("int", "m_int"), ("é", "x"), ("_a_", "a")],
)
def test_identifiers(text: str, name: str) -> None:
    assert identifier(text) == name


def test_names_are_handed_out_once() -> None:
    names = Names(["Run"])
    texts = ("a", "A", "a_2", "a", "run")
    assert [names.fresh(t) for t in texts] == ["a", "A_2", "a_2_2", "a_3", "run_2"]


def test_no_text_ends_or_nests_a_comment() -> None:
    for text in HOSTILE:
        inside = comment(f"{text} of /*/ and */*/ x")[2:-2]
        assert "*/" not in inside
        assert "/*" not in inside
        assert inside.isprintable()


@pytest.mark.parametrize("stem", ["signal", "Complex", "conv_s8", "mcugraph", "mcu", "STRING"])
def test_no_model_hides_a_header_or_a_kernel(stem: str) -> None:
    assert model_name(f"{stem}.onnx", Settings()) == f"m_{stem}"
    with pytest.raises(ValueError, match="is that of another C file"):
        model_name("x.onnx", Settings(name=stem))


def test_target_changes_only_the_first_line(plans: dict[str, Plan]) -> None:
    """Portable C: the same text for any core that uses the same kernels."""
    plan = plans["digits"]
    other = replace(plan, target=load_target("cortex-m4"))
    mine, theirs = emit(plan), emit(other)
    assert mine.keys() == theirs.keys()
    for name, text in mine.items():
        assert text.replace("for host,", "for cortex-m4,") == theirs[name]


def test_a_bare_gcc_for_arm_warns_as_little(everything: Path, tmp_path: Path) -> None:
    flags: Sequence[str] = load_target("cortex-m0").gcc
    compiler = tool("arm-none-eabi-gcc")
    call(compiler, *flags, *WARNINGS, "-Os", "-c", *sources(everything), folder=tmp_path)
    assert len(os.listdir(tmp_path)) == len(sources(everything))
