"""Operators that move elements, and reductions, against onnxruntime."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from steps import Case, random_int8, random_scale, streamed

from mcugraph.errors import UnsupportedError
from mcugraph.lower.movement import lower_concat, lower_move
from mcugraph.lower.reduce import lower_argmax, lower_reduce
from mcugraph.lower.take import lower_pad, lower_resize

IMAGE = (1, 6, 5, 8)
INT64 = 7
MOVES = {
    "slice": ("Slice", IMAGE, [[1, 2], [5, 4], [1, 2]], {}),
    "slice backwards": ("Slice", IMAGE, [[-1, 0], [-100, 7], [2, 3], [-1, 2]], {}),
    "transpose": ("Transpose", IMAGE, [], {"perm": [0, 3, 1, 2]}),
    "transpose of a matrix": ("Transpose", (4, 6), [], {"perm": [1, 0]}),
    "flatten": ("Reshape", IMAGE, [[1, 240]], {}),
    "reshape without a pattern": ("Reshape", IMAGE, [[1, 16, 15]], {}),
    "expand": ("Expand", (1, 6, 1, 1), [[1, 6, 5, 4]], {}),
    "tile": ("Tile", (1, 6, 2, 3), [[1, 2, 3, 2]], {}),
    "depth to space": ("DepthToSpace", (1, 8, 3, 5), [], {"blocksize": 2}),
    "columns to space": ("DepthToSpace", (1, 8, 3, 5), [], {"blocksize": 2, "mode": "CRD"}),
    "space to depth": ("SpaceToDepth", (1, 8, 4, 6), [], {"blocksize": 2}),
    "gather evenly": ("Gather", (1, 8, 4, 6), [[1, 3, 5]], {"axis": 1}),
    "gather": ("Gather", (1, 8, 4, 6), [[3, 0, 5, 5, -1]], {"axis": 1}),
}


def check(lower, op, shapes, constants=(), **kw):
    """The same scale, another scale, and float32."""
    random = np.random.default_rng(0)
    inputs = [random_int8(random, *shape) for shape in shapes]
    scales = [random_scale(random) for _ in shapes]
    given = [c if c is None else np.asarray(c) for c in constants]
    for output in (scales[0], random_scale(random)):
        case = Case(op, inputs, scales, output, given, **kw)
        assert case.differences(lower)[0] == 0
    reals = [random.normal(size=shape).astype(np.float32) for shape in shapes]
    Case(op, reals, (), None, given, **kw).close(lower)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("name", MOVES)
def test_a_move_agrees_with_onnxruntime(name, last):
    op, shape, constants, attributes = MOVES[name]
    check(lower_move, op, [shape], constants, attributes=attributes, channel_last=last)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("axis", [1, 2, 3, -1])
def test_concat_along_any_axis(axis, last):
    shapes = [list(IMAGE) for _ in range(3)]
    shapes[1][axis] = 2
    check(lower_concat, "Concat", shapes, attributes={"axis": axis}, channel_last=last)


def test_concat_of_matrices():
    check(lower_concat, "Concat", [(3, 4), (2, 4)], attributes={"axis": 0})
    check(lower_concat, "Concat", [(3, 4), (3, 5)], attributes={"axis": 1})


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("axis", [1, 2, 3])
def test_split_along_any_axis(axis, last):
    x = np.random.default_rng(0).normal(size=(1, 6, 6, 6)).astype(np.float32)
    attributes = {"axis": axis, "num_outputs": 2}
    Case("Split", [x], attributes=attributes, outputs=2, channel_last=last).close(lower_move)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    pads=st.lists(st.integers(0, 2), min_size=6, max_size=6),
    mode=st.sampled_from(["constant", "edge", "reflect", "wrap"]),
    value=st.sampled_from([None, 1.5, -100.0]),
    last=st.booleans(),
)
def test_pad_agrees_with_onnxruntime(pads, mode, value, last):
    all_pads = np.array([0, *pads[:3], 0, *pads[3:]])
    constants = [all_pads]
    if value is not None and mode == "constant":
        constants.append(np.array(value, np.float32))
    random = np.random.default_rng(0)
    x, scale = random_int8(random, *IMAGE), (0.05, 3)
    attributes = {"mode": mode}
    for output in (scale, (0.04, -7)):
        case = Case("Pad", [x], [scale], output, constants, attributes, opset=19)
        case.channel_last = last
        assert case.differences(lower_pad)[0] == 0
    real = random.normal(size=IMAGE).astype(np.float32)
    case = Case("Pad", [real], (), None, constants, attributes, opset=19)
    case.channel_last = last
    case.close(lower_pad)


@pytest.mark.parametrize("scales", [(1, 1, 2, 2), (1, 1, 1.5, 3), (1, 1, 0.75, 0.5), (1, 2, 1, 1)])
@pytest.mark.parametrize(
    "transform",
    ["half_pixel", "half_pixel_symmetric", "asymmetric", "align_corners", "pytorch_half_pixel"],
)
@pytest.mark.parametrize("rounding", ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
def test_resize_to_the_nearest_pixel(scales, transform, rounding):
    attributes = {"coordinate_transformation_mode": transform, "nearest_mode": rounding}
    constants = [None, np.array(scales, np.float32)]
    random = np.random.default_rng(0)
    x = random_int8(random, 1, 3, 7, 8)
    case = Case("Resize", [x], [(0.1, 0)], (0.1, 0), constants, attributes, opset=19)
    assert case.differences(lower_resize)[0] == 0


def test_resize_to_sizes():
    check(lower_resize, "Resize", [(1, 3, 7, 8)], [None, None, [1, 3, 10, 5]], channel_last=True)


def test_rows_through_the_smallest_ring_equal_the_whole():
    random = np.random.default_rng(0)
    x = random_int8(random, 1, 7, 8, 3)
    image = x.transpose(0, 3, 1, 2)
    up = [None, np.array([1, 1, 2, 2], np.float32)]
    (call,) = Case("Resize", [image], [(0.1, 0)], (0.1, 0), up).calls(lower_resize)
    streamed(call, x, 1, lambda row: row // 2)
    pads = [np.array([0, 0, 2, 1, 0, 0, 1, 1])]
    case = Case("Pad", [image], [(0.1, 0)], (0.1, 0), pads, channel_last=True)
    streamed(case.calls(lower_pad)[0], x, 1, lambda row: row - 2)
    part = [np.array([1]), np.array([3]), np.array([1])]
    case = Case("Slice", [image], [(0.1, 0)], (0.1, 0), part, channel_last=True)
    streamed(case.calls(lower_move)[0], x, 1, lambda row: row)


@pytest.mark.parametrize("op", ["ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin"])
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("axes", [[1], [2], [3], [2, 3], [1, 2, 3]])
def test_reductions_agree_with_onnxruntime(op, axes, last):
    random = np.random.default_rng(0)
    real = random.normal(size=IMAGE).astype(np.float32)
    constants = [np.array(axes)]
    Case(op, [real], (), None, constants, channel_last=last).close(lower_reduce)
    x = random_int8(random, 1, 16, 15, 33)
    case = Case(op, [x], [(0.031, 3)], (0.097, 5), constants, channel_last=last)
    assert case.differences(lower_reduce)[0] <= 1


@pytest.mark.parametrize("op", ["ArgMax", "ArgMin"])
@pytest.mark.parametrize("axis", [1, 2, -1])
@pytest.mark.parametrize("last", [0, 1])
def test_the_place_of_an_extreme(op, axis, last):
    random = np.random.default_rng(0)
    attributes = {"axis": axis, "select_last_index": last}
    integers = random.integers(-4, 4, IMAGE).astype(np.int8)
    for x in (integers, random.normal(size=IMAGE).astype(np.float32)):
        Case(op, [x], attributes=attributes, result=INT64).close(lower_argmax)


@pytest.mark.parametrize(
    ("lower", "op", "constants", "attributes", "why"),
    [
        (lower_resize, "Resize", [None, [1, 1, 2, 2]], {"mode": "linear"}, "nearest is allowed"),
        (lower_reduce, "ReduceMax", [[1, 3]], {}, "do not lie together"),
    ],
)
def test_what_no_kernel_does_is_refused(lower, op, constants, attributes, why):
    kind = np.float32 if op == "Resize" else np.int64
    given = [c if c is None else np.array(c, kind) for c in constants]
    case = Case(op, [np.zeros(IMAGE, np.float32)], (), None, given, attributes)
    with pytest.raises(UnsupportedError, match=why):
        case.calls(lower)
