"""What every depth cut of a network would cost, before any training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import onnx

from mcugraph.cost import Cost, cost_of
from mcugraph.measure import can_measure
from mcugraph.optimize import Settings, loaded
from mcugraph.passes import cut_depth, qoperator_to_qdq
from mcugraph.passes.cuts import Cut, legal_cuts
from mcugraph.passes.heads import Head, takes
from mcugraph.targets import Target
from mcugraph.targets import load as load_target

SCHEMA_VERSION = 1
# The core for which memory is planned where no target is given.
PLANNED_FOR = "cortex-m0"
FIGURES = ("macs", "flash", "ram", "cycles")


@dataclass(frozen=True)
class CutCost:
    """One place to cut, with the head; sizes in bytes.

    `flash` is constants, with a measured target also code; `ram` is the arena, then also stack;
    `cycles` is None where nothing was measured. `crossing_bytes` is what would cross if the model
    were split there instead. `pareto`: no deeper cut costs as little or less in every figure, depth
    being the stand-in for accuracy. The whole network has no tensor.
    """

    tensor: str
    parameters: int
    flash: int
    macs: int
    ram: int
    cycles: int | None
    crossing_bytes: int
    pareto: bool = False


@dataclass(frozen=True)
class Cuts:
    """The places to cut a network, from front to back, and the network as it is: `whole`.

    `rival`: the network has as many classes, so that it counts as the deepest cut.
    """

    version: int
    head: str
    classes: int
    target: str | None
    rival: bool
    whole: CutCost
    cuts: tuple[CutCost, ...]

    def marked(self, figures: Sequence[str] = FIGURES) -> Cuts:
        """The same with the Pareto front of these figures, among FIGURES and "parameters"."""
        expect_figures(figures)
        deepest = [self.whole] if self.rival else []
        cuts = tuple(
            replace(cut, pareto=not _beaten(cut, [*self.cuts[i + 1 :], *deepest], figures))
            for i, cut in enumerate(self.cuts)
        )
        return replace(self, cuts=cuts)

    def as_json(self) -> dict[str, object]:
        """Plain values for json.dumps."""
        return asdict(self)


def expect_figures(figures: Sequence[str]) -> None:
    """ValueError unless all of these can mark a front."""
    unknown = [repr(name) for name in figures if name not in (*FIGURES, "parameters")]
    if unknown or not figures:
        raise ValueError(
            f"no figure {', '.join(unknown)}: there are {', '.join((*FIGURES, 'parameters'))}"
        )


def find_cuts(
    model: str | Path | onnx.ModelProto,
    classes: int,
    head: str = "dscnn32_16",
    target: str | Target | None = None,
    progress: Callable[[str], None] = lambda stage: None,
) -> Cuts:
    """The cost of cutting a model behind each of its steps and attaching a head.

    With a target each cut is compiled and run on the emulated core. A float model costs what it
    would in int8. Raises LoadError (the model), UnsupportedError (its steps) or ValueError (head,
    target).
    """
    own = qoperator_to_qdq(loaded(model, Settings()))
    machine = target if isinstance(target, Target) else load_target(target or PLANNED_FOR)
    form = Head.parse(head, classes)
    measured = target is not None and can_measure(machine)
    places = [cut for cut in legal_cuts(own) if _has_room(cut, form)]
    costs = []
    for number, cut in enumerate(places, 1):
        progress(f"cut {number} of {len(places)}: {cut.tensor}")
        shorter = cut_depth(own, cut.tensor, form)
        costs.append(
            _priced(cut.tensor, cut.crossing_bytes, cost_of(shorter, machine, measured=measured))
        )
    progress("the whole network")
    whole = _priced("", 0, cost_of(own, machine, measured=measured))
    return Cuts(
        version=SCHEMA_VERSION,
        head=form.name,
        classes=classes,
        target=None if target is None else machine.name,
        rival=_classes_of(own) == classes,
        whole=whole,
        cuts=tuple(costs),
    ).marked()


def _has_room(cut: Cut, head: Head) -> bool:
    """Whether the head fits there, and has something to pool."""
    vector = len(cut.shape) == 2 and head.kind in ("dense", "gap")
    return (cut.image or vector) and takes(head, cut.shape)


def _priced(tensor: str, crossing: int, cost: Cost) -> CutCost:
    return CutCost(
        tensor=tensor,
        parameters=cost.parameters,
        flash=cost.weights if cost.flash is None else cost.flash,
        macs=cost.macs,
        ram=cost.ram,
        cycles=cost.cycles,
        crossing_bytes=crossing,
    )


def _classes_of(model: onnx.ModelProto) -> int | None:
    """The size of the only output of a classifier."""
    if len(model.graph.output) != 1:
        return None
    dims = [dim.dim_value for dim in model.graph.output[0].type.tensor_type.shape.dim]
    return dims[1] if len(dims) == 2 else None


def _beaten(cost: CutCost, deeper: Sequence[CutCost], figures: Sequence[str]) -> bool:
    """Whether one that is deeper, and so more accurate, costs no more in any figure."""
    return any(all(_no_more(other, cost, figure) for figure in figures) for other in deeper)


def _no_more(one: CutCost, other: CutCost, figure: str) -> bool:
    mine, its = getattr(one, figure), getattr(other, figure)
    return mine is None or its is None or mine <= its
