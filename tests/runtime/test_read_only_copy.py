"""A file and its log, read without a write: what SQLite itself would read after a crash."""

from __future__ import annotations

import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from gatewayd.runtime.read_only_copy import read_only_copy, with_log

PAGE_SIZES = (512, 4096, 65536)


def crashed(directory: Path, page_size: int = 4096, checkpoints: bool = False) -> Path:
    """Return a file with a log, as a process that was killed leaves them."""
    live, left = directory / "live.db", directory / "left.db"
    with closing(sqlite3.connect(live, isolation_level=None)) as db:
        db.execute(f"PRAGMA page_size = {page_size}")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("CREATE TABLE t (x BLOB)")
        for number in range(20):
            db.execute("INSERT INTO t VALUES (?)", (random.Random(number).randbytes(300),))
            if checkpoints and number in (5, 11):
                db.execute("PRAGMA wal_checkpoint")
        db.execute("DELETE FROM t WHERE rowid % 3 = 0")
        if checkpoints:
            db.execute("VACUUM")  # the file becomes shorter within the log
        for suffix in ("", "-wal"):
            shutil.copy(f"{live}{suffix}", f"{left}{suffix}")
    return left


def content(db: sqlite3.Connection) -> list[str]:
    return list(db.iterdump())


def as_sqlite_reads(file: Path, directory: Path) -> list[str]:
    """Return the content of a copy of a file, which SQLite may change."""
    copy = directory / "copy.db"
    for suffix in ("", "-wal"):
        shutil.copy(f"{file}{suffix}", f"{copy}{suffix}")
    Path(f"{copy}-shm").unlink(missing_ok=True)
    with closing(sqlite3.connect(copy)) as db:
        return content(db)


@pytest.mark.parametrize("checkpoints", [False, True])
@pytest.mark.parametrize("page_size", PAGE_SIZES)
def test_all_that_was_committed_is_read(tmp_path: Path, page_size: int, checkpoints: bool) -> None:
    file = crashed(tmp_path, page_size, checkpoints)
    before = {one.name: one.read_bytes() for one in tmp_path.iterdir()}
    with closing(read_only_copy(file)) as db:
        assert content(db) == as_sqlite_reads(file, tmp_path)
        assert db.execute("SELECT count(*) FROM t").fetchone() == (14,)
    assert before.items() <= {one.name: one.read_bytes() for one in tmp_path.iterdir()}.items()


def test_a_log_that_is_cut_or_damaged_is_read_as_far_as_sqlite_reads_it(tmp_path: Path) -> None:
    file = crashed(tmp_path, 512)
    log = Path(f"{file}-wal")
    whole, chance = log.read_bytes(), random.Random(13)
    lengths = set()
    for number in range(80):
        place = chance.randrange(len(whole))
        bit = bytes([whole[place] ^ 1 << chance.randrange(8)])
        log.write_bytes(whole[:place] if number % 2 else whole[:place] + bit + whole[place + 1 :])
        with closing(read_only_copy(file)) as db:
            found = content(db)
        assert found == as_sqlite_reads(file, tmp_path), (number, place)
        lengths.add(len(found))
    assert len(lengths) > 5  # the cuts fall into many commits


def test_without_a_log_the_file_is_the_whole(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "file.db", isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("CREATE TABLE t (x)")
    with closing(read_only_copy(tmp_path / "file.db")) as db:
        assert db.execute("SELECT * FROM t").fetchall() == []


def test_no_file_is_an_empty_database(tmp_path: Path) -> None:
    with closing(read_only_copy(tmp_path / "nothing.db")) as db:
        assert content(db) == ["BEGIN TRANSACTION;", "COMMIT;"]
    assert with_log(b"", b"") == b""
    assert not list(tmp_path.iterdir())
