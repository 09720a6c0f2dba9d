"""Ten networks that pruning tools are tried on, as torch exports them; `GRAPHS` names them.

`module` gives the torch network and `GRAPHS` its ONNX export, with torch's names of parameters
where the exporter keeps them; `quantized` makes the int8 QDQ version of a model.
"""

import functools
import logging
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import torch
from models import Array
from onnx import ModelProto
from onnxruntime import quantization as q
from torch import Tensor, nn

WIDTH = 32
HEADS = 4
# The networks are small: threads would only wait for each other.
torch.set_num_threads(1)


class Unit(nn.Sequential):
    """Convolution, normalisation and, unless told otherwise, ReLU; the same size at stride 1."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 3, relu: bool = True, **kw: int
    ) -> None:
        conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False, **kw)
        super().__init__(conv, nn.BatchNorm2d(outputs), nn.ReLU() if relu else nn.Identity())


class Head(nn.Module):
    """Mean over the image, then one linear layer."""

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        self.fc = nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x.mean((2, 3)))


class Block(nn.Module):
    """Two convolutions beside a shortcut: the input itself, or a 1x1 convolution of it."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.a = Unit(inputs, outputs, stride=stride)
        self.b = Unit(outputs, outputs, relu=False)
        self.shortcut = (
            nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1, stride=stride)
        )
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.b(self.a(x)) + self.shortcut(x))


def resnet8() -> nn.Module:
    """That of MLPerf Tiny: image classification."""
    blocks = [Block(16, 16), Block(16, 32, 2), Block(32, 64, 2)]
    return nn.Sequential(Unit(3, 16), *blocks, Head(64, 10))


def ds_cnn() -> nn.Module:
    """That of MLPerf Tiny: keyword spotting."""
    stem = Unit(1, 64)
    stem[0] = nn.Conv2d(1, 64, (10, 4), stride=2, padding=(5, 1), bias=False)
    separable = [nn.Sequential(Unit(64, 64, groups=64), Unit(64, 64, 1)) for _ in range(4)]
    return nn.Sequential(stem, *separable, Head(64, 12))


def identity_blocks() -> nn.Module:
    return nn.Sequential(Unit(3, 16), Block(16, 16), Block(16, 16), Head(16, 10))


