import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import parser

from mcugraph.text import graph_text

pytest_plugins = ["pytester"]

GOLDEN_TEST = 'import pytest\n\ndef test_text(golden):\n    golden("one\\ntwo\\n")\n'


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    """A user's folder: the plugin comes by its entry point alone."""
    return pytester


def golden_file(project: pytest.Pytester, test_file: str, name: str) -> Path:
    return project.path / "golden" / test_file / name


def test_missing_golden_fails_and_names_the_command(project: pytest.Pytester) -> None:
    project.makepyfile(test_a=GOLDEN_TEST)
    result = project.runpytest()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*python -m pytest 'test_a.py::test_text' --update-golden*"])
    assert not (project.path / "golden").exists()


def test_update_writes_what_then_passes(project: pytest.Pytester) -> None:
    project.makepyfile(test_a=GOLDEN_TEST)
    project.runpytest("--update-golden").assert_outcomes(passed=1)
    path = golden_file(project, "test_a", "test_text.txt")
    assert path.read_bytes() == b"one\ntwo\n"
    project.runpytest().assert_outcomes(passed=1)


def test_difference_is_shown_line_by_line(project: pytest.Pytester) -> None:
    project.makepyfile(test_a=GOLDEN_TEST)
    path = golden_file(project, "test_a", "test_text.txt")
    path.parent.mkdir(parents=True)
    path.write_text("one\nthree\n", encoding="utf-8")
    result = project.runpytest()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["--- golden", "*-three", "*+two", "if this is right: *--update*"])
    project.runpytest("--update-golden").assert_outcomes(passed=1)
    assert path.read_text(encoding="utf-8") == "one\ntwo\n"


def test_each_parameter_and_suffix_has_its_file(project: pytest.Pytester) -> None:
    project.makepyfile(
        test_a="""
        import pytest

        @pytest.mark.parametrize("shape", ["1x2", "a/b"])
        def test_text(golden, shape):
            golden(shape)
            golden(shape, suffix=".c")
        """
    )
    project.runpytest("--update-golden").assert_outcomes(passed=2)
    names = {path.name for path in (project.path / "golden" / "test_a").iterdir()}
    assert names == {
        "test_text-1x2.txt",
        "test_text-1x2.c",
        "test_text-a-b.txt",
        "test_text-a-b.c",
    }


def test_one_file_is_compared_once(project: pytest.Pytester) -> None:
    project.makepyfile(test_a='def test_text(golden):\n    golden("a")\n    golden("b")\n')
    result = project.runpytest("--update-golden")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*test_text.txt is compared twice*"])


def test_shared_folder_is_optional(project: pytest.Pytester) -> None:
    conftest = Path(__file__).with_name("conftest.py")
    project.makeconftest(conftest.read_text(encoding="utf-8"))
    project.makepyfile(test_a="def test_it(shared):\n    assert shared.is_dir()\n")
    result = project.runpytest("-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*no folder *shared"])


MODEL = """
<ir_version: 8, opset_import: ["": 17]>
net (float[1, 2, N] x) => (float[1, 2, N] y)
<float[2] slope = {0.5, 0.25}, int64[3] shape = {0, 2, -1}, float limit = {6}>
{
    slanted = PRelu(x, slope)
    flat = Reshape<allowzero = 0>(slanted, shape)
    y = Clip(flat, , limit)
}
"""
TEXT = """\
input  x: float32[1, 2, N]
slanted: float32[1, 2, N] = PRelu(x, float32[2]~0.375)
flat: float32[1, 2, ?] = Reshape(slanted, [0, 2, -1]) allowzero=0
y: float32[1, 2, N] = Clip(flat, -, 6)
output y
"""


def test_graph_text_shows_types_constants_and_attributes() -> None:
    assert graph_text(parser.parse_model(MODEL)) == TEXT


def test_graph_text_shows_bodies_and_our_metadata() -> None:
    model = parser.parse_model(
        """
        <ir_version: 8, opset_import: ["": 17]>
        net (bool c, float[2] x) => (float[2] y) {
            y = If(c) <
                then_branch = one () => (float[2] a) { a = Neg(x) },
                else_branch = two () => (float[2] b) { b = my.own.Twist<way = "left">(x) }>
        }
        """
    )
    model.metadata_props.add(key="mcugraph.exit", value="{}")
    model.metadata_props.add(key="date", value="today")
    assert graph_text(model).splitlines() == [
        "input  c: bool[]",
        "input  x: float32[2]",
        "y: float32[2] = If(c)",
        "    else_branch:",
        "        b: float32[2] = my.own.Twist(x) way=left",
        "        output b",
        "    then_branch:",
        "        a: float32[2] = Neg(x)",
        "        output a",
        "output y",
        "mcugraph.exit {}",
    ]


def test_graph_text_does_not_see_the_last_bit_of_a_weight() -> None:
    model = parser.parse_model(MODEL)
    other = parser.parse_model(MODEL)
    nudged = np.nextafter(np.float32([0.5, 0.25]), np.float32(1))
    other.graph.initializer[0].raw_data = nudged.tobytes()
    del other.graph.initializer[0].float_data[:]
    assert other.SerializeToString() != model.SerializeToString()
    assert graph_text(other) == graph_text(model)


def test_a_user_compares_a_graph_with_its_golden(project: pytest.Pytester) -> None:
    onnx.save(parser.parse_model(MODEL), project.path / "m.onnx")
    project.makepyfile(
        test_a="""
        import onnx

        def test_pass(golden_graph):
            golden_graph(onnx.load("m.onnx"))
        """
    )
    project.runpytest("--update-golden").assert_outcomes(passed=1)
    assert golden_file(project, "test_a", "test_pass.txt").read_text(encoding="utf-8") == TEXT
    onnx.save(parser.parse_model(MODEL.replace("= {6}", "= {3}")), project.path / "m.onnx")
    result = project.runpytest()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*-y: *Clip(flat, -, 6)", "*+y: *Clip(flat, -, 3)"])


def test_the_plugin_costs_other_projects_nothing(project: pytest.Pytester) -> None:
    """Loaded in every pytest run of an environment, it must not load onnx."""
    project.makepyfile(
        test_a="import sys\n\ndef test_it():\n    assert 'onnx' not in sys.modules\n"
    )
    result = project.run(sys.executable, "-m", "pytest", "-p", "no:hypothesispytest")
    result.assert_outcomes(passed=1)
