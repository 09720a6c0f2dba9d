"""The trained networks of ../shared/data/bases as torch modules, and their data sets."""

from __future__ import annotations

import io
import time
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

SHARED = Path(__file__).parents[2] / "shared" / "data"
CACHE = Path(__file__).parents[1] / "build"
# Speakers of the digits whom training does not hear.
HELD_OUT = ("nicolas", "theo")
# CPU seconds that the base of MobileNetV2 is trained for.
BASE_SECONDS = 480


class Block(nn.Module):
    """Two convolutions beside a shortcut, padded as TensorFlow does."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 0 if stride == 2 else 1)
        self.bn1 = nn.BatchNorm2d(outputs, 1e-3)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1)
        self.bn2 = nn.BatchNorm2d(outputs, 1e-3)
        self.down = nn.Conv2d(inputs, outputs, 1, stride) if stride == 2 else None

    def forward(self, x: Tensor) -> Tensor:
        """[n, c, h, w] -> [n, c', h / stride, w / stride]."""
        inner = functional.pad(x, (0, 1, 0, 1)) if self.stride == 2 else x
        inner = torch.relu(self.bn1(self.conv1(inner)))
        shortcut = x if self.down is None else self.down(x)
        return torch.relu(self.bn2(self.conv2(inner)) + shortcut)


class ResNet8(nn.Module):
    """Image classification of MLPerf Tiny: [n, 3, 32, 32] of 0 to 255 -> 10 classes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 16, 3, 1, 1), nn.BatchNorm2d(16, 1e-3)
        self.b1, self.b2, self.b3 = Block(16, 16, 1), Block(16, 32, 2), Block(32, 64, 2)
        self.fc = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        """[n, 3, 32, 32] -> [n, 10]."""
        x = self.b3(self.b2(self.b1(torch.relu(self.bn(self.conv(x))))))
        return self.fc(x.mean((2, 3)))


class Separable(nn.Module):
    """A depthwise and a pointwise convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.dw = nn.Conv2d(channels, channels, 3, 1, 1, groups=channels, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.pw = nn.Conv2d(channels, channels, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """[n, c, h, w] -> the same."""
        return torch.relu(self.bn2(self.pw(torch.relu(self.bn1(self.dw(x))))))


class DsCnn(nn.Module):
    """Keyword spotting of MLPerf Tiny, on spoken digits: [n, 1, 49, 10] -> 10 classes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 64, (10, 4), 2, bias=False)
        self.bn = nn.BatchNorm2d(64)
        self.blocks = nn.Sequential(*(Separable(64) for _ in range(4)))
        self.fc = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        """[n, 1, 49, 10] -> [n, 10]."""
        x = functional.pad(x, (1, 2, 5, 4))
        return self.fc(self.blocks(torch.relu(self.bn(self.conv(x)))).mean((2, 3)))


class Inverted(nn.Module):
    """Expanded by a pointwise convolution, filtered by a depthwise one, and projected."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = inputs * expansion
        expand = _convolution(inputs, inner, 1) if expansion > 1 else []
        self.layers = nn.Sequential(
            *expand,
            *_convolution(inner, inner, 3, stride, inner),
            nn.Conv2d(inner, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.skips = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """[n, c, h, w] -> [n, c', h / stride, w / stride]."""
        return x + self.layers(x) if self.skips else self.layers(x)


def _convolution(
    inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1
) -> list[nn.Module]:
    padding = kernel // 2
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(outputs), nn.ReLU6()]


class MobileNetV2(nn.Module):
    """A small MobileNetV2, 4.4 M MACs: [n, 3, 32, 32] of 0 to 255 -> 10 classes."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *_convolution(3, 16, 3),
            Inverted(16, 8, 1, 1),
            Inverted(8, 16, 2, 6),
            Inverted(16, 16, 1, 6),
            Inverted(16, 24, 2, 6),
            Inverted(24, 24, 1, 6),
            Inverted(24, 40, 2, 6),
            Inverted(40, 40, 1, 6),
            *_convolution(40, 128, 1),
        )
        self.fc = nn.Linear(128, 10)

    def forward(self, x: Tensor) -> Tensor:
        """[n, 3, 32, 32] -> [n, 10]."""
        return self.fc(self.layers(x).mean((2, 3)))


def resnet8() -> ResNet8:
    """The base of the images, 81.42 %."""
    model = ResNet8()
    model.load_state_dict(_state("resnet8_cifar10jpg")["state_dict"])
    return model.eval()


def ds_cnn() -> DsCnn:
    """The base of the digits, 80.4 %."""
    model = DsCnn()
    model.load_state_dict(_state("dscnn_fsdd")["state_dict"])
    return model.eval()


def mobilenet_v2() -> MobileNetV2:
    """The base of the images that is trained here, once: then it is in build/."""
    path, model = CACHE / "mobilenet_v2.pt", MobileNetV2()
    if not path.exists():
        torch.manual_seed(0)
        CACHE.mkdir(exist_ok=True)
        torch.save(_trained(MobileNetV2(), BASE_SECONDS).state_dict(), path)
    model.load_state_dict(torch.load(path))
    return model.eval()


def _trained(model: nn.Module, seconds: float) -> nn.Module:
    """Train on the images, mirrored by chance, for some CPU seconds of one thread.

    In float32: depthwise convolutions take twice the time in bfloat16.
    """
    torch.set_num_threads(1)
    (images, labels), begin = cifar("train"), time.process_time()
    model.train().to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, 0.9, weight_decay=5e-4, nesterov=True)
    while True:
        for chosen in torch.randperm(len(labels)).split(128):
            done = (time.process_time() - begin) / seconds
            if done >= 1:
                return model
            for group in optimizer.param_groups:
                group["lr"] = 0.1 * min(1, 10 * done + 0.01) * (1 - done)
            x = images[chosen].float()
            mirrored = torch.rand(len(x)) < 0.5
            x[mirrored] = x[mirrored].flip(3)
            out = model(x.contiguous(memory_format=torch.channels_last))
            optimizer.zero_grad()
            functional.cross_entropy(out, labels[chosen]).backward()
            optimizer.step()


def _state(name: str) -> dict:
    return torch.load(SHARED / "bases" / f"{name}.pt", weights_only=False)


@cache
def cifar(split: str) -> tuple[Tensor, Tensor]:
    """([n, 3, 32, 32] uint8, [n] labels) of train or test, shuffled once; decoded once."""
    path = CACHE / f"cifar_{split}.npy"
    data = np.load(SHARED / "cifar10_jpg.npz")
    chosen = np.flatnonzero(data["split"] == (split == "test"))
    chosen = np.random.default_rng(0).permutation(chosen)
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        blob, offset = data["blob"], data["offset"]
        images = [_decoded(blob[offset[i] : offset[i + 1]].tobytes()) for i in chosen]
        np.save(path, np.stack(images))
    labels = torch.from_numpy(data["label"][chosen].astype(np.int64))
    return torch.from_numpy(np.load(path)), labels


def _decoded(jpeg: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB")).transpose(2, 0, 1)


@cache
def digits(split: str) -> tuple[Tensor, Tensor]:
    """([n, 1, 49, 10] float, [n] labels) of train or test, normalised as the base wants it."""
    data, state = np.load(SHARED / "fsdd_features.npz"), _state("dscnn_fsdd")
    held = np.isin(data["speakers"][data["speaker"]], HELD_OUT)
    chosen = held if split == "test" else ~held
    values = data["mfcc"][chosen].astype(np.float32)
    mean, std = (np.asarray(state[f"feature_{part}"]) for part in ("mean", "std"))
    features = torch.from_numpy(((values - mean) / std).astype(np.float32)).unsqueeze(1)
    return features, torch.from_numpy(data["label"][chosen].astype(np.int64))


@torch.no_grad()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Percent of right labels, in evaluation mode."""
    training = model.training
    model.eval()
    parts = zip(images.split(500), labels.split(500), strict=True)
    right = sum(int((model(x.float()).argmax(1) == y).sum()) for x, y in parts)
    model.train(training)
    return 100 * right / len(labels)
