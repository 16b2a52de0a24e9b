"""Hand-over: a child whose session its holder has, while gatewayd keeps the secret and renews it.

A login would end the holder's session, so that gatewayd logs in once, to commit the secret, and
never again.  A renewal therefore has no proof, and time takes its place:

    candidate n on record → secret in slot n → wait → pointer to slot n → old slot emptied

While it waits, the holder still gets the old secret, and an operator can make the new one known
at the cloud.  It ends when the operator says so, or halfway to the end of the old one, which stays
good at the cloud until then: a holder that reads the new one late loses nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from gatewayd.cloud.provider import CloudProvider, Credential, SupportsHandOver
from gatewayd.device import lifecycle as lc
from gatewayd.device.identity import DeviceId
from gatewayd.device.lifecycle import PostEvent
from gatewayd.device.reason import Reason
from gatewayd.device.record import Record, RecordStore
from gatewayd.device.recovery import SECRET_LOST
from gatewayd.device.secret import SecretSlots
from gatewayd.errors import (
    ConfigError,
    RecordChanged,
    SecretCorrupt,
    SecretNotFound,
    StoreError,
    WrongState,
)
from gatewayd.runtime.clock import Clock
from gatewayd.sessions.renewal import RenewalFailed, SecretRenewal, next_try

OFFERED = Reason(
    "renewal-offered",
    "A new secret is ready. Its holder still gets the old one, so that there is time to make the "
    "new one known at the cloud; then it gets the new one.",
    "To give it to the holder at once, run gatewayctl ca renew CHILD --cloud CLOUD.",
)
REPLACED = Reason(
    "secret-replaced",
    "Its holder gets a new secret from now on. The old one stays good at the cloud until it "
    "expires; gatewayd cannot see which of them is in use.",
)
TAKEN_BACK = Reason("taken-back", "Its rule lets gatewayd have the session.")


class HandOverListener(Protocol):
    """A listener for what holders may have.  Never blocks, never raises."""

    def secret_held(self, device: DeviceId) -> None:
        """A child's holder may have its secret, which is another than before, or for the first
        time."""

    def secret_withheld(self, device: DeviceId) -> None:
        """A child's holder may have its secret no more."""


@dataclass(slots=True)
class _Held:
    """A child that is handed over.

    due: when the next step of its renewal is, seconds since the epoch; None: it has none.
    asked: set when an operator wants that step now.
    """

    due: float | None = None
    asked: asyncio.Event = field(default_factory=asyncio.Event)


def halfway(made: float, ends: float | None) -> float:
    """Return when a new secret is put into use: halfway to the end of the one in use.

    made: when the new one was made, seconds since the epoch.  ends: None where there is no end,
    and nothing to wait for.
    """
    return made if ends is None else max(made, (made + ends) / 2)


