"""A torch module as the ONNX model that training wants: nothing folded, weights by their names."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from onnx import ModelProto
from onnxscript import optimizer
from torch import nn

from mcugraph import passes
from mcugraph.passes._edit import Edit, is_op, slot
from mcugraph.prune.network import FROZEN


def from_torch(module: nn.Module, example: Any) -> ModelProto:
    """Export a module with batch normalisations unfolded; `example` is an input or a tuple of them.

    Initializers have the names of the module's state_dict. The sizes are those of the example,
    whose batch has to be 1. Dropout is not exported: the module is taken in evaluation mode.
    """
    example = example if isinstance(example, tuple) else (example,)
    if any(value.shape[0] != 1 for value in example):
        raise ValueError("the example's batch has to be 1: the microcontroller takes one at a time")
    training = module.training
    module.eval()
    try:
        with warnings.catch_warnings(), _quiet_exporter(), torch.no_grad():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(module, example, dynamo=True, optimize=False, verbose=False)
    finally:
        module.train(training)
    assert program is not None, "torch.onnx.export gave nothing"
    # Its constant folding turns sequences into plain splits; its rewrite rules would fold norms.
    optimizer.fold_constants(program.model)
    model: ModelProto = program.model_proto
    for apply in (passes.fold_constants, passes.canonicalize_pooling):
        model = apply(model)
    model = _without_zero_biases(model, {name for name, _ in module.named_parameters()})
    frozen = "\n".join(name for name, _ in module.named_buffers())
    model.metadata_props.add(key=FROZEN, value=frozen)
    return model


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """It tells which of torch's other packages are missing, whether they matter or not."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _without_zero_biases(model: ModelProto, own: set[str]) -> ModelProto:
    """The exporter gives every convolution a bias; what the module does not have is not trained."""
    edit = Edit(model)
    for node in edit.nodes:
        name = slot(node, 2)
        if is_op(node, "Conv", "ConvTranspose") and name and name not in own:
            value = edit.constant(name)
            if value is not None and not value.any():
                edit.set_input(node, 2, "")
    return edit.finish()
