"""Files that are read again when their content has changed.

A file may be replaced, rewritten in place, or come and go; and it may be anything: a pipe in its
place must not block, nor a file without an end fill the memory.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

MAX_BYTES = 8 << 20
"""Bytes of a file that are compared, and bytes that are read unless less is asked for."""

MAX_ENTRIES = 10_000
"""Entries of a directory that are compared."""

MISSING = b""
"""The digest of what cannot be read."""


def read_regular(path: Path, most: int = MAX_BYTES) -> bytes:
    """Return the content of a regular file of at most `most` bytes.  Blocks.

    Raises OSError, whose strerror says what is wrong.
    """
    # O_NONBLOCK: a pipe in this place must not block before the check what it is
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(errno.EFBIG, f"larger than {most} bytes", str(path))
    return content


class WatchedFile:
    """A file whose content is handed out when it is not the same as before.

    It is compared by content: a time of modification has the grain of a timer tick, and can be set
    back.  Used by one thread at a time.  most: bytes that are read.
    """

    def __init__(self, path: Path, most: int = MAX_BYTES) -> None:
        self.path, self._most = path, most
        self._digest = MISSING

    def changed(self) -> bytes | None:
        """Return the content; None if it is that of the last call.  Blocks.

        Raises OSError; then the next content that can be read counts as changed.
        """
        before, self._digest = self._digest, MISSING
        content = read_regular(self.path, self._most)
        self._digest = hashlib.sha256(content).digest()
        return None if self._digest == before else content


class WatchedPaths:
    """Paths of files and directories, and what they held when they were last looked at.

    Only digests are kept.  Used by one thread at a time.
    """

    def __init__(self) -> None:
        self._digests: dict[Path, bytes] = {}

    def changed(self, paths: Iterable[Path]) -> set[Path]:
        """Return those whose content is not that of the last call, with the same paths or others.

        What comes or goes has changed; what was not asked for before has not.  Blocks.
        """
        before, self._digests = self._digests, {path: _digest(path) for path in paths}
        return {p for p, digest in self._digests.items() if before.get(p, digest) != digest}


def _digest(path: Path) -> bytes:
    """Return a digest of a file's content, or of what a directory lists."""
    try:
        if path.is_dir():
            return hashlib.sha256(_listing(path)).digest()
        return hashlib.sha256(read_regular(path)).digest()
    except OSError:
        return MISSING


def _listing(directory: Path) -> bytes:
    """Return name, size and times of each entry: a directory may hold thousands of files."""
    with os.scandir(directory) as entries:
        return repr(sorted(map(_facts, islice(entries, MAX_ENTRIES)))).encode()


def _facts(entry: os.DirEntry[str]) -> tuple[object, ...]:
    try:
        found = entry.stat()
    except OSError:  # a dangling link
        return (entry.name,)
    return entry.name, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
