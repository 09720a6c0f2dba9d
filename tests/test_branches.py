"""Branches in training: gates, what they take and what they are worth, and how they go."""

from __future__ import annotations

import functools
import io
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import fitting
import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto, numpy_helper
from onnxruntime import InferenceSession
from sumnets import Sums, start
from torch import Tensor, nn
from torch.nn import functional

from mcugraph.cost import cost_of
from mcugraph.passes import drop_branches, find_branches, remove_channels
from mcugraph.passes.channels import find_channels
from mcugraph.passes.remove_channels import kept_indices
from mcugraph.prune.branches import Branches, scale_of, without_each
from mcugraph.prune.choice import Candidate, Chooser, Offer
from mcugraph.prune.export import from_torch
from mcugraph.prune.goal import Goal
from mcugraph.prune.network import Network
from mcugraph.prune.places import Survivors
from mcugraph.prune.pruner import BudgetPruner
from mcugraph.prune.resources import Resources
from mcugraph.prune.rules import Rules, Schedule
from mcugraph.prune.training import Training
from mcugraph.targets import load

EXAMPLE = torch.zeros(1, 1, 8, 8)
M0 = load("cortex-m0")


class Blocks(nn.Module):
    """A stem, a block beside an identity, one beside a projection, and a classifier."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width)
        self.inner, self.back = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))
        self.after = nn.BatchNorm2d(width)
        self.deep, self.down = (nn.Conv2d(width, width, k, 2, k // 2) for k in (3, 1))
        self.fc = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.stem(x)))
        x = torch.relu(x + self.after(self.back(torch.relu(self.inner(x)))))
        x = torch.relu(self.deep(x) + self.down(x))
        return self.fc(x.mean((2, 3)))


pytestmark = pytest.mark.usefixtures("one_thread")


@functools.cache
def _exported() -> bytes:
    torch.manual_seed(0)
    return from_torch(Blocks(), EXAMPLE).SerializeToString()


def exported() -> ModelProto:
    return onnx.load_from_string(_exported())


def batches(count: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
    """Whether an image is brighter above or below, and on which side: ten classes of noise."""
    for number in range(start, start + count):
        noise = torch.Generator().manual_seed(number)
        labels = torch.randint(10, (32,), generator=noise)
        images = 0.3 * torch.randn(32, 1, 8, 8, generator=noise)
        images[torch.arange(32), 0, labels % 8, labels // 2] += 2
        yield images, labels


def train(
    pruner: BudgetPruner, optimizer: torch.optim.Optimizer, count: int, start: int = 0
) -> None:
    for x, y in batches(count, start):
        optimizer.zero_grad()
        loss = functional.cross_entropy(pruner.network(x), y)
        (loss + pruner.loss()).backward()
        optimizer.step()
        pruner.step()


def useless(share: float = 0.01) -> ModelProto:
    """A network whose first block hardly adds anything."""
    model = exported()
    for tensor in model.graph.initializer:
        if tensor.name in ("after.weight", "after.bias"):
            value = numpy_helper.to_array(tensor) * np.float32(share)
            tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    return model


def branch_with(model: ModelProto, weight: str) -> str:
    return next(b.tensor for b in find_branches(model) if weight in b.weights)


def trained(
    net: nn.Module | ModelProto, budget: str, rules: Rules | None = None, steps: int = 12
) -> Any:
    pruner = BudgetPruner(net, EXAMPLE, budget, Schedule(steps, events=2, end=1.0), rules=rules)
    train(pruner, torch.optim.SGD(pruner.network.parameters(), 0.01, 0.9), steps)
    pruner.close()
    return pruner


def structure(model: ModelProto) -> dict[str, tuple[int, ...]]:
    return {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}


def ran(model: ModelProto, x: Tensor) -> Tensor:
    session = InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    rows = [session.run(None, {names[0]: row[None].numpy()})[0] for row in x]
    return torch.from_numpy(np.concatenate(rows))


# What goes


def test_a_block_that_adds_nothing_vanishes() -> None:
    pruner = trained(useless(), "macs=60K")
    model = pruner.network.to_onnx()
    assert pruner.decision().drop == (branch_with(pruner.original, "inner.weight"),)
    assert cost_of(model, "cortex-m0").macs <= 60_000
    assert not any(name.startswith(("inner", "back", "after")) for name in structure(model))
    x, _ = next(batches(1))
    own = pruner.network.eval()(x)
    torch.testing.assert_close(ran(model, x), own, rtol=1e-5, atol=1e-5)
    again = pruner.decision().apply(pruner.original)
    assert structure(again) == structure(model)
    assert Network(again).to_onnx().graph.node == model.graph.node


def test_a_branch_that_matters_stays() -> None:
    """Channels that nobody reads go in its place."""
    net = Blocks(16).train()
    with torch.no_grad():
        net.back.weight[:, 4:] *= 1e-4
        net.after.weight.mul_(3)
    pruner = trained(net, "macs=150K")
    assert pruner.decision().drop == ()
    assert len(pruner.alive["inner.weight"]) < 16


def test_none_goes_where_none_may() -> None:
    pruner = trained(useless(), "macs=60K", Rules(branches=False))
    assert pruner.decision().drop == ()
    assert pruner.gates.branches == []


REACHED = "macs=3500"


def test_a_budget_below_the_narrowest_network() -> None:
    """Only without the first block: the stem alone takes 1,152 multiply-accumulates."""
    with pytest.raises(ValueError, match=r"out of reach .* channels left, macs is 2,952 above 3,5"):
        trained(useless(), REACHED, Rules(branches=False))
    pruner = trained(useless(), REACHED)
    assert cost_of(pruner.network.to_onnx(), "cortex-m0").macs <= 3500
    assert branch_with(pruner.original, "inner.weight") in pruner.decision().drop
    with pytest.raises(ValueError, match=r"left and without 2 branches, macs is .* above 900; "):
        trained(useless(), "macs=900")


@pytest.mark.parametrize("importance", ["taylor", "activity", "l2"])
def test_other_kinds_of_importance(importance: str) -> None:
    """Where they say nothing of branches, these go when no channel can."""
    pruner = trained(useless(0.0), REACHED, Rules(importance=importance))
    assert cost_of(pruner.network.to_onnx(), "cortex-m0").macs <= 3500
    assert pruner.decision().drop


def test_memory_is_planned_without_the_branch() -> None:
    """Its shortcut has to wait for the first block; without that there is no peak."""
    pruner = trained(useless(), "arena=400")
    assert cost_of(pruner.network.to_onnx(), "cortex-m0").ram <= 400
    assert pruner.decision().drop == (branch_with(pruner.original, "inner.weight"),)
    assert pruner.decision().keep == {}


def test_optimisers_forget_what_goes() -> None:
    pruner = BudgetPruner(useless(), EXAMPLE, "macs=60K", Schedule(4, events=1, end=1.0))
    groups = [{"params": [weight]} for weight in pruner.network.parameters()]
    optimizer = torch.optim.SGD(groups, 0.01, 0.9)
    train(pruner, optimizer, 6)
    own = {id(weight) for weight in pruner.network.parameters()}
    assert {id(p) for group in optimizer.param_groups for p in group["params"]} == own
    assert {id(p) for p in optimizer.state} == own
    assert len(optimizer.param_groups) > len(own)
    pruner.close()


# Going on


def test_a_state_goes_on_bit_by_bit() -> None:
    """Saved before any event, between two, and when all is done."""

    def fresh() -> BudgetPruner:
        return BudgetPruner(useless(), None, "macs=14K", Schedule(9, events=2, end=0.8))

    def stepped(pruner: BudgetPruner) -> torch.optim.Optimizer:
        return torch.optim.SGD(pruner.network.parameters(), 0.02, 0.9)

    whole = fresh()
    optimizer = stepped(whole)
    saved = []
    for step in range(9):
        train(whole, optimizer, 1, step)
        stream = io.BytesIO()
        torch.save((whole.state(), optimizer.state_dict()), stream)
        saved.append(stream.getvalue())
    expected = whole.network.to_onnx().SerializeToString(deterministic=True)
    assert whole.decision().drop
    assert whole.decision().keep
    for done in (1, 3, 5, 8):
        state, own = torch.load(io.BytesIO(saved[done - 1]), weights_only=True)
        again = fresh()
        again.load_state(state)
        again.network.train()
        optimizer = stepped(again)
        optimizer.load_state_dict(own)
        train(again, optimizer, 9 - done, done)
        assert again.network.to_onnx().SerializeToString(deterministic=True) == expected
        assert again.decision() == whole.decision()
        again.close()
    whole.close()


def test_two_processes_drop_the_same(tmp_path: Path) -> None:
    """Each sees half of every batch; what both have seen decides."""
    model = useless()
    both = fitting.by_two("channels", model, tmp_path)
    training = Training(epochs=fitting.EPOCHS)
    result = fitting.fitted("channels", fitting.batches(), training, model)
    assert result.decision.drop
    assert both["decision"] == fitting.described(result)["decision"]


# Gates


def test_a_gate_scales_its_branch_and_is_folded_exactly() -> None:
    model = exported()
    pruner = BudgetPruner(model, None, "macs=60K", Schedule(10))
    network, x = pruner.network.eval(), next(batches(1))[0]
    names = [branch.tensor for branch in find_branches(model)]
    plain = network.features(names, x)
    with torch.no_grad():
        for gate, value in zip(pruner.gates.branches, (0.25, 0.5, 0.0), strict=True):
            gate.fill_(value)
        closed = network.features(names, x)
        torch.testing.assert_close(closed[names[0]], plain[names[0]] * 0.25)
        gated = network(x)
        pruner.gates.fold(network.weights)
    network.gating = None
    torch.testing.assert_close(network(x), gated, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(ran(network.to_onnx(), x), gated, rtol=1e-5, atol=1e-5)
    assert [gate.item() for gate in pruner.gates.branches] == [1, 1, 1]
    rest = drop_branches(model, names[2:])
    folded = drop_branches(network.to_onnx(), names[2:])
    torch.testing.assert_close(ran(folded, x), gated, rtol=1e-5, atol=1e-5)
    assert structure(rest) == structure(folded)
    pruner.close()


def test_gates_close_on_what_does_not_matter() -> None:
    """Both blocks cost, but one adds nothing: its gate closes more."""
    net = useless(0.001)
    rules = Rules(gate_rate=0.3)
    pruner = BudgetPruner(net, EXAMPLE, "macs=20K", Schedule(99, events=1), rules=rules)
    optimizer = torch.optim.SGD(pruner.network.parameters(), 0.0)
    for x, y in batches(20):
        optimizer.zero_grad()
        (5 * functional.cross_entropy(pruner.network(x), y) + pruner.loss()).backward()
        pruner.step()
    planted, deep, _ = (gate.item() for gate in pruner.gates.branches)
    assert planted < 0.7 < deep - 0.2
    pruner.close()


def test_what_scales_a_tensor() -> None:
    net, x = start()
    a = net.norm("bn", net.conv("a", x, 4, 4, 3, 3), 4)
    b = net("MaxPool", net("Relu", net.conv("b", x, 4, 4, 3, 3)), kernel_shape=[1, 1])
    w = net.weight("up", 4, 4, 1, 1)
    c = net("Add", net("ConvTranspose", x, w), net.weight("bias", 4, 1, 1))
    d = net("Conv", x, net.weight("twice", 4, 4, 1, 1))
    e = net("Conv", d, "twice")
    f = net("Sigmoid", net.conv("f", x, 4, 4, 1, 1))
    flat = net("Reshape", x, net.const("shape", [1, 100], np.int64))
    g = net("MatMul", flat, net.weight("mat", 100, 7))
    network = Network(net.model(*(net("Tanh", each) for each in (a, b, c, d, e, f, g))))
    found = {name: scale_of(network, name) for name in (a, b, c, d, e, f, g, x)}
    assert [scale.weights for scale in found.values()] == [
        *(("bn.weight", "bn.bias"), ("b.weight", "b.bias"), ("up", "bias")),
        *((), (), (), ("mat",), ()),
    ]
    assert [found[name].width for name in (a, b, c, g)] == [4, 4, 4, 7]


# What branches take


def branches_of(model: ModelProto, budget: str) -> tuple[Resources, Branches]:
    resources = Resources(model, M0, Goal.of(budget))
    return resources, Branches(Network(model), without_each(resources), {})


LIMITS = "macs=20K,params=700,weights=600,arena=500"


def test_the_gradient_in_gates_is_a_finite_difference() -> None:
    resources, branches = branches_of(exported(), LIMITS)
    limits = {name: float(limit) for name, limit in resources.goal.limits.items()}
    gates = [torch.tensor(g, dtype=torch.float64, requires_grad=True) for g in (0.9, 0.7, 0.8)]
    counts = (resources.counts.double() * 0.9).requires_grad_()

    def value(shift: int = -1, step: float = 0.0) -> Tensor:
        moved = [gate + step * (n == shift) for n, gate in enumerate(gates)]
        return branches.excess(resources, counts, moved, limits)

    found = torch.autograd.grad(value(), [*gates, counts])
    gates, counts = [gate.detach() for gate in gates], counts.detach()
    for place in range(len(gates)):
        rise = value(place, 1e-4) - value(place, -1e-4)
        assert float(rise) / 2e-4 == pytest.approx(float(found[place]), rel=1e-6, abs=1e-9)
        assert float(found[place]) > 0
    for place in range(len(counts)):
        step = 1e-3 * torch.eye(len(counts), dtype=torch.float64)[place]
        sides = [branches.excess(resources, counts + s, gates, limits) for s in (step, -step)]
        assert float(sides[0] - sides[1]) / 2e-3 == pytest.approx(float(found[-1][place]), rel=1e-5)


def narrowed(model: ModelProto, less: int) -> ModelProto:
    keep = {
        group.name: kept_indices(model, group, range(group.width - less))
        for group in find_channels(model).groups
    }
    return remove_channels(model, keep)


@pytest.mark.parametrize("less", [0, 3])
def test_without_a_branch_is_what_the_compiler_counts(less: int) -> None:
    model = exported()
    resources = Resources(model, M0, Goal.of("macs=1,params=1,weights=1,arena=1"))
    for without in without_each(resources):
        cost = cost_of(narrowed(drop_branches(model, [without.branch.tensor]), less), M0)
        counts = resources.counts - less
        assert float(without.value("macs", counts)) == cost.macs
        assert float(without.value("params", counts)) == cost.parameters
        if less == 0:
            assert float(without.value("weights", counts)) == cost.weights
            assert float(without.value("arena", counts)) == pytest.approx(cost.ram, rel=0.1)


def test_an_open_gate_counts_all_and_a_closed_one_nothing() -> None:
    resources, branches = branches_of(exported(), "macs=1")
    gates = [torch.ones(()) for _ in branches.sides]
    counts = resources.counts
    whole = float(branches.excess(resources, counts, gates, {"macs": 1.0}))
    assert whole == float(resources.excess(counts, {"macs": 1.0}))
    for side, gate in zip(branches.sides, gates, strict=True):
        gate.fill_(0)
        found = float(branches.excess(resources, counts, gates, {"macs": 1.0}))
        assert found == pytest.approx(side.without.excess(counts, {"macs": 1.0}))
        gate.fill_(1)


def test_cycles_are_those_of_the_steps_that_stay() -> None:
    pytest.importorskip("unicorn", reason="needs the emulator")
    pytest.importorskip("ziglang", reason="needs a compiler")
    model = from_torch(Blocks(4), EXAMPLE)
    resources = Resources(model, M0, Goal.of("cycles=1"))
    (first, *_) = without_each(resources)
    exact = cost_of(drop_branches(model, [first.branch.tensor]), M0, measured=True).cycles
    assert float(first.value("cycles", resources.counts)) == pytest.approx(exact, rel=0.05)


# What they are worth


def test_the_loss_is_the_share_of_the_energy_that_changes() -> None:
    net = Blocks().eval()
    pruner = BudgetPruner(net, EXAMPLE, "macs=60K", Schedule(10))
    x, _ = next(batches(1))
    pruner.network.watched = pruner._view.watched
    pruner.network.eval()(x)
    pruner._view.see(pruner.network.seen)
    with torch.no_grad():
        stem = torch.relu(net.norm(net.stem(x)))
        f = net.after(net.back(torch.relu(net.inner(stem))))
        y, a = torch.relu(stem + f), stem
        share = ((y - a) ** 2).sum() / (y**2).sum()
    (offer, *_) = pruner._view.offers("surgeon")
    assert offer.without.branch.tensor == branch_with(pruner.original, "inner.weight")
    # The sum is read by the second block, twice, and its channels by the first block, too.
    assert offer.loss == pytest.approx(-3 * float(torch.log(1 - share)), rel=1e-3)
    pruner.close()


def test_a_difference_loses_what_it_subtracts() -> None:
    net, x = start()
    y = net("Sub", x, net.conv("f", x, 4, 4, 3, 3), out="y")
    model = net.model(net.conv("end", y, 2, 4, 1, 1))
    _, branches = branches_of(model, "macs=1")
    network = Network(model)
    network.watched = tuple(branches.watched)
    network(torch.randn(3, 2, 5, 5))
    branches.see(network.seen)
    (side,) = branches.sides
    f, whole = network.seen["f"], network.seen["y"]
    share = float(f.square().sum() / whole.square().sum())
    assert side.energy[0] / side.energy[1] == pytest.approx(share, rel=1e-5)


def chosen(losses: Sequence[float], limit: float) -> str | None:
    resources = Resources(exported(), M0, Goal.of("macs=1"))
    pairs = zip(without_each(resources), losses, strict=True)
    offers = [Offer(without, loss) for without, loss in pairs]
    least = [Candidate(g.width, 2, [], torch.ones(g.width)) for g in resources.channels.groups]
    chooser = Chooser(resources, least, 1, offers)
    chooser.reduce({"macs": limit})
    return chooser.branch


def test_the_cheapest_for_what_it_brings_is_chosen() -> None:
    first, deep, down = (b.tensor for b in find_branches(exported()))
    assert chosen([0.1, 0.1, 0.1], 20_000) == first
    assert chosen([0.1, 0.001, 0.1], 20_000) == deep
    assert chosen([9e9, 9e9, 0.001], 84_000) == down
    assert chosen([9e9, 9e9, 9e9], 20_000) is None
    inf = float("inf")
    assert chosen([inf, inf, inf], 20_000) is None
    assert chosen([inf, inf, inf], 1_200) == first


# What is left of the original


@given(st.integers(0, 10**6))
@settings(deadline=None, max_examples=30, derandomize=True)
def test_survivors_are_what_was_done_to_a_network(seed: int) -> None:
    """Channels and branches go by turns; the decision does it at once."""
    dice, original = random.Random(seed), Sums(seed).model()
    survivors, now = Survivors(original), original
    for _ in range(4):
        branches, groups = find_branches(now), find_channels(now).groups
        if branches and dice.random() < 0.5:
            survivors.drop(tensor := dice.choice(branches).tensor)
            now = drop_branches(now, [tensor])
        elif groups:
            left = [sorted(dice.sample(range(g.width), max(2, g.width - 1))) for g in groups]
            keep = {
                g.name: kept_indices(now, g, own)
                for g, own in zip(groups, left, strict=True)
                if len(own) < g.width
            }
            now = remove_channels(now, keep)
            survivors.keep(left)
    again = survivors.decision().apply(original)
    kept = {t.name: numpy_helper.to_array(t) for t in now.graph.initializer}
    assert kept.keys() == {t.name for t in again.graph.initializer}
    for tensor in again.graph.initializer:
        np.testing.assert_array_equal(numpy_helper.to_array(tensor), kept[tensor.name])
    assert again.graph.node == now.graph.node
    state = Survivors(original)
    state.load_state(survivors.state())
    assert state.decision() == survivors.decision()
