"""The records of an import, staged beside state.db until the secrets are durable.

An import changes two files, and those of BESIDE.  The records are staged first, then the secrets
are committed, then the records are put in their place.  After an interruption the vault shows how
far the import came, as an import is into an empty vault.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing, suppress
from pathlib import Path

from gatewayd.errors import StoreUnavailable
from gatewayd.runtime.private_files import sync_directory, write_private
from gatewayd.runtime.watched_file import read_regular

RECORDS = "state.db"
"""The file of the records, and the name under which they are enclosed in an export."""

BESIDE = ("broker-users.json",)
"""Files of the state directory that move with the records, and are enclosed by these names: the
users of gatewayd's broker, without whom every child that speaks would need another password."""
MOST_BESIDE = 32 << 20
"""Bytes of one of them, at most."""

STAGED = f"{RECORDS}.imported"


def beside(directory: Path) -> dict[str, bytes]:
    """Return what moves with the records, by name.  Raises StoreUnavailable."""
    found = {}
    for name in BESIDE:
        try:
            found[name] = read_regular(directory / name, MOST_BESIDE)
        except FileNotFoundError:
            continue
        except OSError as error:
            why = f"cannot export {directory / name}: {error.strerror}"
            raise StoreUnavailable(why) from error
    return found


def stage_records(directory: Path, records: bytes, others: Mapping[str, bytes]) -> None:
    """Write records beside those that they will replace.  Raises StoreUnavailable.

    others: what moves with them; of other names than BESIDE, nothing is written.
    """
    try:
        for name in BESIDE:
            if name in others:
                write_private(_staged(directory, name), others[name])
        write_private(directory / STAGED, records)
    except OSError as error:
        raise _failed(directory, error) from error


def finish_import(directory: Path) -> None:
    """Put staged records in their place: the secrets are durable.  Raises StoreUnavailable.

    state.db must not be open, and nothing of it may wait in a log beside it.
    """
    try:
        for name in BESIDE:
            with suppress(FileNotFoundError):
                _staged(directory, name).rename(directory / name)
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
        for name in (*BESIDE, RECORDS):
            _staged(directory, name).unlink(missing_ok=True)


def _staged(directory: Path, name: str) -> Path:
    return directory / f"{name}.imported"


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
