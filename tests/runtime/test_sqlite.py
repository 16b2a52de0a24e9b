"""The file of the vault and of the records."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from gatewayd.errors import ConfigError, StoreFull, StoreUnavailable
from gatewayd.runtime.sqlite import Database, UndoesOthers

SCHEMA = ("CREATE TABLE t (x TEXT) STRICT",)


def open_in(directory: Path) -> Database:
    return Database(directory / "new/test.db", SCHEMA, 1)


def test_a_commit_is_written_through_to_the_disk(tmp_path: Path) -> None:
    with closing(open_in(tmp_path)) as db:
        settings = {
            "journal_mode": "wal",
            "synchronous": 2,
            "secure_delete": 1,
            "trusted_schema": 0,
            "foreign_keys": 1,
        }
        assert {name: db._run(f"PRAGMA {name}")[0][0] for name in settings} == settings


def test_a_schema_that_fails_leaves_no_half_file(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable):
        Database(tmp_path / "test.db", (*SCHEMA, "CREATE nonsense"), 1)
    with closing(Database(tmp_path / "test.db", SCHEMA, 1)) as db:
        assert db._run("SELECT * FROM t") == []


@pytest.mark.parametrize("found", [0, 1])
def test_the_version_is_in_the_file_itself_while_it_is_open(tmp_path: Path, found: int) -> None:
    """A package that is installed over this one reads it there, and knows nothing of the log."""
    file = tmp_path / "test.db"
    if found:
        Database(file, SCHEMA, 1).close()
    with closing(Database(file, SCHEMA, 2, {0: SCHEMA, 1: ()})):
        assert int.from_bytes(file.read_bytes()[60:64]) == 2


def test_a_newer_file_is_not_touched(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "test.db")) as file:
        file.execute("PRAGMA user_version = 2")
    before = (tmp_path / "test.db").read_bytes()
    with pytest.raises(ConfigError, match="schema 2, this one knows 1"):
        Database(tmp_path / "test.db", SCHEMA, 1)
    assert (tmp_path / "test.db").read_bytes() == before


def test_a_full_disk_ends_the_group(tmp_path: Path) -> None:
    with closing(open_in(tmp_path)) as db:
        db._run(f"PRAGMA max_page_count = {db._run('PRAGMA page_count')[0][0]}")
        db.begin()
        db.mark()
        with pytest.raises(StoreFull):
            db._run("INSERT INTO t VALUES (?)", "x" * 100_000)
        with pytest.raises(StoreUnavailable):
            db.undo()
        db.rollback()
        assert db._run("SELECT * FROM t") == []


def test_a_place_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreUnavailable, match=r"file/test\.db"):
        Database(tmp_path / "file/test.db", SCHEMA, 1)


def test_a_closed_file_is_unavailable(tmp_path: Path) -> None:
    db = open_in(tmp_path)
    db.close()
    db.close()
    with pytest.raises(StoreUnavailable):
        db.begin()


def statements(db: Database) -> list[str]:
    """Return the list into which each statement goes from now on."""
    executed: list[str] = []
    db._db.set_trace_callback(executed.append)
    return executed


def lines(db: Database) -> list[str]:
    return [row[0] for row in db._run("SELECT x FROM t")]


def test_a_group_that_only_reads_costs_no_further_statement(tmp_path: Path) -> None:
    with closing(open_in(tmp_path)) as db:
        executed = statements(db)
        db.begin()
        db.mark()
        assert lines(db) == []
        db.mark()
        db.undo()
        db.commit()
        assert executed == ["SELECT x FROM t"]


def test_a_group_has_one_transaction_whatever_its_works_write(tmp_path: Path) -> None:
    with closing(open_in(tmp_path)) as db:
        executed = statements(db)
        db.begin()
        for line in ("first", "second", "third"):
            db.mark()
            db._run("INSERT INTO t VALUES (?)", line)
            db._run("INSERT INTO t VALUES (?)", f"more of the {line}")
        db.commit()
        assert [one for one in executed if not one.startswith("INSERT")] == ["BEGIN", "COMMIT"]


def test_what_a_work_wrote_is_undone_where_it_is_the_first(tmp_path: Path) -> None:
    with closing(open_in(tmp_path)) as db:
        db.begin()
        for number in range(4):
            db.mark()
            db._run("INSERT INTO t VALUES (?)", str(number))
            if number < 2:
                db.undo()
            db.mark()
            db.undo()  # a work that wrote nothing takes nothing back
        db.commit()
        assert lines(db) == ["2", "3"]


def test_what_a_later_work_wrote_is_undone_with_the_group(tmp_path: Path) -> None:
    with closing(open_in(tmp_path)) as db:
        db.begin()
        for number in range(2):
            db.mark()
            db._run("INSERT INTO t VALUES (?)", str(number))
        with pytest.raises(UndoesOthers):
            db.undo()
        db.rollback()
        assert lines(db) == []


def test_a_group_that_sqlite_has_undone_takes_no_further_write(tmp_path: Path) -> None:
    with closing(open_in(tmp_path)) as db:
        db.begin()
        db.mark()
        db._run("INSERT INTO t VALUES ('lost')")
        db._db.execute("ROLLBACK")
        db.mark()
        with pytest.raises(StoreUnavailable, match="lost"):
            db._run("INSERT INTO t VALUES ('alone')")
        with pytest.raises(StoreUnavailable):
            db.commit()
        db.rollback()
        assert lines(db) == []


def test_what_waits_for_a_group_is_done_when_it_is_durable(tmp_path: Path) -> None:
    done: list[str] = []
    with closing(open_in(tmp_path)) as db:
        db.begin()
        db.after(lambda: done.append("first"))
        db.mark()
        db.after(lambda: done.append("undone"))
        db.undo()
        db.mark()
        db.after(lambda: done.append("second"))
        assert db.waits
        assert not done
        db.commit()
        assert (done, db.waits) == (["first", "second"], False)
        db.begin()
        db.after(lambda: done.append("undone"))
        db.rollback()
        db.begin()
        db.commit()
        assert done == ["first", "second"]


def test_a_fault_is_remembered_until_something_was_written(tmp_path: Path) -> None:
    with closing(open_in(tmp_path)) as db:
        pages = db._run("PRAGMA page_count")[0][0]
        db._run(f"PRAGMA max_page_count = {pages}")
        db.begin()
        with pytest.raises(StoreFull):
            db._run("INSERT INTO t VALUES (?)", "x" * 100_000)
        db.rollback()
        assert "disk is full" in db.fault
        db.begin()
        db._run("SELECT * FROM t")
        db.commit()
        assert "disk is full" in db.fault
        db._run("PRAGMA max_page_count = 10000")
        db.begin()
        db._run("INSERT INTO t VALUES ('y')")
        db.commit()
        assert not db.fault


def test_a_snapshot_is_what_is_durable(tmp_path: Path) -> None:
    with closing(open_in(tmp_path)) as db:
        db.begin()
        db._run("INSERT INTO t VALUES ('durable')")
        db.commit()
        db.begin()
        db._run("INSERT INTO t VALUES ('not yet')")
        whole = db.snapshot()
        db.rollback()
    (tmp_path / "copy.db").write_bytes(whole)
    with closing(sqlite3.connect(f"file:{tmp_path}/copy.db?mode=ro", uri=True)) as file:
        assert file.execute("SELECT x FROM t").fetchall() == [("durable",)]
        assert file.execute("PRAGMA journal_mode").fetchone() == ("delete",)


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(b"")
    (tmp_path / "test.db").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreUnavailable):
        Database(tmp_path / "test.db", SCHEMA, 1)
    assert (tmp_path / "elsewhere").read_bytes() == b""


def test_a_planted_link_is_not_followed_by_root(tmp_path: Path) -> None:
    """As root, gatewayctl would change what it leads to."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.touch(mode=0o644)
    elsewhere.chmod(0o644)
    (tmp_path / "symbolic.db").symlink_to(elsewhere)
    (tmp_path / "hard.db").hardlink_to(elsewhere)
    for name in ("symbolic.db", "hard.db"):
        with pytest.raises(StoreUnavailable, match="Too many l"):
            Database(tmp_path / name, SCHEMA, 1)
    assert (elsewhere.stat().st_mode & 0o777, elsewhere.read_bytes()) == (0o644, b"")


def test_a_file_that_is_open_to_others_is_made_private(tmp_path: Path) -> None:
    path = tmp_path / "test.db"
    Database(path, SCHEMA, 1).close()
    path.chmod(0o644)
    Database(path, SCHEMA, 1).close()
    assert path.stat().st_mode & 0o777 == 0o600
