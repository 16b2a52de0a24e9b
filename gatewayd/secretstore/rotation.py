"""The change of the data key while serving: a few rows at a time, each readable at any moment.

The old generation stays until no row needs it, so that a crash leaves rows of both, and both keys.
"""

from __future__ import annotations

from gatewayd.secretstore import rows
from gatewayd.secretstore.datakeys import Keys, Query, Random
from gatewayd.secretstore.envelope import DoesNotOpen
from gatewayd.secretstore.rows import COLUMNS, Row

STEP = 200
"""Rows of one step: some milliseconds."""

_TABLES = ("secret", "quarantine")


class Rotation:
    """One pass over the rows of older generations.

    Where a step is taken back, its rows are left over, and `step` begins anew.
    """

    def __init__(self, query: Query, keys: Keys, random: Random) -> None:
        self._query, self._keys, self._random = query, keys, random
        self._table, self._last = 0, 0

    def step(self) -> bool:
        """Encrypt some rows anew; False when none is left that can be."""
        table = _TABLES[self._table]
        found = self._query(
            f"SELECT {COLUMNS} FROM {table} WHERE id > ? AND kid <> ? ORDER BY id LIMIT {STEP}",  # noqa: S608  # ours
            self._last,
            self._keys.newest,
        )
        for row in (Row(*values) for values in found):
            self._renew(table, row)
            self._last = row.id
        if len(found) == STEP:
            return True
        self._table, self._last = (self._table + 1) % len(_TABLES), 0
        return self._table > 0 or self._left()

    def _renew(self, table: str, row: Row) -> None:
        """Encrypt one row anew; one that does not open is moved aside, and stays as it is."""
        try:
            secret = rows.decrypted(self._keys, row)
        except DoesNotOpen:
            if table == "secret":
                rows.move_aside(self._query, row.id, "it does not open")
            return
        names = (row.service, row.username)
        new = rows.encrypted(self._query, self._keys, names, secret, self._random)
        self._query(
            f"UPDATE {table} SET gen = ?, kid = ?, nonce = ?, ct = ? WHERE id = ?",  # noqa: S608  # ours
            *new[3:],
            row.id,
        )

    def _left(self) -> bool:
        sql = "SELECT 1 FROM secret WHERE kid <> ? LIMIT 1"
        return bool(self._query(sql, self._keys.newest))


def retire(query: Query, newest: int) -> None:
    """Remove the generations that no row needs."""
    unused = (
        "kid < ? AND kid NOT IN (SELECT kid FROM secret) "
        "AND kid NOT IN (SELECT kid FROM quarantine)"
    )
    query(f"DELETE FROM key_slot WHERE {unused}", newest)  # noqa: S608  # ours
    query(f"DELETE FROM data_key WHERE {unused}", newest)  # noqa: S608  # ours
