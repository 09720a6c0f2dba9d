"""What operators tie that work element by element or along an axis: the rest."""

from collections.abc import Iterable

from mcugraph.passes._ties import Rule, Site

_ELEMENTWISE = """Abs Acos Acosh Add And Asin Asinh Atan Atanh BiasGelu BitShift
BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Cast Ceil Celu Clip Cos Cosh Div Dropout Elu Equal Erf
Exp FastGelu Floor Gelu Greater GreaterOrEqual HardSigmoid HardSwish Identity IsInf IsNaN LeakyRelu
Less LessOrEqual Log Max Mean Min Mish Mod Mul Neg Not Or PRelu Pow QuickGelu Reciprocal Relu Round
Selu Shrink Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Sub Sum Swish Tan Tanh ThresholdedRelu
Where Xor""".split()
_POOLS = "AveragePool GlobalAveragePool GlobalLpPool GlobalMaxPool LpPool MaxPool".split()
# A zeroed element adds nothing to these: what is summed may shrink.
_SUMS = frozenset("ReduceL1 ReduceL2 ReduceSum ReduceSumSquare".split())
_REDUCTIONS = [*_SUMS, *"ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin".split()]
_FLATTENING = ("Hardmax", "LogSoftmax", "Softmax")
_LAYER_NORMS = ("LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization")
_NORMALISES = "normalises over it"


def elementwise(site: Site) -> None:
    """y = f(x1, x2, ...) with broadcasting; what f(0) is does not matter."""
    if site.attribute("broadcast"):
        site.fix_all("broadcasts as in operator sets before 7")
        return
    for name in (*site.inputs, *site.outputs[1:]):
        if name:
            site.spread(name, site.outputs[0])


def first_alone(site: Site) -> None:
    """y = f(x); further operands give a type."""
    site.tie_axes(site.inputs[0], site.outputs[0])


def per_channel(site: Site) -> None:
    """y = f(x, vectors) with one element of each vector for a channel (axis 1)."""
    site.tie_axes(site.inputs[0], site.outputs[0])
    for name in filter(None, (*site.inputs[1:], *site.outputs[1:])):
        site.tie(site.ids(name, 0), site.ids(site.outputs[0], 1))


def batch_norm(site: Site) -> None:
    """y = f(x, vectors) per channel; statistics of the batch itself, in training mode, fix it."""
    per_channel(site)
    if site.attribute("training_mode"):
        for axis in (0, *range(2, site.rank(site.inputs[0]))):
            site.fix(site.ids(site.inputs[0], axis), _NORMALISES)


def instance_norm(site: Site) -> None:
    """y = f(x, vectors) per channel, normalised over space."""
    per_channel(site)
    for axis in range(2, site.rank(site.inputs[0])):
        site.fix(site.ids(site.inputs[0], axis), _NORMALISES)


def group_norm(site: Site) -> None:
    """y = f(x, vectors), normalised over groups of channels and space."""
    for axis in range(1, site.rank(site.inputs[0])):
        site.fix(site.ids(site.inputs[0], axis), "normalises over it in groups")
    site.tie_axes(site.inputs[0], site.outputs[0])
    for name in filter(None, site.inputs[1:]):
        site.fix(site.ids(name, 0), "normalises over it in groups")


def pool(site: Site) -> None:
    """Batch and channels stay, space is pooled."""
    x, y = site.inputs[0], site.outputs[0]
    last = site.attribute("channels_last", 0)
    for axis in range(site.rank(x)):
        if axis in (0, site.rank(x) - 1 if last else 1):
            site.tie(site.ids(x, axis), site.ids(y, axis))
            continue
        site.fix(site.ids(x, axis), "pools it")
        site.fix(site.ids(y, axis), "pools it")
    if any(site.outputs[1:]):
        site.fix_all("counts positions in it")


def softmax(site: Site) -> None:
    """y = f(x) along one axis; before version 13 along that and all behind it."""
    rank = site.rank(site.inputs[0])
    old = site.node.op_type in _FLATTENING and site.ties.edit.opset < 13
    axis = site.attribute("axis", 1 if old else -1) % rank
    _along(site, range(axis, rank if old else axis + 1), _NORMALISES)


