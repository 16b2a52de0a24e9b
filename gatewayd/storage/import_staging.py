"""The records of an import, staged beside state.db until the secrets are durable.

An import changes two files.  The records are staged first, then the secrets are committed, then
the records are put in their place.  After an interruption the vault shows how far the import came,
as an import is into an empty vault.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from gatewayd.errors import StoreUnavailable
from gatewayd.runtime.private_files import sync_directory, write_private

RECORDS = "state.db"
"""The file of the records, and the name under which they are enclosed in an export."""

STAGED = f"{RECORDS}.imported"


def stage_records(directory: Path, records: bytes) -> None:
    """Write records beside those that they will replace.  Raises StoreUnavailable."""
    try:
        write_private(directory / STAGED, records)
    except OSError as error:
        raise _failed(directory, error) from error


def finish_import(directory: Path) -> None:
    """Put staged records in their place: the secrets are durable.  Raises StoreUnavailable.

    state.db must not be open, and nothing of it may wait in a log beside it.
    """
    try:
        (directory / STAGED).rename(directory / RECORDS)
        sync_directory(directory)
    except OSError as error:
        raise _failed(directory, error) from error


def recover_import(directory: Path) -> None:
    """Finish an interrupted import, or undo it.  Raises StoreUnavailable.

    The caller has the lock of the directory.
    """
    if not (directory / STAGED).exists():
        return
    if _holds_secrets(directory / "vault.db"):
        finish_import(directory)
    else:
        (directory / STAGED).unlink()


def _holds_secrets(vault: Path) -> bool:
    if not vault.exists():
        return False
    try:
        with closing(sqlite3.connect(vault)) as file:
            return bool(file.execute("SELECT 1 FROM secret LIMIT 1").fetchone())
    except sqlite3.Error as error:
        raise StoreUnavailable(f"cannot finish an interrupted import: {vault}: {error}") from error


def _failed(directory: Path, error: OSError) -> StoreUnavailable:
    return StoreUnavailable(f"cannot import records into {directory}: {error.strerror}")
