"""onnx's own node tests, each as compiled C: passed, or refused with a reason."""

from __future__ import annotations

from collections import Counter
from textwrap import fill

import pytest
from nodecases import OPERATORS, Outcome, cases, outcomes, with_constants

from mcugraph.testing import Golden

Results = dict[str, Outcome]
KINDS = ("passed", "refused")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    found = cases()
    variants = [variant for case in found if case.floating for variant in with_constants(case)]
    tried = outcomes([*found, *variants], tmp_path_factory.mktemp("cases"))
    return {outcome.case.name: outcome for outcome in tried}


def ours(results: Results) -> list[Outcome]:
    """The cases of this compiler's operators in float32, as onnx has them."""
    return [
        outcome
        for name, outcome in results.items()
        if outcome.case.op in OPERATORS and outcome.case.floating and "_with_run_time_" not in name
    ]


def test_every_case_of_onnx_passes_or_is_refused_with_a_reason(results: Results) -> None:
    wrong = [o for o in results.values() if o.kind == "failed" or not (o.why or o.kind == "passed")]
    assert {outcome.case.name: outcome.why for outcome in wrong} == {}


def test_passed(results: Results, golden: Golden, capsys: pytest.CaptureFixture[str]) -> None:
    kinds = Counter((outcome.case.op, outcome.kind) for outcome in ours(results))
    rows = [(op, kinds[op, "passed"], kinds[op, "refused"]) for op in sorted({o for o, _ in kinds})]
    passed, refused = (sum(n for (_, kind), n in kinds.items() if kind == k) for k in KINDS)
    with capsys.disabled():
        print(f"\nonnx node tests in float32: {passed} passed, {refused} refused")
    lines = [("operator", "passed", "refused"), *rows, ("all", passed, refused)]
    golden("".join(f"{op:20}{good!s:>7}{bad!s:>9}\n" for op, good, bad in lines))


def test_refused(results: Results, golden: Golden) -> None:
    reasons: dict[str, list[str]] = {}
    for outcome in ours(results):
        if outcome.kind == "refused":
            name = outcome.case.name.removeprefix("test_")
            reasons.setdefault(f"{outcome.case.op}: {outcome.why}", []).append(name)
    golden("".join(f"{why}\n{_listed(names)}\n" for why, names in sorted(reasons.items())))


def _listed(names: list[str]) -> str:
    return fill(" ".join(names), width=100, initial_indent="    ", subsequent_indent="    ")


def test_a_constant_operand_computes_the_same(results: Results) -> None:
    found = [outcome for name, outcome in results.items() if "_with_run_time_" in name]
    assert len(found) > 30
    assert {outcome.case.name: outcome.why for outcome in found if outcome.kind == "refused"} == {}
