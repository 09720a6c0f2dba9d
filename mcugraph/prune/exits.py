"""Early exits: a head inside the network that answers by itself where it is sure enough.

After Teerapittayanon et al., BranchyNet (ICPR 2016): head and network are trained together, by the
sum of their losses; a sample leaves at the head where its highest probability reaches a threshold.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

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
from mcugraph.prune.checkpoint import seed_all
from mcugraph.prune.given import Model, float_model
from mcugraph.prune.history import Epoch
from mcugraph.prune.network import Network
from mcugraph.prune.processes import joined, rank
from mcugraph.prune.result import Result
from mcugraph.prune.training import Loader, Training, computing, moved
from mcugraph.targets import Target
from mcugraph.targets import load as load_target

THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)


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


def fit_exit(
    model: Model, loader: Loader, early: EarlyExit, training: Training | None = None
) -> ExitResult:
    """Train an early exit, and the network with it.

    `training.evaluate`, where it is a loader, gives the samples that are counted by threshold.
    Raises ValueError where there is no such tensor, or the head does not fit it.
    """
    training = training or Training()
    with joined():
        seed_all(training.seed + rank())
        return _Fit(float_model(model, loader, training), loader, early, training).run()


class _Fit:
    def __init__(
        self, original: ModelProto, loader: Loader, early: EarlyExit, training: Training
    ) -> None:
        self._original, self._loader = original, loader
        self._early, self._training = early, training
        self._plain = logits_form(original)[0]
        classes = early.classes or classes_of(original)
        self._head = Head.parse(early.head, classes, seed=training.seed)
        self._history: list[Epoch] = []

    def run(self) -> ExitResult:
        together = with_heads(self._plain, {self._early.tensor: self._head})
        network: Network = PartlyFrozen(together, new_weights(together, self._plain))
        epochs = self._training.epochs
        alone = max(1, round(self._early.share * epochs)) if self._early.unfreeze else epochs
        rest = max(1, epochs - alone) if self._early.unfreeze else 0
        self._note(network, None, alone + rest)
        self._train(network, alone, alone + rest)
        if rest:
            network = Network(network.to_onnx())
            self._train(network, rest, alone + rest)
        return self._result(network)

    def _train(self, network: Network, epochs: int, whole: int) -> None:
        frozen = isinstance(network, PartlyFrozen)
        teacher = None if frozen else Network(self._plain)
        shares = (0.0, 1.0) if frozen else (1.0, self._early.weight)
        own = replace(self._training, epochs=epochs)
        network.to(self._training.device)
        trainer = SeveralOutputs(network, self._loader, own, teacher, shares)
        for _ in range(epochs):
            self._note(network, trainer.run_epoch(len(self._history) - 1), whole)

    def _note(self, network: Network, loss: float | None, whole: int) -> None:
        """The score is that at the threshold; at first, when the exit knows nothing, of the end."""
        at = self._early.threshold if self._history else 2.0
        found = leaving_of(network.to(self._training.device), self._training, (at,))
        score = found[0].score if found else None
        self._history.append(Epoch(len(self._history), whole, loss, score, {}, {}))
        if rank() == 0:
            self._training.progress(self._history[-1])

    def _result(self, network: Network) -> ExitResult:
        early, own = self._early, with_values(self._original, network)
        head = replace(self._head, weights=head_weights(network, 0, "exit"))
        model = add_exit(own, early.tensor, head, early.threshold)
        machine = early.target if isinstance(early.target, Target) else load_target(early.target)
        shorter = cut_depth(self._plain, early.tensor, replace(self._head, softmax=False))
        macs = (cost_of(shorter, machine).macs, cost_of(model, machine).macs)
        at = sorted({*THRESHOLDS, early.threshold})
        return ExitResult(
            network=Network(model).to(self._training.device).eval(),
            decision=Decision(exit=Exit(early.tensor, self._head, early.threshold)),
            used={},
            limits={},
            history=tuple(self._history),
            target=machine,
            loader=self._loader,
            training=self._training,
            leaving=leaving_of(network, self._training, at, macs),
        )


def leaving_of(
    network: Network,
    training: Training,
    thresholds: Sequence[float],
    macs: tuple[int, int] = (0, 0),
) -> tuple[Leaving, ...]:
    """Count over the evaluation's loader, at each threshold; nothing where there is none.

    `network` gives the logits of its end and of the exit; `macs` are those of a sample that leaves,
    and of one that does not.
    """
    if training.evaluate is None or callable(training.evaluate):
        return ()
    parts = [torch.cat(part) for part in zip(*_answers(network, training), strict=True)]
    return tuple(_leaving(threshold, parts, macs) for threshold in thresholds)


def _answers(network: Network, training: Training) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """(highest probability of the exit, whether it is right, whether the end is), by batch."""
    network.eval()
    assert training.evaluate is not None, "no evaluation"
    assert not callable(training.evaluate), "a function of the network"
    with torch.no_grad(), computing(training):
        for batch in training.evaluate:
            inputs, target = moved(batch, training)
            end, exit_ = network(*inputs)
            sure = exit_.float().softmax(1).amax(1)
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
