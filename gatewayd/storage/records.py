"""The durable records of the children, and their secrets, for the event loop.

state.db has the records, in a directory that one gatewayd alone may use.  A change is on the disk,
and was read back, when the call returns.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import stat
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from sys import intern
from typing import Any

from gatewayd.device.identity import Claim, DeviceId
from gatewayd.device.move import NO_MOVES, Moves
from gatewayd.device.proof import Pin
from gatewayd.device.reason import NONE, Reason
from gatewayd.device.record import Admission, Change, CloudName, Record, Verdict
from gatewayd.device.recovery import LEFT_WITH_SITE, reason_of
from gatewayd.device.secret import Secret, SecretRef
from gatewayd.errors import ConfigError, SecretCorrupt, SecretNotFound, StoreError, StoreUnavailable
from gatewayd.runtime.private_files import private_file
from gatewayd.runtime.sqlite import Database
from gatewayd.secretstore.store import SecretStore, SupportsBinding
from gatewayd.storage import decision_log, record_binding, site_marks
from gatewayd.storage.commit_thread import CommitThread
from gatewayd.storage.decision_log import DecisionTable
from gatewayd.storage.import_staging import RECORDS, recover_import
from gatewayd.storage.record_binding import BoundRecords, Row
from gatewayd.storage.site_marks import MarkStanding, SiteMarks

VERSION = 8
_TEXTS = ("device", "claims", "label", "verdict", "admission", "rule", "reason")
_CLOUD = ("provider", "product", "name", "route")
_NUMBERS = (
    "verdict_at", "first_seen", "attempt", "attempted_at", "stored", "registered_at",
    "activating", "activated_at", "stale", "candidate",
)  # fmt: skip
_SENTENCES = ("explanation", "remedy")
_LATER = (*_SENTENCES, "pin", "moves")
"""Texts that came later, at the end: `record_binding.part` leaves them out while they are empty."""
_COLUMNS = (*_TEXTS, *_CLOUD, *_NUMBERS, *_LATER)
_N_TEXTS = len(_TEXTS)
_FIRST_NUMBER = _N_TEXTS + len(_CLOUD)
_FIRST_LATER = _FIRST_NUMBER + len(_NUMBERS)
_VERDICTS = {one.value: one for one in Verdict}
_ADMISSIONS = {one.value: one for one in Admission}
_ALL = f"SELECT {', '.join(_COLUMNS)} FROM record"  # noqa: S608  # names of columns, all ours
_ONE = f"{_ALL} WHERE device = ?"
_SOME = f"{_ALL} WHERE device IN (SELECT value FROM json_each(?))"  # noqa: S608  # ours alone
_PUT = f"REPLACE INTO record VALUES ({', '.join('?' * len(_COLUMNS))})"  # noqa: S608  # names of columns, all ours


def _table(numbers: Sequence[str], later: Sequence[str] = ()) -> str:
    """Return the statement that makes the table, with these columns of numbers and later texts."""
    columns = (
        "device TEXT PRIMARY KEY",
        *(f"{name} TEXT NOT NULL" for name in _TEXTS[1:]),
        *(f"{name} TEXT" for name in _CLOUD),
        *(f"{name} INTEGER NOT NULL" for name in numbers),
        *(f"{name} TEXT NOT NULL" for name in later),
    )
    return f"CREATE TABLE record ({', '.join(columns)}) STRICT, WITHOUT ROWID"


_ANSWERS = (
    "CREATE TABLE answer (claim TEXT PRIMARY KEY, device TEXT NOT NULL) STRICT, WITHOUT ROWID"
)
_BOUND_ANSWERS = "SELECT 'answer ' || claim, device FROM answer"
"""Answers as they are bound: no record has such an id."""
_OTHERS_BOUND = (_BOUND_ANSWERS, site_marks.ALL_BOUND)
"""What is bound beside the records."""

SCHEMA = (
    _table(_NUMBERS, _LATER),
    record_binding.TABLE,
    decision_log.TABLE,
    _ANSWERS,
    site_marks.TABLE,
)
STEPS = {
    0: (_table(_NUMBERS[:-1]),),
    1: ("ALTER TABLE record ADD COLUMN candidate INTEGER NOT NULL DEFAULT 0",),
    2: (record_binding.TABLE,),
    3: (
        *(f"ALTER TABLE record ADD COLUMN {name} TEXT NOT NULL DEFAULT ''" for name in _SENTENCES),
        decision_log.TABLE,
    ),
    4: (_ANSWERS,),
    5: ("ALTER TABLE record ADD COLUMN pin TEXT NOT NULL DEFAULT ''",),
    6: ("ALTER TABLE record ADD COLUMN moves TEXT NOT NULL DEFAULT ''",),
    7: (site_marks.TABLE,),
}
"""From each earlier version of the schema to the next; from 0 to the first."""


class DirectoryLock:
    """A lock on a directory for one process, until closed or until the process ends (flock(2))."""

    def __init__(self, directory: Path) -> None:
        """Raise StoreUnavailable, which names the other process, if there is one.

        Raise ConfigError where others may use the directory: what is deleted here lives on in
        their copies, and a lock that is theirs keeps us out.
        """
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            _demand_private(directory)
            self._file: int | None = _lock_file(directory)
        except OSError as error:
            raise StoreUnavailable(f"{directory} cannot be used: {error.strerror}") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            owner = ""
            with suppress(OSError):  # a directory has no text
                owner = os.pread(self._file, 16, 0).decode(errors="replace")
            self.close()
            raise StoreUnavailable(_taken(directory, owner)) from None
        with suppress(OSError):  # on a full disk only the number is missing
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, str(os.getpid()).encode(), 0)

    def close(self) -> None:
        """Release the lock.  Closing twice is fine."""
        if self._file is not None:
            os.close(self._file)
        self._file = None


class RecordDatabase(Database):
    """The table of records in state.db.  Used on the commit thread, one call at a time.

    directory: of state.db; created if it does not exist.
    decisions, marks: the log of decisions, and the marks of a site, in the same file.
    elsewhere: returns why another gateway of the site has a child; NONE where this one has.
    Raises StoreUnavailable if another gatewayd uses the directory, ConfigError if others may read
    it or a newer gatewayd wrote the file, StoreError if it is damaged.
    """

    def __init__(
        self, directory: Path, elsewhere: Callable[[Record], Reason] = lambda _: NONE
    ) -> None:
        self._lock, self.directory = DirectoryLock(directory), directory
        self._elsewhere = elsewhere
        self._group: dict[DeviceId, Record | None] = {}
        self._rows: dict[DeviceId, tuple[Any, ...]] = {}
        self._committed: dict[str, tuple[Any, ...]] | None = None
        self._undone = False
        self._bound = BoundRecords(self._run)
        self.decisions = DecisionTable(self._run)
        self.marks = SiteMarks(self._run, self._bound)
        try:
            recover_import(directory)
            super().__init__(directory / RECORDS, SCHEMA, VERSION, STEPS)
        except BaseException:
            self._lock.close()
            raise

    def begin(self) -> None:
        """Begin a group."""
        super().begin()
        self._group.clear()
        self._rows.clear()
        self._committed, self._undone = None, False
        self._bound.begin()

    def mark(self) -> None:
        """Set the point to which `undo` goes back, in place of the one before."""
        super().mark()
        self._bound.mark()

    def undo(self) -> None:
        """Undo all changes since `mark`.  Raises StoreError if the whole group is lost."""
        super().undo()
        self._undone = True
        self._bound.undo()

    def commit(self) -> None:
        """Make the group durable."""
        if self._begun:
            self._bound.stamp()
        super().commit()
        self._bound.settle()

    def rollback(self) -> None:
        """Undo the group, if one is open."""
        super().rollback()
        self._bound.rollback()

    def rows(self) -> list[tuple[Any, ...]]:
        """Return the rows of all records, in order of device id.  Raises StoreError."""
        return self._run(f"{_ALL} ORDER BY device")

    def bind(self, vault: SupportsBinding, rows: Sequence[Row] | None = None) -> str:
        """Bind the records to a vault that trusts them, within a group.

        rows: of all records, where they were just read.
        Returns why vault and records do not belong together; "" where they do.
        Raises StoreError.
        """
        self.check_disk()

        def bound() -> list[Row]:
            others = [row for all_ in _OTHERS_BOUND for row in self._run(all_)]
            return [*(self.rows() if rows is None else rows), *others]

        return self._bound.bind(vault, bound)

    @property
    def bound(self) -> bool:
        """Whether the records are bound to a vault."""
        return self._bound.vault is not None

    def write(self, record: Record) -> None:
        """Replace the record of a child, whatever it is.  Raises StoreError."""
        self._put(record, self._row_of)

    def replace(self, before: Record | None, record: Record) -> None:
        """Replace a record that is known: it is not read again.  Raises StoreError.

        before: as `newest` has just returned it.
        """
        self._put(record, lambda _: None if before is None else self._known_row(before))

    def _put(self, record: Record, present: Callable[[DeviceId], tuple[Any, ...] | None]) -> None:
        row = _row(record)
        self._bound.change(record.device, row, present)
        self._run(_PUT, *row)
        self._group[record.device], self._rows[record.device] = record, row

    def newest(self, device: DeviceId, durable: Record | None) -> Record | None:
        """Return the record of a child as this group has left it so far.  Raises StoreError.

        durable: the one from before the group.
        """
        return self.read(device) if self._undone else self._group.get(device, durable)

    def read(self, device: DeviceId) -> Record | None:
        """Return the record of a child.  Raises StoreError."""
        rows = self._run(_ONE, device)
        return self._placed(rows[0], self.marks.devices(MarkStanding.AWAY)) if rows else None

    def holds(self, device: DeviceId, record: Record | None) -> bool:
        """Whether the row of a child of the group that was committed is this record's.

        record: None for whether there is none.
        """
        if self._committed is None:
            found = self._run(_SOME, json.dumps(list(self._group)))
            self._committed = {row[0]: row for row in found}
        return self._committed.get(device) == (None if record is None else self._known_row(record))

    def _known_row(self, record: Record) -> tuple[Any, ...]:
        """Return the row of a record, which is made once in a group."""
        device = record.device
        return self._rows[device] if self._group.get(device) is record else _row(record)

    def remove(self, device: DeviceId) -> None:
        """Remove the record of a child, if there is one.  Raises StoreError."""
        self._bound.change(device, None, self._row_of)
        self._run("DELETE FROM record WHERE device = ?", device)
        self.marks.release(device)
        self._group[device] = None
        self._rows.pop(device, None)

    def all(self, rows: Iterable[tuple[Any, ...]] | None = None) -> Iterator[Record]:
        """Return all records, in order of device id.  Raises StoreError.

        rows: theirs, where they were just read.
        """
        away = self.marks.devices(MarkStanding.AWAY)
        return iter([self._placed(row, away) for row in (self.rows() if rows is None else rows)])

    def answers(self) -> dict[Claim, DeviceId]:
        """Return whose claims are, by operators' answers.  Raises StoreError."""
        rows = self._run("SELECT claim, device FROM answer")
        try:
            return {Claim(*json.loads(claim)): DeviceId(device) for claim, device in rows}
        except (TypeError, ValueError, RecursionError) as error:
            raise StoreError("state.db: an operator's answer is damaged") from error

    def settle(self, key: Claim, device: DeviceId | None) -> None:
        """Replace an answer, within a group; None withdraws it.  Raises StoreError."""
        claim = json.dumps([key.kind, key.namespace, key.value])
        bound = f"answer {claim}"
        row = None if device is None else (bound, device)
        self._bound.change(bound, row, lambda _: self._bound_answer(claim))
        if device is None:
            self._run("DELETE FROM answer WHERE claim = ?", claim)
        else:
            self._run("REPLACE INTO answer VALUES (?, ?)", claim, device)

    def _bound_answer(self, claim: str) -> tuple[Any, ...] | None:
        return next(iter(self._run(f"{_BOUND_ANSWERS} WHERE claim = ?", claim)), None)

    def _placed(self, row: tuple[Any, ...], away: Collection[DeviceId]) -> Record:
        """Return the record of a row, with why another gateway has the child."""
        record = _record(row)
        why = self._elsewhere(record)
        if not why.code and record.device in away:
            why = LEFT_WITH_SITE
        return replace(record, elsewhere=why) if why.code else record

    def _row_of(self, device: DeviceId) -> tuple[Any, ...] | None:
        return next(iter(self._run(_ONE, device)), None)

    def make_room(self) -> bool:
        """Nothing is kept in reserve here; the secret store has it."""
        return False

    def close(self) -> None:
        """Close the file, and release the lock.  Closing twice is fine."""
        super().close()
        self._lock.close()


