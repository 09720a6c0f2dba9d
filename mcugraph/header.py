"""Plan -> the text of NAME.h: the interface that the application sees."""

from __future__ import annotations

from dataclasses import dataclass

from mcugraph import exit_text
from mcugraph.ctext import C_TYPES, Names, comment, identifier, number
from mcugraph.graph import Tensor
from mcugraph.plan import Plan


@dataclass(frozen=True)
class Port:
    """One input or output: its tensor, its place in the arena and its name in C."""

    tensor: Tensor
    onnx_name: str
    memory_shape: tuple[int, ...]
    offset: int
    c_name: str

    @property
    def c_type(self) -> str:
        """The C type of its elements."""
        return C_TYPES[self.tensor.dtype]

    def note(self) -> str:
        """What the application must know about the bytes."""
        dims = "".join(f"[{n}]" for n in self.memory_shape)
        text = f'"{self.onnx_name}": {self.c_type}{dims}, in ONNX {list(self.tensor.shape)}'
        quant = self.tensor.quant
        if quant is None:
            return text
        return f"{text}; real = {quant.scale.item():.9g} * (q - {quant.zero_point.item():d})"


def inputs(plan: Plan) -> list[Port]:
    """The model's inputs in order."""
    return _ports(plan, "input", plan.graph.inputs)


def outputs(plan: Plan) -> list[Port]:
    """The model's outputs in order."""
    return _ports(plan, "output", plan.graph.outputs)


def _ports(plan: Plan, role: str, tensors: tuple[str, ...]) -> list[Port]:
    names = Names()
    ports = []
    for name in tensors:
        onnx_name = plan.graph.interface[name]
        own = role if len(tensors) == 1 else names.fresh(_distinct(f"{role}_{onnx_name}"))
        shape = plan.layouts.of[name].shape
        tensor = plan.graph.tensors[name]
        ports.append(Port(tensor, onnx_name, shape, plan.offset(name), own))
    return ports


def _distinct(name: str) -> str:
    """The functions of x_at must not be those of x on an arena."""
    return f"{name}_tensor" if identifier(name).endswith("_at") else name


def functions(plan: Plan) -> list[str]:
    """The names of all functions of NAME.h."""
    name = plan.name
    results = [port.c_name for port in outputs(plan)]
    own = [*(port.c_name for port in inputs(plan)), *results, "run", "infer"]
    if plan.progress is not None:
        own = [*results, "infer", "push_row"]
    both = [f"{name}_{each}{at}" for each in own for at in ("", "_at")]
    return both if plan.progress is None else [*both, f"{name}_start_at"]


def reserved(plan: Plan) -> list[str]:
    """The names in NAME.c that no constant of a step may take."""
    private = ["arena", "finish", "progress", "progress_of", "turns"]
    for index in range(len(plan.sections)):
        private += [f"group_{index}", f"group_{index}_steps"]
    return [*functions(plan), *(f"{plan.name}_{each}" for each in private)]


def header(plan: Plan) -> str:
    """The text of NAME.h."""
    name, guard = plan.name, f"{plan.name.upper()}_H"
    ports = [*inputs(plan), *outputs(plan)]
    return "\n".join(
        [
            comment(f"{name}: a neural network for {plan.target.name}, written by mcugraph."),
            f"#ifndef {guard}",
            f"#define {guard}",
            "",
            "#include <stdint.h>",
            "",
            "#ifdef __cplusplus",
            'extern "C" {',
            "#endif",
            "",
            "/* The bytes of one inference, inputs and outputs included; aligned to 8 bytes. */",
            f"#define {name.upper()}_ARENA_BYTES {max(plan.memory.arena, 1)}",
            "",
            *(line for port in ports for line in _constants(plan, port)),
            *_exit(plan),
            *_prototypes(plan),
            "#ifdef __cplusplus",
            "}",
            "#endif",
            "",
            "#endif",
            "",
        ]
    )


def _constants(plan: Plan, port: Port) -> list[str]:
    prefix = f"{plan.name}_{port.c_name}".upper()
    lines = [
        comment(port.note()),
        f"#define {prefix}_SIZE {port.tensor.size}",
        f"#define {prefix}_BYTES {port.tensor.bytes}",
    ]
    quant = port.tensor.quant
    if quant is not None:
        lines.append(f"#define {prefix}_SCALE {number(quant.scale.item())}")
        lines.append(f"#define {prefix}_ZERO_POINT ({quant.zero_point.item()})")
    return [*lines, ""]