class HeldSecrets:
    """A worker that keeps the secrets of children whose sessions their holders have.

    is_for_holder: whether, by the rules in force, a child's holder is to have its session.
    retry_soon, retry_late: seconds until a renewal is tried again, which may succeed soon or not.
    """

    def __init__(  # noqa: PLR0913  # three by keyword
        self,
        records: RecordStore,
        secrets: SecretSlots,
        providers: Mapping[str, CloudProvider],
        renewal: SecretRenewal,
        clock: Clock,
        *,
        is_for_holder: Callable[[Record], bool],
        retry_soon: float,
        retry_late: float,
    ) -> None:
        self._records, self._secrets, self._providers = records, secrets, providers
        self._renewal, self._clock, self._is_for_holder = renewal, clock, is_for_holder
        self._retry_soon, self._retry_late = retry_soon, retry_late
        self._held: dict[DeviceId, _Held] = {}
        self._listeners: list[HandOverListener] = []

    def listen(self, listener: HandOverListener) -> None:
        """Have a listener learn what holders may have."""
        self._listeners.append(listener)

    def is_held(self, device: DeviceId) -> bool:
        """Whether a child's holder may have its secret now."""
        return device in self._held

    def renew(self, device: DeviceId) -> bool:
        """Take the next step of a renewal now; False where there is none to take."""
        held = self._held.get(device)
        if held is None or held.due is None:
            return False
        held.asked.set()
        return True

    async def credential(self, device: DeviceId) -> Credential:
        """Return what a child's holder logs in with, just read from the disk.

        Raises WrongState where it is not handed over, StoreError, and ConfigError where the roots
        of its cloud cannot be read.
        """
        record, found = self._records.get(device), None
        if record is not None and device in self._held:
            found = await self._credential(record)
        if found is None or device not in self._held:  # it may be rejected meanwhile
            raise WrongState(
                f'Device {device} is not handed over: this needs session = "holder" in its rule, '
                "and its first login"
            )
        return found

    async def hold(self, device: DeviceId, post: PostEvent) -> None:
        """Keep the secret of a child for its holder, until cancelled, or gatewayd is to log in."""
        record = self._records[device]
        if not self._is_for_holder(record):
            post(lc.TakenBack(TAKEN_BACK))
            return
        try:
            await self._secrets.get(record.slot(record.stored))
        except (SecretNotFound, SecretCorrupt):
            post(lc.SecretLost(SECRET_LOST))
            return
        held = self._held[device] = _Held()
        try:
            self._notify(device)
            if await self._renewal.is_offered(record):
                await self._show_offer(device, post)
            while True:
                await self._until_due(device, held)
                await self._wait(held, await self._renew(device, post))
        finally:
            del self._held[device]
            for listener in self._listeners:
                listener.secret_withheld(device)

    async def _until_due(self, device: DeviceId, held: _Held) -> None:
        """Return when the next step of a renewal is due or asked for."""
        while True:
            held.due = await self._next_step(self._records[device])
            moment = math.inf if held.due is None else held.due
            is_due = moment <= self._clock.timestamp() and self._clock.is_set()
            if held.asked.is_set() or is_due:
                held.asked.clear()
                return
            await self._wait(held, self._clock.until_look(moment))

    async def _renew(self, device: DeviceId, post: PostEvent) -> float:
        """Take the next step of a renewal; return the seconds to wait after a failure."""
        try:
            hint = await self._renewal.enrolment_hint(self._records[device])
            if await self._renewal.put_into_use(device):
                post(lc.SecretRenewed(replace(REPLACED, remedy=hint)))
                self._notify(device)
            else:
                await self._renewal.offer(device)
                await self._show_offer(device, post)
        except RecordChanged:
            raise
        except (RenewalFailed, StoreError) as error:
            wait, reason = next_try(error, soon=self._retry_soon, late=self._retry_late)
        else:
            return 0.0
        post(lc.RenewalDelayed(reason, self._clock.now() + wait))
        return wait

    async def _show_offer(self, device: DeviceId, post: PostEvent) -> None:
        record = self._records[device]
        hint, due = await self._renewal.enrolment_hint(record), await self._next_step(record)
        offered = replace(OFFERED, remedy=f"{hint} {OFFERED.remedy}".strip())
        left = (due or 0.0) - self._clock.timestamp()
        post(lc.RenewalDelayed(offered, self._clock.now() + max(left, 0.0)))

    async def _next_step(self, record: Record) -> float | None:
        due = await self._renewal.due(record)
        if due is None or not await self._renewal.is_offered(record):
            return due  # also where the process died before the new secret was in its slot
        try:
            found = await self._credential(record)
        except ConfigError:  # of roots that cannot be read: the holder gets nothing meanwhile
            return self._clock.timestamp() + self._retry_soon
        return halfway(record.attempted_at / 1e6, found.valid_until if found else None)

    async def _credential(self, record: Record) -> Credential | None:
        issuer = self.issuer(record)
        if issuer is None or record.cloud is None:
            return None
        secret = await self._secrets.get(record.slot(record.stored))
        return await issuer.credential(record.cloud, secret)

    def issuer(self, record: Record) -> SupportsHandOver | None:
        """Return the provider, if others than gatewayd can log in to it with the child's secret."""
        if record.cloud is None:
            return None
        provider = self._providers.get(record.cloud.provider)
        if isinstance(provider, SupportsHandOver) and provider.hands_over(record.cloud.route):
            return provider
        return None

    def _notify(self, device: DeviceId) -> None:
        for listener in self._listeners:
            listener.secret_held(device)

    async def _wait(self, held: _Held, seconds: float) -> None:
        """Wait, but no longer than until an operator asks."""
        if seconds > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await held.asked.wait()
