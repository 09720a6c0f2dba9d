"""The emitted C on this machine, for whole test sets: built for speed, called once a sample."""

from __future__ import annotations

import ctypes
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import ModelProto

from mcugraph.artifact import Artifact
from mcugraph.build import Options, build_shared
from mcugraph.observe import Subject

Array = NDArray[np.generic]


def by_c(artifact: Artifact, samples: NDArray[np.float32]) -> Array:
    """What the C of a network of one input and one output gives for each sample, as integers."""
    report = artifact.report.as_json()
    subject = Subject.of(report)
    ((given, _),), ((made, _),) = subject.inputs.items(), subject.outputs.items()
    source, result = subject.places[given], subject.places[made]
    entry = report["tensors"][given]
    with tempfile.TemporaryDirectory() as folder:
        run = _built(artifact, Path(folder))
        arena = ctypes.create_string_buffer(report["ram"]["arena"])
        begin, end = (ctypes.addressof(arena) + place.offset for place in (source, result))
        found = []
        for sample in samples:
            image = source.layout.to_memory(_quantised(sample[None], entry)).tobytes()
            ctypes.memmove(begin, image, len(image))
            run(arena)
            row = np.frombuffer(ctypes.string_at(end, result.bytes), result.dtype)
            found.append(row.copy())
    return np.stack(found)


def _built(artifact: Artifact, folder: Path) -> Callable[[ctypes.Array[ctypes.c_char]], None]:
    artifact.write(folder / "c")
    name = artifact.report.model
    files = sorted((folder / "c").glob("*.c"))
    options = Options(optimize="-O3", includes=(folder / "c",))
    library = ctypes.CDLL(str(build_shared(files, folder / "model.so", options)))
    run = getattr(library, f"{name}_run_at")
    run.restype = None
    return run


def _quantised(values: NDArray[np.float32], entry: dict[str, Any]) -> Array:
    limits = np.iinfo(entry["dtype"])
    steps = np.rint(values / np.float32(entry["scale"])) + entry["zero_point"]
    return np.clip(steps, limits.min, limits.max).astype(entry["dtype"])


def by_onnxruntime(model: ModelProto, samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """What onnxruntime gives for each sample, in one thread and as the oracle computes."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.qdqisint8allowed", "1")
    content = model.SerializeToString()
    session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: sample[None]})[0] for sample in samples])


def percent(outputs: Array, labels: Array) -> float:
    """The share of samples whose greatest output is the right one."""
    return round(100 * float((outputs.argmax(1) == labels).mean()), 2)
