"""The durable half, opened and reconciled: the store thread, the register, the secrets."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self, TypeVar

from gatewayd.config import Config
from gatewayd.device.identity import DeviceId
from gatewayd.device.reason import Reason
from gatewayd.device.recovery import reason_of
from gatewayd.errors import StoreError
from gatewayd.secretstore.store import IDLE, SecretStore, StoreState
from gatewayd.secretstore.vault.sealed_database import NO_RECOVERY
from gatewayd.storage.commit_thread import StoreThread
from gatewayd.storage.reconcile import Finding, Kind, reconcile, without_secret
from gatewayd.storage.records import Register, Secrets, StateFile

log = logging.getLogger(__name__)

T = TypeVar("T")

PURGE_EVERY = 86_400.0
"""Seconds between two looks at what has been in quarantine for too long."""

DOUBTFUL = "much of what is kept does not fit the records; the journal says what"

_QUIET = {Kind.COMPLETED, Kind.OUTDATED}


@dataclass(frozen=True, slots=True)
class Storage:
    """What is durable, ready to be used from the event loop.

    without_secret: children whose stored secret is gone.
    doubtful: whether so much did not fit that somebody has to look.
    """

    thread: StoreThread
    state: StateFile
    store: SecretStore
    register: Register
    secrets: Secrets
    without_secret: frozenset[DeviceId]
    doubtful: bool
    _wake: asyncio.Event = field(default_factory=asyncio.Event)

    @classmethod
    async def open(
        cls, config: Config, environ: Mapping[str, str], wall: Callable[[], int]
    ) -> Self:
        """Open, reconcile and load.  Raises StoreError, ConfigError."""
        thread = StoreThread()
        thread.start()
        try:
            return await cls._open(thread, config, environ, wall)
        except BaseException:
            await thread.aclose()
            raise

    @classmethod
    async def _open(
        cls,
        thread: StoreThread,
        config: Config,
        environ: Mapping[str, str],
        wall: Callable[[], int],
    ) -> Self:
        directory, plugin = config.gateway.state_directory, config.store
        credentials = environ.get("CREDENTIALS_DIRECTORY")
        state = await thread.open(lambda: StateFile(directory))
        store: SecretStore = await thread.open(
            lambda: plugin.plugin(
                plugin.settings, directory, Path(credentials) if credentials else None
            )
        )
        findings = await reconcile(thread, state, store, wall())
        for finding in findings:
            _tell(finding)
        return cls(
            thread,
            state,
            store,
            await Register.load(thread, state, store),
            Secrets(thread, store),
            without_secret(findings),
            any(finding.kind is Kind.DEGRADED for finding in findings),
        )

    @property
    def sealed(self) -> bool:
        """Whether there is no key: nothing can be registered, nobody logged in."""
        return self.store.state is StoreState.SEALED

    @property
    def faults(self) -> tuple[str, ...]:
        """What is wrong with what is kept, the worst first."""
        doubts = DOUBTFUL if self.doubtful else ""
        return tuple(filter(None, (self.store.why, self.state.fault, doubts)))

    @property
    def degraded(self) -> bool:
        """Whether somebody has to look: not where the one fault is that there is no way back."""
        return not self.sealed and any(fault != NO_RECOVERY for fault in self.faults)

    async def administer(self, work: Callable[[], T]) -> T:
        """Run what an operator asks of the store, on its thread; `tend` then goes on with it.

        work: as `StoreThread.run` takes it.  Raises what it raises, and StoreError.
        """
        try:
            return await self.thread.run(work)
        finally:
            self._wake.set()

    async def tend(
        self,
        now: Callable[[], float],
        wall: Callable[[], int],
        synchronised: Callable[[], bool | None],
    ) -> None:
        """Let the store do what is due, for ever: get its key, change it, forget what is old.

        now: the event loop's clock, seconds.  wall: microseconds since the epoch.
        synchronised: whether that can be trusted.
        """
        purge_at = now()
        while True:
            self._wake.clear()
            pause = await self._tend_once(now())
            if now() >= purge_at and await self._purge(wall, synchronised):
                purge_at = now() + PURGE_EVERY
            if pause > 0:
                await _first(self._wake, pause)

    async def _tend_once(self, now: float) -> float:
        try:
            return await self.thread.run(lambda: self.store.tend(now))
        except StoreError as error:
            log.warning("The secret store could not be tended: %s.", error)
            return IDLE

    async def _purge(
        self, wall: Callable[[], int], synchronised: Callable[[], bool | None]
    ) -> bool:
        try:
            # asked on the store thread, as it blocks
            if not await self.thread.run(synchronised):
                return False
            await self.secrets.purge(wall())
        except StoreError as error:
            log.warning("The quarantine of the secret store was not looked through: %s.", error)
            return False
        return True

    async def check_ready(self) -> Reason | None:
        """Why no secret could be stored now; None if one could."""
        try:
            await self.secrets.headroom()
        except StoreError as error:
            return reason_of(error)
        return None


async def _first(event: asyncio.Event, seconds: float) -> None:
    """Wait for an event, so many seconds at most."""
    # not by wait_for: until Python 3.12 it may swallow a cancellation
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


def _tell(finding: Finding) -> None:
    level = logging.INFO if finding.kind in _QUIET else logging.WARNING
    fields = {"device": finding.device or "", "reason": finding.kind.value}
    fields["message_id"] = finding.kind.value
    log.log(level, "Reconciled: %s", finding.text, extra=fields)
