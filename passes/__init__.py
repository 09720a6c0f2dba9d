"""Graph rewrites: each a function from an ONNX model to an equivalent ONNX model."""

from collections.abc import Callable

import onnx

from mcugraph.passes.canonicalize_pooling import canonicalize_pooling
from mcugraph.passes.eliminate_identity import eliminate_identity
from mcugraph.passes.eliminate_transposes import eliminate_transposes
from mcugraph.passes.fold_batchnorm import fold_batchnorm
from mcugraph.passes.fold_constants import fold_constants
from mcugraph.passes.fuse_activation import fuse_activation
from mcugraph.passes.hoist_quantizers import hoist_quantizers
from mcugraph.passes.qoperator_to_qdq import qoperator_to_qdq
from mcugraph.passes.signed_activations import signed_activations
from mcugraph.passes.unshare_weights import unshare_weights

Pass = Callable[[onnx.ModelProto], onnx.ModelProto]

# What the compiler runs before anything else, in this order.
CLEANUP: tuple[Pass, ...] = (
    qoperator_to_qdq,
    fold_constants,
    eliminate_identity,
    fold_batchnorm,
    eliminate_transposes,
    canonicalize_pooling,
    hoist_quantizers,
    signed_activations,
    fuse_activation,
    unshare_weights,
    eliminate_identity,
)

__all__ = [
    "CLEANUP",
    "Pass",
    "canonicalize_pooling",
    "eliminate_identity",
    "eliminate_transposes",
    "fold_batchnorm",
    "fold_constants",
    "fuse_activation",
    "hoist_quantizers",
    "qoperator_to_qdq",
    "signed_activations",
    "unshare_weights",
]
