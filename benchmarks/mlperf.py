"""Measure what the README says: compile, emulate, compare with onnxruntime.

    python benchmarks/mlperf.py                   measure all; write results/mlperf.json and README
    python benchmarks/mlperf.py --models ic kws   measure some, keep the other figures
    python benchmarks/mlperf.py --tables          measure nothing, write the README again
    python benchmarks/mlperf.py --check           write nothing: is README what the results say?

The MLPerf Tiny models lie beside the repository, in shared/models. All figures but the seconds
are the same on every run with the same versions.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import tables
from onnx import numpy_helper

from mcugraph.judge import Question, Verification, verify
from mcugraph.optimize import optimize
from mcugraph.report import Report

ROOT = Path(__file__).parents[1]
MODELS = ROOT.parent / "shared" / "models"
EXAMPLES = ROOT / "examples"
TARGETS = ("cortex-m0", "cortex-m4", "host")
FORMS = ("int8_qdq", "int8_qdq_nhwc", "int8_qdq_fio", "ort_qdq")
NAMES = ("digits", "ic", "kws", "vww", "ad")
VERSIONED = ("numpy", "onnx", "onnxruntime", "unicorn", "ziglang")
SCHEMA_VERSION = 1
# Its output is a picture of its input: there is no class to agree on.
NO_CLASSES = "ad"


def main(arguments: list[str]) -> int:
    """Measure and write, or check; returns the exit code."""
    wish = _parser().parse_args(arguments)
    if wish.check:
        return check()
    if not wish.tables:
        try:
            results = measured(wish.models)
        except FileNotFoundError as error:
            print(f"mlperf: {error}", file=sys.stderr)
            return 1
        tables.RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    tables.write()
    return 0


def check() -> int:
    """Compare the pages with the results; returns 1 and says which tables differ."""
    stale = [
        f"{page.stem}: table {name} is stale: python benchmarks/mlperf.py --tables"
        for page in tables.pages()
        for name in tables.stale(page.read_text(encoding="utf-8"), tables.results(), page.stem)
    ]
    for problem in stale:
        print(problem, file=sys.stderr)
    return 1 if stale else 0


def measured(names: Iterable[str]) -> dict[str, Any]:
    """The results, those of the named models measured afresh."""
    paths = {name: files(name) for name in names}
    warm_up()
    results: dict[str, Any] = {"schema_version": SCHEMA_VERSION, "files": {}}
    if tables.RESULTS.exists():
        results.update(tables.results())
    for name, own in paths.items():
        fresh = {path.stem: measure(path, name) for path in own}
        kept = {k: v for k, v in results["files"].items() if v["model"] != name}
        results["files"] = {**kept, **fresh}
        results["versions"] = {each: importlib.metadata.version(each) for each in VERSIONED}
        if name == "digits":
            results["first_command"] = first_command()
    rank = {name: place for place, name in enumerate(NAMES)}
    ordered = sorted(results["files"].items(), key=lambda item: rank[item[1]["model"]])
    results["files"] = dict(ordered)
    return results


def warm_up() -> None:
    """Let zig link for each core once: its first time takes seconds, which are not the model's."""
    for target in TARGETS:
        optimize(EXAMPLES / "digits.onnx", target)


def files(name: str) -> list[Path]:
    """The model's ONNX files; FileNotFoundError where one is missing."""
    if name == "digits":
        return [EXAMPLES / "digits.onnx"]
    # The autoencoder's input is flat: it has no channels to come last.
    forms = [form for form in FORMS if (name, form) != ("ad", "int8_qdq_nhwc")]
    paths = [MODELS / f"{name}_{form}.onnx" for form in forms]
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        raise FileNotFoundError(
            f"{', '.join(missing)} not found; the MLPerf Tiny models lie beside the repository, "
            "in shared/models; --models digits needs none of them"
        )
    return paths


