"""The secret store for operators: what is in it, and their commands on its keys."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import select
import stat
from collections.abc import AsyncIterator, Callable

from gatewayd.errors import Busy, ConfigError, InvalidArgs, StoreError, StoreUnavailable
from gatewayd.secretstore.store import StoreContents, SupportsKeyManagement
from gatewayd.storage.import_staging import RECORDS, beside
from gatewayd.storage.storage import Storage

log = logging.getLogger(__name__)

EXPORT_TIMEOUT = 10.0
"""Seconds for which the reader of an export may read nothing."""


class StoreMonitor:
    """The newest known contents of the secret store, for views of it.

    contents: None for a store that has no keys of its own.
    """

    def __init__(self, storage: Storage) -> None:
        self.storage, store = storage, storage.store
        self.managed = store if isinstance(store, SupportsKeyManagement) else None
        self.contents: StoreContents | None = None

    async def refresh(self) -> None:
        """Read the contents; where that fails, the last ones stay."""
        if (store := self.managed) is not None:
            with contextlib.suppress(StoreError):
                self.contents = await self.storage.thread.run(store.contents)


class StoreService:
    """The commands of operators on a vault, one at a time: the port `StoreCommands`.

    changed: called after each.
    """

    def __init__(
        self, monitor: StoreMonitor, store: SupportsKeyManagement, changed: Callable[[], None]
    ) -> None:
        self._monitor, self._store, self._changed = monitor, store, changed
        self._storage, self._one = monitor.storage, asyncio.Lock()

    @classmethod
    def of(cls, monitor: StoreMonitor, changed: Callable[[], None]) -> StoreService | None:
        """Return what serves a store; None for one that has no keys of its own."""
        return cls(monitor, monitor.managed, changed) if monitor.managed is not None else None

    async def rotate(self, caller: str) -> None:
        store, now = self._store, asyncio.get_running_loop().time
        async with self._turn():
            await self._storage.administer(store.rotate)
            while store.rotating:
                pause = await self._storage.thread.run(lambda: store.tend(now()))
                if pause and store.rotating:
                    raise StoreUnavailable(f"The old data key is still in use: {store.why}")
            log.info("The data key of the vault was rotated by %s.", caller)

    async def reseal(self, key: str, caller: str) -> None:
        async with self._turn():
            kind = await self._storage.administer(lambda: self._store.reseal(key))
            log.info("The vault was resealed with key slot %s by %s.", kind, caller)

    async def add_recovery_key(self, public_key: str, caller: str) -> None:
        pem = public_key.encode("ascii", "replace")
        async with self._turn():
            try:
                kind = await self._storage.administer(lambda: self._store.add_recovery(pem))
            except ConfigError as error:
                raise InvalidArgs(str(error)) from error
            log.info("The recovery key %s was added by %s.", kind, caller)

    async def export(self, target: int, caller: str) -> None:
        store, database = self._store, self._storage.database
        async with self._turn():
            others = await asyncio.to_thread(beside, database.directory)
            whole = await self._storage.thread.run(
                lambda: store.export({RECORDS: database.snapshot(), **others})
            )
            await asyncio.to_thread(write_out, target, whole)
            log.info("Secrets and records were exported by %s.", caller)

    async def accept_rollback(self, caller: str) -> None:
        async with self._turn():
            await self._storage.administer(self._store.accept)
            log.warning("The vault was accepted as it is by %s.", caller)

    async def accept_machine(self, caller: str) -> None:
        async with self._turn():
            await self._storage.administer(self._store.accept_machine)
            log.warning("The vault belongs to this machine now, as %s has decided.", caller)

    @contextlib.asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        if self._one.locked():
            raise Busy("Another command on the secret store is under way")
        async with self._one:
            try:
                yield
            finally:
                await self._monitor.refresh()
                self._changed()


def write_out(target: int, data: bytes, timeout: float = EXPORT_TIMEOUT) -> None:
    """Write all to a file or pipe, and make sure that a file is on the disk.  Blocks.

    timeout: seconds for which the reader may read nothing.  Raises InvalidArgs.
    """
    ready, rest = select.poll(), memoryview(data)
    try:
        ready.register(target, select.POLLOUT)
        while rest:
            if not ready.poll(timeout * 1000):
                raise InvalidArgs(
                    f"Export timed out: the receiver read nothing for {timeout:.0f} s"
                )
            rest = rest[os.write(target, rest[: select.PIPE_BUF]) :]
        if stat.S_ISREG(os.fstat(target).st_mode):
            os.fsync(target)
    except OSError as error:
        raise InvalidArgs(f"Cannot write the export: {error.strerror}") from error
