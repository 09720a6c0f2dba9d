"""onnx's own node tests: cases that this compiler can read, and the C compiled from them."""

from __future__ import annotations

import ctypes
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, numpy_helper
from onnx.backend.test.case.node import collect_testcases
from onnx.backend.test.case.test_case import TestCase

from mcugraph.build import Options, build_shared
from mcugraph.emit import emit
from mcugraph.errors import ProblemsError
from mcugraph.faults import OPSETS
from mcugraph.load import load_model
from mcugraph.optimize import rewrite
from mcugraph.plan import Aim, Plan, make_plan
from mcugraph.read import read_graph
from mcugraph.targets import load as load_target

Array = NDArray[np.generic]

# The operators of the compiler's kernels, views and passes.
OPERATORS = frozenset(
    """Abs Add ArgMax ArgMin AveragePool BatchNormalization Ceil Celu Clip Concat Conv Cos
    DepthToSpace DequantizeLinear Div Dropout Elu Erf Exp Expand Flatten Floor Gather Gelu Gemm
    GlobalAveragePool GlobalMaxPool HardSigmoid HardSwish Identity LeakyRelu Log LogSoftmax MatMul
    Max MaxPool Min Mish Mul Neg PRelu Pad Pow QLinearConv QLinearMatMul QuantizeLinear Reciprocal
    ReduceMax ReduceMean ReduceMin ReduceSum Relu Reshape Resize Round Selu Sigmoid Sign Sin Slice
    Softmax Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub Swish Tanh ThresholdedRelu Tile
    Transpose Unsqueeze""".split()
)
# Operators all of whose operands are computed at run time; of the others only the first is.
BINARY = frozenset("Add Div Max Min Mul Pow Sub".split())
SYMMETRIC = BINARY | {"Concat"}
# Models compiled as one translation unit.
UNIT = 50


@dataclass(frozen=True)
class Case:
    """One node test; constants of the network are initializers of the model.

    `op` is the operator that it tests, or "several" where the model is a function's body.
    """

    name: str
    op: str
    model: ModelProto
    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]
    rtol: float
    atol: float

    @property
    def floating(self) -> bool:
        """Whether it computes on float32."""
        return all(value.dtype == np.float32 for value in self.inputs.values())


@dataclass(frozen=True)
class Outcome:
    """What became of a case: `kind` is passed, refused or failed; `why` explains the last two."""

    case: Case
    kind: str
    why: str = ""


def cases() -> list[Case]:
    """All cases on tensors of numbers in the order of their names."""
    with warnings.catch_warnings():
        # The reference computations of onnx divide by zero and overflow on purpose.
        warnings.simplefilter("ignore")
        found = collect_testcases(None)
    usable = (test for test in found if _usable(test))
    return sorted((_prepared(test) for test in usable), key=lambda case: case.name)


def _usable(test: TestCase) -> bool:
    given, wanted = _data(test)
    values = [*given, *wanted]
    tensors = all(isinstance(value, np.ndarray | np.generic) for value in values)
    return bool(given) and tensors and all(value.dtype.kind in "biuf" for value in values)


def _data(test: TestCase) -> tuple[Sequence[Array], Sequence[Array]]:
    """The inputs and the outputs of a case; sequences and maps stand there, too."""
    assert test.data_sets is not None, test.name
    return test.data_sets[0]


def _prepared(test: TestCase) -> Case:
    """The case with an opset that is allowed; its own outputs tell whether that changed a thing."""
    assert test.model is not None, test.name
    model = ModelProto()
    model.CopyFrom(test.model)
    for entry in model.opset_import:
        entry.version = min(max(entry.version, OPSETS[0]), OPSETS[-1])
    given, wanted = ([np.asarray(value) for value in part] for part in _data(test))
    inputs = dict(zip([value.name for value in model.graph.input], given, strict=True))
    outputs = dict(zip([value.name for value in model.graph.output], wanted, strict=True))
    single = len(model.graph.node) == 1 and not test.name.endswith("_expanded")
    op = model.graph.node[0].op_type if single else "several"
    case = Case(test.name, op, model, inputs, outputs, test.rtol, test.atol)
    return promoted(case, list(inputs) if op in SYMMETRIC else list(inputs)[:1])


def promoted(case: Case, kept: Iterable[str], suffix: str = "") -> Case:
    """The case whose other inputs are initializers with the test's data."""
    model, names = ModelProto(), set(kept)
    model.CopyFrom(case.model)
    inputs = [value for value in model.graph.input if value.name in names]
    for name in sorted(case.inputs.keys() - names):
        model.graph.initializer.append(numpy_helper.from_array(case.inputs[name], name))
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    given = {value.name: case.inputs[value.name] for value in inputs}
    return replace(case, name=case.name + suffix, model=model, inputs=given)


