"""A recipe of `mcugraph fit`, for the microbit and a budget such as macs=30K,flash=10KB.

The trained network of `digits.py` gets narrower while it goes on learning, until its C keeps the
budget; then its int8 form is trained for a moment. Every third image is held out for testing.
"""

from pathlib import Path

import torch
from digits import BATCH, split
from torch.optim import AdamW
from torch.utils.data import DataLoader, TensorDataset

from mcugraph.prune.recipe import Recipe
from mcugraph.prune.training import Training

HERE = Path(__file__).parent


def recipe() -> Recipe:
    """Return what `mcugraph fit` is to train."""
    torch.set_num_threads(1)
    train, test = (TensorDataset(*map(torch.from_numpy, part)) for part in split())
    evaluate = DataLoader(test, BATCH)
    return Recipe(
        model=HERE / "digits_float.onnx",
        train=DataLoader(train, BATCH, shuffle=True),
        training=Training(
            epochs=20, evaluate=evaluate, optimizer=lambda weights: AdamW(weights, 0.01)
        ),
        quantized=Training(epochs=2, optimizer=lambda weights: AdamW(weights, 2e-4)),
    )
