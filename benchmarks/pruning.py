"""Halve the channels of ten networks with mcugraph and with three other tools; judge what is left.

    python benchmarks/pruning.py                     needs the extra `peers`
    python benchmarks/pruning.py --peers PYTHON      an interpreter that has it, of elsewhere

Writes results/pruning.json and the README's tables. Every tool is asked for half of the channels
everywhere, of the float networks and of their int8 QDQ versions. Which channels are gone is read
off the values of the biases that are left; the same network with just these channels zeroed says
what the outputs must be. Then ResNet-8's arenas, before and after its residual stream is halved.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import tables
from onnx import ModelProto
from pruning_judge import Row, exports, judged, prunable
from pruning_table import OURS, PEERS, RESULTS

from mcugraph.load import load_model
from mcugraph.optimize import UNLIMITED, rewrite
from mcugraph.passes.channels import ChannelGroup, find_channels
from mcugraph.passes.remove_channels import kept_indices, remove_channels
from mcugraph.plan import Aim, make_plan
from mcugraph.read import read_graph
from mcugraph.targets import load

SCHEMA_VERSION = 1
TARGET = "cortex-m0"
# The tensors that ResNet-8's first blocks add to one another.
STREAM = "0.0.weight"


def main(arguments: list[str]) -> int:
    """Prune, judge and write; returns the exit code."""
    parser = argparse.ArgumentParser(description="Halve ten networks with several tools.")
    parser.add_argument("--peers", default=sys.executable, metavar="PYTHON")
    wish = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        halve_all(folder)
        worker = Path(__file__).parent / "pruning_peers.py"
        subprocess.run([wish.peers, str(worker), str(folder)], check=True)
        record = {
            "schema_version": SCHEMA_VERSION,
            "versions": versions(wish.peers),
            "models": {
                name: {form: verdicts(folder, name, form) for form in exports.FORMS}
                for name in prunable.GRAPHS
            },
            "resnet8": memory(folder),
        }
    RESULTS.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    tables.write()
    return 0


def versions(python: str) -> dict[str, str]:
    """Those of the packages that the figures depend on."""
    ask = "import importlib.metadata as m, sys; print(*map(m.version, sys.argv[1:]))"
    done = subprocess.run([python, "-c", ask, *PEERS], check=True, capture_output=True, text=True)
    own = {name: importlib.metadata.version(name) for name in ("torch", "onnx", "onnxruntime")}
    return {**own, **dict(zip(PEERS, done.stdout.split(), strict=True))}


def halve_all(folder: Path) -> None:
    """Write every model, what mcugraph makes of it, and the channels that qonnx is asked for."""
    (folder / OURS).mkdir()
    asked = {}
    for name in prunable.GRAPHS:
        for form in exports.FORMS:
            model = exports.model_of(name, form)
            groups = find_channels(model).groups
            keep = {each.name: kept_indices(model, each, half(each)) for each in groups}
            onnx.save(model, folder / f"{name}.{form}.onnx")
            onnx.save(remove_channels(model, keep), folder / OURS / f"all.{name}.{form}.onnx")
            asked[f"{name}.{form}"] = [lost_of(name, group) for group in groups]
    (folder / "asked.json").write_text(json.dumps(asked), encoding="utf-8")


def half(group: ChannelGroup) -> list[int]:
    """Half of the channels of a group, at random."""
    random = np.random.default_rng(group.width)
    return sorted(random.permutation(group.width)[: group.width // 2].tolist())


def lost_of(name: str, group: ChannelGroup) -> dict[str, tuple[int, list[int]]]:
    """For every weight that makes a group's channels, its axis of outputs and what goes there."""
    lost: dict[str, tuple[int, list[int]]] = {}
    for channel in sorted({*range(group.width)} - {*half(group)}):
        for place, indices in zip(group.places, group.channels[channel], strict=True):
            weight = exports.weights_of(name).get(place.name.removesuffix(exports.SUFFIX))
            if weight is not None and weight.outputs == place.axis:
                lost.setdefault(place.name, (place.axis, []))[1].extend(indices)
    return lost


def verdicts(folder: Path, name: str, form: str) -> dict[str, Row]:
    """What became of one model; for qonnx also how many groups it can halve one at a time."""
    tools = [OURS, *PEERS] if form == "float" else [OURS, "onnxsim", "qonnx"]
    found = {tool: judged(folder / tool, "all", name, form) for tool in tools}
    count = len(find_channels(exports.model_of(name, form)).groups)
    alone = [judged(folder / "qonnx", str(index), name, form) for index in range(count)]
    found["qonnx"]["groups"] = [row["verdict"] for row in alone]
    return found


def memory(folder: Path) -> dict[str, Row]:
    """Bytes of arena of the int8 ResNet-8: whole, by onnxsim, its stream halved, all halved."""
    model = exports.model_of("resnet8", "int8")
    stream = find_channels(model).group(STREAM)
    results = {
        "unpruned": model,
        "onnxsim": onnx.load(folder / "onnxsim" / "all.resnet8.int8.onnx"),
        "stream": remove_channels(model, {stream.name: kept_indices(model, stream, half(stream))}),
        "mcugraph": onnx.load(folder / OURS / "all.resnet8.int8.onnx"),
    }
    return {key: arenas(result) for key, result in results.items()}


def arenas(model: ModelProto) -> Row:
    """One step at a time without and with overlap, and row by row; parameters and MACs."""
    graph, target = read_graph(rewrite(load_model(model))), load(TARGET)
    single = make_plan(graph, target, "resnet8", Aim(enough=UNLIMITED))
    return {
        "whole": single.schedule.peak,
        "overlap": single.memory.arena,
        "stream": make_plan(graph, target, "resnet8", Aim()).memory.arena,
        "macs": single.macs,
        "parameters": exports.parameters(model),
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
