"""Budgets are met, what does not matter goes first, and the decision is the network's."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from onnx import ModelProto
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional

from mcugraph.cost import cost_of
from mcugraph.passes.channels import find_channels
from mcugraph.prune.network import Network
from mcugraph.prune.pruner import BudgetPruner
from mcugraph.prune.rules import Rules, Schedule

EXAMPLE = torch.zeros(1, 1, 8, 8)


class Tiny(nn.Module):
    """Two convolutions with a shortcut beside the second, and a classifier of 8x8 digits."""

    def __init__(self, width: int = 12) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width)
        self.inner, self.back = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))
        self.fc = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.stem(x)))
        x = torch.relu(x + self.back(torch.relu(self.inner(x))))
        return self.fc(functional.max_pool2d(x, 2).mean((2, 3)))


pytestmark = pytest.mark.usefixtures("one_thread")


def batches(count: int) -> Iterator[tuple[Tensor, Tensor]]:
    data = load_digits()
    images = torch.from_numpy((data.images / 16).astype(np.float32)).unsqueeze(1)
    labels = torch.from_numpy(data.target)
    order = torch.Generator().manual_seed(0)
    for _ in range(count):
        chosen = torch.randint(len(labels), (64,), generator=order)
        yield images[chosen], labels[chosen]


def train(pruner: BudgetPruner, steps: int, optimizer: torch.optim.Optimizer) -> list[float]:
    losses = []
    for x, y in batches(steps):
        optimizer.zero_grad()
        loss = functional.cross_entropy(pruner.network(x), y)
        (loss + pruner.loss()).backward()
        optimizer.step()
        pruner.step()
        losses.append(loss.item())
    pruner.close()
    return losses


def adam(pruner: BudgetPruner) -> torch.optim.Optimizer:
    return torch.optim.AdamW(pruner.network.parameters(), 3e-3)


BUDGETS = ["arena=700", "macs=60K", "params=1000", "weights=1400,arena=900", "macs=90K,arena=800"]


@pytest.mark.parametrize("budget", BUDGETS)
def test_the_budget_is_met_as_the_compiler_counts(budget: str) -> None:
    """And not by more than the last step of the search brings."""
    pruner = BudgetPruner(Tiny().train(), EXAMPLE, budget, Schedule(40, events=4))
    losses = train(pruner, 40, adam(pruner))
    cost = cost_of(pruner.network.to_onnx(), "cortex-m0")
    used = {"arena": cost.ram, "macs": cost.macs, "params": cost.parameters}
    used["weights"] = cost.weights
    shares = [used[name] / limit for name, limit in pruner.resources.goal.limits.items()]
    assert 0.8 < max(shares) <= 1
    assert np.mean(losses[-5:]) < np.mean(losses[:5])


def test_what_is_measured_is_met_on_the_emulated_core() -> None:
    pytest.importorskip("unicorn", reason="needs the emulator")
    pytest.importorskip("ziglang", reason="needs a compiler")
    pruner = BudgetPruner(
        Tiny().train(), EXAMPLE, "ram=1100,flash=7KB,cycles=2M", Schedule(20, events=2)
    )
    train(pruner, 20, adam(pruner))
    cost = cost_of(pruner.network.to_onnx(), "cortex-m0", measured=True)
    assert cost.ram <= 1100
    assert cost.flash is not None
    assert cost.flash <= 7 * 1024
    assert cost.cycles is not None
    assert cost.cycles <= 2_000_000


def structure(model: ModelProto) -> dict[str, tuple[int, ...]]:
    return {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}


def test_the_decision_repeats_the_pruning_without_torch() -> None:
    pruner = BudgetPruner(Tiny().train(), EXAMPLE, "macs=60K", Schedule(30, events=5))
    original = structure(pruner.original)
    train(pruner, 30, adam(pruner))
    again = pruner.decision().apply(pruner.original)
    assert structure(again) == structure(pruner.network.to_onnx()) != original
    assert Network(again).to_onnx().graph.node == pruner.network.to_onnx().graph.node


def planted() -> tuple[Tiny, set[int], set[int]]:
    """A trained net in which nobody reads some channels of the stem and some inner ones."""
    net = Tiny(16).train()
    optimizer = torch.optim.AdamW(net.parameters(), 3e-3)
    for x, y in batches(80):
        optimizer.zero_grad()
        functional.cross_entropy(net(x), y).backward()
        optimizer.step()
    unread, silent = {1, 4, 6, 13}, {0, 5, 9}
    with torch.no_grad():
        for weight in (net.inner.weight, net.fc.weight):
            weight[:, sorted(unread)] = 0
        net.back.weight[:, sorted(silent)] = 0
        net.back.weight[sorted(unread)] = 0
    return net, unread, silent


@pytest.mark.parametrize("importance", ["surgeon", "taylor", "l2"])
def test_planted_channels_that_do_not_matter_go_first(importance: str) -> None:
    net, unread, silent = planted()
    rules = Rules(importance=importance, gate_rate=0)
    pruner = BudgetPruner(net, EXAMPLE, "params=3250", Schedule(4, events=1, end=1.0), rules=rules)
    frozen = torch.optim.SGD(pruner.network.parameters(), 0.0)
    before = {g.name: g.width for g in find_channels(pruner.original).groups}
    train(pruner, 4, frozen)
    gone = {
        group.name: {c for c in range(before[group.name]) if c not in pruner.alive[group.name]}
        for group in find_channels(pruner.original).groups
    }
    assert gone["stem.weight"] | gone["inner.weight"]
    assert gone["stem.weight"] <= unread
    assert gone["inner.weight"] <= silent


def test_gates_learn_which_channels_do_not_matter() -> None:
    """The resource loss closes gates; the task keeps those open that it needs."""
    net, unread, silent = planted()
    rules = Rules(gate_rate=0.2)
    pruner = BudgetPruner(net, EXAMPLE, "params=1500", Schedule(60, events=1, end=1.0), rules=rules)
    optimizer = torch.optim.SGD(pruner.network.parameters(), 0.0)
    for x, y in batches(30):
        optimizer.zero_grad()
        loss = 3 * functional.cross_entropy(pruner.network(x), y) + pruner.loss()
        loss.backward()
        pruner.step()
    names = [group.name for group in pruner.resources.channels.groups]
    gates = dict(zip(names, pruner.gates.values, strict=True))
    for name, useless in (("stem.weight", unread), ("inner.weight", silent)):
        gate = gates[name].detach()
        rest = [c for c in range(len(gate)) if c not in useless]
        assert gate[sorted(useless)].max() < gate[rest].max()
        assert gate[sorted(useless)].mean() < gate[rest].mean()
    pruner.close()


def test_twins_go_without_a_trace() -> None:
    """Half of the channels are copies of the others: their readers make up for them entirely."""
    net = Tiny(12).eval()
    with torch.no_grad():
        net.inner.weight[6:] = net.inner.weight[:6]
        net.inner.bias[6:] = net.inner.bias[:6]
    x, _ = next(batches(1))
    before = net(x).detach()
    rules = Rules(gate_rate=0)
    pruner = BudgetPruner(net, EXAMPLE, "params=1620", Schedule(2, events=1, end=1.0), rules=rules)
    train(pruner, 2, torch.optim.SGD(pruner.network.parameters(), 0.0))
    assert len(pruner.alive["inner.weight"]) == 6
    after = pruner.network.eval()(x).detach()
    assert (after - before).abs().max() < 0.02 * before.std()


def test_counts_are_rounded_where_asked() -> None:
    rules = Rules(round_to=4)
    pruner = BudgetPruner(Tiny().train(), EXAMPLE, "macs=60K", Schedule(20, 2), rules=rules)
    train(pruner, 20, adam(pruner))
    assert {len(left) % 4 for left in pruner.alive.values()} == {0}


def test_momentum_is_sliced_with_its_weight() -> None:
    pruner = BudgetPruner(Tiny().train(), EXAMPLE, "macs=60K", Schedule(10, 1))
    optimizer = torch.optim.SGD(pruner.network.parameters(), 0.05, momentum=0.9)
    train(pruner, 10, optimizer)
    own = {id(weight): weight for weight in pruner.network.weights.values()}
    assert {id(p) for group in optimizer.param_groups for p in group["params"]} == set(own)
    for parameter, state in optimizer.state.items():
        assert id(parameter) in own
        assert state["momentum_buffer"].shape == parameter.shape


def test_a_budget_out_of_reach_is_refused_before_training() -> None:
    with pytest.raises(ValueError, match=r"out of reach .*macs is .* above 900; raise it"):
        BudgetPruner(Tiny(), EXAMPLE, "macs=900", Schedule(10))


def test_wrong_words_are_told() -> None:
    with pytest.raises(ValueError, match="importance 'magic': one of surgeon, taylor"):
        BudgetPruner(Tiny(), EXAMPLE, "macs=90K", Schedule(10), rules=Rules(importance="magic"))


def test_the_same_seed_gives_the_same_network() -> None:
    results = []
    for _ in range(2):
        torch.manual_seed(3)
        pruner = BudgetPruner(Tiny().train(), EXAMPLE, "arena=800", Schedule(16, 2))
        train(pruner, 16, adam(pruner))
        results.append(pruner.network.to_onnx().SerializeToString(deterministic=True))
    assert results[0] == results[1]
