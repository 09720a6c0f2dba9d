"""Streamed plans as C: the bytes of the layer-by-layer plan, in an arena with not a byte to spare.

Every row that any step writes is compared, so that no later step can hide a loss. Both negative
controls: an overlap by one byte more, and rings by one row less, must be seen.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
from models import MODELS
from nets import NETS
from test_execute import Poisoned, events_of

from mcugraph.artifact import Artifact
from mcugraph.budget import Budget
from mcugraph.judge import Question, verify
from mcugraph.load import load_model
from mcugraph.observe import Observer, Subject
from mcugraph.optimize import UNLIMITED, Settings, optimize, rewrite
from mcugraph.plan import Aim, Plan, check_plan, make_plan
from mcugraph.read import read_graph
from mcugraph.report import make_report
from mcugraph.rings import with_rings
from mcugraph.targets import load as load_target

ALL = {**MODELS, **NETS}
Tensors = dict[str, bytes]


@cache
def plan_of(name: str, enough: int = 0) -> Plan:
    graph = read_graph(rewrite(load_model(ALL[name](), {})))
    return make_plan(graph, load_target("host"), "net", Aim(allow_float=True, enough=enough))


def layers(name: str) -> Plan:
    return plan_of(name, UNLIMITED)


def written(plan: Plan, folder: Path, *, spare: int = 0) -> Tensors:
    """All that the steps write, row by row, in a poisoned arena of the planned size.

    A row of a fused step is poisoned, too, where it will be written, before its inputs are read.
    """
    folder.mkdir(exist_ok=True)
    roomy = replace(plan, memory=replace(plan.memory, arena=plan.memory.arena + spare))
    poisoned = Poisoned(roomy, folder)
    subject = Subject.of(make_report(plan, None, Budget.of(plan.target)).as_json())
    observer = Observer(subject, poisoned.executor, {}, forced=False)
    events = iter(events_of(plan))

    def watch(step: int) -> None:
        observer.watch(step)
        event = next(events, None)
        for offset, size in event.writes if event is not None and event.spreads else []:
            poisoned.executor.write(offset, bytes([0x55]) * size)

    poisoned.run(1, watch=watch)
    return {name: bytes(values) for name, values in observer.written.items()}


def same(plan: Plan, one: Tensors, two: Tensors) -> None:
    """All but concatenations that only one plan writes itself."""
    joined = {step.output for step in plan.graph.steps if step.op == "Concat"}
    assert one.keys() ^ two.keys() <= joined
    common = one.keys() & two.keys()
    assert {name: one[name] for name in common} == {name: two[name] for name in common}


@pytest.mark.parametrize("name", ALL)
def test_a_streamed_plan_computes_the_same_bytes(name: str, tmp_path: Path) -> None:
    plan, plain = plan_of(name), layers(name)
    assert plan.memory.arena <= plain.memory.arena
    assert not any(section.events for section in plain.sections)
    same(plan, written(plan, tmp_path / "a"), written(plain, tmp_path / "b"))


def test_most_networks_stream_and_with_gain() -> None:
    gains = {name: layers(name).memory.arena / plan_of(name).memory.arena for name in NETS}
    streamed = [name for name in NETS if any(s.events for s in plan_of(name).sections)]
    assert len(streamed) >= 8
    assert max(gains.values()) > 1.9
    ways = {(bool(s.events), s.upwards) for n in NETS for s in plan_of(n).sections}
    assert ways == {(False, False), (False, True), (True, False), (True, True)}


@pytest.mark.parametrize("name", NETS)
def test_a_streamed_network_agrees_with_onnxruntime(name: str, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(NETS[name](), path)
    artifact = optimize(path, "host", Settings(allow_float=True))
    result = verify(path, artifact.write(tmp_path / "out"), Question(count=2, bisect=True))
    assert result.ok, [step for step in result.steps if not step.ok]


def shallower(plan: Plan) -> Plan:
    """The plan with every ring one row shallower, where it has more than one."""
    rings = {name: max(depth - 1, 1) for name, depth in plan.rings.items()}
    calls = with_rings(plan.layouts, plan.calls, rings, plan.merged)
    return replace(plan, rings=rings, calls=calls)


RINGS = [name for name in NETS if name.endswith("_net")]


@pytest.mark.parametrize("name", RINGS)
def test_rings_one_row_shallower_lose_rows(name: str, tmp_path: Path) -> None:
    plan = plan_of(name)
    if max(plan.rings.values(), default=1) == 1:
        pytest.skip("all of its rings have one row")
    broken = shallower(plan)
    with pytest.raises(AssertionError, match="lost"):
        check_plan(broken)
    good, bad = written(plan, tmp_path / "good"), written(broken, tmp_path / "bad")
    assert good != bad


def on_scratch(plan: Plan, name: str, offset: int) -> bool:
    """Whether a tensor there would meet working memory: kernels keep addresses in it."""
    (mine,) = (b for b in plan.memory.buffers if b.name == name)
    return any(
        plan.memory.offsets[b.name] < offset + mine.size
        and offset < plan.memory.offsets[b.name] + b.size
        for b in plan.memory.buffers
        if b.name not in plan.graph.tensors and b.meets(mine)
    )


def moved(plan: Plan) -> Iterator[tuple[str, Plan]]:
    """The plan with one tensor a byte higher or lower, where that alone loses a byte."""
    for name, place in plan.memory.offsets.items():
        for shift in (-1, 1):
            if name not in plan.graph.tensors or place + shift < 0:
                continue
            if on_scratch(plan, name, place + shift):
                continue
            offsets = {**plan.memory.offsets, name: place + shift}
            broken = replace(plan, memory=replace(plan.memory, offsets=offsets))
            try:
                check_plan(replace(broken, memory=replace(broken.memory, arena=1 << 20)))
            except AssertionError:
                yield name, broken


@pytest.mark.parametrize("name", [name for name in RINGS if not name.startswith("drawn")])
def test_an_overlap_of_one_byte_more_is_seen(name: str, tmp_path: Path) -> None:
    plan = plan_of(name)
    fused = {s.output for section in plan.sections if section.events for s in section.steps}
    cases = [broken for tensor, broken in moved(plan) if tensor in fused]
    if not cases:
        pytest.skip("nothing overlaps in its fused steps")
    good = written(plan, tmp_path / "good")
    # a byte may lie where no window reads it: the replay refuses all, the C shows some
    seen = [
        written(broken, tmp_path / f"bad{number}", spare=8) != good
        for number, broken in enumerate(cases[:5])
    ]
    assert any(seen)


@pytest.mark.parametrize("model", ["ic", "kws"])
def test_streaming_costs_one_instruction_in_a_hundred_at_most(shared: Path, model: str) -> None:
    pytest.importorskip("unicorn", reason="unicorn is not installed")
    pytest.importorskip("ziglang", reason="ziglang is not installed")
    path = shared / "models" / f"{model}_int8_qdq.onnx"
    streamed, plain = (
        compiled(path, objective).report.instructions or 0 for objective in ("ram", "cycles")
    )
    assert 0 < streamed <= 1.01 * plain


@cache
def compiled(path: Path, objective: str) -> Artifact:
    return optimize(path, "cortex-m0", Settings(objective=objective))


@pytest.mark.parametrize("name", ["mobile_net", "inception_net"])
def test_the_tables_of_turns_count_every_row_once(name: str) -> None:
    for section in plan_of(name).sections:
        if section.events:
            rows = [plan_of(name).calls[step.name][0].rows for step in section.steps]
            assert np.bincount(section.turns).tolist() == rows
