"""Element-wise functions of one tensor against onnxruntime, on all 256 inputs."""

import numpy as np
import pytest
from steps import Case, random_scale, streamed

from mcugraph.errors import UnsupportedError
from mcugraph.lower.quantize import lower_dequantize, lower_quantize
from mcugraph.lower.unary import UNARY, lower_unary

LEVELS = np.arange(-128, 128).astype(np.int8).reshape(1, 16, 16)
OPSETS = {"Gelu": 20, "Swish": 24}
CONSTANTS = {"Clip": [np.array(-0.5, np.float32), np.array(1.5, np.float32)]}
ATTRIBUTES = [
    ("LeakyRelu", {"alpha": 0.2}),
    ("LeakyRelu", {"alpha": 1.5}),
    ("Elu", {"alpha": 0.5}),
    ("Selu", {"alpha": 1.2, "gamma": 1.1}),
    ("Celu", {"alpha": 0.7}),
    ("HardSigmoid", {"alpha": 0.3, "beta": 0.4}),
    ("ThresholdedRelu", {"alpha": 0.3}),
    ("Gelu", {"approximate": "tanh"}),
    ("Swish", {"alpha": 1.7}),
]


def case(op, inputs, scales=(), output=None, attributes=None):
    constants, opset = CONSTANTS.get(op, ()), OPSETS.get(op, 18)
    return Case(op, inputs, scales, output, constants, attributes or {}, opset=opset)


@pytest.mark.parametrize("op", sorted(UNARY))
def test_tables_agree_with_onnxruntime(op):
    random = np.random.default_rng(0)
    for _ in range(10):
        scales = random_scale(random, -6, -3), random_scale(random, -8, -4)
        assert case(op, [LEVELS], scales[:1], scales[1]).differences(lower_unary)[0] == 0


@pytest.mark.parametrize(("op", "attributes"), ATTRIBUTES)
def test_attributes_agree_with_onnxruntime(op, attributes):
    random = np.random.default_rng(1)
    for _ in range(5):
        scales = random_scale(random, -6, -3), random_scale(random, -8, -4)
        step = case(op, [LEVELS], scales[:1], scales[1], attributes)
        assert step.differences(lower_unary)[0] == 0
    x = random.normal(size=(1, 20, 50)).astype(np.float32)
    case(op, [x], attributes=attributes).close(lower_unary, atol=5e-6)


@pytest.mark.parametrize("op", sorted(UNARY))
def test_float_agrees_with_onnxruntime(op):
    random = np.random.default_rng(2)
    x = np.concatenate([random.normal(size=2000) * s for s in (0.01, 1, 5, 30)])
    x = np.append(x, [0, -1, 1, 0.5, 2.5, -2.5]).astype(np.float32).reshape(1, -1, 2)
    if op in ("Log", "Sqrt", "Reciprocal"):
        x = np.abs(x) + np.float32(1e-6)
    case(op, [x]).close(lower_unary, atol=5e-6)


def test_another_scale_is_a_table_and_a_float_is_rounded_to_even():
    random = np.random.default_rng(3)
    for _ in range(10):
        a, b = random_scale(random), random_scale(random)
        assert case("Identity", [LEVELS], [a], b).op == "Identity"
    x = np.concatenate([random.normal(size=4000) * 3, np.arange(-300, 300) / 2])
    x = np.append(x, [np.inf, -np.inf, 1e30, -1e30]).astype(np.float32).reshape(2, -1)
    scales = [np.array(0.5, np.float32), np.array(-3, np.int8)]
    step = Case("QuantizeLinear", [x], constants=scales, result=3)
    assert step.differences(lower_quantize)[0] == 0


def test_dequantised_values_are_the_same_floats():
    scales = [np.array(0.037, np.float32), np.array(-3, np.int8)]
    step = Case("DequantizeLinear", [LEVELS], constants=scales)
    np.testing.assert_array_equal(step.run(lower_dequantize)[0], step.oracle()[0])


def test_rows_one_by_one_equal_the_whole():
    (call,) = case("Tanh", [LEVELS], [(0.02, 3)], (0.01, 0)).calls(lower_unary)
    streamed(call, LEVELS, 1, lambda row: row)


def test_bounds_that_are_computed_are_refused():
    step = Case("Clip", [LEVELS, np.array(1, np.int8)], [(0.1, 0)] * 2, (0.1, 0))
    with pytest.raises(UnsupportedError, match="computed at run time"):
        step.calls(lower_unary)
