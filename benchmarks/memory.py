"""Measure the arenas of real networks' shapes: layer by layer, fused, and with a pushed input.

    python benchmarks/memory.py                 plan all of ../shared/data/graphs
    python benchmarks/memory.py NAME ...        plan some, keep the other figures
    python benchmarks/memory.py --verify NAME   compile for the host: fused as good as step by step?

Writes results/graphs.json. All bytes count: tensors, rings and working memory. The reference is
what a planner without kernels computed for the same files: (d) steps one by one that overlap in
memory, (e) rows streamed, (es) the same with the input pushed row by row; no working memory.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import graphs
import onnx

from mcugraph.graph import Graph
from mcugraph.judge import Question, Verification, verify
from mcugraph.load import load_model
from mcugraph.optimize import UNLIMITED, Settings, optimize, rewrite
from mcugraph.plan import Aim, Plan, make_plan
from mcugraph.read import read_graph
from mcugraph.targets import load

RESULTS = Path(__file__).parent / "results" / "graphs.json"
TARGET = "cortex-m0"
SCHEMA_VERSION = 1
# The reference: (d), (e), (es), in bytes; None where it was not computed.
REFERENCE: dict[str, tuple[int, int | None, int | None]] = {
    "ad_autoenc": (768, 768, 768),
    "darts_cell_28": (301_104, 301_104, 158_592),
    "darts_imagenet_224": (303_744, None, None),
    "efficientnet_lite0_224": (1_209_600, 204_288, 131_040),
    "googlenet_224": (806_400, 257_600, 257_600),
    "ic_resnet8": (33_792, 14_080, 11_360),
    "kws_dscnn": (8_640, 6_186, 5_860),
    "mcunet5fps_like_96_res": (111_744, 30_720, 21_600),
    "mcunet_vww_tfl": (77_760, 21_760, 16_960),
    "mcunetv2_large_tfl": (1_209_600, 239_680, 239_680),
    "mobilenetv1_025_224": (201_600, 151_424, 49_504),
    "mobilenetv2_035_224": (604_800, 157_696, 53_984),
    "mobilenetv2_035_96": (111_744, 30_720, 16_992),
    "mobilenetv2_100_224": (1_209_600, 204_288, 131_040),
    "msf_mbv2_w035_r144": (156_600, 63_360, 23_544),
    "msf_mbv2_w035_r144_res": (156_600, 63_360, 23_544),
    "msf_mcunetv2_vww5_r80": (77_760, 21_760, 16_720),
    "msf_mcunetv2_vww5_r80_res": (77_760, 21_760, 16_720),
    "randwire_ws32_s0": (860_496, 703_080, 615_720),
    "randwire_ws32_s1": (917_358, 690_144, 613_536),
    "randwire_ws32_s2": (860_496, 604_800, 517_440),
    "resnet18_224": (806_400, 223_328, 191_072),
    "squeezenet1_1_224": (792_064, 175_360, 75_248),
    "vww_mbv1_025_96": (37_248, 28_032, 14_592),
}

Row = dict[str, Any]


def main(arguments: list[str]) -> int:
    """Measure and write, or verify; returns the exit code."""
    if arguments[:1] == ["--verify"]:
        return verified(arguments[1:])
    found: dict[str, Row] = results()["models"] if RESULTS.exists() else {}
    for name in arguments or graphs.names():
        found[name] = measured(name)
        print(name, found[name], file=sys.stderr)
    record = {
        "schema_version": SCHEMA_VERSION,
        "target": TARGET,
        "models": dict(sorted(found.items())),
    }
    RESULTS.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return 0


def results() -> dict[str, Any]:
    """The committed figures."""
    record: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8"))
    return record


def measured(name: str) -> Row:
    """Arenas in bytes, what no placement of the same groups undercuts, seconds of planning."""
    graph = read_graph(rewrite(load_model(graphs.model_of(name))))
    layerwise = _plan(graph, name, Aim(enough=UNLIMITED))
    begin = time.perf_counter()
    fused = _plan(graph, name, Aim())
    seconds = time.perf_counter() - begin
    one_input = len(graph.inputs) == 1
    pushed = _plan(graph, name, Aim(pushed=True)) if one_input else None
    d, e, es = REFERENCE.get(name, (None, None, None))
    return {
        "steps": len(fused.steps),
        "whole": layerwise.schedule.peak,
        "layerwise": layerwise.memory.arena,
        "fused": fused.memory.arena,
        "lower_bound": fused.memory.lower_bound,
        "pushed": None if pushed is None else pushed.memory.arena,
        "seconds": round(seconds, 1),
        "reference": {"d": d, "e": e, "es": es},
    }


def _plan(graph: Graph, name: str, aim: Aim) -> Plan:
    return make_plan(graph, load(TARGET), name, aim)


def verified(names: list[str]) -> int:
    """Run the C of some networks on this machine, fused and not; 1 if one disagrees.

    Both must give the same bytes, and agree with onnxruntime as `mcugraph verify` demands.
    """
    wrong = 0
    for name in names:
        with tempfile.TemporaryDirectory() as scratch:
            found = {goal: _verified(name, Path(scratch), goal) for goal in ("ram", "cycles")}
        same = found["ram"].fingerprint == found["cycles"].fingerprint
        agrees = all(result.ok for result in found.values())
        steps = found["ram"].steps
        differing, elements = sum(s.differing for s in steps), sum(s.elements for s in steps)
        print(f"{name}: {'same' if same else 'OTHER'} bytes as step by step, ", end="")
        print(f"{'agrees' if agrees else 'DISAGREES'}: {differing} of {elements:,} elements differ")
        wrong += not (same and agrees)
    return min(wrong, 1)


def _verified(name: str, scratch: Path, goal: str) -> Verification:
    path = scratch / f"{name}.onnx"
    onnx.save(graphs.model_of(name), path)
    folder = optimize(path, "host", Settings(objective=goal)).write(scratch / goal)
    return verify(path, folder, Question(count=1))


def table() -> str:
    """All arenas, beside the reference."""
    header = ("network", "steps", "layer by layer", "fused", "at least", "input pushed")
    rows = [_cells(name, row) for name, row in results()["models"].items()]
    rule = ["---"] + ["--:"] * (len(header) + 3)
    lines = ((*header, "reference (e)", "ours / (e)", "seconds"), rule, *rows)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _cells(name: str, row: Row) -> list[str]:
    e = row["reference"]["e"]
    sizes = [row[key] for key in ("steps", "layerwise", "fused", "lower_bound", "pushed")]
    ratio = "-" if e is None else f"{row['fused'] / e - 1:+.1%}"
    return [name, *(_bytes(size) for size in (*sizes, e)), ratio, f"{row['seconds']:.1f}"]


def _bytes(size: int | None) -> str:
    return "-" if size is None else f"{size:,}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
