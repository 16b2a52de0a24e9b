"""What `gatewayctl vault export` and `import` do: a fleet moves to another gateway.

Secrets and records go together, and only a recovery key opens them.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from gatewayd import statefile
from gatewayd.ctl_vault_rest import AtRest
from gatewayd.errors import ConfigError, GatewayError
from gatewayd.imported import RECORDS, finish, stage
from gatewayd.secretstore import atrest
from gatewayd.secretstore.database import Database
from gatewayd.secretstore.export import Imported, export, import_
from gatewayd.secretstore.recovery import RecoveryKey
from gatewayd.secretstore.upgrade import is_ours, upgrade


def export_all(vault: AtRest) -> bytes:
    """Return everything that another gateway needs.  Raises GatewayError."""
    with vault.locked("store export"), vault.opened() as opened:
        return export(opened, {RECORDS: _records(vault.directory)})


def import_all(vault: AtRest, whole: bytes, key: RecoveryKey) -> tuple[Imported, int]:
    """Take everything in that another gateway had; return the secrets, and how many records.

    Raises GatewayError; then nothing was changed.
    """
    with vault.locked():
        if _count(_records(vault.directory), "WHERE stored > 0"):
            raise GatewayError(f"there are registered children in {vault.directory}: import "
                               "into a gateway that has none")  # fmt: skip
        with vault.opened() as opened, atrest.group(opened):
            told = import_(opened, whole, key)
            records = told.enclosures.get(RECORDS)
            if records is None:
                raise ConfigError("there are no records of children in that export")
            count = _count(records)
            stage(vault.directory, records)
        finish(vault.directory)
        return told, count


def _records(directory: Path) -> bytes:
    """Return the records there are, as the bytes of a file."""
    file = directory / RECORDS
    with closing(Database(file, statefile.SCHEMA, statefile.VERSION, statefile.STEPS)) as opened:
        return opened.snapshot()


def _count(records: bytes, where: str = "") -> int:
    """Count records.  Raises ConfigError where they are of a newer gatewayd, or none of ours."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as file:

        def run(sql: str, /, *values: object) -> list[Any]:
            return file.execute(sql, values).fetchall()

        try:
            file.deserialize(records)
            run("PRAGMA trusted_schema = OFF")
            found = int(run("PRAGMA user_version")[0][0])
            if found > statefile.VERSION:
                raise ConfigError("the export was made by a newer gatewayd: install that one here")
            upgrade(run, statefile.STEPS, found, statefile.VERSION)
            if not is_ours(run, statefile.SCHEMA) or run("PRAGMA integrity_check(1)") != [("ok",)]:
                raise ConfigError("the records in that export are none of gatewayd's")
            return int(run(f"SELECT count(*) FROM record {where}")[0][0])  # noqa: S608  # ours
        except (sqlite3.Error, KeyError) as error:
            raise ConfigError(f"the records in that export are damaged ({error})") from error
