"""Low-rank factors: exact at full rank, the nearest below it, and clear refusals."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models import Net, quantized
from onnx import ModelProto, numpy_helper
from test_laws import check_equal, check_interface, outputs

from mcugraph.passes.factorize import factorize

QUICK = settings(deadline=None, max_examples=60, derandomize=True)


def network() -> ModelProto:
    """Strided, dilated, padded and 1-D convolutions, Gemm both ways, MatMul; a shared weight."""
    net = Net(17)
    x = net("Relu", net.conv("a", net.input("x", 1, 3, 9, 8), 10, 3, 3, 3, strides=[2, 1]))
    x = net.conv("b", x, 12, 10, 3, 2, dilations=[2, 1], pads=[2, 0, 2, 1])
    x = net("Conv", x, net.weight("same", 12, 12, 3, 3), auto_pad="SAME_UPPER")
    x = net("Conv", net("Relu", x), "same", pads=[1] * 4)
    x = net.conv("d", x, 12, 1, 3, 3, group=12)
    x = net("Relu", net.conv("p", x, 14, 12, 1, 1, pads=[0] * 4))
    x = net("Flatten", net("GlobalAveragePool", x))
    x = net("Relu", net.gemm("fc", x, 12, 14))
    w, b = net.weight("plain", 12, 9), net.weight("plain_bias", 9)
    x = net("Gemm", x, w, b, alpha=0.5, beta=2.0)
    return net.model(net("MatMul", x, net.weight("last", 9, 5)))


FULL = {"a.weight": 10, "b.weight": 12, "same": 12, "p.weight": 12}
FULL |= {"fc.weight": 12, "plain": 9, "last": 5}


def values(model: ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def check(model: ModelProto, ranks: dict[str, int]) -> ModelProto:
    data = model.SerializeToString()
    result = factorize(model, ranks)
    assert model.SerializeToString() == data, "not pure"
    onnx.checker.check_model(result, full_check=True)
    onnx.shape_inference.infer_shapes(result, check_type=True, strict_mode=True, data_prop=True)
    check_interface(model, result)
    assert factorize(model, ranks).SerializeToString() == result.SerializeToString()
    return result


@pytest.mark.parametrize("name", FULL)
def test_the_full_rank_is_exact(name: str) -> None:
    model = network()
    result = check(model, {name: FULL[name]})
    assert name not in values(result)
    check_equal(outputs(model, 3), outputs(result, 3), exact=False)


def test_all_at_once() -> None:
    model = network()
    result = check(model, FULL)
    check_equal(outputs(model, 3), outputs(result, 3), exact=False)
    assert len(result.graph.node) == len(model.graph.node) + len(FULL) + 1
    assert values(result)["a.weight_first"].shape == (10, 3, 3, 3)
    assert values(result)["a.weight_second"].shape == (10, 10, 1, 1)
    assert values(result)["plain_first"].shape == (12, 9)
    assert values(result)["plain_second"].shape == (9, 9)


@QUICK
@given(st.integers(1, 2), st.data())
def test_the_error_is_that_of_the_cut_singular_values(spatial: int, data: st.DataObject) -> None:
    """Eckart and Young: no matrix of that rank is nearer, by the eigenvalues of w @ w.T."""
    shape = [data.draw(st.integers(1, 9)) for _ in range(2 + spatial)]
    net = Net(17, data.draw(st.integers(0, 99)))
    x = net.input("x", 1, shape[1], *[12] * spatial)
    model = net.model(net("Conv", x, net.weight("w", *shape)))
    matrix = values(model)["w"].reshape(shape[0], -1).astype(np.float64)
    rank = data.draw(st.integers(1, min(matrix.shape)))
    result = values(factorize(model, {"w": rank}))
    first, second = (result[f"w_{part}"].astype(np.float64) for part in ("first", "second"))
    product = second.reshape(shape[0], rank) @ first.reshape(rank, -1)
    squares = np.sort(np.linalg.eigvalsh(matrix @ matrix.T))[: max(shape[0] - rank, 0)]
    error = ((product - matrix) ** 2).sum()
    np.testing.assert_allclose(error, max(squares.sum(), 0), rtol=1e-4, atol=1e-9)
    norms = np.linalg.norm(first.reshape(rank, -1), axis=1), np.linalg.norm(second, axis=0).ravel()
    np.testing.assert_allclose(*norms, rtol=1e-3, atol=1e-6)


def test_a_weight_of_low_rank_loses_nothing() -> None:
    net = Net(17)
    x = net.input("x", 1, 8, 6, 6)
    low = net.random.normal(size=(12, 3)) @ net.random.normal(size=(3, 72))
    net.const("w", low.reshape(12, 8, 3, 3), np.float32)
    model = net.model(net("Conv", x, "w", net.weight("b", 12)))
    check_equal(outputs(model, 1), outputs(check(model, {"w": 3}), 1), exact=False)


def test_an_old_gemm_needs_its_bias() -> None:
    net = Net(9)
    model = net.model(net.gemm("fc", net.input("x", 2, 7), 5, 7))
    check_equal(outputs(model, 1), outputs(check(model, {"fc.weight": 5}), 1), exact=False)


def test_nothing_to_do() -> None:
    model = network()
    assert factorize(model, {}).SerializeToString() == model.SerializeToString()


def chain() -> ModelProto:
    net = Net(17)
    x = net("Relu", net.conv("a", net.input("x", 1, 3, 8, 8), 8, 3, 3, 3))
    return net.model(net.conv("b", x, 4, 8, 3, 3))


def vectors() -> ModelProto:
    net = Net(17)
    x = net("MatMul", net.input("x", 2, 6), net.weight("v", 6))
    return net.model(net("Identity", x))


REFUSALS: dict[str, tuple[Callable[[], ModelProto], dict[str, int], list[str]]] = {
    "unknown": (network, {"a.wieght": 2}, ["no weight 'a.wieght'; near to it: 'a.weight'"]),
    "no weight": (network, {"zzz": 2}, ["no weight 'zzz' of a layer; there are: 'a.weight'"]),
    "bias": (network, {"fc.bias": 2}, ["no weight 'fc.bias' of a layer; there are"]),
    "range": (network, {"a.weight": 11}, ["'a.weight' can have ranks from 1 to 10, not 11"]),
    "zero": (network, {"a.weight": 0}, ["'a.weight' can have ranks from 1 to 10, not 0"]),
    "grouped": (network, {"d.weight": 1}, ["'d.weight' belongs to Conv", "with 12 groups"]),
    "vector": (vectors, {"v": 1}, ["'v' has shape [6]; one matrix is allowed"]),
    "quantised": (lambda: quantized(chain), {"a.weight": 2}, ["is quantised; factorise the float"]),
    "several": (network, {"a.weight": 99, "d.weight": 1, "x": 1}, ["99", "12 groups", "'x'"]),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refusals(case: str) -> None:
    build, ranks, told = REFUSALS[case]
    with pytest.raises(ValueError, match=r"^cannot factorise:") as caught:
        factorize(build(), ranks)
    for part in told:
        assert part in str(caught.value)
    assert len(str(caught.value).splitlines()) == (1 if len(ranks) == 1 else len(ranks) + 1)


def test_weights_that_are_not_finite() -> None:
    net = Net(17)
    net.const("w", np.full((4, 3, 1, 1), np.inf), np.float32)
    model = net.model(net("Conv", net.input("x", 1, 3, 4, 4), "w"))
    with pytest.raises(ValueError, match="not finite"):
        factorize(model, {"w": 1})
