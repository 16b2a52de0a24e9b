"""A vault of the first schema, opened by this gatewayd: all is there, and a way back."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import pytest

from gatewayd.device.secret import Secret
from gatewayd.errors import ConfigError, StoreError, StoreUnavailable
from gatewayd.runtime.sqlite import Migrations, has_schema, statements_of
from gatewayd.secretstore.vault import admin, offline
from gatewayd.secretstore.vault.schema import SCHEMA, STEPS, VERSION
from gatewayd.secretstore.vault.vault import Vault
from gatewayd.storage import records
from gatewayd.testing.contracts.secretstore import REF, group, keep
from tests.support.vaults import DEVELOPMENT

TO_THE_FIRST = """
    ALTER TABLE data_key DROP COLUMN first;
    ALTER TABLE data_key DROP COLUMN made;
    ALTER TABLE data_key DROP COLUMN heir;
    DROP TABLE slot;
    DROP TABLE counter;
    DROP TABLE binding;
    PRAGMA user_version = 1;
"""


@pytest.fixture
def first(tmp_path: Path) -> Path:
    """A directory with a vault as the first gatewayd wrote it."""
    with closing(Vault(DEVELOPMENT, tmp_path)) as vault:
        keep(vault, REF, b"x")
    with closing(sqlite3.connect(tmp_path / "vault.db")) as file:
        file.executescript(TO_THE_FIRST)
    return tmp_path


def tables(file: sqlite3.Connection) -> list[tuple[str, str]]:
    sql = "SELECT name, sql FROM sqlite_schema WHERE type = 'table' ORDER BY name"
    return [(name, "".join(str(text).split())) for name, text in file.execute(sql)]


def test_the_first_schema_leads_to_the_present_one(first: Path) -> None:
    with closing(Vault(DEVELOPMENT, first)) as vault:
        assert vault.get(REF) == Secret(b"x")
        assert admin.report(vault).slots == ("development-file",)
        with group(vault):
            admin.rotate(vault)
        offline.finish_rotation(vault)
        assert vault.get(REF) == Secret(b"x")
    with (
        closing(sqlite3.connect(first / "vault.db")) as led,
        closing(sqlite3.connect(":memory:")) as made,
    ):
        for statement in SCHEMA:
            made.execute(statement)
        assert tables(led) == tables(made)
        assert led.execute("PRAGMA user_version").fetchone() == (VERSION,)


def test_every_version_has_its_step() -> None:
    assert set(STEPS) == set(range(VERSION))


def test_a_copy_is_taken_first_and_opens(first: Path, tmp_path: Path) -> None:
    Vault(DEVELOPMENT, first).close()
    copy = first / "vault.db.v1"
    assert copy.stat().st_mode & 0o777 == 0o600
    with closing(sqlite3.connect(copy)) as file:
        assert file.execute("PRAGMA user_version").fetchone() == (1,)
        assert file.execute("SELECT count(*) FROM secret").fetchone() == (1,)
    (first / "vault.db").unlink()
    copy.rename(first / "vault.db")
    with closing(Vault(DEVELOPMENT, first)) as vault:
        assert vault.get(REF) == Secret(b"x")


def test_without_room_for_a_copy_nothing_is_changed(first: Path) -> None:
    (first / "vault.db.v1.new").mkdir()
    with pytest.raises(StoreUnavailable, match="nothing was changed"):
        Vault(DEVELOPMENT, first)
    with closing(sqlite3.connect(first / "vault.db")) as file:
        assert file.execute("PRAGMA user_version").fetchone() == (1,)


def test_a_step_that_was_cut_off_is_done_again(
    first: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as cut:
        cut.setitem(cast("dict[int, Sequence[str]]", STEPS), 1, (*STEPS[1], "CREATE nonsense"))
        with pytest.raises(StoreUnavailable):
            Vault(DEVELOPMENT, first)
    with closing(sqlite3.connect(first / "vault.db")) as file:
        assert file.execute("PRAGMA user_version").fetchone() == (1,)
    with closing(Vault(DEVELOPMENT, first)) as vault:
        assert vault.get(REF) == Secret(b"x")


def test_a_newer_file_names_what_to_do(first: Path) -> None:
    with closing(sqlite3.connect(first / "vault.db")) as file:
        file.execute(f"PRAGMA user_version = {VERSION + 1}")
    with pytest.raises(ConfigError, match=rf"restore the copy .*vault\.db\.v{VERSION}"):
        Vault(DEVELOPMENT, first)


@pytest.mark.parametrize(
    ("steps", "version", "schema"),
    [(STEPS, VERSION, SCHEMA), (records.STEPS, records.VERSION, records.SCHEMA)],
)
def test_the_steps_from_an_empty_file_lead_to_the_schema(
    steps: Migrations, version: int, schema: Sequence[str]
) -> None:
    with closing(sqlite3.connect(":memory:")) as made:

        def run(sql: str, /, *values: object) -> list[Any]:
            return made.execute(sql, values).fetchall()

        for statement in statements_of(steps, version):
            run(statement)
        assert has_schema(run, schema)


ENDLESS = """
    DROP TABLE {0};
    CREATE VIEW {0} AS
        WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x AS kind FROM n;
"""


def test_no_step_reads_a_view_in_the_place_of_a_table(first: Path) -> None:
    """The step would not come back."""
    file = first / "vault.db"
    with closing(sqlite3.connect(file)) as db:
        db.executescript(ENDLESS.format("key_slot"))
    before = file.read_bytes()
    with pytest.raises(StoreError, match="not those of gatewayd"):
        Vault(DEVELOPMENT, first)
    assert file.read_bytes() == before


def test_a_file_of_others_is_left_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "vault.db"
    with closing(sqlite3.connect(file)) as db:
        db.executescript("CREATE TABLE theirs (x)")
    file.chmod(0o600)
    before = file.read_bytes()
    with pytest.raises(StoreError, match="nothing was changed"):
        Vault(DEVELOPMENT, tmp_path)
    assert file.read_bytes() == before
