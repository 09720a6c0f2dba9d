"""Networks that end early: heads learn, what is frozen stays, budgets are met, decisions apply."""

from dataclasses import replace
from pathlib import Path

import fitting
import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import ModelProto, numpy_helper
from torch import Tensor, nn

from mcugraph.cost import cost_of
from mcugraph.decision import Decision
from mcugraph.passes import add_exit, cut_depth
from mcugraph.passes.heads import Head
from mcugraph.prune.attached import PartlyFrozen, distance, logits_form, new_weights, with_heads
from mcugraph.prune.course import Course
from mcugraph.prune.cut_choice import choose_cut
from mcugraph.prune.depth import Depth, DepthResult, fit_depth
from mcugraph.prune.exits import EarlyExit, Leaving, fit_exit
from mcugraph.prune.export import from_torch
from mcugraph.prune.fit import Pruning, fit
from mcugraph.prune.goal import Goal
from mcugraph.prune.history import Epoch
from mcugraph.prune.network import Network
from mcugraph.prune.rules import Schedule
from mcugraph.prune.training import Training

torch.set_num_threads(1)
DIGITS = Path(__file__).parents[1] / "examples" / "digits_float.onnx"
BATCHES = fitting.batches()
FAST = Training(epochs=8, evaluate=BATCHES)


def digits() -> ModelProto:
    return onnx.load(DIGITS)


