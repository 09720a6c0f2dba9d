from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

GOLDEN_TEST = 'import pytest\n\ndef test_text(golden):\n    golden("one\\ntwo\\n")\n'


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makeconftest(Path(__file__).with_name("conftest.py").read_text(encoding="utf-8"))
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
    result.stdout.fnmatch_lines(["*- three", "*+ two"])
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
    project.makepyfile(test_a="def test_it(shared):\n    assert shared.is_dir()\n")
    result = project.runpytest("-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*no folder *shared"])
