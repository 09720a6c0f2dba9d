"""Training within a budget: met by the C itself, repeatable, resumable, and equal in ONNX."""

import functools
import pickle
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import fitting
import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from mcugraph.decision import Decision
from mcugraph.measure import can_measure
from mcugraph.optimize import optimize
from mcugraph.prune import checkpoint
from mcugraph.prune.fit import MODES, Pruning, fit
from mcugraph.prune.history import Epoch
from mcugraph.prune.network import Network
from mcugraph.prune.result import Result
from mcugraph.prune.training import Still, Trainer, Training, cosine, score_of
from mcugraph.targets import load as load_target

SEED = 0
M0 = "cortex-m0"


def training(**options: Any) -> Training:
    return Training(epochs=fitting.EPOCHS, evaluate=fitting.batches(), **options)


@functools.cache
def whole() -> Result:
    """One run from beginning to end."""
    return fit(fitting.exported(), fitting.shuffled(), fitting.BUDGET, training(seed=SEED))


# The budget


@pytest.mark.skipif(not can_measure(load_target(M0)), reason="mcugraph[emulate] is absent")
def test_the_c_keeps_a_budget_of_what_only_a_compiled_model_has() -> None:
    budget = "ram=700,flash=5KB,cycles=180K"
    told: list[Epoch] = []
    wish = training(progress=told.append)
    result = fit(fitting.network(), fitting.batches(), budget, wish)
    quantised = result.quantize()
    artifact = result.compile(quantised)
    report = artifact.report
    assert report.ram.total <= 700
    assert report.flash.total <= 5 * 1024
    assert report.cycles is not None
    assert report.cycles <= 180_000
    assert result.measured(artifact) == {
        "ram": report.ram.total,
        "flash": report.flash.total,
        "cycles": report.cycles,
    }
    assert {name: result.used[name] for name in ("ram", "flash")} == {
        "ram": report.ram.total,
        "flash": report.flash.total,
    }
    assert result.verify(quantised, artifact).ok
    assert tuple(told) == result.history
    assert [entry.met for entry in told][0::4] == [False, True]


@pytest.mark.parametrize("mode", ["differentiable", "uniform"])
def test_a_layer_by_layer_peak_is_that_of_the_c(mode: str) -> None:
    """Nothing is streamed, not even where that would save memory."""
    budget = "arena=300,objective=cycles"
    result = fit(fitting.exported(), fitting.batches(), budget, training(), Pruning(mode=mode))
    assert result.compile().report.ram.arena <= 300
    larger = onnx.load(fitting.DIGITS.with_suffix(".onnx"))
    found = [artifact.report for artifact in (result.compile(larger), optimize(larger, M0))]
    assert found[0].ram.arena > found[1].ram.arena
    assert [any(section.turns for section in each.sections) for each in found] == [False, True]


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_keeps_its_budget(mode: str) -> None:
    result = fit(
        fitting.exported(),
        fitting.batches(),
        "params=1200,arena=400",
        training(),
        Pruning(mode=mode),
    )
    report = result.compile().report
    sizes = [np.prod(weight.shape) for weight in result.network.values.values()]
    assert sum(sizes) <= 1200
    assert report.ram.arena <= 400
    assert result.decision.keep
    assert result.history[-1].score > 30


def test_a_budget_that_is_kept_already_changes_nothing() -> None:
    for mode in MODES:
        result = fit(
            fitting.exported(), fitting.batches(), "macs=1M", training(), Pruning(mode=mode)
        )
        assert result.decision == Decision()


# Going on


def test_a_seed_decides_everything() -> None:
    again = fit(fitting.exported(), fitting.shuffled(), fitting.BUDGET, training(seed=SEED))
    assert fitting.described(again) == fitting.described(whole())
    other = fit(fitting.exported(), fitting.shuffled(), fitting.BUDGET, training(seed=SEED + 1))
    assert fitting.digest(other.network) != fitting.digest(whole().network)


@pytest.mark.parametrize("epoch", [2, 4])
def test_a_killed_run_goes_on_to_the_same_result(tmp_path: Path, epoch: int) -> None:
    """It dies before epoch 2 or 4 is saved: in the midst of pruning, and near its end."""
    onnx.save(fitting.exported(), tmp_path / "model.onnx")
    options = ["channels", "model.onnx", "out.json", "run.pt", str(epoch)]
    command = [sys.executable, fitting.__file__, *options]
    killed = subprocess.run(command, cwd=tmp_path, check=False)
    assert killed.returncode == fitting.KILLED
    told: list[Epoch] = []
    wish = training(checkpoint=tmp_path / "run.pt", progress=told.append, seed=SEED)
    result = fit(fitting.exported(), fitting.shuffled(), fitting.BUDGET, wish)
    assert [entry.number for entry in told] == list(range(epoch, fitting.EPOCHS + 1))
    assert fitting.described(result) == fitting.described(whole())


