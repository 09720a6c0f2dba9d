"""Pools against onnxruntime; rows through rings against the whole."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from steps import Case, mismatches, random_int8, random_scale, streamed

from mcugraph.errors import UnsupportedError
from mcugraph.lower.pool import (
    lower_average_pool,
    lower_global_average_pool,
    lower_global_max_pool,
    lower_max_pool,
)

RARELY = 1e-5
AXIS = st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(0, 1), st.integers(0, 1))


def pools(op, shape, attributes, count, same):
    random = np.random.default_rng(0)
    for _ in range(count):
        scale = random_scale(random)
        center = np.log2(scale[0])
        out = scale if same else random_scale(random, center - 1, center + 1)
        yield Case(op, [random_int8(random, *shape)], [scale], out, attributes=attributes)


@pytest.mark.parametrize("same", [True, False], ids=["same scale", "other scale"])
@pytest.mark.parametrize("include", [0, 1], ids=["exclude pad", "include pad"])
@pytest.mark.parametrize("kernel", [(2, 2), (3, 3), (3, 2), (4, 4), (7, 5)])
@pytest.mark.parametrize("pad", [0, 1])
def test_average_pool_agrees_with_onnxruntime_ties_included(kernel, include, pad, same):
    attributes = {
        "kernel_shape": kernel,
        "strides": [2, 1],
        "pads": [pad] * 4,
        "count_include_pad": include,
    }
    cases = pools("AveragePool", (1, 16, 30, 21), attributes, 4, same)
    assert mismatches(lower_average_pool, cases) == 0


@pytest.mark.parametrize("same", [True, False], ids=["same scale", "other scale"])
@pytest.mark.parametrize("size", [(1, 1), (2, 2), (6, 6), (8, 8), (25, 5), (14, 14), (20, 3)])
def test_global_average_pool_agrees_with_onnxruntime_ties_included(size, same):
    cases = pools("GlobalAveragePool", (1, 256, *size), {}, 10, same)
    assert mismatches(lower_global_average_pool, cases) == 0


@settings(max_examples=40, deadline=None, derandomize=True)
@given(height=AXIS, width=AXIS, ceil=st.booleans(), same=st.booleans(), op=st.sampled_from("AM"))
def test_any_window_agrees_with_onnxruntime(height, width, ceil, same, op):
    kernel, stride, begin, end = zip(height, width, strict=True)
    assume(all(b < k and e < k for k, b, e in zip(kernel, begin, end, strict=True)))
    attributes = {"kernel_shape": kernel, "strides": stride, "pads": [*begin, *end]}
    attributes["ceil_mode"] = int(ceil)
    name, lower = {"A": ("AveragePool", lower_average_pool), "M": ("MaxPool", lower_max_pool)}[op]
    for case in pools(name, (1, 5, 11, 9), attributes, 1, same):
        try:
            assert case.differences(lower)[0] == 0
        except UnsupportedError:
            assume(False)  # a window that sees only padding
    x = np.random.default_rng(0).normal(size=(1, 5, 11, 9)).astype(np.float32)
    Case(name, [x], attributes=attributes).close(lower)


@pytest.mark.parametrize("same", [True, False], ids=["same scale", "other scale"])
def test_max_pool_with_dilations(same):
    attributes = {"kernel_shape": [3, 2], "dilations": [2, 3], "pads": [1, 0, 1, 1]}
    assert mismatches(lower_max_pool, pools("MaxPool", (1, 6, 13, 12), attributes, 5, same)) == 0


@pytest.mark.parametrize("same", [True, False], ids=["same scale", "other scale"])
def test_global_max_pool(same):
    cases = pools("GlobalMaxPool", (1, 6, 13, 12), {}, 5, same)
    assert mismatches(lower_global_max_pool, cases) == 0


def test_one_spatial_axis():
    attributes = {"kernel_shape": [4], "strides": [2], "pads": [1, 1]}
    for op, lower in (("MaxPool", lower_max_pool), ("AveragePool", lower_average_pool)):
        assert mismatches(lower, pools(op, (1, 6, 50), attributes, 5, True)) == 0
    assert (
        mismatches(lower_global_average_pool, pools("GlobalAveragePool", (1, 6, 50), {}, 5, True))
        == 0
    )


@pytest.mark.parametrize("lower", [lower_global_average_pool, lower_global_max_pool])
def test_float_global_pools(lower):
    x = np.random.default_rng(0).normal(size=(1, 5, 11, 9)).astype(np.float32)
    op = "GlobalMaxPool" if lower is lower_global_max_pool else "GlobalAveragePool"
    Case(op, [x]).close(lower)


@pytest.mark.parametrize("include", [0, 1])
def test_float_average_counts_the_padding_that_is_asked_for(include):
    x = np.random.default_rng(0).normal(size=(1, 5, 11, 10)).astype(np.float32)
    attributes = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [2, 2], "ceil_mode": 1}
    attributes["count_include_pad"] = include
    Case("AveragePool", [x], attributes=attributes, opset=19).close(lower_average_pool)


@pytest.mark.parametrize("dtype", ["int8", "float32"])
@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize(("kernel", "stride", "pad"), [(3, 1, 1), (3, 2, 0), (2, 2, 0), (2, 3, 1)])
def test_rows_through_the_smallest_ring_equal_the_whole(dtype, op, kernel, stride, pad):
    attributes = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [pad] * 4}
    lower = lower_max_pool if op == "MaxPool" else lower_average_pool
    random = np.random.default_rng(0)
    x = random_int8(random, 1, 11, 9, 5)
    if dtype == "int8":
        case = Case(op, [x.transpose(0, 3, 1, 2)], [(0.1, 3)], (0.1, 3), attributes=attributes)
    else:
        x = x.astype(np.float32)
        case = Case(op, [x.transpose(0, 3, 1, 2)], attributes=attributes)
    (call,) = case.calls(lower)
    streamed(call, x, kernel, lambda row: row * stride - pad + kernel - 1)


def test_an_average_with_dilations_is_refused_in_int8():
    attributes = {"kernel_shape": [2, 2], "dilations": [2, 2]}
    x = np.zeros((1, 2, 4, 4), np.int8)
    case = Case("AveragePool", [x], [(0.1, 0)], (0.1, 0), attributes=attributes, opset=19)
    with pytest.raises(UnsupportedError, match="dilations"):
        case.calls(lower_average_pool)
