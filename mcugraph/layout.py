"""Memory order of every tensor: channel-last where it counts, so that a CNN moves no data.

A Transpose or Reshape whose result has the same bytes as its input becomes a view of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import prod

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from mcugraph.errors import UnsupportedError
from mcugraph.graph import Graph, Step

VIEWS = frozenset({"Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})
# Operators over the spatial axes: their tensors are channel-last.
SPATIAL = frozenset(
    """AveragePool BatchNormalization Conv ConvTranspose DepthToSpace GlobalAveragePool
    GlobalMaxPool InstanceNormalization LRN MaxPool Resize SpaceToDepth""".split()
)
# Operators that need the row-major order of the ONNX shape.
ROW_MAJOR = frozenset({"Gather", "Gemm", "LayerNormalization", "MatMul", "GRU", "LSTM", "RNN"})


@dataclass(frozen=True)
class Layout:
    """Memory holds the tensor reshaped to `dims`, its axes in `order`."""

    dims: tuple[int, ...]
    order: tuple[int, ...]

    @classmethod
    def row_major(cls, shape: tuple[int, ...]) -> Layout:
        """The order of the ONNX shape."""
        return cls(shape, tuple(range(len(shape))))

    @classmethod
    def channel_last(cls, shape: tuple[int, ...]) -> Layout:
        """[N, C, spatial...] with C innermost; row-major below rank 3."""
        axes = tuple(range(len(shape)))
        return cls(shape, axes if len(shape) < 3 else (0, *axes[2:], 1))

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape in memory, outermost axis first."""
        return tuple(self.dims[axis] for axis in self.order)

    def index(self) -> NDArray[np.intp]:
        """For each place in memory, the row-major position of its element."""
        return np.arange(prod(self.dims)).reshape(self.dims).transpose(self.order).ravel()

    def to_memory(self, values: NDArray[np.generic]) -> NDArray[np.generic]:
        """The elements of an ONNX tensor in memory order, flat."""
        return values.reshape(self.dims).transpose(self.order).ravel()

    def from_memory(
        self, values: NDArray[np.generic], shape: tuple[int, ...]
    ) -> NDArray[np.generic]:
        """The ONNX tensor of the given shape from its flat memory."""
        return values.reshape(self.shape).transpose(np.argsort(self.order)).reshape(shape)

    def same_memory(self, other: Layout) -> bool:
        """Whether both place every element of the same row-major tensor alike."""
        return np.array_equal(self.index(), other.index())


@dataclass(frozen=True)
class Part:
    """Where a tensor that is computed inside a wider one, `whole`, stands: from byte `offset` on.

    Its pixels, of `pixel` bytes, are `step` bytes apart and its rows are those of the whole; with
    a step of 0 it is one run of bytes, and if not `aligned` its rows are others than the whole's.
    """

    whole: str
    offset: int
    pixel: int
    step: int
    aligned: bool


@dataclass(frozen=True)
class Layouts:
    """The layout of every run-time tensor, and where those without a buffer of their own stand.

    `views` gives the tensor that holds a view's bytes; `parts` are written inside another tensor.
    """

    of: Mapping[str, Layout]
    views: Mapping[str, str]
    parts: Mapping[str, Part] = field(default_factory=dict)

    def holder(self, name: str) -> str:
        """The tensor that has the bytes of `name` in the same order."""
        while name in self.views:
            name = self.views[name]
        return name

    def part(self, name: str) -> Part | None:
        """Where `name` stands inside of a wider tensor, if it does."""
        return self.parts.get(self.holder(name))

    def root(self, name: str) -> str:
        """The tensor whose buffer holds `name`."""
        part = self.part(name)
        return self.holder(name) if part is None else part.whole

    def reads(self, graph: Graph, step: Step) -> tuple[str, ...]:
        """The run-time tensors that a step reads: not those computed inside of its own output."""
        own = {self.root(name) for name in step.outputs if name}
        return tuple(name for name in graph.activations(step) if self.root(name) not in own)