def values(model: ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def by_onnxruntime(model: ModelProto, x: Tensor) -> list[np.ndarray]:
    session = ort.InferenceSession(model.SerializeToString())
    name = model.graph.input[0].name
    rows = [session.run(None, {name: row[None].numpy()}) for row in x]
    return [np.concatenate(column) for column in zip(*rows, strict=True)]


def check_decision(result: DepthResult, original: ModelProto, trained: bool) -> None:
    """The decision alone gives the network's shape; with its weights, what it computes."""
    decision = Decision.loads(result.decision.dumps())
    shaped = decision.apply(original)
    weights = values(result.model)
    assert {name: v.shape for name, v in values(shaped).items()} == {
        name: v.shape for name, v in weights.items()
    }
    if trained:
        for tensor in shaped.graph.initializer:
            tensor.CopyFrom(numpy_helper.from_array(weights[tensor.name], tensor.name))
    else:
        shaped = decision.apply(original, result.model)
    x, _ = fitting.digits()
    with torch.no_grad():
        ours = result.network(x).numpy()
    np.testing.assert_allclose(by_onnxruntime(shaped, x)[0], ours, rtol=1e-5, atol=1e-5)


def test_frozen_networks_stay_bit_for_bit_and_heads_learn() -> None:
    told: list[Epoch] = []
    original = fitting.exported()
    training = replace(FAST, epochs=30, distil=0.0, progress=told.append)
    result = fit_depth(original, BATCHES, None, training, Depth(head="dscnn16", unfreeze=False))
    assert len(result.cuts) > 1
    best = max(cut.score or 0 for cut in result.cuts[:-1])
    assert best > 40, "chance is 10"
    assert [each.number for each in told] == list(range(31))
    assert told[-1].loss is not None
    assert told[1].loss is not None
    assert told[-1].loss < told[1].loss
    after, before = values(result.model), values(original)
    same = set(before) & set(after)
    assert any("running_mean" in name for name in same)
    assert all(np.array_equal(before[name], after[name]) for name in same)
    head = Head.parse("dscnn16", 10, softmax=False)
    assert result.decision.head == head
    assert result.decision.cut is not None
    fresh = values(cut_depth(original, result.decision.cut, head))
    moved = {name for name in after if not np.array_equal(fresh[name], after[name])}
    assert "head.0.pointwise_norm.running_mean" in moved
    assert moved == {name for name in after if name.startswith("head.")}
    check_decision(result, original, trained=False)


def test_unfrozen_networks_move() -> None:
    original = fitting.exported()
    depth = Depth("relu", "dscnn16", share=0.5)
    result = fit_depth(original, BATCHES, None, FAST, depth)
    before, after = values(original), values(result.model)
    moved = {n for n in set(before) & set(after) if not np.array_equal(before[n], after[n])}
    assert "0.weight" in moved
    assert "1.running_mean" in moved
    assert [each.number for each in result.history] == list(range(9))
    alone = choose_cut(Course(original, BATCHES, FAST, {}, {}), Goal(), depth)
    assert alone.tensor == "relu"
    assert (result.history[-1].score or 0) > (alone.cuts[0].score or 0)
    check_decision(result, original, trained=True)


def test_the_same_seed_gives_the_same_network() -> None:
    depth = Depth("relu", "dscnn16")
    one, other = (
        fit_depth(model, BATCHES, None, replace(FAST, epochs=2), depth)
        for model in (fitting.exported(), fitting.network())
    )
    after = [values(result.model) for result in (one, other)]
    assert after[0].keys() == after[1].keys()
    assert all(np.array_equal(value, after[1][name]) for name, value in after[0].items())
    assert [each.score for each in one.history] == [each.score for each in other.history]


class StopError(Exception):
    pass


@pytest.mark.parametrize(("kind", "epoch"), [("depth", n) for n in (2, 3, 4)] + [("exit", 3)])
def test_a_killed_run_goes_on_to_the_same_result(tmp_path: Path, kind: str, epoch: int) -> None:
    """It stops before an epoch is saved: of the heads, the first of the whole, or a later one."""

    def stop(entry: Epoch) -> None:
        if entry.number == epoch:
            raise StopError

    original, told = fitting.exported(), []
    plain = Training(epochs=4, evaluate=BATCHES)
    whole = fitting.fitted(kind, fitting.shuffled(), plain, original)
    wish = replace(plain, checkpoint=tmp_path / "run.pt", progress=stop)
    with pytest.raises(StopError):
        fitting.fitted(kind, fitting.shuffled(), wish, original)
    wish = replace(wish, progress=told.append)
    result = fitting.fitted(kind, fitting.shuffled(), wish, original)
    assert [entry.number for entry in told] == list(range(epoch, 5))
    assert fitting.described(result) == fitting.described(whole)
    again = fitting.fitted(kind, fitting.shuffled(), wish, original)
    assert len(told) == 5 - epoch
    assert fitting.described(again) == fitting.described(whole)
    with pytest.raises(ValueError, match="of another training: "):
        fit(original, fitting.shuffled(), "macs=16K", wish)


def test_one_head_learns_as_it_would_alone() -> None:
    """A head that is trained beside others gets the same gradient as by itself."""
    model = fitting.exported()
    heads = {"relu": Head.parse("dscnn16", 10), "relu_1": Head.parse("dense16", 10)}
    both, one = with_heads(model, heads), with_heads(model, {"relu": heads["relu"]})
    found = []
    for graph in (both, one):
        network = PartlyFrozen(graph, new_weights(graph, model)).train()
        x, y = fitting.digits()
        _, *outputs = network(x)
        sum(nn.functional.cross_entropy(output, y) for output in outputs).backward()
        found.append({n: w.grad for n, w in network.weights.items()})
    for name in new_weights(one, model) & set(found[1]):
        torch.testing.assert_close(found[0][name], found[1][name])
    assert all(found[0][name] is None for name in values(model) if name in found[0])


def test_the_best_cut_within_the_budget_is_taken() -> None:
    limits = {"macs": 45_000, "arena": 1_200}
    result = fit_depth(
        digits(),
        BATCHES,
        "macs=45K,arena=1200",
        replace(FAST, epochs=6),
        Depth(head="dscnn8", share=0.5),
    )
    within = [cut for cut in result.cuts if cut.excess <= 1]
    assert 0 < len(within) < len(result.cuts)
    assert result.decision.cut in {c.tensor for c in within}
    chosen = next(c for c in within if c.tensor == result.decision.cut)
    assert chosen.score == max(cut.score or 0 for cut in within)
    cost = cost_of(result.model, "cortex-m0")
    assert (cost.macs, cost.ram) == (result.used["macs"], result.used["arena"])
    assert all(result.used[name] <= limit for name, limit in limits.items())
    assert result.history[-1].met
    assert result.cost.flash is not None


def test_a_cut_is_pruned_to_the_budget() -> None:
    original = fitting.exported()
    pruning = Pruning(schedule=Schedule(0, events=3))
    depth = Depth("relu_1", "dscnn16", prune=True, pruning=pruning)
    result = fit_depth(original, BATCHES, "macs=20K", replace(FAST, epochs=4), depth)
    assert cost_of(result.model, "cortex-m0").macs <= 20_000
    assert result.decision.cut == "relu_1"
    assert result.decision.keep
    check_decision(result, original, trained=True)


def test_networks_that_end_in_probabilities_still_do() -> None:
    module = nn.Sequential(fitting.network(), nn.Softmax(1)).eval()
    original = from_torch(module, torch.zeros(1, 1, 8, 8))
    plain, ended = logits_form(original)
    assert ended
    x, y = fitting.digits()
    (logits,), (shares,) = by_onnxruntime(plain, x), by_onnxruntime(original, x)
    torch.testing.assert_close(torch.from_numpy(logits).softmax(1), torch.from_numpy(shares))
    depth = Depth("relu", "gap", unfreeze=False)
    result = fit_depth(original, BATCHES, None, replace(FAST, epochs=1), depth)
    torch.testing.assert_close(result.network(x).sum(1), torch.ones(len(y)))
    assert result.model.graph.output[0].name == original.graph.output[0].name
    check_decision(result, original, trained=False)


def test_distance_is_that_of_softened_probabilities() -> None:
    ours, theirs = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(0))
    p, q = (theirs / 3).softmax(1), (ours / 3).softmax(1)
    torch.testing.assert_close(distance(ours, theirs, 3.0), 9 * (p * (p / q).log()).sum(1).mean())


