"""Fixtures for all tests: golden files and the folder of shared models."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

Golden = Callable[..., None]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden", action="store_true", help="rewrite the golden files from this run"
    )


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    """Return golden(text, suffix=".txt"), which compares text with this test's golden file.

    The file is golden/<test file>/<test name><suffix> beside the test file.
    """
    folder = request.path.parent / "golden" / request.path.stem
    name = re.sub(r"[^\w.=-]+", "-", request.node.name).strip("-")
    seen = set()

    def compare(text: str, suffix: str = ".txt") -> None:
        path = folder / f"{name}{suffix}"
        assert path not in seen, f"{path.name} is compared twice in one test: give it a suffix"
        seen.add(path)
        if request.config.getoption("--update-golden"):
            folder.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", newline="")
        if not path.exists():
            command = f"python -m pytest '{request.node.nodeid}' --update-golden"
            pytest.fail(f"no golden file {path}; write it with: {command}", pytrace=False)
        assert text == path.read_text(encoding="utf-8")

    return compare


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder of shared models and tools beside the repository."""
    folder = Path(__file__).parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip(f"no folder {folder}")
    return folder