def with_constants(case: Case) -> list[Case]:
    """The cases of a binary operator whose other operand, which may broadcast, is a constant."""
    if case.op not in BINARY or len(case.inputs) != 2:
        return []
    (output,) = case.outputs.values()
    return [
        promoted(case, [name], f"_with_run_time_{name}")
        for name, value in case.inputs.items()
        if value.shape == output.shape
    ]


@dataclass(frozen=True)
class Compiled:
    """A plan and its C files."""

    plan: Plan
    files: Mapping[str, str]


def outcomes(found: Sequence[Case], folder: Path) -> list[Outcome]:
    """Compile every case into one library in `folder`, run them, and compare."""
    tried = [_compiled(case) for case in found]
    library = _library([result for result in tried if isinstance(result, Compiled)], folder)
    return [
        _judged(case, result.plan, library) if isinstance(result, Compiled) else result
        for case, result in zip(found, tried, strict=True)
    ]


def _compiled(case: Case) -> Compiled | Outcome:
    try:
        graph = read_graph(rewrite(load_model(case.model)))
        plan = make_plan(graph, load_target("host"), case.name, Aim(allow_float=True))
        return Compiled(plan, emit(plan))
    except ProblemsError as error:
        return Outcome(case, "refused", _reason(error))
    except Exception as error:  # whatever else is raised is the finding of this suite
        return Outcome(case, "failed", f"{type(error).__name__}: {error}")


def _reason(error: ProblemsError) -> str:
    """The first problem without the names and shapes of the case, and the list of all kernels."""
    problem = " ".join(error.problems[0].split()).rpartition("): ")[2]
    return problem.partition("; there are: ")[0]


def _library(compiled: Sequence[Compiled], folder: Path) -> ctypes.CDLL:
    """The C of all plans, several to a translation unit so that the compiler starts less often."""
    files = {name: text for one in compiled for name, text in one.files.items()}
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    own = [f"{one.plan.name}.c" for one in compiled]
    sources = [folder / name for name in files if name.endswith(".c") and name not in own]
    for start in range(0, len(own), UNIT):
        unit = folder / f"unit_{start}.c"
        lines = [f'#include "{name}"\n' for name in own[start : start + UNIT]]
        unit.write_text("".join(lines), encoding="utf-8")
        sources.append(unit)
    options = Options(includes=(folder,))
    return ctypes.CDLL(str(build_shared(sources, folder / "cases.so", options)))


def _judged(case: Case, plan: Plan, library: ctypes.CDLL) -> Outcome:
    ports = {plan.graph.interface[n]: str(plan.graph.tensors[n].dtype) for n in _ports(plan)}
    given = {name: str(value.dtype) for name, value in {**case.inputs, **case.outputs}.items()}
    if ports != given:
        return Outcome(case, "failed", f"the interface is {ports}, not {given}")
    computed = _computed(case, plan, library)
    faults = [line for name in case.outputs for line in _faults(case, name, computed[name])]
    return Outcome(case, "failed" if faults else "passed", "; ".join(faults))


def _ports(plan: Plan) -> tuple[str, ...]:
    return (*plan.graph.inputs, *plan.graph.outputs)


def _computed(case: Case, plan: Plan, library: ctypes.CDLL) -> dict[str, Array]:
    """The outputs of NAME_infer by their ONNX names."""
    graph, of = plan.graph, plan.layouts.of
    given = [of[n].to_memory(case.inputs[graph.interface[n]]).copy() for n in graph.inputs]
    room = [np.zeros(graph.tensors[n].size, graph.tensors[n].dtype) for n in graph.outputs]
    pointers = [a.ctypes.data_as(ctypes.c_void_p) for a in (*given, *room)]
    getattr(library, f"{plan.name}_infer")(*pointers)
    return {
        graph.interface[name]: of[name].from_memory(values, graph.tensors[name].shape)
        for name, values in zip(graph.outputs, room, strict=True)
    }


def _faults(case: Case, name: str, found: Array) -> Iterator[str]:
    wanted = case.outputs[name]
    if found.shape != wanted.shape:
        yield f"{name} is {list(found.shape)}, not {list(wanted.shape)}"
    elif not np.allclose(found, wanted, case.rtol, case.atol, equal_nan=True):
        worst = np.nanmax(np.abs(found.astype(np.float64) - wanted.astype(np.float64)))
        yield f"{name} differs by up to {worst:g}"
