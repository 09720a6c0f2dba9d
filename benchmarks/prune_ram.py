"""ResNet-8 within the RAM of a small part: layer by layer, and streamed row by row.

    python benchmarks/prune_ram.py          # all runs that results/prune_ram.json lacks
    python benchmarks/prune_ram.py 0        # those of one seed

The limit is the arena of the emitted C for a Cortex-M0, with everything in it: input, output and
working memory; rows that are spent are overwritten in both cases. Layer by layer, no two layers
take turns. Variants, of the same base, data, recipe and CPU seconds (one thread): pruned to the RAM
itself; pruned to the greatest share of the MACs whose network happens to keep the limit, found by
bisection of runs that only prune, which are not counted; Torch-Pruning (group-L2, all layers
alike) at the lowest ratio that keeps it, trained by the same loop. Needs torch-pruning (the extra
`peers`).
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from functools import cache
from typing import Any

import torch
import torch_pruning
from budget_points import CASES, Timed, figures, float_accuracy, int8_accuracy, recipe
from onnx import ModelProto
from points_table import RAM, WHOLE, ram_table, results

from mcugraph.cost import cost_of
from mcugraph.optimize import Settings, optimize
from mcugraph.prune.export import from_torch
from mcugraph.prune.fit import Pruning, fit
from mcugraph.prune.goal import Goal
from mcugraph.prune.network import Network
from mcugraph.prune.qat import quantized
from mcugraph.prune.result import Result
from mcugraph.prune.training import Still, Trainer

TARGET = "cortex-m0"
CASE = replace(CASES["resnet8"], seconds=40)
GOALS = {
    "24 KB layer by layer": Goal(arena=24 << 10, objective="cycles"),
    "8 KB streamed": Goal(arena=8 << 10),
}
SEEDS = (0, 1, 2)
# Runs that only prune, and the share of all MACs that they start with.
TRIES, LEAST = 5, 0.15


def unpruned(goal: Goal, seed: int) -> Network:
    """The base."""
    return Network(_original())


def to_ram(goal: Goal, seed: int) -> Network:
    """Pruned to the RAM itself."""
    return _fitted(goal, seed, short=False).network


def to_macs(goal: Goal, seed: int) -> Network:
    """Pruned to MACs, the most that keep the limit."""
    low, high = LEAST, 1.0
    for _ in range(TRIES):
        share = (low + high) / 2
        kept = _keeps(_fitted(_macs(goal, share), seed, short=True).network, goal)
        low, high = (share, high) if kept else (low, share)
    network = _fitted(_macs(goal, low), seed, short=False).network
    return network if _keeps(network, goal) else to_fewer(goal, seed, low)


def to_fewer(goal: Goal, seed: int, share: float) -> Network:
    """The same run again to somewhat fewer MACs: what goes differs a little by the clock."""
    while True:
        share *= 0.97
        network = _fitted(_macs(goal, share), seed, short=False).network
        if _keeps(network, goal):
            return network


def by_torch_pruning(goal: Goal, seed: int) -> Network:
    """Torch-Pruning's widths and weights, trained as ours are."""
    loader = Timed(CASE, CASE.seconds, seed)
    network = Network(_thinned(goal))
    torch.manual_seed(seed)
    teacher = Network(_original())
    Trainer(Still(network), loader, recipe(CASE, loader, seed), teacher).run_epoch(0)
    return network.eval()


VARIANTS = {
    WHOLE: unpruned,
    "pruned to the RAM": to_ram,
    "pruned to MACs": to_macs,
    "Torch-Pruning": by_torch_pruning,
}


def _fitted(goal: Goal, seed: int, *, short: bool) -> Result:
    loader = Timed(CASE, CASE.seconds, seed, short=short)
    pruning = Pruning(TARGET, schedule=CASE.schedule, rules=CASE.rules)
    return fit(CASE.base().train(), loader, goal, recipe(CASE, loader, seed), pruning)


def _macs(goal: Goal, share: float) -> Goal:
    macs = cost_of(_original(), TARGET).macs
    return Goal(macs=int(share * macs), objective=goal.objective)


def _keeps(network: Network, goal: Goal) -> bool:
    return _arena(network.to_onnx(), goal) <= goal.arena


def _arena(model: ModelProto, goal: Goal) -> int:
    return cost_of(model, TARGET, settings=Settings(objective=goal.objective)).ram


@cache
def _original() -> ModelProto:
    return from_torch(CASE.base(), CASE.example)


@cache
def _thinned(goal: Goal) -> ModelProto:
    """What Torch-Pruning makes of the base at the lowest ratio that keeps the limit."""
    low, high = 0, 95
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (
            (low, middle) if _arena(_without(middle), goal) <= goal.arena else (middle, high)
        )
    return _without(high)


def _without(percent: int) -> ModelProto:
    model = CASE.base()
    torch_pruning.pruner.MagnitudePruner(
        model,
        CASE.example,
        importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
        pruning_ratio=percent / 100,
        ignored_layers=[model.fc],
    ).step()
    return from_torch(model, CASE.example)


def run(limit: str, variant: str, seed: int) -> dict[str, Any]:
    """Train one variant; what its C takes, and how good it is."""
    goal = GOALS[limit]
    network = VARIANTS[variant](goal, seed)
    int8 = quantized(network.to_onnx(), recipe(CASE, Timed(CASE, 0, 0), 0).calibration)
    settings = Settings(name="network", objective=goal.objective)
    artifact = optimize(int8, TARGET, settings)
    used = figures(artifact)
    assert variant == WHOLE or used["arena"] <= goal.arena, f"{used} above {goal.arena}"
    found = {"float": float_accuracy(CASE, network), "used": used}
    # One seed is enough to see that int8 costs nothing.
    return found | ({} if seed else {"calibrated": int8_accuracy(CASE, int8, artifact)})


def main(seeds: list[int]) -> None:
    """Run what is missing, in the order of the seeds."""
    torch.set_num_threads(1)
    CASE.data("train"), CASE.data("test")
    for seed in seeds or SEEDS:
        for limit in GOALS:
            for variant in VARIANTS:
                _once(limit, variant, seed)
    print(ram_table())


def _once(limit: str, variant: str, seed: int) -> None:
    known = results(RAM).get(limit, {}).get(variant, {})
    # Of what is not pruned, one run says it all.
    if str(seed) in known or (seed and variant == WHOLE):
        return
    found = run(limit, variant, seed)
    print(limit, variant, seed, found, flush=True)
    known = results(RAM)
    known.setdefault(limit, {}).setdefault(variant, {})[str(seed)] = found
    RAM.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main([int(seed) for seed in sys.argv[1:]])
