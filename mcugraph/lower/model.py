"""All steps of a graph to kernel calls, or all reasons why not."""

from __future__ import annotations

from collections.abc import Iterator

from mcugraph.ctext import C_TYPES
from mcugraph.errors import UnsupportedError
from mcugraph.exits import exit_problems
from mcugraph.graph import Graph
from mcugraph.layout import VIEWS, Layouts
from mcugraph.lower import LOWERINGS, lower
from mcugraph.lower.call import Call, Site


def lower_model(
    graph: Graph, layouts: Layouts, *, allow_float: bool
) -> dict[str, tuple[Call, ...]]:
    """The kernel calls of every step by its name; a view has none.

    Raises UnsupportedError that lists every step that no kernel computes, and every float step
    unless they are allowed.
    """
    calls: dict[str, tuple[Call, ...]] = {}
    problems = [*_port_problems(graph), *exit_problems(graph)]
    problems += [] if allow_float else _float_steps(graph)
    for step in graph.steps:
        if step.op in VIEWS and step.output in layouts.views:
            calls[step.name] = ()
            continue
        try:
            calls[step.name] = lower(Site(graph, step, layouts))
        except UnsupportedError as error:
            problems += error.problems
    if any(step.op not in LOWERINGS and step.name not in calls for step in graph.steps):
        problems.append(f"there are kernels for: {', '.join(sorted(LOWERINGS))}")
    if problems:
        raise UnsupportedError(problems)
    return calls


def _port_problems(graph: Graph) -> Iterator[str]:
    """Inputs and outputs that have no type in C, and outputs that nothing computes."""
    for name in dict.fromkeys((*graph.inputs, *graph.outputs)):
        tensor, onnx_name = graph.tensors[name], graph.interface[name]
        if tensor.data is not None:
            yield f"output {onnx_name} is a constant; leave it out of the model's outputs"
        elif tensor.dtype not in C_TYPES:
            yield f"{onnx_name} is {tensor.dtype}; {', '.join(C_TYPES)} are allowed"


def _float_steps(graph: Graph) -> list[str]:
    floats = [s for s in graph.steps if any(_is_float(graph, n) for n in (*s.inputs, *s.outputs))]
    if not floats:
        return []
    count = "1 step computes" if len(floats) == 1 else f"{len(floats)} steps compute"
    names = ", ".join(f"{step.name} ({step.op})" for step in floats)
    return [
        f"{count} in float32; quantise the model to int8 "
        f"(onnxruntime.quantization.quantize_static), or pass --allow-float: {names}"
    ]


def _is_float(graph: Graph, name: str) -> bool:
    return (
        bool(name) and graph.tensors[name].dtype == "float32" and graph.tensors[name].data is None
    )
