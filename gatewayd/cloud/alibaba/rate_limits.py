"""How fast a gateway may send: the cloud's limits, kept on our side.  Pure."""

from __future__ import annotations

from collections.abc import Callable

from gatewayd.cloud.alibaba import alink
from gatewayd.cloud.alibaba.alink import SubName
from gatewayd.runtime.backoff import Pacer, RateLimiter

ALL, LOGINS, OTHERS = 24, 150, 10
"""In a second: messages of one device, of which the cloud takes 30; children logged in through one
gateway, of which it takes 200 ("Limits" of the documentation); and requests of each other method,
of which it says only that too many are refused."""

CHILD_LOGINS, WHILE = 5, 75.0
"""Logins of one child in so many seconds, at most: the cloud takes 5 in 60.  The rest is for what
has to wait before it leaves."""


class ChildLogins:
    """A limit for the logins of each child.  now: seconds of a steady clock."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._children: dict[SubName, tuple[float, RateLimiter]] = {}

    def take(self, child: SubName) -> bool:
        """Take one login of a child; return whether one was left."""
        now = self._now()
        _, limiter = self._children.pop(child, (now, RateLimiter(CHILD_LOGINS, WHILE)))
        self._children[child] = now, limiter
        self._forget_old(now)
        return limiter.take(now)

    def _forget_old(self, now: float) -> None:
        """Keep the table as small as the number of recent logins; the oldest is the first."""
        oldest = next(iter(self._children))
        if self._children[oldest][0] + WHILE <= now:
            del self._children[oldest]


class AlibabaRateLimits:
    """The limits of one gateway.  now: seconds of a steady clock.

    There are two waits, one after the other: a request that waits for its busy method takes no
    moment away from the others meanwhile.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._all, self._logins = Pacer(ALL), Pacer(LOGINS)
        others = set(alink.METHODS) - {alink.LOGIN, alink.BATCH_LOGIN}
        self._others = {method: Pacer(OTHERS) for method in others}

    def for_method(self, method: str, params: object) -> float:
        """Take the next free moment of this method; return the seconds until it comes."""
        pacer = self._others.get(method, self._logins)
        return pacer.reserve(self._now(), _count(method, params))

    def for_device(self) -> float:
        """Take the next free moment of the gateway for any message; return the same."""
        return self._all.reserve(self._now())


def _count(method: str, params: object) -> int:
    """Return how much this counts: a batch of logins as many, all else as one."""
    if method == alink.BATCH_LOGIN and isinstance(params, dict):
        return max(1, len(params["deviceList"]))
    return 1
