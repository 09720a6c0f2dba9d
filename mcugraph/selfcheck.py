"""onnxruntime judges a model before anything is compiled: it loads, runs, and gives the shapes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, ValueInfoProto, helper

from mcugraph.errors import plain, title
from mcugraph.passes._edit import subgraphs

_SILENT = 4
# Operators that divide by an integer; onnxruntime may end the process where it is 0.
_DIVIDING = frozenset({"Div", "Mod", "STFT"})
_INDICES = frozenset({TensorProto.INT32, TensorProto.INT64, TensorProto.UINT32, TensorProto.UINT64})
_DOMAINS = ("", "ai.onnx.ml", "com.microsoft")


def self_check(model: ModelProto) -> list[str]:
    """What onnxruntime has against a static model; a model with bodies (If, Loop) is only loaded.

    Floats and small integers are random (seed 0); int32 and int64 are 0, as they often are indices.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _SILENT
    text = model.SerializeToString()
    # onnxruntime's exceptions have no common base but Exception.
    try:
        session = onnxruntime.InferenceSession(text, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        return _foreign(model) or [f"onnxruntime refuses the model: {plain(error)}"]
    if _only_loads(model):
        return []
    random = np.random.default_rng(0)
    feeds = {value.name: _sample(value, random) for value in model.graph.input}
    quiet = onnxruntime.RunOptions()
    quiet.log_severity_level = _SILENT
    try:
        results = session.run([value.name for value in model.graph.output], feeds, quiet)
    except Exception as error:
        return [f"onnxruntime cannot run the model: {plain(error)}"]
    return _shape_faults(model, results)


def _only_loads(model: ModelProto) -> bool:
    """Whether a run could fail, or end this process, with inputs that are as good as any."""
    kinds = {value.type.tensor_type.elem_type for value in model.graph.input}
    divides = any(node.op_type in _DIVIDING for node in model.graph.node)
    bodies = any(True for node in model.graph.node for _ in subgraphs(node))
    return bodies or (divides and not kinds.isdisjoint(_INDICES))


def _foreign(model: ModelProto) -> list[str]:
    return [
        f"{title(node)}: onnxruntime has no operators of domain {node.domain!r}; export the "
        "model without custom operators"
        for node in model.graph.node
        if node.domain not in _DOMAINS
    ]


def _sample(value: ValueInfoProto, random: np.random.Generator) -> NDArray[np.generic]:
    kind = value.type.tensor_type
    dtype = np.dtype(helper.tensor_dtype_to_np_dtype(kind.elem_type))
    shape = [dim.dim_value for dim in kind.shape.dim]
    if dtype.kind == "f":
        return random.uniform(-1, 1, shape).astype(dtype)
    if dtype.itemsize > 2:
        return np.zeros(shape, dtype)
    return random.integers(0, 2 if dtype.kind == "b" else 128, shape).astype(dtype)


def _shape_faults(model: ModelProto, results: list[Any]) -> list[str]:
    faults = []
    for value, result in zip(model.graph.output, results, strict=True):
        dims = value.type.tensor_type.shape.dim
        static = [dim.dim_value for dim in dims if dim.HasField("dim_value")]
        known = value.type.tensor_type.HasField("shape") and len(static) == len(dims)
        shape = list(np.shape(result))
        if known and shape != static:
            faults.append(
                f"output {value.name}: onnxruntime computes shape {shape}, the model says {static}"
            )
    return faults