def test_a_finished_run_is_not_repeated(tmp_path: Path) -> None:
    """Even where the model that is given has other weights by now."""
    told: list[Epoch] = []
    wish = training(checkpoint=tmp_path / "run.pt", progress=told.append)
    budget, pruning = "macs=20K", Pruning(mode="uniform")
    model = fitting.exported()
    first = fit(model, fitting.batches(), budget, wish, pruning)
    told.clear()
    model.graph.initializer[0].raw_data = bytes(len(model.graph.initializer[0].raw_data))
    second = fit(model, fitting.batches(), budget, wish, pruning)
    assert told == []
    assert fitting.described(second) == fitting.described(first)
    with pytest.raises(ValueError, match=r"of another training: budget .*20000.*15000"):
        fit(model, fitting.batches(), "macs=15K", wish, pruning)
    (tmp_path / "run.pt").write_bytes(b"no")
    with pytest.raises(ValueError, match=r"run\.pt is no checkpoint; remove it"):
        fit(model, fitting.batches(), budget, wish, pruning)


def test_a_checkpoint_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "run.pt"
    checkpoint.save(path, {"purpose": {"seed": 1}, "weight": torch.ones(3)})
    with pytest.raises((AttributeError, pickle.PicklingError, TypeError)):
        checkpoint.save(path, {"purpose": {"seed": 2}, "weight": lambda: None})
    assert [each.name for each in path.parent.iterdir()] == ["run.pt"]
    assert checkpoint.load(path, {"seed": 1})["weight"].tolist() == [1, 1, 1]
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"cannot write .*file/run\.pt"):
        checkpoint.save(tmp_path / "file" / "run.pt", {})


def test_all_randomness_goes_on() -> None:
    own = torch.Generator().manual_seed(5)
    loader = DataLoader(TensorDataset(*fitting.digits()), 16, shuffle=True, generator=own)

    def drawn() -> list[float]:
        order = [float(x.sum()) for x, _ in loader]
        return [*order, float(torch.rand(())), np.random.random(), random.random()]

    drawn()
    state = checkpoint.random_states(loader)
    then = drawn()
    assert drawn() != then
    checkpoint.restore_random_states(state, loader)
    assert drawn() == then


# The result


def test_the_exported_model_computes_what_the_network_does(tmp_path: Path) -> None:
    result = whole()
    result.export(tmp_path / "out.onnx")
    session = ort.InferenceSession(tmp_path / "out.onnx")
    x, _ = fitting.digits()
    with torch.no_grad():
        ours = result.network(x).numpy()
    name = session.get_inputs()[0].name
    theirs = np.concatenate([session.run(None, {name: row[None]})[0] for row in x.numpy()])
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def test_the_decision_gives_the_shapes_of_the_result() -> None:
    applied = whole().decision.apply(fitting.exported())
    assert shapes(applied) == shapes(whole().model)
    assert shapes(applied) != shapes(fitting.exported())


def shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    return {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}


def test_a_module_is_left_as_it_was() -> None:
    module = fitting.network()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    mode = module.training
    fit(module, fitting.batches(), "macs=20K", Training(epochs=1))
    assert module.training == mode
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name])


# The loop


def trainer(network: Network, teacher: Network | None, **options: Any) -> Trainer:
    """One that changes no weight."""
    still = {"optimizer": lambda weights: torch.optim.SGD(weights, 0.0), "epochs": 1}
    return Trainer(Still(network), fitting.batches(64), Training(**still, **options), teacher)


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def narrowed() -> Network:
    return Network(whole().model)


def logits(network: Network, training: bool) -> np.ndarray:
    network.train(training)
    with torch.no_grad():
        return network(fitting.digits()[0]).double().numpy()


def test_distillation_is_its_equation() -> None:
    """The student in training mode, as its batch normalisations are; the teacher is not."""
    labels = fitting.digits()[1].numpy()
    student, teacher = logits(narrowed(), True), logits(Network(fitting.exported()), False)
    task = -np.log(softmax(student)[range(64), labels]).mean()
    p, q = softmax(teacher / 2), softmax(student / 2)
    apart = (p * (np.log(p) - np.log(q))).sum(1).mean()
    expected = 0.7 * task + 0.3 * 4 * apart
    own = trainer(narrowed(), Network(fitting.exported()), distil=0.3, temperature=2.0)
    assert own.run_epoch(0) == pytest.approx(expected, rel=1e-5)
    own = trainer(narrowed(), None)
    assert own.run_epoch(0) == pytest.approx(task, rel=1e-5)


