"""Conv(x, w, b) -> Conv(Conv(x, u), v, b)."""

from collections.abc import Mapping

import numpy as np
from onnx import ModelProto

from mcugraph.passes._edit import Array, Edit, attribute, is_op, set_attribute, slot
from mcugraph.passes._layers import Layer, alias_of, layers_of, refuse, unknown

# Conv attributes of the window: the first factor keeps them.
_WINDOW = ("auto_pad", "dilations", "kernel_shape", "pads", "strides")
# From this opset on, a Gemm may have no bias.
_OPTIONAL_BIAS = 11


def factorize(model: ModelProto, ranks: Mapping[str, int]) -> ModelProto:
    """Conv(x, w, b) -> Conv(Conv(x, u), v, b).

    `ranks` gives, by the name of a weight, the channels between the two: u [rank, in, kernel...]
    keeps the window, v [out, rank, 1...] is pointwise; Gemm and MatMul become two alike. u and v,
    named w_first and w_second, have the least squared error of that rank; the full one is exact.
    For float weights of convolutions of one group. Raises ValueError with everything that is wrong.
    """
    edit = Edit(model)
    layers = layers_of(edit)
    chosen: dict[str, int] = {}
    problems: list[str] = []
    for name, rank in ranks.items():
        if name not in layers:
            alias = alias_of(name, layers)
            problems.append(_quantised(alias) if alias else unknown(name, layers))
        elif problem := _problem(edit, layers[name], rank):
            problems.append(f"{name!r} {problem}")
        else:
            chosen[name] = rank
    refuse("cannot factorise", problems)
    for name, rank in chosen.items():
        _factorize(edit, layers[name], rank)
    return edit.finish()


def spectrum(edit: Edit, layer: Layer) -> Array | None:
    """The singular values of a layer's weights, largest first; None where it can't be factorised.

    The squares from the rank on are the squared error of that rank.
    """
    if _obstacle(edit, layer):
        return None
    return np.linalg.svd(_matrix(edit, layer), compute_uv=False)


def _quantised(name: str) -> str:
    return f"{name!r} is quantised; factorise the float model, before it is quantised"


def _problem(edit: Edit, layers: list[Layer], rank: int) -> str | None:
    problem = next(filter(None, (_obstacle(edit, layer) for layer in layers)), None)
    if problem:
        return problem
    full = min(_matrix(edit, layers[0]).shape)
    if not isinstance(rank, int | np.integer) or not 1 <= rank <= full:
        return f"can have ranks from 1 to {full}, not {rank}"
    return None


def _obstacle(edit: Edit, layer: Layer) -> str | None:
    """Why a layer has no factors, whatever the rank."""
    value = np.asarray(edit.constant(layer.weight))
    if layer.dequantizer is not None or value.dtype.kind != "f":
        return "is quantised; factorise the float model, before it is quantised"
    if layer.groups > 1:
        return f"belongs to {layer.title()} with {layer.groups} groups, which share no channels"
    if not is_op(layer.node, "Conv") and value.ndim != 2:
        return f"has shape {list(value.shape)}; one matrix is allowed"
    if not value.size or not np.isfinite(value).all():
        return "has values that are not finite, or none"
    return None


def _is_transposed(layer: Layer) -> bool:
    """Whether the weights are stored [outputs, inputs...]."""
    return is_op(layer.node, "Conv") or bool(attribute(layer.node, "transB", 0))


def _matrix(edit: Edit, layer: Layer) -> Array:
    """The weights as float64 [outputs, terms]."""
    value = np.asarray(edit.constant(layer.weight), np.float64)
    return value.reshape(len(value), -1) if _is_transposed(layer) else value.T


def _factorize(edit: Edit, layers: list[Layer], rank: int) -> None:
    """All readers of one weight read the same factors."""
    layer, value = layers[0], np.asarray(edit.constant(layers[0].weight))
    first, second = _factors(_matrix(edit, layer), rank)
    if is_op(layer.node, "Conv"):
        first = first.reshape(rank, *value.shape[1:])
        second = second.reshape(len(second), rank, *[1] * (value.ndim - 2))
    elif not _is_transposed(layer):
        first, second = first.T, second.T
    names = [
        edit.store(f"{layer.weight}_{part}", factor.astype(value.dtype))
        for part, factor in (("first", first), ("second", second))
    ]
    for each in layers:
        _split(edit, each, names[0], names[1])


def _factors(matrix: Array, rank: int) -> tuple[Array, Array]:
    """(u [rank, terms], v [outputs, rank]): v @ u is the nearest; both have the same scale.

    Each row of u has its largest element above zero, on every machine.
    """
    left, sizes, right = np.linalg.svd(matrix, full_matrices=False)
    root = np.sqrt(sizes[:rank])
    u, v = root[:, None] * right[:rank], left[:, :rank] * root
    signs = np.sign(u[np.arange(rank), np.abs(u).argmax(axis=1)])
    signs[signs == 0] = 1
    return u * signs[:, None], v * signs


def _split(edit: Edit, layer: Layer, first: str, second: str) -> None:
    """The node becomes the second of two; the first one gets its window."""
    node = layer.node
    between = edit.fresh(f"{node.output[0]}_rank")
    kept = _WINDOW if is_op(node, "Conv") else ("alpha", "transA", "transB")
    given = {name: attribute(node, name) for name in kept}
    known = {name: value for name, value in given.items() if value is not None}
    inputs = [slot(node, 0), first]
    if is_op(node, "Gemm") and edit.opset < _OPTIONAL_BIAS:
        inputs.append(edit.store("zero", np.zeros(1, np.asarray(edit.constant(first)).dtype)))
    edit.add(node.op_type, inputs, between, **known)
    edit.set_input(node, 0, between)
    edit.set_input(node, 1, second)
    for name in known:
        if name != "transB":
            set_attribute(node, name, None)
    if is_op(node, "Conv"):
        window = np.asarray(edit.constant(second)).shape[2:]
        set_attribute(node, "kernel_shape", list(window))
