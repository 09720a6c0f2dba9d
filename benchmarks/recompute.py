"""What computing again brings: `--allow-recompute 1.3` on networks with skips.

    python benchmarks/recompute.py            all; writes results/recompute.json
    python benchmarks/recompute.py NAME ...   some, the other figures are kept

The networks are those of ../shared/data/graphs, and U-Nets and DenseNets with random weights. All
figures but the seconds, of one core's time, are the same on every run.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import graphs
import numpy as np
from onnx import ModelProto

from mcugraph.load import load_model
from mcugraph.optimize import rewrite
from mcugraph.plan import Aim, make_plan
from mcugraph.read import read_graph
from mcugraph.recompute import recompute
from mcugraph.targets import load

RESULTS = Path(__file__).parent / "results" / "recompute.json"
TARGET = "cortex-m0"
FACTOR = 1.3
SCHEMA_VERSION = 1

sys.path.append(str(Path(__file__).parents[1] / "tests"))
models: Any = importlib.import_module("models")


def main(names: list[str]) -> int:
    """Measure, print and write; returns the exit code."""
    found: dict[str, Any] = {}
    if RESULTS.exists():
        found = json.loads(RESULTS.read_text(encoding="utf-8"))["models"]
    for name in names or [*OWN, *graphs.names()]:
        found[name] = measured(OWN[name]() if name in OWN else graphs.model_of(name))
        print(name, found[name], flush=True)
    record = {"schema_version": SCHEMA_VERSION, "target": TARGET, "factor": FACTOR}
    record["models"] = dict(sorted(found.items()))
    RESULTS.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return 0


def measured(model: ModelProto) -> dict[str, Any]:
    """The arenas in bytes and the multiply-accumulates, before and after."""
    graph, aim = read_graph(rewrite(load_model(model))), Aim()
    start = time.process_time()
    plan = make_plan(graph, load(TARGET), "net", aim)
    planned = time.process_time()
    again, _ = recompute(plan, aim, FACTOR)
    searched = time.process_time()
    return {
        "arena": plan.memory.arena,
        "again": again.memory.arena,
        "macs": plan.macs,
        "macs_again": again.macs,
        "steps": len(plan.steps),
        "steps_again": len(again.steps) - len(plan.steps),
        "seconds": [round(planned - start, 1), round(searched - planned, 1)],
    }


def unet(size: int, levels: int, inputs: int = 1, width: int = 8) -> ModelProto:
    """Two convolutions down and one up at each level."""
    net = models.Net(18, seed=4)
    scales = net.const("scales", [1, 1, 2, 2], np.float32)
    up = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    x, skips = net.input("x", 1, inputs, size, size), list[tuple[str, int]]()
    for level in range(levels):
        outputs = width << level
        x = net("Relu", net.conv(f"a{level}", x, outputs, inputs, 3, 3))
        x = net("Relu", net.conv(f"b{level}", x, outputs, outputs, 3, 3))
        inputs = outputs
        skips.append((x, outputs))
        x = net("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    x = net("Relu", net.conv("middle", x, 2 * inputs, inputs, 3, 3))
    inputs *= 2
    for level, (skip, outputs) in reversed([*enumerate(skips)]):
        x = net("Resize", x, "", scales, mode="nearest", **up)
        x = net("Concat", skip, x, axis=1)
        x = net("Relu", net.conv(f"c{level}", x, outputs, inputs + outputs, 3, 3))
        inputs = outputs
    model: ModelProto = net.model(net.conv("out", x, 1, inputs, 1, 1))
    return model


def densenet(size: int, growth: int = 8, depth: int = 6) -> ModelProto:
    """Two blocks, each step of which reads all that came before it."""
    net, channels = models.Net(18, seed=5), 2 * growth
    x = net.conv("stem", net.input("x", 1, 3, size, size), channels, 3, 3, 3, strides=[2, 2])
    x = net("Relu", x)
    for block in range(2):
        for step in range(depth):
            name = f"{block}_{step}"
            y = net("Relu", net.conv(f"a{name}", x, 4 * growth, channels, 1, 1))
            y = net("Relu", net.conv(f"b{name}", y, growth, 4 * growth, 3, 3))
            x = net("Concat", x, y, axis=1)
            channels += growth
        x = net("Relu", net.conv(f"t{block}", x, channels // 2, channels, 1, 1))
        channels //= 2
        x = net("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2])
    x = net("Flatten", net("GlobalAveragePool", x))
    model: ModelProto = net.model(net.gemm("fc", x, 10, channels))
    return model


def _quantized(build: Callable[[], ModelProto]) -> Callable[[], ModelProto]:
    return lambda: models.quantized(build)


OWN: Mapping[str, Callable[[], ModelProto]] = {
    "densenet_32": _quantized(lambda: densenet(32)),
    "densenet_64": _quantized(lambda: densenet(64)),
    "unet_64_2_levels": _quantized(lambda: unet(64, 2)),
    "unet_64_3_levels": _quantized(lambda: unet(64, 3)),
    "unet_96_rgb_3_levels": _quantized(lambda: unet(96, 3, 3)),
}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
