"""The early exit in C: it leaves where onnxruntime's probabilities say so, and only there."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any

import exitnets
import models
import networkx as nx
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import ModelProto
from rich.console import Console
from test_cut_depth import HEAD, images
from test_emit import COMPILERS, WARNINGS, call, exercise, put, sources, tool
from test_execute import Poisoned, live_bytes

from mcugraph import build
from mcugraph.check import check_plan
from mcugraph.cost import cost_of
from mcugraph.decision import Decision, Exit
from mcugraph.emit import emit
from mcugraph.errors import UnsupportedError
from mcugraph.execute import OnHost
from mcugraph.exit_report import ExitReport
from mcugraph.exits import gate_of
from mcugraph.graph import EarlyExit
from mcugraph.judge import Question, Verification, verify
from mcugraph.load import load_model
from mcugraph.measure import Sources, can_measure, measure
from mcugraph.optimize import Settings, optimize, rewrite
from mcugraph.passes import add_exit
from mcugraph.plan import Aim, Plan, make_plan
from mcugraph.read import read_graph
from mcugraph.show import print_report, print_verification
from mcugraph.targets import load as load_target

Array = NDArray[Any]
THRESHOLDS = (0.0, 0.5, 0.9, 1.0)
NEVER = "NET_EXIT_NEVER"


def planned(model: ModelProto, *, pushed: bool = False, target: str = "host") -> Plan:
    graph = read_graph(rewrite(load_model(model)))
    aim = Aim(allow_float=True, pushed=pushed)
    return make_plan(graph, load_target(target), "net", aim)


@cache
def truth() -> tuple[Array, Array, Array]:
    """For all digits: the bytes that the C is given, and onnxruntime's probabilities and logits."""
    pictures, _ = exitnets.images()
    found = exitnets.run_all(exitnets.model().SerializeToString(), pictures)
    probabilities, logits = (np.stack([each[n] for each in found]) for n in ("exit", "logits"))
    return pictures, probabilities, logits


class Compiled:
    """The int8 model's C on the host, given real images."""

    def __init__(self, plan: Plan, folder: Path, exit_at: str | None = None) -> None:
        self.plan, arena = plan, plan.memory.arena
        self.library = OnHost(Sources("net", emit(plan), None, exit_at), arena, folder)

    def __call__(self, image: Array) -> tuple[bool, Array, Array]:
        """Whether it left, the probabilities and the logits."""
        graph = self.plan.graph
        (source,) = graph.inputs
        self.library.write(self.plan.offset(source), self.integers(source, image).tobytes())
        left = self.library.run(None)
        assert left in (0, 1)
        logits, probabilities = (self.real(name) for name in graph.outputs)
        return left == 1, probabilities, logits

    def integers(self, name: str, image: Array) -> Array:
        quant = self.plan.graph.tensors[name].quant
        assert quant is not None
        return np.rint(image / quant.scale + quant.zero_point).astype(np.int8)

    def real(self, name: str) -> Array:
        tensor = self.plan.graph.tensors[name]
        assert tensor.quant is not None
        stored = np.frombuffer(self.library.read(self.plan.offset(name), tensor.bytes), np.int8)
        steps = (stored - tensor.quant.zero_point).astype(np.float32)
        return (steps * tensor.quant.scale).reshape(tensor.shape)


@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_it_leaves_exactly_where_onnxruntime_would(threshold: float, tmp_path: Path) -> None:
    compiled = Compiled(planned(exitnets.at(threshold)), tmp_path)
    decisions = []
    for picture, probabilities, logits in zip(*truth(), strict=True):
        left, ours, others = compiled(picture)
        assert left == bool((probabilities >= np.float32(threshold)).any())
        np.testing.assert_array_equal(ours, probabilities)
        if not left:
            np.testing.assert_array_equal(others, logits)
        decisions.append(left)
    assert (threshold == 0.0) == all(decisions)
    assert (threshold == 1.0) == (not any(decisions))


@pytest.mark.parametrize(("exit_at", "leaves"), [(NEVER, False), ("-128", True), ("101 + 1", None)])
def test_the_threshold_can_be_chosen_when_compiling(
    exit_at: str, leaves: bool | None, tmp_path: Path
) -> None:
    compiled = Compiled(planned(exitnets.model()), tmp_path, exit_at)
    for picture, probabilities, logits in list(zip(*truth(), strict=True))[:200]:
        left, ours, others = compiled(picture)
        should = bool((probabilities >= np.float32(0.9)).any()) if leaves is None else leaves
        assert left == should
        np.testing.assert_array_equal(ours, probabilities)
        assert left or np.array_equal(others, logits)


