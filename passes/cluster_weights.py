"""Conv(x, w) -> Conv(x, w'), where w' has few values."""

from collections.abc import Mapping

import numpy as np
from onnx import ModelProto

from mcugraph.passes._codebook import nearest
from mcugraph.passes._edit import Edit
from mcugraph.passes._layers import Layer, alias_of, layers_of, refuse, unknown
from mcugraph.passes._notes import ask_to_pack

FEWEST, MOST = 2, 16


def cluster_weights(model: ModelProto, codebooks: Mapping[str, int]) -> ModelProto:
    """Conv(x, w) -> Conv(x, w'), where w' has few values.

    `codebooks` gives, by the name of a weight of a Conv, Gemm or MatMul, how many values it may
    have: 2 to 16. They are those with the least squared error of the real weights; of quantised
    weights, whose integers they are, each channel counts by its scale. The compiler stores such
    weights in 4 bits each, in 2 bits up to 4 values: the model's metadata asks for it
    ("mcugraph.packed"). Of a float model, quantise the weights per tensor afterwards, or cluster
    once more: with a scale for each channel, one value has many integers.
    Raises ValueError with everything that is wrong.
    """
    edit = Edit(model)
    layers = layers_of(edit)
    chosen: dict[str, int] = {}
    problems: list[str] = []
    for name, count in codebooks.items():
        weight = alias_of(name, layers)
        if weight is None:
            problems.append(unknown(name, layers))
        elif problem := _problem(edit, name, count, layers[weight]):
            problems.append(problem)
        elif chosen.setdefault(weight, count) != count:
            problems.append(f"{name!r} is named twice, with {chosen[weight]} and {count} values")
    refuse("cannot cluster weights", problems)
    for weight, count in chosen.items():
        _cluster(edit, layers[weight][0], count)
    result = edit.finish()
    if chosen:
        ask_to_pack(result, chosen)
    return result


def clusterable(model: ModelProto) -> tuple[str, ...]:
    """The names of all weights that `cluster_weights` takes."""
    edit = Edit(model)
    layers = layers_of(edit)
    return tuple(name for name in layers if _problem(edit, name, FEWEST, layers[name]) is None)


def _problem(edit: Edit, name: str, count: int, layers: list[Layer]) -> str | None:
    if not isinstance(count, int | np.integer) or not FEWEST <= count <= MOST:
        return f"{name!r} can have {FEWEST} to {MOST} values, not {count}"
    weight = layers[0].weight
    readers = [layer.dequantizer or layer.node for layer in layers]
    other = [node for node in edit.users(weight) if not any(node is reader for reader in readers)]
    if other:
        return f"{name!r} is read by {other[0].op_type} {other[0].output[0]!r} too"
    value = edit.constant(weight)
    alone = next((e for e in layers if value is not None and e.groups == len(value) > 1), None)
    if alone is not None:
        return (
            f"{name!r} belongs to the depthwise {alone.title()}, whose few weights "
            "are stored as they are; leave it out"
        )
    return None


def _cluster(edit: Edit, layer: Layer, count: int) -> None:
    value = np.asarray(edit.constant(layer.weight))
    importance = np.broadcast_to(layer.scales(edit, value) ** 2.0, value.shape)
    clustered = nearest(value, count, importance).astype(value.dtype)
    if not np.array_equal(clustered, value):
        edit.place(layer.weight, clustered)