def test_an_exit_learns_with_its_network() -> None:
    original = fitting.exported()
    early = EarlyExit("relu", "dscnn16", threshold=0.6)
    eager = replace(FAST, epochs=30, distil=0.0, optimizer=lambda w: torch.optim.AdamW(w, 1e-2))
    result = fit_exit(original, BATCHES, early, eager)
    at = {each.threshold: each for each in result.leaving}
    assert at[0.5].share >= at[0.6].share >= at[0.9].share
    assert at[0.5].macs <= at[0.9].macs
    assert at[0.5].share > 0
    assert result.history[-1].score == at[0.6].score
    x, y = fitting.digits()
    model = result.model
    check_leaving(at[0.6], *by_onnxruntime(model, x), y.numpy())
    assert result.decision.exit is not None
    weights = values(model)
    shaped = result.decision.apply(original)
    for tensor in shaped.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(weights[tensor.name], tensor.name))
    assert shaped == model


def check_leaving(found: Leaving, end: np.ndarray, early: np.ndarray, y: np.ndarray) -> None:
    """What the exported model does, counted anew."""
    leaves = early.max(1) >= found.threshold
    answers = np.where(leaves, early.argmax(1), end.argmax(1))
    assert found.share == pytest.approx(100 * leaves.mean())
    assert found.score == pytest.approx(100 * (answers == y).mean())
    assert found.early == pytest.approx(100 * (early.argmax(1) == y)[leaves].mean())


def test_a_frozen_exit_leaves_the_network_as_it_was() -> None:
    original = fitting.exported()
    early = EarlyExit("relu", "dscnn8", unfreeze=False)
    result = fit_exit(original, BATCHES, early, replace(FAST, epochs=2))
    before, after = values(original), values(result.model)
    assert all(np.array_equal(before[name], after[name]) for name in before)
    untrained = values(add_exit(original, "relu", Head.parse("dscnn8", 10)))
    exit_ = {name for name in after if name.startswith("exit.")}
    assert exit_
    assert not all(np.array_equal(untrained[name], after[name]) for name in exit_)
    network = Network(original).eval()
    x, _ = fitting.digits()
    np.testing.assert_allclose(
        network(x).detach().numpy(), result.network(x)[0].detach().numpy(), atol=1e-5
    )


@pytest.mark.parametrize(
    ("options", "budget", "complaint"),
    [
        ({"share": 0}, None, "share=0: a part of the epochs"),
        ({"prune": True, "unfreeze": False}, None, "prune needs unfreeze"),
        ({}, "macs=1K", r"no cut with head dscnn16 is within the budget: behind .*macs=\d"),
        ({"tensor": "nothing"}, None, "nothing"),
    ],
)
def test_what_is_refused(options: dict[str, object], budget: str | None, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        fit_depth(
            fitting.exported(), BATCHES, budget, FAST, Depth(**{"head": "dscnn16", **options})
        )


def test_exits_refuse_what_cannot_be_meant() -> None:
    with pytest.raises(ValueError, match="weight=0"):
        EarlyExit("relu", weight=0)
    with pytest.raises(ValueError, match="share=1"):
        EarlyExit("relu", share=1)
