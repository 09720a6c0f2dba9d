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
    """Write ONNX files, each whole or not at all; ValueError where one can't be written."""
    for path, model in models.items():
        if path.is_dir() or not path.parent.is_dir():
            why = "it is a folder" if path.is_dir() else f"there is no folder {path.parent}"
            raise ValueError(f"cannot write {path}: {why}")
        content = model.SerializeToString(deterministic=True)
        try:
            with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as fresh:
                fresh.write(content)
            Path(fresh.name).chmod(0o644)
            os.replace(fresh.name, path)
        except OSError as error:
            raise ValueError(f"cannot write {path}: {error.strerror or error}") from error


def writable(folder: str | Path) -> Path:
    """The real path of an output folder.

    Raises ValueError where it is a file, cannot be made, or holds files of others.
    """
    target = Path(folder).resolve()
    standing = next(path for path in (target, *target.parents) if path.exists())
    if not standing.is_dir():
        raise ValueError(f"cannot write {target}: {standing} is a file; choose a folder with -o")
    if not os.access(standing, os.W_OK | os.X_OK):
        raise ValueError(f"cannot write {target}: no permission to write into {standing}")
    if standing == target:
        _refuse_foreign(target)
    return target


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