def _row(record: Record) -> tuple[Any, ...]:
    cloud = record.cloud
    names: tuple[str | None, ...] = (None,) * len(_CLOUD)
    if cloud is not None:
        names = (cloud.provider, cloud.product, cloud.device, cloud.route)
    claims = json.dumps([[c.kind, c.namespace, c.value] for c in sorted(record.claims)])
    texts = (record.device, claims, *(str(getattr(record, name)) for name in _TEXTS[2:]))
    facts = (getattr(record, name) for name in (*_NUMBERS, *_SENTENCES))
    pin = "" if record.pin is None else record.pin.text()
    moves = "" if record.moves == NO_MOVES else record.moves.text()
    return (*texts, *names, *facts, pin, moves)


def _record(row: tuple[Any, ...]) -> Record:
    """Return the record of a row.  Texts that many children have alike are held once."""
    device, claims, label, verdict, admission, rule, reason = row[:_N_TEXTS]
    provider, product, name, route = row[_N_TEXTS:_FIRST_NUMBER]
    explanation, remedy, pin, moves = row[_FIRST_LATER:]
    try:
        cloud = None
        if provider is not None:
            own = label if name == label else name
            cloud = CloudName(intern(provider), intern(product), own, intern(route))
        facts: tuple[Any, ...] = (
            device,
            frozenset([_claim(*claim) for claim in json.loads(claims)]),
            label,
            _VERDICTS[verdict],
            _ADMISSIONS[admission],
            intern(rule),
            intern(reason),
            cloud,
            *row[_FIRST_NUMBER:_FIRST_LATER],
            intern(explanation),
            intern(remedy),
            Pin.parse(pin) if pin else None,
            Moves.parse(moves) if moves else NO_MOVES,
        )
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise StoreError(f"state.db: the record of {device!a} is damaged") from error
    return Record(*facts)


