"""What kernels cannot read or write is refused by name, in one line, before any C is written."""

from __future__ import annotations

import pytest
from onnx import parser

from mcugraph.errors import UnsupportedError
from mcugraph.load import load_model
from mcugraph.optimize import rewrite
from mcugraph.plan import Aim, Plan, make_plan
from mcugraph.read import read_graph
from mcugraph.targets import load as load_target


def plan_of(graph: str) -> Plan:
    model = parser.parse_model(f'<ir_version: 8, opset_import: ["": 18]> g {graph}')
    read = read_graph(rewrite(load_model(model)))
    return make_plan(read, load_target("host"), "net", Aim(allow_float=True))


@pytest.mark.parametrize(
    ("graph", "complaint"),
    [
        ("(uint8[4] a, uint8[4] b) => (uint8[4] y) { y = Add(a, b) }", "a is uint8; float32"),
        ("(int8[4] a) => (int8[4] y) { y = Max(a, a) }", "a is int8 with no scale"),
        ("(float[4] a) => (bool[4] y) { y = IsNaN(a) }", "y is bool; int8"),
        (
            "(float[4] a) => (float[4] y, float[2] c) <float[2] c = {1, 2}> { y = Relu(a) }",
            "output c is a constant; leave it out",
        ),
        (
            """(float[4] a, float[4] b) => (float[4] y)
            <float s = {0.5}, float t = {0.25}, int8 z = {0}>
            {
                q = QuantizeLinear(a, s, z)
                d = DequantizeLinear(q, s, z)
                e = Exp(b)
                f = Add(d, e)
                r = QuantizeLinear(f, t, z)
                y = DequantizeLinear(r, t, z)
            }""",
            "int8 and float32 together; quantise or dequantise all of them",
        ),
        (
            """(float[4] a, float s) => (float[4] y) <int8 z = {0}>
            {
                q = QuantizeLinear(a, s, z)
                y = DequantizeLinear(q, s, z)
            }""",
            "s is computed at run time; a constant is allowed",
        ),
    ],
)
def test_refused(graph: str, complaint: str) -> None:
    with pytest.raises(UnsupportedError) as error:
        plan_of(graph)
    assert complaint in str(error.value)
    assert len(set(error.value.problems)) == len(error.value.problems)


def test_a_reshape_moves_integers() -> None:
    plan = plan_of("(int64[2, 3] a) => (int64[6] y) <int64[1] n = {6}> { y = Reshape(a, n) }")
    assert plan.steps == ()


def test_a_divisor_of_zero_is_no_fault_of_the_model() -> None:
    with pytest.raises(UnsupportedError, match="int32"):
        plan_of("(int32[4] a, int32[4] b) => (int32[4] y) { y = Div(a, b) }")
