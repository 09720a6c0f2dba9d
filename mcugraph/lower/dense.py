"""Gemm and MatMul to kernel calls; columns of the weights follow the input's order in memory."""

from __future__ import annotations

from math import prod

import numpy as np
from numpy.typing import NDArray

from mcugraph.lower.call import Call, Field, Site
from mcugraph.lower.integer import affine, clamp_of, constant_bias, multiplier, scale_of, zero_of

SUFFIX = {"int8": "s8", "float32": "f32"}
ITEM = {"int8": 1, "float32": 4}
LARGEST = float(np.finfo(np.float32).max)
# Products of two int8 differences that fit one 32-bit sum.
PRODUCTS = 33_000


def lower_gemm(site: Site) -> tuple[Call, ...]:
    """Gemm: alpha * x @ w + beta * c, x [M, K] computed at run time, w and c constant."""
    if site.attribute("transA", 0):
        raise site.refuse("transA = 1; put a Transpose before it")
    weights = site.input(1).data
    if weights is None or site.input(0).data is not None:
        raise site.refuse("only a run-time tensor times constant weights is allowed")
    if not site.attribute("transB", 0):
        weights = weights.T
    scaling = (site.attribute("alpha", 1.0), site.attribute("beta", 1.0))
    return (_dense(site, weights, scaling),)


def lower_matmul(site: Site) -> tuple[Call, ...]:
    """MatMul: x [..., K] computed at run time times w [K, N], or times another run-time tensor."""
    weights = site.input(1).data
    if site.input(0).data is not None:
        raise site.refuse("the first factor is constant; transpose the product")
    if weights is None:
        return (_product(site),)
    if weights.ndim == 1:
        weights = weights[:, None]
    if prod(weights.shape[:-2]) != 1:
        raise site.refuse("a batch of weight matrices; one matrix [K, N] is allowed")
    return (_dense(site, weights.reshape(weights.shape[-2:]).T, (1.0, 1.0)),)


def _dense(site: Site, weights: NDArray[np.generic], scaling: tuple[float, float]) -> Call:
    """Weights [outputs, inputs] times each of the rows of the input."""
    x, y = site.input(0), site.output
    outputs, inputs = weights.shape
    rows = x.size // inputs
    layout = site.layout(x)
    if layout.dims != x.shape:
        assert rows == 1, f"{site.step.name}: {rows} rows of a flattened tensor"
        weights = weights[:, layout.index()]
    fields = packed(arithmetic(site, weights, *scaling))
    fields |= {
        "x_depth": rows,
        "y_depth": rows,
        "x_width": 1,
        "y_width": 1,
        "y_step": outputs,
        "stride_height": 1,
        "stride_width": 1,
        "inputs": inputs,
        "outputs": outputs,
    }
    assert y.size == rows * outputs, f"{site.step.name}: {y.shape}"
    kernel = f"dense_{SUFFIX[y.dtype]}"
    return Call(kernel, (x.name,), y.name, fields, rows, macs=rows * weights.size)


def _product(site: Site) -> Call:
    """Two run-time factors: matrices in pairs, or all times one matrix."""
    x, x2, y = site.input(0), site.input(1), site.output
    inputs = x.shape[-1]
    outputs = x2.size // inputs if len(x2.shape) == 1 else x2.shape[-1]
    matrices = x2.size // (inputs * outputs)
    rows = x.size // inputs
    if matrices > 1 and x.shape[:-2] != x2.shape[:-2]:
        raise site.refuse("leading dimensions that are broadcast; Expand them")
    fields: dict[str, Field] = {
        "x_depth": rows,
        "y_depth": rows,
        "rows": rows // matrices,
        "inputs": inputs,
        "outputs": outputs,
        "x2_step": inputs * outputs if matrices > 1 else 0,
        **_product_arithmetic(site),
    }
    kernel = f"matmul_{SUFFIX[y.dtype]}"
    return Call(kernel, (x.name, x2.name), y.name, fields, rows, macs=rows * inputs * outputs)


def _product_arithmetic(site: Site) -> dict[str, Field]:
    x, x2, y = site.input(0), site.input(1), site.output
    if y.dtype == "float32":
        return _float_clamp(site)
    if x.shape[-1] > PRODUCTS:
        raise site.refuse(f"{x.shape[-1]} terms in one sum; {PRODUCTS} are allowed")
    scale, shift = multiplier(scale_of(x) * scale_of(x2) / scale_of(y))
    low, high = clamp_of(y, site.step.activation)
    return {
        "x_zero": zero_of(x),
        "x2_zero": zero_of(x2),
        "multiplier": scale,
        "shift": shift,
        "y_zero": zero_of(y),
        "low": low,
        "high": high,
    }


def _float_clamp(site: Site) -> dict[str, Field]:
    low, high = site.step.activation or (-LARGEST, LARGEST)
    return {"low": max(low, -LARGEST), "high": min(high, LARGEST)}


def arithmetic(
    site: Site, weights: NDArray[np.generic], alpha: float = 1.0, beta: float = 1.0
) -> dict[str, Field]:
    """Weights [outputs, terms], bias, and what turns a sum into an output, as kernel parameters."""
    if site.output.dtype == "float32":
        bias = constant_bias(site, len(weights)) * beta
        return {
            "weights": (weights.astype(np.float64) * alpha).astype(np.float32),
            "bias": bias.astype(np.float32),
            **_float_clamp(site),
        }
    stored = site.input(1)
    if stored.dtype != "int8" or stored.quant is None:
        raise site.refuse(f"{stored.name} is {stored.dtype}; quantised int8 weights are allowed")
    layer = affine(site, weights, alpha, beta)
    low, high = clamp_of(site.output, site.step.activation)
    zero = zero_of(site.output)
    return {"weights": layer.weights, **layer.fields(), "y_zero": zero, "low": low, "high": high}


def packed(fields: dict[str, Field], groups: int = 1) -> dict[str, Field]:
    """The fields with integer weights in the order of mcu_pixel_s8; float ones as they are."""
    weights = fields["weights"]
    if not isinstance(weights, np.ndarray) or weights.dtype != np.int8:
        return fields
    return fields | {"weights": interleaved(weights.astype(np.int8), groups)}


def interleaved(weights: NDArray[np.int8], groups: int = 1) -> NDArray[np.uint8]:
    """Weights [outputs, terms] as mcu_pixel_s8 reads them: [group][ceil(outputs / 4)][terms][4].

    Stored as w + 128; the outputs of each group are filled up to a multiple of 4.
    """
    parts = weights.reshape(groups, -1, weights.shape[1])
    parts = np.pad(parts, ((0, 0), (0, -parts.shape[1] % 4), (0, 0)))
    blocks = parts.reshape(groups, -1, 4, parts.shape[2]).swapaxes(2, 3)
    return (blocks.astype(np.int16) + 128).astype(np.uint8)
