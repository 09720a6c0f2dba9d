"""mcugraph verify: a compiled folder against the model that it was compiled from."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from mcugraph.artifact import read_report
from mcugraph.execute import Executor, OnEmulator, OnHost
from mcugraph.exit_check import ExitCheck, Gate, check_exit
from mcugraph.load import load
from mcugraph.measure import Ports, Sources, can_measure, roomy
from mcugraph.observe import Subject
from mcugraph.oracle import Array, Oracle, cut, labels, samples
from mcugraph.targets import load as load_target
from mcugraph.verify import (
    Difference,
    Divergence,
    bisect,
    compare_own_steps,
    compare_steps,
    run_model,
)

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Question:
    """What to compare: samples from a file or random ones, on the host or emulated."""

    data: Path | None = None
    on: str = "host"
    count: int = 10
    dims: Mapping[str, int] = field(default_factory=dict)
    target: str | None = None
    compiler: str = "zig"
    bisect: bool = False


@dataclass(frozen=True)
class Verification:
    """What the comparison showed.

    `own_steps` are those of the whole run, each on what the C itself gave it to read; they are
    asked only where the outputs of the model differ in more elements than promised.
    `exit` says so of the early exit; all else is of the whole network.
    `accuracy` is (ours, onnxruntime's) where labels were given; `fingerprint` is a hash of the
    outputs of the C: equal where two machines computed the same bytes.
    """

    schema_version: int
    model: str
    on: str
    samples: int
    steps: tuple[Difference, ...]
    model_outputs: tuple[Difference, ...]
    own_steps: tuple[Difference, ...]
    top1_agreement: float | None
    accuracy: tuple[float, float] | None
    fingerprint: str
    divergence: Divergence | None
    exit: ExitCheck | None = None

    @property
    def ok(self) -> bool:
        """Whether every step, the early exit and the whole model are as good as promised."""
        leaves = self.exit is None or self.exit.ok
        return all(step.ok for step in self.steps) and leaves and self.ok_end_to_end

    @property
    def ok_end_to_end(self) -> bool:
        """Whether the outputs are near, or else every step of the whole run is right."""
        near = all(output.ok_end_to_end for output in self.model_outputs)
        return near or (bool(self.own_steps) and all(step.ok for step in self.own_steps))

    def as_json(self) -> dict[str, object]:
        """Plain values for json.dumps."""
        record = asdict(replace(self, divergence=None))
        if self.divergence is not None:
            found = self.divergence
            record["divergence"] = {
                "step": found.step,
                "tensor": found.tensor,
                "ours": found.ours.tolist(),
                "onnxruntime": found.theirs.tolist(),
            }
        return {"ok": self.ok, **record}


def verify(model: str | Path, folder: str | Path, question: Question | None = None) -> Verification:
    """Compare the C in `folder` with onnxruntime on `model`, step by step and as a whole.

    Raises LoadError (the model) or ValueError (folder, data, compiler).
    """
    question = question or Question()
    report, files = read_folder(Path(folder))
    original = load(model, question.dims)
    optimized = _optimized(Path(folder), report)
    subject = _subject(report, optimized, Path(folder))
    oracle = Oracle(optimized, subject.tensors)
    judge = Oracle(original)
    if judge.inputs != oracle.inputs or judge.outputs != oracle.outputs:
        raise ValueError(f"{folder} was compiled from another model than {model}")
    feeds = samples(judge, question.data, question.count)
    truths = [{**feed, **oracle.run(feed)} for feed in feeds]
    theirs = [judge.run(feed) for feed in feeds]
    with tempfile.TemporaryDirectory() as scratch:
        executor = _executor(report, files, question, Path(scratch, "whole"), leaves=False)
        steps = compare_steps(subject, executor, truths)
        ours = [run_model(subject, executor, truth) for truth in truths]
        found = bisect(subject, executor, truths) if question.bisect else None
        pairs = list(zip(ours, theirs, strict=True))
        result = _verification(report, question, steps, pairs, found)
        with _intact(Path(folder)):
            gate = Gate.of(report)
        if gate is not None:
            leaving = _executor(report, files, question, Path(scratch, "exit"))
            runs = list(zip(truths, ours, theirs, strict=True))
            checked = check_exit(subject, leaving, gate, runs, labels(question.data))
            result = replace(result, exit=checked)
        if result.ok_end_to_end or not _same_model(truths, theirs):
            return result
        made = [name for step in subject.steps for name in step.outputs]
        pieces = Oracle(cut(optimized, made), made)
        own = compare_own_steps(subject, executor, pieces, truths)
    return replace(result, own_steps=tuple(own))


def _same_model(
    truths: Iterable[Mapping[str, Array]], theirs: Iterable[Mapping[str, Array]]
) -> bool:
    """Whether onnxruntime says that the model in the folder computes what the user's model does."""
    found = Difference("rewritten", True)
    for truth, their in zip(truths, theirs, strict=True):
        for name, values in their.items():
            found.add(truth[name], values)
    return found.ok_end_to_end


@contextmanager
def _intact(folder: Path) -> Iterator[None]:
    """Within this context, what a report lacks or has of another type is its damage."""
    try:
        yield
    except (AssertionError, AttributeError, KeyError, TypeError) as error:
        raise ValueError(
            f"the report in {folder} is damaged; run mcugraph optimize again"
        ) from error


def _subject(report: Mapping[str, Any], model: onnx.ModelProto, folder: Path) -> Subject:
    """The report as steps and places, all of which lie in the arena and in the model."""
    known = {value.name for value in model.graph.input}
    known.update(name for node in model.graph.node for name in node.output)
    with _intact(folder):
        subject = Subject.of(report)
        assert known.issuperset(subject.tensors), "a tensor that the model lacks"
        assert subject.places.keys() >= {*subject.inputs, *subject.outputs}, "a port without place"
        shown = {value.name for value in model.graph.output}
        assert {*subject.outputs.values()} == shown, "outputs that are not the model's"
        assert (
            max((place.end for place in subject.places.values()), default=0)
            <= report["ram"]["arena"]
        ), "a place outside of the arena"
    return subject


def read_folder(folder: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """The report of a compiled folder, and the C files that it names."""
    report: dict[str, Any] = read_report(folder)
    with _intact(folder):
        names = [name for name in report["files"] if name.endswith((".c", ".h"))]
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise ValueError(f"{folder} lacks {', '.join(missing)}; run mcugraph optimize again")
    return report, {name: (folder / name).read_text(encoding="utf-8") for name in names}


def _optimized(folder: Path, report: Mapping[str, Any]) -> onnx.ModelProto:
    with _intact(folder):
        path = folder / f"{report['model']}.optimized.onnx"
    if not path.is_file():
        raise ValueError(f"{folder} lacks {path.name}; run mcugraph optimize again")
    return load(path)


def _executor(
    report: Mapping[str, Any],
    files: Mapping[str, str],
    question: Question,
    scratch: Path,
    *,
    leaves: bool = True,
) -> Executor:
    """The compiled C; without its early exit unless it `leaves`."""
    scratch.mkdir()
    arena, name = report["ram"]["arena"], report["model"]
    never = None if leaves or not report.get("exit") else f"{name.upper()}_EXIT_NEVER"
    sources = Sources(name, files, _ports(report), never)
    if question.on == "host":
        return OnHost(sources, arena, scratch)
    if question.on != "emulator":
        raise ValueError(f"--on {question.on}: there are host and emulator")
    target = load_target(question.target or report["target"])
    if not can_measure(target):
        raise ValueError(
            f"{target.name} cannot be emulated here; pip install 'mcugraph[emulate]', "
            f"and compile for a target with an emulator"
        )
    flash = report["flash"]["weights"] + report["flash"]["tables"]
    machine = roomy(target, arena, flash)
    return OnEmulator(sources, machine, scratch, question.compiler)


def _ports(report: Mapping[str, Any]) -> Ports | None:
    if not report["pushed"]:
        return None
    sizes = {name: tensor["bytes"] for name, tensor in report["tensors"].items()}
    (source,) = report["inputs"]
    return Ports(sizes[source], tuple(sizes[name] for name in report["outputs"]))


def _verification(
    report: Mapping[str, Any],
    question: Question,
    steps: list[Difference],
    pairs: list[tuple[dict[str, Array], dict[str, Array]]],
    found: Divergence | None,
) -> Verification:
    outputs = {
        name: Difference(name, values.dtype.kind != "f") for name, values in pairs[0][0].items()
    }
    for ours, theirs in pairs:
        for name, difference in outputs.items():
            difference.add(ours[name], _quantised(report, name, theirs[name], ours[name].dtype))
    agreement, accuracy = _top1(pairs, labels(question.data))
    return Verification(
        SCHEMA_VERSION,
        report["model"],
        question.on,
        len(pairs),
        tuple(steps),
        tuple(outputs.values()),
        (),
        agreement,
        accuracy,
        _fingerprint(ours for ours, _ in pairs),
        found,
    )


def _fingerprint(results: Iterable[Mapping[str, Array]]) -> str:
    digest = hashlib.sha256()
    for result in results:
        for values in result.values():
            digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


def _quantised(
    report: Mapping[str, Any], name: str, values: Array, dtype: np.dtype[np.generic]
) -> Array:
    """A float output of onnxruntime as the integers that it was dequantised from."""
    if values.dtype == dtype:
        return values
    tensor = next(t for t in report["tensors"].values() if t["onnx"] == name)
    integers: Array = np.rint(values / tensor["scale"] + tensor["zero_point"]).astype(dtype)
    return integers


def _top1(
    pairs: list[tuple[dict[str, Array], dict[str, Array]]], truth: Array | None
) -> tuple[float | None, tuple[float, float] | None]:
    """Share of samples with the same class, and both accuracies where labels were given."""
    first = next(iter(pairs[0][0]))
    if pairs[0][0][first].size < 2:
        return None, None
    ours = np.array([mine[first].argmax() for mine, _ in pairs])
    theirs = np.array([other[first].argmax() for _, other in pairs])
    agreement = float((ours == theirs).mean())
    if truth is None or len(truth) < len(pairs):
        return agreement, None
    right = truth[: len(pairs)].ravel()
    return agreement, (float((ours == right).mean()), float((theirs == right).mean()))
