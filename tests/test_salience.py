"""The surgeon against plain least squares, and gates and scores against finite differences."""

import numpy as np
import prunable
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mcugraph.passes.channels import find_channels
from mcugraph.prune import salience
from mcugraph.prune.export import from_torch
from mcugraph.prune.gates import Gates
from mcugraph.prune.network import Network
from mcugraph.prune.readers import Reader, find_readers
from mcugraph.prune.salience import Moments, Surgeon, simple_scores


def dense_reader(width: int) -> Reader:
    each = torch.arange(width).unsqueeze(1)
    return Reader("w", 1, each, "x", 1, each, 0)


@settings(deadline=None, max_examples=30, derandomize=True)
@given(width=st.integers(2, 7), outputs=st.integers(1, 5), seed=st.integers(0, 999), data=st.data())
def test_what_stays_makes_up_as_least_squares_does(
    width: int, outputs: int, seed: int, data: st.DataObject
) -> None:
    """numpy's lstsq of the old output on the kept channels gives the same weights and error."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(200, width)) @ random.normal(size=(width, width)) + 1
    w = random.normal(size=(outputs, width))
    gone = data.draw(
        st.lists(st.integers(0, width - 1), unique=True, min_size=1, max_size=width - 1)
    )
    kept = [channel for channel in range(width) if channel not in gone]
    moments = Moments.empty(width, torch.device("cpu"))
    moments.second = torch.from_numpy(x.T @ x / len(x))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(salience, "RIDGE", 0.0)
        surgeon = Surgeon(torch.from_numpy(w), dense_reader(width), moments)
    energy = np.square(x @ w.T).mean(0)
    lost = 0.0
    for channel in gone:
        lost += float(surgeon.errors()[channel])
        surgeon.remove(channel)
    best, *_ = np.linalg.lstsq(x[:, kept], x @ w.T, rcond=None)
    np.testing.assert_allclose(surgeon.matrix[:, 0, kept], best.T, rtol=1e-5, atol=1e-7)
    assert not surgeon.matrix[:, 0, gone].any()
    left = np.square(x @ w.T - x[:, kept] @ best).mean(0)
    assert lost == pytest.approx(np.mean(left / energy), rel=1e-5, abs=1e-9)


def test_a_reader_that_loses_its_signal_guards_the_rest() -> None:
    """Each of four equal channels costs more than the one before: log(1 - e), not e."""
    moments = Moments.empty(4, torch.device("cpu"))
    moments.second = torch.eye(4)
    surgeon = Surgeon(torch.ones(1, 4), dense_reader(4), moments)
    costs = []
    for channel in range(3):
        costs.append(float(surgeon.losses()[channel]))
        surgeon.remove(channel)
    expected = [-np.log(3 / 4), -np.log(2 / 3), -np.log(1 / 2)]
    assert costs == pytest.approx(expected, rel=0.05)


def watched(name: str) -> tuple[Network, list[list[Reader]], Tensor]:
    """A network that ran once forward and back, its readers by group, and its input."""
    module, x = prunable.module(name), prunable.inputs(name, 8)
    network = Network(from_torch(module, prunable.inputs(name))).eval()
    channels = find_channels(network.to_onnx())
    readers = [find_readers(network, group) for group in channels.groups]
    network.watched = tuple({r.source for each in readers for r in each})
    network(x).square().sum().backward()
    return network, readers, x


@pytest.mark.parametrize("name", prunable.NETS)
def test_every_channel_of_every_net_is_read_through_gates(name: str) -> None:
    """A gate of 0 on one channel is what the group's readers say: the output of zeroed slices."""
    network, readers, x = watched(name)
    groups = find_channels(network.to_onnx()).groups
    assert all(readers)
    gates = Gates(readers, [group.width for group in groups], torch.device("cpu"))
    with torch.no_grad():
        plain = network(x)
        network.gating = gates.apply_to
        assert torch.equal(network(x), plain)
        for gate in gates.values:
            gate[0] = 0
        gated = network(x)
        gates.fold(network.weights)
        network.gating = None
        torch.testing.assert_close(network(x), gated, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(gated, plain)
    assert all(gate[0].item() == 1 for gate in gates.values)


def test_taylor_is_the_gradient_of_the_gate() -> None:
    network, readers, x = watched("squeeze_excite")
    gates = Gates(readers, [len(each[0].index) for each in readers], torch.device("cpu"))
    network.gating = gates.apply_to
    network.zero_grad()
    network(x).square().sum().backward()
    for gate, own in zip(gates.values, readers, strict=True):
        moments = [Moments.empty(len(r.index), torch.device("cpu")) for r in own]
        scores = simple_scores("taylor", network.weights, own, moments)
        assert gate.grad is not None
        torch.testing.assert_close(scores.float(), gate.grad.abs(), rtol=1e-3, atol=1e-4)


def test_gates_count_and_stay_within_their_bounds() -> None:
    gates = Gates([[], []], [3, 2], torch.device("cpu"))
    gates.values[0].grad = torch.tensor([0.5, -1.0, 200.0])
    gates.descend(0.1)
    assert gates.values[0].tolist() == pytest.approx([0.95, 1.0, 0.0])
    assert gates.counts().tolist() == pytest.approx([1.95, 2.0])
    gates.counts().sum().backward()
    assert gates.values[1].grad is not None
    assert gates.values[1].grad.tolist() == [1, 1]


def test_moments_are_means_over_batches() -> None:
    reader = dense_reader(3)
    moments = Moments.empty(3, torch.device("cpu"))
    batches = [torch.randn(50, 3), torch.randn(50, 3) + 1]
    for batch in batches:
        moments.add(batch, reader)
    whole = torch.cat(batches)
    torch.testing.assert_close(moments.second, whole.T @ whole / 100, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(moments.absolute, whole.abs().mean(0), rtol=1e-4, atol=1e-5)


def test_of_many_rows_each_nth_is_seen() -> None:
    """Also where a channel has two places, which are rows of their own."""
    index = torch.tensor([[4, 1], [0, 3], [2, 5]])
    reader = Reader("w", 1, index, "x", 1, index, 0)
    source = torch.randn(2, 6, 3, 4)
    rows = [
        [float(source[n, place, y, x]) for place in places]
        for n, y, x in np.ndindex(2, 3, 4)
        for places in index.T.tolist()
    ]
    moments = Moments.empty(3, torch.device("cpu"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(salience, "ROWS", 16)
        moments.add(source, reader)
    chosen = np.array(rows)[::3]
    np.testing.assert_allclose(moments.second, chosen.T @ chosen / len(chosen), rtol=1e-5)
    np.testing.assert_allclose(moments.absolute, np.abs(chosen).mean(0), rtol=1e-5)
