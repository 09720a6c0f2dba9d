"""Read the network graphs of ../shared/data/graphs: operators and shapes without weights."""

import json
from dataclasses import dataclass
from math import prod
from pathlib import Path

from mcugraph.order import Item, Problem


@dataclass(frozen=True)
class Op:
    """One operator; pairs are (height, width). The kernel is the effective one: dilated."""

    name: str
    kind: str  # add concat conv dw fc gap pool relu softmax transpose wsum
    inputs: tuple[str, ...]
    output: str
    kernel: tuple[int, int]
    stride: tuple[int, int]
    pad_begin: tuple[int, int]
    pad_end: tuple[int, int] | None  # conv, dw and pool have it
    dilation: int
    macs: int


@dataclass(frozen=True)
class GraphFile:
    """Operators in the order of the file; the shape of each tensor is (H, W, C), one byte each."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    tensors: dict[str, tuple[int, int, int]]
    ops: tuple[Op, ...]

    def problem(self) -> Problem:
        """Return the order problem: every tensor by itself, nothing in place, no scratch."""
        producers = {op.output: k for k, op in enumerate(self.ops)}
        readers: dict[str, set[int]] = {name: set() for name in self.tensors}
        for k, op in enumerate(self.ops):
            for name in op.inputs:
                readers[name].add(k)
        items = tuple(
            Item(n, prod(shape), producers.get(n), frozenset(readers[n]), n in self.outputs)
            for n, shape in self.tensors.items()
        )
        return Problem(len(self.ops), items, (0,) * len(self.ops))


def load_graph(path: Path) -> GraphFile:
    """Read one file."""
    data = json.loads(path.read_text(encoding="utf-8"))
    tensors = {name: tuple(shape) for name, shape in data["tensors"].items()}
    ops = tuple(_op(fields) for fields in data["ops"])
    return GraphFile(data["name"], tuple(data["inputs"]), tuple(data["outputs"]), tensors, ops)


def _op(fields: dict) -> Op:
    return Op(
        name=fields["name"],
        kind=fields["op"],
        inputs=tuple(fields["ins"]),
        output=fields["out"],
        kernel=tuple(fields["k"]),
        stride=tuple(fields["s"]),
        pad_begin=tuple(fields["p"]),
        pad_end=tuple(fields["pe"]) if "pe" in fields else None,
        dilation=fields.get("dil", 1),
        macs=fields.get("macs", 0),
    )
