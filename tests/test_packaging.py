"""What a user gets from `pip install .`: every file, and a light `import mcugraph.passes`."""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PACKAGES = {"mcugraph": "mcugraph", "passes": "mcugraph/passes", "targets": "mcugraph/targets"}
HEAVY = {"torch", "onnxruntime", "networkx", "rich", "typer", "unicorn", "scipy"}
IMPORT_SECONDS = 0.5
MEASURE = """
import json, sys, time
start = time.process_time()
import mcugraph.passes
seconds = time.process_time() - start
print(json.dumps([seconds, mcugraph.passes.__file__, sorted(sys.modules)]))
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


def pip(*arguments: str | Path) -> None:
    command = [sys.executable, "-m", "pip", *arguments, "--no-index", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def run_installed(folder: Path, *arguments: str) -> str:
    """Run Python with this installation and its dependencies, but without the editable one."""
    path = os.pathsep.join([str(folder), sysconfig.get_path("purelib")])
    done = subprocess.run(
        [sys.executable, "-S", "-P", *arguments],
        env=os.environ | {"PYTHONPATH": path},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_wheel_holds_every_file_of_the_packages(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    inside = {name for name in names if not name.partition("/")[0].endswith(".dist-info")}
    links = {ROOT / "mcugraph" / name for name in PACKAGES}
    expected = {
        f"{place}/{path.relative_to(ROOT / folder).as_posix()}"
        for folder, place in PACKAGES.items()
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and not links & {path, *path.parents}
    }
    assert inside == expected
    assert "mcugraph/targets/cortex-m0.toml" in inside


def test_passes_import_is_light_and_fast(installed: Path) -> None:
    runs = [json.loads(run_installed(installed, "-c", MEASURE)) for _ in range(3)]
    _, place, loaded = runs[0]
    assert Path(place) == installed / "mcugraph/passes/__init__.py"
    assert HEAVY & {name.partition(".")[0] for name in loaded} == set()
    assert min(seconds for seconds, _, _ in runs) < IMPORT_SECONDS


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
