"""What pruning decided, as data: which channels stay, where the network ends, what it ends in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from onnx import ModelProto

from mcugraph.decision_file import DecisionError, Exit, read_fields, written
from mcugraph.passes import add_exit, cluster_weights, cut_depth, drop_branches, factorize
from mcugraph.passes._edit import Edit
from mcugraph.passes.channels import ChannelGroup, Channels, find_channels
from mcugraph.passes.heads import Head
from mcugraph.passes.remove_channels import kept_indices, remove_channels

__all__ = ["Decision", "DecisionError", "Exit"]
_PREFIXES = tuple(
    f"cannot {what}:"
    for what in ("drop branches", "remove channels", "factorise", "cluster weights")
)
Weights = Mapping[str, Any] | ModelProto


@dataclass(frozen=True)
class Decision:
    """A pruning of one model, applied in this order: cut, exit, drop, keep, ranks, codebooks.

    `cut` is the tensor behind which `head` replaces the rest of the network. `drop` names branches,
    each by the tensor that is its result and is added to another one. `keep` gives kept indices by
    the name of a weight or tensor, `widths` how many channels that had when it was decided.
    `ranks` and `codebooks` give a number by the name of a weight, to factorize and cluster_weights.
    Names are those of the float model; its quantised form has them with a suffix, and the decision
    applies to that as well (but for ranks, which only float weights have).
    """

    keep: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    widths: Mapping[str, int] = field(default_factory=dict)
    cut: str | None = None
    head: Head | None = None
    exit: Exit | None = None
    ranks: Mapping[str, int] = field(default_factory=dict)
    codebooks: Mapping[str, int] = field(default_factory=dict)
    drop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a head without its cut, and the other way round."""
        if (self.cut is None) != (self.head is None):
            raise ValueError("a cut needs a head, and a head a cut")

    @classmethod
    def of_widths(cls, model: ModelProto, channels: Channels, widths: Sequence[int]) -> Decision:
        """Keep the first channels of each group of a model, as many as its entry in `widths`."""
        keep: dict[str, tuple[int, ...]] = {}
        full: dict[str, int] = {}
        for group, width in zip(channels.groups, widths, strict=True):
            if width < group.width:
                kept = kept_indices(model, group, range(width))
                before = keep.get(group.name, kept)
                keep[group.name] = tuple(index for index in kept if index in set(before))
                full[group.name] = len(kept_indices(model, group, range(group.width)))
        return cls(keep, full)

    @classmethod
    def loads(cls, text: str) -> Decision:
        """Read the JSON of a decision; DecisionError lists everything that is wrong with it."""
        return cls(**read_fields(text))

    @classmethod
    def load(cls, path: str | Path) -> Decision:
        """Read a file; DecisionError as `loads`, or that it can't be read."""
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            raise DecisionError([f"cannot read {path}: {why}"]) from None
        try:
            return cls.loads(text)
        except DecisionError as error:
            raise DecisionError(f"{path}: {problem}" for problem in error.problems) from None

    def dumps(self) -> str:
        """The JSON of this decision; the weights of a head are not part of it."""
        return written({each.name: getattr(self, each.name) for each in fields(self)})

    def save(self, path: str | Path) -> None:
        """Write the JSON to a file."""
        Path(path).write_text(self.dumps(), encoding="utf-8")

    def check(self, model: ModelProto) -> tuple[str, ...]:
        """Everything that keeps this decision from being applied to a model, a line each."""
        return _Application(self, model, None).problems

    def apply(self, model: ModelProto, head: Weights | None = None) -> ModelProto:
        """The pruned model; `head` holds trained weights for the heads, by their names.

        Raises DecisionError with all problems, and then leaves nothing behind.
        """
        done = _Application(self, model, head)
        if done.problems:
            raise DecisionError(done.problems)
        return done.model


class _Application:
    """A decision applied as far as possible: the model, and what was wrong on the way."""

    def __init__(self, decision: Decision, model: ModelProto, head: Weights | None) -> None:
        self.model = model
        self._decision = decision
        self._head = head
        self._problems: list[str] = []
        cut, leave, form = decision.cut, decision.exit, decision.head
        if cut is not None and form is not None:
            self._try("cut", lambda now: cut_depth(now, cut, self._filled(form)))
        if leave is not None:
            own = self._filled(leave.head)
            self._try("exit", lambda now: add_exit(now, leave.tensor, own, leave.threshold))
        if decision.drop:
            self._try("drop", lambda now: drop_branches(now, decision.drop))
        if decision.keep:
            self._remove(model)
        if decision.ranks:
            self._try("ranks", lambda now: factorize(now, decision.ranks))
        if decision.codebooks:
            self._try("codebooks", lambda now: cluster_weights(now, decision.codebooks))

    @property
    def problems(self) -> tuple[str, ...]:
        """All of them, in the order of the stages."""
        return tuple(self._problems)

    def _filled(self, head: Head) -> Head:
        return head if self._head is None else replace(head, weights=self._head)

    def _try(self, stage: str, rewrite: Callable[[ModelProto], ModelProto]) -> None:
        """One stage; where it is impossible, the next goes on with what there was before."""
        try:
            self.model = rewrite(self.model)
        except ValueError as error:
            text = str(error)
            for prefix in _PREFIXES:
                text = text.removeprefix(prefix)
            self._problems += [f"{stage}: {line}" for line in text.strip().splitlines()]

    def _gone(self) -> str:
        """Where a group of the original is that is no more."""
        cut, drop = self._decision.cut, self._decision.drop
        places = [f"behind the cut at {cut}"] if cut is not None else []
        places += [f"in a branch that goes ({', '.join(drop)})"] if drop else []
        return f"lies {' or '.join(places)}"

    def _remove(self, original: ModelProto) -> None:
        """All anchors whose width is what it was; the others are problems."""
        fitting = {}
        channels, edit = find_channels(self.model), Edit(self.model)
        before = channels if self.model is original else find_channels(original)
        for name, kept in self._decision.keep.items():
            group, lost = _found(channels, name), _found(before, name)
            width = self._decision.widths.get(name)
            if group is None and lost is not None:
                self._problems.append(f"keep: {name!r} {self._gone()}")
            elif group is not None and width not in (None, *_widths(edit, group, name)):
                has = _widths(edit, group, name)[0]
                self._problems.append(
                    f"keep: {name!r} has {has} channels here, and had {width} when this was decided"
                )
            else:
                fitting[name] = kept
        self._try("keep", lambda now: remove_channels(now, fitting))


def _found(channels: Channels, name: str) -> ChannelGroup | None:
    try:
        return channels.group(name)
    except ValueError:
        return None


def _widths(edit: Edit, group: ChannelGroup, name: str) -> tuple[int, ...]:
    """How many channels an anchor may be said to have: the length of its axis, or its group's."""
    alike = (name, f"{name}_quantized", name.removesuffix("_quantized"))
    axes = [place for place in group.places if place.name in alike]
    lengths = [(edit.shape(place.name) or ())[place.axis] for place in axes]
    return (*(length for length in lengths if length is not None), group.width)
