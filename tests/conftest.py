"""Fixtures for all tests: the folder of shared models; golden files are mcugraph.testing's."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder of shared models and tools beside the repository."""
    folder = Path(__file__).parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip(f"no folder {folder}")
    return folder
