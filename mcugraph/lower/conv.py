"""Conv to kernel calls: general, depthwise, and 1 x 1 as a dense layer of every pixel."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mcugraph.lower.call import Call, Field, Site
from mcugraph.lower.dense import ITEM, SUFFIX, arithmetic, packed
from mcugraph.lower.geometry import Window, window_of
from mcugraph.lower.integer import zero_of

# Bytes of an entry in the list of taps of a depthwise convolution.
TAP = 8


def lower_conv(site: Site) -> tuple[Call, ...]:
    """Conv: x [1, C, H, W] or [1, C, L], constant weights [M, C / group, kernel...]."""
    weights = site.input(1)
    if weights.data is None:
        raise site.refuse(f"the weights {weights.name} are computed at run time; fold them first")
    window = window_of(site, weights.shape[2:])
    groups = site.attribute("group", 1)
    channels = site.input(0).shape[1]
    if weights.shape[1] * groups != channels or weights.shape[0] % groups:
        raise site.refuse(f"weights {list(weights.shape)} do not fit {groups} groups")
    if 1 < groups == channels == weights.shape[0]:
        return (_depthwise(site, window),)
    if groups == 1 and window.taps == 1 and not window.padded:
        return (_pointwise(site, window),)
    return (_conv(site, window, groups),)


def _conv(site: Site, window: Window, groups: int) -> Call:
    fields = packed(arithmetic(site, _flat(site)), groups)
    fields |= {
        "groups": groups,
        "group_inputs": site.input(1).shape[1],
        "group_outputs": site.input(1).shape[0] // groups,
        **_zero(site),
        **_shape(site, window),
    }
    patch = window.taps * site.input(1).shape[1]
    return _call(site, "conv", fields, patch * ITEM[site.output.dtype])


def _depthwise(site: Site, window: Window) -> Call:
    fields = arithmetic(site, _flat(site))
    assert isinstance(fields["weights"], np.ndarray)
    fields["weights"] = fields["weights"].T
    fields |= {**_zero(site), **_shape(site, window)}
    del fields["x_channels"]
    fields["channels"] = fields.pop("y_channels")
    return _call(site, "depthwise", fields, TAP * window.taps)


def _pointwise(site: Site, window: Window) -> Call:
    fields = packed(arithmetic(site, _flat(site)))
    fields |= {
        "x_depth": window.input[0],
        "y_depth": window.output[0],
        "x_width": window.input[1],
        "y_width": window.output[1],
        "y_step": site.output.shape[1],
        "stride_height": window.stride[0],
        "stride_width": window.stride[1],
        "inputs": site.input(0).shape[1],
        "outputs": site.output.shape[1],
    }
    return _call(site, "dense", fields)


def _flat(site: Site) -> NDArray[np.generic]:
    """The stored weights as [outputs, terms], terms in the order (kernel..., inputs)."""
    data = site.input(1).data
    assert data is not None
    return np.moveaxis(data, 1, -1).reshape(len(data), -1)


def _zero(site: Site) -> dict[str, int]:
    """What stands for padding in an integer input."""
    return {"x_zero": zero_of(site.input(0))} if site.output.dtype == "int8" else {}


def _shape(site: Site, window: Window) -> dict[str, int]:
    return {
        "x_depth": window.input[0],
        "y_depth": window.output[0],
        "x_channels": site.input(0).shape[1],
        "y_channels": site.output.shape[1],
        "y_step": site.output.shape[1],
        **window.fields(),
    }


def _call(site: Site, kernel: str, fields: dict[str, Field], scratch: int = 0) -> Call:
    """The call of a kernel; scratch in bytes."""
    x, y = site.input(0), site.output
    return Call(
        kernel=f"{kernel}_{SUFFIX[y.dtype]}",
        inputs=(x.name,),
        output=y.name,
        fields=fields,
        rows=y.shape[2],
        scratch=scratch,
        macs=y.size * site.input(1).size // y.shape[1],
    )