def local_norm(site: Site) -> None:
    """y = f(x) over neighbouring channels."""
    _along(site, [1], _NORMALISES)


def mean_variance(site: Site) -> None:
    """y = f(x) over the batch and space, or any axes."""
    _along(site, site.attribute("axes", (0, 2, 3)), _NORMALISES)


def layer_norm(site: Site) -> None:
    """y = f(x, scale, bias) over one axis and all behind it."""
    rank = site.rank(site.inputs[0])
    _along(site, range(site.attribute("axis", -1) % rank, rank), _NORMALISES)
    for name in filter(None, (*site.inputs[1:], *site.outputs[1:])):
        site.spread(name, site.outputs[0])


def cumulative_sum(site: Site) -> None:
    """y = sums of all before, along a constant axis."""
    axis = site.constant(1)
    axes = range(site.rank(site.inputs[0])) if axis is None else [int(axis.reshape(-1)[0])]
    _along(site, axes, "sums along it")


def top(site: Site) -> None:
    """Values and indices of the greatest along an axis."""
    axis = site.attribute("axis", -1)
    for name in filter(None, site.outputs):
        site.fix(site.ids(name, axis), "sorts it")
        site.fix(site.ids(site.inputs[0], axis), "sorts it")
        site.tie_axes(site.inputs[0], name, leave=[axis])


def _along(site: Site, axes: Iterable[int], what: str) -> None:
    """Fix these axes; the others go through."""
    x, y, fixed = site.inputs[0], site.outputs[0], list(axes)
    for axis in fixed:
        site.fix(site.ids(x, axis), what)
        site.fix(site.ids(y, axis), what)
    site.tie_axes(x, y, leave=fixed)


def reduction(site: Site) -> None:
    """y = x reduced over some axes, which are fixed but where zeroes add nothing."""
    x, y, kind = site.inputs[0], site.outputs[0], site.node.op_type
    axes = _reduced(site)
    if axes is None:
        site.fix_all("reduces over axes that are known at run time only")
        return
    kept = [axis for axis in range(site.rank(x)) if axis not in axes]
    for axis in axes:
        if kind not in _SUMS:
            what = "averages over it" if kind == "ReduceMean" else "reduces over it"
            site.fix(site.ids(x, axis), what)
    places = kept if site.rank(x) == site.rank(y) else range(len(kept))
    for axis, place in zip(kept, places, strict=True):
        site.tie(site.ids(x, axis), site.ids(y, place))


def _reduced(site: Site) -> set[int] | None:
    """The axes that a reduction is over; None where they are known at run time only."""
    rank, kind = site.rank(site.inputs[0]), site.node.op_type
    if kind.startswith("Arg"):
        return {site.attribute("axis", 0) % rank}
    given = site.attribute("axes", site.constant(1))
    if given is None and site.input(1):
        return None
    if given is not None and len(given):
        return {int(axis) % rank for axis in given}
    return set() if site.attribute("noop_with_empty_axes", 0) else set(range(rank))


def free(site: Site) -> None:
    """Nothing is tied: the output depends on a constant shape only."""
    if site.constant(0) is None:
        site.fix_all("has a size that is known at run time only")


def size(site: Site) -> None:
    """A size that is worked out at run time must stay."""
    site.fix_all("reads its size: fold constants first")


RULES: dict[str, Rule] = {
    **dict.fromkeys(_ELEMENTWISE, elementwise),
    **dict.fromkeys(_POOLS, pool),
    **dict.fromkeys([*_FLATTENING, "LpNormalization"], softmax),
    **dict.fromkeys(_LAYER_NORMS, layer_norm),
    **dict.fromkeys([*_REDUCTIONS, "ReduceProd", "ArgMax", "ArgMin"], reduction),
    "BatchNormalization": batch_norm,
    "InstanceNormalization": instance_norm,
    "GroupNormalization": group_norm,
    "CastLike": first_alone,
    "ConstantOfShape": free,
    "CumSum": cumulative_sum,
    "LRN": local_norm,
    "MeanVarianceNormalization": mean_variance,
    "Shape": size,
    "Size": size,
    "TopK": top,
}
