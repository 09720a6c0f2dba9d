"""What can be wrong with a user's model: each error lists all of its problems at once."""

from __future__ import annotations

import re
from collections.abc import Iterable

from onnx import NodeProto

_TRACE = re.compile(
    r"\[ONNXRuntimeError\] : \d+ : \w+ : |\[\w+Error\] |(?:Inference error\(s\): )|==> Context: .*"
    r"|Exception during initialization: "
    r"|/?[\w./+-]+\.(?:cc|cpp|h|hpp|inc):\d+ [^()]*\([^()]*\)(?: const)?(?: \[with [^\]]*\])? "
)
_LONGEST = 300


class ProblemsError(ValueError):
    """Several problems, one a line."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class LoadError(ProblemsError):
    """A file that is not a model which this compiler can read."""


class UnsupportedError(ProblemsError):
    """Steps that no kernel computes, or that compute in float without leave."""


def title(node: NodeProto) -> str:
    """How a message names a node."""
    name = node.name or next(filter(None, node.output), "?")
    return f"node {name} ({node.op_type})"


def plain(error: object) -> str:
    """What onnx or onnxruntime complains of, on one line, without its C++ traces and paths."""
    text = _TRACE.sub("", " ".join(str(error).split()))
    return text if len(text) <= _LONGEST else text[:_LONGEST] + " ..."