def _claim(kind: str, namespace: str, value: str) -> Claim:
    return Claim(intern(kind), intern(namespace), value)


def _lock_file(directory: Path) -> int:
    """Return what is locked: on a disk that takes no writes, what there is.  Raises OSError."""
    lock = directory / "lock"
    try:
        return private_file(lock, os.O_RDWR)
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.ENOSPC, errno.EDQUOT):
            raise
    with suppress(FileNotFoundError):
        return os.open(lock, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    return os.open(directory, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)


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


class DurableRecords:
    """The `RecordStore` on the disk: the newest durable records are held in memory.

    state and store were opened by the thread, in this order: where a power cut comes between
    the two commits of `forget`, it leaves secrets without a record, which are found at the next
    start, and never a record whose secrets are gone.
    """

    def __init__(
        self,
        thread: CommitThread,
        state: RecordDatabase,
        store: SecretStore,
        records: Iterable[Record],
        answers: Mapping[Claim, DeviceId],
    ) -> None:
        self._thread, self._state, self._store = thread, state, store
        # written on the commit thread, one item at a time, as soon as it is known to be durable
        self._durable = {record.device: record for record in records}
        self._answers = dict(answers)
        self._written: dict[DeviceId, Record] = {}
        self._doubtful: set[DeviceId] = set()  # read back differently: memory is not to be trusted

    @classmethod
    async def load(
        cls,
        thread: CommitThread,
        state: RecordDatabase,
        store: SecretStore,
        records: Iterable[Record] | None = None,
    ) -> DurableRecords:
        """Read all there is.  records: where they were just read.  Raises StoreError."""
        if records is None:
            records = await thread.run(state.all)
        return cls(thread, state, store, records, await thread.run(state.answers))

    def adopt(self, records: Iterable[Record], gone: Iterable[DeviceId] = ()) -> None:
        """Hold these, which were written past this object.  On the commit thread.

        gone: whose records were removed likewise.
        """
        for record in records:
            self._durable[record.device] = record
        for device in gone:
            self._durable.pop(device, None)

    def __getitem__(self, device: DeviceId) -> Record:
        """Return the newest durable record.  Raises KeyError."""
        return self._durable[device]

    def get(self, device: DeviceId) -> Record | None:
        """Return the newest durable record; None for a child without one."""
        return self._durable.get(device)

    def all(self) -> Iterator[Record]:
        """Return every record, in order of device id."""
        return iter(sorted(self._durable.values(), key=lambda record: record.device))

    async def update(self, device: DeviceId, change: Change) -> Record:
        """Change a record, and return it when it is durable and was read back.

        Raises StoreError, and what `change` raises.
        """

        def write() -> Record:
            before = self._newest(device)
            record = change(before)
            self._state.replace(before, record)
            self._written[device] = record
            return record

        return await self._thread.run(write, lambda _: self._read_back(device))

    async def forget(self, device: DeviceId) -> None:
        """Return when neither the record nor any secret or answer of the device is left."""

        def remove() -> dict[Claim, DeviceId | None]:
            own = [key for key, whose in self._answers.items() if whose == device]
            return self._settle(dict.fromkeys(own), device)

        await self._thread.run(remove, lambda settled: self._settled(settled, device))

    @property
    def answers(self) -> Mapping[Claim, DeviceId]:
        """Whose claims are, by an operator's answer; NO_DEVICE: they identify none."""
        return self._answers

    async def settle(
        self, answers: Mapping[Claim, DeviceId | None], gone: DeviceId | None = None
    ) -> None:
        """Return when answers are durable; None withdraws one.  Raises StoreError.

        gone: a device that is forgotten in the same commit, as it is another.
        """
        await self._thread.run(
            lambda: self._settle(answers, gone), lambda settled: self._settled(settled, gone)
        )

    def _settle(
        self, answers: Mapping[Claim, DeviceId | None], gone: DeviceId | None
    ) -> dict[Claim, DeviceId | None]:
        """Write answers within a group, and remove a device; return what was written."""
        for key, whose in sorted(answers.items()):
            self._state.settle(key, whose)
        if gone is not None:
            self._state.remove(gone)
            for ref in self._store.refs(gone):
                self._store.delete(ref)
            self._written.pop(gone, None)
        return dict(answers)

    def _settled(self, answers: Mapping[Claim, DeviceId | None], gone: DeviceId | None) -> None:
        """Go on with what is durable."""
        if gone is not None:
            self._read_back(gone)
        held = {
            key: whose for key, whose in {**self._answers, **answers}.items() if whose is not None
        }
        self._answers = held

    def _newest(self, device: DeviceId) -> Record | None:
        """Return the record of a child, within a group."""
        if device in self._doubtful:
            return self._state.read(device)
        return self._state.newest(device, self._durable.get(device))

    def _read_back(self, device: DeviceId) -> None:
        """Compare the row with what the newest work on this device in the group left.

        SQLite reads it from its own memory, not from the disk: this finds a fault of ours.
        """
        written = self._written.get(device)
        if not self._state.holds(device, written):
            self._doubtful.add(device)
            raise StoreUnavailable(f"the record of {device} was read back differently")
        self._doubtful.discard(device)
        if written is None:
            self._durable.pop(device, None)
        else:
            self._durable[device] = written


class DurableSecrets:
    """The `SecretSlots` on the disk."""

    def __init__(self, thread: CommitThread, store: SecretStore) -> None:
        self._thread, self._store = thread, store

    async def put(self, ref: SecretRef, secret: Secret) -> None:
        """Return when the secret is durable and was read back.  Raises StoreError."""

        def read_back(_: None) -> None:
            if self._store.get(ref) != secret:
                raise SecretCorrupt(f"a secret of {ref.device} was read back differently")

        await self._thread.run(lambda: self._store.put(ref, secret), read_back)

    async def get(self, ref: SecretRef) -> Secret:
        """Read a slot from the disk.  Raises SecretNotFound, SecretCorrupt, StoreSealed."""
        return await self._thread.run(lambda: self._store.get(ref))

    async def delete(self, ref: SecretRef) -> None:
        """Return when a slot is empty; one that is empty stays so.  Raises StoreError."""
        await self._thread.run(lambda: self._store.delete(ref))

    async def refs(self, device: DeviceId) -> tuple[SecretRef, ...]:
        """Return all slots of a device that hold something.  Raises StoreError."""
        return await self._thread.run(lambda: tuple(self._store.refs(device)))

    async def holds(self, ref: SecretRef) -> bool:
        """Whether a slot can be read.  Raises StoreSealed, StoreUnavailable."""
        try:
            await self.get(ref)
        except (SecretNotFound, SecretCorrupt):
            return False
        return True

    async def headroom(self) -> None:
        """Make sure that a put will find room.  Raises StoreSealed, StoreRolledBack, StoreFull."""
        await self._thread.run(self._store.headroom)

    async def check_ready(self) -> Reason | None:
        """Return why no secret could be stored now; None if one could.

        Many may ask at once, as the children of one batch do: one check serves them all.
        """
        try:
            await self._thread.share(self._store.headroom)
        except StoreError as error:
            return reason_of(error)
        return None

    async def purge(self, now: int) -> None:
        """Delete what has been in quarantine for 30 days; now: microseconds since the epoch."""
        await self._thread.run(lambda: self._store.purge(now))
