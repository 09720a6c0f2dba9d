"""Is what a tool left of a network the network with some channels zeroed? How much is it?

Which channels are gone is read off the values that are left of vectors with one element for each
output of a layer; masking these channels in torch's own network says what the outputs must be.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, numpy_helper
from torch import nn

sys.path.append(str(Path(__file__).parents[1] / "tests"))
exports: Any = importlib.import_module("exports")
masking: Any = importlib.import_module("masking")
prunable: Any = importlib.import_module("prunable")

SAMPLES = 8
# Largest difference, relative to the largest output, between float results that are the same.
TOLERANCE = 1e-5

Row = dict[str, Any]
Array = NDArray[Any]


def judged(folder: Path, request: str, name: str, form: str) -> Row:
    """The share of parameters that a tool left, and whether the result is right.

    `verdict` is equal, nothing (equal because all is left), wrong (by `error`, relative to the
    largest output), invalid (onnxruntime refuses it) or error (the tool gave up); `why` quotes.
    """
    (made,) = folder.glob(f"{request}.{name}.{form}.*")
    if made.suffix == ".txt":
        return {"verdict": "error", "why": first_line(made.read_text(encoding="utf-8"))}
    if made.suffix == ".npz":
        return _torch_network(made, name)
    return _graph(onnx.load(made), name, form)


def first_line(text: str) -> str:
    """As much of a message as a report can show, without the paths of whoever built the tool."""
    return re.sub(r"/\S+/\S+ ", "", text.strip().partition("\n")[0])[:160]


def _graph(result: ModelProto, name: str, form: str) -> Row:
    whole, x = exports.model_of(name, form), prunable.inputs(name, SAMPLES)
    left = exports.parameters(result) / exports.parameters(whole)
    try:
        y = exports.run(result, x.numpy())
    except Exception as error:
        return {"verdict": "invalid", "left": round(left, 4), "why": first_line(str(error))}
    lost = _lost(name, _marks(whole, name, form), _arrays(result))
    expected, layers = masking.masked(prunable.module(name), x, lost)
    if form == "int8":
        expected = exports.run(exports.unweighed(name, whole, layers), x.numpy())
        return _verdict(left, y, expected, 0)
    return _verdict(left, y, expected.numpy(), TOLERANCE)


def _torch_network(file: Path, name: str) -> Row:
    with np.load(file) as archive:
        arrays = dict(archive)
    y, net = arrays.pop("y"), prunable.module(name)
    state = {key: value.numpy() for key, value in net.state_dict().items()}
    left = _size(arrays) / _size(state)
    keys = {layer: _bias(net, layer) for layer in _layers(net)}
    lost = _lost(name, {layer: state[key] for layer, key in keys.items()}, arrays.values())
    expected, _ = masking.masked(net, prunable.inputs(name, SAMPLES), lost)
    return _verdict(left, y, expected.numpy(), TOLERANCE)


def _size(state: Mapping[str, Array]) -> int:
    """The parameters that an export still has: normalisations after convolutions are folded."""
    folded = {key.replace("running_mean", "weight") for key in state if "running_mean" in key}
    aside = ("running_mean", "running_var", "num_batches_tracked")
    return sum(a.size for k, a in state.items() if k not in folded and not k.endswith(aside))


def _layers(net: nn.Module) -> list[str]:
    kinds = (nn.Conv2d, nn.Linear, nn.GRU)
    return [name for name, part in net.named_modules() if isinstance(part, kinds)]


def _bias(net: nn.Module, layer: str) -> str:
    """The key of a layer's bias, or of that of the normalisation behind it."""
    if isinstance(net.get_submodule(layer), nn.GRU):
        return f"{layer}.bias_ih_l0"
    owner, _, last = layer.rpartition(".")
    inside = isinstance(net.get_submodule(owner), prunable.Unit)
    return f"{owner}.{int(last) + 1}.bias" if inside else f"{layer}.bias"


def _marks(model: ModelProto, name: str, form: str) -> dict[str, Array]:
    """A vector for each layer: its biases, or in int8 its scales, which are less alike."""
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    found = {}
    for weight in exports.weights_of(name).values():
        reader = next(
            n for n in model.graph.node if {weight.name, f"{weight.name}_quantized"} & {*n.input}
        )
        if reader.op_type == "GRU":
            found[weight.layer] = arrays[reader.input[3]]
        elif form == "int8":
            found[weight.layer] = arrays[reader.input[1]]
        else:
            biases = (f"{weight.layer}.bias", f"{weight.name}_bias")
            found[weight.layer] = next(arrays[key] for key in biases if key in arrays)
    return found


def _arrays(model: ModelProto) -> list[Array]:
    return [numpy_helper.to_array(tensor) for tensor in model.graph.initializer]


def _lost(name: str, marks: Mapping[str, Array], arrays: Iterable[Array]) -> dict[str, list[int]]:
    """The outputs of each layer that are gone; a recurrent layer has several values for each."""
    flat, lost = [array.reshape(-1).tolist() for array in arrays], {}
    for layer, mark in marks.items():
        part = prunable.module(name).get_submodule(layer)
        size = part.hidden_size if isinstance(part, nn.GRU) else mark.size
        left = {index % size for index in _survivors(mark.reshape(-1).tolist(), flat)}
        lost[layer] = sorted({*range(size)} - left)
    return lost


def _survivors(mark: Sequence[float], arrays: Iterable[Sequence[float]]) -> list[int]:
    """Which values of a vector are in the longest array that holds nothing else, in its order."""
    place = {value: index for index, value in enumerate(mark)}
    assert len(place) == len(mark), "two outputs of a layer can't be told apart"
    own = [array for array in arrays if place.keys() >= {*array}]
    found = [[place[value] for value in array] for array in own]
    return max((indices for indices in found if indices == sorted(indices)), key=len)


def _verdict(left: float, found: Array, expected: Array, tolerance: float) -> Row:
    error = float(np.abs(found - expected).max() / np.abs(expected).max())
    kind = "wrong" if error > tolerance else "nothing" if left == 1 else "equal"
    return {"verdict": kind, "left": round(left, 4), "error": float(f"{error:.1e}")}