def test_rows_that_are_pushed_end_in_1_or_2(tmp_path: Path) -> None:
    plan = planned(exitnets.model(), pushed=True)
    put(tmp_path, emit(plan))
    shared = build.build_shared(sources(tmp_path), tmp_path / "net.so")
    library = ctypes.CDLL(str(shared))
    whole = Compiled(planned(exitnets.model()), tmp_path)
    arena = ctypes.create_string_buffer(plan.memory.arena)
    buffers = [ctypes.create_string_buffer(10) for _ in range(2)]
    library.net_start_at(arena)
    for picture in truth()[0][:100]:
        rows = whole.integers(plan.graph.inputs[0], picture).reshape(8, 8)
        results = [library.net_push_row_at(arena, row.tobytes()) for row in rows]
        left, probabilities, _ = whole(picture)
        assert results == [0] * 7 + [2 if left else 1]
        assert library.net_infer_at(arena, rows.tobytes(), *buffers) == left
        assert library.net_infer(rows.tobytes(), *buffers) == left
        found = np.frombuffer(buffers[1].raw, np.int8).astype(int) + 128
        np.testing.assert_allclose(found / 255, probabilities.ravel(), atol=1e-6)


def variants() -> Iterator[tuple[str, ModelProto]]:
    for name, build_model in models.MODELS.items():
        model = build_model()
        for tensor in images(model)[:2]:
            yield f"{name}-{tensor}", add_exit(model, tensor, HEAD)


@pytest.mark.parametrize(("model"), [pytest.param(m, id=name) for name, m in variants()])
def test_nothing_that_the_exit_does_not_need_runs_before_it(model: ModelProto) -> None:
    plan = planned(model)
    check_plan(plan)
    graph, number = plan.graph, plan.leaving
    assert graph.exit is not None
    assert number is not None
    last = graph.producers[graph.exit.tensor].name
    needed = {last, *nx.ancestors(graph.dag, last)}
    early = [step.name for part in plan.sections[: number + 1] for step in part.steps]
    late = [step.name for part in plan.sections[number + 1 :] for step in part.steps]
    assert set(early) <= needed
    assert needed.isdisjoint(late)
    assert len(early) + len(late) == len(plan.steps)
    pushable = len(graph.inputs) == 1 and plan.rows(graph.inputs[0]) > 1
    assert not pushable or planned(model, pushed=True).leaving is not None


def test_a_plan_that_runs_more_before_its_exit_is_refused() -> None:
    plan = planned(exitnets.model())
    logits, _ = plan.graph.outputs
    late = replace(plan.graph, exit=EarlyExit(logits, 0.5))
    with pytest.raises(AssertionError, match=r"exit\.softmax run before the early exit"):
        check_plan(replace(plan, graph=late))


def test_the_exit_is_not_overwritten_and_garbage_does_no_harm(tmp_path: Path) -> None:
    for threshold in (0.0, 1.0):
        plan = planned(exitnets.at(threshold))
        folder = tmp_path / f"{threshold}"
        folder.mkdir()
        poisoned = Poisoned(plan, folder)
        live = None if threshold == 0.0 else live_bytes(plan)
        size = 10 if threshold == 0.0 else 20
        expected = poisoned.run(1)[-size:]
        assert all(poisoned.run(seed, live)[-size:] == expected for seed in (2, 3))


def forms() -> list[Plan]:
    """Whole and pushed, int8 and float, an exit that is always taken."""
    plans = [
        planned(exitnets.model()),
        planned(exitnets.model(), pushed=True),
        planned(exitnets.float_model(0.5), pushed=True),
        planned(exitnets.at(0.0)),
    ]
    return [replace(plan, name=f"net{index}") for index, plan in enumerate(plans)]


