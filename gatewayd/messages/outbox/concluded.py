"""What the clouds have, and the outbox has still to delete: a kill of gatewayd repeats none of it.

Deletes ride with what is stored next, since each commit wears the disk.  Until then a note says
what needs no sending any more, outside the file and without an fsync: the kernel keeps it when the
process is killed.  With the power the note is lost, too; then some messages come twice.
"""

from __future__ import annotations

import logging
import os
import struct
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from gatewayd.messages.outbox.file import StoredMessage
from gatewayd.runtime.private_files import private_file

log = logging.getLogger(__name__)

NAME = "messages.concluded"
SLOTS = 8192
"""Messages that are noted; those before them are overwritten.  Deletes wait for a second at most,
and for fewer messages than this, unless the disk cannot be written."""
_SLOT = struct.Struct("<qq")
_EMPTY = (0, 0)

Note = tuple[int, int]
"""Number and time of arrival of a message, as they are stored: numbers alone are used again where
an outbox is replaced."""


class ConcludedMessages:
    """The notes of what is concluded: the cloud has it, or has refused it.

    directory: best on no disk, as /run is; missing or full, nothing is noted, and that is logged.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / NAME
        self._file = -1
        self._count = 0

    def begin(self) -> list[Note]:
        """Open the notes; return those of an earlier run, and keep them no longer.  Blocks."""
        self.close()
        try:
            self._file = private_file(self._path, os.O_RDWR)
            content = os.pread(self._file, SLOTS * _SLOT.size, 0)
            os.ftruncate(self._file, 0)
        except OSError as error:
            self._fail(error)
            return []
        whole = len(content) - len(content) % _SLOT.size
        return [note for note in _SLOT.iter_unpack(content[:whole]) if note != _EMPTY]

    def add(self, message: StoredMessage) -> None:
        """Note a message."""
        self._write((message.number, message.at))

    def keep(self, notes: Iterable[Note]) -> None:
        """Note again what an earlier run has noted, and not deleted."""
        for note in notes:
            self._write(note)

    def end(self) -> None:
        """Remove the notes: all that they name is deleted.  Blocks."""
        with suppress(OSError):
            self._path.unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        """Write no more; twice is fine."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _write(self, note: Note) -> None:
        if self._file < 0:
            return
        try:
            os.pwrite(self._file, _SLOT.pack(*note), self._count % SLOTS * _SLOT.size)
        except OSError as error:
            self._fail(error)
            return
        self._count += 1

    def _fail(self, error: OSError) -> None:
        """Note nothing from now on."""
        log.warning(
            "%s cannot be used: %s. If gatewayd is killed, what was sent last is sent again.",
            self._path, error.strerror,
        )  # fmt: skip
        self.close()
