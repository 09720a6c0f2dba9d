"""Pruning by complexity: budgets recounted from the pruned models, draws against their shares."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models import MODELS, Net, quantized
from onnx import ModelProto

from mcugraph.cost import cost_of
from mcugraph.decision import Decision
from mcugraph.load import load, load_model
from mcugraph.parameters import parameters_of
from mcugraph.passes import STRUCTURE
from mcugraph.passes.channels import find_channels
from mcugraph.passes.remove_channels import kept_indices, remove_channels
from mcugraph.prune.complexity import Options, plan_by_complexity
from mcugraph.prune.sizes import sizes_of

DIGITS = Path(__file__).parents[1] / "examples"
M0 = "cortex-m0"
MODES = ("random", "greedy", "uniform")
FLOAT = """conv_bn_relu_17 preactivation residual separable pooling_faces pooling_attribute
flatten_gemm nhwc_input nhwc_both_ends concat_branches split_branches upsampled padded relu6
activations squeeze_excite""".split()


def digits() -> ModelProto:
    return load(DIGITS / "digits_float.onnx")


def counted(model: ModelProto) -> dict[str, int]:
    """Return parameters and multiply-accumulates, from the shapes that the pruned model has."""
    return {"params": parameters_of(model), "flops": cost_of(model, M0, placed=False).macs}


def widths_of(model: ModelProto, decision: Decision) -> list[int]:
    return [len(decision.keep.get(g.name, range(g.width))) for g in find_channels(model).groups]


# The formulas


@pytest.mark.parametrize("form", ["float", "int8"])
@pytest.mark.parametrize("name", FLOAT)
def test_formulas_against_a_recount(name: str, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all channels: the compiler would drop those of small models that are constant."""
    monkeypatch.setattr("mcugraph.cost.CLEANUP", STRUCTURE)
    build = MODELS[name]
    if form == "int8" and name in ("conv_bn_relu_17", "preactivation", "activations"):
        pytest.skip("onnxruntime leaves parts of it in float")
    model = load_model(build() if form == "float" else quantized(build))
    channels = find_channels(model)
    sizes = sizes_of(model, channels)
    random = np.random.default_rng(1)
    for full in (True, False):
        widths = sizes.full if full else np.array([random.integers(1, n + 1) for n in sizes.full])
        smaller = Decision.of_widths(model, channels, widths.tolist()).apply(model)
        found = {"params": sizes.parameters.total(widths), "flops": sizes.macs.total(widths)}
        assert found == counted(smaller)


def test_attention_and_recurrent_layers_are_counted() -> None:
    """By hand: products of two tensors, and the steps of a sequence."""
    net = Net(17)
    x = net.input("x", 5, 1, 6)
    y = net("GRU", x, net.weight("w", 1, 24, 6), net.weight("r", 1, 24, 8), hidden_size=8)
    y = net("Reshape", y, net.const("to", [5, 8], np.int64))
    y = net("MatMul", y, net("Transpose", y, perm=[1, 0]))
    model = net.model(net("MatMul", y, net.weight("v", 5, 3)))
    sizes = sizes_of(model, find_channels(model))
    assert sizes.parameters.total(sizes.full) == 24 * 6 + 24 * 8 + 15
    assert sizes.macs.total(sizes.full) == 5 * (24 * 6 + 24 * 8) + 5 * 8 * 5 + 5 * 5 * 3


# The budget


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("by", ["params", "flops"])
@pytest.mark.parametrize("name", ["residual", "separable", "squeeze_excite"])
def test_met_and_not_overshot_by_more_than_a_step(name: str, by: str, mode: str) -> None:
    model = load_model(MODELS[name]())
    limit = int(counted(model)[by] * 0.6)
    decision = plan_by_complexity(model, by, 0.6, mode=mode, floor=1)
    assert decision.check(model) == ()
    assert counted(decision.apply(model))[by] <= limit
    wider = [widths for widths in steps_back(model, decision, mode) if widths]
    assert any(counted(of_widths(model, widths))[by] > limit for widths in wider)