@pytest.mark.parametrize("compiler", COMPILERS)
def test_compilers_and_sanitizers_find_nothing(compiler: str, tmp_path: Path) -> None:
    plans = forms()
    for plan in plans:
        put(tmp_path, emit(plan))
    call(tool(compiler), *WARNINGS, "-O2", "-c", *sources(tmp_path), folder=tmp_path)
    (tmp_path / "main.c").write_text(exercise(plans))
    checks = ["-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    call(tool(compiler), *checks, *sources(tmp_path), "-o", "all", folder=tmp_path)
    assert call("./all", folder=tmp_path) == ""


def test_the_header_says_what_comes_back() -> None:
    text = emit(planned(exitnets.model()))["net.h"]
    assert "int net_run_at(void *arena);" in text
    assert '/* The early exit: a run ends where "exit" reaches 0.9. */' in text
    assert "only net_output_exit() holds a result" in text
    assert "#define NET_EXIT_AT 102\n" in text
    pushed = emit(planned(exitnets.model(), pushed=True))["net.h"]
    assert "2 comes back instead of 1" in pushed
    plain = emit(planned(onnx.load(exitnets.FLOAT)))
    assert not any("exit" in body.lower() for body in plain.values())


@pytest.mark.parametrize(
    ("threshold", "scale", "zero", "least"),
    [
        (0.0, 1 / 256, -128, -128),
        (0.5, 1 / 256, -128, 0),
        (0.9, 1 / 256, -128, 103),
        (0.9, 1 / 255, -128, 102),
        (1.0, 1 / 255, -128, 127),
        (0.25, 1 / 64, 0, 16),
        (1.0, 1 / 256, -128, None),
    ],
)
def test_the_threshold_as_int8(threshold: float, scale: float, zero: int, least: int) -> None:
    graph = read_graph(rewrite(load_model(exitnets.at(threshold))))
    assert graph.exit is not None
    tensor = graph.tensors[graph.exit.tensor]
    assert tensor.quant is not None
    quant = replace(tensor.quant, scale=np.array(scale, np.float32), zero_point=np.array(zero))
    gate = gate_of(
        replace(graph, tensors={**graph.tensors, tensor.name: replace(tensor, quant=quant)})
    )
    assert gate is not None
    assert gate.problem == (
        None
        if least is not None
        else "no probability reaches 1; choose a threshold up to 0.996094, the largest that its "
        "int8 values can say"
    )
    if least is not None:
        assert gate.least == least
        assert np.float32(least - zero) * np.float32(scale) >= np.float32(threshold)


@pytest.mark.parametrize("model", [exitnets.model, exitnets.float_model], ids=["int8", "float"])
def test_a_threshold_that_nothing_reaches_is_refused(model: Callable[[], ModelProto]) -> None:
    with pytest.raises(UnsupportedError, match=r"early exit exit: no probability reaches 1\.5;"):
        planned(exitnets.at(1.5, model()))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("soon", "is not like"),
        ("[]", "is not like"),
        ('{"output": "exit"}', "is not like"),
        ('{"output": "exit", "threshold": "high"}', "is not like"),
        ('{"output": "door", "threshold": 0.9}', "nothing computes an output door; there are:"),
    ],
)
def test_metadata_that_says_nothing_useful(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        planned(exitnets.noted(exitnets.model(), text))


def test_only_probabilities_in_int8_or_float32() -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]>'
        "g (float[1, 4] x) => (float[1, 4] y, int64[1] exit)"
        "{ y = Relu(x) exit = ArgMax<axis = 1, keepdims = 0>(x) }"
    )
    model.metadata_props.add(key="mcugraph.exit", value='{"output": "exit", "threshold": 1}')
    with pytest.raises(UnsupportedError, match="its probabilities are int64; int8, float32"):
        planned(model)


@pytest.mark.skipif(not can_measure(load_target("cortex-m0")), reason="no emulator here")
def test_the_emulator_counts_both_ways() -> None:
    plan = planned(exitnets.model(), target="cortex-m0")
    found = measure(plan, emit(plan), "zig")
    assert found.left is not None
    early = sum(step.name in plan.graph.before_exit for step in plan.steps)
    own = sum(cost.instructions for cost in found.steps[:early])
    assert 0 < found.left.instructions - own < 100
    assert found.left.instructions < 0.7 * found.total.instructions
    assert sum(cost.instructions for cost in found.steps) > 0.99 * found.total.instructions
    assert found.left.cycles is not None
    assert found.total.cycles is not None
    assert found.left.cycles < found.total.cycles


def compiled(model: ModelProto, folder: Path, **given: Any) -> tuple[Path, Path, ExitReport]:
    path = folder / "net.onnx"
    onnx.save(model, path)
    artifact = optimize(path, "host", Settings(**given))
    assert artifact.report.exit is not None
    return path, artifact.write(folder / "out"), artifact.report.exit


def digits(folder: Path, count: int = 120) -> Path:
    pictures, labels = exitnets.images()
    np.savez(folder / "digits.npz", input=pictures[:count], label=labels[:count])
    return folder / "digits.npz"


def printed(console: Console) -> str:
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def shown(result: Verification) -> str:
    console = Console(width=120, file=StringIO())
    print_verification(result, console)
    return printed(console)


