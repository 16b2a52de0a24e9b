"""Changes of files in a directory, by inotify(7): of those that other programs write.

Python's library has no inotify, so libc is called.  It is the directory that is watched, as such
files are replaced by others of their name.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import os
import struct
from collections.abc import Collection, Iterator
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

PAUSE = 0.1
"""Seconds until the queue is read again where all of it was about other files."""

# linux/inotify.h
_MODIFY, _CLOSED, _MOVED_TO, _CREATE, _DELETE = 0x2, 0x8, 0x80, 0x100, 0x200
_OVERFLOW, _IGNORED, _ONLY_DIRECTORY = 0x4000, 0x8000, 0x1000000
_WATCHED = _MODIFY | _CLOSED | _MOVED_TO | _CREATE | _DELETE | _ONLY_DIRECTORY
_EVENT = struct.Struct("=iIII")  # inotify_event: watch, mask, cookie, length of the name
_QUEUE = 64 << 10  # bytes read at once


class FileEvent(NamedTuple):
    """One event.  mask: IN_*.  name: of the file; "" if it is about the directory."""

    mask: int
    name: str


def parse_events(raw: bytes) -> Iterator[FileEvent]:
    """Yield the events in what was read of the queue, as far as they are whole."""
    at = 0
    while at + _EVENT.size <= len(raw):
        _, mask, _, length = _EVENT.unpack_from(raw, at)
        at += _EVENT.size
        if at + length > len(raw):
            return
        name = raw[at : at + length].partition(b"\0")[0]
        yield FileEvent(mask, os.fsdecode(name))
        at += length


class FileChanges:
    """A watch on a directory, a context manager.  Entering raises OSError.

    directory: it must be there, and readable.  names: of the files that count.
    """

    def __init__(self, directory: Path, names: Collection[str]) -> None:
        self._directory, self._names = directory, frozenset(names)
        self._queue = -1

    def __enter__(self) -> Self:
        libc = ctypes.CDLL(None, use_errno=True)
        self._queue = _checked(libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC), self._directory)
        try:
            path = os.fsencode(self._directory)
            _checked(libc.inotify_add_watch(self._queue, path, _WATCHED), self._directory)
        except OSError:
            os.close(self._queue)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._queue)

    async def wait(self, seconds: float) -> None:
        """Return when one of the files has changed, or after so many seconds.

        Raises FileNotFoundError if the directory is gone.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._readable()
                while not self._has_changed():
                    await asyncio.sleep(PAUSE)
                    await self._readable()

    def _has_changed(self) -> bool:
        """Read what is on the queue, at most once; return whether it is about one of the files."""
        try:
            events = tuple(parse_events(os.read(self._queue, _QUEUE)))
        except BlockingIOError:
            return False
        if any(one.mask & _IGNORED for one in events):
            raise FileNotFoundError(errno.ENOENT, "the directory is gone", str(self._directory))
        return any(one.mask & _OVERFLOW or one.name in self._names for one in events)

    async def _readable(self) -> None:
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = loop.create_future()
        loop.add_reader(self._queue, _settle, ready)
        try:
            await ready
        finally:
            loop.remove_reader(self._queue)


def _settle(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


def _checked(result: int, path: Path) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(path))
    return result
