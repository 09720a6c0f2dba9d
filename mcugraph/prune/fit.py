"""State the budget, get the network: prune while training, or before, until the compiler agrees."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from difflib import get_close_matches
from typing import Any

from onnx import ModelProto

from mcugraph.prune import at_init
from mcugraph.prune.at_init import Planned
from mcugraph.prune.course import Course, Stage
from mcugraph.prune.given import Model, float_model
from mcugraph.prune.goal import Goal
from mcugraph.prune.network import Network
from mcugraph.prune.processes import joined
from mcugraph.prune.pruner import BudgetPruner
from mcugraph.prune.result import Result
from mcugraph.prune.rules import Rules, Schedule
from mcugraph.prune.training import Loader, Trainer, Training, score_of
from mcugraph.targets import Target
from mcugraph.targets import load as load_target

MODES = ("differentiable", *at_init.MODES)


@dataclass(frozen=True)
class Pruning:
    """How a network is pruned, and for which machine.

    `mode` is differentiable (while it is trained, by `schedule` and `rules`), or one of those that
    narrow it before: complexity (drawn by cost), init (what saves most), uniform (all alike). The
    schedule's steps are those of the training.
    """

    target: str | Target = "cortex-m0"
    mode: str = "differentiable"
    schedule: Schedule = field(default_factory=lambda: Schedule(0))
    rules: Rules = field(default_factory=Rules)

    def __post_init__(self) -> None:
        """Refuse an unknown mode."""
        if self.mode not in MODES:
            near = get_close_matches(self.mode, MODES, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ValueError(f"mode '{self.mode}': there are {', '.join(MODES)}{hint}")

    @property
    def machine(self) -> Target:
        """The target itself."""
        return self.target if isinstance(self.target, Target) else load_target(self.target)


def fit(
    model: Model,
    loader: Loader,
    budget: str | Goal,
    training: Training | None = None,
    pruning: Pruning | None = None,
) -> Result:
    """Train a network so that it is within a budget such as ram=12KB,macs=3M at the end.

    `model` is a torch module, trained or not, or a float ONNX model or file; `loader` gives batches
    (inputs..., target). Goes on from `training.checkpoint` where that file is there. Under torchrun
    all processes train together, each on the batches of its own loader. Seeds torch, numpy and
    random: for a seed, the result is the same every time. Raises ValueError where an option is
    wrong or the budget is out of reach.
    """
    training, pruning = training or Training(), pruning or Pruning()
    goal = Goal.of(budget)
    with joined():
        return _Fit(float_model(model, loader, training), loader, goal, training, pruning).run()


class _Fit:
    """One run, from the model that it began with."""

    def __init__(
        self,
        original: ModelProto,
        loader: Loader,
        goal: Goal,
        training: Training,
        pruning: Pruning,
    ) -> None:
        self._goal, self._training, self._pruning = goal, training, pruning
        purpose = purpose_of(goal, pruning)
        self._course = Course(original, loader, training, goal.limits, purpose)
        self._pruner = self._start()
        self._pruner.to(training.device)

    def run(self) -> Result:
        """Train what is left of the epochs."""
        course, pruner = self._course, self._pruner
        try:
            course.begin(pruner.usage(), lambda: self._score(Network(course.model)))
            course.run(
                Stage(
                    learner=pruner,
                    trainer=self._trainer,
                    until=self._training.epochs,
                    used=lambda last: used_by(pruner, final=last),
                    score=lambda: self._score(pruner.network),
                )
            )
        finally:
            pruner.close()
        return Result(
            network=pruner.network.eval(),
            decision=pruner.decision(),
            used=course.history[-1].used,
            limits=self._goal.limits,
            history=tuple(course.history),
            target=pruner.resources.machine,
            loader=course.loader,
            training=self._training,
            objective=self._goal.objective,
        )

    def _start(self) -> BudgetPruner | Planned:
        steps = self._training.epochs * len(self._course.loader)
        return pruner_of(self._course.model, self._goal, self._pruning, steps, self._training.seed)

    def _trainer(self) -> Trainer:
        teacher = Network(self._course.model)
        return Trainer(self._pruner, self._course.loader, self._training, teacher)

    def _score(self, network: Network) -> float | None:
        return score_of(network.to(self._training.device), self._training)


def pruner_of(
    model: ModelProto, goal: Goal, pruning: Pruning, steps: int, seed: int
) -> BudgetPruner | Planned:
    """What narrows a model, in so many steps or before them."""
    machine, schedule = pruning.machine, replace(pruning.schedule, steps=steps)
    if pruning.mode != "differentiable":
        return Planned(model, machine, goal, pruning.mode, seed)
    return BudgetPruner(model, None, goal, schedule, target=machine, rules=pruning.rules)


def used_by(pruner: BudgetPruner | Planned, *, final: bool) -> dict[str, float]:
    """What a network takes of each resource: by the present plan, or as it is in the end."""
    return pruner.resources.exact(final=True) if final else pruner.usage()


def purpose_of(goal: Goal, pruning: Pruning) -> dict[str, Any]:
    """What of a pruning has to be the same for a checkpoint to be of use."""
    return {
        "budget": {**goal.limits, "objective": goal.objective},
        "target": pruning.machine.name,
        "mode": pruning.mode,
        "schedule": asdict(pruning.schedule),
        "rules": asdict(pruning.rules),
    }
