"""Plan -> files: a pure function."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mcugraph import header
from mcugraph.ctext import Names, array, comment, number
from mcugraph.exit_text import result, returned
from mcugraph.graph import Step
from mcugraph.lower.call import Call
from mcugraph.plan import Plan
from mcugraph.pushed import push_functions, push_static
from mcugraph.sections import section_calls
from mcugraph.targets import Target

ASSERTION = """\
/* A C99 compiler knows _Static_assert at most as an extension. */
#if defined(__GNUC__)
#define MCU_STATIC_ASSERT(condition, name) __extension__ _Static_assert(condition, #name)
#else
#define MCU_STATIC_ASSERT(condition, name) extern char name[(condition) ? 1 : -1]
#endif
"""


def emit(plan: Plan) -> dict[str, str]:
    """The C folder of a plan: file name to text."""
    kernels = kernel_files(plan)
    sources = sorted([f"{plan.name}.c", *(n for n in kernels if n.endswith(".c"))])
    return {
        f"{plan.name}.c": _source(plan, kernels),
        f"{plan.name}.h": header.header(plan),
        "CMakeLists.txt": _cmake(plan.name, sources),
        **kernels,
    }


def kernel_files(plan: Plan) -> dict[str, str]:
    """The C files of the kernels used and the headers that they include."""
    pending = [f"{kernel}.c" for kernel in plan.kernels] or ["mcugraph.h"]
    files: dict[str, str] = {}
    while pending:
        name = pending.pop()
        if name not in files:
            files[name] = _kernel_file(plan.target, name)
            pending += re.findall(r'^#include "([^"]+)"', files[name], re.MULTILINE)
    return dict(sorted(files.items()))


def _kernel_file(target: Target, name: str) -> str:
    found = (Path(folder) / name for folder in target.kernels)
    path = next((p for p in found if p.is_file()), None)
    assert path is not None, f"no kernel file {name} for {target.name}"
    return path.read_text(encoding="utf-8")


@dataclass
class _Constants:
    """Constant arrays and parameter structs; equal arrays are written once."""

    prefix: str
    names: Names
    text: list[str] = field(default_factory=list)
    arrays: dict[tuple[str, bytes], str] = field(default_factory=dict)

    def struct(self, step: Step, call: Call) -> str:
        """Define the parameters of a call and return their name."""
        name = self.names.fresh(f"{self.prefix}_{step.name}")
        members = [f"    .{key} = {self._value(name, key, v)}," for key, v in call.fields.items()]
        head = f"static const struct mcu_{call.kernel} {name} = {{"
        self.text.append("\n".join([head, *members, "};\n"]))
        return name

    def _value(self, owner: str, key: str, value: int | float | NDArray[np.generic] | None) -> str:
        if value is None:
            return "NULL"
        if not isinstance(value, np.ndarray):
            return number(value)
        known = (str(value.dtype), value.tobytes())
        if known not in self.arrays:
            self.arrays[known] = self.names.fresh(f"{owner}_{key}")
            self.text.append(array(self.arrays[known], value))
        return self.arrays[known]


def _source(plan: Plan, kernels: Mapping[str, str]) -> str:
    name, upper = plan.name, plan.name.upper()
    constants = _Constants(name, Names(header.reserved(plan)))
    body = _body(plan, constants)
    includes = sorted(n for n in kernels if n.endswith(".h"))
    return "\n".join(
        [
            comment(f"{name}: a neural network for {plan.target.name}, written by mcugraph."),
            f'#include "{name}.h"',
            "",
            "#include <stddef.h>",
            "",
            *(f'#include "{include}"' for include in includes),
            "",
            "/* All that is used of a C library; string.h may be missing on a bare core. */",
            "void *memcpy(void *restrict to, const void *restrict from, size_t size);",
            "",
            "/* Called before each step and after the last: define it to time or to trace them. */",
            f"#ifndef {upper}_HOOK",
            f"#define {upper}_HOOK(step) ((void)0)",
            "#endif",
            "",
            ASSERTION,
            *(_assertion(port, plan) for port, _ in _ports(plan)),
            "",
            *constants.text,
            *body,
            *_static_interface(plan),
        ]
    )


def _assertion(port: header.Port, plan: Plan) -> str:
    upper = plan.name.upper()
    end = f"{port.offset} + {upper}_{port.c_name.upper()}_BYTES"
    return f"MCU_STATIC_ASSERT({end} <= {upper}_ARENA_BYTES, {port.c_name}_is_in_the_arena);"


def _body(plan: Plan, constants: _Constants) -> list[str]:
    """Everything on an arena of the caller's."""
    name = plan.name
    definitions, statements = section_calls(plan, constants.struct)
    run = ["    int8_t *const a = arena;", "    (void)a;", *statements]
    if plan.progress is None:
        functions = _function(f"{result(plan)} {name}_run_at(void *arena)", run)
    else:
        functions = _function(f"static {result(plan)} {name}_finish(void *arena)", run)
        functions += push_functions(plan, constants.struct)
    infer = f"{result(plan)} {name}_infer_at(void *arena, {header.infer_arguments(plan)})"
    ports = [line for port, const in _ports(plan) for line in _port_at(plan, port, const)]
    return [*definitions, *ports, *functions, *_function(infer, header.infer_copies(plan))]


def _function(head: str, body: list[str]) -> list[str]:
    return [head, "{", *body, "}", ""]


def _ports(plan: Plan) -> list[tuple[header.Port, str]]:
    """The ports that stand in the arena as a whole, and what the application may not change."""
    ins = header.inputs(plan) if plan.progress is None else []
    return [*((port, "") for port in ins), *((port, "const ") for port in header.outputs(plan))]


def _port_at(plan: Plan, port: header.Port, const: str) -> list[str]:
    head = f"{const}{port.c_type} *{plan.name}_{port.c_name}_at({const}void *arena)"
    return _function(head, [f"    return ({const}void *)(({const}int8_t *)arena + {port.offset});"])


def _static_interface(plan: Plan) -> list[str]:
    """The functions on the static arena; the linker drops it where only the others are used."""
    name, upper = plan.name, plan.name.upper()
    arena = f"{name}_arena"
    lines = [f"static union {{ int8_t bytes[{upper}_ARENA_BYTES]; uint64_t align; }} {arena};", ""]
    for port, const in _ports(plan):
        head = f"{const}{port.c_type} *{name}_{port.c_name}(void)"
        lines += _function(head, [f"    return {name}_{port.c_name}_at(&{arena});"])
    if plan.progress is None:
        run = f"    {returned(plan)}{name}_run_at(&{arena});"
        lines += _function(f"{result(plan)} {name}_run(void)", [run])
    else:
        lines += push_static(plan)
    infer = f"    {returned(plan)}{name}_infer_at(&{arena}, {header.infer_names(plan)});"
    head = f"{result(plan)} {name}_infer({header.infer_arguments(plan)})"
    return lines + _function(head, [infer])


def _cmake(name: str, sources: list[str]) -> str:
    files = "\n".join(f"    {source}" for source in sources)
    return (
        "cmake_minimum_required(VERSION 3.16)\n"
        f"project({name} C)\n\n"
        f"add_library({name} STATIC\n{files}\n)\n"
        f"target_include_directories({name} PUBLIC ${{CMAKE_CURRENT_SOURCE_DIR}})\n"
        f"set_target_properties({name} PROPERTIES C_STANDARD 99 C_EXTENSIONS OFF)\n"
    )