class Concat(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = Unit(3, 16)
        self.a, self.b = Unit(16, 8), Unit(16, 24, 1)
        self.fuse = Unit(32, 16)
        self.head = Head(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(self.fuse(torch.cat([self.a(x), self.b(x)], 1)))


class Flat(nn.Module):
    """The pixels of each channel become inputs of a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv = Unit(3, 8), Unit(8, 16)
        self.pool, self.relu = nn.MaxPool2d(2), nn.ReLU()
        self.fc1, self.fc2 = nn.Linear(16 * 4 * 4, WIDTH), nn.Linear(WIDTH, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.conv(self.pool(self.stem(x))))
        return self.fc2(self.relu(self.fc1(x.flatten(1))))


class SplitConcat(nn.Module):
    """One half of the channels is convolved, the other half goes by."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv, self.head = Unit(3, WIDTH), Unit(16, 16), Head(WIDTH, 10)

    def forward(self, x: Tensor) -> Tensor:
        a, b = torch.split(self.stem(x), 16, 1)
        return self.head(torch.cat([self.conv(a), b], 1))


def grouped() -> nn.Module:
    """Convolution in four groups."""
    return nn.Sequential(Unit(3, 16), Unit(16, 32, groups=4), Unit(32, 16, 1), Head(16, 10))


class SqueezeExcite(nn.Module):
    """Each channel is weighed by what the means of all channels say."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv = Unit(3, 16), Unit(16, 16)
        self.squeeze, self.relu, self.excite = nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 16)
        self.last, self.head = Unit(16, 16), Head(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(self.stem(x))
        scale = torch.sigmoid(self.excite(self.relu(self.squeeze(x.mean((2, 3))))))
        return self.head(self.last(x * scale[:, :, None, None]))


class Recurrent(nn.Module):
    """Two GRUs, the second one read at its last step."""

    def __init__(self) -> None:
        super().__init__()
        self.gru1, self.gru2 = nn.GRU(10, 24, batch_first=True), nn.GRU(24, 16, batch_first=True)
        self.fc = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.gru1(x)
        y, _ = self.gru2(y)
        return self.fc(y[:, -1])


class Attention(nn.Module):
    """A transformer block of four heads between an embedding and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(10, WIDTH), nn.Linear(WIDTH, 5)
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.q, self.k, self.v, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.up, self.down = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(2 * WIDTH, WIDTH)

    def heads(self, x: Tensor) -> Tensor:
        return x.view(x.shape[0], x.shape[1], HEADS, WIDTH // HEADS).transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        y = self.norm1(x)
        q, k, v = self.heads(self.q(y)), self.heads(self.k(y)), self.heads(self.v(y))
        y = torch.softmax(q @ k.transpose(-1, -2) / (WIDTH // HEADS) ** 0.5, -1) @ v
        x = x + self.out(y.transpose(1, 2).reshape(x.shape))
        x = x + self.down(nn.functional.gelu(self.up(self.norm2(x))))
        return self.head(x.mean(1))


IMAGE = (1, 3, 16, 16)
NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "resnet8": (resnet8, (1, 3, 32, 32)),
    "ds_cnn": (ds_cnn, (1, 1, 49, 10)),
    "identity_blocks": (identity_blocks, IMAGE),
    "concat": (Concat, IMAGE),
    "conv_flatten_fc": (Flat, IMAGE),
    "split_concat": (SplitConcat, IMAGE),
    "grouped_conv": (grouped, IMAGE),
    "squeeze_excite": (SqueezeExcite, IMAGE),
    "gru": (Recurrent, (1, 12, 10)),
    "attention": (Attention, (1, 9, 10)),
}


@functools.cache
def module(name: str) -> nn.Module:
    """The torch network with seeded weights and statistics, in evaluation mode."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        net = NETS[name][0]()
        for part in net.modules():
            _randomize(part)
        # One pass in training mode: the statistics are then those of what flows through.
        net(inputs(name, 16))
    return net.eval().requires_grad_(False)


def _randomize(part: nn.Module) -> None:
    """Make channels unlike each other, and hardly any of them always zero after its ReLU."""
    if isinstance(part, nn.BatchNorm2d | nn.LayerNorm):
        nn.init.uniform_(part.weight, 0.5, 1.5)
        nn.init.uniform_(part.bias, -0.2, 0.5)
    if isinstance(part, nn.BatchNorm2d):
        part.momentum = 0.9
    if isinstance(part, nn.Linear):
        nn.init.uniform_(part.bias, 0.5, 1.5)


def inputs(name: str, count: int = 1) -> Tensor:
    """Some seeded inputs of a network, the first axis counting them."""
    random = torch.Generator().manual_seed(7)
    return torch.randn((count, *NETS[name][1][1:]), generator=random)


def export(net: nn.Module, x: Tensor, optimize: bool = True) -> ModelProto:
    """The float model that torch.onnx.export writes; normalisations are folded if it optimises."""
    # The exporter warns of what it does itself, and tells which of torch's packages are missing.
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            net,
            (x,),
            input_names=["x"],
            output_names=["y"],
            dynamo=True,
            verbose=False,
            optimize=optimize,
        )
    logger.setLevel(level)
    return program.model_proto


@functools.cache
def _exported(name: str) -> bytes:
    return export(module(name), inputs(name)).SerializeToString()


def exported(name: str) -> ModelProto:
    """The float model of a network."""
    return onnx.load_from_string(_exported(name))


GRAPHS: dict[str, Callable[[], ModelProto]] = {
    name: functools.partial(exported, name) for name in NETS
}


class _Data(q.CalibrationDataReader):
    def __init__(self, name: str, shape: list[int]) -> None:
        random = np.random.default_rng(5)
        self.batches = iter([random.standard_normal(shape, np.float32) for _ in range(8)])
        self.name = name

    def get_next(self) -> dict[str, Array] | None:
        batch = next(self.batches, None)
        return None if batch is None else {self.name: batch}


@functools.cache
def _quantized(model: bytes) -> bytes:
    own = onnx.load_from_string(model)
    (value,) = own.graph.input
    shape = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        q.quantize_static(
            own,
            str(path),
            _Data(value.name, shape),
            quant_format=q.QuantFormat.QDQ,
            per_channel=True,
            activation_type=q.QuantType.QInt8,
            weight_type=q.QuantType.QInt8,
        )
        return path.read_bytes()


def quantized(model: ModelProto) -> ModelProto:
    """The int8 QDQ version by onnxruntime's quantize_static, calibrated with seeded noise."""
    return onnx.load_from_string(_quantized(model.SerializeToString()))
