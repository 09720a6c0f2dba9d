"""Let the other pruning tools halve the networks of a folder: what benchmarks/pruning.py starts.

    python benchmarks/pruning_peers.py FOLDER

Needs the extra `peers`. FOLDER holds NAME.float.onnx, NAME.int8.onnx and asked.json, which lists
for each of them the groups of channels to remove: {"NAME.FORM": [{weight: [axis, [index, ...]]}]}.
Only qonnx is asked so, for all groups together (all.NAME.FORM) and for each by itself (0.NAME.FORM,
...); the other two choose by themselves. What a TOOL makes is TOOL/all.NAME.FORM.onnx, or .npz of a
torch network (its parameters, and `y` for the inputs of `prunable`), or .txt: why there is nothing.
Torch-Pruning is not asked for int8 models: it prunes torch modules.
"""

from __future__ import annotations

import argparse
import copy
import importlib
import json
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxsim
import torch
import torch_pruning
from numpy.typing import NDArray
from onnx import ModelProto, numpy_helper
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.transformation.fold_constants import FoldConstants
from qonnx.transformation.gemm_to_matmul import GemmToMatMul
from qonnx.transformation.pruning import PruneChannels
from qonnx.util.cleanup import cleanup_model
from torch import nn

sys.path.append(str(Path(__file__).parents[1] / "tests"))
prunable: Any = importlib.import_module("prunable")

# qonnx runs small models that it builds in onnx's newest format, which onnxruntime may not read.
onnx.IR_VERSION = 10
SAMPLES = 8

Asked = Mapping[str, tuple[int, Sequence[int]]]
Result = ModelProto | dict[str, NDArray[Any]]


def main(arguments: list[str]) -> int:
    """Try every tool on every model; returns the exit code."""
    parser = argparse.ArgumentParser(description="Let other tools prune the networks of a folder.")
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args(arguments).folder
    asked = json.loads((folder / "asked.json").read_text(encoding="utf-8"))
    warnings.simplefilter("ignore")
    for name, groups in asked.items():
        print(f"{name} ...", file=sys.stderr)
        for tool in TOOLS if name.endswith(".float") else GRAPH_TOOLS:
            attempt(folder / tool / f"all.{name}", folder / f"{name}.onnx", together(groups))
        for number, group in enumerate(groups):
            attempt(folder / "qonnx" / f"{number}.{name}", folder / f"{name}.onnx", group)
    return 0


def together(groups: Sequence[Asked]) -> Asked:
    """One request for all groups: several may have channels of one weight."""
    merged: dict[str, tuple[int, list[int]]] = {}
    for group in groups:
        for weight, (axis, lost) in group.items():
            merged.setdefault(weight, (axis, []))[1].extend(lost)
    return merged


def attempt(place: Path, source: Path, asked: Asked) -> None:
    """Write what one tool makes of one model; whatever it raises is a result, too."""
    place.parent.mkdir(exist_ok=True)
    try:
        result = TOOLS[place.parent.name](source, asked)
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        place.with_name(f"{place.name}.txt").write_text(text, encoding="utf-8")
        return
    if isinstance(result, ModelProto):
        onnx.save(result, place.with_name(f"{place.name}.onnx"))
    else:
        np.savez(place.with_name(f"{place.name}.npz"), **result)


def by_onnxsim(source: Path, asked: Asked) -> Result:
    """Half of every layer that it knows how to shrink, and half of the heads."""
    model = onnx.load(source)
    if source.stem.endswith(".int8"):
        return onnxsim.apply_structured_pruning_qdq(model, 0.5)
    return onnxsim.apply_attention_head_pruning(onnxsim.apply_structured_pruning(model, 0.5), 0.5)


def by_qonnx(source: Path, asked: Asked) -> Result:
    """Exactly the channels asked for, after the clean-up that it demands, which renames weights."""
    own = {t.name: numpy_helper.to_array(t) for t in onnx.load(source).graph.initializer}
    model = cleanup_model(ModelWrapper(str(source)), extract_conv_bias=True)
    model = model.transform(GemmToMatMul()).transform(FoldConstants())
    wishes = {}
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        for name, (axis, lost) in asked.items():
            if np.array_equal(array, own[name]):
                wishes[tensor.name] = {axis: {*lost}}
            elif np.array_equal(array, own[name].T):
                wishes[tensor.name] = {1 - axis: {*lost}}
    return model.transform(PruneChannels(wishes)).model


def by_torch_pruning(source: Path, asked: Asked) -> Result:
    """Half of every group of torch's network."""
    name = source.stem.partition(".")[0]
    net = copy.deepcopy(prunable.module(name)).requires_grad_(True)
    last = [part for part in net.modules() if isinstance(part, nn.Linear)][-1]
    heads = [net.get_submodule(part) for part in "qkv"] if name == "attention" else []
    pruner = torch_pruning.pruner.BasePruner(
        net,
        prunable.inputs(name),
        importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
        pruning_ratio=0.5,
        ignored_layers=[last],
        num_heads=dict.fromkeys(heads, prunable.HEADS),
    )
    pruner.step()
    with torch.no_grad():
        y = net.eval()(prunable.inputs(name, SAMPLES)).numpy()
    return {"y": y, **{key: value.numpy() for key, value in net.state_dict().items()}}


GRAPH_TOOLS: dict[str, Callable[[Path, Asked], Result]] = {"onnxsim": by_onnxsim, "qonnx": by_qonnx}
TOOLS = {**GRAPH_TOOLS, "torch-pruning": by_torch_pruning}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
