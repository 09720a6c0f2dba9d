"""Weights of few values, stored as numbers of table entries: two or four weights a byte."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mcugraph.lower.call import Call, Field, Site

# Bits of a number that kernels unpack, fewest first.
BITS = (2, 4)
# Inputs of a dense layer whose weights are unpacked at a time: each needs 4 bytes of scratch.
CHUNK = 32
# Four sums and a start of 32 bits for each pixel of a row.
SUMS = 20
# Bytes of the members that only the packed kernels have: pointers and numbers of 32 bits.
_MEMBERS = {"conv_s8": 8, "dense_s8": 12}

Numbers = NDArray[np.uint8]


def pack(site: Site, call: Call) -> Call:
    """The call with its weights packed, where the model asks for it and it takes less flash.

    The call itself for every other kernel, and where the weights have too many values.
    """
    if call.kernel not in _MEMBERS or not site.input(1).packed:
        return call
    weights = call.fields["weights"]
    assert isinstance(weights, np.ndarray), f"{call.kernel} without weights"
    numbered = _numbered(weights.astype(np.uint8), _outputs(call))
    if numbered is None:
        return call
    values, numbers, bits = numbered
    stored = _joined(numbers, bits)
    if stored.nbytes + values.nbytes + _MEMBERS[call.kernel] >= weights.nbytes:
        return call
    fields = {**call.fields, "weights": stored, "values": values, "bits": bits}
    kernel = call.kernel.replace("_", "_packed_")
    if call.kernel == "conv_s8":
        return replace(call, kernel=kernel, fields=fields, scratch=5 * call.scratch)
    chunk = min(CHUNK, _number(call.fields, "inputs"))
    fields["chunk"] = chunk
    scratch = SUMS * _number(call.fields, "y_width") + 4 * chunk
    return replace(call, kernel=kernel, fields=fields, scratch=scratch)


def _outputs(call: Call) -> int:
    """Outputs of a group."""
    return _number(call.fields, "group_outputs" if call.kernel == "conv_s8" else "outputs")


def _number(fields: Mapping[str, Field], name: str) -> int:
    value = fields[name]
    assert isinstance(value, int), f"{name} is {value!r}"
    return value


def _numbered(weights: Numbers, outputs: int) -> tuple[Numbers, Numbers, int] | None:
    """(the table, the number of each weight in it, bits of a number); None for too many values.

    Weights are [groups][ceil(outputs / 4)][terms][4]; those that only fill up a four are any.
    """
    lane = 4 * np.arange(weights.shape[1])[:, None] + np.arange(4)
    used = np.broadcast_to((lane < outputs)[None, :, None, :], weights.shape)
    values = np.unique(weights[used])
    bits = next((bits for bits in BITS if values.size <= 1 << bits), None)
    if bits is None:
        return None
    numbers = np.searchsorted(values, weights).clip(0, values.size - 1).astype(np.uint8)
    table = np.zeros(1 << bits, np.uint8)
    table[: values.size] = values
    return table, numbers, bits


def _joined(numbers: Numbers, bits: int) -> Numbers:
    """Numbers as bytes, the first in the lowest bits."""
    each = 8 // bits
    parts = numbers.reshape(-1, each) << (bits * np.arange(each, dtype=np.uint8))
    joined: Numbers = np.bitwise_or.reduce(parts, axis=1).astype(np.uint8)
    return joined
