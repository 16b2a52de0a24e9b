"""Space kept free for a full disk: a secret that a cloud has just issued must still fit."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from gatewayd.errors import StoreFull, StoreUnavailable
from gatewayd.runtime.private_files import private_file, sync_directory

SIZE = 1 << 20
"""Bytes: thousands of secrets, or one checkpoint of the log."""

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


class Ballast:
    """A file that only takes space, to be deleted when the disk is full.

    path: beside the database it is kept for.  size: bytes.
    """

    def __init__(self, path: Path, size: int = SIZE) -> None:
        self._path, self._size = path, size

    def fill(self) -> None:
        """Allocate the space, unless it is.  Raises StoreFull, StoreUnavailable."""
        try:
            if not self._is_allocated():
                self._allocate()
        except OSError as error:
            self.free()
            if error.errno in _NO_ROOM:
                raise StoreFull(
                    f"the disk is full: no room for {self._path} ({self._size} bytes): free some"
                ) from error
            raise StoreUnavailable(f"{self._path} cannot be made: {error.strerror}") from error

    def free(self) -> bool:
        """Free the space; False if there was none."""
        try:
            self._path.unlink()
            # ext4 reuses freed blocks only when the deletion is on the disk
            sync_directory(self._path.parent)
        except OSError:
            return False
        return True

    def _is_allocated(self) -> bool:
        """Whether there is nothing to do: the space is taken, on a disk that takes writes."""
        try:
            found = self._path.lstat()
        except FileNotFoundError:
            return False
        is_whole = stat.S_ISREG(found.st_mode) and found.st_size >= self._size
        return is_whole and os.access(self._path, os.W_OK)

    def _allocate(self) -> None:
        opened = private_file(self._path, os.O_WRONLY)
        try:
            os.posix_fallocate(opened, 0, self._size)
        finally:
            os.close(opened)