def _exit(plan: Plan) -> list[str]:
    """What the early exit is, if there is one."""
    own = None if plan.graph.exit is None else plan.graph.exit.tensor
    names = (f"{plan.name}_{port.c_name}" for port in outputs(plan) if port.tensor.name == own)
    return [line for name in names for line in exit_text.constants(plan, name)]


def _prototypes(plan: Plan) -> list[str]:
    if plan.progress is not None:
        return _push_prototypes(plan)
    name, kind = plan.name, exit_text.result(plan)
    lines = ["/* Write the input there, run, read the output there: all on one static arena. */"]
    lines += [f"{p.c_type} *{name}_{p.c_name}(void);" for p in inputs(plan)]
    lines += [f"{kind} {name}_run(void);"]
    lines += [f"const {p.c_type} *{name}_{p.c_name}(void);" for p in outputs(plan)]
    lines += ["", "/* The same with copies of input and output. */"]
    lines += [f"{kind} {name}_infer({infer_arguments(plan)});"]
    lines += ["", "/* The same on an arena of yours: reentrant. */"]
    lines += [f"{p.c_type} *{name}_{p.c_name}_at(void *arena);" for p in inputs(plan)]
    lines += [f"{kind} {name}_run_at(void *arena);"]
    lines += [f"const {p.c_type} *{name}_{p.c_name}_at(const void *arena);" for p in outputs(plan)]
    lines += [f"{kind} {name}_infer_at(void *arena, {infer_arguments(plan)});", ""]
    return lines


def _push_prototypes(plan: Plan) -> list[str]:
    name, (port,) = plan.name, inputs(plan)
    prefix = f"{name}_{port.c_name}".upper()
    results, kind = outputs(plan), exit_text.result(plan)
    return [
        *exit_text.push_note(plan),
        f"#define {prefix}_ROWS {plan.rows(port.tensor.name)}",
        f"#define {prefix}_ROW_BYTES {row_bytes(plan, port)}",
        f"int {name}_push_row(const {port.c_type} *row);",
        *(f"const {p.c_type} *{name}_{p.c_name}(void);" for p in results),
        "",
        "/* The same with all rows at once, and a copy of the output. */",
        f"{kind} {name}_infer({infer_arguments(plan)});",
        "",
        "/* The same on an arena of yours, to be started before its first row: reentrant. */",
        f"void {name}_start_at(void *arena);",
        f"int {name}_push_row_at(void *arena, const {port.c_type} *row);",
        *(f"const {p.c_type} *{name}_{p.c_name}_at(const void *arena);" for p in results),
        f"{kind} {name}_infer_at(void *arena, {infer_arguments(plan)});",
        "",
    ]


def row_bytes(plan: Plan, port: Port) -> int:
    """Bytes of one row of a port."""
    return port.tensor.bytes // plan.rows(port.tensor.name)


def infer_arguments(plan: Plan) -> str:
    """The parameters of NAME_infer: all inputs, then all outputs."""
    ins = [f"const {p.c_type} *{_argument(p, 'in')}" for p in inputs(plan)]
    outs = [f"{p.c_type} *{_argument(p, 'out')}" for p in outputs(plan)]
    return ", ".join([*ins, *outs])


def infer_copies(plan: Plan) -> list[str]:
    """The body of NAME_infer_at."""
    name = plan.name
    before = [
        f"    memcpy({name}_{p.c_name}_at(arena), {_argument(p, 'in')}, {p.tensor.bytes});"
        for p in inputs(plan)
    ]
    before.append(f"    {exit_text.kept(plan)}{name}_run_at(arena);")
    if plan.progress is not None:
        before = _push_all(plan)
    after = {
        p.tensor.name: f"memcpy({_argument(p, 'out')}, {name}_{p.c_name}_at(arena), "
        f"{p.tensor.bytes});"
        for p in outputs(plan)
    }
    return [*before, *exit_text.copies(plan, after)]


def _push_all(plan: Plan) -> list[str]:
    name, (port,) = plan.name, inputs(plan)
    rows = plan.rows(port.tensor.name)
    step = port.tensor.size // rows
    loop = f"for (int32_t row = 0; row < {rows}; row++)"
    push = f"{name}_push_row_at(arena, {_argument(port, 'in')} + row * {step})"
    return [f"    {name}_start_at(arena);", *exit_text.push_all(plan, loop, push)]


def infer_names(plan: Plan) -> str:
    """The arguments that NAME_infer hands on."""
    ins = [_argument(p, "in") for p in inputs(plan)]
    return ", ".join([*ins, *(_argument(p, "out") for p in outputs(plan))])


def _argument(port: Port, short: str) -> str:
    return short if port.c_name in {"input", "output"} else port.c_name
