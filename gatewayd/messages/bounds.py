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
MOST_AWAY = 86_400.0
"""Seconds of a door's absence that count: of a longer one, what is too much is dropped."""
CATCHING_UP = 600.0
"""Seconds in which a broker hands over what it has kept."""
NOTHING = Spent(0)
"""What a message costs at a cloud without a budget."""


@dataclass(slots=True)
class _Bucket:
    """What a child may still send at once.

    at: when that was counted, seconds.  rate: that of then, messages a second.
    kept: what it may send besides, as its door was away.  counted: seconds that the door had been
    away when that was counted.
    """

    tokens: float
    at: float
    rate: float
    kept: float = 0.0
    counted: float = 0.0


@dataclass(slots=True)
class _Absence:
    """How long a door was away in all, seconds, and how long before what may still arrive was kept.

    until: when all has arrived that was kept.
    """

    total: float = 0.0
    before: float = 0.0
    until: float = float("-inf")


class ChildRates:
    """How fast each child may send: a bucket of tokens for each that has sent.

    What children have sent while a door was away comes at once when it is back: they may send as
    much more then as they might have sent meanwhile.
    """

    def __init__(self) -> None:
        self._buckets: dict[DeviceId, _Bucket] = {}
        self._absences: dict[str, _Absence] = {}

    def was_away(self, door: str, seconds: float, now: float) -> None:
        """Note that a door has read nothing for some seconds, and reads again from now on."""
        absence = self._absences.setdefault(door, _Absence())
        if now >= absence.until:
            absence.before = absence.total
        absence.total = min(absence.total + seconds, absence.before + MOST_AWAY)
        absence.until = now + CATCHING_UP

    def take(self, child: DeviceId, door: str, rate: float, now: float) -> bool:
        """Count a message; return whether the child may send it.

        door: at which it came in.  rate: messages a second.  now: of a steady clock.
        """
        most = max(1.0, rate * BURST)
        bucket = self._buckets.get(child)
        if bucket is None:
            bucket = self._buckets[child] = _Bucket(most, now, rate)
        gained = max(0.0, now - bucket.at) * rate
        bucket.tokens, bucket.at, bucket.rate = min(most, bucket.tokens + gained), now, rate
        if bucket.tokens >= 1.0:
            bucket.tokens -= 1.0
            return True
        absence = self._absences.get(door)
        return absence is not None and now < absence.until and self._take_kept(bucket, absence)

    @staticmethod
    def _take_kept(bucket: _Bucket, absence: _Absence) -> bool:
        """Count a message that was kept while the door was away."""
        if bucket.counted < absence.before:
            bucket.counted, bucket.kept = absence.before, 0.0
        bucket.kept += (absence.total - bucket.counted) * bucket.rate
        bucket.counted = absence.total
        if bucket.kept < 1.0:
            return False
        bucket.kept -= 1.0
        return True

    def forget(self, child: DeviceId) -> None:
        """Remove a child."""
        self._buckets.pop(child, None)

    def forget_idle(self, now: float) -> None:
        """Remove the children whose buckets are full: they can be made again."""
        if any(now < absence.until for absence in self._absences.values()):
            return  # what they have used of what was kept counts, too
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

    @property
    def has_budgets(self) -> bool:
        """Whether there is a budget for any cloud: else each may cost whatever it does."""
        return bool(self._budgets)

    def is_closed(self, cloud: str, now: float) -> bool:
        """Whether a message has to wait for another day.  now: seconds since the epoch."""
        return cloud in self._closed and self._closed[cloud] == int(now // DAY)

    def today(self, cloud: str, now: float) -> Spent:
        """Return what a cloud has cost today.  now: seconds since the epoch."""
        day = int(now // DAY)
        spent = self._spent.get(cloud)
        return spent if spent is not None and spent.day == day else Spent(day)