@pytest.mark.parametrize("rows", ["whole", "rows"])
def test_verify_looks_at_every_step_and_at_every_decision(rows: str, tmp_path: Path) -> None:
    path, out, report = compiled(exitnets.model(), tmp_path, input=rows)
    assert (report.output, report.threshold, report.least) == ("exit", 0.9, 102)
    assert report.macs == 35_232
    result = verify(path, out, Question(data=digits(tmp_path), bisect=True))
    assert result.ok
    assert result.divergence is None
    late = {"node_Conv_117", "node_linear"}
    assert late <= {step.name for step in result.steps}
    expected = int((truth()[1][:120].max((1, 2)) >= np.float32(0.9)).sum())
    assert result.exit is not None
    assert (result.exit.samples, result.exit.left) == (120, expected)
    assert (result.exit.wrong, result.exit.shared) == (0, 120)
    assert result.exit.accuracy is not None
    assert result.exit.accuracy > 0.97
    assert f"exit   {expected} of 120 samples left early, as it should" in shown(result)
    assert result.as_json()["exit"] == {
        "samples": 120,
        "left": expected,
        "shared": 120,
        "wrong": 0,
        "accuracy": result.exit.accuracy,
    }


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("net.h", "#define NET_EXIT_AT 102", "#define NET_EXIT_AT 90"),
        ("net.h", "#define NET_EXIT_AT 102", "#define NET_EXIT_AT 126"),
        ("net.c", "        return 1;", "        a[{exit}] = 0;\n        return 1;"),
    ],
    ids=["too often", "too seldom", "with another result"],
)
def test_verify_sees_a_wrong_exit(file: str, old: str, new: str, tmp_path: Path) -> None:
    path, out, _ = compiled(exitnets.model(), tmp_path)
    plan = planned(exitnets.model())
    text = (out / file).read_text()
    assert old in text
    place = plan.offset(plan.graph.outputs[1])
    (out / file).write_text(text.replace(old, new.replace("{exit}", str(place))))
    result = verify(path, out, Question(data=digits(tmp_path)))
    assert not result.ok
    assert all(step.ok for step in result.steps)
    assert result.exit is not None
    assert result.exit.wrong > 0
    assert f"{result.exit.wrong} wrong" in shown(result)


def test_a_report_with_a_damaged_exit_is_refused(tmp_path: Path) -> None:
    path, out, _ = compiled(exitnets.model(), tmp_path)
    text = (out / "report.json").read_text()
    (out / "report.json").write_text(text.replace('"output": "exit"', '"output": "door"'))
    with pytest.raises(ValueError, match="damaged"):
        verify(path, out)


@pytest.mark.parametrize("name", ["digits_float.onnx", "digits.onnx"])
def test_a_decision_with_an_exit(name: str, tmp_path: Path) -> None:
    decision = Decision(exit=Exit("max_pool2d", exitnets.head(), 0.7))
    model = onnx.load(exitnets.FLOAT.parent / name)
    path, out, report = compiled(
        decision.apply(model, exitnets.fitted()), tmp_path, allow_float=True
    )
    assert report.least == pytest.approx(0.7)
    result = verify(path, out, Question(data=digits(tmp_path)))
    assert result.ok
    assert result.exit is not None
    assert 0 < result.exit.left < 120
    file = tmp_path / "d.json"
    decision.save(file)
    artifact = optimize(
        exitnets.FLOAT.parent / name, "host", Settings(allow_float=True, decision=file)
    )
    assert artifact.report.exit is not None
    assert artifact.report.exit.steps == report.steps


def test_the_exit_has_a_line_in_the_report() -> None:
    report = optimize(exitnets.model(), "host", Settings(name="net")).report
    console = Console(width=120, file=StringIO())
    print_report(report, console)
    line = "exit   early, where exit reaches 0.9: after 8 steps, 35,232 MACs"
    assert line in printed(console).splitlines()
    entry = report.as_json()["exit"]
    assert isinstance(entry, dict)
    assert entry["least"] == 102


def test_costs_and_recomputation_know_the_exit() -> None:
    model = exitnets.float_model()
    plain = onnx.ModelProto()
    plain.CopyFrom(model)
    del plain.metadata_props[:]
    held, free = (cost_of(each, "cortex-m0") for each in (model, plain))
    assert held.macs == free.macs
    assert held.ram >= free.ram > 0
    settings = Settings(name="net", recompute=1.5)
    again = optimize(exitnets.model(), "host", settings).report
    assert again.exit is not None
    assert again.ram.arena <= optimize(exitnets.model(), "host", Settings()).report.ram.arena
