"""Files that only their owner can read, and that survive a power cut."""

from __future__ import annotations

import errno
import os
from pathlib import Path


def make_private(path: Path) -> None:
    """Create a private file where it does not exist, and make its name durable.

    Its directory is made with mode 0700.  Raises OSError.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.close(private_file(path, os.O_RDWR))
    sync_directory(path.parent)


def private_file(path: Path, flags: int) -> int:
    """Open a file with mode 0600, and create it where it does not exist.

    flags: of open(2), besides.  A file that root creates belongs to the owner of the directory, as
    the service does not run as root; so root follows no link that the service could have made.
    Raises OSError.
    """
    opened = os.open(path, os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | flags, 0o600)
    try:
        _set_owner(opened, path.parent)
    except BaseException:
        os.close(opened)
        raise
    return opened


def _set_owner(opened: int, directory: Path) -> None:
    if os.fstat(opened).st_nlink > 1:
        raise OSError(errno.EMLINK, os.strerror(errno.EMLINK))
    os.fchmod(opened, 0o600)
    if os.geteuid() == 0:
        owner = directory.stat()
        os.fchown(opened, owner.st_uid, owner.st_gid)


def write_private(path: Path, content: bytes) -> None:
    """Write a file: a power cut leaves all of it or nothing.  Raises OSError."""
    unfinished = path.with_name(f"{path.name}.new")
    unfinished.unlink(missing_ok=True)
    try:
        with open(private_file(unfinished, os.O_EXCL | os.O_WRONLY), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        unfinished.rename(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)  # half a file is of no use, and takes space
        raise
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Make the names in a directory durable.  Raises OSError."""
    opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
