"""Softmax against onnxruntime."""

import numpy as np
import pytest
from steps import Case, mismatches, random_int8, random_scale

from mcugraph.errors import UnsupportedError
from mcugraph.lower.softmax import lower_softmax

RARELY = 1e-5


@pytest.mark.parametrize("length", [2, 3, 10, 100, 512, 3000])
@pytest.mark.parametrize("output", [(1 / 256, -128), (1 / 255, -128)])
def test_int8_agrees_with_onnxruntime(length, output):
    random = np.random.default_rng(0)
    lines = max(1, 30_000 // length)
    cases = [
        Case(
            "Softmax", [random_int8(random, lines, length)], [random_scale(random, -6, -1)], output
        )
        for _ in range(12)
    ]
    assert mismatches(lower_softmax, cases) <= RARELY


@pytest.mark.parametrize("axis", [1, 2, 3])
@pytest.mark.parametrize("last", [True, False])
def test_any_axis_in_any_order_of_memory(axis, last):
    random = np.random.default_rng(1)
    x = random_int8(random, 1, 6, 5, 7)
    attributes = {"axis": axis}
    case = Case("Softmax", [x], [(0.05, 3)], (1 / 256, -128), attributes=attributes)
    case.channel_last = last
    assert case.differences(lower_softmax)[0] == 0
    real = random.normal(size=x.shape).astype(np.float32) * 5
    for op in ("Softmax", "LogSoftmax"):
        Case(op, [real], attributes=attributes, channel_last=last).close(lower_softmax)


def test_equal_inputs_share_the_whole_evenly():
    case = Case("Softmax", [np.full((1, 8), -7, np.int8)], [(0.1, 0)], (1 / 256, -128))
    assert (case.run(lower_softmax)[0] == -96).all()


def test_logarithm_in_int8_is_refused():
    case = Case("LogSoftmax", [np.zeros((1, 8), np.int8)], [(0.1, 0)], (0.1, 0))
    with pytest.raises(UnsupportedError, match="in int8"):
        case.calls(lower_softmax)
