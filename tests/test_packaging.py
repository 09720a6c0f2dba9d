"""What a user gets from `pip install .`: every file, and a light `import mcugraph.passes`."""

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from collections.abc import Iterable
from itertools import chain
from pathlib import Path

import models
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PACKAGES = {"mcugraph": "mcugraph", "passes": "mcugraph/passes", "targets": "mcugraph/targets"}
HEAVY = {"torch", "onnxruntime", "networkx", "rich", "typer", "unicorn", "scipy"}
# Of Python itself, onnx and numpy, too.
IMPORT_SECONDS = 0.5
MEASURE = """
import json, sys, time
import mcugraph.passes
# User and system time since the process began.
print(json.dumps([time.process_time(), mcugraph.passes.__file__, sorted(sys.modules)]))
"""
# What a pass may import; the rest of the environment is not there.
LIBRARIES = ("onnx", "numpy")
DECIDE = """
import sys, onnx
from mcugraph import passes

model = onnx.load(sys.argv[1])
for apply in passes.CLEANUP:
    model = apply(model)
keep = {"a.weight": [0, 3, 4, 7], "c.weight": range(6)}
model = passes.remove_channels(model, keep)
for number, part in enumerate(passes.split_model(model, "relu_7")):
    onnx.save(part, f"{number}.onnx")
onnx.save(passes.cut_depth(model, "relu_7", passes.Head("dscnn", (8, 4), 3)), "cut.onnx")
onnx.save(model, "pruned.onnx")
for name in ("torch", "onnxruntime", "networkx", "onnx_graphsurgeon", "typer"):
    try:
        __import__(name)
    except ModuleNotFoundError:
        print(f"no {name}")
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build from a copy, so that no build folder is left in the tree."""
    source = tmp_path_factory.mktemp("source")
    shutil.copy(ROOT / "pyproject.toml", source)
    shutil.copy(ROOT / "README.md", source)
    unwanted = shutil.ignore_patterns("__pycache__")
    for folder in PACKAGES:
        shutil.copytree(ROOT / folder, source / folder, symlinks=True, ignore=unwanted)
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", source / "dist", source)
    (path,) = (source / "dist").glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("installed")
    pip("install", "--no-deps", "--target", folder, wheel)
    return folder


@pytest.fixture(scope="module")
def empty(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with this wheel, onnx, numpy and what those need, and with nothing else."""
    folder = tmp_path_factory.mktemp("empty")
    pip("install", "--no-deps", "--target", folder, wheel)
    for name in closure(LIBRARIES):
        files = importlib.metadata.files(name) or []
        for part in {file.parts[0] for file in files} - {"..", "__pycache__"}:
            if not (folder / part).exists():
                (folder / part).symlink_to(importlib.metadata.distribution(name).locate_file(part))
    return folder


def closure(names: Iterable[str]) -> set[str]:
    """These distributions and all that they require on this system, extras apart."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            lines = map(Requirement, importlib.metadata.requires(name) or [])
            wanted = [r for r in lines if r.marker is None or r.marker.evaluate({"extra": ""})]
            waiting += [requirement.name for requirement in wanted]
    return found


def pip(*arguments: str | Path) -> None:
    command = [sys.executable, "-m", "pip", *arguments, "--no-index", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def run_installed(folder: Path, *arguments: str) -> str:
    """Run Python with this installation and its dependencies, but without the editable one."""
    return run_with([str(folder), sysconfig.get_path("purelib")], folder, *arguments)


def run_with(path: list[str], here: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-S", "-P", *arguments],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path)},
        cwd=here,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def is_cache(path: Path) -> bool:
    """Whether Python, a linter or a type checker left it here."""
    parts = path.relative_to(ROOT).parts
    return any(part == "__pycache__" or part.startswith(".") for part in parts)


def test_wheel_holds_every_file_of_the_packages(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    inside = {name for name in names if not name.partition("/")[0].endswith(".dist-info")}
    links = {ROOT / "mcugraph" / name for name in PACKAGES}
    expected = {
        f"{place}/{path.relative_to(ROOT / folder).as_posix()}"
        for folder, place in PACKAGES.items()
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and not links & {path, *path.parents} and not is_cache(path)
    }
    assert inside == expected
    assert "mcugraph/targets/cortex-m0.toml" in inside


def test_passes_import_is_light_and_fast(installed: Path) -> None:
    runs = [json.loads(run_installed(installed, "-c", MEASURE)) for _ in range(3)]
    _, place, loaded = runs[0]
    assert Path(place) == installed / "mcugraph/passes/__init__.py"
    assert HEAVY & {name.partition(".")[0] for name in loaded} == set()
    assert min(seconds for seconds, _, _ in runs) < IMPORT_SECONDS


def test_passes_work_in_an_empty_environment(empty: Path, tmp_path: Path) -> None:
    """No extras, no onnxruntime, no torch: onnx and numpy are enough to prune and to cut."""
    model = models.MODELS["residual"]()
    onnx.save(model, tmp_path / "m.onnx")
    printed = run_with([str(empty)], tmp_path, "-c", DECIDE, "m.onnx").splitlines()
    missing = ("torch", "onnxruntime", "networkx", "onnx_graphsurgeon", "typer")
    assert printed == [f"no {name}" for name in missing]
    loaded = {path.stem: onnx.load(path) for path in tmp_path.glob("*.onnx")}
    assert loaded.keys() == {"m", "pruned", "cut", "0", "1"}
    feed = models.random_inputs(model)
    (whole,) = run_model(loaded["pruned"], feed)
    (head,) = run_model(loaded["0"], feed)
    (tail,) = run_model(loaded["1"], {loaded["1"].graph.input[0].name: head})
    np.testing.assert_allclose(whole, tail, rtol=1e-5)
    weights = {tensor.name: tuple(tensor.dims) for tensor in loaded["pruned"].graph.initializer}
    assert (weights["a.weight"], weights["fc.weight"]) == ((4, 8, 3, 3), (5, 6))
    assert run_model(loaded["cut"], feed)[0].shape == (1, 3)


def run_model(model: onnx.ModelProto, feed: dict[str, models.Array]) -> list[models.Array]:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return list(session.run(None, feed))


def test_targets_read_their_data_when_installed(installed: Path) -> None:
    code = "import importlib.resources as r; print(r.files('mcugraph.targets') / 'cortex-m0.toml')"
    place = Path(run_installed(installed, "-c", code).strip())
    assert place.is_relative_to(installed)
    assert place.is_file()


def test_command_starts_when_installed(installed: Path) -> None:
    text = run_installed(installed, str(installed / "bin" / "mcugraph"), "--help")
    assert "optimize" in text


def test_every_dependency_is_pinned_to_an_allowed_version() -> None:
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    pins = dict(re.findall(r"^([a-z0-9-]+)==(\S+)$", text, flags=re.MULTILINE))
    assert len(pins) == sum(1 for line in text.splitlines() if line and line[0] != "#")
    groups = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    required = [Requirement(line) for line in chain(*groups) if not line.startswith("mcugraph[")]
    assert [r.name for r in required if r.name not in pins] == []
    assert [str(r) for r in required if not r.specifier.contains(pins[r.name])] == []
