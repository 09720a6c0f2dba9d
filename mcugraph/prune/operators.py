"""ONNX operators as torch functions: element by element, matrices, movement, reductions.

Each takes the operands of a node (None where an optional one is absent) and its attributes, as
https://onnx.ai/onnx/operators defines them; constants that steer an operator (shapes, axes, pads)
come as integer tensors. Convolutions, norms, pools and recurrent layers are in layers.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

Operands = Sequence[Tensor | None]
Attributes = Mapping[str, Any]
Function = Callable[[Operands, Attributes], Tensor | tuple[Tensor, ...]]


def given(value: Tensor | None) -> Tensor:
    """An operand that must be there."""
    assert value is not None, "an operand is missing"
    return value


def integers(value: Tensor | None, attribute: Sequence[int] | None = None) -> list[int] | None:
    """A list that stands in an input in newer operator sets, in an attribute in older ones."""
    if value is not None:
        return [int(item) for item in value.reshape(-1).tolist()]
    return None if attribute is None else list(attribute)


def _unary(function: Callable[[Tensor], Tensor]) -> Function:
    return lambda x, a: function(given(x[0]))


def _chain(function: Callable[[Tensor, Tensor], Tensor]) -> Function:
    return lambda x, a: reduce(function, map(given, x))


def _limit(value: Tensor | None, attribute: float | None) -> float | None:
    return attribute if value is None else float(value)


def _clip(x: Operands, a: Attributes) -> Tensor:
    low = _limit(x[1] if len(x) > 1 else None, a.get("min"))
    high = _limit(x[2] if len(x) > 2 else None, a.get("max"))
    return given(x[0]) if low is None and high is None else given(x[0]).clamp(low, high)


def _prelu(x: Operands, a: Attributes) -> Tensor:
    value, slope = given(x[0]), given(x[1])
    return torch.where(value < 0, value * slope, value)


def _gemm(x: Operands, a: Attributes) -> Tensor:
    left, right = given(x[0]), given(x[1])
    left = left.T if a.get("transA") else left
    right = right.T if a.get("transB") else right
    product: Tensor = left @ right * a.get("alpha", 1.0)
    return product if len(x) < 3 or x[2] is None else product + x[2] * a.get("beta", 1.0)


def _concat(x: Operands, a: Attributes) -> Tensor:
    return torch.cat([given(part) for part in x], a["axis"])


def _split(x: Operands, a: Attributes) -> tuple[Tensor, ...]:
    value, axis = given(x[0]), a.get("axis", 0)
    sizes = integers(x[1] if len(x) > 1 else None, a.get("split"))
    if sizes is None:
        size = math.ceil(value.shape[axis] / a["outputs"])
        return torch.split(value, size, axis)
    return torch.split(value, sizes, axis)


def _slice(x: Operands, a: Attributes) -> Tensor:
    value, operands = given(x[0]), [*x, *[None] * (5 - len(x))]
    starts = integers(operands[1], a.get("starts")) or []
    ends = integers(operands[2], a.get("ends")) or []
    axes = integers(operands[3], a.get("axes")) or range(len(starts))
    steps = integers(operands[4]) or [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        chosen = range(value.shape[axis])[start:end:step]
        index = torch.tensor(list(chosen), dtype=torch.int64, device=value.device)
        value = (
            value.narrow(axis, chosen.start, len(chosen))
            if step == 1
            else value.index_select(axis, index)
        )
    return value


def _gather(x: Operands, a: Attributes) -> Tensor:
    value, index = given(x[0]), given(x[1]).long().to(given(x[0]).device)
    axis = a.get("axis", 0) % value.dim()
    index = torch.where(index < 0, index + value.shape[axis], index)
    shape = [*value.shape[:axis], *index.shape, *value.shape[axis + 1 :]]
    return value.index_select(axis, index.reshape(-1)).reshape(shape)


def _reshape(x: Operands, a: Attributes) -> Tensor:
    value = given(x[0])
    shape = integers(x[1] if len(x) > 1 else None, a.get("shape")) or []
    if not a.get("allowzero"):
        shape = [value.shape[i] if size == 0 else size for i, size in enumerate(shape)]
    return value.reshape(shape)


def _flatten(x: Operands, a: Attributes) -> Tensor:
    value = given(x[0])
    axis = a.get("axis", 1)
    return value.reshape(math.prod(value.shape[: axis + value.dim() * (axis < 0)]), -1)


def _squeeze(x: Operands, a: Attributes) -> Tensor:
    value = given(x[0])
    axes = integers(x[1] if len(x) > 1 else None, a.get("axes"))
    return value.squeeze() if axes is None else value.squeeze(tuple(axes))


def _unsqueeze(x: Operands, a: Attributes) -> Tensor:
    value = given(x[0])
    axes = integers(x[1] if len(x) > 1 else None, a.get("axes")) or []
    for axis in sorted(axis % (value.dim() + len(axes)) for axis in axes):
        value = value.unsqueeze(axis)
    return value


def _transpose(x: Operands, a: Attributes) -> Tensor:
    value = given(x[0])
    return value.permute(a.get("perm", tuple(reversed(range(value.dim())))))


def _expand(x: Operands, a: Attributes) -> Tensor:
    value, shape = given(x[0]), integers(x[1]) or []
    return value.expand(torch.broadcast_shapes(value.shape, shape))


def _pad(x: Operands, a: Attributes) -> Tensor:
    value, operands = given(x[0]), [*x, *[None] * (4 - len(x))]
    pads = integers(operands[1], a.get("pads")) or []
    axes = integers(operands[3]) or range(value.dim())
    fill = a.get("value", 0.0) if operands[2] is None else float(operands[2])
    mode = {"constant": "constant", "reflect": "reflect", "edge": "replicate"}[
        a.get("mode", "constant")
    ]
    both = [0] * 2 * value.dim()
    for place, axis in enumerate(axes):
        last = 2 * (value.dim() - 1 - axis % value.dim())
        both[last : last + 2] = pads[place], pads[place + len(pads) // 2]
    if mode == "constant":
        return functional.pad(value, both, value=fill)
    while both and not any(both[-2:]):
        both = both[:-2]
    return functional.pad(value, both, mode=mode) if both else value


def _depth_to_space(x: Operands, a: Attributes) -> Tensor:
    value, block = given(x[0]), a["blocksize"]
    n, c, h, w = value.shape
    if a.get("mode", "DCR") == "CRD":
        return functional.pixel_shuffle(value, block)
    split = value.reshape(n, block, block, c // block**2, h, w)
    return split.permute(0, 3, 4, 1, 5, 2).reshape(n, c // block**2, h * block, w * block)


def _space_to_depth(x: Operands, a: Attributes) -> Tensor:
    value, block = given(x[0]), a["blocksize"]
    n, c, h, w = value.shape
    split = value.reshape(n, c, h // block, block, w // block, block)
    return split.permute(0, 3, 5, 1, 2, 4).reshape(n, c * block**2, h // block, w // block)


def _reduce(function: Callable[[Tensor, list[int], bool], Tensor]) -> Function:
    def reduced(x: Operands, a: Attributes) -> Tensor:
        value = given(x[0])
        axes = integers(x[1] if len(x) > 1 else None, a.get("axes"))
        if not axes and a.get("noop_with_empty_axes"):
            return value
        return function(value, axes or list(range(value.dim())), bool(a.get("keepdims", 1)))

    return reduced


def _softmax(function: Callable[..., Tensor]) -> Function:
    return lambda x, a: function(given(x[0]), dim=a.get("axis", -1))


def straight_through(x: Tensor) -> Tensor:
    """Round half to even; the gradient passes as if nothing were rounded."""
    return x + (x.round() - x).detach()


# Storage of quantised values stays float in training: gradients need it.
RANGES = {"int8": (-128, 127), "uint8": (0, 255), "int32": (-(2**31), 2**31 - 1)}


def _along(vector: Tensor, like: Tensor, axis: int) -> Tensor:
    """A scale or zero point, shaped to broadcast along its axis."""
    if vector.numel() == 1:
        return vector.reshape(()).to(torch.float32)
    shape = [-1 if i == axis % like.dim() else 1 for i in range(like.dim())]
    return vector.reshape(shape).to(like.device, torch.float32)


def _quantize(x: Operands, a: Attributes) -> Tensor:
    value, axis = given(x[0]).float(), a.get("axis", 1)
    zero = x[2] if len(x) > 2 else None
    low, high = RANGES["uint8" if zero is None else str(zero.dtype).removeprefix("torch.")]
    scaled = value / _along(given(x[1]), value, axis)
    rounded = straight_through(scaled)
    shifted = rounded if zero is None else rounded + _along(zero, value, axis)
    return shifted.clamp(low, high)


def _dequantize(x: Operands, a: Attributes) -> Tensor:
    value, axis = given(x[0]).float(), a.get("axis", 1)
    zero = x[2] if len(x) > 2 else None
    shifted = value if zero is None else value - _along(zero, value, axis)
    return shifted * _along(given(x[1]), value, axis)


def _gelu(x: Operands, a: Attributes) -> Tensor:
    return functional.gelu(given(x[0]), approximate=a.get("approximate", "none"))


FUNCTIONS: dict[str, Function] = {
    "Abs": _unary(torch.abs),
    "Add": _chain(torch.add),
    "Cast": lambda x, a: given(x[0]).to(a["dtype"]),
    "Celu": lambda x, a: functional.celu(given(x[0]), a.get("alpha", 1.0)),
    "Clip": _clip,
    "Concat": _concat,
    "Cos": _unary(torch.cos),
    "DepthToSpace": _depth_to_space,
    "DequantizeLinear": _dequantize,
    "Div": _chain(torch.div),
    "Dropout": _unary(lambda x: x),
    "Elu": lambda x, a: functional.elu(given(x[0]), a.get("alpha", 1.0)),
    "Erf": _unary(torch.erf),
    "Exp": _unary(torch.exp),
    "Expand": _expand,
    "Flatten": _flatten,
    "Gather": _gather,
    "Gelu": _gelu,
    "Gemm": _gemm,
    "HardSigmoid": lambda x, a: (given(x[0]) * a.get("alpha", 0.2) + a.get("beta", 0.5)).clamp(
        0, 1
    ),
    "HardSwish": _unary(functional.hardswish),
    "Identity": _unary(lambda x: x),
    "LeakyRelu": lambda x, a: functional.leaky_relu(given(x[0]), a.get("alpha", 0.01)),
    "Log": _unary(torch.log),
    "LogSoftmax": _softmax(torch.log_softmax),
    "MatMul": _chain(torch.matmul),
    "Max": _chain(torch.maximum),
    "Min": _chain(torch.minimum),
    "Mish": _unary(functional.mish),
    "Mul": _chain(torch.mul),
    "Neg": _unary(torch.neg),
    "PRelu": _prelu,
    "Pad": _pad,
    "Pow": _chain(torch.pow),
    "QuantizeLinear": _quantize,
    "Reciprocal": _unary(torch.reciprocal),
    "ReduceMax": _reduce(torch.amax),
    "ReduceMean": _reduce(torch.mean),
    "ReduceMin": _reduce(torch.amin),
    "ReduceSum": _reduce(torch.sum),
    "Relu": _unary(torch.relu),
    "Reshape": _reshape,
    "Selu": _unary(functional.selu),
    "Sigmoid": _unary(torch.sigmoid),
    "Sin": _unary(torch.sin),
    "Slice": _slice,
    "Softmax": _softmax(torch.softmax),
    "Softplus": _unary(functional.softplus),
    "Softsign": _unary(functional.softsign),
    "SpaceToDepth": _space_to_depth,
    "Split": _split,
    "Sqrt": _unary(torch.sqrt),
    "Squeeze": _squeeze,
    "Sub": _chain(torch.sub),
    "Sum": _chain(torch.add),
    "Swish": lambda x, a: given(x[0]) * torch.sigmoid(given(x[0]) * a.get("alpha", 1.0)),
    "Tanh": _unary(torch.tanh),
    "Tile": lambda x, a: given(x[0]).tile(integers(x[1]) or []),
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
    "Where": lambda x, a: torch.where(given(x[0]).bool(), given(x[1]), given(x[2])),
}
