"""Logins: with the secret in use, just read from the disk, or with one that is to replace it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from gatewayd.cloud.provider import NO_PROVIDER, CloudProvider, LoginFailed, LoginRefused
from gatewayd.device.record import Record
from gatewayd.device.secret import SecretSlots
from gatewayd.errors import SecretCorrupt, SecretNotFound
from gatewayd.runtime.clock import Clock
from gatewayd.sessions.renewal import OpenSession, SecretRenewal


class LoginTurns:
    """The logins under way at each cloud: a limit for all who log children in.

    connecting: how many at each cloud.
    """

    def __init__(self, clouds: Mapping[str, object], connecting: int) -> None:
        self._turns = {name: asyncio.Semaphore(connecting) for name in clouds}

    def at(self, cloud: str) -> asyncio.Semaphore:
        """Return the turns at a cloud that is configured."""
        return self._turns[cloud]


class SessionLogin:
    """Logs children in.

    renewal: of the same records.  later: seconds after which a new secret that was tried before is
    tried again.
    """

    def __init__(
        self,
        secrets: SecretSlots,
        providers: Mapping[str, CloudProvider],
        turns: LoginTurns,
        renewal: SecretRenewal,
        clock: Clock,
        later: float,
    ) -> None:
        self._secrets, self._providers, self._turns = secrets, providers, turns
        self._renewal, self._clock, self._later = renewal, clock, later

    async def open(self, record: Record) -> tuple[OpenSession, bool]:
        """Log in with the secret in use or, if that fails, with the one that is to replace it.

        Returns the session, and whether another secret is in use now.
        Raises LoginRefused, LoginRemoved, LoginFailed, StoreError.
        """
        try:
            return await self._open_with_stored(record), False
        except (LoginRefused, SecretNotFound, SecretCorrupt) as error:
            return await self._renewal.rescue(record, error), True

    async def _open_with_stored(self, record: Record) -> OpenSession:
        assert record.cloud is not None, "only a registered child logs in"
        assert record.activating == record.stored, "the first login is recorded before it happens"
        provider = self._providers.get(record.cloud.provider)
        if provider is None:
            raise LoginFailed(NO_PROVIDER)
        async with self._turns.at(record.cloud.provider):
            secret = await self._secrets.get(record.slot(record.stored))
            session = await provider.connect(record.cloud, secret)
            due = self.again(record.candidate, provider.renew_at(record.cloud, secret))
            return OpenSession(session, due, guessed=not self._clock.is_set())

    def again(self, candidate: int, due: float | None) -> float | None:
        """Return when to renew: later, if there is a candidate, which was tried before.

        due, and what is returned: seconds since the epoch; None for never.
        """
        later = self._clock.timestamp() + self._later
        return due if due is None or not candidate else max(due, later)
