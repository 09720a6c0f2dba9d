"""What the user gives to train, as the float ONNX model that is trained."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import ModelProto
from torch import Tensor, nn

from mcugraph.optimize import Settings, foldable, loaded
from mcugraph.prune.export import from_torch
from mcugraph.prune.processes import gathered
from mcugraph.prune.training import Loader, Training, moved

Model = nn.Module | ModelProto | str | Path


def float_model(model: Model, loader: Loader, training: Training) -> ModelProto:
    """The float model that is pruned: the same in all processes."""
    if isinstance(model, nn.Module):
        given = training.example
        found = from_torch(model, _example(model, loader) if given is None else given)
    elif isinstance(model, ModelProto):
        found = model
    else:
        found = foldable(loaded(model, Settings()))
    return onnx.load_from_string(gathered(found.SerializeToString())[0])


def _example(model: nn.Module, loader: Loader) -> tuple[Tensor, ...]:
    """One row of the inputs of the first batch."""
    batch = next(iter(loader), None)
    if batch is None:
        raise ValueError("the loader gives no batch")
    inputs, _ = moved(batch, Training())
    device = next(model.parameters()).device
    return tuple(part[:1].to(device) for part in inputs)
