"""Files that only their owner can read, and that survive a power cut."""

from __future__ import annotations

import errno
import os
import re
import stat
from pathlib import Path

_OCTAL = re.compile(r"\\([0-7]{3})")
"""How a blank is written in mountinfo."""


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
    # O_NONBLOCK: to open a pipe for writing would wait for a reader
    opened = os.open(path, os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | flags, 0o600)
    try:
        _set_owner(opened, path.parent)
    except BaseException:
        os.close(opened)
        raise
    return opened


def _set_owner(opened: int, directory: Path) -> None:
    found = os.fstat(opened)
    if not stat.S_ISREG(found.st_mode):  # to read from a pipe may take for ever
        raise OSError(errno.EINVAL, "it is no regular file")
    if found.st_nlink > 1:
        raise OSError(errno.EMLINK, os.strerror(errno.EMLINK))
    os.fchmod(opened, 0o600)
    if os.geteuid() == 0:
        owner = directory.stat()
        os.fchown(opened, owner.st_uid, owner.st_gid)


def is_read_only_disk(path: Path, mounts: Path = Path("/proc/self/mountinfo")) -> bool:
    """Whether the file system itself takes no writes, and not only this process's view of it.

    A unit has a view of its own, which stays read-only when the file system is mounted for writing
    again (proc_pid_mountinfo(5); mount_namespaces(7)).  Blocks.  Raises OSError.
    """
    super_options = ""
    longest = -1
    for line in mounts.read_text(errors="surrogateescape").splitlines():
        here, _, disk = line.partition(" - ")
        point = _OCTAL.sub(lambda found: chr(int(found[1], 8)), here.split()[4])
        if len(point) >= longest and path.is_relative_to(point):
            longest, super_options = len(point), disk.split()[-1]
    return "ro" in super_options.split(",")


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
