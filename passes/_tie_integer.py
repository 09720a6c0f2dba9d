"""What quantisers tie, and the operators on integers: those on floats, with scales between."""

from dataclasses import replace

from mcugraph.passes._tie_moves import concat
from mcugraph.passes._tie_plain import elementwise, pool, reduction, softmax
from mcugraph.passes._tie_weights import conv, gemm, matmul
from mcugraph.passes._ties import Rule, Site


def quantizer(site: Site) -> None:
    """y = x / scale + zero point: tensor-wise, or vectors along an axis, or in blocks of it."""
    x, y = site.inputs[0], site.outputs[0]
    axis = site.attribute("axis", 1) if site.rank(x) > 1 else 0
    site.tie_axes(x, y)
    for name in filter(None, site.inputs[1:3]):
        if site.rank(name) > 1:
            site.fix(site.ids(x, axis), "has blocks in it")
            site.tie_axes(name, y, leave=[axis])
        elif site.sizes(name) not in ((), (1,)):
            site.tie(site.ids(name, 0), site.ids(y, axis))


def dynamic_quantizer(site: Site) -> None:
    """The scale depends on every element."""
    site.fix_all("takes its scale from all of it")


def _integer(rule: Rule, data: slice | tuple[int, ...], vectors: dict[int, int]) -> Rule:
    """An operator on integers: where its data inputs are, and the axis of the output that a
    vector of scales or zero points at an input goes with."""

    def apply(site: Site) -> None:
        chosen = site.inputs[data] if isinstance(data, slice) else map(site.input, data)
        names = tuple(chosen)
        rule(replace(site, inputs=names))
        for index, axis in vectors.items():
            name = site.input(index)
            if name and site.rank(name) == 1 and site.sizes(name) != (1,):
                site.tie(site.ids(name, 0), site.ids(site.outputs[0], axis))

    return apply


RULES: dict[str, Rule] = {
    "QuantizeLinear": quantizer,
    "DequantizeLinear": quantizer,
    "DynamicQuantizeLinear": dynamic_quantizer,
    "ConvInteger": _integer(conv, (0, 1), {3: 1}),
    "MatMulInteger": _integer(matmul, (0, 1), {2: -2, 3: -1}),
    "QGemm": _integer(gemm, (0, 3, 6), {4: 1, 5: 1}),
    "QLinearAdd": _integer(elementwise, (0, 3), {}),
    "QLinearAveragePool": _integer(pool, (0,), {}),
    "QLinearConcat": _integer(concat, slice(2, None, 3), {}),
    "QLinearConv": _integer(conv, (0, 3, 8), {4: 1, 5: 1}),
    "QLinearGlobalAveragePool": _integer(pool, (0,), {}),
    "QLinearLeakyRelu": _integer(elementwise, (0,), {}),
    "QLinearMatMul": _integer(matmul, (0, 3), {1: -2, 2: -2, 4: -1, 5: -1}),
    "QLinearMul": _integer(elementwise, (0, 3), {}),
    "QLinearReduceMean": _integer(reduction, (0,), {}),
    "QLinearSigmoid": _integer(elementwise, (0,), {}),
    "QLinearSoftmax": _integer(softmax, (0,), {}),
}
