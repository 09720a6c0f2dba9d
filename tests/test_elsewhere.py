"""Single passes inside other compilers: onnx_ir, onnxslim, onnxscript, graphsurgeon."""

import functools
from collections.abc import Sequence

import models
import onnx
import onnx_graphsurgeon
import onnx_ir
import pytest
from onnx import ModelProto, numpy_helper
from onnx_ir.passes import common
from onnxscript import rewriter
from test_laws import check_equal, is_integer, outputs

from mcugraph import passes
from mcugraph.passes import Head

CLEANUP = tuple(dict.fromkeys(passes.CLEANUP))
GONE = (1, 2, 6)
KEEP = {"a.weight": [index for index in range(8) if index not in GONE]}
HEAD = Head("gap", (), 3)
REMOVE = functools.partial(passes.remove_channels, keep=KEEP)
DECISIONS: dict[str, passes.Pass] = {
    "remove_channels": REMOVE,
    "cut_depth": functools.partial(passes.cut_depth, tensor="relu_7", head=HEAD),
    "add_exit": functools.partial(passes.add_exit, tensor="relu_7", head=HEAD, threshold=0.8),
    "head": lambda model: passes.split_model(model, "relu_7")[0],
    "tail": lambda model: passes.split_model(model, "relu_7")[1],
    "cluster_weights": functools.partial(passes.cluster_weights, codebooks={"a.weight": 4}),
}
FORMS = ("residual", "residual_qdq", "residual_uint8")


class Adapter(onnx_ir.passes.FunctionalPass):
    """The four lines of docs/passes.md."""

    def __init__(self, apply: passes.Pass) -> None:
        self.apply = apply

    def call(self, model: onnx_ir.Model) -> onnx_ir.passes.PassResult:
        before = onnx_ir.to_proto(model)
        after = self.apply(before)
        return onnx_ir.passes.PassResult(onnx_ir.from_proto(after), modified=after != before)


def in_sequence(model: ModelProto, *steps: onnx_ir.passes.PassBase) -> tuple[ModelProto, bool]:
    found = onnx_ir.passes.Sequential(*steps)(onnx_ir.from_proto(model))
    result = onnx_ir.to_proto(found.model)
    onnx.checker.check_model(result, full_check=True)
    return result, found.modified


def check_same(one: ModelProto, other: ModelProto) -> None:
    """The same outputs, and the same said to the compiler: early exits, packed weights."""
    assert told(one) == told(other)
    check_equal(outputs(one, 3), outputs(other, 3), exact=is_integer(one))


def told(model: ModelProto) -> dict[str, str]:
    props = {entry.key: entry.value for entry in model.metadata_props}
    return {key: value for key, value in props.items() if key.startswith("mcugraph.")}


def without(model: ModelProto, gone: Sequence[int]) -> ModelProto:
    """The same with zeroes where b reads these channels of a, which is what removing them does."""
    own = ModelProto()
    own.CopyFrom(model)
    tensor = next(t for t in own.graph.initializer if t.name in ("b.weight", "b.weight_quantized"))
    value = numpy_helper.to_array(tensor).copy()
    value[:, list(gone)] = 0
    tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    return own


@pytest.mark.parametrize("apply", CLEANUP, ids=lambda apply: apply.__name__)
@pytest.mark.parametrize("name", ["conv_bn_relu_17", "tf_style_qdq"])
def test_a_cleanup_pass_among_those_of_onnx_ir(apply: passes.Pass, name: str) -> None:
    model = models.MODELS[name]()
    own = (common.CommonSubexpressionEliminationPass(), common.RemoveUnusedNodesPass())
    result, _ = in_sequence(model, own[0], Adapter(apply), own[1])
    check_same(model, result)


