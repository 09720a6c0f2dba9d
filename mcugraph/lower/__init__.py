"""Steps to kernel calls, one file an operator family, each beside the C of the same name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from mcugraph.lower.call import Call, Site
from mcugraph.lower.conv import lower_conv
from mcugraph.lower.dense import lower_gemm, lower_matmul
from mcugraph.lower.elementwise import BINARY, lower_binary
from mcugraph.lower.movement import MOVES, lower_concat, lower_move
from mcugraph.lower.operands import check_operands
from mcugraph.lower.packed import pack
from mcugraph.lower.pool import (
    lower_average_pool,
    lower_global_average_pool,
    lower_global_max_pool,
    lower_max_pool,
)
from mcugraph.lower.quantize import lower_dequantize, lower_quantize
from mcugraph.lower.reduce import KINDS, lower_argmax, lower_reduce
from mcugraph.lower.softmax import lower_softmax
from mcugraph.lower.take import lower_pad, lower_resize
from mcugraph.lower.unary import UNARY, lower_unary

LOWERINGS: Mapping[str, Callable[[Site], tuple[Call, ...]]] = {
    "ArgMax": lower_argmax,
    "ArgMin": lower_argmax,
    "AveragePool": lower_average_pool,
    "Concat": lower_concat,
    "Conv": lower_conv,
    "DequantizeLinear": lower_dequantize,
    "Gemm": lower_gemm,
    "GlobalAveragePool": lower_global_average_pool,
    "GlobalMaxPool": lower_global_max_pool,
    "LogSoftmax": lower_softmax,
    "MatMul": lower_matmul,
    "MaxPool": lower_max_pool,
    "Pad": lower_pad,
    "QuantizeLinear": lower_quantize,
    "Resize": lower_resize,
    "Softmax": lower_softmax,
    **dict.fromkeys(BINARY, lower_binary),
    **dict.fromkeys(KINDS, lower_reduce),
    **dict.fromkeys(MOVES, lower_move),
    **dict.fromkeys(UNARY, lower_unary),
}


def lower(site: Site) -> tuple[Call, ...]:
    """The kernel calls of a step; UnsupportedError where no kernel computes it."""
    lowering = LOWERINGS.get(site.step.op)
    if lowering is None:
        raise site.refuse(f"no kernel for {site.step.op}")
    check_operands(site)
    return tuple(pack(site, call) for call in lowering(site))
