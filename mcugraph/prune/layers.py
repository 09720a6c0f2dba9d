"""ONNX operators as torch functions: convolutions, norms, pools and recurrent layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, distributed
from torch.distributed.nn.functional import all_reduce
from torch.nn import functional

from mcugraph.prune.operators import Attributes, Function, Operands, given, integers

CONVOLUTIONS = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
TRANSPOSED = {
    1: functional.conv_transpose1d,
    2: functional.conv_transpose2d,
    3: functional.conv_transpose3d,
}
MAX_POOLS = {1: functional.max_pool1d, 2: functional.max_pool2d, 3: functional.max_pool3d}


def window_pads(a: Attributes, sizes: Sequence[int], kernel: Sequence[int]) -> list[int]:
    """Begins, then ends, of a window's padding along each spatial axis."""
    rank = len(kernel)
    mode = a.get("auto_pad", "NOTSET")
    if mode in ("NOTSET", "VALID"):
        return list(a.get("pads", [0] * 2 * rank))
    strides, dilations = a.get("strides", [1] * rank), a.get("dilations", [1] * rank)
    begins, ends = [], []
    for size, k, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        total = max((-(-size // stride) - 1) * stride + (k - 1) * dilation + 1 - size, 0)
        less = total // 2
        begins.append(less if mode == "SAME_UPPER" else total - less)
        ends.append(total - begins[-1])
    return begins + ends


def padded(value: Tensor, pads: Sequence[int], fill: float = 0.0) -> tuple[Tensor, list[int]]:
    """(value, symmetric pads left to the operator): what is not symmetric is padded here."""
    rank = len(pads) // 2
    begins, ends = pads[:rank], pads[rank:]
    if list(begins) == list(ends):
        return value, list(begins)
    both = [n for pair in zip(reversed(begins), reversed(ends), strict=True) for n in pair]
    return functional.pad(value, both, value=fill), [0] * rank


def _conv(x: Operands, a: Attributes) -> Tensor:
    weight = given(x[1])
    rank = weight.dim() - 2
    pads = window_pads(a, given(x[0]).shape[2:], weight.shape[2:])
    value, rest = padded(given(x[0]), pads)
    bias = x[2] if len(x) > 2 else None
    strides, dilations = a.get("strides", [1] * rank), a.get("dilations", [1] * rank)
    return CONVOLUTIONS[rank](value, weight, bias, strides, rest, dilations, a.get("group", 1))


def _conv_transpose(x: Operands, a: Attributes) -> Tensor:
    value, weight = given(x[0]), given(x[1])
    rank = weight.dim() - 2
    pads = list(a.get("pads", [0] * 2 * rank))
    strides, extra = a.get("strides", [1] * rank), a.get("output_padding", [0] * rank)
    dilations = a.get("dilations", [1] * rank)
    bias = x[2] if len(x) > 2 else None
    whole = TRANSPOSED[rank](value, weight, bias, strides, 0, extra, a.get("group", 1), dilations)
    for axis in range(rank):
        size = whole.shape[2 + axis] - pads[axis] - pads[rank + axis]
        whole = whole.narrow(2 + axis, pads[axis], size)
    return whole


def _share(value: Tensor) -> Tensor:
    """The mean over all processes, differentiable; the value itself in a single one."""
    if not distributed.is_initialized() or distributed.get_world_size() == 1:
        return value
    shared: Tensor = all_reduce(value) / distributed.get_world_size()
    return shared


def batch_norm(x: Operands, a: Attributes, training: bool) -> Tensor:
    """BatchNormalization; in training, running statistics are updated in place.

    Over several processes the statistics are those of the global batch.
    """
    value, scale, bias, mean, variance = map(given, x)
    epsilon, momentum = a.get("epsilon", 1e-5), 1 - a.get("momentum", 0.9)
    if not (training and distributed.is_initialized() and distributed.get_world_size() > 1):
        return functional.batch_norm(
            value, mean, variance, scale, bias, training, momentum, epsilon
        )
    axes = [axis for axis in range(value.dim()) if axis != 1]
    here = _share(value.float().mean(axes))
    shape = [-1 if axis == 1 else 1 for axis in range(value.dim())]
    centred = value.float() - here.reshape(shape)
    spread = _share(centred.square().mean(axes))
    count = value.numel() // value.shape[1] * distributed.get_world_size()
    with torch.no_grad():
        mean.lerp_(here.to(mean.dtype), momentum)
        variance.lerp_((spread * count / max(count - 1, 1)).to(variance.dtype), momentum)
    result = centred * torch.rsqrt(spread + epsilon).reshape(shape)
    return (result * scale.reshape(shape) + bias.reshape(shape)).to(value.dtype)


def _instance_norm(x: Operands, a: Attributes) -> Tensor:
    return functional.instance_norm(given(x[0]), weight=x[1], bias=x[2], eps=a.get("epsilon", 1e-5))


def _layer_norm(x: Operands, a: Attributes) -> Tensor:
    value, scale = given(x[0]), given(x[1])
    bias = x[2] if len(x) > 2 else None
    return functional.layer_norm(
        value, value.shape[a.get("axis", -1) :], scale, bias, a.get("epsilon", 1e-5)
    )


def _group_norm(x: Operands, a: Attributes) -> Tensor:
    return functional.group_norm(given(x[0]), a["num_groups"], x[1], x[2], a.get("epsilon", 1e-5))


def _max_pool(x: Operands, a: Attributes) -> Tensor:
    kernel = a["kernel_shape"]
    rank = len(kernel)
    pads = window_pads(a, given(x[0]).shape[2:], kernel)
    value, rest = padded(given(x[0]), pads, -torch.inf)
    strides, dilations = a.get("strides", [1] * rank), a.get("dilations", [1] * rank)
    ceil = bool(a.get("ceil_mode", 0))
    return MAX_POOLS[rank](value, kernel, strides, rest, dilations, ceil_mode=ceil)


def _average_pool(x: Operands, a: Attributes) -> Tensor:
    """The sum of each window divided by what it counts; by convolution with ones."""
    value, kernel = given(x[0]), a["kernel_shape"]
    rank, channels = len(kernel), value.shape[1]
    pads = window_pads(a, value.shape[2:], kernel)
    both = [n for axis in reversed(range(rank)) for n in (pads[axis], pads[rank + axis])]
    strides = a.get("strides", [1] * rank)
    ones = value.new_ones([1, 1, *kernel])

    def total(part: Tensor, groups: int) -> Tensor:
        weight = ones.expand([groups, 1, *kernel])
        return CONVOLUTIONS[rank](functional.pad(part, both), weight, None, strides, 0, 1, groups)

    counted = value.new_ones([1, 1, *value.shape[2:]])
    if a.get("count_include_pad", 0):
        return total(value, channels) / float(torch.tensor(kernel).prod())
    return total(value, channels) / total(counted, 1)


def _global_pool(function: Callable[..., Tensor]) -> Function:
    def pooled(x: Operands, a: Attributes) -> Tensor:
        value = given(x[0])
        return function(value, list(range(2, value.dim())), keepdim=True)

    return pooled


def _resize(x: Operands, a: Attributes) -> Tensor:
    """Resize by whole factors, nearest; or linear as torch computes it (half_pixel)."""
    value, operands = given(x[0]), [*x, *[None] * (4 - len(x))]
    sizes = integers(operands[3])
    if sizes is None:
        scales = given(operands[2]).tolist()
        sizes = [int(n * scale) for n, scale in zip(value.shape, scales, strict=True)]
    if a.get("mode", "nearest") == "nearest":
        return functional.interpolate(value, sizes[2:], mode="nearest")
    corners = a.get("coordinate_transformation_mode") == "align_corners"
    mode = {3: "linear", 4: "bilinear"}[value.dim()]
    return functional.interpolate(value, sizes[2:], mode=mode, align_corners=corners)


# Where each gate of ONNX stands in torch: zrh to rzn, iofc to ifgo.
GATES = {"RNN": (0,), "GRU": (1, 0, 2), "LSTM": (0, 2, 3, 1)}


def _recurrent(kind: str) -> Function:
    def run(x: Operands, a: Attributes) -> tuple[Tensor, ...]:
        operands = [*x, *[None] * (7 - len(x))]
        value, hidden = given(operands[0]), a["hidden_size"]
        way = a.get("direction", "forward")
        value = value.flip(0) if way == "reverse" else value
        both = way == "bidirectional"
        start = [_state(operands[place], both, value, hidden) for place in (5, 6)]
        flat = _flat_weights(kind, operands, hidden)
        has_bias = operands[3] is not None
        options = (flat, has_bias, 1, 0.0, False, both, False)
        if kind == "LSTM":
            out, h, c = torch.lstm(value, tuple(start), *options)
            return _rows(out, both, way), h, c
        out, h = (torch.gru if kind == "GRU" else torch.rnn_tanh)(value, start[0], *options)
        return _rows(out, both, way), h

    return run


def _state(value: Tensor | None, both: bool, like: Tensor, hidden: int) -> Tensor:
    shape = [1 + both, like.shape[1], hidden]
    return like.new_zeros(shape) if value is None else value.expand(shape).contiguous()


def _flat_weights(kind: str, operands: Operands, hidden: int) -> list[Tensor]:
    """Weights per direction as torch lists them: W, R, and both halves of B."""
    flat = []
    for way in range(given(operands[1]).shape[0]):
        parts = [given(operands[1])[way], given(operands[2])[way]]
        if operands[3] is not None:
            parts += operands[3][way].chunk(2)
        for part in parts:
            gates = part.split(hidden)
            flat.append(torch.cat([gates[gate] for gate in GATES[kind]]))
    return flat


def _rows(out: Tensor, both: bool, way: str) -> Tensor:
    """[time, batch, directions * hidden] as ONNX has it: [time, directions, batch, hidden]."""
    out = out.flip(0) if way == "reverse" else out
    time, batch, width = out.shape
    return out.reshape(time, batch, 1 + both, width // (1 + both)).transpose(1, 2)


LAYERS: dict[str, Function] = {
    "AveragePool": _average_pool,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "GRU": _recurrent("GRU"),
    "GlobalAveragePool": _global_pool(torch.mean),
    "GlobalMaxPool": _global_pool(torch.amax),
    "GroupNormalization": _group_norm,
    "InstanceNormalization": _instance_norm,
    "LSTM": _recurrent("LSTM"),
    "LayerNormalization": _layer_norm,
    "MaxPool": _max_pool,
    "RNN": _recurrent("RNN"),
    "Resize": _resize,
}
