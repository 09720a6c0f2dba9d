"""Windows sliding over an image: Conv and pool attributes to numbers; 1-D is H = L, W = 1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mcugraph.lower.call import Site

Pair = tuple[int, int]


@dataclass(frozen=True)
class Window:
    """A kernel over an input, each pair (height, width); `begin` and `end` are the paddings.

    Row `oy` of the output reads input rows `oy * stride - begin + k * dilation` for k < kernel.
    With ceil_mode the last window may reach beyond the padding at the end.
    """

    input: Pair
    output: Pair
    kernel: Pair
    stride: Pair
    dilation: Pair
    begin: Pair
    end: Pair

    @property
    def taps(self) -> int:
        """Elements under the kernel in one channel."""
        return self.kernel[0] * self.kernel[1]

    @property
    def span(self) -> Pair:
        """Input rows and columns from the first to the last tap."""
        return (
            (self.kernel[0] - 1) * self.dilation[0] + 1,
            (self.kernel[1] - 1) * self.dilation[1] + 1,
        )

    @property
    def padded(self) -> bool:
        """Whether any window reaches beyond the input."""
        return any(
            begin > 0 or (out - 1) * stride - begin + span > size
            for begin, out, stride, span, size in zip(
                self.begin, self.output, self.stride, self.span, self.input, strict=True
            )
        )

    def fields(self) -> dict[str, int]:
        """The window's members of a kernel's parameters."""
        return {
            "x_height": self.input[0],
            "x_width": self.input[1],
            "y_width": self.output[1],
            "kernel_height": self.kernel[0],
            "kernel_width": self.kernel[1],
            "stride_height": self.stride[0],
            "stride_width": self.stride[1],
            "dilation_height": self.dilation[0],
            "dilation_width": self.dilation[1],
            "pad_top": self.begin[0],
            "pad_left": self.begin[1],
        }


def image_size(site: Site, shape: Sequence[int]) -> Pair:
    """(H, W) of an ONNX shape [1, C, H, W] or [1, C, L]; other shapes are refused."""
    if len(shape) not in (3, 4):
        raise site.refuse(f"{len(shape) - 2} spatial axes; 1 or 2 are allowed")
    if shape[0] != 1:
        raise site.refuse(f"a batch of {shape[0]}; bind the batch dimension to 1")
    return _pair(shape[2:], 1)


def window_of(site: Site, kernel: Sequence[int] | None = None) -> Window:
    """The window of a Conv (pass the kernel's spatial shape) or of a pool (its kernel_shape)."""
    shape = site.input(0).shape
    size = image_size(site, shape)
    spatial = len(shape) - 2
    kernel = site.attribute("kernel_shape", list(kernel or [])) or list(kernel or [])
    if len(kernel) != spatial:
        raise site.refuse(f"kernel_shape {list(kernel)} for {spatial} spatial axes")
    stride = _pair(site.attribute("strides", [1] * spatial), 1)
    dilation = _pair(site.attribute("dilations", [1] * spatial), 1)
    window = (_pair(kernel, 1), stride, dilation)
    begin, end = _pads(site, size, window)
    output = image_size(site, site.output.shape)
    found = Window(size, output, *window, begin, end)
    _check(site, found)
    return found


def _pair(values: Sequence[int], fill: int) -> Pair:
    """(height, width) of one or two numbers."""
    return (values[0], values[1]) if len(values) == 2 else (values[0], fill)


def _pads(site: Site, size: Pair, window: tuple[Pair, Pair, Pair]) -> tuple[Pair, Pair]:
    """Paddings before and after, from auto_pad or pads."""
    mode = site.attribute("auto_pad", "NOTSET")
    spatial = len(site.input(0).shape) - 2
    if mode in ("NOTSET", ""):
        pads = site.attribute("pads", [0] * (2 * spatial))
        return _pair(pads[:spatial], 0), _pair(pads[spatial:], 0)
    if mode == "VALID":
        return (0, 0), (0, 0)
    if mode not in ("SAME_UPPER", "SAME_LOWER"):
        raise site.refuse(f"auto_pad {mode!r}; NOTSET, VALID, SAME_UPPER, SAME_LOWER are allowed")
    totals = [_same(*axis) for axis in zip(size, *window, strict=True)]
    less = [total // 2 for total in totals]
    more = [total - half for total, half in zip(totals, less, strict=True)]
    first, last = (less, more) if mode == "SAME_UPPER" else (more, less)
    return _pair(first, 0), _pair(last, 0)


def _same(size: int, kernel: int, stride: int, dilation: int) -> int:
    """The padding that makes the output ceil(size / stride) long."""
    output = -(-size // stride)
    return max(0, (output - 1) * stride + (kernel - 1) * dilation + 1 - size)


def _check(site: Site, window: Window) -> None:
    """Refuse an output shape that the attributes do not give."""
    ceil = bool(site.attribute("ceil_mode", 0))
    for axis in range(2):
        room = window.input[axis] + window.begin[axis] + window.end[axis] - window.span[axis]
        stride = window.stride[axis]
        outputs = room // stride + 1
        allowed = {outputs, -(-room // stride) + 1} if ceil else {outputs}
        if window.output[axis] not in allowed or outputs < 1:
            raise site.refuse(f"the attributes give {outputs} outputs along spatial axis {axis}")
