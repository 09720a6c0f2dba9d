"""An early exit in DS-CNN, behind its second block: what leaves there, and what all get right.

    python benchmarks/prune_exit.py     # all seeds that results/prune_exit.json lacks

Trained as the variants of prune_depth.py are, for about the same CPU seconds. The float network is
asked at each threshold, the emitted C at the one that it is compiled for: on the test set of 1,000
spoken digits, run on the host.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, replace
from typing import Any

import torch
from depth_table import EXITS, exit_results, exits
from prune_depth import SEEDS, TARGET, TASKS, Augmented
from torch import Tensor

from mcugraph.artifact import Artifact
from mcugraph.judge import Verification
from mcugraph.prune.exits import EarlyExit, fit_exit, leaving_of

TASK = TASKS["ds_cnn"]
EPOCHS, THRESHOLD, WEIGHT = 34, 0.8, 0.5
THRESHOLDS = (0.6, 0.7, 0.8, 0.9, 0.95)
Record = dict[str, Any]


def run(seed: int) -> Record:
    """What leaves and what is right, by threshold, and by the C."""
    torch.manual_seed(seed)
    training = replace(TASK.training("unfrozen", seed), epochs=EPOCHS)
    early = EarlyExit(TASK.cut, TASK.head, threshold=THRESHOLD, weight=WEIGHT, target=TARGET)
    begin = time.process_time()
    result = fit_exit(TASK.model, Augmented(TASK, seed), early, training)
    seconds = time.process_time() - begin
    tested = replace(result, training=replace(training, evaluate=_batches("test")))
    quantised = result.quantize(_batches("train"))
    artifact = result.compile(quantised)
    left = artifact.report.exit
    assert left is not None, "no exit"
    macs = (left.macs, artifact.report.macs)
    rows = leaving_of(tested.network, tested.training, THRESHOLDS, macs, Tensor.float)
    return {
        "cpu_seconds": round(seconds, 1),
        "float": [{name: _rounded(value) for name, value in asdict(row).items()} for row in rows],
        "c": _checked(artifact, tested.verify(quantised, artifact)),
    }


def _batches(split: str) -> list[tuple[Tensor, Tensor]]:
    inputs, labels = TASK.data(split)
    return list(zip(inputs.split(100), labels.split(100), strict=True))


def _checked(artifact: Artifact, verification: Verification) -> Record:
    """What the C does, and what it needs."""
    checked, report = verification.exit, artifact.report
    assert checked is not None, "no exit"
    assert checked.accuracy is not None, "no labels"
    assert report.exit is not None, "no exit"
    share = checked.left / checked.samples
    cycles = (report.exit.cycles or 0, report.cycles or 0)
    return {
        "threshold": THRESHOLD,
        "ok": verification.ok,
        "samples": checked.samples,
        "share": _rounded(100 * share),
        "score": _rounded(100 * checked.accuracy),
        "macs": round(share * report.exit.macs + (1 - share) * report.macs),
        "cycles": round(share * cycles[0] + (1 - share) * cycles[1]),
        "flash": report.flash.total,
        "ram": report.ram.total,
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


def main() -> None:
    """Make what is missing."""
    torch.set_num_threads(1)
    for seed in SEEDS:
        if str(seed) in exit_results():
            continue
        found = run(seed)
        print(seed, found, flush=True)
        record = exit_results() | {str(seed): found}
        EXITS.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(exits())


if __name__ == "__main__":
    main()
