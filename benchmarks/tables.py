"""The tables of README.md and docs/: from results, docstrings of passes, targets and kernels.

python benchmarks/tables.py        write all of them again; nothing is measured
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import budget_table
import depth_table
import memory_tables
import points_table
import pruning_table
from peers import PEERS, PUBLISHED, TFLM_ARENA

from mcugraph import passes, targets
from mcugraph.lower import LOWERINGS

README = Path(__file__).parents[1] / "README.md"
PASSES_PAGE = README.parent / "docs" / "passes.md"
MEASURED_PAGE = README.parent / "docs" / "measured.md"
CONFORMANCE = README.parent / "tests" / "golden" / "test_conformance" / "test_passed.txt"
RESULTS = Path(__file__).parent / "results" / "mlperf.json"
FIRST_COMMAND = "mcugraph optimize examples/digits.onnx --target cortex-m0"
# The form that the peers' figures are compared with.
FORM = "int8_qdq"
OURS = "**mcugraph**"
# The keys of results/arena.json, in the order in which each technique adds to the one before.
MEMORY = ("whole", "overlap", "stream", "pushed")
BLOCK = re.compile(r"(<!-- table: ([\w-]+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)

Results = dict[str, Any]


def results() -> Results:
    """The committed figures."""
    found: Results = json.loads(RESULTS.read_text(encoding="utf-8"))
    return found


def pages() -> tuple[Path, ...]:
    """The files that have tables."""
    return README, PASSES_PAGE, MEASURED_PAGE


def write() -> None:
    """Write every page with its tables afresh."""
    for page in pages():
        text = page.read_text(encoding="utf-8")
        fresh = filled(text, results(), page.stem)
        if fresh != text:
            page.write_text(fresh, encoding="utf-8")


def filled(text: str, figures: Results, page: str = README.stem) -> str:
    """A page with every table written afresh."""
    _expect_known(text, page)
    return BLOCK.sub(lambda block: f"{block[1]}{TABLES[block[2]](figures)}\n{block[4]}", text)


def stale(text: str, figures: Results, page: str = README.stem) -> list[str]:
    """The names of a page's tables that are not what the figures say."""
    _expect_known(text, page)
    found = {name: block for _, name, block, _ in BLOCK.findall(text)}
    return [name for name, block in found.items() if block != TABLES[name](figures) + "\n"]


def shown(text: str) -> list[str]:
    """The names of a page's tables."""
    return [name for _, name, _, _ in BLOCK.findall(text)]


def _expect_known(text: str, page: str) -> None:
    names = shown(text)
    if len(set(names)) < len(names) or not TABLES.keys() >= set(names):
        raise ValueError(
            f"{page} has the tables {sorted(names)}; there are {sorted(TABLES)}, each once a page"
        )


def _first_command(figures: Results) -> str:
    return f"```text\n$ {FIRST_COMMAND}\n{figures['first_command']}\n```"


def _passes(figures: Results) -> str:
    unique = dict.fromkeys(passes.CLEANUP)
    rows = [(f"`{_name(apply)}`", f"`{_equation(apply)}`") for apply in unique]
    return _table(("pass", "equation"), rows, left=2)


def _decisions(figures: Results) -> str:
    """The passes that are told what to do: all that have an equation and are not run by default."""
    given = [getattr(passes, name) for name in passes.__all__]
    told = [each for each in given if inspect.isfunction(each) and "->" in _equation(each)]
    asked = [each for each in told if each not in passes.CLEANUP]
    rows = [(f"`{_name(each)}({_parameters(each)})`", f"`{_equation(each)}`") for each in asked]
    return _table(("pass", "equation"), rows, left=2)


def _name(apply: Callable[..., object]) -> str:
    return str(apply.__name__)


def _parameters(apply: Callable[..., object]) -> str:
    return ", ".join(inspect.signature(apply).parameters)


def _equation(apply: Callable[..., object]) -> str:
    return (apply.__doc__ or " ").splitlines()[0].removesuffix(".")


def _targets(figures: Results) -> str:
    rows = []
    for name in targets.names():
        each = targets.load(name)
        emulated = "yes" if each.emulator else "-"
        modelled = "-" if each.cycles in (None, "none") else "yes"
        sizes = [_size(each.memory(region)) for region in ("ram", "flash")]
        rows.append((f"`{name}`", each.description, *sizes, emulated, modelled))
    header = ("target", "what it is", "RAM", "flash", "instructions", "cycles")
    return _table(header, rows, left=2)


def _size(memory: targets.Memory | None) -> str:
    return "any" if memory is None or memory.size is None else f"{memory.size >> 10:,} KB"


def _operators(figures: Results) -> str:
    return f"{len(LOWERINGS)}: {', '.join(sorted(LOWERINGS))}."


def _conformance(figures: Results) -> str:
    passed, refused = CONFORMANCE.read_text(encoding="utf-8").split()[-2:]
    return (
        f"Of onnx's own float32 node tests of these operators, compiled to C, {passed} pass; the "
        f"other {refused} are refused with a reason, listed in `tests/golden/test_conformance`."
    )


def _peers(figures: Results) -> str:
    rows: list[Sequence[str]] = []
    for model, peers in PEERS.items():
        rows.append((model, OURS, *_our_cost(figures["files"][f"{model}_{FORM}"])))
        for peer in peers:
            m0 = [_number(value) for value in peer.m0] if peer.m0 else ["-", "-"]
            m4 = [_number(value) for value in peer.m4]
            rows.append((model, peer.tool, f"{peer.ram:,}", peer.flash, *m0, *m4))
    header = ("model", "tool", "RAM B", "flash B", "M0 instr.", "M0 cycles", "M4 instr.")
    return _table((*header, "M4 cycles"), rows, left=2)


