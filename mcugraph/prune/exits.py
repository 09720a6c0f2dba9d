"""Early exits: a head inside the network that answers by itself where it is sure enough.

After Teerapittayanon et al., BranchyNet (ICPR 2016): head and network are trained together, by the
sum of their losses; a sample leaves at the head where its highest probability reaches a threshold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from onnx import ModelProto
from torch import Tensor

from mcugraph.cost import cost_of
from mcugraph.decision import Decision, Exit
from mcugraph.passes import add_exit, cut_depth
from mcugraph.passes.heads import Head
from mcugraph.prune.attached import (
    PartlyFrozen,
    SeveralOutputs,
    classes_of,
    head_weights,
    logits_form,
    new_weights,
    with_heads,
    with_values,
)
from mcugraph.prune.course import Course, Lasting, Stage, split_epochs
from mcugraph.prune.cut_choice import usage_of
from mcugraph.prune.given import Model, float_model
from mcugraph.prune.goal import Goal
from mcugraph.prune.network import Network
from mcugraph.prune.processes import joined
from mcugraph.prune.result import Result
from mcugraph.prune.training import Loader, Trainer, Training, computing, moved
from mcugraph.targets import Target
from mcugraph.targets import load as load_target

THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
# No probability reaches it.
NEVER = 2.0
Shares = Callable[[Tensor], Tensor]


def probabilities(logits: Tensor) -> Tensor:
    """Shares that add up to 1 in each row."""
    return logits.float().softmax(1)


@dataclass(frozen=True)
class EarlyExit:
    """Where samples may leave, in what head, and at which probability.

    The head is trained alone for the first `share` of the epochs, then, unless `unfreeze` is off,
    with the network: `weight` is what its loss counts beside that of the network's end.
    """

    tensor: str
    head: str = "dscnn32_16"
    classes: int | None = None
    threshold: float = 0.9
    unfreeze: bool = True
    share: float = 0.25
    weight: float = 0.5
    target: str | Target = "cortex-m0"

    def __post_init__(self) -> None:
        """Refuse what can't be meant."""
        if not 0 < self.share < 1:
            raise ValueError(f"share={self.share}: a part of the epochs, above 0, below 1")
        if self.weight <= 0:
            raise ValueError(f"weight={self.weight}: above 0")

    @property
    def machine(self) -> Target:
        """The target itself."""
        return self.target if isinstance(self.target, Target) else load_target(self.target)

    def epochs(self, whole: int) -> tuple[int, int]:
        """How many epochs the head is trained alone, and what remains after that."""
        return split_epochs(whole, self.share) if self.unfreeze else (whole, 0)

    def as_purpose(self) -> dict[str, Any]:
        """What has to be the same for a checkpoint to be of use."""
        return {**vars(self), "target": self.machine.name}


@dataclass(frozen=True)
class Leaving:
    """What an exit does at a threshold; None where no sample is concerned.

    `share` of the samples leaves there, `early` of these and `late` of the others are right, and
    `score` of all: in percent. `macs` is the mean over all samples.
    """

    threshold: float
    share: float
    early: float | None
    late: float | None
    score: float
    macs: float


@dataclass(frozen=True)
class ExitResult(Result):
    """A network of two outputs, its end and the exit, and what leaves at each threshold."""

    leaving: tuple[Leaving, ...]
    threshold: float = field(kw_only=True)

    def score(self, network: Network) -> float | None:
        """What all get right, those that leave and those that don't."""
        own = network.to(self.training.device)
        found = leaving_of(own, self.training, (self.threshold,), shares=Tensor.float)
        return found[0].score if found else None


def fit_exit(
    model: Model,
    loader: Loader,
    early: EarlyExit,
    training: Training | None = None,
    budget: str | Goal | None = None,
) -> ExitResult:
    """Train an early exit, and the network with it.

    `training.evaluate`, where it is a loader, gives the samples that are counted by threshold. Goes
    on from `training.checkpoint` and runs under torchrun as `fit` does. Raises ValueError where
    there is no such tensor, the head does not fit it, or all of it is over the budget.
    """
    training = training or Training()
    goal = Goal() if budget is None else Goal.of(budget)
    with joined():
        model = float_model(model, loader, training)
        training = replace(training, epochs=sum(early.epochs(training.epochs)))
        limits = {**goal.limits, "objective": goal.objective}
        purpose = {"budget": limits, "exit": early.as_purpose()}
        return _Fit(Course(model, loader, training, goal.limits, purpose), goal, early).run()


