"""All that is wrong with a stripped model (mcugraph.tidy.strip), one line a problem."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from math import prod

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, checker, helper, numpy_helper

from mcugraph.errors import plain, title
from mcugraph.passes._edit import attribute, reads, slot, subgraphs

OPSETS = range(13, 25)
ELEMENT_TYPES = frozenset(
    getattr(TensorProto, name)
    for name in """FLOAT FLOAT16 DOUBLE INT8 UINT8 INT16 UINT16 INT32 UINT32 INT64 UINT64
    BOOL""".split()
)
# No microcontroller has this much; beyond it, a wrong dimension would fill this machine's memory.
LARGEST_BYTES = 2**28

# Positions of the scales; each is followed by its zero point.
_SCALES: Mapping[str, tuple[int, ...]] = {
    "DequantizeLinear": (1,),
    "QuantizeLinear": (1,),
    "QGemm": (1, 4, 7),
    **dict.fromkeys(("QLinearConv", "QLinearMatMul", "QLinearAdd", "QLinearMul"), (1, 4, 6)),
    **dict.fromkeys(
        """QLinearAveragePool QLinearGlobalAveragePool QLinearLeakyRelu QLinearSigmoid
        QLinearSoftmax""".split(),
        (1, 3),
    ),
}
_WEIGHTED = frozenset("BatchNormalization Conv ConvTranspose Gemm GRU LSTM MatMul RNN".split())

# Attributes that count something; a wild one lets onnx fill the memory or abort the process.
_COUNTS = frozenset(
    """blocksize dilations group hidden_size kernel_shape num_outputs output_padding output_shape
    pads strides""".split()
)
_LARGEST_COUNT = 2**20
# Inputs that say how much a node makes, by their positions.
_SIZES = {"ConstantOfShape": 0, "Expand": 1, "Pad": 1, "Resize": 3, "Tile": 1}

Constants = Mapping[str, NDArray[np.generic]]


def find_faults(model: ModelProto) -> list[str]:
    """Every problem that can be told without knowing the dynamic dimensions."""
    constants, broken = _constants(model)
    kinds: tuple[Callable[[ModelProto], Iterator[str]], ...] = (
        _opset_faults,
        _interface_faults,
        _wiring_faults,
        _operator_faults,
    )
    found = [line for kind in kinds for line in kind(model)]
    more = (_weight_faults, _scale_faults, _size_faults)
    return [*found, *broken, *(line for kind in more for line in kind(model, constants))]


def oversized(model: ModelProto) -> list[str]:
    """Tensors of known shape that are larger than any microcontroller's memory."""
    graph = model.graph
    sizes = {t.name: (list(t.dims), t.data_type) for t in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        kind = value.type.tensor_type
        shape = [d.dim_value if d.HasField("dim_value") else 1 for d in kind.shape.dim]
        sizes[value.name] = (shape, kind.elem_type)
    return [
        f"tensor {name}: shape {shape} takes {prod(shape) * _item_bytes(kind):,} bytes; "
        f"at most {LARGEST_BYTES:,} are allowed"
        for name, (shape, kind) in sizes.items()
        if prod(shape) * _item_bytes(kind) > LARGEST_BYTES
    ]


def _type_name(kind: int) -> str:
    known = kind in TensorProto.DataType.values()
    return TensorProto.DataType.Name(kind).lower() if known else f"number {kind}"


def _item_bytes(kind: int) -> int:
    return helper.tensor_dtype_to_np_dtype(kind).itemsize if kind in ELEMENT_TYPES else 1


def _opset_faults(model: ModelProto) -> Iterator[str]:
    versions = [entry.version for entry in model.opset_import if not entry.domain]
    if len(versions) != 1:
        yield f"{len(versions)} versions of the ONNX operator set; exactly one must be imported"
    elif versions[0] not in OPSETS:
        yield (
            f"opset {versions[0]}; {OPSETS[0]} to {OPSETS[-1]} are supported: export the model "
            "again with opset_version=18"
        )


def _interface_faults(model: ModelProto) -> Iterator[str]:
    graph = model.graph
    if not graph.node:
        yield "the model has no nodes; there is nothing to compile"
    if not graph.input:
        yield "the model has no input"
    if not graph.output:
        yield "the model has no output"
    for sparse in graph.sparse_initializer:
        yield f"initializer {sparse.values.name} is sparse; store it as a dense tensor"
    for value in graph.input:
        yield from _type_faults("input", value)
    for value in graph.output:
        if value.type.WhichOneof("value") is not None:
            yield from _type_faults("output", value)


def _type_faults(role: str, value: ValueInfoProto) -> Iterator[str]:
    kind = value.type.WhichOneof("value")
    if kind != "tensor_type":
        what = f"is a {kind.removesuffix('_type')}" if kind else "has no type"
        yield f"{role} {value.name} {what}; only dense tensors are supported"
        return
    element = value.type.tensor_type.elem_type
    if element not in ELEMENT_TYPES:
        yield (
            f"{role} {value.name} has element type {_type_name(element)}; "
            "integers of 8 to 64 bits, floats and bool are allowed"
        )


def _wiring_faults(model: ModelProto) -> Iterator[str]:
    graph = model.graph
    defined = Counter(value.name for value in (*graph.input, *graph.initializer))
    defined.update(name for node in graph.node for name in node.output if name)
    yield from (f"tensor {name!r} is defined {n} times" for name, n in defined.items() if n > 1)
    outputs = Counter(value.name for value in graph.output)
    yield from (f"output {name!r} is listed {n} times" for name, n in outputs.items() if n > 1)
    for name in defined:
        if not name or not name.isprintable():
            yield f"tensor name {name!r} is empty or has control characters"
    for node in graph.node:
        for name in sorted(reads(node) - defined.keys()):
            yield f"{title(node)} reads {name!r}, which nothing produces"
    yield from (f"output {name!r} is produced by nothing" for name in outputs if not defined[name])
    yield from _cycle(model)


def _cycle(model: ModelProto) -> Iterator[str]:
    nodes = model.graph.node
    makers = {name: index for index, node in enumerate(nodes) for name in node.output if name}
    needs = {i: {makers[n] for n in reads(node) if n in makers} for i, node in enumerate(nodes)}
    try:
        TopologicalSorter(needs).prepare()
    except CycleError as error:
        yield "nodes form a cycle: " + ", ".join(title(nodes[i]) for i in error.args[1][1:])


def _operator_faults(model: ModelProto) -> Iterator[str]:
    """The ONNX checker's view of each node; bodies are left to the check of the whole model."""
    if any(True for _ in _opset_faults(model)):
        return
    context = checker.C.CheckerContext()
    context.ir_version = model.ir_version
    context.opset_imports = {entry.domain: entry.version for entry in model.opset_import}
    for node in model.graph.node:
        yield from _count_faults(node)
        if any(True for _ in subgraphs(node)):
            continue
        try:
            checker.check_node(node, context)
        except (checker.ValidationError, ValueError, RuntimeError) as error:
            yield f"{title(node)}: {plain(error)}"


def _count_faults(node: NodeProto) -> Iterator[str]:
    for entry in node.attribute:
        largest = max([entry.i, *entry.ints], key=abs)
        if entry.name in _COUNTS and abs(largest) > _LARGEST_COUNT:
            yield f"{title(node)}: attribute {entry.name} is {largest}, beyond {_LARGEST_COUNT}"
    parts = attribute(node, "num_outputs", len(node.output))
    if node.op_type == "Split" and parts != len(node.output):
        yield f"{title(node)}: num_outputs is {parts}, but it has {len(node.output)} outputs"


def _constants(model: ModelProto) -> tuple[Constants, list[str]]:
    """Values of initializers and Constant nodes, and what is wrong with their storage."""
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        value = attribute(node, "value") if node.op_type == "Constant" else None
        if isinstance(value, TensorProto) and node.output:
            tensors[node.output[0]] = value
    values: dict[str, NDArray[np.generic]] = {}
    broken = []
    for name, tensor in tensors.items():
        fault = _storage_fault(tensor)
        if fault is None:
            values[name] = numpy_helper.to_array(tensor)
        else:
            broken.append(f"constant {name}: {fault}")
    return values, broken


def _storage_fault(tensor: TensorProto) -> str | None:
    if tensor.data_location == TensorProto.EXTERNAL:
        return "its data lies outside of the model; load the model from its file"
    if min(tensor.dims, default=0) < 0:
        return f"shape {list(tensor.dims)} has a negative dimension"
    if tensor.data_type not in TensorProto.DataType.values():
        return f"element type number {tensor.data_type} is unknown"
    try:
        checker.check_tensor(tensor)
        numpy_helper.to_array(tensor)
    except (ValueError, TypeError, KeyError, checker.ValidationError) as error:
        return f"shape {list(tensor.dims)} does not fit its data: {plain(error)}"
    return None


def _weight_faults(model: ModelProto, constants: Constants) -> Iterator[str]:
    weights: set[str] = set()
    used: set[str] = set()
    for node in model.graph.node:
        used |= {*reads(node), *node.output} - {slot(node, i) for i in _scale_places(node)}
        weights.update(node.input if node.op_type in _WEIGHTED else ())
        for entry in node.attribute:
            if np.isnan([entry.f, *entry.floats]).any():
                yield f"{title(node)}: attribute {entry.name} is NaN"
    for name, value in constants.items():
        if name not in used or not np.issubdtype(value.dtype, np.floating):
            continue
        bad = np.isnan(value) if name not in weights else ~np.isfinite(value)
        if bad.any():
            yield f"constant {name}: {bad.sum()} of {value.size} elements are NaN or infinite"


def _size_faults(model: ModelProto, constants: Constants) -> Iterator[str]:
    for node in (node for node in model.graph.node if node.op_type in _SIZES):
        sizes = constants.get(slot(node, _SIZES[node.op_type]), np.ones(1))
        if prod(max(1.0, abs(float(size))) for size in sizes.flat) > LARGEST_BYTES // 4:
            yield f"{title(node)}: size {sizes.tolist()} is beyond any microcontroller's memory"


def _scale_places(node: NodeProto) -> Sequence[int]:
    if node.op_type == "QLinearConcat":
        return range(0, len(node.input), 3)
    return _SCALES.get(node.op_type, ())


def _scale_faults(model: ModelProto, constants: Constants) -> Iterator[str]:
    types = _types(model)
    for node in model.graph.node:
        for place in _scale_places(node):
            scale = constants.get(slot(node, place))
            zero = constants.get(slot(node, place + 1))
            if scale is not None:
                yield from _scale_fault(node, slot(node, place), scale)
            if scale is not None and zero is not None and zero.size != scale.size:
                yield (
                    f"{title(node)}: zero point {slot(node, place + 1)} has {zero.size} elements, "
                    f"its scale {slot(node, place)} has {scale.size}"
                )
        if node.op_type == "DequantizeLinear":
            yield from _zero_point_faults(node, types, constants)


def _scale_fault(node: NodeProto, name: str, scale: NDArray[np.generic]) -> Iterator[str]:
    try:
        values = scale.astype(np.float64)
    except (TypeError, ValueError):
        yield f"{title(node)}: scale {name} is not a number"
        return
    bad = values[~(np.isfinite(values) & (values > 0))]
    if bad.size:
        yield (
            f"{title(node)}: scale {name} is {bad.flat[0]:g}; a scale must be finite and positive"
        )


def _types(model: ModelProto) -> dict[str, int]:
    graph = model.graph
    types = {v.name: v.type.tensor_type.elem_type for v in (*graph.value_info, *graph.input)}
    types.update({tensor.name: tensor.data_type for tensor in graph.initializer})
    return {name: kind for name, kind in types.items() if kind}


def _zero_point_faults(
    node: NodeProto, types: Mapping[str, int], constants: Constants
) -> Iterator[str]:
    data, zero = types.get(slot(node, 0)), types.get(slot(node, 2))
    if data is not None and zero is not None and data != zero:
        kinds = [_type_name(kind) for kind in (zero, data)]
        yield (
            f"{title(node)}: zero point {slot(node, 2)} is {kinds[0]}, "
            f"but {slot(node, 0)} is {kinds[1]}; they must be of one type"
        )
    value = constants.get(slot(node, 2))
    if value is not None and zero == TensorProto.INT32 and np.any(value != 0):
        yield f"{title(node)}: zero point {slot(node, 2)} is int32 and must be 0"
