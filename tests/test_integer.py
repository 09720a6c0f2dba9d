"""Requantisation against exact fractions; bounds, folding and refusals of integer layers."""

import ctypes
import subprocess
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import ckernel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from layers import Layer, Weights

from mcugraph.lower.call import UnsupportedError
from mcugraph.lower.dense import lower_gemm
from mcugraph.lower.integer import ACCUMULATOR, affine, clamp_of, multiplier

SOURCE = """
#include "mcugraph.h"
void requantize(const int32_t *acc, const int32_t *m, const int32_t *shift, int32_t *y, int n);
void requantize(const int32_t *acc, const int32_t *m, const int32_t *shift, int32_t *y, int n)
{
    for (int i = 0; i < n; i++) {
        y[i] = mcu_requantize(acc[i], m[i], shift[i]);
    }
}
"""


@pytest.fixture(scope="module", params=["", "-DMCU_MULTIPLY_16=1"], ids=["64 bits", "16 bits"])
def requantize(request, tmp_path_factory):
    folder: Path = tmp_path_factory.mktemp("requantize")
    (folder / "r.c").write_text(SOURCE)
    flags = [*ckernel.FLAGS, *request.param.split(), f"-I{ckernel.FOLDER}"]
    subprocess.run(["cc", *flags, str(folder / "r.c"), "-o", str(folder / "r.so")], check=True)
    library = ctypes.CDLL(str(folder / "r.so"))

    def run(acc, m, shift):
        arrays = [np.ascontiguousarray(a, np.int32) for a in (acc, m, shift)]
        out = np.zeros(len(arrays[0]), np.int32)
        pointers = [ctypes.c_void_p(a.ctypes.data) for a in (*arrays, out)]
        library.requantize(*pointers, ctypes.c_int(len(out)))
        return out

    return run


def exact(acc: int, m: int, shift: int) -> int:
    """Python's round is half to even, of a fraction exact."""
    return round(Fraction(int(acc) * int(m)) / Fraction(2) ** (33 + int(shift)))


def test_requantize_equals_exact_fractions_at_random(requantize) -> None:
    random = np.random.default_rng(0)
    size = 20_000
    acc = (random.uniform(-1, 1, size) * 2.0 ** random.uniform(0, 31, size)).astype(np.int64)
    acc = np.clip(acc, -ACCUMULATOR, ACCUMULATOR)
    m = random.integers(2**30, 2**31, size)
    shift = random.integers(0, 30, size)
    expected = [exact(*values) for values in zip(acc, m, shift, strict=True)]
    np.testing.assert_array_equal(requantize(acc, m, shift), expected)


def test_requantize_rounds_ties_to_even_and_meets_the_edges(requantize) -> None:
    cases = [
        (acc, m, shift)
        for acc in (0, 1, -1, 2, 3, -3, 0x8000, -0x8000, 0x7FFF, ACCUMULATOR, -ACCUMULATOR)
        for m in (0, 2**30, 2**30 + 1, 3 << 29, 0x5FFF8000, 0x60007FFF, 2**31 - 1)
        for shift in (0, 1, 5, 15, 16, 29)
    ]
    cases += [(acc, 2**30, shift) for acc in range(-300, 300) for shift in (0, 1, 2, 5)]
    expected = [exact(*case) for case in cases]
    np.testing.assert_array_equal(requantize(*zip(*cases, strict=True)), expected)


def test_requantize_of_large_ratios_is_exact_or_beyond_any_output(requantize) -> None:
    random = np.random.default_rng(1)
    acc = random.integers(-(2**10), 2**10, 2000)
    m = random.integers(2**30, 2**31, 2000)
    shift = random.integers(-27, 0, 2000)
    expected = np.array([exact(*values) for values in zip(acc, m, shift, strict=True)], object)
    got = requantize(acc, m, shift)
    limit = 1 << 20
    np.testing.assert_array_equal(np.clip(got, -limit, limit), np.clip(expected, -limit, limit))
    ends = requantize([ACCUMULATOR, -ACCUMULATOR], [2**30, 2**30], [-27, -1])
    assert ends[0] > limit
    assert ends[1] < -limit


@given(st.floats(2.0**-32, 2.0**24))
@settings(deadline=None, derandomize=True)
def test_a_multiplier_has_31_bits(real: float) -> None:
    m, shift = multiplier(real)
    assert 2**30 <= m < 2**31
    assert -27 <= shift <= 29
    assert abs(Fraction(m) / Fraction(2) ** (33 + shift) / Fraction(real) - 1) <= Fraction(1, 2**31)


def test_tiny_ratios_vanish_and_huge_ones_saturate() -> None:
    assert multiplier(0.0) == (0, 0)
    assert multiplier(1e-12) == (0, 0)
    assert multiplier(1e9) == multiplier(2.0**24)
    for bad in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="finite"):
            multiplier(bad)


