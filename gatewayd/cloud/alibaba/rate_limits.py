"""How fast a gateway may send: the cloud's limits, kept on our side."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from gatewayd.cloud.alibaba import alink
from gatewayd.cloud.alibaba.alink import SubName
from gatewayd.cloud.sub_devices.pending_requests import WAITERS
from gatewayd.device.reason import Reason
from gatewayd.network.connect_errors import ConnectionEnd
from gatewayd.runtime.rate_limiter import (
    AcknowledgedWindow,
    Pacer,
    RateLimiter,
    SlidingWindow,
    TooManyWaiting,
)

ALL, LOGINS, OTHERS = 24, 150, 10
"""In a second: messages of one device, of which the cloud takes 30; children logged in through one
gateway, of which it takes 200 ("Limits" of the documentation); and requests of each other method,
of which it says only that too many are refused.

The batches of a second, and one that left late with them, are 200 logins."""

CHILD_LOGINS, WHILE = 5, 75.0
"""Logins of one child in so many seconds, at most: the cloud takes 5 in 60.  The rest is for what
has to wait before it leaves."""

MESSAGES, SECOND = 10, 1.1
"""Messages at QoS 1 of one device that arrive in so many seconds, at most.  The cloud takes 10 in
one, and discards the rest in silence ("Limits" of the documentation)."""
RETRY = 0.1
"""Seconds after which the limit is asked again where too many wait for it."""

EXHAUSTED = "It is tried again when the cloud's limit of connections allows it."


@dataclass(slots=True)
class _Recent:
    """The recent logins of one child.  at: of the last.  cause: why it failed, if it did."""

    at: float
    limiter: SlidingWindow
    cause: Reason | None = None


class ChildLogins:
    """A limit for the logins of each child, which knows why a child logs in so often.

    now: seconds of a steady clock.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._children: dict[SubName, _Recent] = {}

    def take(self, child: SubName) -> bool:
        """Take one login of a child; return whether one was left."""
        now = self._now()
        recent = self._children.pop(child, None) or _Recent(now, _limiter())
        recent.at = now
        self._children[child] = recent
        self._forget_old(now)
        return recent.limiter.take(now)

    def give_back(self, child: SubName) -> None:
        """Note that the last login that was taken has not reached the cloud, and does not count."""
        if recent := self._children.get(child):
            recent.limiter.give_back()

    def note(self, child: SubName, cause: Reason | None) -> None:
        """Note why the last login failed; None for one that succeeded."""
        if recent := self._children.get(child):
            recent.cause = cause

    def waiting(self, child: SubName) -> Reason | None:
        """Return why the child waits for the limit: the true cause; None where there is none."""
        recent = self._children.get(child)
        if recent is None or recent.cause is None:
            return None
        return replace(recent.cause, text=f"{recent.cause.text} {EXHAUSTED}")

    def _forget_old(self, now: float) -> None:
        """Keep the table as small as the number of recent logins; the oldest is the first."""
        oldest = next(iter(self._children))
        if self._children[oldest].at + WHILE <= now:
            del self._children[oldest]


def _limiter() -> SlidingWindow:
    return SlidingWindow(CHILD_LOGINS, WHILE)


class MessageLimit:
    """The limit of what one device publishes at QoS 1, in all its sessions.

    now: seconds of a steady clock.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._rule = AcknowledgedWindow(MESSAGES, SECOND)
        self._limiter = RateLimiter(self._rule, now, WAITERS)

    async def acquire_urgently(self, _: int, ended: asyncio.Future[Any]) -> None:
        """Return when an answer may leave, before what is not urgent.  Raises TooManyWaiting."""
        await self._limiter.acquire(1, ended, urgent=True)

    def arrived(self, _: int) -> None:
        """Note that an answer has arrived, or will not any more."""
        self.acknowledge()

    async def acquire(self, ended: asyncio.Future[ConnectionEnd]) -> None:
        """Return when a message may leave; nothing is counted once the session has ended."""
        while True:
            try:
                await self._limiter.acquire(1, ended)
            except TooManyWaiting:
                await asyncio.sleep(RETRY)
            else:
                return

    @property
    def is_free(self) -> bool:
        """Whether no message counts."""
        return self._rule.wait(self._now(), MESSAGES) <= 0

    @property
    def is_full(self) -> bool:
        """Whether a message would have to wait."""
        return self._rule.wait(self._now()) > 0

    def acknowledge(self, count: int = 1) -> None:
        """Note that so many messages have arrived, or will not any more."""
        self._rule.acknowledge(self._now(), count)


class MessageLimits:
    """The limits of many devices.  Forgotten is one in which no message counts.

    now: seconds of a steady clock.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._limits: dict[SubName, MessageLimit] = {}

    def of(self, device: SubName) -> MessageLimit:
        """Return the limit of a device, whose sessions share it."""
        limit = self._limits.pop(device, None) or MessageLimit(self._now)
        self._limits[device] = limit
        for oldest in list(itertools.islice(self._limits, 2)):
            if self._limits[oldest].is_free and oldest != device:
                del self._limits[oldest]
        return limit


class AlibabaRateLimits:
    """The limits of one gateway, in all its sessions.  now: seconds of a steady clock.

    messages: the limiter of all messages at QoS 0.  reports: that of those at QoS 1.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self.messages = RateLimiter(Pacer(ALL), now, WAITERS)
        self.reports = MessageLimit(now)
        self._logins = RateLimiter(Pacer(LOGINS), now, WAITERS, self.messages)
        others = set(alink.METHODS) - {alink.LOGIN, alink.BATCH_LOGIN}
        self._others = {
            method: RateLimiter(Pacer(OTHERS), now, WAITERS, self.messages) for method in others
        }

    def of(self, method: str) -> RateLimiter:
        """Return the limiter of the requests of a method."""
        return self._others.get(method, self._logins)


def weight(method: str, params: object) -> int:
    """Return how much a request counts: a batch of logins as many, all else as one."""
    if method == alink.BATCH_LOGIN and isinstance(params, dict):
        return max(1, len(params["deviceList"]))
    return 1
