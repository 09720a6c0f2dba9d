"""Clustering: few values, the best ones by brute force, standard models, clear refusals."""

import json
from collections.abc import Callable
from itertools import combinations, pairwise

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models import Net, quantized
from onnx import ModelProto, numpy_helper
from test_laws import check_interface, outputs

from mcugraph.cost import cost_of
from mcugraph.decision import Decision
from mcugraph.load import load_model
from mcugraph.optimize import rewrite
from mcugraph.passes._codebook import nearest
from mcugraph.passes._notes import PACKED, ask_to_pack, asked_to_pack
from mcugraph.passes.cluster_weights import cluster_weights
from mcugraph.read import read_graph

QUICK = settings(deadline=None, max_examples=100, derandomize=True)
FLOATS = st.floats(-100, 100, width=32)


def values(model: ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def network() -> ModelProto:
    net = Net(17)
    x = net("Relu", net.conv("a", net.input("x", 1, 3, 8, 8), 12, 3, 3, 3))
    x = net("Relu", net.conv("d", x, 12, 1, 3, 3, group=12))
    x = net.conv("p", x, 14, 12, 1, 1, pads=[0] * 4)
    x = net("Flatten", net("GlobalAveragePool", x))
    return net.model(net.gemm("fc", x, 5, 14))


def qdq() -> ModelProto:
    return quantized(network)


NAMES = ["a.weight", "p.weight", "fc.weight"]


@QUICK
@given(st.lists(FLOATS, min_size=1, max_size=9), st.integers(1, 4), st.integers(0, 99))
def test_no_other_values_are_better(given_values: list[float], count: int, seed: int) -> None:
    """Brute force over every cut of the sorted values into runs, each at its weighted mean."""
    points = np.sort(np.array(given_values))
    weights = np.random.default_rng(seed).uniform(0.1, 3, points.size)
    found = nearest(points, count, weights)
    assert np.unique(found).size <= count

    def error(cuts: tuple[int, ...]) -> float:
        runs = pairwise((0, *cuts, points.size))
        return sum(
            float(
                (
                    weights[a:b]
                    * (points[a:b] - np.average(points[a:b], weights=weights[a:b])) ** 2
                ).sum()
            )
            for a, b in runs
        )

    inner = range(1, points.size)
    least = min(
        error(cuts) for used in range(min(count, points.size)) for cuts in combinations(inner, used)
    )
    mine = float((weights * (points - found) ** 2).sum())
    assert mine <= least * (1 + 1e-9) + 1e-9 * float((weights * points**2).sum()) + 1e-12


@QUICK
@given(st.integers(2, 16), st.integers(0, 999))
def test_integers_stay_integers_and_few_stay_as_they_are(count: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    integers = np.rint(random.normal(0, 40, 500)).clip(-128, 127).astype(np.int8)
    found = nearest(integers, count, np.ones(500))
    assert np.array_equal(found, found.astype(np.int8))
    assert np.unique(found).size <= count
    assert np.array_equal(nearest(found, count, np.ones(500)), found)


def test_many_values_are_nearly_as_good_as_exact_means() -> None:
    """Beyond the exact search: within a thousandth of Lloyd's local optimum from the same start."""
    points = np.random.default_rng(0).normal(size=20_000).astype(np.float32)
    found = nearest(points, 8, np.ones(points.size))
    table = np.unique(found)
    for _ in range(50):
        nearby = np.abs(points[:, None] - table).argmin(axis=1)
        table = np.array([points[nearby == k].astype(np.float64).mean() for k in range(table.size)])
    settled = ((points - table[np.abs(points[:, None] - table).argmin(axis=1)]) ** 2).sum()
    assert ((points - found) ** 2).sum() <= settled * 1.001


@pytest.mark.parametrize("build", [network, qdq])
@pytest.mark.parametrize("count", [16, 4, 2])
def test_laws(build: Callable[[], ModelProto], count: int) -> None:
    model = build()
    data = model.SerializeToString()
    asked = dict.fromkeys(NAMES, count)
    result = cluster_weights(model, asked)
    assert model.SerializeToString() == data, "not pure"
    onnx.checker.check_model(result, full_check=True)
    onnx.shape_inference.infer_shapes(result, check_type=True, strict_mode=True, data_prop=True)
    check_interface(model, result)
    assert cluster_weights(model, asked).SerializeToString() == result.SerializeToString()
    assert cluster_weights(result, asked).SerializeToString() == result.SerializeToString()
    assert all(np.isfinite(value).all() for value in outputs(result, 3))
    changed = {n for n, v in values(result).items() if not np.array_equal(v, values(model)[n])}
    assert {name.removesuffix("_quantized") for name in changed} == set(NAMES)
    for name in changed:
        assert values(result)[name].dtype == values(model)[name].dtype
        assert np.unique(values(result)[name]).size <= count


def test_channels_count_by_their_scale() -> None:
    """A channel whose steps are worth ten times as much has its weights met first."""
    net = Net(17)
    x = net.dequantize(net.input("x", 1, 2, 4, 4, kind=onnx.TensorProto.INT8), 0.1, 0)
    net.const("w", np.array([[10, 11], [90, 100]]).reshape(2, 2, 1, 1), np.int8)
    scales = net.const("s", [1.0, 0.01], np.float32), net.const("z", [0, 0], np.int8)
    y = net("Conv", x, net("DequantizeLinear", "w", *scales, axis=0))
    model = net.model(y)
    found = values(cluster_weights(model, {"w": 3}))["w"].reshape(-1)
    assert found.tolist() == [10, 11, 95, 95]


def test_the_request_reaches_the_graph() -> None:
    model = cluster_weights(qdq(), {"a.weight": 16, "fc.weight": 4})
    entry = next(e.value for e in model.metadata_props if e.key == PACKED)
    assert json.loads(entry) == ["a.weight_quantized", "fc.weight_quantized"]
    graph = read_graph(rewrite(load_model(model)))
    packed = [name for name, tensor in graph.tensors.items() if tensor.packed]
    assert len(packed) == 2
    assert not any(tensor.packed for tensor in read_graph(rewrite(qdq())).tensors.values())


def test_a_request_survives_quantisation_and_grows() -> None:
    model = cluster_weights(network(), {"a.weight": 4})
    model = cluster_weights(model, {"p.weight": 4})
    assert asked_to_pack(model, ["a.weight", "p.weight", "fc.weight"]) == {"a.weight", "p.weight"}
    assert asked_to_pack(model, ["a.weight_quantized", "a.weight__1_quantized", "b"]) == {
        "a.weight_quantized",
        "a.weight__1_quantized",
    }
    after = quantized(lambda: model)
    assert asked_to_pack(after, values(after)) == {"a.weight_quantized", "p.weight_quantized"}


def test_a_float_model_is_costed_as_packed() -> None:
    before = cost_of(network(), "cortex-m0", placed=False)
    after = cost_of(cluster_weights(network(), {"a.weight": 16}), "cortex-m0", placed=False)
    assert before.weights - 170 < after.weights < before.weights - 100
    assert (after.macs, after.parameters) == (before.macs, before.parameters)


def test_as_a_decision_after_quantisation() -> None:
    model, decision = qdq(), Decision(codebooks={"a.weight": 4})
    assert decision.check(model) == ()
    expected = cluster_weights(model, {"a.weight": 4})
    assert decision.apply(model).SerializeToString() == expected.SerializeToString()


def test_damaged_metadata_is_told() -> None:
    model = network()
    model.metadata_props.add(key=PACKED, value="[1]")
    with pytest.raises(ValueError, match="no list of names"):
        ask_to_pack(model, ["a.weight"])


REFUSALS = {
    "unknown": (network, {"a.wieght": 4}, ["no weight 'a.wieght'; near to it: 'a.weight'"]),
    "many": (qdq, {"a.weight": 17}, ["'a.weight' can have 2 to 16 values, not 17"]),
    "one": (network, {"a.weight": 1}, ["'a.weight' can have 2 to 16 values, not 1"]),
    "depthwise": (network, {"d.weight": 4}, ["'d.weight' belongs to the depthwise Conv"]),
    "twice": (qdq, {"a.weight": 4, "a.weight_quantized": 8}, ["is named twice, with 4 and 8"]),
    "several": (network, {"a.weight": 0, "d.weight": 4, "x": 4}, ["not 0", "depthwise", "'x'"]),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refusals(case: str) -> None:
    build, asked, told = REFUSALS[case]
    with pytest.raises(ValueError, match=r"^cannot cluster weights:") as caught:
        cluster_weights(build(), asked)
    for part in told:
        assert part in str(caught.value)


def test_a_weight_that_others_read() -> None:
    net = Net(17)
    x = net.conv("a", net.input("x", 1, 3, 4, 4), 3, 3, 1, 1, pads=[0] * 4)
    model = net.model(x, net("Neg", "a.weight", out="y"))
    with pytest.raises(ValueError, match=r"'a\.weight' is read by Neg 'y' too"):
        cluster_weights(model, {"a.weight": 4})


def test_nothing_to_do() -> None:
    model = network()
    assert cluster_weights(model, {}).SerializeToString() == model.SerializeToString()