def measure(path: Path, name: str) -> dict[str, Any]:
    """The figures of one file: its cost on each target, its agreement with onnxruntime."""
    print(f"{path.stem} ...", file=sys.stderr)
    costs = {}
    with tempfile.TemporaryDirectory() as scratch:
        for target in TARGETS:
            start = time.perf_counter()
            artifact = optimize(path, target)
            seconds = round(time.perf_counter() - start, 1)
            costs[target] = {"seconds": seconds, **cost(artifact.report)}
        folder = artifact.write(Path(scratch) / "c")
        data = EXAMPLES / "digits.npz" if name == "digits" else vectors(path, name, Path(scratch))
        found = agreement(verify(path, folder, Question(data)), name != NO_CLASSES)
    return {"model": name, "targets": costs, "agreement": found}


def cost(report: Report) -> dict[str, Any]:
    """Bytes, instructions and modelled cycles; None where the target has no emulator."""
    return {
        "arena": report.ram.arena,
        "lower_bound": report.ram.arena_lower_bound,
        "stack": report.ram.stack if report.ram.stack_measured else None,
        "weights": report.flash.weights,
        "tables": report.flash.tables,
        "code": report.flash.code,
        "macs": report.macs,
        "int8": report.int8,
        "instructions": report.instructions,
        "cycles": report.cycles,
    }


def agreement(found: Verification, classes: bool) -> dict[str, Any]:
    """Elements compared and differing: of all steps on onnxruntime's inputs, of the outputs."""
    return {
        "ok": found.ok,
        "samples": found.samples,
        "elements": sum(step.elements for step in found.steps),
        "differing": sum(step.differing for step in found.steps),
        "largest": max(step.largest for step in found.steps),
        "outputs": sum(output.elements for output in found.model_outputs),
        "outputs_differing": sum(output.differing for output in found.model_outputs),
        "outputs_largest": max(output.largest for output in found.model_outputs),
        "top1": found.top1_agreement if classes else None,
        "accuracy": found.accuracy,
    }


def vectors(path: Path, name: str, folder: Path) -> Path:
    """The inputs of a model, with labels for the keywords, as this file takes them."""
    source = "kws01_test1000" if name == "kws" else f"{name}_vectors"
    with np.load(MODELS / f"{source}.npz") as archive:
        x = archive["x_int8_nhwc"]
        truth = {"label": archive["label"]} if "label" in archive.files else {}
    if x.ndim == 4 and not path.stem.endswith("_nhwc"):
        x = x.transpose(0, 3, 1, 2)
    if onnx.load(path).graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT:
        scale, zero = quantisation(MODELS / f"{name}_int8_qdq_fio.onnx")
        x = ((x.astype(np.float32) - zero) * scale).astype(np.float32)
    data = folder / "inputs.npz"
    np.savez(data, input=x, **truth)
    return data


def quantisation(path: Path) -> tuple[float, int]:
    """Scale and zero point that the first quantiser of a model has: the inputs were made so."""
    graph = onnx.load(path).graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    first = next(node for node in graph.node if node.op_type == "QuantizeLinear")
    scale, zero = (constants[name].item() for name in first.input[1:3])
    return scale, zero


def first_command() -> str:
    """What the README's first command prints, run as a user would beside the examples."""
    command = [sys.executable, "-m", "mcugraph", *tables.FIRST_COMMAND.split()[1:]]
    plain = {k: v for k, v in os.environ.items() if k not in {"FORCE_COLOR", "TTY_COMPATIBLE"}}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "examples").symlink_to(EXAMPLES)
        done = subprocess.run(
            command, cwd=folder, env=plain, capture_output=True, text=True, check=True
        )
    return "\n".join(line.rstrip() for line in done.stdout.strip().splitlines())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Measure what the README says.")
    parser.add_argument("--models", nargs="+", choices=NAMES, default=NAMES, metavar="MODEL")
    parser.add_argument("--tables", action="store_true", help="write the README, measure nothing")
    parser.add_argument("--check", action="store_true", help="compare, measure nothing")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
