"""What is tied around an operator can be cut out of it: tried on onnx's own node tests."""

import functools
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from random import Random

import numpy as np
import onnxruntime as ort
import pytest
from models import Array
from onnx import ModelProto, numpy_helper
from onnx.backend.test.case.node import collect_testcases
from onnx.backend.test.case.test_case import TestCase
from onnxruntime.capi import onnxruntime_pybind11_state as errors

from mcugraph.passes._edit import Edit
from mcugraph.passes._tie_classes import Classes
from mcugraph.passes._tie_graph import tie_graph
from mcugraph.passes._ties import Ties

# Operators that sum over channels, or whose sizes are told by a constant or an attribute.
ELSEWHERE = frozenset(
    """Conv ConvInteger ConvTranspose DepthToSpace Expand Gather Gemm GRU LSTM MatMul MatMulInteger
    Pad QLinearConv QLinearMatMul ReduceL1 ReduceL2 ReduceSum ReduceSumSquare Reshape Resize RNN
    Slice SpaceToDepth Split Tile Unsqueeze Upsample""".split()
)
# What onnxruntime does not compute, or not as onnx does; what is random; of no input.
BEYOND = frozenset("BitShift Constant Dropout Mod".split())
# Classes that are tried for each case.
TRIED = 2

Cut = Mapping[str, list[tuple[int, Array]]]


@functools.cache
def cases() -> list[TestCase]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = collect_testcases(None)
    return [case for case in found if case.model is not None and is_fit(case)]


def is_fit(case: TestCase) -> bool:
    """Whether it is one operator on arrays of numbers, of a version that onnxruntime knows."""
    (node, *more), data = case.model.graph.node, case.data_sets
    if more or not data or node.op_type in ELSEWHERE | BEYOND:
        return False
    arrays = [*data[0][0], *data[0][1]]
    plain = all(isinstance(array, np.ndarray) and array.dtype.kind in "biuf" for array in arrays)
    return plain and max(entry.version for entry in case.model.opset_import) < 25


def frozen(model: ModelProto, arrays: Mapping[str, Array]) -> ModelProto:
    """The model with axes and counts as constants."""
    own = ModelProto()
    told = model.graph.node[0].op_type.startswith(("CumSum", "Reduce", "Squeeze", "TopK"))
    own.CopyFrom(model)
    del own.graph.input[:]
    for value in model.graph.input:
        array = arrays[value.name]
        if told and len(own.graph.input):
            own.graph.initializer.append(numpy_helper.from_array(array, value.name))
        else:
            own.graph.input.append(value)
    return own


def ties_of(model: ModelProto) -> Ties:
    """The ties of an operator as if it stood inside a network."""
    edit = Edit(model)
    edit.inputs, edit.outputs = [], []
    return tie_graph(edit)


def classes(ties: Ties, seed: int) -> Iterator[Cut]:
    """Some of the classes that nothing fixes: the indices that go from each axis of each tensor."""
    free: set[int] = set()
    for axes in ties.axes.values():
        for ids in axes:
            free.update(ties.roots(ids[~ties.fixed(ids)]).tolist())
    for root in Random(seed).sample(sorted(free), min(TRIED, len(free))):
        cut: dict[str, list[tuple[int, Array]]] = {}
        for name, axes in ties.axes.items():
            for axis, ids in enumerate(axes):
                indices = np.flatnonzero(ties.roots(ids) == root)
                if len(indices):
                    cut.setdefault(name, []).append((axis, indices))
        yield cut


def without(array: Array, cut: list[tuple[int, Array]]) -> Array:
    for axis, indices in cut:
        array = np.delete(array, indices, axis)
    return array


def reshaped(model: ModelProto, arrays: Mapping[str, Array]) -> ModelProto:
    """The model for inputs of other shapes."""
    own = ModelProto()
    own.CopyFrom(model)
    for value in (*own.graph.input, *own.graph.output):
        value.type.tensor_type.ClearField("shape")
        for size in arrays[value.name].shape if value.name in arrays else ():
            value.type.tensor_type.shape.dim.add().dim_value = size
    for value in own.graph.output:
        value.type.tensor_type.ClearField("shape")
    return own


def run(model: ModelProto, arrays: Mapping[str, Array]) -> list[Array] | None:
    """What onnxruntime computes; None where it has no kernel for these types."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    try:
        session = ort.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except errors.NotImplemented:
        return None
    return list(session.run(None, {value.name: arrays[value.name] for value in model.graph.input}))


def check(model: ModelProto, cut: Cut, inputs: Mapping[str, Array], expected: list[Array]) -> bool:
    """Cut the class out of the inputs and compare; False where it can't be run."""
    given = {name: without(array, cut.get(name, [])) for name, array in inputs.items()}
    found = run(reshaped(model, given), given) if all(a.size for a in given.values()) else None
    if found is None:
        return False
    for value, before, after in zip(model.graph.output, expected, found, strict=True):
        wanted = without(before, cut.get(value.name, []))
        np.testing.assert_allclose(after, wanted, rtol=1e-3, atol=1e-5)
    return True


def test_classes_can_be_cut_out_of_operators() -> None:
    counts: Counter[str] = Counter()
    for seed, case in enumerate(cases()):
        inputs = dict(
            zip([v.name for v in case.model.graph.input], case.data_sets[0][0], strict=False)
        )
        model = frozen(case.model, inputs)
        for cut in classes(ties_of(model), seed):
            try:
                counts[case.model.graph.node[0].op_type] += check(
                    model, cut, inputs, case.data_sets[0][1]
                )
            except Exception as error:
                raise AssertionError(f"{case.name}: {cut}") from error
    assert sum(counts.values()) > 800
    assert len([op for op, count in counts.items() if count]) > 80


# Classes


def test_reasons_and_ties_come_in_any_order() -> None:
    classes = Classes()
    a, b, c = (classes.fresh(3) for _ in "abc")
    classes.fix(b[1:2], "late")
    classes.tie(a, b)
    assert [classes.reason(item) for item in a.tolist()] == ["", "late", ""]
    classes.fix(c, "later")
    classes.tie(b[:2], c[1:])
    assert [classes.reason(item) for item in a.tolist()] == ["later", "late", ""]
    assert classes.roots(c).tolist() == [6, 0, 1]


def test_long_chains_are_joined() -> None:
    classes, random = Classes(), np.random.default_rng(1)
    order = random.permutation(classes.fresh(5000))
    links = random.permutation(4999)
    classes.tie(order[links], order[links + 1])
    assert not classes.roots(order).any()


def test_ties_are_pairs() -> None:
    classes = Classes()
    with pytest.raises(AssertionError, match="are tied to"):
        classes.tie(classes.fresh(2), classes.fresh(3))