def _our_cost(file: Results) -> list[str]:
    m0, m4 = (file["targets"][name] for name in ("cortex-m0", "cortex-m4"))
    flash = m0["weights"] + m0["tables"] + m0["code"]
    counts = [m0["instructions"], m0["cycles"], m4["instructions"], m4["cycles"]]
    return [f"{m0['arena'] + m0['stack']:,}", f"{flash:,}", *map(_millions, counts)]


def _published(figures: Results) -> str:
    ours = [("cortex-m0", "mcugraph, M0, modelled"), ("cortex-m4", "mcugraph, M4, modelled")]
    files = [figures["files"][f"{model}_{FORM}"]["targets"] for model in PEERS]
    lines = [(title, [file[core]["cycles"] / 1e6 for file in files]) for core, title in ours]
    for each in PUBLISHED:
        cycles = [each.milliseconds[model] * each.mhz / 1000 for model in PEERS]
        lines.append((f"{each.tool}, {each.core}", cycles))
    return "\n".join(f"- {title}: {' / '.join(map(_number, cycles))}" for title, cycles in lines)


def _models(figures: Results) -> str:
    names = dict.fromkeys(file["model"] for file in figures["files"].values())
    files = figures["files"].values()
    rows = [_model(name, [file for file in files if file["model"] == name]) for name in names]
    header = ("model", "files", "arena B", "at least", "stack B", "code B", "compile s")
    compared = ("samples", "elements", "differ", "at most", "top-1", "right: C / ort")
    return _table((*header, *compared), rows)


def _model(name: str, files: Sequence[Results]) -> Sequence[str]:
    """One row: the most that any of the files costs, the sums of what was compared."""
    m0 = [file["targets"]["cortex-m0"] for file in files]
    most = [max(each[key] for each in m0) for key in ("arena", "lower_bound", "stack", "code")]
    seconds = max(each["seconds"] for file in files for each in file["targets"].values())
    found = [file["agreement"] for file in files]
    sums = [sum(each[key] for each in found) for key in ("samples", "elements", "differing")]
    largest = max(each["largest"] for each in found)
    costs = [str(len(files)), *(f"{size:,}" for size in most), f"{seconds:.1f}"]
    top1 = [each["top1"] for each in found if each["top1"] is not None]
    same = f"{min(top1):.1%}" if top1 else "-"
    right = _accuracy(found[0]["accuracy"])
    return [name, *costs, *(f"{total:,}" for total in sums), f"{largest:g}", same, right]


def _accuracy(pair: Sequence[float] | None) -> str:
    return "-" if pair is None else f"{pair[0]:.1%} / {pair[1]:.1%}"


def _summary(figures: Results) -> str:
    found = [file["agreement"] for file in figures["files"].values()]
    elements, differing = (sum(each[key] for each in found) for key in ("elements", "differing"))
    largest = max(each["largest"] for each in found)
    outputs, wrong = (sum(each[key] for each in found) for key in ("outputs", "outputs_differing"))
    top1 = [each["top1"] * each["samples"] for each in found if each["top1"] is not None]
    asked = sum(each["samples"] for each in found if each["top1"] is not None)
    return (
        f"In {len(found)} files, {differing:,} of {elements:,} elements of single steps differ "
        f"from onnxruntime, by {largest:g} at most; {wrong:,} of {outputs:,} elements of whole "
        f"models' outputs differ; the class is the same for {round(sum(top1)):,} of {asked:,} "
        f"samples."
    )


def _millions(count: int) -> str:
    return _number(count / 1e6)


def _number(value: float) -> str:
    """Four digits, which is what the peers' figures have."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    rule = ["---"] * left + ["--:"] * (len(header) - left)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, rule, *rows))


def _memory(figures: Results) -> str:
    """Arenas by technique, beside the arena of TFLite Micro."""
    arenas = json.loads((RESULTS.parent / "arena.json").read_text(encoding="utf-8"))
    heads = ("model", "TFLite Micro", "whole tensors", "+ overlap", "+ row by row", "+ pushed rows")
    rows = [
        (name, f"{TFLM_ARENA[name]:,}", *(_bytes(each, key) for key in MEMORY))
        for name, each in arenas.items()
    ]
    return _table(heads, rows, left=1)


def _bytes(found: Results, key: str) -> str:
    if key not in found:
        return "-"
    bound = found.get(f"{key}_bound")
    return f"{found[key]:,}" + (f" (at least {bound:,})" if bound else "")


TABLES: dict[str, Callable[[Results], str]] = {
    "first-command": _first_command,
    "passes": _passes,
    "decisions": _decisions,
    "targets": _targets,
    "operators": _operators,
    "conformance": _conformance,
    "peers": _peers,
    "published": _published,
    "summary": _summary,
    "models": _models,
    "memory": _memory,
    "networks": lambda _: memory_tables.networks(),
    "placement": lambda _: memory_tables.instances(),
    "pruning": lambda _: pruning_table.matrix(pruning_table.results()),
    "pruned-memory": lambda _: pruning_table.memory(pruning_table.results()),
    "prune-budget": lambda _: budget_table.table(),
    "prune-overhead": lambda _: budget_table.overhead_table(),
    "prune-points": lambda _: points_table.table(),
    "prune-ram": lambda _: points_table.ram_table(),
    "prune-depth": lambda _: depth_table.table(),
    "prune-exit": lambda _: depth_table.exits(),
}


if __name__ == "__main__":
    write()