class _Fit:
    def __init__(self, course: Course, goal: Goal, early: EarlyExit) -> None:
        self._course, self._goal, self._early = course, goal, early
        self._training = course.training
        self._plain = logits_form(course.model)[0]
        classes = early.classes or classes_of(course.model)
        self._head = Head.parse(early.head, classes, seed=self._training.seed)
        whole = self._whole(course.model)
        self._used = usage_of(whole, early.machine, goal.limits, goal.objective)
        over = [name for name, limit in goal.limits.items() if self._used[name] > limit]
        if over:
            told = ", ".join(f"{name} is {self._used[name]:,.0f}" for name in over)
            raise ValueError(
                f"with the exit the network is over the budget: {told}; raise it, take a smaller "
                "head, or prune the network first"
            )

    def run(self) -> ExitResult:
        alone, rest = self._early.epochs(self._training.epochs)
        together = with_heads(self._plain, {self._early.tensor: self._head})
        network: Network = PartlyFrozen(together, new_weights(together, self._plain))
        network.to(self._training.device)
        goal, model = self._goal, self._course.model
        unchanged = usage_of(model, self._early.machine, goal.limits, goal.objective)
        # At first the exit knows nothing.
        self._course.begin(unchanged, lambda: self._score(network, NEVER))
        self._course.run(self._stage(network, alone, until=alone))
        if rest:
            network = Network(network.to_onnx()).to(self._training.device)
            self._course.run(self._stage(network, rest, until=alone + rest))
        return self._result(network)

    def _stage(self, network: Network, epochs: int, until: int) -> Stage:
        frozen = isinstance(network, PartlyFrozen)
        shares = (0.0, 1.0) if frozen else (1.0, self._early.weight)
        own = replace(self._training, epochs=epochs)

        def trainer() -> Trainer:
            teacher = None if frozen else Network(self._plain)
            return SeveralOutputs(network, self._course.loader, own, teacher, shares)

        return Stage(
            learner=Lasting(network),
            trainer=trainer,
            until=until,
            used=lambda _: self._used,
            score=lambda: self._score(network, self._early.threshold),
        )

    def _score(self, network: Network, threshold: float) -> float | None:
        found = leaving_of(network, self._training, (threshold,))
        return found[0].score if found else None

    def _whole(self, model: ModelProto, head: Head | None = None) -> ModelProto:
        """A model with the exit."""
        return add_exit(model, self._early.tensor, head or self._head, self._early.threshold)

    def _result(self, network: Network) -> ExitResult:
        early, course = self._early, self._course
        head = replace(self._head, weights=head_weights(network, 0, "exit"))
        model = self._whole(with_values(course.model, network), head)
        shorter = cut_depth(self._plain, early.tensor, replace(self._head, softmax=False))
        macs = (cost_of(shorter, early.machine).macs, cost_of(model, early.machine).macs)
        at = sorted({*THRESHOLDS, early.threshold})
        return ExitResult(
            network=Network(model).to(self._training.device).eval(),
            decision=Decision(exit=Exit(early.tensor, self._head, early.threshold)),
            used=self._used,
            limits=self._goal.limits,
            history=tuple(course.history),
            target=early.machine,
            loader=course.loader,
            training=self._training,
            leaving=leaving_of(network, self._training, at, macs),
            objective=self._goal.objective,
            threshold=early.threshold,
        )


def leaving_of(
    network: Network,
    training: Training,
    thresholds: Sequence[float],
    macs: tuple[int, int] = (0, 0),
    shares: Shares = probabilities,
) -> tuple[Leaving, ...]:
    """Count over the evaluation's loader, at each threshold; nothing where there is none.

    `network` gives the logits of its end and of the exit, which `shares` makes probabilities;
    `macs` are those of a sample that leaves, and of one that does not.
    """
    if training.evaluate is None or callable(training.evaluate):
        return ()
    parts = [torch.cat(part) for part in zip(*_answers(network, training, shares), strict=True)]
    return tuple(_leaving(threshold, parts, macs) for threshold in thresholds)


def _answers(
    network: Network, training: Training, shares: Shares
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """(highest probability of the exit, whether it is right, whether the end is), by batch."""
    network.eval()
    assert training.evaluate is not None, "no evaluation"
    assert not callable(training.evaluate), "a function of the network"
    with torch.no_grad(), computing(training):
        for batch in training.evaluate:
            inputs, target = moved(batch, training)
            end, exit_ = network(*inputs)
            sure = shares(exit_).amax(1)
            yield sure.cpu(), (exit_.argmax(1) == target).cpu(), (end.argmax(1) == target).cpu()


def _leaving(threshold: float, parts: Sequence[Tensor], macs: tuple[int, int]) -> Leaving:
    sure, early, late = parts
    leaves = sure >= threshold
    share = float(leaves.float().mean())
    return Leaving(
        threshold=threshold,
        share=100 * share,
        early=_percent(early[leaves]),
        late=_percent(late[~leaves]),
        score=_percent(torch.where(leaves, early, late)) or 0.0,
        macs=share * macs[0] + (1 - share) * macs[1],
    )


def _percent(right: Tensor) -> float | None:
    return 100 * float(right.float().mean()) if len(right) else None
