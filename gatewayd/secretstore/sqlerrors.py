"""What SQLite raises, as one of our errors."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from gatewayd.errors import StoreError, StoreFull, StoreUnavailable

_PRIMARY = 0xFF  # the low byte of an extended result code (sqlite.org/rescode.html)
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def told(path: Path, error: sqlite3.Error) -> StoreError:
    """Return the error of ours.  path: of the file."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & _PRIMARY
    if code == sqlite3.SQLITE_FULL:
        return StoreFull(f"the disk is full: {path} cannot grow")
    if code in _DAMAGED:
        return damaged(path, str(error))
    return StoreUnavailable(f"{path}: {error}")


def damaged(path: Path, why: str) -> StoreError:
    """Return what to raise for a file that is not as it should be."""
    return StoreError(f"{path} is damaged ({why}): nothing was changed; restore it from a backup")
