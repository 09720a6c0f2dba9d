"""What a model's metadata asks of the compiler: which weights are stored packed."""

import json
import re
from collections.abc import Iterable

from onnx import ModelProto

# A JSON list of names of weights.
PACKED = "mcugraph.packed"
# What quantisers and copies add to a name.
_ADDED = re.compile(r"(__\d+|_quantized)+$")


def ask_to_pack(model: ModelProto, names: Iterable[str]) -> None:
    """Add weights to those whose few values are to be stored in a table, by name."""
    asked = sorted({*_asked(model), *names})
    entry = next((e for e in model.metadata_props if e.key == PACKED), None)
    if entry is None:
        entry = model.metadata_props.add(key=PACKED)
    entry.value = json.dumps(asked)


def asked_to_pack(model: ModelProto, names: Iterable[str]) -> frozenset[str]:
    """Which of these constants were named, as they are or before they were quantised or copied."""
    asked = _asked(model)
    plain = {plain_name(name) for name in asked}
    return frozenset(name for name in names if name in asked or plain_name(name) in plain)


def plain_name(name: str) -> str:
    """The name of a weight before it was quantised or copied."""
    return _ADDED.sub("", name) or name


def _asked(model: ModelProto) -> list[str]:
    """ValueError where the entry is not what we write."""
    text = next((e.value for e in model.metadata_props if e.key == PACKED), "[]")
    try:
        names = json.loads(text)
    except ValueError:
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"the model's metadata {PACKED} is no list of names: {text[:80]}")
    return names
