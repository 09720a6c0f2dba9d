"""The digits of the README with an early exit: its head fitted, the whole quantised."""

from __future__ import annotations

import functools
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import ModelProto
from onnxruntime import quantization as q
from sklearn.datasets import load_digits

from mcugraph.passes import Head, add_exit, fold_batchnorm
from mcugraph.passes._part import EXIT, part_of

Array = NDArray[np.float32]
FLOAT = Path(__file__).parents[1] / "examples/digits_float.onnx"
TENSOR, CLASSES = "max_pool2d", 10
# Of so many of the images; the head's logits are regressed to so much for the right digit.
FITTED, CONTRAST = 400, 8


def images() -> tuple[Array, NDArray[np.int64]]:
    """All digits of scikit-learn as the model takes them, and what they show."""
    data = load_digits()
    return (data.images[:, None] / 16).astype(np.float32), data.target.astype(np.int64)


def run_all(model: bytes, batch: Array) -> list[dict[str, Array]]:
    """Every output for each image, computed in integers where the model is."""
    options = ort.SessionOptions()
    options.add_session_config_entry("session.qdqisint8allowed", "1")
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    return [dict(zip(names, session.run(None, {"input": x[None]}), strict=True)) for x in batch]


@functools.cache
def fitted() -> dict[str, Any]:
    """Weights of the head that knows most of the images."""
    pictures, labels = images()
    front = part_of(onnx.load(FLOAT), [TENSOR]).SerializeToString()
    means = [each[TENSOR].mean((2, 3))[0] for each in run_all(front, pictures[:FITTED])]
    known = np.column_stack([np.stack(means), np.ones(FITTED)])
    fit, *_ = np.linalg.lstsq(known, CONTRAST * np.eye(CLASSES)[labels[:FITTED]], rcond=None)
    return {"exit.classifier.weight": fit[:-1].T, "exit.classifier.bias": fit[-1]}


def head() -> Head:
    """A mean and a dense layer."""
    return Head("gap", (), CLASSES, weights=fitted())


def float_model(threshold: float = 0.9) -> ModelProto:
    """The float model with its exit."""
    return add_exit(onnx.load(FLOAT), TENSOR, head(), threshold)


class _Data(q.CalibrationDataReader):
    def __init__(self) -> None:
        self.batches = iter(images()[0][:128])

    def get_next(self) -> dict[str, Array] | None:
        image = next(self.batches, None)
        return None if image is None else {"input": image[None]}


@functools.cache
def _quantized(model: bytes) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        q.quantize_static(
            fold_batchnorm(onnx.load_from_string(model)),
            str(path),
            _Data(),
            quant_format=q.QuantFormat.QDQ,
            per_channel=True,
            activation_type=q.QuantType.QInt8,
            weight_type=q.QuantType.QInt8,
        )
        return path.read_bytes()


def model(threshold: float = 0.9) -> ModelProto:
    """The int8 model with its exit, as onnxruntime's quantiser writes it."""
    return onnx.load_from_string(_quantized(float_model(threshold).SerializeToString()))


def at(threshold: float, base: ModelProto | None = None) -> ModelProto:
    """The int8 model, or another one, whose exit has a threshold that may make no sense."""
    return noted(base or model(), json.dumps({"output": "exit", "threshold": threshold}))


def noted(base: ModelProto, text: str) -> ModelProto:
    """A model with another entry for its exit."""
    own = ModelProto()
    own.CopyFrom(base)
    (entry,) = (each for each in own.metadata_props if each.key == EXIT)
    entry.value = text
    return own