def of_widths(model: ModelProto, widths: list[int]) -> ModelProto:
    return Decision.of_widths(model, find_channels(model), widths).apply(model)


def steps_back(model: ModelProto, decision: Decision, mode: str) -> Iterator[list[int]]:
    """Yield the widths before the last step, whichever it was; small groups lose one at a time."""
    widths = widths_of(model, decision)
    full = [group.width for group in find_channels(model).groups]
    if mode == "uniform":
        yield [min(width + 1, most) for width, most in zip(widths, full, strict=True)]
        return
    for place, width in enumerate(widths):
        if width < full[place]:
            yield [*widths[:place], width + 1, *widths[place + 1 :]]


@pytest.mark.parametrize("mode", MODES)
def test_memory_is_the_arena_of_the_plan(mode: str) -> None:
    model = digits()
    before = cost_of(model, M0).ram
    decision = plan_by_complexity(model, "memory", 0.6, mode=mode)
    assert cost_of(decision.apply(model), M0).ram <= 0.6 * before
    assert decision.keep.keys() >= {find_channels(model).groups[0].name}


def test_memory_alone_leaves_other_layers_be() -> None:
    """What is not live at the peak stays as wide as it was."""
    model = digits()
    arena = cost_of(model, M0).ram
    decision = plan_by_complexity(model, "memory", arena - 64, mode="greedy")
    assert list(decision.keep) == [find_channels(model).groups[0].name]
    assert cost_of(decision.apply(model), M0).ram <= arena - 64


def test_several_limits() -> None:
    model = digits()
    target = {"params": 2000, "flops": 0.7, "memory": 1000}
    for mode in MODES:
        result = plan_by_complexity(model, "flops", target, mode=mode).apply(model)
        cost = cost_of(result, M0)
        assert cost.parameters <= 2000
        assert cost.macs <= 0.7 * 67_136
        assert cost.ram <= 1000


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    share=st.floats(0.35, 1),
    seed=st.integers(0, 10**6),
    by=st.sampled_from(["params", "flops"]),
    mode=st.sampled_from(MODES),
)
def test_any_share(share: float, seed: int, by: str, mode: str) -> None:
    model = load_model(MODELS["residual"]())
    whole = counted(model)[by]
    decision = plan_by_complexity(model, by, share, seed=seed, mode=mode, floor=1)
    assert counted(decision.apply(model))[by] <= whole * share


def test_floor() -> None:
    model = digits()
    decision = plan_by_complexity(model, "params", 0.6, floor=11)
    assert all(width >= 11 for width in widths_of(model, decision))
    with pytest.raises(ValueError, match="params can't come down to 300: 956 are left"):
        plan_by_complexity(model, "params", 300, floor=11)
    for mode in MODES:
        with pytest.raises(ValueError, match="memory can't come down to 8: "):
            plan_by_complexity(model, "memory", 8, floor=14, mode=mode)


def test_whole_share_changes_nothing() -> None:
    for mode in MODES:
        assert plan_by_complexity(digits(), "params", 1.0, mode=mode) == Decision()


# The draw


def two_layers() -> ModelProto:
    """Weights of 40 x 100 and 100 x 60: 4,000 and 6,000 parameters, both of prunable outputs."""
    net = Net(17)
    x = net("MatMul", net.input("x", 1, 40), net.weight("a", 40, 100))
    x = net("MatMul", x, net.weight("b", 100, 60))
    return net.model(net("MatMul", x, net.weight("c", 60, 1)))


def first_draws(by: str, count: int) -> Counter[str]:
    model = two_layers()
    whole = 4000 + 6000 + 60
    drawn: Counter[str] = Counter()
    for seed in range(count):
        decision = plan_by_complexity(model, by, whole - 1, seed=seed)
        drawn[next(iter(decision.keep))] += 1
    return drawn


