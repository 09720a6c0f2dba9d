"""onnxruntime as the judge: every tensor of a model, and the inputs to compare on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from mcugraph.errors import LoadError, plain

Array = NDArray[np.generic]
SEED = 1
# It makes one rounding of two in a row, to a range of its own: the result is another one.
MERGING = "DoubleQDQPairsRemover"
# What the name of a tensor that is given to its readers ends in.
GIVEN = " (given)"


class Oracle:
    """onnxruntime with its default optimisations but MERGING; `extra` names more tensors to see."""

    def __init__(self, model: onnx.ModelProto, extra: Iterable[str] = ()) -> None:
        seen = {value.name for value in model.graph.output}
        shown = onnx.ModelProto()
        shown.CopyFrom(model)
        for name in extra:
            if name not in seen:
                shown.graph.output.add(name=name)
        options = ort.SessionOptions()
        options.log_severity_level = 3
        # Else, on x86, some of the int8 steps would be computed in float.
        options.add_session_config_entry("session.qdqisint8allowed", "1")
        # onnxruntime's exceptions have no common base but Exception.
        try:
            self._session = ort.InferenceSession(
                shown.SerializeToString(),
                options,
                providers=["CPUExecutionProvider"],
                disabled_optimizers=[MERGING],
            )
        except Exception as error:
            raise LoadError([f"onnxruntime refuses the model: {plain(error)}"]) from error
        self.inputs = {i.name: (tuple(i.shape), i.type) for i in self._session.get_inputs()}
        self.outputs = [value.name for value in model.graph.output]
        self._names = [value.name for value in self._session.get_outputs()]

    def run(self, feed: Mapping[str, Array]) -> dict[str, Array]:
        """All visible tensors for one input."""
        try:
            values = self._session.run(self._names, dict(feed))
        except Exception as error:
            raise LoadError([f"onnxruntime cannot run the model: {plain(error)}"]) from error
        return dict(zip(self._names, values, strict=True))


def cut(model: onnx.ModelProto, names: Iterable[str]) -> onnx.ModelProto:
    """The model in pieces: whoever reads one of these tensors reads the input NAME + GIVEN instead.

    The tensors are computed as before, each from what is given for the ones before it.
    """
    known = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    kinds = {value.name: value.type for value in (*known.value_info, *known.output)}
    apart = onnx.ModelProto()
    apart.CopyFrom(model)
    wanted = {name for node in apart.graph.node for name in node.input} & {*names}
    for node in apart.graph.node:
        for index, name in enumerate(node.input):
            if name in wanted:
                node.input[index] = name + GIVEN
    for name in sorted(wanted):
        apart.graph.input.append(onnx.ValueInfoProto(name=name + GIVEN, type=kinds[name]))
    return apart


def samples(oracle: Oracle, data: Path | None, count: int) -> list[dict[str, Array]]:
    """The inputs to compare on: those of an .npz file, or `count` random ones."""
    if data is None:
        return _random_samples(oracle, count)
    arrays = _arrays(data)
    columns = {name: _column(arrays, name, oracle, data) for name in oracle.inputs}
    size = min(len(column) for column in columns.values())
    if size == 0:
        raise ValueError(f"{data} holds no sample")
    return [
        {name: column[i].reshape(oracle.inputs[name][0]) for name, column in columns.items()}
        for i in range(size)
    ]


def labels(data: Path | None) -> Array | None:
    """The array `label` of an .npz file, where it has one."""
    return None if data is None else _arrays(data).get("label")


def numpy_type(ort_type: str) -> np.dtype[np.generic]:
    """The numpy type of onnxruntime's `tensor(int8)`."""
    name = ort_type.removeprefix("tensor(").removesuffix(")")
    return np.dtype({"float": "float32", "double": "float64"}.get(name, name))


def _arrays(data: Path) -> dict[str, Array]:
    try:
        with data.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, TypeError, AttributeError, BadZipFile) as error:
        raise ValueError(f"cannot read {data}: it is no .npz file of arrays") from error


def _column(arrays: Mapping[str, Array], name: str, oracle: Oracle, data: Path) -> Array:
    """The array of an input: by its name, else the only one of the right type and shape."""
    shape, kind = oracle.inputs[name]
    dtype = numpy_type(kind)
    right = {
        key: array
        for key, array in arrays.items()
        if array.dtype == dtype and array.shape[1:] in (shape, shape[1:])
    }
    if name in right:
        return right[name]
    if len(right) == 1:
        return next(iter(right.values()))
    why = "several arrays fit" if right else "no array fits"
    found = ", ".join(f"{key}: {a.dtype}{list(a.shape)}" for key, a in arrays.items())
    raise ValueError(
        f"{data}: {why} input {name}; give it an array '{name}' of {dtype}, shape "
        f"[{', '.join(['n', *map(str, shape[1:])])}]; it holds {found}"
    )


def _random_samples(oracle: Oracle, count: int) -> list[dict[str, Array]]:
    random = np.random.default_rng(SEED)
    return [
        {
            name: _random(random, shape, numpy_type(kind))
            for name, (shape, kind) in oracle.inputs.items()
        }
        for _ in range(count)
    ]


def _random(
    random: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype[np.generic]
) -> Array:
    if dtype.kind == "f":
        return random.standard_normal(shape).astype(dtype)
    if dtype.kind == "b":
        return random.integers(0, 2, shape).astype(dtype)
    limits = np.iinfo(np.dtype(dtype.name))
    low, high = max(limits.min, -128), min(limits.max, 127 if limits.min else 255)
    return random.integers(low, high, shape, endpoint=True).astype(dtype)
