"""The inputs to compare on: from a file, by name or by shape, or random ones."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from models import Net
from onnx import TensorProto

from mcugraph.oracle import GIVEN, Oracle, cut, labels, samples

DIGITS = Path(__file__).parents[1] / "examples" / "digits.onnx"


def saved(folder: Path, **arrays: Any) -> Path:
    np.savez(folder / "data.npz", **arrays)
    return folder / "data.npz"


def images(count: int, *shape: int) -> Any:
    return np.random.default_rng(count).standard_normal((count, *shape)).astype(np.float32)


@pytest.fixture(scope="module")
def oracle() -> Oracle:
    return Oracle(onnx.load(DIGITS))


def test_data_is_found_by_name_or_by_shape(oracle: Oracle, tmp_path: Path) -> None:
    right, other = images(3, 1, 8, 8), images(5, 1, 8, 8)
    expected = [image[None] for image in right]
    for arrays in (
        {"input": right, "other": other},
        {"anything": right, "label": np.arange(3)},
        {"anything": right, "small": images(3, 4, 4)},
        {"anything": right[:, None]},
    ):
        found = samples(oracle, saved(tmp_path, **arrays), 99)
        assert len(found) == 3
        for sample, image in zip(found, expected, strict=True):
            np.testing.assert_array_equal(sample["input"], image)


def test_data_that_is_ambiguous_or_does_not_fit_is_refused(oracle: Oracle, tmp_path: Path) -> None:
    two = {"a": images(3, 1, 8, 8), "b": images(5, 1, 8, 8)}
    with pytest.raises(ValueError, match=r"several arrays fit input input; .* 'input' of float32"):
        samples(oracle, saved(tmp_path, **two), 1)
    with pytest.raises(ValueError, match=r"no array fits input input; .* it holds a: float64"):
        samples(oracle, saved(tmp_path, a=images(3, 1, 8, 8).astype(np.float64)), 1)
    with pytest.raises(ValueError, match=r"no array fits .* input: float32\[3, 8, 8, 1\]"):
        samples(oracle, saved(tmp_path, input=images(3, 8, 8, 1)), 1)
    with pytest.raises(ValueError, match="holds no sample"):
        samples(oracle, saved(tmp_path, input=images(0, 1, 8, 8)), 1)


def test_data_that_is_no_archive_is_refused(oracle: Oracle, tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("no archive")
    np.save(tmp_path / "single.npy", np.zeros(3))
    whole = saved(tmp_path, input=images(3, 1, 8, 8)).read_bytes()
    (tmp_path / "half.npz").write_bytes(whole[: len(whole) // 2])
    saved(tmp_path, input=np.array([object()], object))
    for name in ("text.npz", "single.npy", "half.npz", "data.npz", "missing.npz"):
        with pytest.raises(ValueError, match=rf"cannot read .*{name}: it is no \.npz"):
            samples(oracle, tmp_path / name, 1)


def test_random_samples_have_the_shape_and_range_of_each_input() -> None:
    net = Net(18)
    net.input("f", 1, 4)
    net.input("s", 2, 3, kind=TensorProto.INT8)
    net.input("u", 5, kind=TensorProto.UINT8)
    net.input("flag", 7, kind=TensorProto.BOOL)
    model = net.model(net("Relu", "f"))
    found = samples(Oracle(model), None, 4)
    assert len(found) == 4
    shapes = {name: (v.shape, v.dtype.name) for name, v in found[0].items()}
    assert shapes == {
        "f": ((1, 4), "float32"),
        "s": ((2, 3), "int8"),
        "u": ((5,), "uint8"),
        "flag": ((7,), "bool"),
    }
    assert not np.array_equal(found[0]["f"], found[1]["f"])


def test_labels_are_those_of_the_file(tmp_path: Path) -> None:
    found = labels(saved(tmp_path, label=np.arange(4)))
    assert found is not None
    assert found.tolist() == [0, 1, 2, 3]
    assert labels(saved(tmp_path, input=np.zeros(2))) is None
    assert labels(None) is None


def int8_network() -> onnx.ModelProto:
    net = Net(18)
    x = net.input("x", 1, 3, 6, 6, kind=TensorProto.INT8)
    for i in range(2):
        w = net.dequantize(net.bytes(f"w{i}", 3, 3, 3, 3), 0.01, 0)
        y = net("Conv", net.dequantize(x, 0.1, 3), w, pads=[1, 1, 1, 1])
        x = net.quantize(y, 0.1, 3, out=f"q{i}")
    return net.model(x, kind=TensorProto.INT8)


def test_all_visible_tensors_are_those_of_integer_arithmetic() -> None:
    model = int8_network()
    oracle = Oracle(model, ["q0", "x"])
    feed = samples(oracle, None, 1)[0]
    shown = oracle.run(feed)
    assert list(shown) == ["q1", "q0", "x"]
    assert oracle.outputs == ["q1"]
    tensors = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    for i, (source, target) in enumerate([("x", "q0"), ("q0", "q1")]):
        x = np.pad(shown[source].astype(np.int64) - 3, ((0, 0), (0, 0), (1, 1), (1, 1)))
        patches = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (2, 3))
        sums = np.einsum("nchwij,ocij->nohw", patches, tensors[f"w{i}"].astype(np.int64))
        ratio = np.float32(0.1) * np.float32(0.01) / np.float32(0.1)
        expected = np.clip(np.rint(sums.astype(np.float32) * ratio) + 3, -128, 127)
        np.testing.assert_array_equal(shown[target], expected)


def test_the_pieces_of_a_model_compute_from_what_is_given() -> None:
    model = int8_network()
    original = model.SerializeToString()
    whole, pieces = Oracle(model, ["q0", "q1"]), Oracle(cut(model, ["q0", "q1"]), ["q0"])
    assert model.SerializeToString() == original
    assert pieces.inputs.keys() == {"x", "q0" + GIVEN}
    one, other = (whole.run(feed) for feed in samples(whole, None, 2))
    x = samples(whole, None, 1)[0]["x"]
    found = pieces.run({"x": x, "q0" + GIVEN: other["q0"]})
    np.testing.assert_array_equal(found["q0"], one["q0"])
    np.testing.assert_array_equal(found["q1"], other["q1"])


def test_two_roundings_in_a_row_stay_two() -> None:
    """As without a branch that was added between them: its sum has a scale of its own."""
    net = Net(17)
    x = net.input("x", 1, 40)
    for scale in (0.17, 0.11):
        x = net.dequantize(net.quantize(x, scale, 3), scale, 3)
    model = net.model(net.quantize(net("Relu", x), 0.11, 3, out="y"), kind=TensorProto.INT8)
    feed = {"x": np.linspace(-4, 4, 40, dtype=np.float32)[None]}
    (found,) = Oracle(model).run(feed).values()
    once = np.float32(0.17) * np.round(feed["x"] / np.float32(0.17))
    twice = np.round(once / np.float32(0.11))
    np.testing.assert_array_equal(found, np.maximum(twice, 0) + 3)
