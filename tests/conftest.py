"""Fixtures for all tests: shared models, one thread for torch; golden is mcugraph.testing's."""

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder of shared models and tools beside the repository."""
    folder = Path(__file__).parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip(f"no folder {folder}")
    return folder


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Seed torch, and let it compute in one thread: the same numbers everywhere."""
    # Most tests do without torch, which takes seconds to load.
    torch = import_module("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)
