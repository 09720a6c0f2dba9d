"""Reports for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from rich.console import Console
from rich.table import Table

from mcugraph import targets
from mcugraph.exit_check import ExitCheck
from mcugraph.exit_report import ExitReport
from mcugraph.judge import Verification
from mcugraph.repeat import Recomputed
from mcugraph.report import Report, SectionReport
from mcugraph.targets import Memory, Target
from mcugraph.tasks import MANY
from mcugraph.verify import Difference, Divergence

# Differing elements that are listed before the tensors are shown.
EXAMPLES = 8
TEXTS = ("step", "op", "kernel")
UNKNOWN = "-"
# Characters that are always left of a step's name.
SHORTEST = 12
# What a narrow terminal goes without, first to last.
DISPENSABLE = ("op", "scratch B", "cycles", "MACs", "weights B")


def print_report(report: Report, console: Console) -> None:
    """The verdict, a table of steps, and where RAM and flash go."""
    console.print(report.verdict, style="bold green" if report.fits else "bold red")
    console.print(_steps(report, console.width))
    ram, flash = report.ram, report.flash
    stack = "" if ram.stack_measured else " reserved"
    console.print(
        f"RAM    {ram.total:>9,} B = arena {ram.arena:,} (at least {ram.arena_lower_bound:,} "
        f"with this schedule) + stack {ram.stack:,}{stack}"
    )
    code = f"{flash.code:,}" if flash.code is not None else "not measured"
    console.print(
        f"flash  {flash.total:>9,} B = weights {flash.weights:,} + tables {flash.tables:,} "
        f"+ code {code}"
    )
    for section in report.sections:
        _print_fused(report, section, console)
    if report.recomputed is not None:
        _print_recomputed(report.recomputed, console)
    console.print(f"order  {report.order}")
    console.print(f"place  {report.placement}, with this order and these rings")
    if len(report.steps) > MANY:
        console.print(f"plans  the first one: above {MANY} steps, others are not compared with it")
    console.print(f"MACs   {report.macs:>9,}")
    if report.exit is not None:
        _print_exit(report.exit, console)
    if report.instructions is not None:
        cycles = f", {report.cycles:,} cycles (modelled)" if report.cycles is not None else ""
        console.print(f"run    {report.instructions:>9,} instructions{cycles}; {report.compiler}")
    elif report.target != "host":
        console.print("code, stack and cycles: install mcugraph[emulate] to measure them")


def _print_fused(report: Report, section: SectionReport, console: Console) -> None:
    """Which steps take turns, row by row."""
    if len(section.steps) < 2:
        return
    first, last = (report.steps[section.steps[end]].name for end in (0, -1))
    text = f"fused  {len(section.steps)} steps by turns, row by row: {first} to {last}"
    console.print(text, markup=False)


def _print_exit(found: ExitReport, console: Console) -> None:
    """Where a run may end early, and what it costs then."""
    cycles = f", {found.cycles:,} cycles" if found.cycles is not None else ""
    cost = f", {found.instructions:,} instructions{cycles}" if found.instructions else ""
    text = f"exit   early, where {found.output} reaches {found.threshold:g}: "
    text += f"after {found.steps} steps, {found.macs:,} MACs{cost}"
    console.print(text, markup=False)


def _print_recomputed(again: Recomputed, console: Console) -> None:
    """Which steps run a second time, and what was without them."""
    text = f"again  {', '.join(again.steps)}: computed twice; without that, "
    text += f"arena {again.arena:,} and {again.macs:,} MACs"
    console.print(text, markup=False)


def _steps(report: Report, width: int) -> Table:
    """As many columns as the width has room for; only a step's name may be shortened."""
    columns = _columns(report)
    for title in DISPENSABLE:
        if _excess(columns, width) > 0:
            columns.pop(title, None)
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title, cells in columns.items():
        room = _width(title, cells)
        if title == "step":
            room = max(SHORTEST, min(room, room - _excess(columns, width)))
        side: Literal["left", "right"] = "left" if title in TEXTS else "right"
        table.add_column(title, justify=side, no_wrap=True, min_width=room, max_width=room)
    for row in zip(*columns.values(), strict=True):
        table.add_row(*row)
    return table


def _excess(columns: Mapping[str, Sequence[str]], width: int) -> int:
    """Characters by which a table with two blanks between its columns is too wide."""
    return sum(_width(title, cells) + 2 for title, cells in columns.items()) - 2 - width


def _width(title: str, cells: Sequence[str]) -> int:
    return max(map(len, (title, *cells)))


def _columns(report: Report) -> dict[str, list[str]]:
    """The cells of each column in which something is known; a star marks the peak."""
    steps = report.steps
    peak = max((step.live_bytes for step in steps), default=0)
    columns = {
        "step": [step.name for step in steps],
        "op": [step.op for step in steps],
        "kernel": [step.kernel for step in steps],
        "MACs": [_count(step.macs) for step in steps],
        "live B": [f"{s.live_bytes:,}" + ("*" if s.live_bytes == peak else " ") for s in steps],
        "scratch B": [_count(step.scratch) for step in steps],
        "weights B": [_count(step.weights) for step in steps],
        "instructions": [_count(step.instructions) for step in steps],
        "cycles": [_count(step.cycles) for step in steps],
    }
    return {title: cells for title, cells in columns.items() if set(cells) != {UNKNOWN}}


