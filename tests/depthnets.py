"""The networks of the depth-pruning paper, in torch, exported with their normalisations.

De Leon and Atienza, Depth Pruning with Auxiliary Networks for TinyML (ICASSP 2022). The figures of
`VWW` and `KWS` follow from the authors' code, for the head dscnn32_16 behind each block; the paper
gives 93 % fewer parameters for VWW behind block 5, 28 % for KWS behind block 2.
"""

import functools
import io
import logging
import warnings

import onnx
import torch
from models import Array
from onnx import ModelProto, numpy_helper
from torch import nn

# Block -> (ReLU that ends it, parameters, multiplications in units of 10,000).
VWW = {
    "conv1": ("relu", 1_858, 310),
    "block1": ("relu_2", 2_546, 431),
    "block2": ("relu_4", 4_178, 255),
    "block3": ("relu_6", 5_810, 331),
    "block4": ("relu_8", 10_098, 292),
    "block5": ("relu_10", 15_410, 359),
    "block6": ("relu_12", 28_082, 363),
    "block8": ("relu_16", 65_714, 490),
    "block12": ("relu_24", 163_890, 698),
}
KWS = {
    "conv1": ("relu", 7_228, 74.8),
    "block1": ("relu_2", 12_540, 133.2),
    "block2": ("relu_4", 17_852, 191.6),
    "block3": ("relu_6", 23_164, 250.0),
    "block4": ("relu_8", 28_476, 308.4),
}


class Unit(nn.Sequential):
    """Convolution with bias, normalisation and ReLU."""

    def __init__(self, inputs: int, outputs: int, size: int = 3, **kw: int) -> None:
        conv = nn.Conv2d(inputs, outputs, size, padding=size // 2, **kw)
        super().__init__(conv, nn.BatchNorm2d(outputs), nn.ReLU())


def separable(inputs: int, outputs: int, stride: int = 1) -> nn.Module:
    depthwise = Unit(inputs, inputs, stride=stride, groups=inputs)
    return nn.Sequential(depthwise, Unit(inputs, outputs, 1))


def classifier(channels: int, classes: int) -> list[nn.Module]:
    parts = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes)]
    return [*parts, nn.Softmax(1)]


def mobilenet() -> nn.Sequential:
    """MobileNetV1 of a quarter of the width, for images of 96x96."""
    widths = [8, 16, 32, 32, 64, 64, 128, 128, 128, 128, 128, 128, 256, 256]
    narrowing = {1, 3, 5, 11}
    blocks = [separable(*widths[i : i + 2], stride=2 if i in narrowing else 1) for i in range(13)]
    return nn.Sequential(Unit(3, 8, stride=2), *blocks, *classifier(256, 2))


def ds_cnn() -> nn.Sequential:
    """The keyword spotter of MLPerf Tiny, for 49 frames of 10 coefficients."""
    first = nn.Sequential(
        nn.ZeroPad2d((1, 1, 4, 5)), nn.Conv2d(1, 64, (10, 4), 2), nn.BatchNorm2d(64), nn.ReLU()
    )
    blocks = [separable(64, 64) for _ in range(4)]
    return nn.Sequential(first, *blocks, *classifier(64, 12))


INPUTS = {"mobilenet": (1, 3, 96, 96), "ds_cnn": (1, 1, 49, 10)}


@functools.cache
def _exported(name: str) -> bytes:
    torch.manual_seed(0)
    network = {"mobilenet": mobilenet, "ds_cnn": ds_cnn}[name]().eval()
    # The exporter warns of what it does itself, and tells which of torch's packages are missing.
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # With optimize=True it folds the normalisations.
        program = torch.onnx.export(
            network, (torch.zeros(INPUTS[name]),), dynamo=True, verbose=False, optimize=False
        )
    logger.setLevel(level)
    assert program is not None
    stream = io.BytesIO()
    onnx.save(program.model_proto, stream)
    return stream.getvalue()


def exported(name: str) -> ModelProto:
    return onnx.load_from_string(_exported(name))


def parameters(model: ModelProto) -> int:
    """As the paper counts: the elements of every float weight, statistics included."""
    floats = [t for t in model.graph.initializer if t.data_type == onnx.TensorProto.FLOAT]
    return sum(numpy_helper.to_array(tensor).size for tensor in floats)


def multiplications(model: ModelProto) -> int:
    """Of convolutions and dense layers, from shapes alone."""
    model = onnx.shape_inference.infer_shapes(model, data_prop=True)
    values = [*model.graph.value_info, *model.graph.output]
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in values}
    weights: dict[str, Array] = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    total = 0
    for node in model.graph.node:
        if node.op_type in ("Conv", "Gemm"):
            shape = shapes[node.output[0]]
            places = shape[2] * shape[3] if node.op_type == "Conv" else 1
            total += weights[node.input[1]].size * places
    return total
