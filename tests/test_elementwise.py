"""Element-wise operators of two operands against onnxruntime."""

import numpy as np
import pytest
from ckernel import run_rows, with_fields
from hypothesis import given, settings
from hypothesis import strategies as st
from steps import Case, mismatches, random_int8, random_scale

from mcugraph.errors import UnsupportedError
from mcugraph.lower.elementwise import lower_binary

RARELY = 1e-5
IMAGE = (1, 32, 16, 16)
PER_CHANNEL = (1, 32, 1, 1)


def cases(op, shapes, count, out=(-6, -2), **kw):
    random = np.random.default_rng(1)
    for i in range(count):
        inputs = [random_int8(random, *shape) for shape in shapes]
        scales = [random_scale(random) for _ in shapes]
        last = len(shapes[0]) == 4 and i % 2 == 0
        yield Case(op, inputs, scales, random_scale(random, *out), channel_last=last, **kw)


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul"])
@pytest.mark.parametrize(
    "second", [IMAGE, PER_CHANNEL, (1, 1, 16, 16), (1, 1, 1, 1), (1, 1, 16, 1)]
)
def test_two_run_time_operands_agree_with_onnxruntime(op, second):
    assert mismatches(lower_binary, cases(op, [IMAGE, second], 15)) <= RARELY


@pytest.mark.parametrize("op", ["Add", "Mul"])
def test_a_fused_relu_clamps(op):
    assert mismatches(lower_binary, cases(op, [IMAGE, IMAGE], 8, relu=True)) <= RARELY


def test_ties_go_to_even_as_in_onnxruntime():
    random = np.random.default_rng(2)
    for _ in range(10):
        zeros = random.integers(-128, 128, 3).tolist()
        inputs = [random_int8(random, 4, 500) for _ in range(2)]
        case = Case("Add", inputs, [(0.05, zeros[0]), (0.05, zeros[1])], (0.1, zeros[2]))
        assert case.differences(lower_binary)[0] == 0


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    powers=st.tuples(*[st.integers(-12, 4)] * 3),
    zeros=st.tuples(*[st.integers(-128, 127)] * 3),
    op=st.sampled_from(["Add", "Sub", "Mul"]),
)
def test_scales_that_are_powers_of_two_are_exact(powers, zeros, op):
    random = np.random.default_rng(3)
    scales = [(2.0**p, z) for p, z in zip(powers, zeros, strict=True)]
    inputs = [random_int8(random, 1, 64) for _ in range(2)]
    case = Case(op, inputs, scales[:2], scales[2])
    assert case.differences(lower_binary)[0] == 0


def test_a_scale_beyond_all_sense_is_refused():
    inputs = [np.zeros((1, 8), np.int8)] * 2
    case = Case("Add", inputs, [(1.0, 0), (1.0, 0)], (1e-9, 0))
    with pytest.raises(UnsupportedError, match="times the output's"):
        case.calls(lower_binary)


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div"])
@pytest.mark.parametrize("shape", [(), PER_CHANNEL, (32, 1, 1), (32, 16, 1), (32, 16, 16)])
def test_a_constant_operand_agrees_with_onnxruntime(op, shape):
    constant = np.random.default_rng(4).uniform(0.2, 2, shape).astype(np.float32)
    assert mismatches(lower_binary, cases(op, [IMAGE], 14, constants=[constant])) <= RARELY


@pytest.mark.parametrize("op", ["Min", "Max", "Pow"])
def test_a_constant_number_becomes_a_table(op):
    constant = np.array(2, np.float32)
    (call,) = next(cases(op, [IMAGE], 1, constants=[constant])).calls(lower_binary)
    assert call.kernel == "map_s8"
    assert mismatches(lower_binary, cases(op, [IMAGE], 6, constants=[constant])) <= RARELY


def test_prelu_with_a_slope_for_each_channel():
    slope = np.random.default_rng(5).uniform(-0.3, 0.9, (32, 1, 1)).astype(np.float32)
    assert mismatches(lower_binary, cases("PRelu", [IMAGE], 14, constants=[slope])) <= RARELY


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div", "Min", "Max", "Pow"])
@pytest.mark.parametrize("second", [IMAGE, PER_CHANNEL, (16,), ()])
@pytest.mark.parametrize("constant", [True, False])
def test_float_agrees_with_onnxruntime(op, second, constant):
    random = np.random.default_rng(6)
    a, b = (np.abs(random.normal(size=s)).astype(np.float32) for s in (IMAGE, second))
    if constant:
        Case(op, [a], constants=[b], channel_last=True).close(lower_binary)
    else:
        Case(op, [a, b], channel_last=len(second) == 4).close(lower_binary)


def test_an_int8_division_of_two_tensors_is_refused():
    with pytest.raises(UnsupportedError, match="two run-time operands in int8"):
        next(cases("Div", [IMAGE, IMAGE], 1)).calls(lower_binary)


@pytest.mark.parametrize("op", ["Add", "Mul", "Sub"])
@pytest.mark.parametrize("shape", [(1,), PER_CHANNEL])
@pytest.mark.parametrize("power_of_two", [True, False])
def test_a_quantised_constant_agrees_with_onnxruntime(op, shape, power_of_two):
    random = np.random.default_rng(7)
    out = (0.5, 5) if op == "Mul" else (0.25, -3)
    scale = 0.25 if op == "Mul" else 0.125
    if not power_of_two:
        out, scale = (0.31, 5), 0.0777
    constant = random_int8(random, *shape)
    case = Case(op, [random_int8(random, *IMAGE)], [(scale, 7)], out, [constant])
    case.constant_scales = {0: (scale, -4)}
    case.channel_last = True
    assert case.differences(lower_binary)[0] == 0


@pytest.mark.parametrize("op", ["Add", "Mul"])
@pytest.mark.parametrize("second", [IMAGE, PER_CHANNEL])
def test_rows_one_by_one_equal_the_whole(op, second):
    case = next(cases(op, [IMAGE, second], 1))
    (call,) = case.calls(lower_binary)
    a, b = (x.transpose(0, 2, 3, 1)[0] for x in case.inputs)
    small = with_fields(call, a_depth=1, b_depth=1, y_depth=1)
    out = np.zeros((16, 16, 32), np.int8)
    for row in range(16):
        run_rows(small, [a[row], b[row % len(b)]], out[row], (row, row + 1))
    whole = case.run(lower_binary)[0].transpose(0, 2, 3, 1)[0]
    np.testing.assert_array_equal(out, whole)