def _count(value: int | None) -> str:
    return UNKNOWN if value is None else f"{value:,}"


def print_verification(result: Verification, console: Console) -> None:
    """What differs from onnxruntime, step by step and as a whole."""
    verdict = "AGREES with onnxruntime" if result.ok else "DIFFERS from onnxruntime"
    style = "bold green" if result.ok else "bold red"
    console.print(
        f"{verdict}: {result.model} on the {result.on}, {result.samples} samples, "
        f"{len(result.steps)} steps",
        style=style,
    )
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("step, on the inputs that onnxruntime had", no_wrap=True)
    for title in ("elements", "differ", "at most"):
        table.add_column(title, justify="right")
    for step in result.steps:
        table.add_row(*_difference(step), style=None if step.ok else "red")
    for output in result.model_outputs:
        name, *cells = _difference(output)
        table.add_row(f"whole model: {name}", *cells, style=None if result.ok_end_to_end else "red")
    console.print(table)
    if result.own_steps:
        wrong = [step.name for step in result.own_steps if not step.ok]
        found = f"wrong: {', '.join(wrong)}" if wrong else "all right: a tie has spread"
        text = f"steps of the whole run, on the inputs that the C itself made: {found}"
        console.print(text, markup=False)
    if result.top1_agreement is not None:
        console.print(f"top-1  {result.top1_agreement:.2%} as onnxruntime")
    if result.accuracy is not None:
        ours, theirs = result.accuracy
        console.print(f"right  {ours:.2%}, onnxruntime {theirs:.2%}")
    if result.exit is not None:
        _print_exit_check(result.exit, console)
    if result.divergence is not None:
        _print_divergence(result.divergence, console)


def _print_exit_check(found: ExitCheck, console: Console) -> None:
    """How often the C left early, and whether it should have."""
    verdict = "as it should" if found.ok else f"{found.wrong} wrong"
    right = "" if found.accuracy is None else f"; right with it {found.accuracy:.2%}"
    console.print(
        f"exit   {found.left} of {found.samples} samples left early, {verdict}; "
        f"{found.shared} decided as onnxruntime{right}",
        style=None if found.ok else "red",
    )


def _difference(difference: Difference) -> tuple[str, str, str, str]:
    largest = f"{difference.largest:g}"
    return difference.name, f"{difference.elements:,}", f"{difference.differing:,}", largest


def _print_divergence(found: Divergence, console: Console) -> None:
    places = np.argwhere(found.ours != found.theirs)
    console.print(
        f"first difference: step {found.step}, tensor {found.tensor}, "
        f"{len(places)} of {found.ours.size} elements"
    )
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("at", "ours", "onnxruntime"):
        table.add_column(title, justify="left" if title == "at" else "right")
    for place in map(tuple, places[:EXAMPLES].tolist()):
        table.add_row(
            str(list(place)), *(f"{float(t[place]):.9g}" for t in (found.ours, found.theirs))
        )
    console.print(table)
    with np.printoptions(threshold=200, linewidth=120):
        console.print(f"ours:\n{found.ours}\nonnxruntime:\n{found.theirs}")


def print_targets(console: Console) -> None:
    """One line a target."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("target", "core", "RAM", "flash"):
        table.add_column(title, no_wrap=True)
    table.add_column("description")
    for name in targets.names():
        target = targets.load(name)
        sizes = (_size(target.memory("ram")), _size(target.memory("flash")))
        table.add_row(name, target.core, *sizes, target.description)
    console.print(table)


def print_target(target: Target, console: Console) -> None:
    """All that a descriptor says, its parents' words included."""
    console.print(f"{target.name}: {target.description}")
    for memory in target.memories:
        console.print(f"  {memory.name:<10} {_size(memory)} at {memory.origin:#010x}")
    clock = f"{target.clock_hz / 1e6:g} MHz" if target.clock_hz else "-"
    facts = {
        "core": target.core,
        "extends": target.extends or "-",
        "clock": clock,
        "stack": f"{target.stack} B reserved",
        "FPU": "yes" if target.fpu else "no",
        "kernels": ", ".join(str(folder) for folder in target.kernels),
        "zig": " ".join(target.zig) or "-",
        "gcc": " ".join(target.gcc) or "-",
        "emulator": target.emulator or "-",
        "cycles": target.cycles or "-",
    }
    for key, value in facts.items():
        console.print(f"  {key:<10} {value}", soft_wrap=True)


def _size(memory: Memory | None) -> str:
    if memory is None or memory.size is None:
        return "any"
    mega = memory.size >= 1 << 20
    return f"{memory.size / (1 << 20):g} MB" if mega else f"{memory.size / (1 << 10):g} KB"
