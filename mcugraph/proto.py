"""ONNX messages as plain values."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from mcugraph.graph import Tensor


def described(value: onnx.ValueInfoProto) -> Tensor:
    """The tensor that a static value_info tells of."""
    kind = value.type.tensor_type
    shape = tuple(d.dim_value for d in kind.shape.dim)
    return Tensor(value.name, shape, str(np.dtype(helper.tensor_dtype_to_np_dtype(kind.elem_type))))


def attributes(node: onnx.NodeProto) -> dict[str, object]:
    """A node's attributes as Python and numpy values."""
    return {a.name: _plain(helper.get_attribute_value(a)) for a in node.attribute}


def _plain(value: object) -> object:
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, onnx.TensorProto):
        array: NDArray[np.generic] = numpy_helper.to_array(value)
        return array
    return list(value) if isinstance(value, list | tuple) else value
