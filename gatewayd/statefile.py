"""state.db: the records of the children, in a directory that one gatewayd alone may use."""

from __future__ import annotations

import fcntl
import json
import os
import re
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from gatewayd.device.identity import Claim, DeviceId
from gatewayd.device.record import Admission, CloudName, Record, Verdict
from gatewayd.errors import ConfigError, StoreError, StoreUnavailable
from gatewayd.imported import RECORDS, settle
from gatewayd.secretstore.database import Database, private_file

VERSION = 2
_TEXTS = ("device", "claims", "label", "verdict", "admission", "rule", "reason")
_CLOUD = ("provider", "product", "name", "route")
_NUMBERS = (
    "verdict_at", "first_seen", "attempt", "attempted_at", "stored", "registered_at",
    "activating", "activated_at", "stale", "candidate",
)  # fmt: skip
_COLUMNS = (*_TEXTS, *_CLOUD, *_NUMBERS)
_ALL = f"SELECT {', '.join(_COLUMNS)} FROM record"  # noqa: S608  # names of columns, all ours
_PUT = f"REPLACE INTO record VALUES ({', '.join('?' * len(_COLUMNS))})"  # noqa: S608  # likewise

SCHEMA = (
    f"""CREATE TABLE record (
        device TEXT PRIMARY KEY,
        {", ".join(f"{name} TEXT NOT NULL" for name in _TEXTS[1:])},
        {", ".join(f"{name} TEXT" for name in _CLOUD)},
        {", ".join(f"{name} INTEGER NOT NULL" for name in _NUMBERS)}
    ) STRICT, WITHOUT ROWID""",
)
STEPS = {1: ("ALTER TABLE record ADD COLUMN candidate INTEGER NOT NULL DEFAULT 0",)}
"""What leads from each earlier version to the next."""


class Lock:
    """Makes a directory one process's own, until closed or until the process ends (flock(2))."""

    def __init__(self, directory: Path) -> None:
        """Raise StoreUnavailable, which names the other process, if there is one.

        Raise ConfigError where others may use the directory: what is deleted here lives on in
        their copies, and a lock that is theirs keeps us out.
        """
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            _demand_private(directory)
            self._file: int | None = private_file(directory / "lock", os.O_RDWR)
        except OSError as error:
            raise StoreUnavailable(f"{directory} cannot be used: {error.strerror}") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            owner = os.pread(self._file, 16, 0).decode(errors="replace")
            self.close()
            raise StoreUnavailable(_taken(directory, owner)) from None
        with suppress(OSError):  # on a full disk only the number is missing
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, str(os.getpid()).encode(), 0)

    def close(self) -> None:
        """Let others have it.  Closing twice is fine."""
        if self._file is not None:
            os.close(self._file)
        self._file = None


class StateFile(Database):
    """The table of records.  Lives on the store thread, one call at a time.

    directory: where state.db is; made where it does not exist.
    Raises StoreUnavailable if another gatewayd uses the directory, ConfigError if others may read
    it or a newer gatewayd wrote the file, StoreError if it is damaged.
    """

    def __init__(self, directory: Path) -> None:
        self._lock = Lock(directory)
        try:
            settle(directory)
            super().__init__(directory / RECORDS, SCHEMA, VERSION, STEPS)
        except BaseException:
            self._lock.close()
            raise

    def write(self, record: Record) -> None:
        """Put a record in the place of the one before.  Raises StoreError."""
        self._run(_PUT, *_row(record))

    def read(self, device: DeviceId) -> Record | None:
        """Return the record of a child.  Raises StoreError."""
        rows = self._run(f"{_ALL} WHERE device = ?", device)
        return _record(rows[0]) if rows else None

    def remove(self, device: DeviceId) -> None:
        """Remove the record of a child, if there is one.  Raises StoreError."""
        self._run("DELETE FROM record WHERE device = ?", device)

    def all(self) -> Iterator[Record]:
        """Return all records, in order of device id.  Raises StoreError."""
        return iter([_record(row) for row in self._run(f"{_ALL} ORDER BY device")])

    def make_room(self) -> bool:
        """Nothing is kept in reserve here; the secret store has it."""
        return False

    def close(self) -> None:
        """Close the file and let others have the directory.  Closing twice is fine."""
        super().close()
        self._lock.close()


def _row(record: Record) -> tuple[object, ...]:
    cloud = record.cloud
    names: tuple[str | None, ...] = (None,) * len(_CLOUD)
    if cloud is not None:
        names = (cloud.provider, cloud.product, cloud.device, cloud.route)
    claims = json.dumps([[c.kind, c.namespace, c.value] for c in sorted(record.claims)])
    texts = (record.device, claims, *(str(getattr(record, name)) for name in _TEXTS[2:]))
    return (*texts, *names, *(getattr(record, name) for name in _NUMBERS))


def _record(row: tuple[Any, ...]) -> Record:
    facts: dict[str, Any] = dict(zip(_COLUMNS, row, strict=True))
    provider, product, name, route = (facts.pop(column) for column in _CLOUD)
    try:
        facts["claims"] = frozenset(Claim(*claim) for claim in json.loads(facts["claims"]))
        facts["verdict"] = Verdict(facts["verdict"])
        facts["admission"] = Admission(facts["admission"])
    except (TypeError, ValueError) as error:
        raise StoreError(f"state.db: the record of {facts['device']!a} is damaged") from error
    cloud = None if provider is None else CloudName(provider, product, name, route)
    return Record(cloud=cloud, **facts)


def _demand_private(directory: Path) -> None:
    mode = stat.S_IMODE(directory.stat().st_mode)
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigError(
            f"{directory} is open to others than its owner (mode {mode:04o}): "
            f"chmod 0700 {directory}"
        )


def _taken(directory: Path, owner: str) -> str:
    process = f" (process {owner})" if re.fullmatch("[0-9]+", owner) else ""
    return f"another gatewayd{process} uses {directory}: stop it first"
