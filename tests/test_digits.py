"""The committed example: clean, small, and right about its own images."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
MODELS = ["digits.onnx", "digits_float.onnx"]


@pytest.mark.parametrize("name", MODELS)
def test_model_is_small_static_and_clean(name: str) -> None:
    path = EXAMPLES / name
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert path.stat().st_size < 40_000
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 20)]
    shapes = [
        value.type.tensor_type.shape.dim for value in (*model.graph.input, *model.graph.output)
    ]
    assert [[dim.dim_value for dim in shape] for shape in shapes] == [[1, 1, 8, 8], [1, 10]]
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)


@pytest.mark.parametrize("name", MODELS)
def test_model_knows_its_images(name: str) -> None:
    data = np.load(EXAMPLES / "digits.npz")
    session = onnxruntime.InferenceSession(EXAMPLES / name, providers=["CPUExecutionProvider"])
    answers = [session.run(None, {"input": image[None]})[0].argmax() for image in data["input"]]
    assert np.mean(answers == data["label"]) > 0.95


def test_int8_model_computes_in_int8_only() -> None:
    graph = onnx.load(EXAMPLES / "digits.onnx").graph
    producer = {name: node.op_type for node in graph.node for name in node.output}
    constants = {value.name for value in graph.initializer}
    inputs = {
        name
        for node in graph.node
        if node.op_type not in {"QuantizeLinear", "DequantizeLinear"}
        for name in node.input
        if name not in constants
    }
    assert {producer[name] for name in inputs} == {"DequantizeLinear"}
