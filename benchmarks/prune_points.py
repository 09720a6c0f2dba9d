"""Three networks trained to three budgets each, met by the emitted C and judged through it.

    python benchmarks/prune_points.py               # all runs that results/prune_points.json lacks
    python benchmarks/prune_points.py ds_cnn        # those of one network

Each run goes the public way: fit, quantise, compile for a Cortex-M0; the figures are those of the
artifact, for the int8 model that is calibrated only, and where that loses something on samples of
training for one that is trained on. The accuracies of the C are those of the whole test set, by the
C itself on this machine.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from typing import Any

import bases
import on_host
import torch
from budget_points import CASES, Case, Timed, figures, float_accuracy, int8_accuracy, recipe
from onnx import ModelProto
from points_table import POINTS, results, table

from mcugraph.artifact import Artifact
from mcugraph.optimize import Settings, optimize
from mcugraph.prune.export import from_torch
from mcugraph.prune.fit import Pruning, fit
from mcugraph.prune.network import Network
from mcugraph.prune.qat import quantized
from mcugraph.prune.result import Result

TARGET, NAME = "cortex-m0", "network"
# Percent of right labels that calibration alone may cost, on so many samples of training.
MOST, ASKED = 0.25, 2000


def base(case: Case) -> dict[str, Any]:
    """The unpruned network."""
    model = from_torch(case.base(), case.example)
    int8 = quantized(model, recipe(case, Timed(case, 0, 0), 0).calibration)
    artifact = optimize(int8, TARGET, Settings(name=NAME))
    return {
        "float": float_accuracy(case, Network(model)),
        "used": figures(artifact),
        "calibrated": int8_accuracy(case, int8, artifact),
    }


def run(case: Case, budget: str) -> dict[str, Any]:
    """Train to a budget; what the C takes, and how good it is."""
    loader = Timed(case, case.seconds, 0)
    pruning = Pruning(TARGET, schedule=case.schedule, rules=case.rules)
    training = recipe(case, loader, 0)
    result = fit(case.base().train(), loader, budget, training, pruning)
    seconds = loader.spent
    int8 = {"calibrated": result.quantize()}
    if lost(case, result.network, int8["calibrated"]) > MOST:
        loader.restart(case.finer)
        finer = replace(training, optimizer=case.finely, autocast=None)
        int8["trained"] = result.train_quantized(finer)
    found: dict[str, Any] = {
        "seconds": round(seconds, 1),
        "float": float_accuracy(case, result.network),
    }
    for name, model in int8.items():
        artifact = result.compile(model, NAME)
        _check(result, artifact)
        found["used"] = figures(artifact)
        found[name] = int8_accuracy(case, model, artifact)
    return found


def lost(case: Case, network: Network, int8: ModelProto) -> float:
    """Percent of right labels that int8 costs, on training samples that calibration did not see."""
    images, labels = (part[-ASKED:] for part in case.data("train"))
    outputs = on_host.by_onnxruntime(int8, images.float().numpy())
    right = bases.accuracy(network, images, labels)
    return right - on_host.percent(outputs, labels.numpy())


def _check(result: Result, artifact: Artifact) -> None:
    """The C is within every limit."""
    used = result.measured(artifact)
    over = {name: used[name] for name, limit in result.limits.items() if used[name] > limit}
    assert not over, f"{over} above {dict(result.limits)}"


def main(names: list[str]) -> None:
    """Run what is missing."""
    torch.set_num_threads(1)
    for name in names or list(CASES):
        case = CASES[name]
        case.base(), case.data("train"), case.data("test")
        for budget in ("", *case.budgets):
            _once(name, case, budget)
    print(table())


def _once(name: str, case: Case, budget: str) -> None:
    if budget in results().get(name, {}):
        return
    found = run(case, budget) if budget else base(case)
    print(name, budget, found, flush=True)
    known = results()
    known.setdefault(name, {})[budget] = found
    POINTS.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
