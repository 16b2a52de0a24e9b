"""A session for each child that is here: opened, kept, reopened.

No login with a secret that was not just read back from the durable store; and the first login,
which commits the secret at the cloud, is put on record before it happens.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import TypeAlias

from gatewayd.backoff import Budget, delay
from gatewayd.clocks import Clocks
from gatewayd.cloud.provider import (
    NO_PROVIDER,
    CloudProvider,
    Ended,
    LoginFailed,
    LoginRefused,
    LoginRemoved,
    Session,
)
from gatewayd.device import lifecycle as lc
from gatewayd.device.identity import DeviceId
from gatewayd.device.reason import Reason
from gatewayd.device.record import Record, Records, Verdict, still
from gatewayd.device.recovery import LOST, of_store, on_refused_login
from gatewayd.device.secret import Secret, SecretRef
from gatewayd.errors import SecretCorrupt, SecretNotFound, StoreError
from gatewayd.sessions.settings import SessionSettings

GONE = Reason("secret-gone", "The secret is not in its slot any more, and was never used.")
TAKEN_OVER = Reason(
    "session-contested",
    "The cloud closes each session of this child soon after it was opened.",
    "Look whether another gateway, or the child itself, logs in with the same device name.",
)
SHORT = 20.0
"""A session that ended sooner, seconds, was taken over, or is about to be (vendors close the
older of two sessions of one device)."""

Post: TypeAlias = Callable[[lc.Event], None]


class SessionKeeper:
    """Opens sessions, many at a time, each child with its own back-off and login budget.

    secret: reads a slot from the durable store.  Raises StoreError.
    checkpoint: called with the name of each step just completed; tests crash there.
    """

    def __init__(
        self,
        records: Records,
        secret: Callable[[SecretRef], Awaitable[Secret]],
        providers: Mapping[str, CloudProvider],
        settings: SessionSettings,
        clocks: Clocks,
        checkpoint: Callable[[str], None],
    ) -> None:
        self._records, self._secret, self._providers = records, secret, providers
        self._settings, self._checkpoint = settings, checkpoint
        self._now, self._wall, self._jitter = clocks.now, clocks.wall, clocks.jitter
        self._turns = asyncio.Semaphore(settings.connecting)

    async def activate(self, device: DeviceId, post: Post) -> None:
        """Put on record that this child's secret is about to be used."""
        record = self._records[device]
        if record.activating != record.stored:
            stored = record.stored
            await self._records.update(
                device, lambda r: replace(still(r, stored=stored), activating=stored)
            )
        self._checkpoint("activation-on-record")
        post(lc.ActivationStarted())

    async def connect(self, device: DeviceId, post: Post) -> None:
        """Keep a session open, until cancelled or until somebody else has to act."""
        budget = Budget(self._settings.per_minute, 60.0)
        failures = 0
        while True:
            await asyncio.sleep(budget.reserve(self._now()))
            record = self._records[device]
            try:
                session = await self._log_in(record)
            except LoginRefused as refusal:
                if await self._refused(record, refusal, post):
                    return
            except LoginRemoved as removal:
                await self._removed(record, removal.reason, post)
                return
            except LoginFailed as failure:
                failures += 1
                await self._delay(failures, failure.reason, post)
            except StoreError as error:
                if await self._secret_failed(record, error, post):
                    return
                failures += 1
                await self._delay(failures, of_store(error), post)
            else:
                lasted, ended = await self._keep(record, session, post)
                if ended.removed:
                    await self._removed(record, ended.reason, post)
                    return
                failures = failures + 1 if lasted < SHORT else 0
                reason = TAKEN_OVER if failures > 1 else ended.reason
                post(lc.SessionClosed(reason))
                await self._delay(failures + 1, reason, post)

    async def _log_in(self, record: Record) -> Session:
        assert record.cloud is not None, "only a registered child logs in"
        assert record.activating == record.stored, "the first login is put on record before it"
        provider = self._providers.get(record.cloud.provider)
        if provider is None:
            raise LoginFailed(NO_PROVIDER)
        async with self._turns:
            secret = await self._secret(record.slot(record.stored))
            return await provider.connect(record.cloud, secret)

    async def _keep(self, record: Record, session: Session, post: Post) -> tuple[float, Ended]:
        """Hold a session until it ends; return how long it lasted, seconds, and how it ended."""
        opened = self._now()
        try:
            self._checkpoint("logged-in")
            await self._confirm(record)
            post(lc.SessionOpened())
            ended = await session.wait_closed()
            return self._now() - opened, ended
        finally:
            await session.close()

    async def _confirm(self, record: Record) -> None:
        if not record.activated_at:
            now = self._wall()
            await self._records.update(
                record.device,
                lambda r: replace(still(r, stored=record.stored), activated_at=now, stale=0),
            )
            self._checkpoint("activation-confirmed")

    async def _removed(self, record: Record, reason: Reason, post: Post) -> None:
        """Remember that the cloud removed a child, so that it does not come back by itself."""
        now = self._wall()
        await self._records.update(
            record.device,
            lambda r: replace(
                still(r, stored=record.stored),
                verdict=Verdict.RETIRED,
                verdict_at=now,
                reason=reason.code,
            ),
        )
        post(lc.Retired(reason))

    async def _refused(self, record: Record, refusal: LoginRefused, post: Post) -> bool:
        """Judge a refused login; return whether that ends the work."""
        event = on_refused_login(record, refusal.reason, stale=refusal.stale)
        if isinstance(event, lc.SessionDelayed):
            wait = self._settings.retry_refused
            post(replace(event, until=self._now() + wait))
            await asyncio.sleep(wait)
            return False
        if isinstance(event, lc.SecretStale):
            await self._records.update(
                record.device, lambda r: still(r, stored=record.stored).without_stale_secret()
            )
        post(event)
        return True

    async def _secret_failed(self, record: Record, error: StoreError, post: Post) -> bool:
        """Judge an unreadable slot; return whether that ends the work."""
        if not isinstance(error, SecretNotFound | SecretCorrupt):
            return False
        if record.activated_at:
            post(lc.SecretLost(LOST))
        else:
            await self._records.update(
                record.device, lambda r: replace(still(r, stored=record.stored), stored=0)
            )
            post(lc.SecretStale(GONE))
        return True

    async def _delay(self, failures: int, reason: Reason, post: Post) -> None:
        settings = self._settings
        wait = delay(failures, settings.retry_first, settings.retry_last, self._jitter())
        post(lc.SessionDelayed(reason, self._now() + wait))
        await asyncio.sleep(wait)
