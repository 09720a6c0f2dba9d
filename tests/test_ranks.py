"""Ranks for a target: met by the compiler's own figures, at the least loss, without more memory."""

from itertools import product

import numpy as np
import pytest
from models import Net
from onnx import ModelProto, numpy_helper

from mcugraph.cost import cost_of
from mcugraph.decision import Decision
from mcugraph.errors import LoadError
from mcugraph.passes.factorize import factorize
from mcugraph.ranks import QUANTITIES, choose_ranks

M0 = "cortex-m0"


def network(seed: int = 0) -> ModelProto:
    """Layers with singular values that fall at different speeds."""
    net = Net(17, seed)
    x = net("Relu", net.conv("a", net.input("x", 1, 3, 12, 12), 12, 3, 3, 3))
    x = net("Relu", net.conv("b", x, 16, 12, 3, 3, strides=[2, 2]))
    x = net("Relu", net.conv("d", x, 16, 1, 3, 3, group=16))
    x = net("Relu", net.conv("p", x, 24, 16, 1, 1, pads=[0] * 4))
    x = net("Flatten", net("GlobalAveragePool", x))
    model = net.model(net.gemm("fc", x, 10, 24))
    for tensor in model.graph.initializer:
        fall = {"a.weight": 0.9, "b.weight": 0.6, "p.weight": 0.4, "fc.weight": 0.7}
        if tensor.name in fall:
            tensor.CopyFrom(_falling(tensor.name, numpy_helper.to_array(tensor), fall[tensor.name]))
    return model


def _falling(name: str, weights: np.ndarray, ratio: float):
    left, sizes, right = np.linalg.svd(weights.reshape(len(weights), -1), full_matrices=False)
    matrix = left * (ratio ** np.arange(sizes.size)) @ right
    return numpy_helper.from_array(matrix.reshape(weights.shape).astype(np.float32), name)


def loss(model: ModelProto, ranks: dict[str, int]) -> float:
    """The sum of what the layers lose of their squared weights."""
    arrays = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    total = 0.0
    for name, rank in ranks.items():
        matrix = arrays[name].reshape(len(arrays[name]), -1).astype(np.float64)
        squares = np.linalg.svd(matrix, compute_uv=False) ** 2
        total += squares[rank:].sum() / squares.sum()
    return total


@pytest.mark.parametrize("by", QUANTITIES)
@pytest.mark.parametrize("target", [0.9, 0.7])
def test_the_target_is_met_by_the_compilers_figures(by: str, target: float) -> None:
    model = network()
    ranks = choose_ranks(model, by, target)
    before, after = cost_of(model, M0), cost_of(Decision(ranks=ranks).apply(model), M0)
    figure = QUANTITIES[by]
    assert getattr(after, figure) <= target * getattr(before, figure)
    assert after.ram <= before.ram
    for name in ranks:
        alone = cost_of(factorize(model, {name: ranks[name]}), M0)
        assert getattr(alone, figure) < getattr(before, figure)


def test_an_absolute_target_is_that_of_its_share() -> None:
    model = network()
    macs = cost_of(model, M0).macs
    assert choose_ranks(model, "macs", 0.6 * macs) == choose_ranks(model, "macs", 0.6)
    assert choose_ranks(model, "macs", macs) == choose_ranks(model, "macs", 1.0) == {}


def test_no_ranks_lose_less() -> None:
    """Brute force over all ranks of two layers: the greedy hull is within one step of the best."""
    net = Net(17, 3)
    x = net("Relu", net.conv("a", net.input("x", 1, 8, 8, 8), 10, 8, 3, 3))
    model = net.model(net.conv("b", x, 12, 10, 3, 3))
    names = ("a.weight", "b.weight")
    ranks = choose_ranks(model, "params", 0.6)
    left = cost_of(factorize(model, ranks), M0).parameters

    def parameters(a: int, b: int) -> int:
        first = 10 * 72 if a == 0 else a * 82
        return first + 10 + (12 * 90 if b == 0 else b * 102) + 12

    assert parameters(*(ranks.get(name, 0) for name in names)) == left
    best = min(
        loss(model, {name: rank for name, rank in zip(names, pair, strict=True) if rank})
        for pair in product(range(11), range(13))
        if parameters(*pair) <= left
    )
    assert loss(model, ranks) <= best * (1 + 1e-6)


def test_deterministic_and_pure() -> None:
    model = network()
    data = model.SerializeToString()
    assert list(choose_ranks(model).items()) == list(choose_ranks(model).items())
    assert model.SerializeToString() == data


def test_memory_bounds_the_rank() -> None:
    """The tensor between the factors may not raise the peak, however high its best rank is."""
    net = Net(17, 5)
    x = net("Relu", net.conv("a", net.input("x", 1, 2, 16, 16), 16, 2, 5, 5))
    x = net("GlobalAveragePool", net("Relu", net.conv("b", x, 16, 16, 3, 3)))
    model = net.model(net.gemm("fc", net("Flatten", x), 4, 16))
    loose = choose_ranks(model, "macs", 0.7)
    arena = cost_of(factorize(model, loose), M0, placed=False).ram
    assert arena <= cost_of(model, M0, placed=False).ram
    tight = choose_ranks(model, "macs", 0.7, ram=arena - 1)
    assert cost_of(factorize(model, tight), M0, placed=False).ram < arena
    assert tight["b.weight"] < loose["b.weight"]
    higher = factorize(model, {**tight, "b.weight": tight["b.weight"] + 1})
    assert cost_of(higher, M0, placed=False).ram >= arena
    with pytest.raises(ValueError, match="in an arena of 1000 bytes"):
        choose_ranks(model, "macs", 0.7, ram=1000)


@pytest.mark.parametrize(
    ("by", "target", "told"),
    [
        ("ram", 0.5, "by: there are flash, macs, params, not 'ram'"),
        ("macs", 0.0, "target is 0.0"),
        ("macs", 0.01, "factorisation leaves at least"),
    ],
)
def test_refusals(by: str, target: float, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        choose_ranks(network(), by, target)


def test_no_static_shape() -> None:
    model = network()
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"
    with pytest.raises(LoadError, match="--dim height"):
        choose_ranks(model)
