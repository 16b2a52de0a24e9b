"""The bounds of messages: how fast a child may send, and what a cloud may cost in a day.  Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gatewayd.device.identity import DeviceId
from gatewayd.messages.outbox.file import Spent
from gatewayd.messages.settings import CloudBudget

BURST = 10.0
"""Seconds of its rate that a child may send at once."""
HEADERS = 100
"""Bytes that a message costs on the way besides its topic and its payload: MQTT, TLS and TCP, and
its acknowledgement."""
DAY = 86_400
"""Seconds."""
NOTHING = Spent(0)
"""What a message costs at a cloud without a budget."""


@dataclass(slots=True)
class _Bucket:
    """What a child may still send at once.

    at: when that was counted, seconds.  rate: that of then, messages a second.
    """

    tokens: float
    at: float
    rate: float


class ChildRates:
    """How fast each child may send: a bucket of tokens for each that has sent."""

    def __init__(self) -> None:
        self._buckets: dict[DeviceId, _Bucket] = {}

    def take(self, child: DeviceId, rate: float, now: float) -> bool:
        """Count a message; return whether the child may send it.

        rate: messages a second.  now: of a steady clock.
        """
        most = max(1.0, rate * BURST)
        bucket = self._buckets.get(child)
        if bucket is None:
            bucket = self._buckets[child] = _Bucket(most, now, rate)
        gained = max(0.0, now - bucket.at) * rate
        bucket.tokens, bucket.at, bucket.rate = min(most, bucket.tokens + gained), now, rate
        if bucket.tokens < 1.0:
            return False
        bucket.tokens -= 1.0
        return True

    def forget(self, child: DeviceId) -> None:
        """Remove a child."""
        self._buckets.pop(child, None)

    def forget_idle(self, now: float) -> None:
        """Remove the children whose buckets are full: they can be made again."""
        for child, bucket in tuple(self._buckets.items()):
            if bucket.tokens + (now - bucket.at) * bucket.rate >= max(1.0, bucket.rate * BURST):
                del self._buckets[child]


class DailySpending:
    """What messages have cost at each cloud today, and whether more may be spent.

    After the first message that has to wait, none is sent on that day: they keep their order.
    A day that is not the one before begins at nothing, also where the clock was set back: so a
    clock that is corrected costs a day's budget at most, and never keeps messages back for years.

    spent: of an earlier run.
    """

    def __init__(self, budgets: Mapping[str, CloudBudget], spent: Mapping[str, Spent]) -> None:
        self._budgets, self._spent = budgets, dict(spent)
        self._closed: dict[str, int] = {}

    def take(self, cloud: str, size: int, now: float) -> Spent | None:
        """Count a message that is to be sent; None if it has to wait for another day.

        size: of topic and payload, bytes.  now: seconds since the epoch.
        Returns what is spent with it, to be kept; for a cloud without a budget, that is nothing.
        """
        budget = self._budgets.get(cloud)
        if budget is None:
            return NOTHING
        before, cost = self.today(cloud, now), size + HEADERS
        after = Spent(before.day, before.bytes + cost, before.messages + 1)
        over = 0 < budget.bytes_per_day < after.bytes and before.bytes > 0
        if over or 0 < budget.messages_per_day < after.messages:
            self._closed[cloud] = before.day
            return None
        self._spent[cloud] = after
        return after

    def give_back(self, cloud: str, size: int, counted: Spent, now: float) -> Spent:
        """Count a message no more that has not left after all; then others may be sent again.

        counted: what `take` has returned for it.  Returns what is spent without it, to be kept.
        """
        before = self.today(cloud, now)
        if not counted.messages or before.day != counted.day:
            return NOTHING
        self._closed.pop(cloud, None)
        after = Spent(before.day, before.bytes - size - HEADERS, before.messages - 1)
        self._spent[cloud] = after
        return after

    def is_closed(self, cloud: str, now: float) -> bool:
        """Whether a message has to wait for another day.  now: seconds since the epoch."""
        return cloud in self._closed and self._closed[cloud] == int(now // DAY)

    def today(self, cloud: str, now: float) -> Spent:
        """Return what a cloud has cost today.  now: seconds since the epoch."""
        day = int(now // DAY)
        spent = self._spent.get(cloud)
        return spent if spent is not None and spent.day == day else Spent(day)
