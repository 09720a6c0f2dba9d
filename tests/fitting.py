"""A tiny network on the bundled digits, fitted in this process or, as a script, in another one.

    python tests/fitting.py KIND MODEL.onnx OUT.json [CHECKPOINT [EPOCH]]

writes what a fit of channels, of depth or of an exit gave; the process ends itself in the middle of
EPOCH, like a power cut. Under torchrun's variables, each process takes its part of every batch.
"""

import functools
import hashlib
import json
import logging
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import ModelProto
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from mcugraph.prune.depth import Depth, fit_depth
from mcugraph.prune.exits import EarlyExit, fit_exit
from mcugraph.prune.export import from_torch
from mcugraph.prune.fit import Pruning, fit
from mcugraph.prune.history import Epoch
from mcugraph.prune.network import Network
from mcugraph.prune.processes import joined, rank, world
from mcugraph.prune.result import Result
from mcugraph.prune.rules import Schedule
from mcugraph.prune.training import Loader, Training

DIGITS = Path(__file__).parents[1] / "examples" / "digits.npz"
BUDGET = "macs=12K,arena=400"
EPOCHS, BATCH, KILLED = 4, 16, 9
torch.set_num_threads(1)
# The exporter tells which of torch's packages are missing.
logging.getLogger("torch.onnx").setLevel(logging.ERROR)


def digits() -> tuple[Tensor, Tensor]:
    data = np.load(DIGITS)
    return torch.from_numpy(data["input"]), torch.from_numpy(data["label"])


def batches(size: int = BATCH) -> list[tuple[Tensor, Tensor]]:
    return list(zip(*(part.split(size) for part in digits()), strict=True))


def shuffled() -> DataLoader:
    return DataLoader(TensorDataset(*digits()), BATCH, shuffle=True)


def shares() -> list[tuple[Tensor, Tensor]]:
    """The part of each batch that this process trains on."""
    size = BATCH // world()
    return [(x.split(size)[rank()], y.split(size)[rank()]) for x, y in batches()]


@functools.cache
def network() -> nn.Sequential:
    """[n, 1, 8, 8] -> 10 classes, 39,584 MACs; trained until it knows most of the 64 digits."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        net = nn.Sequential(
            *(nn.Conv2d(1, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()),
            *(nn.Conv2d(16, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()),
            *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10)),
        )
    optimizer = torch.optim.AdamW(net.parameters(), 1e-2)
    for _ in range(25):
        for x, y in batches():
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x), y).backward()
            optimizer.step()
    return net


@functools.cache
def _exported() -> bytes:
    return from_torch(network(), torch.zeros(1, 1, 8, 8)).SerializeToString()


def exported() -> ModelProto:
    """The network as an ONNX model."""
    return onnx.load_from_string(_exported())


def digest(network: Network) -> str:
    content = network.to_onnx().SerializeToString(deterministic=True)
    return hashlib.sha256(content).hexdigest()


def described(result: Result) -> dict[str, object]:
    return {
        "digest": digest(result.network),
        "decision": json.loads(result.decision.dumps()),
        "losses": [entry.loss for entry in result.history],
        "scores": [entry.score for entry in result.history],
        "used": dict(result.used),
    }


def fitted(kind: str, loader: Loader, training: Training, model: ModelProto) -> Result:
    """Channels go; or the network is cut where it is best, and channels go; or it gets an exit."""
    if kind == "channels":
        return fit(model, loader, BUDGET, training)
    if kind == "exit":
        return fit_exit(model, loader, EarlyExit("relu", "dscnn8", share=0.5), training)
    pruning = Pruning(schedule=Schedule(0, events=2))
    depth = Depth("relu_1", "dscnn8", share=0.5, prune=True, pruning=pruning)
    return fit_depth(model, loader, "macs=16K", training, depth)


def by_two(kind: str, model: ModelProto, folder: Path) -> dict[str, Any]:
    """What two processes, each with its part of every batch, write of a fit in a folder."""
    onnx.save(model, folder / "model.onnx")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = str(listener.getsockname()[1])
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    runs = [
        subprocess.Popen(
            [sys.executable, __file__, kind, "model.onnx", "both.json"],
            cwd=folder,
            env={**os.environ, **common, "RANK": own, "LOCAL_RANK": own},
            stderr=subprocess.PIPE,
        )
        for own in ("0", "1")
    ]
    errors = [run.communicate(timeout=300)[1].decode() for run in runs]
    assert [run.returncode for run in runs] == [0, 0], errors
    found: dict[str, Any] = json.loads((folder / "both.json").read_text())
    return found


def main(kind: str, model: str, out: str, checkpoint: str | None = None, epoch: str = "0") -> None:
    def die(entry: Epoch) -> None:
        if entry.number == int(epoch) > 0:
            os._exit(KILLED)

    training = Training(epochs=EPOCHS, evaluate=batches(), checkpoint=checkpoint, progress=die)
    with joined():
        loader = shares() if world() > 1 else shuffled()
        result = fitted(kind, loader, training, onnx.load(model))
        if rank() == 0:
            Path(out).write_text(json.dumps(described(result)), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
