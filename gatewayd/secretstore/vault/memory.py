"""Keys in memory: a page that is not swapped, not dumped, and wiped at the end."""

from __future__ import annotations

import ctypes
import logging
import mmap

log = logging.getLogger(__name__)

PR_SET_DUMPABLE = 4


class KeyPage:
    """A page of memory that holds one key.

    Where the kernel refuses to lock the page (RLIMIT_MEMLOCK), it is used all the same: the
    service forbids swap for itself as well.
    """

    def __init__(self, key: bytes) -> None:
        self._page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._page.madvise(mmap.MADV_DONTDUMP)
        if not _lock(self._page):
            log.debug("The kernel refuses to lock the page of the key.")
        self.key = memoryview(self._page)[: len(key)]
        self.key[:] = key

    def wipe(self) -> None:
        """Overwrite the key.  Wiping twice is fine."""
        if not self._page.closed:
            self.key[:] = bytes(len(self.key))
            self.key.release()
            self._page.close()


def protect_memory() -> None:
    """Keep the process from core dumps, and from others of the same user (prctl(2))."""
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def _lock(page: mmap.mmap) -> bool:
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    libc = ctypes.CDLL(None, use_errno=True)
    return bool(libc.mlock(ctypes.c_void_p(address), ctypes.c_size_t(len(page))) == 0)
