"""How the file of a database comes by the tables of this version, and is known by them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import Any, Protocol

Steps = Mapping[int, Sequence[str]]
"""The statements that lead from each earlier version to the next."""

_SHAPE = """
    SELECT t.name, t.strict, c.name, c.type, c."notnull", c.pk
    FROM pragma_table_list AS t, pragma_table_xinfo(t.name) AS c
    WHERE t.schema = 'main' AND t.name NOT LIKE 'sqlite^_schema' ESCAPE '^'
    UNION ALL
    SELECT name, 0, tbl_name, type, 0, 0 FROM sqlite_master
"""


class Run(Protocol):
    """Executes one statement and returns its rows."""

    def __call__(self, sql: str, /, *values: object) -> list[Any]: ...


def upgrade(run: Run, steps: Steps, found: int, version: int) -> None:
    """Bring the tables from one version to another, each step wholly or not at all."""
    for number in range(found, version):
        change(run, steps[number], number + 1)


def change(run: Run, statements: Sequence[str], version: int) -> None:
    """Bring the tables to a version, wholly or not at all."""
    run("BEGIN IMMEDIATE")
    for statement in statements:
        run(statement)
    run(f"PRAGMA user_version = {version:d}")
    run("COMMIT")


def is_ours(run: Run, schema: Sequence[str]) -> bool:
    """Tell whether there are these tables and nothing else.

    Whoever can write to the disk could add triggers, which act when we write, or columns of
    other types than ours.
    """
    with closing(sqlite3.connect(":memory:")) as model:
        for statement in schema:
            model.execute(statement)
        return _shape(run) == _shape(lambda sql: model.execute(sql).fetchall())


def _shape(run: Callable[[str], list[Any]]) -> list[Any]:
    return sorted(map(repr, run(_SHAPE)))