def layer(values, bias=None, **changes) -> Layer:
    """A dense layer of weights [outputs, inputs] on random int8."""
    values = np.asarray(values, np.int8)
    x = np.random.default_rng(2).integers(-128, 128, (1, values.shape[1])).astype(np.int8)
    fields = {
        "scales": [(0.05, 3)],
        "output": (0.1, -5),
        "weights": Weights(values, np.float32(0.02)),
        "bias": bias,
        "attributes": {"transB": 1},
        **changes,
    }
    return Layer("Gemm", [x], **fields)


def test_the_zero_point_is_folded_into_the_bias() -> None:
    case = layer([[1, 2, 3], [-4, 5, -6]], np.array([100, -7], np.int32))
    found = affine(case.site(), np.array([[1, 2, 3], [-4, 5, -6]]))
    assert found.bias.tolist() == [100 - 3 * 6, -7 + 3 * 5]
    assert found.multiplier.size == 1


def test_a_bias_of_another_scale_keeps_its_real_value() -> None:
    bias, scale = np.array([1000, -1000], np.int32), np.float32(0.0025)
    case = layer([[0, 0], [0, 0]], bias, bias_scale=scale)
    found = affine(case.site(), np.zeros((2, 2), np.int8))
    assert found.bias.tolist() == [2500, -2500]


def test_a_float_bias_is_quantised() -> None:
    found = affine(layer([[0], [0]], np.array([0.5, -1], np.float32)).site(), np.zeros((2, 1)))
    assert found.bias.tolist() == [500, -1000]


@pytest.mark.parametrize("sign", [1, -1])
def test_a_bias_near_the_end_of_int32_is_rescaled(sign: int) -> None:
    random = np.random.default_rng(3)
    weights = random.integers(-64, 64, (4, 27)).astype(np.int8)
    bias = np.array([sign * 2_147_268_971, 5, -5, 0], np.int32)
    scale = np.array([3 / 2_147_268_971 / 0.05, 0.01, 0.01, 0.01], np.float32)
    case = layer(weights, bias, weights=Weights(weights, scale))
    assert abs(int(affine(case.site(), weights).bias[0])) <= 2**30
    assert case.differences(lower_gemm)[0] == 0


def test_a_channel_whose_output_never_changes_is_its_constant() -> None:
    weights = np.full((2, 500), 127, np.int8)
    bias = np.array([-2_147_000_000, 2_147_000_000], np.int32)
    case = layer(weights, bias)
    found = affine(case.site(), weights)
    assert not found.weights.any()
    assert case.run(lower_gemm)[0].tolist() == [[-128, 127]]


def test_a_layer_beyond_32_bits_is_refused_with_its_numbers() -> None:
    weights = np.full((1, 40_000), 127, np.int8)
    case = layer(weights, np.array([2_000_000_000], np.int32), output=(33_333.0, 0))
    with pytest.raises(UnsupportedError, match=r"channel 0: bias 2000000000 .* accumulator"):
        affine(case.site(), weights)


def test_a_weight_zero_point_is_subtracted_or_refused() -> None:
    weights = np.array([[1, 2], [3, 4]], np.int8)
    case = layer(weights, weights=Weights(weights, np.float32(0.02), zero=2))
    assert affine(case.site(), weights).weights.tolist() == [[-1, 0], [1, 2]]
    case = layer(weights, weights=Weights(weights, np.float32(0.02), zero=-127))
    with pytest.raises(UnsupportedError, match="zero point do not fit int8"):
        affine(case.site(), weights)


@pytest.mark.parametrize(
    ("activation", "bounds"),
    [
        (None, (-128, 127)),
        ((0.0, float("inf")), (-5, 127)),
        ((0.0, 6.0), (-5, 55)),
        ((-100.0, 100.0), (-128, 127)),
    ],
)
def test_an_activation_narrows_the_clamp(activation, bounds) -> None:
    assert clamp_of(layer([[1]]).site().output, activation) == bounds


def test_more_terms_than_the_kernel_can_sum_are_refused() -> None:
    weights = np.zeros((1, 44_000), np.int8)
    with pytest.raises(UnsupportedError, match=r"44000 terms .* 43000 are allowed"):
        affine(layer(weights).site(), weights)


def test_weights_of_another_type_are_refused() -> None:
    site = layer([[1, 2]]).site()
    tensors = dict(site.graph.tensors)
    w = site.input(1)
    tensors[w.name] = replace(w, dtype="uint8")
    with pytest.raises(UnsupportedError, match="is uint8; quantised int8 weights are allowed"):
        lower_gemm(replace(site, graph=replace(site.graph, tensors=tensors)))


def test_a_bias_that_differs_from_row_to_row_is_refused() -> None:
    case = layer([[1, 2], [3, 4]], np.zeros((2, 1), np.float32))
    case.inputs = [np.zeros((2, 2), np.int8)]
    with pytest.raises(UnsupportedError, match=r"is \[2, 1\]; one value an output"):
        case.call(lower_gemm)