def layouts_of(graph: Graph) -> Layouts:
    """Choose channel-last or row-major for each set of tensors that must agree, then find views.

    Raises UnsupportedError where one set of tensors would need both orders.
    """
    last = _channel_last_tensors(graph)
    runtime = [t for t in graph.tensors.values() if t.data is None]
    of = {
        t.name: (Layout.channel_last if t.name in last else Layout.row_major)(t.shape)
        for t in runtime
    }
    views: dict[str, str] = {}
    for step in graph.steps:
        if step.op in VIEWS:
            _view(graph, step, of, views)
    return Layouts(of, views)


def _channel_last_tensors(graph: Graph) -> set[str]:
    """Tensors that must be channel-last: those of spatial operators, and all that agree."""
    agree: nx.Graph[str] = nx.Graph()
    spatial: set[str] = set()
    row_major: dict[str, Step] = {}
    for step in graph.steps:
        names = [n for n in (*graph.activations(step), *step.outputs) if n]
        agree.add_nodes_from(names)
        if step.op in SPATIAL:
            spatial.update(names)
        elif step.op in ROW_MAJOR:
            row_major.update({n: step for n in names if len(graph.tensors[n].shape) > 2})
        elif step.op not in VIEWS:
            _agree(agree, graph, names)
    chosen: set[str] = set()
    for component in nx.connected_components(agree):
        if component & spatial:
            chosen |= component
            _refuse_both_orders(component, row_major)
    return chosen


def _agree(agree: nx.Graph[str], graph: Graph, names: Iterable[str]) -> None:
    """Tensors of the same rank in one element-wise step share their order."""
    by_rank: dict[int, str] = {}
    for name in names:
        first = by_rank.setdefault(len(graph.tensors[name].shape), name)
        agree.add_edge(first, name)


def _refuse_both_orders(component: set[str], row_major: Mapping[str, Step]) -> None:
    clash = sorted(component & row_major.keys())
    if clash:
        step = row_major[clash[0]]
        raise UnsupportedError(
            [
                f"{step.name}: {step.op} reads {clash[0]} in row-major order, but a spatial "
                "operator makes it channel-last; put a Reshape or Transpose between them"
            ]
        )


def _view(graph: Graph, step: Step, of: dict[str, Layout], views: dict[str, str]) -> None:
    source, output = step.inputs[0], step.output
    if graph.tensors[source].data is not None or not _same_values(graph, source, output):
        return
    placed = _through(graph, step, of[source])
    if placed.same_memory(of[output]):
        views[output] = source
    elif step.op != "Transpose" and _absorbed(graph, output):
        of[output] = placed
        views[output] = source


def _same_values(graph: Graph, source: str, output: str) -> bool:
    """Whether equal bytes mean equal real values."""
    a, b = graph.tensors[source], graph.tensors[output]
    unscaled = a.quant is None and b.quant is None
    return a.dtype == b.dtype and (unscaled or (a.quant is not None and a.quant.same(b.quant)))


def _through(graph: Graph, step: Step, layout: Layout) -> Layout:
    """The layout that the result has if it shares the bytes of an input with this layout."""
    if step.op != "Transpose":
        return layout
    shape = graph.tensors[step.inputs[0]].shape
    axes = step.attributes.get("perm", list(range(len(shape)))[::-1])
    assert isinstance(axes, list), f"{step.name}: perm {axes!r}"
    if layout.dims != shape:
        return Layout.row_major(())
    return Layout(graph.tensors[step.output].shape, tuple(axes.index(a) for a in layout.order))


def _absorbed(graph: Graph, name: str) -> bool:
    """Whether each reader has constant weights that can be permuted instead."""
    readers = graph.consumers.get(name, ())
    if not readers or name in graph.outputs:
        return False
    return all(_permutes_weights(graph, step, name) for step in readers)


def _permutes_weights(graph: Graph, step: Step, name: str) -> bool:
    if step.op not in {"Gemm", "MatMul"} or step.inputs[0] != name:
        return False
    plain = not step.attributes.get("transA") and graph.tensors[name].shape[0] == 1
    return plain and len(graph.tensors[name].shape) == 2 and graph.constant(step, 1) is not None