def test_all_of_cleanup_in_one_sequence() -> None:
    model = models.MODELS["tf_style"]()
    result, modified = in_sequence(model, *map(Adapter, passes.CLEANUP))
    assert modified
    assert len(result.graph.node) < len(model.graph.node)
    check_same(model, result)
    assert in_sequence(result, *map(Adapter, passes.CLEANUP))[1] is False


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("step", DECISIONS)
def test_a_decision_among_passes_of_onnx_ir(step: str, name: str) -> None:
    model = models.MODELS[name]()
    apply = DECISIONS[step]
    own = (common.CommonSubexpressionEliminationPass(), common.RemoveUnusedNodesPass())
    result, modified = in_sequence(model, own[0], Adapter(apply), own[1])
    assert modified
    check_same(apply(model), result)
    if step == "remove_channels":
        check_same(without(model, GONE), result)


@pytest.mark.parametrize("name", ["residual", "squeeze_excite"])
def test_factors_of_a_float_model_in_both_places(name: str) -> None:
    model = models.MODELS[name]()
    apply = functools.partial(passes.factorize, ranks={"a.weight": 3, "b.weight": 2})
    check_same(apply(model), in_sequence(model, Adapter(apply))[0])
    check_same(apply(model), between(model, apply))


def test_a_refusal_names_its_reason_through_onnx_ir() -> None:
    wrong = functools.partial(passes.remove_channels, keep={"a.weight": [8]})
    with pytest.raises(onnx_ir.passes.PassError) as caught:
        in_sequence(models.MODELS["residual"](), Adapter(wrong))
    assert "'a.weight' has 8 channels" in str(caught.value.__cause__)


# Between onnxslim and onnxscript


def slimmed(model: ModelProto) -> ModelProto:
    onnxslim = pytest.importorskip("onnxslim", reason="onnxslim is not installed")
    own = ModelProto()
    own.CopyFrom(model)
    result = onnxslim.slim(own)
    assert isinstance(result, ModelProto)
    return result


def between(model: ModelProto, *steps: passes.Pass) -> ModelProto:
    """Slim it, apply ours, rewrite it: a ModelProto all the way."""
    result = functools.reduce(lambda now, apply: apply(now), steps, slimmed(model))
    rewritten = rewriter.rewrite(result)
    onnx.checker.check_model(rewritten, full_check=True)
    return rewritten


@pytest.mark.parametrize("name", ["conv_bn_relu_17", "tf_style", "padded", "tf_style_qdq"])
def test_cleanup_between_two_others(name: str) -> None:
    model = models.MODELS[name]()
    check_same(model, between(model, *passes.CLEANUP))


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("step", DECISIONS)
def test_a_decision_between_two_others(step: str, name: str) -> None:
    model = models.MODELS[name]()
    apply = DECISIONS[step]
    check_same(apply(model), between(model, apply))
    if step == "remove_channels":
        check_same(without(model, GONE), between(model, apply))


@pytest.mark.parametrize("name", FORMS)
def test_head_and_tail_go_other_ways_and_still_compose(name: str) -> None:
    """The device gets the head slimmed, the server its tail rewritten."""
    model = models.MODELS[name]()
    head, tail = passes.split_model(model, "relu_7")
    parts = [slimmed(head), rewriter.rewrite(tail)]
    whole = onnx.compose.merge_models(
        *(onnx.compose.add_prefix(part, prefix) for part, prefix in zip(parts, "ht", strict=True)),
        io_map=[("h" + parts[0].graph.output[0].name, "t" + parts[1].graph.input[0].name)],
    )
    check_equal(outputs(model, 3), outputs(whole, 3), exact=is_integer(model))


@pytest.mark.parametrize("name", DECISIONS)
@pytest.mark.parametrize("form", FORMS)
def test_a_decision_between_edits_of_graphsurgeon(name: str, form: str) -> None:
    apply = DECISIONS[name]
    model = models.MODELS[form]()
    graph = onnx_graphsurgeon.import_onnx(model).cleanup().toposort()
    found = onnx_graphsurgeon.import_onnx(apply(onnx_graphsurgeon.export_onnx(graph)))
    result = onnx_graphsurgeon.export_onnx(found.cleanup())
    onnx.checker.check_model(result, full_check=True)
    check_equal(outputs(result, 3), outputs(apply(model), 3), exact=is_integer(model))