@pytest.mark.parametrize("by", ["params", "flops"])
def test_layers_are_drawn_by_their_share(by: str) -> None:
    """Chi-square of 400 draws against 0.4 and 0.6, one degree of freedom: under 6.63 in 99 %."""
    drawn = first_draws(by, 400)
    expected = {"a": 160, "b": 240}
    assert drawn.keys() == expected.keys()
    assert sum((drawn[name] - n) ** 2 / n for name, n in expected.items()) < 6.63


def test_one_to_five_percent_at_a_time() -> None:
    model, lost = two_layers(), Counter[int]()
    for seed in range(100):
        (kept,) = plan_by_complexity(model, "params", 10_059, seed=seed).keep.items()
        lost[{"a": 100, "b": 60}[kept[0]] - len(kept[1])] += 1
    assert lost.keys() <= {1, 2, 3, 4, 5}
    assert len(lost) > 2


def test_the_last_channels_go() -> None:
    model = digits()
    decision = plan_by_complexity(model, "params", 0.5)
    assert decision.keep
    for name, kept in decision.keep.items():
        group = find_channels(model).group(name)
        assert list(kept) == kept_indices(model, group, range(len(kept)))
        assert list(kept) == list(range(len(kept)))
        assert decision.widths[name] == group.width


def test_a_seed_repeats_and_another_differs() -> None:
    model = digits()
    for by in ("params", "memory"):
        first = plan_by_complexity(model, by, 0.7, seed=3)
        assert first == plan_by_complexity(model, by, 0.7, seed=3)
    seeds = {plan_by_complexity(model, "params", 0.6, seed=s).dumps() for s in range(5)}
    assert len(seeds) > 1
    for mode in ("greedy", "uniform"):
        one, two = (plan_by_complexity(model, "flops", 0.6, mode=mode, seed=s) for s in (0, 1))
        assert one == two


def test_greedy_takes_what_saves_most_for_its_share() -> None:
    """Half of b's outputs saves 3,030 parameters, half of a's 5,000."""
    model = two_layers()
    decision = plan_by_complexity(model, "params", 10_059, mode="greedy")
    assert list(decision.keep) == ["a"]


def test_uniform_narrows_all_alike() -> None:
    model = two_layers()
    kept = plan_by_complexity(model, "params", 0.25, mode="uniform").keep
    shares = [len(kept["a"]) / 100, len(kept["b"]) / 60]
    assert shares[0] == pytest.approx(shares[1], abs=0.02)
    assert parameters_of(remove_channels(model, kept)) <= 0.25 * 10_060


def test_quantised_models_too() -> None:
    model = load(DIGITS / "digits.onnx")
    decision = plan_by_complexity(model, "params", 0.5)
    assert parameters_of(decision.apply(model)) <= 0.5 * parameters_of(model)
    same = plan_by_complexity(digits(), "params", 0.5)
    assert {name.removesuffix("_quantized"): kept for name, kept in decision.keep.items()} == (
        same.keep
    )


@pytest.mark.parametrize(
    ("by", "target", "options", "told"),
    [
        ("parms", 0.5, Options(), r"by='parms': there are params, .*; did you mean params\?"),
        ("params", 0.5, Options(mode="rand"), r"mode='rand': .* did you mean random\?"),
        ("params", 0.0, Options(), "target params=0.0: a share up to 1"),
        ("params", {"ram": 3}, Options(), "target='ram': there are"),
        ("params", 0.5, Options(floor=0), "floor=0: every layer keeps"),
    ],
)
def test_refusals(by: str, target: float | dict[str, float], options: Options, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        plan_by_complexity(digits(), by, target, **options)


def test_nothing_to_prune() -> None:
    net = Net(17)
    model = net.model(net.gemm("fc", net.input("x", 1, 4), 3, 4))
    with pytest.raises(ValueError, match="no channels that could go"):
        plan_by_complexity(model)


def test_a_model_without_weights() -> None:
    net = Net(17)
    model = net.model(net("Relu", net.input("x", 1, 4)))
    sizes = sizes_of(model, find_channels(model))
    assert sizes.parameters.total(sizes.full) == sizes.macs.total(sizes.full) == 0
