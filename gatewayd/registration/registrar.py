"""Registration: a cloud issues a child's secret, and the registrar makes it durable.

This module guarantees the order of the durable steps:

    intent(n) on record → request to the cloud → secret in slot n → pointer to slot n

The intent of a new child is recorded with its admission, where its turn comes at once; else here.
The pointer also lets a login use the secret.  If the process dies between any two of them, the next
run continues (device/recovery.py).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial

from gatewayd.cloud.provider import (
    NO_PROVIDER,
    CloudProvider,
    Failed,
    Issued,
    Outcome,
    Refused,
    Unknown,
)
from gatewayd.device import lifecycle as lc
from gatewayd.device.identity import DeviceId
from gatewayd.device.lifecycle import PostEvent
from gatewayd.device.reason import CLOCK_NOT_SET, Reason
from gatewayd.device.record import CloudName, Record, RecordStore, Verdict, unchanged
from gatewayd.device.recovery import SECRET_LOST, reason_of
from gatewayd.device.secret import Secret, SecretSlots
from gatewayd.errors import RecordChanged, StoreError
from gatewayd.runtime.backoff import delay
from gatewayd.runtime.clock import Clock
from gatewayd.runtime.rate_limiter import RateLimiter, SlidingWindow
from gatewayd.settings.declare import RetrySettings, setting


@dataclass(frozen=True, slots=True)
class RegistrationSettings(RetrySettings):
    """[registration]"""

    in_flight: int = setting(
        32, "children that are registered at the same time, at each cloud", low=1, high=1000
    )
    per_minute: int = setting(
        600, "most registrations that begin in one minute, at each cloud", low=1, high=60000
    )
    quiet_time: float = setting(
        60.0,
        "wait after a lost reply, so that the earlier request cannot take effect later",
        unit="s",
        low=0,
        high=3600,
    )


STOPPING = Reason("stopping", "gatewayd is stopping.")
QUIET = Reason(
    "quiet-time",
    "An earlier request may still be under way, so that the next one waits.",
    substate="waiting",
)
AT_HAND = 2.0
"""Seconds in which an intent that was recorded with the admission may be used.  The quiet time is
counted from the intent, so that the request must not be much younger."""
STORE_RETRY = 2.0
"""Seconds between two tries to make an issued secret durable.  It is never given up."""


def ignore_step(_: str) -> None:
    """Do nothing at a completed step: the checkpoint of a gatewayd that no test watches."""


_NO_INTENT = (-1, -1)
"""Attempt and time of what is reserved: no record has them."""


class UnusedIntents:
    """The intents on record for which nothing was requested yet, as far as this process knows.

    limit: how many there may be.  now: the event loop's clock, seconds.
    """

    def __init__(self, limit: int, now: Callable[[], float]) -> None:
        self._limit, self._now = limit, now
        self._intents: dict[DeviceId, tuple[int, int, float]] = {}

    def reserve(self, device: DeviceId, running: int) -> bool:
        """Keep room for the intent of a child, if there is any beside so many requests under way.

        What is older than AT_HAND makes room.
        """
        while len(self._intents) + running >= self._limit:
            oldest = next(iter(self._intents), None)
            if oldest is None or self._is_new(self._intents[oldest]):
                return False
            del self._intents[oldest]  # rejected, or waits for something else, or never recorded
        self._note(device, *_NO_INTENT)
        return True

    def add(self, record: Record) -> None:
        """Note the newest intent of a child, as it was just recorded."""
        self._note(record.device, record.attempt, record.attempted_at)

    def covers(self, record: Record) -> bool:
        """Whether nothing was requested for the newest intent of a child."""
        known = self._intents.get(record.device)
        return known is not None and known[:2] == (record.attempt, record.attempted_at)

    def take(self, record: Record | None) -> bool:
        """Whether the newest intent of an admitted child can be used; it is used up in any case."""
        if record is None or (known := self._intents.get(record.device)) is None:
            return False
        covers = self.covers(record)
        del self._intents[record.device]
        return covers and self._is_new(known) and record.verdict is Verdict.ADMITTED

    def _note(self, device: DeviceId, attempt: int, attempted_at: int) -> None:
        """Put an intent behind all others: the oldest is the first."""
        self._intents.pop(device, None)
        self._intents[device] = attempt, attempted_at, self._now()

    def _is_new(self, intent: tuple[int, int, float]) -> bool:
        return self._now() - intent[2] <= AT_HAND


class RegistrationTurns:
    """The turns at one cloud: those that it does not answer keep none of another cloud waiting.

    now: the event loop's clock, seconds.  running: requests under way.  unused: intents on record.
    """

    def __init__(self, settings: RegistrationSettings, now: Callable[[], float]) -> None:
        self._now = now
        self._free = asyncio.Semaphore(settings.in_flight)
        self._per_minute = SlidingWindow(settings.per_minute, 60.0)
        self._rate = RateLimiter(self._per_minute, now, settings.in_flight)
        self.unused = UnusedIntents(settings.in_flight, now)
        self.running = 0

    @contextlib.asynccontextmanager
    async def take(self) -> AsyncIterator[None]:
        """Wait for a turn, and hold it."""
        async with self._free:
            await self._rate.acquire()
            self.running += 1
            try:
                yield
            finally:
                self.running -= 1

    def reserve(self, device: DeviceId) -> bool:
        """Whether a new child has its turn at once; it is kept for a moment."""
        return (
            not self._free.locked()
            and not self._per_minute.wait(self._now())
            and self.unused.reserve(device, self.running)
        )


class Registrar:
    """A worker that registers children, many at a time, each with its own back-off.

    checkpoint: called with the name of each completed step; tests crash there.
    """

    def __init__(
        self,
        records: RecordStore,
        secrets: SecretSlots,
        providers: Mapping[str, CloudProvider],
        settings: RegistrationSettings,
        clock: Clock,
        checkpoint: Callable[[str], None],
    ) -> None:
        self._records, self._secrets, self._providers = records, secrets, providers
        self._settings, self._checkpoint = settings, checkpoint
        self._now, self._wall, self._jitter = clock.now, clock.stamp, clock.jitter
        self._clock = clock
        self._turns: dict[str, RegistrationTurns] = {}
        self._running = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._closing = False

    def beside(self, records: RecordStore, checkpoint: Callable[[str], None]) -> Registrar:
        """Return another one, for other records, which shares the turns of this one."""
        other = Registrar(
            records, self._secrets, self._providers, self._settings, self._clock, checkpoint
        )
        other._turns = self._turns
        return other

    async def register(self, device: DeviceId, post: PostEvent) -> None:
        """Work on a child until its secret is durable, or an operator has to act."""
        record = self._records[device]
        if record.elsewhere.code:
            post(lc.OwnedElsewhere(record.elsewhere))
            return
        if not self._turns_at(record.cloud).unused.covers(record):
            if await self._has_secret_already(device, post):
                return
            await self._wait_quiet_time(device, post)
        failures = 0
        while True:
            outcome = await self._attempt_in_turn(device, post)
            match outcome:
                case Issued():
                    post(lc.SecretStored())
                    return
                case Refused(reason):
                    post(lc.RegistrationRefused(reason))
                    return
                case _:
                    failures += 1
                    await self._wait_after(outcome, failures, post)

    def reserve(self, device: DeviceId, name: CloudName) -> bool:
        """Whether a new child has its turn at once; it is kept for a moment."""
        return (
            not self._closing
            and self._clock.is_set()
            and name.provider in self._providers
            and self._turns_at(name).reserve(device)
        )

    def begun(self, record: Record) -> None:
        """Note that the intent of a new child is on record; nothing was requested yet."""
        self._turns_at(record.cloud).unused.add(record)
        self._checkpoint("intent-on-record")

    async def drain(self, seconds: float) -> None:
        """Start no further request, and wait for those under way, at most so many seconds."""
        self._closing = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._idle.wait()

    async def _has_secret_already(self, device: DeviceId, post: PostEvent) -> bool:
        """Whether an earlier run has left a secret, or has used one; then post the event."""
        record = self._records[device]
        for attempt in (record.stored, record.attempt):
            if attempt and await self._secrets.holds(record.slot(attempt)):
                if attempt not in (record.stored, record.candidate):
                    await self._point(record, attempt)
                post(lc.SecretStored())
                return True
        if record.activated_at:
            post(lc.SecretLost(SECRET_LOST))
        return bool(record.activated_at)

    async def _wait_quiet_time(self, device: DeviceId, post: PostEvent) -> None:
        """Wait until an earlier request whose reply was lost can no longer take effect."""
        if (wait := self._quiet(self._records[device])) > 0:
            post(lc.RegistrationDelayed(QUIET, self._now() + wait))
            await asyncio.sleep(wait)

    def quiet_for(self, device: DeviceId) -> float:
        """Return the seconds for which a child has to wait for an earlier request; 0 for none."""
        record = self._records.get(device)
        if record is None or self._turns_at(record.cloud).unused.covers(record):
            return 0.0
        return self._quiet(record)

    def _quiet(self, record: Record) -> float:
        """Return the seconds in which the newest request may still take effect; 0 for none."""
        if not record.attempt or not record.attempted_at:
            return 0.0
        elapsed = (self._wall() - record.attempted_at) / 1e6 - AT_HAND
        return max(0.0, min(self._settings.quiet_time, self._settings.quiet_time - elapsed))

    async def _settle(self, intent: Record) -> None:
        """Put on record that nothing of an intent is under way, so that the next need not wait."""
        with contextlib.suppress(StoreError):  # a wait is all that this costs
            await self._records.update(
                intent.device,
                lambda r: unchanged(
                    r, cloud=intent.cloud, attempt=intent.attempt, stored=intent.stored
                ).without_request(),
            )

    async def _wait_after(self, outcome: Failed | Unknown, failures: int, post: PostEvent) -> None:
        settings = self._settings
        wait = delay(failures, settings.retry_first, settings.retry_last, self._jitter())
        if isinstance(outcome, Unknown):
            wait = max(wait, settings.quiet_time)
            post(lc.RegistrationUnknown(outcome.reason, self._now() + wait))
        else:
            post(lc.RegistrationDelayed(outcome.reason, self._now() + wait))
        await asyncio.sleep(wait)

    async def _attempt_in_turn(self, device: DeviceId, post: PostEvent) -> Outcome:
        async with self._turns_at(self._records[device].cloud).take():
            self._running += 1
            self._idle.clear()
            try:
                return await self._attempt(device, post)
            finally:
                self._running -= 1
                if not self._running:
                    self._idle.set()

    def _turns_at(self, name: CloudName | None) -> RegistrationTurns:
        """Return the turns at a cloud; those that are not configured share one."""
        cloud = name.provider if name is not None and name.provider in self._providers else ""
        if cloud not in self._turns:
            self._turns[cloud] = RegistrationTurns(self._settings, self._now)
        return self._turns[cloud]

    async def _attempt(self, device: DeviceId, post: PostEvent) -> Outcome:
        record = self._records[device]
        assert record.cloud is not None, "only an admitted child is registered"
        provider = self._providers.get(record.cloud.provider)
        if provider is None:
            return Refused(NO_PROVIDER)
        if record.elsewhere.code:  # since it came to its turn
            return Failed(record.elsewhere)
        unused = self._turns_at(record.cloud).unused
        if (obstacle := await self._obstacle(record.cloud, provider)) is not None:
            if unused.covers(record):
                await self._settle(record)
            return obstacle
        newest = self._records.get(device)  # an operator may have decided otherwise meanwhile
        intent = newest if unused.take(newest) else await self._record_intent(record)
        assert intent is not None, "what was taken is on record"
        return await self._request(provider, record.cloud, intent, post)

    async def _obstacle(self, name: CloudName, provider: CloudProvider) -> Outcome | None:
        """Return why nothing can be requested now; None where something can."""
        if (refusal := provider.check_name(name)) is not None:
            return Refused(refusal)
        if not self._clock.is_set():
            return Failed(CLOCK_NOT_SET)
        for find in (self._secrets.check_ready, partial(provider.check_ready, name)):
            if (not_ready := await find()) is not None:
                return Failed(not_ready)
        return Failed(STOPPING) if self._closing else None

    async def _record_intent(self, record: Record) -> Record:
        now = self._wall()
        intent = await self._records.update(
            record.device,
            lambda r: unchanged(r, cloud=record.cloud, verdict=Verdict.ADMITTED).with_intent(now),
        )
        self._checkpoint("intent-on-record")
        return intent

    async def _request(
        self, provider: CloudProvider, name: CloudName, intent: Record, post: PostEvent
    ) -> Outcome:
        post(lc.RegistrationStarted())
        kept = False

        async def keep(secret: Secret) -> None:
            nonlocal kept
            self._checkpoint("secret-issued")
            post(lc.SecretIssued())
            slot = intent.slot(intent.attempt)
            await self._write_until_durable(lambda: self._secrets.put(slot, secret), post)
            self._checkpoint("secret-in-slot")
            await self._write_until_durable(lambda: self._point(intent, intent.attempt), post)
            kept = True

        outcome = await provider.register(name, keep)
        if isinstance(outcome, Failed | Refused) and not kept:
            await self._settle(intent)
        return Issued() if kept else outcome

    async def _point(self, record: Record, attempt: int) -> None:
        """Point the record to the slot.  From now on its secret may be used to log in."""
        now = self._wall()
        await self._records.update(
            record.device,
            lambda r: unchanged(r, cloud=record.cloud, attempt=record.attempt).with_secret(
                attempt, now
            ),
        )
        self._checkpoint("pointer-on-record")

    async def _write_until_durable(
        self, write: Callable[[], Awaitable[None]], post: PostEvent
    ) -> None:
        """Write until it succeeds: a secret that the cloud has issued is never given up."""
        while True:
            try:
                await write()
            except RecordChanged:
                raise  # the slot has the secret, but the record was changed meanwhile
            except StoreError as error:
                post(lc.StoreDelayed(reason_of(error), self._now() + STORE_RETRY))
                await asyncio.sleep(STORE_RETRY)
            else:
                return
