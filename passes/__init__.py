"""Graph rewrites: each a function from an ONNX model to an equivalent ONNX model."""

from collections.abc import Callable

import onnx

from mcugraph.passes.add_exit import add_exit
from mcugraph.passes.canonicalize_pooling import canonicalize_pooling
from mcugraph.passes.cluster_weights import cluster_weights
from mcugraph.passes.cut_depth import cut_depth
from mcugraph.passes.cuts import Cut, legal_cuts
from mcugraph.passes.drop_branches import Branch, drop_branches, find_branches
from mcugraph.passes.drop_constant_channels import drop_constant_channels
from mcugraph.passes.eliminate_identity import eliminate_identity
from mcugraph.passes.eliminate_transposes import eliminate_transposes
from mcugraph.passes.factorize import factorize
from mcugraph.passes.fold_batchnorm import fold_batchnorm
from mcugraph.passes.fold_constants import fold_constants
from mcugraph.passes.fold_pad import fold_pad
from mcugraph.passes.fuse_activation import fuse_activation
from mcugraph.passes.heads import Head, head_model
from mcugraph.passes.hoist_quantizers import hoist_quantizers
from mcugraph.passes.qoperator_to_qdq import qoperator_to_qdq
from mcugraph.passes.remove_channels import kept_indices, remove_channels
from mcugraph.passes.signed_activations import signed_activations
from mcugraph.passes.split_model import split_model
from mcugraph.passes.unshare_weights import unshare_weights

Pass = Callable[[onnx.ModelProto], onnx.ModelProto]

# What the compiler runs before anything else, in this order.
CLEANUP: tuple[Pass, ...] = (
    qoperator_to_qdq,
    fold_constants,
    eliminate_identity,
    fold_batchnorm,
    eliminate_transposes,
    fold_pad,
    canonicalize_pooling,
    hoist_quantizers,
    signed_activations,
    drop_constant_channels,
    fuse_activation,
    unshare_weights,
    eliminate_identity,
)

# The same for a model whose weights stand for others: what they are must not matter.
STRUCTURE = tuple(each for each in CLEANUP if each is not drop_constant_channels)

__all__ = [
    "CLEANUP",
    "STRUCTURE",
    "Branch",
    "Cut",
    "Head",
    "Pass",
    "add_exit",
    "canonicalize_pooling",
    "cluster_weights",
    "cut_depth",
    "drop_branches",
    "drop_constant_channels",
    "eliminate_identity",
    "eliminate_transposes",
    "factorize",
    "find_branches",
    "fold_batchnorm",
    "fold_constants",
    "fold_pad",
    "fuse_activation",
    "head_model",
    "hoist_quantizers",
    "kept_indices",
    "legal_cuts",
    "qoperator_to_qdq",
    "remove_channels",
    "signed_activations",
    "split_model",
    "unshare_weights",
]
