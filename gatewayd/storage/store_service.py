"""The secret store as operators see it: what is in it, and what they may have done with it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import select
import stat
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from gatewayd.errors import Busy, ConfigError, InvalidArgs, StoreError, StoreUnavailable
from gatewayd.secretstore.keyslots.table import is_recovery
from gatewayd.secretstore.store import State
from gatewayd.secretstore.vault import admin as vaultadmin
from gatewayd.secretstore.vault.export import export
from gatewayd.secretstore.vault.vault import Vault
from gatewayd.storage.import_staging import RECORDS
from gatewayd.storage.storage import Storage

log = logging.getLogger(__name__)

PATIENCE = 10.0
"""Seconds for which the reader of an export may read nothing."""

_MICRO = 1_000_000


@dataclass(frozen=True, slots=True)
class Kept:
    """What is in a vault.

    key: number of the data key in use; 0 where there is none.
    key_created: microseconds since the epoch; 0 where it is not known.
    """

    secrets: int
    key: int
    key_created: int
    recovery_slots: int


class StoreAdmin:
    """Looks into the secret store.

    vault: the store, if it is ours.  kept: what was in it at the last look; None for another's.
    """

    def __init__(self, storage: Storage) -> None:
        self.storage, store = storage, storage.store
        self.vault = store if isinstance(store, Vault) else None
        self.kept: Kept | None = None

    async def look(self) -> None:
        """Look again; what was seen last is kept where that cannot be done."""
        if (vault := self.vault) is not None:
            with contextlib.suppress(StoreError):
                self.kept = await self.storage.thread.run(lambda: look(vault))


class StoreService:
    """Serves the port `StoreCommands` of status/ports.py for a vault: one command at a time.

    changed: called after each.
    """

    def __init__(self, admin: StoreAdmin, vault: Vault, changed: Callable[[], None]) -> None:
        self._admin, self._vault, self._changed = admin, vault, changed
        self._storage, self._one = admin.storage, asyncio.Lock()

    @classmethod
    def of(cls, admin: StoreAdmin, changed: Callable[[], None]) -> StoreService | None:
        """Return what serves a store; None where it can do nothing of this."""
        return cls(admin, admin.vault, changed) if admin.vault is not None else None

    async def rotate(self, caller: str) -> None:
        vault, now = self._vault, asyncio.get_running_loop().time
        async with self._turn():
            await self._storage.administer(lambda: vaultadmin.rotate(vault))
            while vault.rotating:
                pause = await self._storage.thread.run(lambda: vault.tend(now()))
                if pause and vault.rotating:
                    raise StoreUnavailable(f"The old key is not gone yet: {vault.why}")
            log.info("The data key of the vault was changed for %s.", caller)

    async def reseal(self, key: str, caller: str) -> None:
        vault = self._vault
        async with self._turn():
            wanted = key or vault.key
            await self._storage.administer(lambda: vaultadmin.reseal(vault, wanted))
            log.info("The vault was resealed by %s for %s.", vault.slots.of(wanted).kind, caller)

    async def add_recovery_key(self, public_key: str, caller: str) -> None:
        vault, pem = self._vault, public_key.encode("ascii", "replace")
        async with self._turn():
            try:
                kind = await self._storage.administer(lambda: vaultadmin.add_recovery(vault, pem))
            except ConfigError as error:
                raise InvalidArgs(str(error)) from error
            log.info("The recovery key %s was added for %s.", kind, caller)

    async def export(self, target: int, caller: str) -> None:
        vault, state = self._vault, self._storage.state
        async with self._turn():
            whole = await self._storage.thread.run(
                lambda: export(vault, {RECORDS: state.snapshot()})
            )
            await asyncio.to_thread(write_out, target, whole)
            log.info("Secrets and records were exported for %s.", caller)

    async def accept_rollback(self, caller: str) -> None:
        async with self._turn():
            await self._storage.administer(self._vault.accept)
            log.warning("The vault is trusted as it is, by the word of %s.", caller)

    @contextlib.asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        if self._one.locked():
            raise Busy("Something else is being done with the secret store")
        async with self._one:
            try:
                yield
            finally:
                await self._admin.look()
                self._changed()


def look(vault: Vault) -> Kept:
    """Look into a vault, within a group."""
    told = vaultadmin.report(vault)
    in_use = told.state is not State.SEALED
    return Kept(
        secrets=told.secrets,
        key=told.generation if in_use else 0,
        key_created=told.made * _MICRO if in_use else 0,
        recovery_slots=sum(map(is_recovery, told.slots)),
    )


def write_out(target: int, data: bytes, patience: float = PATIENCE) -> None:
    """Write all to a file or pipe, and make sure that a file is on the disk.  Blocks.

    patience: seconds for which nobody may read.  Raises InvalidArgs.
    """
    ready, rest = select.poll(), memoryview(data)
    try:
        ready.register(target, select.POLLOUT)
        while rest:
            if not ready.poll(patience * 1000):
                raise InvalidArgs("Nobody reads what is exported")
            rest = rest[os.write(target, rest[: select.PIPE_BUF]) :]
        if stat.S_ISREG(os.fstat(target).st_mode):
            os.fsync(target)
    except OSError as error:
        raise InvalidArgs(f"The export cannot be written: {error.strerror}") from error
