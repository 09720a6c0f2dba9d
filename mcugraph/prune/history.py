"""What is known of a training after each epoch; this module does not need torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Epoch:
    """Epoch `number` of `epochs`, counted from 1, or 0 for the network before any training.

    `loss` is the mean over the training batches, `score` what the evaluation says (percent of right
    labels, unless the user's own function says something else), `used` the present plan's need of
    each resource that `limits` names.
    """

    number: int
    epochs: int
    loss: float | None
    score: float | None
    used: Mapping[str, float]
    limits: Mapping[str, int]

    @property
    def met(self) -> bool:
        """Whether every limit is kept."""
        return all(self.used[name] <= limit for name, limit in self.limits.items())


@dataclass(frozen=True)
class Outcome:
    """What became of a recipe: the figures of the emitted C, and where everything was written.

    `used` is measured on the C, `before` what the unpruned network takes by its plan. `scores` are
    those of the unpruned, the pruned float and the int8 network, and of the C; `verified` says that
    the C agrees with onnxruntime; `left` is the percentage of samples that leave it early, if it
    has an exit.
    """

    target: str
    limits: Mapping[str, int]
    used: Mapping[str, float]
    before: Mapping[str, float]
    scores: Mapping[str, float | None]
    verified: bool
    folder: str
    files: Mapping[str, str]
    history: tuple[Epoch, ...]
    left: float | None = None

    @property
    def met(self) -> bool:
        """Whether every limit is kept."""
        return all(self.used[name] <= limit for name, limit in self.limits.items())

    def as_json(self) -> dict[str, object]:
        """Plain values for json.dumps."""
        return {"schema_version": SCHEMA_VERSION, "met": self.met, **asdict(self)}
