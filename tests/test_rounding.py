"""Tuned multipliers against float32 arithmetic and against onnxruntime's own kernels."""

from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from mcugraph.lower.integer import ACCUMULATOR, multiplier
from mcugraph.lower.rounding import agreeing

Array = NDArray[Any]


class Scales:
    """Ratios with their nearest and their tuned multipliers."""

    def __init__(self, ratios: Array) -> None:
        self.ratios = ratios.astype(np.float32)
        pairs = np.array([multiplier(float(ratio)) for ratio in self.ratios], np.int64)
        self.nearest, self.points = pairs[:, 0], pairs[:, 1] + 33
        self.tuned = agreeing(self.ratios, self.nearest, self.points, ACCUMULATOR)


def rounded(sums: Array, scale: int, point: int) -> Array:
    """sums * scale / 2^point, half to even, by quotient and remainder."""
    whole, rest = np.divmod(sums.astype(np.int64) * scale, 1 << point)
    half = 1 << (point - 1)
    up = (rest > half) | ((rest == half) & (whole % 2 == 1))
    return np.clip(whole + up, -256, 256)


def float32(sums: Array, ratio: np.float32) -> Array:
    """What onnxruntime computes, less the zero point."""
    return np.clip(np.rint(sums.astype(np.float32) * ratio), -256, 256).astype(np.int64)


def mismatches(scales: Scales, multipliers: Array, limit: int) -> tuple[int, int]:
    """(sums that round otherwise than in float32, all sums); asserts that none is off by 2."""
    wrong = total = 0
    for ratio, scale, point in zip(scales.ratios, multipliers, scales.points, strict=True):
        reach = min(int(300 / ratio), limit)
        sums = np.arange(-reach, reach + 1)
        apart = np.abs(rounded(sums, int(scale), int(point)) - float32(sums, ratio))
        assert apart.max() <= 1
        wrong += int(apart.sum())
        total += sums.size
    return wrong, total


def test_tuned_multipliers_round_nearly_every_sum_as_float32_does() -> None:
    random = np.random.default_rng(0)
    scales = Scales(2.0 ** random.uniform(-20, 2, 300))
    before, total = mismatches(scales, scales.nearest, 2**16)
    after, _ = mismatches(scales, scales.tuned, 2**16)
    assert (before, after, total) == (22, 6, 22_165_128)


def test_where_few_sums_are_ties_nearly_all_channels_agree_everywhere() -> None:
    random = np.random.default_rng(1)
    scales = Scales(2.0 ** random.uniform(-7, 2, 500))
    before, total = mismatches(scales, scales.nearest, 2**20)
    after, _ = mismatches(scales, scales.tuned, 2**20)
    assert (before, after, total) == (28, 2, 6_192_464)


@pytest.mark.parametrize(
    ("denominator", "missed"), [(127, 0), (254, 126), (252, 8), (756, 124), (256, 0), (1024, 0)]
)
def test_ratios_of_small_integers_have_ties_that_no_multiplier_can_round(
    denominator: int, missed: int
) -> None:
    """Float32 rounds sums next to every tie both ways; a product moves all of them one way."""
    scales = Scales(np.array([1 / denominator]))
    reach = 127 * denominator
    sums = np.arange(-reach, reach + 1)
    expected = float32(sums, scales.ratios[0])

    def wrong(scale: int) -> int:
        return int((rounded(sums, scale, int(scales.points[0])) != expected).sum())

    tuned = int(scales.tuned[0])
    assert wrong(tuned) == missed
    assert min(wrong(tuned + offset) for offset in range(-255, 256, 15)) >= missed


def test_no_other_multiplier_agrees_with_more_sums() -> None:
    random = np.random.default_rng(2)
    scales = Scales(2.0 ** random.uniform(-10, -4, 12))
    for ratio, tuned, point in zip(scales.ratios, scales.tuned, scales.points, strict=True):
        sums = np.arange(1, int(257 / ratio))
        expected = float32(sums, ratio)

        def wrong(
            scale: int, sums: Array = sums, point: int = int(point), expected: Array = expected
        ) -> int:
            return int((rounded(sums, scale, point) != expected).sum())

        least = min(wrong(int(tuned) + offset) for offset in range(-300, 301, 4))
        assert wrong(int(tuned)) <= least


def test_a_move_is_within_two_units_of_the_last_place_of_float32() -> None:
    random = np.random.default_rng(3)
    scales = Scales(2.0 ** random.uniform(-31, 24, 2000))
    assert np.abs(scales.tuned - scales.nearest).max() < 256
    assert scales.tuned.min() >= 2**30
    assert scales.tuned.max() < 2**31


