"""How each operator shrinks: what it asks of its inputs when its outputs keep less."""

from collections.abc import Callable, Sequence

from mcugraph.passes import _shrink_pieces as pieces
from mcugraph.passes import _shrink_shapes as shapes
from mcugraph.passes import _shrink_weights as weights
from mcugraph.passes._edit import Array, attribute, slot
from mcugraph.passes._keep import Keep, Site

Rule = Callable[[Site], None]


def _elementwise(site: Site) -> None:
    if site.edit.opset < 7 and attribute(site.node, "broadcast", 0):
        raise site.refuse("broadcasting along an axis is of an old operator set")
    weights.broadcast(site, *(i for i, name in enumerate(site.node.input) if name))


def _first_alone(site: Site) -> None:
    """One operand; all other inputs are scalars, and further outputs are like the first."""
    for index in range(len(site.node.output)):
        site.out(index)
    site.need(0, site.out())


def _qlinear_pair(site: Site) -> None:
    weights.broadcast(site, 0, 3)


def _channelwise(site: Site) -> None:
    """Vectors with one element per channel: BatchNormalization, InstanceNormalization."""
    first = site.only(0, 1) if site.node.op_type == "InstanceNormalization" else site.out()
    site.need(0, first)
    for index in range(1, len(site.node.input)):
        site.need_vector(index, first.get(1))


def _over_images(site: Site) -> None:
    """Every channel by itself, each of its images as a whole."""
    channel = len(site.shape()) - 1 if attribute(site.node, "channels_last", 0) else 1
    site.need(0, site.only(0, channel))


def _quantizer(site: Site) -> None:
    """Scale and zero point: one each, a vector along `axis`, or blocks of an axis."""
    out, rank = site.out(), len(site.out_shape())
    site.need(0, out)
    axis = site.axis(1, rank)
    grid = site.shape(1)
    if len(grid) < 2:
        site.need_vector(1, out.get(axis))
        site.need_vector(2, out.get(axis))
        return
    if axis in out:
        raise site.refuse(f"axis {axis} is quantised in blocks")
    site.need(1, out)
    site.need(2, out)


def _along_axes(site: Site) -> None:
    """Operators that mix some axes: these must stay whole; all outputs keep the same."""
    mixed = {axis % len(site.shape()) for axis in _mixed(site)}
    for index, name in enumerate(site.node.output):
        if name and mixed & site.out(index).keys():
            raise site.refuse(f"axes {sorted(mixed)}, which it mixes, must stay whole")
    site.need(0, site.out())
    if "Normalization" in site.node.op_type:
        weights.broadcast(site, *(i for i, name in enumerate(site.node.input) if i and name))


def _mixed(site: Site) -> Sequence[int]:
    kind, rank = site.node.op_type, len(site.shape())
    if kind == "LRN":
        return [1]
    if kind == "MeanVarianceNormalization":
        return list(attribute(site.node, "axes", (0, 2, 3)))
    if kind == "CumSum":
        axis = site.edit.scalar(slot(site.node, 1))
        return range(rank) if axis is None else [int(axis)]
    if kind in _FLATTENING and site.edit.opset < 13:
        return range(site.axis(1, rank), rank)
    axis = site.axis(-1, rank)
    return range(axis, rank) if "Layer" in kind or "RMS" in kind else [axis]


def _group_normalization(site: Site) -> None:
    site.need(0, site.only(0))


def _reduction(site: Site) -> None:
    """Of the axes that it reduces, a sum may shrink: what is removed adds nothing."""
    rank, out, given = len(site.shape()), site.out(), site.given()
    axes = _reduced(site, rank)
    kept = _unreduced(site, out, rank, axes)
    if given is not None and site.node.op_type in _SUMS:
        kept |= {axis: k for axis, k in given.items() if axis in axes}
    site.need(0, kept)


def _reduced(site: Site, rank: int) -> set[int]:
    if site.node.op_type in ("ArgMax", "ArgMin"):
        return {site.axis(0, rank)}
    axes = site.ints(1, "axes")
    if axes is None and slot(site.node, 1):
        raise site.refuse("its axes are not constant")
    if axes is None or not axes.size:
        return set() if attribute(site.node, "noop_with_empty_axes", 0) else set(range(rank))
    return {int(axis) % rank for axis in axes}


