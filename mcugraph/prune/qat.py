"""Quantisation: onnxruntime's int8 QDQ form of a model, and training that knows its rounding."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, numpy_helper
from onnxruntime import quantization
from torch.nn import functional

from mcugraph import passes
from mcugraph.passes._edit import Array, Edit, attribute, is_op, slot
from mcugraph.passes._part import EXIT
from mcugraph.prune.checkpoint import seed_all
from mcugraph.prune.network import Network
from mcugraph.prune.processes import gathered, rank
from mcugraph.prune.training import Loader, Still, Trainer, Training

# How many samples onnxruntime's calibrator sees.
SAMPLES = 256
# What the distance from the float network counts, which is the aim here however much it knows.
ANCHOR = 0.9
# What the graph has to be before it is quantised; all of it holds for any batch.
PREPARED: tuple[passes.Pass, ...] = (
    passes.fold_constants,
    passes.eliminate_identity,
    passes.fold_batchnorm,
    passes.canonicalize_pooling,
)
# What onnxruntime's own preparation writes, and its quantiser looks for.
READY = {"onnx.quant.pre_process": "onnxruntime.quant"}
Feed = dict[str, Array]


def quantized(model: ModelProto, calibration: Loader, samples: int = SAMPLES) -> ModelProto:
    """The int8 QDQ form of a float model: per channel, ranges by the least and largest values.

    An early exit stays one.
    """
    ready = prepared(model)
    for key, value in READY.items():
        ready.metadata_props.add(key=key, value=value)
    names = [value.name for value in ready.graph.input]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        quantization.quantize_static(
            ready,
            str(path),
            _Reader(islice(_feeds(calibration, names), samples)),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            activation_type=quantization.QuantType.QInt8,
            weight_type=quantization.QuantType.QInt8,
        )
        found = onnx.load(path)
    found.metadata_props.extend(entry for entry in model.metadata_props if entry.key == EXIT)
    return found


def prepared(model: ModelProto) -> ModelProto:
    """The model without batch normalisations and all else that quantisers stumble over."""
    ready = ModelProto()
    ready.CopyFrom(model)
    del ready.metadata_props[:]
    for apply in PREPARED:
        ready = apply(ready)
    return ready


def train_quantized(
    model: ModelProto, loader: Loader, training: Training, calibration: Loader | None = None
) -> ModelProto:
    """Quantise a float model, then train its weights while they, and all else, are rounded.

    The scales stay those of the calibration; the float model is listened to as `training.distil`
    says, where that is None and the loss is cross entropy as ANCHOR says. For a seed, the result is
    the same every time.
    """
    if training.distil is None and training.loss is functional.cross_entropy:
        training = replace(training, distil=ANCHOR)
    seed_all(training.seed + rank())
    own = quantized(model, calibration or training.calibration or loader)
    # Other processes have calibrated on other data.
    quantised = onnx.load_from_string(gathered(own.SerializeToString())[0])
    network = fake_quantized(quantised, model).to(training.device)
    teacher = Network(prepared(model))
    trainer = Trainer(Still(network), loader, training, teacher)
    for number in range(training.epochs):
        trainer.run_epoch(number)
    return with_weights(quantised, network)


def fake_quantized(quantised: ModelProto, model: ModelProto | None = None) -> Network:
    """The network of a QDQ model whose weights are float, and rounded in each run.

    It starts with the weights of the float `model` that was quantised, where it has them.
    """
    known = {} if model is None else _floats(prepared(model))
    edit = Edit(quantised)
    for node, name in list(_stored(edit)):
        grid = _Grid.of(edit, node)
        own = known.get(name.removesuffix("_quantized"))
        if own is None or own.shape != grid.integers.shape:
            own = grid.real()
        source = edit.store(real_name(name), own)
        rounded = edit.fresh(f"{name}_rounded")
        zero = edit.store(f"{name}_zero", grid.zero)
        edit.rewire(name, rounded)
        edit.add("QuantizeLinear", [source, node.input[1], zero], rounded, axis=grid.axis)
        edit.set_input(node, 2, zero)
    return Network(edit.finish())


def with_weights(quantised: ModelProto, network: Network) -> ModelProto:
    """A QDQ model with the weights of its fake-quantised network, rounded where they are stored."""
    trained = {name: value.detach().cpu().numpy() for name, value in network.weights.items()}
    edit = Edit(quantised)
    for node, name in _stored(edit):
        trained[name] = _Grid.of(edit, node).rounded(trained[real_name(name)])
    model = ModelProto()
    model.CopyFrom(quantised)
    for tensor in model.graph.initializer:
        if tensor.name in trained:
            tensor.CopyFrom(numpy_helper.from_array(trained[tensor.name], tensor.name))
    return model


def real_name(name: str) -> str:
    """What the float weights are called whose integers have this name."""
    return f"{name}_real"


@dataclass(frozen=True)
class _Grid:
    """Integers and what they stand for: scale * (integers - zero), along an axis."""

    integers: Array
    scale: Array
    zero: Array
    axis: int

    @classmethod
    def of(cls, edit: Edit, node: NodeProto) -> _Grid:
        """That of a DequantizeLinear of a constant."""
        integers, scale = edit.constant(node.input[0]), edit.constant(node.input[1])
        assert integers is not None, f"{node.input[0]} is no constant"
        assert scale is not None, f"{node.input[1]} is no constant"
        zero = edit.constant(slot(node, 2)) if slot(node, 2) else None
        own = np.zeros(scale.shape, integers.dtype) if zero is None else zero
        return cls(integers, scale, own, attribute(node, "axis", 1))

    def real(self) -> Array:
        """The values that the integers stand for."""
        shifted = self.integers.astype(np.float32) - self._along(self.zero.astype(np.float32))
        return np.asarray(shifted * self._along(self.scale), np.float32)

    def rounded(self, values: Array) -> Array:
        """The nearest integers to float values, in float32 as training rounds."""
        limits = np.iinfo(self.integers.dtype)
        steps = np.rint(values / self._along(self.scale)).astype(np.float64)
        found = np.clip(steps + self._along(self.zero), limits.min, limits.max)
        return found.astype(self.integers.dtype)

    def _along(self, vector: Array) -> Array:
        if vector.size == 1:
            return vector.reshape(())
        axis = self.axis % self.integers.ndim
        return vector.reshape([-1 if i == axis else 1 for i in range(self.integers.ndim)])


class _Reader:
    """Feeds onnxruntime's calibrator."""

    def __init__(self, feeds: Iterator[Feed]) -> None:
        self._feeds = feeds

    def get_next(self) -> Feed | None:
        """The next sample, or None at the end."""
        return next(self._feeds, None)


def _feeds(loader: Loader, names: list[str]) -> Iterator[Feed]:
    """One sample at a time, as the model takes them; the target that ends a batch is left out."""
    for batch in loader:
        columns = [part.cpu().numpy() for part in islice(batch, len(names))]
        for row in range(len(columns[0])):
            values = (column[row : row + 1] for column in columns)
            yield dict(zip(names, values, strict=True))


def _stored(edit: Edit) -> Iterator[tuple[NodeProto, str]]:
    """(node, name) of all integer constants that are dequantised, each once."""
    seen = set()
    for node in edit.nodes:
        name = slot(node, 0)
        if is_op(node, "DequantizeLinear") and name not in seen and edit.constant(name) is not None:
            seen.add(name)
            yield node, name


def _floats(model: ModelProto) -> dict[str, Array]:
    return {t.name: np.array(numpy_helper.to_array(t)) for t in model.graph.initializer}
