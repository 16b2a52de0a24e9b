"""Budgets of what is read: packets, and what they cost, of each sender and of all.  Pure."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

MAX_SENDERS = 4096
"""Senders whose budgets are kept; the one that was silent for the longest time leaves first."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What may be read: packets and bytes of cost in a second, and of how many seconds at once."""

    packets: float
    cost: float
    burst: float


class Bucket:
    """What is left of a budget.  Full at first."""

    __slots__ = ("_budget", "_cost", "_packets", "_since")

    def __init__(self, budget: Budget, now: float) -> None:
        self._budget, self._since = budget, now
        self._packets, self._cost = budget.packets * budget.burst, budget.cost * budget.burst

    def covers(self, cost: int, now: float) -> bool:
        """Whether there is enough for one packet of a cost.  now: seconds of any one clock."""
        budget, passed = self._budget, max(now - self._since, 0.0)
        self._since = now
        self._packets = min(self._packets + passed * budget.packets, budget.packets * budget.burst)
        self._cost = min(self._cost + passed * budget.cost, budget.cost * budget.burst)
        return self._packets >= 1 and self._cost >= cost

    def spend(self, cost: int) -> None:
        """Subtract one packet of a cost."""
        self._packets -= 1
        self._cost -= cost


class Senders:
    """The budgets of the senders of one kind, of bounded number.  budget: of each."""

    def __init__(self, budget: Budget, limit: int = MAX_SENDERS) -> None:
        self._budget, self._limit = budget, limit
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def of(self, sender: str, now: float) -> Bucket:
        """Return what is left of a sender's budget."""
        bucket = self._buckets.get(sender)
        if bucket is None:
            bucket = self._buckets[sender] = Bucket(self._budget, now)
            if len(self._buckets) > self._limit:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(sender)
        return bucket


class FloodAlarm:
    """Whether a link is flooded: from the first excess until some time after the last.

    calm: seconds without any excess that end a flood.
    """

    def __init__(self, calm: float) -> None:
        self._calm, self._until = calm, float("-inf")

    def is_on(self, now: float) -> bool:
        """Whether there is a flood.  now: seconds of any one clock."""
        return now < self._until

    def ring(self, now: float) -> bool:
        """Note an excess; return whether a flood begins with it."""
        begins = not self.is_on(now)
        self._until = now + self._calm
        return begins
