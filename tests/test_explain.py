"""mcugraph explain: its sums, its figures against plans and by hand, and its text."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import onnx
import pytest
from models import MODELS, Net

from mcugraph.cli import run
from mcugraph.explain import Explanation, explain
from mcugraph.layout import layouts_of
from mcugraph.load import load, load_model
from mcugraph.lower.model import lower_model
from mcugraph.optimize import Settings, rewrite
from mcugraph.plan import Aim, Plan, make_plan
from mcugraph.read import read_graph
from mcugraph.targets import load as load_target
from mcugraph.testing import Golden

DIGITS = Path(__file__).parents[1] / "examples" / "digits.onnx"
NAMES = ["digits", *MODELS]


@cache
def model_of(name: str) -> onnx.ModelProto:
    return load(DIGITS) if name == "digits" else load_model(MODELS[name](), {})


@cache
def told(name: str, source: str = "whole") -> Explanation:
    settings = Settings("net", allow_float=True, input=source)
    return explain(model_of(name), "cortex-m0", settings)


def planned(name: str, **aim: bool) -> Plan:
    graph = read_graph(rewrite(model_of(name)))
    return make_plan(graph, load_target("cortex-m0"), "net", Aim(allow_float=True, **aim))


def pushes(name: str) -> bool:
    return any(each.name == "pushed input" for each in told(name).techniques)


def sources(name: str) -> list[str]:
    return ["whole", "rows"] if pushes(name) else ["whole"]


@pytest.mark.parametrize("name", NAMES)
def test_the_parts_of_the_peak_sum_up_to_the_peak_of_the_plan(name: str) -> None:
    for source in sources(name):
        found, plan = told(name, source), planned(name, pushed=source == "rows")
        peak = found.peak
        state = sum(part.bytes for part in peak.buffers if part.kind == "progress")
        assert (state > 0) == (source == "rows")
        assert sum(part.live for part in peak.buffers) == peak.bytes + peak.overlap
        highest = max(plan.sections, key=lambda section: section.peak)
        assert peak.steps == tuple(step.name for step in highest.steps)
        assert highest.peak <= peak.bytes - state <= found.arena - state
        if not highest.upwards:
            assert peak.bytes - state == highest.peak


@pytest.mark.parametrize("name", NAMES)
def test_a_part_is_what_the_plan_holds(name: str) -> None:
    for source in sources(name):
        plan = planned(name, pushed=source == "rows")
        sizes = sorted(buffer.size for buffer in plan.memory.buffers)
        for part in told(name, source).peak.buffers:
            assert 0 <= part.live <= part.bytes
            assert part.kind == "progress" or part.bytes in sizes
            assert part.rows is None or part.rows * (part.row_bytes or 0) == part.bytes
            assert (part.shape is None) == (part.kind in {"scratch", "sums", "progress"})


@pytest.mark.parametrize("name", NAMES)
def test_figures_are_those_of_plans(name: str) -> None:
    found = told(name)
    figures = {each.name: (each.arena, each.lower_bound) for each in found.techniques}
    whole = planned(name).memory
    assert figures["streaming"] == (whole.arena, whole.lower_bound)
    assert (found.arena, found.lower_bound) == figures["streaming"]
    if pushes(name):
        pushed = planned(name, pushed=True).memory
        assert figures["pushed input"] == (pushed.arena, pushed.lower_bound)
        assert told(name, "rows").techniques == found.techniques
        assert told(name, "rows").arena == pushed.arena
    assert all(arena >= bound for arena, bound in figures.values())
    bounds = [figures[each][1] for each in ("file order", "best order", "overlap", "streaming")]
    assert bounds == sorted(bounds, reverse=True)


@pytest.mark.parametrize("name", NAMES)
def test_file_order_needs_what_is_alive_at_its_fullest_step(name: str) -> None:
    graph = read_graph(rewrite(model_of(name)))
    layouts = layouts_of(graph)
    calls = lower_model(graph, layouts, allow_float=True)
    steps = [step for step in graph.steps if calls[step.name]]
    uses = [
        {layouts.root(n) for n in (*graph.activations(step), *step.outputs) if n} for step in steps
    ]
    inputs, outputs = ({layouts.root(n) for n in names} for names in (graph.inputs, graph.outputs))
    fullest = 0
    for at, step in enumerate(steps):
        before, after = (set().union(*part) for part in (uses[:at], uses[at + 1 :]))
        alive = uses[at] | ((before | inputs) & (after | outputs))
        alive |= {name for name in inputs if at == 0}
        loose = max((c.scratch for c in calls[step.name] if not c.gathers), default=0)
        sums = sum(c.scratch for c in calls[step.name] if c.gathers)
        size = sum(graph.tensors[name].bytes for name in alive)
        fullest = max(fullest, size + loose + sums)
    assert told(name).techniques[0].lower_bound == fullest


def test_some_peaks_are_fused_and_some_are_one_step() -> None:
    fused = [name for name in NAMES if told(name).peak.moment is not None]
    alone = [name for name in NAMES if told(name).peak.overlap]
    assert (len(fused) > 5, len(alone) > 5) == (True, True)


def one_relu() -> onnx.ModelProto:
    net = Net(18)
    return net.model(net("Relu", net.input("x", 1, 4, 8, 8)))


def test_one_step_in_place_by_hand() -> None:
    found = explain(one_relu(), "host", Settings("net", allow_float=True))
    assert [each.arena for each in found.techniques[:4]] == [2048, 2048, 1024, 1024]
    assert (found.peak.bytes, found.peak.overlap, found.peak.moment) == (1024, 1024, None)
    assert [(part.kind, part.live) for part in found.peak.buffers] == [
        ("input", 1024),
        ("output", 1024),
    ]


def two_pools() -> onnx.ModelProto:
    """Rows of 32 bytes: 16 come in; each pool halves rows and columns."""
    net = Net(18)
    first = net("MaxPool", net.input("x", 1, 1, 16, 8), kernel_shape=[2, 2], strides=[2, 2])
    return net.model(net("MaxPool", first, kernel_shape=[2, 2], strides=[2, 2]))


def test_a_pushed_input_by_hand() -> None:
    found = explain(two_pools(), "host", Settings("net", allow_float=True, input="rows"))
    x, first, y, run = (2 * 32, 2 * 16, 4 * 8, 4 * (1 + 3))
    parts = sorted((part.kind, part.rows, part.live) for part in found.peak.buffers[:3])
    # When the first pool writes its last row but one, three rows of the output are there.
    assert parts == [("output", 4, 3 * 8), ("ring", 2, first), ("ring", 2, x)]
    assert found.peak.buffers[3].live == run
    assert found.peak.moment is not None
    assert (found.peak.moment.row, found.peak.moment.rows) == (7, 8)
    assert (found.lower_bound, found.arena) == (x + first + y, x + first + y + run)


def test_rows_are_proposed_where_they_help() -> None:
    names = [name for name in NAMES if pushes(name)]
    assert names
    for name in names:
        proposals = [hint.arena for hint in told(name).next if hint.what.startswith("--input rows")]
        pushed = told(name, "rows").arena
        assert proposals == ([pushed] if pushed < told(name).arena else [])


def test_an_input_of_one_row_cannot_be_pushed() -> None:
    net = Net(18)
    model = net.model(net.gemm("g", net.input("x", 1, 6), 3, 6))
    settings = Settings("net", allow_float=True)
    assert [t.name for t in explain(model, "host", settings).techniques][-1] == "streaming"
    with pytest.raises(ValueError, match="--input rows: x is one row of 24 bytes"):
        explain(model, "host", Settings("net", allow_float=True, input="rows"))


# The command


def test_the_text_of_the_example(golden: Golden, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explain", str(DIGITS), "--target", "cortex-m0"]) == 0
    golden("\n".join(line.rstrip() for line in capsys.readouterr().out.splitlines()) + "\n")


@pytest.mark.parametrize("name", ["residual_qoperator", "qoperator_microsoft", "split_branches"])
def test_no_line_is_longer_than_80(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    onnx.save(MODELS[name](), tmp_path / "net.onnx")
    for source in ("whole", "rows"):
        command = ["explain", str(tmp_path / "net.onnx"), "-t", "host", "--allow-float"]
        assert run([*command, "--input", source]) == 0
        assert max(map(len, capsys.readouterr().out.splitlines())) <= 80


def test_json_says_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explain", str(DIGITS), "-t", "cortex-m0", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads(json.dumps(explain(DIGITS, "cortex-m0").as_json()))
    assert (printed["schema_version"], printed["model"]) == (1, "digits")
    assert {"section", "steps", "moment", "bytes", "buffers"} <= printed["peak"].keys()
    assert {"name", "kind", "bytes", "rows", "row_bytes", "shape"} <= printed["peak"]["buffers"][
        0
    ].keys()


def test_exit_codes_are_those_of_the_other_commands(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = ["explain", str(DIGITS), "-t", "cortex-m0"]
    onnx.save(one_relu(), tmp_path / "float.onnx")
    codes = [
        run([*base, "--budget", "ram=1KB"]),
        run([*base, "--input", "columns"]),
        run(["explain", str(tmp_path / "none.onnx"), "-t", "host"]),
        run(["explain", str(tmp_path / "float.onnx"), "-t", "host"]),
    ]
    assert codes == [4, 1, 2, 3]
    assert capsys.readouterr().out.startswith("DOES NOT FIT cortex-m0")
