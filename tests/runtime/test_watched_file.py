"""Files are read again when their content has changed, and only then."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from gatewayd.runtime import watched_file
from gatewayd.runtime.watched_file import WatchedFile, WatchedPaths, read_regular


def rewrite(path: Path) -> None:
    path.write_bytes(b"new")


def rewrite_and_set_the_time_back(path: Path) -> None:
    before = path.stat()
    path.write_bytes(b"new")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(b"new")
    other.rename(path)


def remove_and_make(path: Path) -> None:
    path.unlink()
    path.write_bytes(b"new")


def link(path: Path) -> None:
    target = path.with_name("target")
    target.write_bytes(b"new")
    path.unlink()
    path.symlink_to(target)


CHANGES = [rewrite, rewrite_and_set_the_time_back, replace, remove_and_make, link]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "file"
    made.write_bytes(b"old")
    return made


@pytest.mark.parametrize("change", CHANGES)
def test_another_content_is_seen_however_it_came(
    path: Path, change: Callable[[Path], None]
) -> None:
    file, paths = WatchedFile(path), WatchedPaths()
    assert file.changed() == b"old"
    assert paths.changed([path]) == set()
    change(path)
    assert file.changed() == b"new"
    assert paths.changed([path]) == {path}
    assert file.changed() is None
    assert paths.changed([path]) == set()


def test_the_same_content_has_not_changed(path: Path) -> None:
    file, paths = WatchedFile(path), WatchedPaths()
    file.changed(), paths.changed([path])
    path.touch()
    shutil.copy(path, path.with_name("other"))
    path.with_name("other").rename(path)
    assert file.changed() is None
    assert paths.changed([path]) == set()


def test_what_comes_and_goes_has_changed(path: Path) -> None:
    file, paths = WatchedFile(path), WatchedPaths()
    file.changed(), paths.changed([path])
    path.unlink()
    with pytest.raises(FileNotFoundError):
        file.changed()
    assert paths.changed([path]) == {path}
    path.write_bytes(b"old")
    assert file.changed() == b"old"
    assert paths.changed([path]) == {path}


def test_what_was_not_asked_for_before_has_not_changed(path: Path) -> None:
    paths = WatchedPaths()
    paths.changed([])
    assert paths.changed([path]) == set()


def test_a_directory_has_changed_with_any_of_its_files(tmp_path: Path) -> None:
    paths, child = WatchedPaths(), tmp_path / "child"
    child.write_bytes(b"old")
    (tmp_path / "dangling").symlink_to(tmp_path / "gone")
    assert paths.changed([tmp_path]) == set()
    assert paths.changed([tmp_path]) == set()
    replace(child)
    assert paths.changed([tmp_path]) == {tmp_path}
    (tmp_path / "another").touch()
    assert paths.changed([tmp_path]) == {tmp_path}


def test_a_directory_of_many_files_is_looked_at_up_to_a_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at: list[str] = []
    real = watched_file._facts

    def facts(entry: os.DirEntry[str]) -> tuple[object, ...]:
        looked_at.append(entry.name)
        return real(entry)

    monkeypatch.setattr(watched_file, "MAX_ENTRIES", 5)
    monkeypatch.setattr(watched_file, "_facts", facts)
    for number in range(20):
        (tmp_path / str(number)).touch()
    WatchedPaths().changed([tmp_path])
    assert len(looked_at) == 5


def test_only_a_regular_file_of_a_bounded_size_is_read(path: Path) -> None:
    pipe = path.with_name("pipe")
    os.mkfifo(pipe)
    for other in (pipe, path.parent, Path("/dev/zero")):
        with pytest.raises(OSError, match=r"regular|directory"):
            read_regular(other)
    assert read_regular(path, 3) == b"old"
    with pytest.raises(OSError, match="larger than 2 bytes"):
        read_regular(path, 2)
