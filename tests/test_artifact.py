"""A folder is written completely or not at all, and never over what is not ours."""

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mcugraph.artifact import REPORT, Artifact, read_report, writable
from mcugraph.report import Flash, Ram, Report


def made(**files: bytes) -> Artifact:
    report = Report(
        schema_version=1,
        model="net",
        target="host",
        verdict="FITS host",
        fits=True,
        order="",
        placement="",
        recomputed=None,
        ram=Ram(0, 0, 0, False, 0),
        flash=Flash(0, 0, None, 0),
        macs=0,
        instructions=None,
        cycles=None,
        int8=100,
        compiler=None,
        pushed=False,
        inputs={},
        outputs={},
        steps=(),
        sections=(),
        tensors={},
    )
    return Artifact({name.replace("_", "."): content for name, content in files.items()}, report)


FIRST = made(a_c=b"first", b_h=b"same")
SECOND = made(b_h=b"same", c_c=b"second")


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_all_files_and_the_report_are_written(tmp_path: Path) -> None:
    assert FIRST.write(tmp_path / "deep/er/out") == tmp_path / "deep/er/out"
    assert names(tmp_path / "deep/er/out") == ["a.c", "b.h", REPORT]
    assert names(tmp_path / "deep/er") == ["out"]
    assert (tmp_path / "deep/er/out/a.c").read_bytes() == b"first"
    assert read_report(tmp_path / "deep/er/out")["files"] == ["a.c", "b.h", REPORT]


def test_others_may_read_the_folder(tmp_path: Path) -> None:
    folder = FIRST.write(tmp_path / "out")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755


@pytest.mark.parametrize("empty", [True, False])
def test_an_empty_folder_and_our_own_are_replaced(tmp_path: Path, empty: bool) -> None:
    if empty:
        (tmp_path / "out").mkdir()
    else:
        FIRST.write(tmp_path / "out")
    SECOND.write(tmp_path / "out")
    assert names(tmp_path / "out") == ["b.h", "c.c", REPORT]
    assert names(tmp_path) == ["out"]


def test_a_folder_that_lost_files_is_still_ours(tmp_path: Path) -> None:
    FIRST.write(tmp_path / "out")
    (tmp_path / "out/a.c").unlink()
    SECOND.write(tmp_path / "out")
    assert names(tmp_path / "out") == ["b.h", "c.c", REPORT]


def test_a_relative_folder_is_found_from_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert FIRST.write("build/../out") == tmp_path / "out"
    assert names(tmp_path / "out") == ["a.c", "b.h", REPORT]


def test_a_link_to_a_folder_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    for artifact in (FIRST, SECOND):
        assert artifact.write(tmp_path / "link") == tmp_path / "real"
    assert (tmp_path / "link").is_symlink()
    assert names(tmp_path / "real") == ["b.h", "c.c", REPORT]
    assert names(tmp_path) == ["link", "real"]


def test_a_link_to_nothing_is_followed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("later")
    FIRST.write(tmp_path / "link")
    assert (tmp_path / "later/a.c").exists()


def put_file(folder: Path) -> None:
    (folder / "mine.c").write_text("mine")


def put_folder(folder: Path) -> None:
    (folder / "sub").mkdir()


def put_broken_report(folder: Path) -> None:
    (folder / REPORT).write_text("{")


def put_foreign_report(folder: Path) -> None:
    (folder / REPORT).write_text('{"files": ["report.json"]}')


def put_strange_list(folder: Path) -> None:
    (folder / REPORT).write_text('{"schema_version": 1, "files": [["report.json"], 3]}')


def put_no_list(folder: Path) -> None:
    (folder / REPORT).write_text('{"schema_version": 1, "files": "report.json"}')


@pytest.mark.parametrize("ours", [True, False])
@pytest.mark.parametrize("put", [put_file, put_folder])
def test_files_of_others_are_never_touched(
    tmp_path: Path, ours: bool, put: Callable[[Path], None]
) -> None:
    folder = tmp_path / "out"
    if ours:
        FIRST.write(folder)
    else:
        folder.mkdir()
    put(folder)
    before = tree(tmp_path)
    for attempt in (writable, SECOND.write):
        with pytest.raises(ValueError, match=r"holds files of others \((mine.c|sub)\)"):
            attempt(folder)
    assert tree(tmp_path) == before
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize(
    "put", [put_broken_report, put_foreign_report, put_strange_list, put_no_list]
)
def test_a_report_that_is_not_ours_protects_its_folder(
    tmp_path: Path, put: Callable[[Path], None]
) -> None:
    put(tmp_path)
    before = tree(tmp_path)
    with pytest.raises(ValueError, match=r"others|mcugraph"):
        SECOND.write(tmp_path)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("below", ["", "/deep/er"])
def test_a_file_in_the_way_is_named(tmp_path: Path, below: str) -> None:
    (tmp_path / "out").write_text("mine")
    for attempt in (writable, FIRST.write):
        with pytest.raises(ValueError, match="out is a file; choose a folder with -o"):
            attempt(f"{tmp_path}/out{below}")
    assert tree(tmp_path) == {"out": b"mine"}


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(ValueError, match="no permission to write into"):
        FIRST.write(tmp_path / "out")
    tmp_path.chmod(0o700)
    assert names(tmp_path) == []


def test_a_denied_permission_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(ValueError, match=f"no permission to write into {tmp_path}"):
        FIRST.write(tmp_path / "out")
    assert names(tmp_path) == []


def failing(after: int, error: BaseException) -> Callable[..., Any]:
    """Let a few calls of a function pass, then fail once."""
    calls: Iterator[int] = iter(range(1000))

    def call(real: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        if next(calls) == after:
            raise error
        return real(*arguments, **named)

    return call


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize(
    ("old", "failure"),
    [
        *((old, ("write_bytes", after)) for old in (True, False) for after in (0, 1)),
        *((old, (place, 0)) for old in (True, False) for place in ("write_text", "rename")),
        (True, ("rename", 1)),
    ],
)
def test_a_failure_leaves_all_as_it_was(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    old: bool,
    failure: tuple[str, int],
) -> None:
    where, after = failure
    if old:
        FIRST.write(tmp_path / "out")
    before = tree(tmp_path)
    spoil(monkeypatch, where, failing(after, error))
    expected = ValueError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected) as caught:
        SECOND.write(tmp_path / "out")
    if expected is ValueError:
        assert str(caught.value) == f"cannot write {tmp_path}/out: No space left on device"
    monkeypatch.undo()
    assert tree(tmp_path) == before
    assert names(tmp_path) == (["out"] if old else [])


def spoil(monkeypatch: pytest.MonkeyPatch, where: str, fail: Callable[..., Any]) -> None:
    if where == "rename":
        real = os.rename
        monkeypatch.setattr(os, "rename", lambda *given: fail(real, *given))
        return
    method = getattr(Path, where)
    monkeypatch.setattr(Path, where, lambda *a, **k: fail(method, *a, **k))


def test_what_is_no_folder_of_ours_has_no_report(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="was not written by mcugraph optimize"):
        read_report(tmp_path)
    (tmp_path / REPORT).write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="was not written by mcugraph optimize"):
        read_report(tmp_path)
    (tmp_path / REPORT).write_text("[1]")
    with pytest.raises(ValueError, match="is not a report of mcugraph"):
        read_report(tmp_path)
