"""Windows against brute force: which elements they cover, which attributes are refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from steps import Case

from mcugraph.lower.call import Site, UnsupportedError
from mcugraph.lower.geometry import Window, window_of


def window(shape: tuple[int, ...], kernel: list[int], **attributes) -> Window:
    x = np.zeros((1, 1, *shape), np.float32)
    w = np.zeros((1, 1, *kernel), np.float32)
    return _window(Case("Conv", [x], constants=[w], attributes=attributes), kernel)


def _window(case: Case, kernel: list[int] | None) -> Window:
    graph = case.graph()
    return window_of(Site(graph, graph.steps[0], case.layouts()), kernel)


def covered(found: Window, axis: int) -> list[list[int]]:
    """The input places that each output along an axis reads."""
    return [
        [o * found.stride[axis] - found.begin[axis] + k * found.dilation[axis] for k in taps]
        for o in range(found.output[axis])
        for taps in [range(found.kernel[axis])]
    ]


@settings(deadline=None, derandomize=True, max_examples=60)
@given(st.data())
def test_a_window_is_padded_where_it_reads_outside(data: st.DataObject) -> None:
    kernel, stride, dilation, begin, end = (
        data.draw(st.integers(low, high)) for low, high in ((1, 4), (1, 3), (1, 3), (0, 2), (0, 2))
    )
    size = max(1, (kernel - 1) * dilation + 1 - begin - end) + data.draw(st.integers(0, 7))
    found = window((size,), [kernel], strides=[stride], dilations=[dilation], pads=[begin, end])
    places = np.array(covered(found, 0))
    assert found.padded == bool((places < 0).any() or (places >= size).any())
    assert (found.output[1], found.kernel[1], found.begin[1]) == (1, 1, 0)
    assert found.taps == kernel
    assert found.span[0] == places[0, -1] - places[0, 0] + 1


def test_pads_are_the_begins_then_the_ends() -> None:
    found = window((5, 6), [2, 3], pads=[1, 2, 3, 4])
    assert (found.begin, found.end) == ((1, 2), (3, 4))
    assert found.fields()["pad_top"] == 1
    assert found.fields()["pad_left"] == 2


@pytest.mark.parametrize(
    ("mode", "begin", "end"), [("SAME_UPPER", 0, 1), ("SAME_LOWER", 1, 0), ("VALID", 0, 0)]
)
def test_auto_pad_splits_an_odd_padding(mode: str, begin: int, end: int) -> None:
    found = window((4, 4), [2, 2], auto_pad=mode)
    assert (found.begin, found.end) == ((begin, begin), (end, end))


def test_ceil_mode_lets_the_last_window_reach_beyond_the_padding() -> None:
    x = np.zeros((1, 1, 5, 6), np.float32)
    attributes = {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}
    found = _window(Case("MaxPool", [x], attributes=attributes), None)
    assert found.output == (3, 3)
    assert found.padded
    assert covered(found, 0)[-1] == [4, 5]


def test_a_kernel_shape_of_another_rank_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="for 1 spatial axes"):
        _window(
            Case(
                "Conv",
                [np.zeros((1, 1, 5), np.float32)],
                constants=[np.zeros((1, 1, 2), np.float32)],
            ),
            [2, 2],
        )
