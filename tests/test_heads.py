"""Heads: sizes by hand, values as torch computes them, and what is refused."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from depthnets import parameters
from onnx import ModelProto
from torch import nn

from mcugraph.passes.heads import Head, head_model

IMAGE = (1, 64, 12, 12)


def run(model: ModelProto, x: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (result,) = session.run(None, {"features": x})
    return result


def convolution(parts: dict[str, nn.Module], kind: str, *sizes: int) -> nn.Sequential:
    """The modules of one layer under the names that the head's weights have."""
    inputs, outputs, size, groups = sizes
    conv = nn.Conv2d(inputs, outputs, size, padding=size // 2 if groups > 1 else 0, groups=groups)
    norm = nn.BatchNorm2d(outputs)
    parts[kind], parts["norm" if kind == "conv" else f"{kind}_norm"] = conv, norm
    return nn.Sequential(conv, norm, nn.ReLU())


class Torch(nn.Module):
    """A head in torch; `state_dict` has the names of the ONNX weights behind "head."."""

    def __init__(self, head: Head, channels: int) -> None:
        super().__init__()
        self.run: list[Callable[[torch.Tensor], torch.Tensor]] = []
        flat = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        if head.kind in ("dense", "gap"):
            self.run.append(flat)
        for i, width in enumerate(head.widths):
            parts: dict[str, nn.Module] = {}
            if head.kind == "dscnn":
                self.run.append(convolution(parts, "depthwise", channels, channels, 3, channels))
                self.run.append(convolution(parts, "pointwise", channels, width, 1, 1))
            elif head.kind == "conv":
                self.run.append(convolution(parts, "conv", channels, width, 3, 1))
            layer = nn.Linear(channels, width) if head.kind == "dense" else nn.ModuleDict(parts)
            if head.kind == "dense":
                self.run.append(nn.Sequential(layer, nn.ReLU()))
            self.add_module(str(i), layer)
            channels = width
        if head.kind in ("dscnn", "conv"):
            self.run.append(flat)
        self.classifier = nn.Linear(channels, head.classes)
        self.run.append(nn.Sequential(self.classifier, nn.Softmax(1)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for step in self.run:
            x = step(x)
        return x

    def weights(self) -> dict[str, torch.Tensor]:
        return {f"head.{name}": value for name, value in self.state_dict().items()}


def trained(head: Head, channels: int) -> Torch:
    """With all its values random, the statistics too."""
    torch.manual_seed(1)
    network = Torch(head, channels).eval()
    for name, value in network.state_dict().items():
        if value.dtype == torch.float32:
            low = 0.5 if "var" in name else -0.5
            value.uniform_(low, 1)
    return network


@pytest.mark.parametrize("text", ["dscnn32_16", "dscnn8", "conv11", "dense64_32", "gap"])
def test_a_head_is_one_word(text: str) -> None:
    head = Head.parse(text, classes=3)
    assert head.name == text
    assert head == Head(head.kind, head.widths, 3)
    assert hash(head) == hash(Head.parse(text, 3, weights={}))


@pytest.mark.parametrize(
    ("text", "count"),
    [
        # The paper's: 896 + 2208 + 448 + 592 + 34.
        ("dscnn32_16", 4178),
        ("conv11", 64 * 11 * 9 + 5 * 11 + 2 * 11 + 2),
        ("dense64_32", 64 * 64 + 64 + 64 * 32 + 32 + 2 * 32 + 2),
        ("gap", 2 * 64 + 2),
    ],
)
def test_parameters(text: str, count: int) -> None:
    assert parameters(head_model(Head.parse(text, 2), IMAGE)) == count


@pytest.mark.parametrize("text", ["dscnn32_16", "conv11", "conv8_4", "dense64_32", "gap"])
def test_given_weights_compute_what_torch_computes(text: str) -> None:
    head = Head.parse(text, 5)
    network = trained(head, 64)
    model = head_model(Head.parse(text, 5, weights=network.weights()), IMAGE)
    x = np.random.default_rng(0).standard_normal(IMAGE).astype(np.float32)
    with torch.no_grad():
        expected = network(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(run(model, x), expected, rtol=1e-4, atol=1e-6)


def test_weights_of_another_model() -> None:
    first = head_model(Head(seed=3), IMAGE)
    again = head_model(Head(seed=4, weights=first), IMAGE)
    assert again.SerializeToString() == first.SerializeToString()
    assert head_model(Head(seed=4), IMAGE).SerializeToString() != first.SerializeToString()


def test_every_wrong_weight_is_named() -> None:
    weights = trained(Head(), 64).weights()
    weights["head.classifier.weight"] = torch.zeros(3, 16)
    weights["head.2.depthwise.bias"] = torch.zeros(1)
    weights["backbone.weight"] = torch.zeros(1)
    del weights["head.1.pointwise_norm.running_var"]
    with pytest.raises(ValueError, match="weights of head dscnn32_16") as caught:
        head_model(Head(weights=weights), IMAGE)
    problems = str(caught.value).partition(": ")[2].split("; ")
    assert problems == [
        "head.1.pointwise_norm.running_var is missing",
        "head.classifier.weight is [3, 16], not [2, 16]",
        "head.2.depthwise.bias is not of this head",
    ]


def test_new_weights_are_glorot_uniform() -> None:
    model = head_model(Head("dscnn", (512,), 100, seed=1), (1, 256, 4, 4))
    values = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    limits = {
        "head.0.depthwise.weight": 9 * 256 + 9,
        "head.0.pointwise.weight": 256 + 512,
        "head.classifier.weight": 512 + 100,
    }
    for name, fans in limits.items():
        limit = (6 / fans) ** 0.5
        assert 0.99 * limit < np.abs(values[name]).max() <= limit
        assert abs(values[name].mean()) < 0.05 * limit
    assert not values["head.0.depthwise.bias"].any()


@pytest.mark.parametrize("opset", [9, 13, 22])
@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("dscnn8_4", (1, 6, 5, 4)),
        ("dscnn4", (1, 1, 3, 1)),
        ("dscnn4", (1, 6, 9)),
        ("conv5", (1, 6, 9)),
        ("dense4", (1, 6, 9)),
        ("dense4", (1, 6)),
        ("gap", (1, 6)),
        ("gap", (3, 6, 2, 2)),
    ],
)
def test_shapes_and_opsets(text: str, shape: tuple[int, ...], opset: int) -> None:
    model = head_model(Head.parse(text, 3), shape, opset)
    onnx.checker.check_model(model, full_check=True)
    result = run(model, np.random.default_rng(0).standard_normal(shape).astype(np.float32))
    assert result.shape == (shape[0], 3)
    np.testing.assert_allclose(result.sum(1), 1, rtol=1e-5)
    assert [d.dim_value for d in model.graph.output[0].type.tensor_type.shape.dim] == [shape[0], 3]


def test_unknown_sizes_stay_unknown() -> None:
    model = head_model(Head(), (None, 4, None, 7))
    assert run(model, np.zeros((2, 4, 5, 7), np.float32)).shape == (2, 2)


def test_logits() -> None:
    model = head_model(Head(softmax=False, classes=1), IMAGE)
    assert [value.name for value in model.graph.output] == ["logits"]
    assert model.graph.node[-1].op_type == "Gemm"


@pytest.mark.parametrize(
    ("text", "classes", "complaint"),
    [
        ("resnet8", 2, "head of kind 'resnet': there are dscnn, dense, conv, gap"),
        ("dscnn", 2, "gap takes no widths, the others one or more"),
        ("gap3", 2, "gap takes no widths"),
        ("dscnn32_0", 2, "gap takes no widths"),
        ("dscnn32x16", 2, "write it as dscnn32_16, conv11, dense64_32 or gap"),
        ("", 2, "write it as"),
        ("gap", 1, "1 classes; a softmax is of 2 or more"),
    ],
)
def test_wrong_heads(text: str, classes: int, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Head.parse(text, classes)


@pytest.mark.parametrize(
    ("text", "shape", "complaint"),
    [
        ("dscnn8", (1, 6), r"takes a tensor of shape \[1,C,L\] or \[1,C,H,W\], not \[1, 6\]"),
        ("gap", (1, 6, 2, 2, 2), r"of shape \[1,C\] or \[1,C,L\] or \[1,C,H,W\], not \[1, 6, 2"),
        ("gap", (1, None, 4, 4), r"not \[1, \?, 4, 4\]"),
        ("conv8_8", (1, 6, 4, 9), r"needs 5 rows and columns: \[1, 6, 4, 9\]"),
    ],
)
def test_shapes_that_a_head_cannot_take(
    text: str, shape: tuple[int | None, ...], complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        head_model(Head.parse(text, 2), shape)


def test_an_opset_that_is_too_old() -> None:
    with pytest.raises(ValueError, match="needs opset 9 or newer, not 8"):
        head_model(Head(), IMAGE, 8)