def test_a_ratio_of_zero_keeps_its_multiplier() -> None:
    zero = np.zeros(1, np.int64)
    assert agreeing(np.zeros(1, np.float32), zero, zero + 33, ACCUMULATOR).tolist() == [0]


# onnxruntime itself

WEIGHTS = np.array([1, 127, 127, 127], np.int8)


def every_sum() -> tuple[Array, Array]:
    """(int8 [sums, 4], their products with WEIGHTS): each integer from end to end, once."""
    end = 3 * 127 * 127
    sums = np.arange(-end, end + 1)
    parts = np.rint(sums / 127).astype(np.int64)
    first = np.clip(parts, -127, 127)
    second = np.clip(parts - first, -127, 127)
    x = np.stack([sums - 127 * parts, first, second, parts - first - second], axis=1)
    assert np.array_equal(x @ WEIGHTS.astype(np.int64), sums)
    return x.astype(np.int8), sums


def run(op: str, x: Array, operands: dict[str, Array]) -> Array:
    """An integer operator of onnxruntime on x, with constants behind it."""
    node = helper.make_node(op, ["x", *operands], ["y"])
    value = helper.make_tensor_value_info("x", TensorProto.INT8, x.shape)
    result = helper.make_tensor_value_info("y", TensorProto.INT8, None)
    tensors = [numpy_helper.from_array(v, name) for name, v in operands.items()]
    graph = helper.make_graph([node], "one", [value], [result], tensors)
    opsets = [helper.make_opsetid("", 18)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    found: Array = session.run(None, {"x": x})[0]
    return found


def convolution(x: Array, ratios: Array, zero: int) -> Array:
    """[sums, channels] of a 1x1 QLinearConv with a scale for each channel."""
    one = np.float32(1)
    operands = {
        "x_scale": one,
        "x_zero": np.int8(0),
        "w": np.tile(WEIGHTS[:, None, None], (len(ratios), 1, 1, 1)),
        "w_scale": ratios,
        "w_zero": np.zeros(len(ratios), np.int8),
        "y_scale": one,
        "y_zero": np.int8(zero),
    }
    return run("QLinearConv", x.T[None, :, :, None], arrays(operands))[0, :, :, 0].T


def product(x: Array, ratios: Array, zero: int) -> Array:
    """[sums, channels] of QLinearMatMul with one scale, once for each ratio."""
    columns = []
    for ratio in ratios:
        operands = {
            "x_scale": np.float32(1),
            "x_zero": np.int8(0),
            "w": WEIGHTS[:, None],
            "w_scale": ratio,
            "w_zero": np.int8(0),
            "y_scale": np.float32(1),
            "y_zero": np.int8(zero),
        }
        columns.append(run("QLinearMatMul", x, arrays(operands))[:, 0])
    return np.stack(columns, axis=1)


def arrays(operands: dict[str, Any]) -> dict[str, Array]:
    return {name: np.asarray(value) for name, value in operands.items()}


# For each zero point, the sums that the nearest multipliers of these channels round otherwise.
UNTUNED = {-128: 18, 0: 8, 5: 8}


@pytest.mark.parametrize("operator", [convolution, product])
@pytest.mark.parametrize("zero", UNTUNED)
def test_onnxruntime_rounds_as_float32_and_so_do_tuned_multipliers(
    operator: Any, zero: int
) -> None:
    random = np.random.default_rng(4)
    scales = Scales(2.0 ** random.uniform(-9, 0, 1500))
    scales = Scales(scales.ratios[scales.tuned != scales.nearest][:24])
    x, sums = every_sum()
    theirs = operator(x, scales.ratios, zero).astype(np.int64)
    assert theirs.shape == (sums.size, 24)

    def output(results: Array) -> Array:
        return np.clip(results + zero, -128, 127)

    wrong = {"float32": 0, "nearest": 0, "tuned": 0}
    for channel, ratio in enumerate(scales.ratios):
        point = int(scales.points[channel])
        ours = {
            "float32": float32(sums, ratio),
            "nearest": rounded(sums, int(scales.nearest[channel]), point),
            "tuned": rounded(sums, int(scales.tuned[channel]), point),
        }
        for way, results in ours.items():
            apart = np.abs(output(results) - theirs[:, channel])
            assert apart.max() <= 1
            wrong[way] += int(apart.sum())
    assert wrong == {"float32": 0, "nearest": UNTUNED[zero], "tuned": 0}
