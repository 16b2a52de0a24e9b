"""The durable half, opened and reconciled: the store thread, the register, the secrets."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from gatewayd.config import Config
from gatewayd.device.identity import DeviceId
from gatewayd.device.reason import Reason
from gatewayd.device.recovery import of_store
from gatewayd.errors import StoreError
from gatewayd.reconcile import Finding, Kind, reconcile, without_secret
from gatewayd.register import Register, Secrets
from gatewayd.secretstore.store import Protection, SecretStore
from gatewayd.statefile import StateFile
from gatewayd.storethread import StoreThread

log = logging.getLogger(__name__)

_QUIET = {Kind.COMPLETED, Kind.OUTDATED}


@dataclass(frozen=True, slots=True)
class Storage:
    """What is durable, ready to be used from the event loop.

    without_secret: children whose stored secret is gone.
    degraded: whether so much did not fit that somebody has to look.
    """

    thread: StoreThread
    store: SecretStore
    register: Register
    secrets: Secrets
    without_secret: frozenset[DeviceId]
    degraded: bool

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
            store,
            await Register.load(thread, state, store),
            Secrets(thread, store),
            without_secret(findings),
            any(finding.kind is Kind.DEGRADED for finding in findings),
        )

    @property
    def sealed(self) -> bool:
        """Whether there is no key: nothing can be registered, nobody logged in."""
        return self.store.protection is Protection.NONE

    async def obstacle(self) -> Reason | None:
        """Why no secret could be stored now; None if one could."""
        try:
            await self.secrets.headroom()
        except StoreError as error:
            return of_store(error)
        return None


def _tell(finding: Finding) -> None:
    level = logging.INFO if finding.kind in _QUIET else logging.WARNING
    fields = {"device": finding.device or "", "reason": finding.kind.value}
    fields["message_id"] = finding.kind.value
    log.log(level, "Reconciled: %s", finding.text, extra=fields)
