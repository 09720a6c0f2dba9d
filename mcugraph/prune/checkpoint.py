"""All that a training would need to go on after the machine was switched off."""

from __future__ import annotations

import os
import pickle
import random
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch

VERSION = 2


def save(path: Path, state: Mapping[str, Any]) -> None:
    """Write a state whole or not at all; what was there before stays until then."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", delete=False) as fresh:
            _write(fresh, path, {"version": VERSION, **state})
    except OSError as error:
        raise ValueError(f"cannot write {path}: {error.strerror or error}") from error


def _write(fresh: IO[bytes], path: Path, state: Mapping[str, Any]) -> None:
    """Fill a file beside `path`, then put it there."""
    try:
        torch.save(state, fresh)
        fresh.flush()
        os.fsync(fresh.fileno())
        os.replace(fresh.name, path)
    finally:
        Path(fresh.name).unlink(missing_ok=True)


def load(path: Path, purpose: Mapping[str, Any]) -> dict[str, Any]:
    """The state of a training for this purpose.

    Raises ValueError where the file is none of ours, or of a training for something else.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise ValueError(f"{path} is no checkpoint; remove it to start anew") from error
    if not isinstance(state, dict) or state.get("version") != VERSION:
        raise ValueError(f"{path} is no checkpoint of this version; remove it to start anew")
    own: dict[str, Any] = state
    differing = [
        f"{name} {own['purpose'].get(name)}, not {wanted}"
        for name, wanted in purpose.items()
        if own["purpose"].get(name) != wanted
    ]
    if differing:
        raise ValueError(
            f"{path} is of another training: {'; '.join(differing)}; ask for the same or remove it"
        )
    return own


def random_states(loader: object) -> dict[str, Any]:
    """The state of every source of randomness, the loader's own among them."""
    numbers = np.random.get_state(legacy=False)
    assert isinstance(numbers, dict), "numpy's default generator"
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
        "python": random.getstate(),
        "numpy": _plain(numbers),
        "loader": [generator.get_state() for generator in _generators(loader)],
    }


def restore_random_states(states: Mapping[str, Any], loader: object) -> None:
    """Go on with the numbers that would have come."""
    torch.set_rng_state(states["torch"])
    if states["cuda"]:
        torch.cuda.set_rng_state_all(states["cuda"])
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])
    for generator, state in zip(_generators(loader), states["loader"], strict=True):
        generator.set_state(state)


def seed_all(seed: int) -> None:
    """Start every source of randomness from a seed, but generators that the user made."""
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % (1 << 32))


def _plain(state: Any) -> Any:
    """Without arrays, which a checkpoint that is safe to read does not hold."""
    if isinstance(state, dict):
        return {name: _plain(value) for name, value in state.items()}
    return state.tolist() if isinstance(state, np.ndarray) else state


def _generators(loader: object) -> Iterable[torch.Generator]:
    """Those that a DataLoader, its samplers and its dataset hold."""
    places = [loader, *(getattr(loader, part, None) for part in ("sampler", "dataset"))]
    found = [getattr(place, "generator", None) for place in places]
    unique = {id(each): each for each in found if isinstance(each, torch.Generator)}
    return list(unique.values())
