"""ONNX file -> a clean, static, self-checked ModelProto; all problems are listed at once."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import onnx
from onnx import GraphProto, ModelProto, TensorProto, checker, external_data_helper, inliner

from mcugraph.bind import bind_dims, infer
from mcugraph.errors import LoadError, plain
from mcugraph.faults import find_faults, oversized
from mcugraph.passes._edit import subgraphs
from mcugraph.selfcheck import self_check
from mcugraph.tidy import strip, tidy

_EXPORT = "export the network to ONNX, e.g. torch.onnx.export(..., dynamo=True)"
# (offset, bytes there, what the file is, the nearest way out)
_FORMATS = (
    (4, b"TFL3", "a TFLite file", "convert it to ONNX, e.g. with tflite2onnx or tf2onnx"),
    (4, b"ORTM", "a model in ORT format", "give the ONNX file that it was made from"),
    (4, b"ET1", "an ExecuTorch program", _EXPORT),
    (0, b"\x89HDF", "a Keras HDF5 file", "convert it to ONNX, e.g. with tf2onnx"),
    (0, b"version https://git-lfs", "a Git LFS pointer", "fetch the model with: git lfs pull"),
    (0, b"\x80\x02", "a Python pickle, perhaps of torch.save", _EXPORT),
    (0, b"\x93NUMPY", "a NumPy array", _EXPORT),
    (0, b"\x1f\x8b", "a gzip archive", "unpack it first"),
)


def load(path: str | os.PathLike[str], dims: Mapping[str, int] | None = None) -> ModelProto:
    """Read an ONNX file, with the external data beside it, as `load_model` does."""
    file = Path(path)
    model = _parsed(file, _content(file))
    _read_external(model, file)
    return load_model(model, dims)


def load_model(model: ModelProto, dims: Mapping[str, int] | None = None) -> ModelProto:
    """A clean, static copy of a model that onnxruntime has loaded and run.

    `dims` gives sizes to dynamic dimensions by name, or by `input:axis` where they have none; a
    leading dynamic dimension is 1 unless named. LoadError lists all problems; ValueError says which
    dimensions exist where `dims` names others.
    """
    if _garbled(model):
        raise LoadError(["a name in the model is not valid text: the file is damaged"])
    own = _inlined(strip(model))
    problems = find_faults(own)
    _refuse([*problems, *bind_dims(own, dims or {})])
    _refuse(oversized(own))
    own = _tidied(own)
    if not own.graph.node:
        raise LoadError(["no node of the model reaches an output; there is nothing to compile"])
    own = infer(own)
    _refuse(oversized(own))
    _refuse(self_check(own))
    return own


def _refuse(problems: Iterable[str]) -> None:
    found = tuple(dict.fromkeys(problems))
    if found:
        raise LoadError(found)


def _content(file: Path) -> bytes:
    if file.is_dir():
        raise LoadError([f"{file} is a folder; give the .onnx file in it"])
    try:
        content = file.read_bytes()
    except (OSError, ValueError) as error:
        raise LoadError([f"cannot read {file}: {getattr(error, 'strerror', error)}"]) from None
    if not content:
        raise LoadError([f"{file} is empty"])
    return content


def _parsed(file: Path, content: bytes) -> ModelProto:
    found = _format(content)
    if found is not None:
        raise LoadError([f"{file} is {found[0]}, not ONNX; {found[1]}"])
    # protobuf's exceptions have no base of their own that mypy can see.
    try:
        model = onnx.load_model_from_string(content)
    except Exception:
        # The first field of an ONNX file is its IR version: key 8, then a small number.
        damaged = content[0] == 8 and content[1:2] < b"\x20"
        what = "a truncated or damaged ONNX file" if damaged else "not an ONNX file"
        raise LoadError([f"{file} is {what}; {_EXPORT}"]) from None
    if not model.HasField("graph"):
        raise LoadError([f"{file} holds no graph: it is truncated, or not an ONNX file"])
    return model


def _format(content: bytes) -> tuple[str, str] | None:
    """What a file is that is certainly not ONNX, and the nearest way out."""
    for offset, magic, name, way_out in _FORMATS:
        if content[offset : offset + len(magic)] == magic:
            return name, way_out
    if content[:4] == b"PK\x03\x04":
        return _archive(content)
    printable = all(0x20 <= byte < 0x7F or byte in b"\t\n\r" for byte in content[:512])
    return ("a text file", _EXPORT) if printable else None


def _archive(content: bytes) -> tuple[str, str]:
    try:
        names = zipfile.ZipFile(io.BytesIO(content)).namelist()
    except zipfile.BadZipFile:
        return "a damaged zip archive", _EXPORT
    if any(name.endswith("data.pkl") for name in names):
        return "a torch file (.pt)", f"load it in Python and {_EXPORT}"
    if "model.weights.h5" in names:
        return "a Keras file (.keras)", "convert it to ONNX, e.g. with tf2onnx"
    return "a zip archive", "unpack it and give the .onnx file in it"


def _read_external(model: ModelProto, file: Path) -> None:
    tensors = [t for t in _tensors(model.graph) if external_data_helper.uses_external_data(t)]
    _refuse(_external_faults(tensors, file.parent))
    for tensor in tensors:
        try:
            external_data_helper.load_external_data_for_tensor(tensor, str(file.parent))
        except (OSError, ValueError, checker.ValidationError) as error:
            raise LoadError([f"external data of {tensor.name}: {plain(error)}"]) from None
        tensor.data_location = TensorProto.DEFAULT
        del tensor.external_data[:]


def _tensors(graph: GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        for entry in node.attribute:
            yield from [entry.t] if entry.HasField("t") else []
            yield from entry.tensors
        for body in subgraphs(node):
            yield from _tensors(body)


def _external_faults(tensors: Iterable[TensorProto], folder: Path) -> Iterator[str]:
    missing: dict[str, list[str]] = {}
    for tensor in tensors:
        place = {entry.key: entry.value for entry in tensor.external_data}
        location = place.get("location", "")
        if not location or "\0" in location or Path(location).is_absolute():
            yield f"external data of {tensor.name}: {location!r} is not a file beside the model"
        elif ".." in Path(location).parts:
            yield f"external data of {tensor.name}: {location!r} leaves the model's folder"
        elif not (folder / location).is_file():
            missing.setdefault(location, []).append(tensor.name)
        else:
            yield from _range_fault(tensor.name, place, folder / location)
    for location, names in missing.items():
        yield (
            f"the external data file {location} is missing (looked for in {folder.absolute()}; "
            f"needed by {_some(names)}): put it beside the model, or export with "
            "external_data=False"
        )


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _range_fault(name: str, place: Mapping[str, str], file: Path) -> Iterator[str]:
    size = file.stat().st_size
    try:
        start, length = int(place.get("offset", 0)), int(place.get("length", 0))
    except ValueError:
        yield f"external data of {name}: offset and length must be integers"
        return
    if start < 0 or length < 0:
        yield f"external data of {name}: offset and length must not be negative"
    elif start + length > size:
        yield (
            f"external data of {name}: needs bytes {start} to {start + length} of {file.name}, "
            f"which has {size}: the file is truncated, or belongs to another model"
        )


def _garbled(message: Any) -> bool:
    """Whether a text in it is not UTF-8: the file is damaged, and protobuf hands out bytes."""
    for field, value in message.ListFields():
        single = isinstance(value, str | bytes) or hasattr(value, "ListFields")
        items = [value] if single else value
        if field.type == field.TYPE_STRING and any(isinstance(item, bytes) for item in items):
            return True
        if field.type == field.TYPE_MESSAGE and any(_garbled(item) for item in items):
            return True
    return False


def _inlined(model: ModelProto) -> ModelProto:
    if not model.functions:
        return model
    try:
        inlined: ModelProto = inliner.inline_local_functions(model)
        return inlined
    except (RuntimeError, ValueError, checker.ValidationError) as error:
        raise LoadError([f"the model's local functions: {plain(error)}"]) from None


def _tidied(model: ModelProto) -> ModelProto:
    try:
        return tidy(model)
    except (RuntimeError, ValueError, TypeError) as error:
        raise LoadError([f"the model is not valid ONNX: {plain(error)}"]) from None