@pytest.mark.parametrize("dull", [0.8, 0.3])
def test_the_unpruned_network_is_listened_to_as_far_as_it_knows_more(dull: float) -> None:
    labels = fitting.digits()[1].numpy()
    student, wise, fool = narrowed(), Network(fitting.exported()), Network(fitting.exported())
    with torch.no_grad():
        for weight in wise.weights.values():
            weight.mul_(dull)
        for weight in fool.weights.values():
            weight.mul_(0.1)
    theirs, ours = (
        -np.log(softmax(found)[range(64), labels]).mean()
        for found in (logits(wise, False), logits(student, True))
    )
    taught = trainer(student, wise)
    taught.run_epoch(0)
    assert taught.distil == pytest.approx(min(0.5, max(0, 1 - theirs / ours)), rel=1e-5)
    alone = trainer(narrowed(), fool)
    alone.run_epoch(0)
    assert alone.distil == 0.0


def test_bfloat16_and_channels_last_learn_as_well() -> None:
    wish = training(autocast=torch.bfloat16, channels_last=True)
    result = fit(fitting.exported(), fitting.batches(), fitting.BUDGET, wish)
    assert all(weight.dtype == torch.float32 for weight in result.network.weights.values())
    assert result.history[-1].score == pytest.approx(whole().history[-1].score, abs=500 / 64)


def test_the_score_is_a_share_of_labels_or_what_a_function_says() -> None:
    network = Network(fitting.exported()).train()
    x, y = fitting.digits()
    right = (logits(network, False).argmax(1) == y.numpy()).mean()
    assert score_of(network, Training(evaluate=[(x, y)])) == pytest.approx(100 * right)
    assert score_of(network, Training(evaluate=fitting.batches(24))) == pytest.approx(100 * right)
    assert score_of(network, Training(evaluate=lambda own: float(own.training))) == 0.0
    assert score_of(network, Training()) is None


def test_the_learning_rate_rises_and_falls() -> None:
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], 1.0)
    schedule = cosine(optimizer, 40)
    rates = []
    for _ in range(40):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates.index(max(rates)) == 1
    assert rates[:2] == pytest.approx([0.5, 1.0], abs=0.01)
    assert rates[1:] == sorted(rates[1:], reverse=True)
    assert 0 < rates[-1] < 0.01


def test_a_sampler_hears_of_each_epoch() -> None:
    class Sampler(torch.utils.data.SequentialSampler):
        def set_epoch(self, epoch: int) -> None:
            heard.append(epoch)

    heard: list[int] = []
    data = TensorDataset(*fitting.digits())
    loader = DataLoader(data, 32, sampler=Sampler(data))
    fit(fitting.exported(), loader, "macs=1M", Training(epochs=2))
    assert heard == [0, 1]


# What is refused


def test_wrong_options_are_told_all_at_once() -> None:
    with pytest.raises(ValueError, match=r"(?s)epochs=0: .*distil=2: .*temperature=0: .*clip=0: "):
        Training(epochs=0, distil=2, temperature=0, clip=0)
    with pytest.raises(ValueError, match=r"mode 'unifrom': there are .*; did you mean uniform\?"):
        Pruning(mode="unifrom")


@pytest.mark.parametrize("mode", MODES)
def test_a_budget_out_of_reach_is_refused(mode: str) -> None:
    with pytest.raises(ValueError, match=r"out of reach|can't be met|with all of them at|floor"):
        fit(fitting.exported(), fitting.batches(), "macs=10", Training(), Pruning(mode=mode))


def test_a_training_that_has_diverged_is_stopped() -> None:
    wish = Training(epochs=1, clip=None, loss=lambda outputs, labels: outputs.sum() * torch.inf)
    with pytest.raises(ValueError, match=r"the loss is (nan|inf) after epoch 1: lower"):
        fit(fitting.exported(), fitting.batches(), "macs=1M", wish, Pruning(mode="uniform"))


def test_data_of_another_form_is_refused() -> None:
    with pytest.raises(ValueError, match="the loader gives no batch"):
        fit(fitting.network(), [], "macs=20K")
    with pytest.raises(ValueError, match=r"a batch is a dict; give tuples \(inputs\.\.\., target"):
        fit(fitting.network(), [{"x": fitting.digits()[0]}], "macs=20K")
