"""What pruning gives: the trained network, what was decided, and the way to the microcontroller."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto
from torch import Tensor

from mcugraph.artifact import Artifact, write_models
from mcugraph.decision import Decision
from mcugraph.judge import Question, Verification, verify
from mcugraph.optimize import Settings, optimize
from mcugraph.parameters import parameters_of
from mcugraph.prune.history import Epoch
from mcugraph.prune.network import Network
from mcugraph.prune.qat import quantized, train_quantized
from mcugraph.prune.training import Loader, Training, score_of
from mcugraph.targets import Target

# Samples on which the C is compared with onnxruntime, and its score is found.
COMPARED = 1000


@dataclass(frozen=True)
class Result:
    """A trained network within its budget.

    `decision` is what was kept of the original model; `used` what the compiler says of each
    resource in `limits`; `history` has an entry for the unpruned network and for each epoch;
    `objective` is what memory is planned for.
    """

    network: Network
    decision: Decision
    used: Mapping[str, float]
    limits: Mapping[str, int]
    history: tuple[Epoch, ...]
    target: Target
    loader: Loader
    training: Training
    objective: str = field(default="ram", kw_only=True)

    @property
    def model(self) -> ModelProto:
        """The pruned float model with its trained weights."""
        return self.network.to_onnx()

    def score(self, network: Network) -> float | None:
        """What the evaluation says of a form of it, such as the int8 one."""
        return score_of(network.to(self.training.device), self.training)

    def export(self, path: str | Path) -> ModelProto:
        """Write the pruned float model; ValueError where that is not possible."""
        model = self.model
        write_models({Path(path): model})
        return model

    def quantize(self, calibration: Loader | None = None) -> ModelProto:
        """The int8 QDQ form, calibrated on training data unless told otherwise."""
        return quantized(self.model, calibration or self.training.calibration or self.loader)

    def train_quantized(self, training: Training) -> ModelProto:
        """The int8 QDQ form after some epochs in which all is rounded; see `qat`."""
        calibration = training.calibration or self.training.calibration
        return train_quantized(self.model, self.loader, training, calibration)

    def compile(self, model: ModelProto | None = None, name: str = "network") -> Artifact:
        """The C of a quantised model (by default `quantize()`) for the target."""
        settings = Settings(name=name, objective=self.objective)
        return optimize(model or self.quantize(), self.target, settings)

    def measured(self, artifact: Artifact) -> dict[str, float]:
        """What the C takes of each limited resource, counted as the limits are."""
        report = artifact.report
        found = {
            "params": parameters_of(self.model),
            "macs": report.macs,
            "arena": report.ram.arena,
            "ram": report.ram.total,
            "weights": report.flash.weights + report.flash.tables,
            "flash": report.flash.total,
            "cycles": report.cycles,
        }
        return {name: float(found[name] or 0) for name in self.limits}

    def verify(
        self, model: ModelProto | None = None, artifact: Artifact | None = None
    ) -> Verification:
        """Compare the C on the host with onnxruntime, on the first of the evaluation's samples.

        Without an evaluation loader, on those of training. Its `accuracy` is the C's.
        """
        model = model or self.quantize()
        artifact = artifact or self.compile(model)
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            onnx.save(model, folder / "model.onnx")
            artifact.write(folder / "c")
            question = Question(data=self._samples(folder / "samples.npz"))
            return verify(folder / "model.onnx", folder / "c", question)

    def _samples(self, path: Path) -> Path:
        """Write the first samples of the evaluation, and their labels where these are classes."""
        evaluate = self.training.evaluate
        loader = self.loader if evaluate is None or callable(evaluate) else evaluate
        columns: dict[str, list[Any]] = {}
        count = 0
        for *inputs, target in loader:
            named = dict(zip(self.network.inputs, inputs, strict=True))
            if isinstance(target, Tensor) and target.dim() == 1 and not target.is_floating_point():
                named["label"] = target
            for name, part in named.items():
                columns.setdefault(name, []).append(part.cpu().numpy())
            count += len(inputs[0])
            if count >= COMPARED:
                break
        whole: dict[str, Any] = {n: np.concatenate(c)[:COMPARED] for n, c in columns.items()}
        np.savez(path, **whole)
        return path
