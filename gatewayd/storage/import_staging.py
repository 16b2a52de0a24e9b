"""Records of children that came with an import, on their way into the state directory.

An import changes two files.  The records are laid beside state.db first, then the secrets are
committed, then the records take their place.  Whoever finds them lying there knows by the vault
how far it came: an import is into an empty one.
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


def stage(directory: Path, records: bytes) -> None:
    """Lay records beside those that they will replace.  Raises StoreUnavailable."""
    try:
        write_private(directory / STAGED, records)
    except OSError as error:
        raise _failed(directory, error) from error


def finish(directory: Path) -> None:
    """Put staged records in their place: the secrets are there.  Raises StoreUnavailable.

    state.db must not be open, and nothing of it may wait in a log beside it.
    """
    try:
        (directory / STAGED).rename(directory / RECORDS)
        sync_directory(directory)
    except OSError as error:
        raise _failed(directory, error) from error


def settle(directory: Path) -> None:
    """Bring an import to its end that was interrupted: done, or as if never begun.

    To be called by who has the lock of the directory.  Raises StoreUnavailable.
    """
    if not (directory / STAGED).exists():
        return
    if _holds_secrets(directory / "vault.db"):
        finish(directory)
    else:
        (directory / STAGED).unlink()


def _holds_secrets(vault: Path) -> bool:
    if not vault.exists():
        return False
    try:
        with closing(sqlite3.connect(vault)) as file:
            return bool(file.execute("SELECT 1 FROM secret LIMIT 1").fetchone())
    except sqlite3.Error as error:
        raise StoreUnavailable(f"an import was interrupted, and {vault}: {error}") from error


def _failed(directory: Path, error: OSError) -> StoreUnavailable:
    return StoreUnavailable(f"no records can be put into {directory}: {error.strerror}")
