"""Files that only their owner can read."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from gatewayd.runtime.private_files import (
    is_read_only_disk,
    make_private,
    private_file,
    write_private,
)


def test_a_private_file_is_made_with_its_directory(tmp_path: Path) -> None:
    path = tmp_path / "new/file"
    make_private(path)
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)


MOUNTS = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/root ro,errors=remount-ro
40 22 8:2 / /var rw - ext4 /dev/sda2 rw
41 40 8:2 /x /var/lib/small\\040disk ro,relatime master:3 - ext4 /dev/sda2 rw,discard
42 40 0:9 / /var/lib/gone rw - tmpfs tmpfs rw,size=8m
43 40 0:9 / /var/lib/gone ro - tmpfs tmpfs ro,size=8m
"""


@pytest.mark.parametrize(
    ("path", "read_only"),
    [
        ("/etc", True),
        ("/var/lib/gatewayd", False),
        ("/variable", True),
        ("/var/lib/small disk/state", False),
        ("/var/lib/gone/state", True),
    ],
)
def test_a_disk_is_read_only_by_its_file_system_and_not_by_a_view_of_it(
    tmp_path: Path, path: str, read_only: bool
) -> None:
    (tmp_path / "mountinfo").write_text(MOUNTS)
    assert is_read_only_disk(Path(path), tmp_path / "mountinfo") is read_only
    assert not is_read_only_disk(tmp_path)


def test_what_was_written_replaces_the_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"before")
    write_private(path, b"after")
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"after", 0o600)


def test_what_could_not_be_written_leaves_no_half_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "file").write_bytes(b"before")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_private(tmp_path / "file", b"after")
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("file", b"before")]


@pytest.mark.parametrize("flags", [os.O_RDWR, os.O_WRONLY])
def test_a_pipe_in_the_place_of_a_file_is_refused_at_once(tmp_path: Path, flags: int) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with pytest.raises(OSError, match=r"regular file|No such device"):
        private_file(path, flags)
