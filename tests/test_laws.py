"""Five laws for every pass over every model: pure, valid, faithful, settled, repeatable."""

import functools
import random
from pathlib import Path

import models
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto

from mcugraph import passes

SHARED = Path(__file__).parents[2] / "shared" / "models"
FILES = sorted(path.name for path in SHARED.glob("*.onnx"))
PASSES = list(dict.fromkeys(passes.CLEANUP))
LEVEL = ort.GraphOptimizationLevel
INTEGERS = (TensorProto.INT8, TensorProto.UINT8)


def clean(model: ModelProto) -> ModelProto:
    """Apply all passes in the order of the compiler."""
    return functools.reduce(lambda result, apply: apply(result), passes.CLEANUP, model)


@functools.cache
def source(name: str) -> bytes:
    if name in FILES:
        return (SHARED / name).read_bytes()
    build = models.with_body if name == "with_body" else models.MODELS[name]
    return build().SerializeToString()


def is_integer(model: ModelProto) -> bool:
    return any(tensor.data_type in INTEGERS for tensor in model.graph.initializer)


def outputs(model: ModelProto, seed: int) -> list[models.Array]:
    """What onnxruntime computes: integer models with its integer kernels, float ones as written.

    Without qdqisint8allowed, onnxruntime turns int8 into uint8 on x86, in parts of the graph only,
    and runs what lies between in float: one element in some ten thousands then differs by a step.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.qdqisint8allowed", "1")
    level = LEVEL.ORT_ENABLE_ALL if is_integer(model) else LEVEL.ORT_DISABLE_ALL
    options.graph_optimization_level = level
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return list(session.run(None, models.random_inputs(model, seed)))


@functools.cache
def expected(name: str) -> list[models.Array]:
    return outputs(onnx.load_from_string(source(name)), 3)


def check_interface(before: ModelProto, after: ModelProto) -> None:
    inputs = [[v.SerializeToString() for v in m.graph.input] for m in (before, after)]
    assert inputs[0] == inputs[1]
    assert [v.name for v in before.graph.output] == [v.name for v in after.graph.output]


def check_equal(before: list[models.Array], after: list[models.Array], exact: bool) -> None:
    for one, other in zip(before, after, strict=True):
        assert (one.shape, one.dtype) == (other.shape, other.dtype)
        if exact:
            np.testing.assert_array_equal(one, other)
        else:
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5 * np.abs(one).max())


def check_laws(apply: passes.Pass, model: ModelProto, before: list[models.Array]) -> None:
    data = model.SerializeToString()
    result = apply(model)
    assert model.SerializeToString() == data, "not pure"
    onnx.checker.check_model(result, full_check=True)
    onnx.shape_inference.infer_shapes(result, check_type=True, strict_mode=True, data_prop=True)
    check_interface(model, result)
    check_equal(before, outputs(result, 3), exact=is_integer(model))
    text = result.SerializeToString()
    assert apply(result).SerializeToString() == text, "not settled"
    assert apply(onnx.load_from_string(data)).SerializeToString() == text, "not repeatable"


@pytest.mark.parametrize("name", [*models.MODELS, "with_body", *FILES])
@pytest.mark.parametrize("apply", PASSES, ids=lambda apply: apply.__name__)
def test_laws(apply: passes.Pass, name: str) -> None:
    check_laws(apply, onnx.load_from_string(source(name)), expected(name))


@pytest.mark.parametrize("name", [*models.MODELS, "with_body", *FILES])
def test_all_passes_in_order(name: str) -> None:
    model = onnx.load_from_string(source(name))
    data = model.SerializeToString()
    result = clean(model)
    assert model.SerializeToString() == data
    onnx.checker.check_model(result, full_check=True)
    check_interface(model, result)
    check_equal(expected(name), outputs(result, 3), exact=is_integer(model))


@pytest.mark.parametrize("name", models.MODELS)
def test_builders_repeat(name: str) -> None:
    assert models.MODELS[name]().SerializeToString() == source(name)


class Wild:
    """A random graph of operators on small 4-D tensors, with Transposes all over."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.net = models.Net(self.dice.choice([13, 18]), seed)
        shape = self.dice.choice([(1, 4, 5, 5), (1, 5, 5, 4), (1, 4, 4, 4), (1, 1, 1, 4)])
        self.pool = [(self.net.input("x", *shape), shape)]
        kinds = [self.turn, self.turn, self.turn, self.conv, self.unary, self.binary]
        kinds += [self.scaled, self.joined, self.padded, self.cut, self.reduced, self.requantized]
        for _ in range(self.dice.randint(4, 14)):
            x, shape = self.dice.choice(self.pool[-4:])
            self.pool.append(self.dice.choice(kinds)(x, shape))

    def turn(self, x: str, shape: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
        perm = self.dice.choice([(0, 3, 1, 2), (0, 2, 3, 1), (0, 1, 3, 2), (1, 0, 2, 3)])
        return self.net("Transpose", x, perm=perm), tuple(shape[axis] for axis in perm)

    def name(self, kind: str) -> str:
        return f"{kind}{len(self.net.nodes)}"

    def conv(self, x: str, shape: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
        return self.net.conv(self.name("conv"), x, 4, shape[1], 1, 1), (shape[0], 4, *shape[2:])

    def unary(self, x: str, shape: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
        op = self.dice.choice(["Relu", "Tanh", "Softmax"])
        return self.net(op, x, **({"axis": -1} if op == "Softmax" else {})), shape

    def binary(self, x: str, shape: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
        others = [name for name, other in self.pool if other == shape]
        return self.net(self.dice.choice(["Add", "Mul"]), self.dice.choice(others), x), shape

    def scaled(self, x: str, shape: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
        narrow = [dim if self.dice.random() < 0.6 else 1 for dim in shape]
        weight = self.net.weight(self.name("w"), *narrow[self.dice.randint(0, 3) :])
        return self.net("Mul", x, weight), shape

    def joined(self, x: str, shape: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
        axis = self.dice.randint(1, 3)
        return self.net("Concat", x, x, axis=axis - 4), tuple(
            dim * (2 if i == axis else 1) for i, dim in enumerate(shape)
        )

    def padded(self, x: str, shape: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
        axis = self.dice.randint(1, 3)
        pads = self.net.const(self.name("p"), np.eye(8)[axis], np.int64)
        return self.net("Pad", x, pads), tuple(d + (i == axis) for i, d in enumerate(shape))

    def cut(self, x: str, shape: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
        axis = max(range(4), key=shape.__getitem__)
        limits = [self.net.const(self.name(k), [v], np.int64) for k, v in (("s", 0), ("e", -1))]
        if shape[axis] == 1:
            return x, shape
        axes = self.net.const(self.name("a"), [axis], np.int64)
        out = self.net("Slice", x, *limits, axes)
        return out, tuple(d - (i == axis) for i, d in enumerate(shape))

    def reduced(self, x: str, shape: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
        axes = sorted(self.dice.sample([1, 2, 3], 2))
        if self.net.opset < 18:
            out = self.net("ReduceMax", x, axes=axes)
        else:
            out = self.net("ReduceMax", x, self.net.const(self.name("a"), axes, np.int64))
        return out, tuple(1 if i in axes else d for i, d in enumerate(shape))

    def requantized(self, x: str, shape: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
        return self.net.dequantize(self.net.quantize(x, 0.05, 3), 0.05, 3), shape

    def model(self) -> ModelProto:
        read = {name for node in self.net.nodes for name in node.input}
        ends = [name for name, _ in self.pool if name not in read]
        seen = [name for name, _ in self.pool[1:] if name in read][-1:]
        return self.net.model(*dict.fromkeys([*ends, *seen]))


@given(st.integers(0, 10**6))
@settings(deadline=None, max_examples=200, derandomize=True)
def test_transposes_of_random_graphs(seed: int) -> None:
    model = Wild(seed).model()
    if not model.graph.node:
        return
    for apply in (passes.eliminate_transposes, passes.eliminate_identity):
        check_wild(apply, model)


def check_wild(apply: passes.Pass, model: ModelProto) -> None:
    result = apply(model)
    onnx.checker.check_model(result, full_check=True)
    check_interface(model, result)
    check_equal(outputs(model, 0), outputs(result, 0), exact=False)
    assert apply(result).SerializeToString() == result.SerializeToString()
