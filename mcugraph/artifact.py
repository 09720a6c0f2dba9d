"""What a compilation gives: files and figures, and the one place that writes them."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from onnx import ModelProto

from mcugraph.report import Report

REPORT = "report.json"


@dataclass(frozen=True)
class Artifact:
    """The emitted files by name, and the report."""

    files: Mapping[str, bytes]
    report: Report

    def write(self, folder: str | Path) -> Path:
        """Write all files, or none; a folder that we wrote before is replaced.

        Raises ValueError where the folder is a file, is not writable, or holds files of others.
        """
        target = writable(folder)
        names = sorted([*self.files, REPORT])
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            fresh = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        except OSError as error:
            raise ValueError(f"cannot write {target}: {error.strerror or error}") from error
        try:
            fresh.chmod(0o755)
            for name, content in self.files.items():
                (fresh / name).write_bytes(content)
            text = json.dumps({**self.report.as_json(), "files": names}, indent=1)
            (fresh / REPORT).write_text(text + "\n", encoding="utf-8")
            _replace(target, fresh)
        except OSError as error:
            raise ValueError(f"cannot write {target}: {error.strerror or error}") from error
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
        return target


def write_models(models: Mapping[Path, ModelProto]) -> None:
    """Write ONNX files, all or none; ValueError where one can't be written."""
    write_all({path: model.SerializeToString(deterministic=True) for path, model in models.items()})


def write_all(files: Mapping[Path, bytes]) -> None:
    """Write files, each whole, all or none; ValueError where one can't be written."""
    for path in files:
        expect_file(path)
    fresh: dict[Path, Path] = {}
    try:
        for path, content in files.items():
            handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
            fresh[path] = Path(name)
            with open(handle, "wb") as file:
                file.write(content)
            fresh[path].chmod(0o644)
        for path, written in fresh.items():
            os.replace(written, path)
    except OSError as error:
        raise ValueError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        for written in fresh.values():
            written.unlink(missing_ok=True)


def expect_file(path: Path) -> None:
    """ValueError unless a file can stand there: in a folder, and not in the place of one."""
    if path.is_dir() or not path.parent.is_dir():
        why = "it is a folder" if path.is_dir() else f"there is no folder {path.parent}"
        raise ValueError(f"cannot write {path}: {why}")


def make_folder(folder: Path) -> None:
    """Make a folder where there is none yet; ValueError where that can't be."""
    _standing(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"cannot write {folder}: {error.strerror or error}") from error


def writable(folder: str | Path) -> Path:
    """The real path of an output folder.

    Raises ValueError where it is a file, cannot be made, or holds files of others.
    """
    target = Path(folder).resolve()
    standing = _standing(target)
    if not os.access(standing, os.W_OK | os.X_OK):
        raise ValueError(f"cannot write {target}: no permission to write into {standing}")
    if standing == target:
        _refuse_foreign(target)
    return target


def _standing(folder: Path) -> Path:
    """The folder itself, or the nearest one above that is there; ValueError where it is a file."""
    found = next(path for path in (folder, *folder.parents) if path.exists())
    if not found.is_dir():
        raise ValueError(f"cannot write {folder}: {found} is a file; choose a folder with -o")
    return found


def read_report(folder: str | Path) -> dict[str, object]:
    """The report of a folder that we wrote; ValueError where it is none."""
    path = Path(folder) / REPORT
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{folder} was not written by mcugraph optimize: no {REPORT}") from error
    if not isinstance(report, dict) or "schema_version" not in report:
        raise ValueError(f"{path} is not a report of mcugraph")
    return report


def _refuse_foreign(folder: Path) -> None:
    present = {path.name for path in folder.iterdir()}
    own = read_report(folder).get("files") if REPORT in present else []
    foreign = sorted(name for name in present if not isinstance(own, list) or name not in own)
    if foreign:
        names = ", ".join(foreign[:5])
        raise ValueError(f"{folder} holds files of others ({names}); choose another with -o")


def _replace(folder: Path, fresh: Path) -> None:
    """Put the fresh folder in the place of the old one."""
    old = fresh.with_name(fresh.name + "-old")
    if folder.exists():
        folder.rename(old)
    try:
        os.rename(fresh, folder)
    except BaseException:
        if old.exists():
            old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)
