"""The durable stores, opened and reconciled: the commit thread, the records, the secrets."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self, TypeAlias, TypeVar

from gatewayd.device.identity import DeviceId
from gatewayd.device.reason import NONE, Reason
from gatewayd.device.record import Record
from gatewayd.device.secret import SecretRef
from gatewayd.errors import StoreError, StoreUnavailable
from gatewayd.runtime.private_files import is_read_only_disk
from gatewayd.runtime.sqlite import Database
from gatewayd.secretstore.store import (
    IDLE,
    SecretStore,
    StoreState,
    SupportsBinding,
    SupportsReopening,
    is_mild,
    is_read_only,
)
from gatewayd.storage.commit_thread import CommitThread
from gatewayd.storage.decision_log import DurableDecisionLog
from gatewayd.storage.reconcile import (
    Finding,
    FindingKind,
    Reconciled,
    open_rest,
    reconcile,
    repair,
    without_secret,
)
from gatewayd.storage.record_binding import Row
from gatewayd.storage.records import DurableRecords, DurableSecrets, RecordDatabase

log = logging.getLogger(__name__)

T = TypeVar("T")

Timed: TypeAlias = Callable[[], AbstractContextManager[None]]
"""Returns what a commit runs in, on the commit thread."""

PURGE_EVERY = 86_400.0
"""Seconds between two purges of the quarantine."""

REOPEN_EVERY = 5.0
"""Seconds between two tries to write to a disk that took no writes at the start."""

LEFT_BEHIND = "the disk was mounted for writing again, which only a new start of gatewayd sees"

DOUBTFUL = "many secrets and records disagree: see the journal"

WRITABLE = {"message_id": "disk-writable"}
NOT_WRITABLE = {"message_id": "disk-not-writable"}

_QUIET = {FindingKind.COMPLETED, FindingKind.OUTDATED}


@dataclass(frozen=True, slots=True)
class Storage:
    """The durable stores, open and reconciled, for the event loop.

    without_secret: children whose stored secret was gone at the start.
    read_only_disk: the directory, if its file system was read-only at the start; else None.
    """

    thread: CommitThread
    database: RecordDatabase
    store: SecretStore
    records: DurableRecords
    secrets: DurableSecrets
    decisions: DurableDecisionLog
    without_secret: frozenset[DeviceId]
    read_only_disk: Path | None
    _doubts: list[Finding]
    _unopened: list[SecretRef]
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _settled: asyncio.Event = field(default_factory=asyncio.Event)

    @classmethod
    async def open(
        cls,
        directory: Path,
        make_store: Callable[[], SecretStore],
        wall: Callable[[], int],
        elsewhere: Callable[[Record], Reason] = lambda _: NONE,
    ) -> Self:
        """Open, reconcile and load.  Raises StoreError, ConfigError.

        directory: of the records.  make_store: opens the secret store; called on the commit thread.
        wall: microseconds since the epoch.
        elsewhere: returns why another gateway of the site has a child; NONE where this one has.
        """
        thread = CommitThread()
        thread.start()
        try:
            database = await thread.open(lambda: RecordDatabase(directory, elsewhere))
            store = await thread.open(make_store)
            rows = await thread.run(database.rows)
            await thread.run(lambda: _bind(database, store, rows))
            found = await reconcile(thread, database, store, wall(), rows)
            for finding in found.findings:
                _log(finding)
            if fault := database.fault:
                log.error("Only what is stored can be used: %s.", fault, extra=NOT_WRITABLE)
            return cls(
                thread,
                database,
                store,
                await DurableRecords.load(thread, database, store, found.records),
                DurableSecrets(thread, store),
                DurableDecisionLog(thread, database.decisions, wall),
                without_secret(found.findings),
                await thread.run(lambda: directory if _is_read_only(directory) else None),
                [finding for finding in found.findings if finding.kind is FindingKind.DEGRADED],
                list(found.unopened),
            )
        except BaseException:
            await thread.aclose()
            raise

    @property
    def sealed(self) -> bool:
        """Whether there is no key: no child can be registered or logged in."""
        return self.store.state is StoreState.SEALED

    @property
    def doubtful(self) -> bool:
        """Whether so much did not fit that an operator has to act."""
        return bool(self._doubts)

    @property
    def read_only(self) -> bool:
        """Whether the disk takes no writes, so that what was there at the start is only read."""
        return self.database.read_only or is_read_only(self.store)

    def time_commits(self, records: Timed, secrets: Timed) -> None:
        """Have each commit of a file run in what these return.

        A secret store that keeps no such file is not timed.
        """
        self.database.timed = records
        if isinstance(self.store, Database):
            self.store.timed = secrets

    @property
    def faults(self) -> tuple[str, ...]:
        """The faults of the stores, the worst first."""
        doubts = DOUBTFUL if self.doubtful else ""
        return tuple(filter(None, (self.store.why, self.database.fault, doubts)))

    @property
    def degraded(self) -> bool:
        """Whether an operator has to act: not if all faults are mild, or there is none."""
        return not self.sealed and not all(is_mild(one) for one in self.faults)

    async def administer(self, work: Callable[[], T]) -> T:
        """Run an operator's work on the commit thread; `tend` then goes on with it.

        work: as `CommitThread.run` takes it.  Raises what it raises, and StoreError.
        """
        try:
            return await self.thread.run(work)
        finally:
            self._wake.set()

    async def settled(self) -> None:
        """Return when `tend` has done what the start has left to it."""
        await self._settled.wait()

    async def tend(
        self,
        now: Callable[[], float],
        wall: Callable[[], int],
        synchronised: Callable[[], bool | None],
        lost: Callable[[DeviceId], None] = lambda _: None,
    ) -> None:
        """Let the store do what is due, until cancelled: get its key, rotate it, purge.

        At first it makes room for the secrets to come: what is wrong with that shows in `faults`.
        Then it opens the secrets that the start has not.

        now: the event loop's clock, seconds.  wall: microseconds since the epoch.
        synchronised: whether that can be trusted.
        lost: called with each child whose secret is gone by which the cloud knows it.
        """
        purge_at = now()
        await self.secrets.check_ready()
        await self._open_rest(lost)
        while True:
            self._wake.clear()
            if self.read_only and not await self._reopen(wall):
                if self.sealed:  # its key can be read all the same
                    await self._tend_once(now())
                await _first(self._wake, REOPEN_EVERY)
                continue
            pause = await self._tend_once(now())
            if not self.database.bound:
                await self._bind()
            if now() >= purge_at and await self._purge(wall, synchronised):
                purge_at = now() + PURGE_EVERY
            if pause > 0:
                await _first(self._wake, pause)

    async def _open_rest(self, lost: Callable[[DeviceId], None]) -> None:
        """Find the secrets that are where they belong, and do not open."""
        try:
            found = await open_rest(self.thread, self.database, self.store, self._unopened)
            await self.thread.run(self._shrink)
        except StoreError as error:  # `faults` has it, and each login finds it out
            log.warning("Not all secrets were opened after the start: %s.", error)
            found = []
        self._unopened.clear()
        self._settled.set()
        for finding in found:
            _log(finding)
            if finding.kind is FindingKind.DEGRADED:
                self._doubts.append(finding)
            elif finding.kind is FindingKind.LOST and finding.device is not None:
                lost(finding.device)

    def _shrink(self) -> None:
        """Drop what was read for the start alone."""
        for one in (self.database, self.store):
            if isinstance(one, Database):
                one.shrink()

    async def _reopen(self, wall: Callable[[], int]) -> bool:
        """Use the disk again, and repair first what could not be repaired at the start.

        Raises StoreUnavailable where gatewayd has to be started again to see the disk.
        """

        def reopened() -> Reconciled:
            self.database.reopen()
            if isinstance(self.store, SupportsReopening):
                self.store.reopen()
            return repair(self.database, self.store, wall())

        try:
            found = await self.thread.run(reopened, lambda it: self.records.adopt(it.records))
        except StoreError as error:  # `faults` has it
            if await self.thread.run(self._is_left_behind):
                raise StoreUnavailable(LEFT_BEHIND) from error
            return False
        log.warning("The disk of the durable stores takes writes again.", extra=WRITABLE)
        for finding in found.findings:
            _log(finding)
        return True

    def _is_left_behind(self) -> bool:
        """Whether it is only this process's view of the disk that is still read-only."""
        directory = self.read_only_disk
        return directory is not None and not _is_read_only(directory)

    async def _bind(self) -> None:
        try:
            await self.thread.run(lambda: _bind(self.database, self.store))
        except StoreError as error:
            log.warning("Failed to bind the records to the vault: %s.", error)

    async def _tend_once(self, now: float) -> float:
        try:
            return await self.thread.run(lambda: self.store.tend(now))
        except StoreError as error:
            log.warning("Maintenance of the secret store failed: %s.", error)
            return IDLE

    async def _purge(
        self, wall: Callable[[], int], synchronised: Callable[[], bool | None]
    ) -> bool:
        try:
            # on the commit thread, as it blocks
            if not await self.thread.run(synchronised):
                return False
            await self.secrets.purge(wall())
        except StoreError as error:
            log.warning("Failed to purge the quarantine of the secret store: %s.", error)
            return False
        return True


def _is_read_only(directory: Path) -> bool:
    try:
        return is_read_only_disk(directory.resolve())
    except OSError:
        return False


def _bind(database: RecordDatabase, store: SecretStore, rows: Sequence[Row] | None = None) -> None:
    """Bind the records to a store that can do so; on the commit thread.

    rows: of all records, where they were just read.
    """
    if not isinstance(store, SupportsBinding) or database.read_only or is_read_only(store):
        return
    if why := database.bind(store, rows):
        store.suspect(why)


async def _first(event: asyncio.Event, seconds: float) -> None:
    """Wait for an event, so many seconds at most."""
    # not by wait_for: until Python 3.12 it may swallow a cancellation
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


def _log(finding: Finding) -> None:
    level = logging.INFO if finding.kind in _QUIET else logging.WARNING
    fields = {"device": finding.device or "", "reason": finding.kind.value}
    fields["message_id"] = finding.kind.value
    log.log(level, "Reconciled: %s", finding.text, extra=fields)
