"""Train, export and quantise the model of the README: `python examples/digits.py`.

A small convolutional network learns scikit-learn's bundled digits (1,797 images of 8x8 pixels,
17 greys) in a quarter of a minute on one CPU core. It is exported the way PyTorch users do it
(`torch.onnx.export`), quantised the way onnxruntime users do it (`quantize_static`: int8, one
scale per output channel), and written beside this file:

    digits_float.onnx   the float model: input [1, 1, 8, 8] in 0..1 -> logits [1, 10]
    digits.onnx         the same in int8 QDQ form; inputs and outputs stay float32 outside
    digits.npz          the first 64 test images: input float32 [64, 1, 8, 8], label int64 [64]

Every third image is held out for testing. On one machine the same seed gives the same bytes.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quant_pre_process,
    quantize_static,
)
from sklearn.datasets import load_digits
from torch import Tensor, nn

HERE = Path(__file__).parent
SEED = 0
EPOCHS = 150  # the best of 60, 100 and 150 by cross-validation within the training images
BATCH = 64
CALIBRATION_IMAGES = 256
COMMITTED_IMAGES = 64

Images = NDArray[np.float32]
Labels = NDArray[np.int64]


class Separable(nn.Module):
    """Depthwise 3x3, then pointwise 1x1; adds its input where the shapes allow it."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs, bias=False)
        self.norm1 = nn.BatchNorm2d(inputs)
        self.pointwise = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.residual = inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, inputs, H, W] to [N, outputs, H, W]."""
        y = torch.relu(self.norm1(self.depthwise(x)))
        y = self.norm2(self.pointwise(y))
        return torch.relu(x + y if self.residual else y)


class Digits(nn.Module):
    """[N, 1, 8, 8] pixels in 0..1 -> [N, 10] logits."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()
        )
        self.block1 = Separable(16, 16)
        self.pool = nn.MaxPool2d(2)
        self.block2 = Separable(16, 32)
        self.block3 = Separable(32, 32)
        self.head = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of a batch of images."""
        x = self.block3(self.block2(self.pool(self.block1(self.stem(x)))))
        return self.head(x.mean((2, 3)))


class Calibration(CalibrationDataReader):
    """Feeds single images to onnxruntime's calibrator."""

    def __init__(self, images: Images) -> None:
        self.feeds: Iterator[dict[str, Images]] = iter([{"input": image[None]} for image in images])

    def get_next(self) -> dict[str, Images] | None:
        """Return the next image, or None at the end."""
        return next(self.feeds, None)


def split() -> tuple[tuple[Images, Labels], tuple[Images, Labels]]:
    """Return training images and labels, test images and labels; every third is for testing."""
    data = load_digits()
    images = (data.images[:, None] / 16).astype(np.float32)
    labels = data.target.astype(np.int64)
    test = np.arange(len(images)) % 3 == 0
    return (images[~test], labels[~test]), (images[test], labels[test])


def train(images: Images, labels: Labels) -> Digits:
    """Train with Adam and one-cycle learning rate on images shifted by up to one pixel."""
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    torch.use_deterministic_algorithms(True)
    model = Digits()
    optimizer = torch.optim.Adam(model.parameters(), weight_decay=1e-5)
    steps = EPOCHS * -(-len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, total_steps=steps)
    x, y = torch.from_numpy(images), torch.from_numpy(labels)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(x)).split(BATCH):
            shift = torch.randint(-1, 2, (2,)).tolist()
            loss = nn.functional.cross_entropy(model(x[batch].roll(shift, (2, 3))), y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return model.eval()


def export(model: Digits, path: Path) -> None:
    """Write the float model as ONNX."""
    example = torch.zeros(1, 1, 8, 8)
    torch.onnx.export(
        model,
        (example,),
        path,
        input_names=["input"],
        output_names=["logits"],
        external_data=False,
        dynamo=True,
        verbose=False,
    )


def quantize(float_path: Path, path: Path, images: Images) -> None:
    """Write the int8 QDQ form, calibrated on these images."""
    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(float_path, prepared)
        quantize_static(
            prepared,
            path,
            Calibration(images),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
        )


def strip(path: Path) -> None:
    """Remove source lines and paths of this machine, and domains that no node uses."""
    model = onnx.load(path)
    graph = model.graph
    for item in (
        model,
        graph,
        *graph.node,
        *graph.input,
        *graph.output,
        *graph.value_info,
        *graph.initializer,
    ):
        item.doc_string = ""
        del item.metadata_props[:]
    used = {node.domain for node in graph.node}
    kept = [entry for entry in model.opset_import if entry.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def accuracy(path: Path, images: Images, labels: Labels) -> float:
    """Return the share of images that onnxruntime classifies correctly."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    answers = [int(np.argmax(session.run(None, {"input": image[None]})[0])) for image in images]
    return float(np.mean(np.array(answers) == labels))


def main() -> None:
    """Write the three files and print both accuracies."""
    (images, labels), (test_images, test_labels) = split()
    float_path, path = HERE / "digits_float.onnx", HERE / "digits.onnx"
    export(train(images, labels), float_path)
    quantize(float_path, path, images[:CALIBRATION_IMAGES])
    strip(float_path)
    strip(path)
    chosen = slice(COMMITTED_IMAGES)
    np.savez_compressed(HERE / "digits.npz", input=test_images[chosen], label=test_labels[chosen])
    for model in (float_path, path):
        share = accuracy(model, test_images, test_labels)
        print(f"{model.name}: {model.stat().st_size:,} bytes, {share:.2%} of test images correct")


if __name__ == "__main__":
    main()
