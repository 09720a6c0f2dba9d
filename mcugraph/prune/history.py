"""What is known of a training after each epoch; this module does not need torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


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
