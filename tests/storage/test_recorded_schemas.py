"""Every schema that a gateway may have on its disk, as it was written then, leads to the present.

recorded_schemas.json has the statements of each version, from the commits that had them.  A change
of a schema gets a number, a step and a record; without them, gateways cannot be upgraded.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gatewayd.errors import ConfigError
from gatewayd.messages.outbox import file as outbox
from gatewayd.messages.outbox.file import OutboxFile
from gatewayd.runtime.sqlite import Database, Migrations, has_schema, statements_of
from gatewayd.secretstore.keyring import index
from gatewayd.secretstore.keyring.index import EntryState, KeyringIndex
from gatewayd.secretstore.vault import schema as vault
from gatewayd.storage import records
from gatewayd.storage.records import RecordDatabase

RECORDED: Mapping[str, Mapping[str, Sequence[str]]] = json.loads(
    Path(__file__).with_name("recorded_schemas.json").read_text()
)


@dataclass(frozen=True)
class Present:
    """What this version makes of a file.  open: None where the file alone cannot be opened."""

    schema: Sequence[str]
    version: int
    steps: Migrations
    open: Callable[[Path], Database] | None = None


PRESENT: Mapping[str, Present] = {
    "state.db": Present(records.SCHEMA, records.VERSION, records.STEPS, RecordDatabase),
    "vault.db": Present(vault.SCHEMA, vault.VERSION, vault.STEPS),
    "keyring.db": Present(index.SCHEMA, index.VERSION, index.STEPS, KeyringIndex),
    "messages.db": Present(outbox.SCHEMA, outbox.VERSION, outbox.MIGRATIONS, OutboxFile),
}
EACH = [(name, int(version)) for name, versions in RECORDED.items() for version in versions]
OPENED = [(name, version) for name, version in EACH if PRESENT[name].open]


def made(statements: Sequence[str], file: str | Path = ":memory:") -> sqlite3.Connection:
    connection = sqlite3.connect(file)
    for statement in statements:
        connection.execute(statement)
    return connection


def run_of(connection: sqlite3.Connection) -> Callable[..., list[Any]]:
    return lambda sql, *values: connection.execute(sql, values).fetchall()


def write(file: Path, name: str, version: int) -> None:
    """Write a file as the version of that time did."""
    with closing(made(RECORDED[name][str(version)], file)) as connection:
        connection.execute(f"PRAGMA user_version = {version}")
    file.chmod(0o600)


@pytest.mark.parametrize("name", PRESENT)
def test_the_present_schema_is_recorded(name: str) -> None:
    """One that was changed without a new number would be refused on every gateway."""
    present = PRESENT[name]
    recorded = RECORDED[name].get(str(present.version))
    assert recorded, f"put the statements of version {present.version} into recorded_schemas.json"
    with closing(made(recorded)) as connection:
        assert has_schema(run_of(connection), present.schema), f"give {name} a new version"


@pytest.mark.parametrize(("name", "version"), EACH)
def test_the_steps_know_the_schema_of_then(name: str, version: int) -> None:
    with closing(made(RECORDED[name][str(version)])) as connection:
        assert has_schema(run_of(connection), statements_of(PRESENT[name].steps, version))


@pytest.mark.parametrize(("name", "version"), OPENED)
def test_a_file_of_then_is_opened_and_its_copy_kept(
    name: str, version: int, tmp_path: Path
) -> None:
    present = PRESENT[name]
    assert present.open is not None
    write(tmp_path / name, name, version)
    present.open(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / name)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (present.version,)
        assert has_schema(run_of(connection), present.schema)
    assert (tmp_path / f"{name}.v{version}").exists() is (version < present.version)


@pytest.mark.parametrize("name", [name for name, present in PRESENT.items() if present.open])
def test_a_file_of_a_newer_version_is_refused_with_a_sentence(name: str, tmp_path: Path) -> None:
    present = PRESENT[name]
    assert present.open is not None
    write(tmp_path / name, name, present.version)
    with closing(sqlite3.connect(tmp_path / name)) as connection:
        connection.execute(f"PRAGMA user_version = {present.version + 1}")
    with pytest.raises(ConfigError, match=rf"{name} was written by a newer gatewayd"):
        present.open(tmp_path)


def test_entries_of_a_keyring_are_what_they_were(tmp_path: Path) -> None:
    """The first version had other words for their states; files of both kinds are there."""
    former = {"intended": "intended", "held": "stored", "aside": "quarantined",
              "doomed": "deleting", "stored": "stored"}  # fmt: skip
    file = tmp_path / "keyring.db"
    write(file, "keyring.db", 1)
    with closing(sqlite3.connect(file)) as connection, connection:
        for state in former:
            connection.execute(
                "INSERT INTO slot (service, username, entry, state, why) VALUES ('s', ?, ?, ?, '')",
                (state, state, state),
            )
    with closing(KeyringIndex(tmp_path)) as opened:
        for was, now in former.items():
            assert [was in entry.username for entry in opened.in_state(EntryState(now))].count(True)
        assert {one.username for one in opened.all_live()} == {"intended", "held", "stored"}
