"""Steps between float32 and int8, and from one int8 scale to another."""

from __future__ import annotations

from mcugraph.graph import Tensor
from mcugraph.lower.call import Call, Field, Site
from mcugraph.lower.integer import scale_of, zero_of
from mcugraph.lower.rows import rows_of
from mcugraph.lower.unary import identity, map_call


def lower_quantize(site: Site) -> tuple[Call, ...]:
    """QuantizeLinear: of float32, or of int8 by a table."""
    x, y = site.input(0), site.output
    if x.dtype == "int8" and y.dtype == "int8":
        return (map_call(site, identity),)
    if (x.dtype, y.dtype) != ("float32", "int8"):
        raise site.refuse("float32 or int8 to int8 is allowed")
    return (_call(site, "quantize_f32_s8", y),)


def lower_dequantize(site: Site) -> tuple[Call, ...]:
    """DequantizeLinear of int8."""
    x, y = site.input(0), site.output
    if (x.dtype, y.dtype) != ("int8", "float32"):
        raise site.refuse("int8 to float32 is allowed")
    return (_call(site, "dequantize_s8_f32", x),)


def _call(site: Site, kernel: str, integer: Tensor) -> Call:
    if integer.quant is None or not integer.quant.per_tensor:
        raise site.refuse("a scale per channel; one for the whole tensor is allowed")
    rows = rows_of(site, site.output)
    fields: dict[str, Field] = {
        "row": rows.size,
        "x_depth": rows.count,
        "y_depth": rows.count,
        "scale": scale_of(integer),
        "zero": zero_of(integer),
    }
    return Call(kernel, (site.step.inputs[0],), site.step.output, fields, rows.count)