def _unreduced(site: Site, out: Keep, rank: int, axes: set[int]) -> dict[int, Array]:
    """What the output keeps, on the axes of the input."""
    if attribute(site.node, "keepdims", 1):
        return dict(out)
    left = [axis for axis in range(rank) if axis not in axes]
    return {left[axis]: kept for axis, kept in out.items()}


_FLATTENING = ("Softmax", "LogSoftmax", "Hardmax")
_SUMS = ("ReduceSum", "ReduceL1", "ReduceL2", "ReduceSumSquare")
_MIXING = """CumSum LayerNormalization LpNormalization LRN MeanVarianceNormalization
RMSNormalization SimplifiedLayerNormalization TopK"""
_UNARY = """Abs Acos Acosh Asin Asinh Atan Atanh BitwiseNot Cast Ceil Celu Clip Cos Cosh Dropout
Elu Erf Exp Floor Gelu HardSigmoid HardSwish Identity IsInf IsNaN LeakyRelu
Log Mish Neg Not Reciprocal Relu Round Selu Shrink Sigmoid Sign Sin Sinh Softplus Softsign Sqrt
Swish Tan Tanh ThresholdedRelu"""
_PAIRS = """Add And BitShift BitwiseAnd BitwiseOr BitwiseXor Div Equal Greater GreaterOrEqual Less
LessOrEqual Max Mean Min Mod Mul Or PRelu Pow Sub Sum Where Xor"""
_POOLS = """AveragePool GlobalAveragePool GlobalLpPool GlobalMaxPool GridSample LpPool MaxPool
QLinearAveragePool QLinearGlobalAveragePool"""
_REDUCTIONS = """ArgMax ArgMin ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean
ReduceMin ReduceProd ReduceSum ReduceSumSquare"""
RULES: dict[str, Rule] = {
    **dict.fromkeys(_UNARY.split(), _first_alone),
    **dict.fromkeys(_PAIRS.split(), _elementwise),
    **dict.fromkeys(_POOLS.split(), _over_images),
    **dict.fromkeys(_REDUCTIONS.split(), _reduction),
    **dict.fromkeys(("BatchNormalization", "InstanceNormalization"), _channelwise),
    **dict.fromkeys((*_FLATTENING, *_MIXING.split()), _along_axes),
    **dict.fromkeys(("QuantizeLinear", "DequantizeLinear"), _quantizer),
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), shapes.reshape),
    **dict.fromkeys(("Shape", "Size"), shapes.shape_of),
    **dict.fromkeys(("RNN", "GRU", "LSTM"), weights.recurrent),
    "CastLike": _first_alone,
    "Concat": pieces.concat,
    "ConstantOfShape": shapes.constant_of_shape,
    "Conv": weights.conv,
    "ConvInteger": weights.conv_integer,
    "ConvTranspose": weights.conv_transpose,
    "DepthToSpace": shapes.depth_to_space,
    "Expand": shapes.expand,
    "Gather": pieces.gather,
    "Gemm": weights.gemm,
    "GroupNormalization": _group_normalization,
    "MatMul": weights.matmul,
    "MatMulInteger": weights.matmul_integer,
    "Pad": pieces.pad,
    "QLinearConv": weights.qlinear_conv,
    "QLinearMatMul": weights.qlinear_matmul,
    "Resize": shapes.resize,
    "Slice": pieces.slice_,
    "SpaceToDepth": shapes.space_to_depth,
    "Split": pieces.split,
    "Tile": shapes.tile,
    "Transpose": shapes.transpose,
    "Upsample": shapes.resize,
}
FOREIGN: dict[str, Rule] = {
    **dict.fromkeys(("Gelu", "QuickGelu"), _first_alone),
    **dict.fromkeys(("BiasGelu", "FastGelu"), _elementwise),
    **dict.fromkeys(("QLinearSigmoid", "QLinearLeakyRelu"), _first_alone),
    **dict.fromkeys(("QLinearAdd", "QLinearMul"), _qlinear_pair),
    **dict.fromkeys(("QLinearAveragePool", "QLinearGlobalAveragePool"), _over_images),
    **dict.fromkeys(("QuantizeLinear", "DequantizeLinear"), _quantizer),
    "SimplifiedLayerNormalization": _along_axes,
    "QGemm": weights.qgemm,
    "QLinearConcat": pieces.qlinear_concat,
    "QLinearReduceMean": _reduction,
    "QLinearSoftmax": _along_axes,
}
