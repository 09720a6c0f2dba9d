"""Which element types a step may read and write at run time."""

from __future__ import annotations

from collections.abc import Sequence

from mcugraph.graph import Tensor
from mcugraph.lower.call import Site
from mcugraph.read import MOVING

_CONVERTING = frozenset({"DequantizeLinear", "QuantizeLinear"})
# Their results keep the scale, but they compare what they choose from.
_CHOOSING = frozenset({"GlobalMaxPool", "MaxPool", "ReduceMax"})


def check_operands(site: Site) -> None:
    """Refuse a step that computes with anything but float32, or int8 with one scale a tensor.

    An operator that only moves elements may move any type; ArgMax tells itself what it compares.
    """
    moving = site.step.op in MOVING - _CHOOSING
    indexing = site.step.op in {"ArgMax", "ArgMin"}
    runtime = site.graph.activations(site.step)
    if not runtime or (moving and site.step.op != "Concat" and site.input(0).data is not None):
        raise site.refuse("its input is a constant; one that is computed at run time is allowed")
    tensors = [site.graph.tensors[name] for name in (*runtime, *site.step.outputs) if name]
    empty = [tensor.name for tensor in tensors if not tensor.size]
    if empty:
        raise site.refuse(f"{empty[0]} has no elements")
    if not (moving or indexing):
        _check_types(site, tensors)


def _check_types(site: Site, tensors: Sequence[Tensor]) -> None:
    for tensor in tensors:
        if not _computable(tensor):
            raise site.refuse(
                f"{_described(tensor)}; float32, and int8 with one scale, are allowed"
            )
    if len({t.dtype for t in tensors}) > 1 and site.step.op not in _CONVERTING:
        raise site.refuse("int8 and float32 together; quantise or dequantise all of them")


def _computable(tensor: Tensor) -> bool:
    if tensor.dtype == "float32":
        return True
    return tensor.dtype == "int8" and tensor.quant is not None and tensor.quant.per_tensor


def _described(tensor: Tensor) -> str:
    if tensor.dtype != "int8":
        return f"{tensor.name} is {tensor.dtype}"
    scales = "no scale" if tensor.quant is None else f"{tensor.quant.scale.size} scales"
    return f"{tensor.name} is int8 with {scales}"
