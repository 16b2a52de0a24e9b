"""How often at most: the rules, which are arithmetic on seconds, and the queue of those that wait.

A caller that reserves a moment and sleeps until then does not keep a limit: when the event loop is
late, all callers whose moments have passed leave at once.  So a limiter looks at the clock when a
caller passes, and lets one pass at a time.

Where waiting is of no use, as for what strangers send, there are budgets: what exceeds them is left
unread.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

_TICK = 0.001
"""Seconds to wait at least, so that rounding cannot make a wait that ends too early again."""
URGENT = 64
"""Urgent callers that may wait for one limiter."""
AT_MOST = 8
"""Urgent callers that pass in a row while others wait."""


class RateRule(Protocol):
    """A rule of how many may pass.  now: seconds of any steady clock, which never decrease."""

    def wait(self, now: float, count: int) -> float:
        """Return the seconds until so many may pass, 0 for now, if none passes before."""

    def record(self, now: float, count: int) -> None:
        """Note that so many pass now."""


class SlidingWindow:
    """A rule that lets at most `limit` pass in any `period` seconds, in bursts, too."""

    def __init__(self, limit: int, period: float) -> None:
        self._limit, self._period = limit, period
        self._passed: deque[float] = deque(maxlen=limit)

    def wait(self, now: float, count: int = 1) -> float:
        """Return the seconds until `count` may pass, which is at most the limit."""
        excess = len(self._passed) + count - self._limit
        return max(0.0, self._passed[excess - 1] + self._period - now) if excess > 0 else 0.0

    def record(self, now: float, count: int = 1) -> None:
        """Note that so many pass now."""
        self._passed.extend([now] * count)

    def take(self, now: float) -> bool:
        """Let one pass, if that is allowed now; return whether it is."""
        if self.wait(now) > 0:
            return False
        self.record(now)
        return True

    def give_back(self) -> None:
        """Note that the last one that passed did not arrive after all."""
        if self._passed:
            self._passed.pop()


class AcknowledgedWindow:
    """A rule that holds where things arrive: at most `limit` arrive in any `period` seconds.

    What passes here arrives between now and its acknowledgement.  So it counts from when it passes
    until `period` seconds after its acknowledgement, however long it takes, and though a path that
    stood still lets many arrive together.
    """

    def __init__(self, limit: int, period: float) -> None:
        self._limit, self._period = limit, period
        self._under_way = 0
        self._arrived: deque[float] = deque(maxlen=limit)

    def wait(self, now: float, count: int = 1) -> float:
        """Return the seconds until `count` may pass, at most the limit, at the earliest."""
        excess = self._under_way + len(self._arrived) + count - self._limit
        if excess <= 0:
            return 0.0
        if excess > len(self._arrived):  # even an acknowledgement at once would count till then
            return self._period
        return max(0.0, self._arrived[excess - 1] + self._period - now)

    def record(self, now: float, count: int = 1) -> None:
        """Note that so many pass now."""
        while self._arrived and self._arrived[0] + self._period <= now:
            self._arrived.popleft()
        self._under_way += count

    def acknowledge(self, now: float, count: int = 1) -> None:
        """Note that so many of those that passed have arrived by now, or will not any more."""
        self._under_way -= count
        self._arrived.extend([now] * count)


class Pacer:
    """A rule without bursts: what passes together may arrive late, in one second.

    Each passing keeps the next away for its share of time.  So in a time t there pass fewer than
    rate · t, and the last passing.  rate: how many may pass in a second.
    """

    def __init__(self, rate: float) -> None:
        self._rate, self._free = rate, float("-inf")

    def wait(self, now: float, count: int = 1) -> float:  # noqa: ARG002  # what is behind counts
        """Return the seconds until any count may pass."""
        return max(0.0, self._free - now)

    def record(self, now: float, count: int = 1) -> None:
        """Note that so many pass now, together."""
        self._free = now + count / self._rate


class TooManyWaiting(Exception):
    """The queue of a limiter is full: try again later."""


class TurnQueue:
    """A queue for one turn at a time, as asyncio.Lock is, in which the urgent come first.

    After AT_MOST of them in a row another has its turn.  Who has the turn keeps it until `release`.
    """

    def __init__(self) -> None:
        self._taken = False
        self._in_a_row = 0
        self._urgent: deque[asyncio.Future[None]] = deque()
        self._others: deque[asyncio.Future[None]] = deque()

    async def acquire(self, *, urgent: bool) -> None:
        """Wait for the turn."""
        if not self._taken:
            self._taken = True
            return
        queue = self._urgent if urgent else self._others
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.append(mine)
        try:
            await mine
        except asyncio.CancelledError:
            if not mine.cancelled():  # it had the turn already
                self.release()
            with suppress(ValueError):
                queue.remove(mine)
            raise

    def release(self) -> None:
        """Let the next one have the turn."""
        queues = (self._urgent, self._others)
        for queue in queues if self._in_a_row < AT_MOST else reversed(queues):
            while queue:
                following = queue.popleft()
                if not following.done():
                    following.set_result(None)
                    self._in_a_row = self._in_a_row + 1 if queue is self._urgent else 0
                    return
        self._taken = False


class RateLimiter:
    """A queue in which callers wait until a rule lets them pass: first come, first served.

    What is urgent passes first: at most the one that has its turn already passes before it.

    now: seconds of a steady clock.  waiters: callers that may wait at a time; besides, URGENT that
    are urgent.
    within: a limiter that each passing has to pass as one, too, at the same moment; a caller that
    still waits here takes nothing of that from others.
    """

    def __init__(
        self,
        rule: RateRule,
        now: Callable[[], float],
        waiters: int,
        within: RateLimiter | None = None,
    ) -> None:
        self._rule, self._now, self._within = rule, now, within
        self._free = {False: waiters, True: URGENT}
        self._queue = TurnQueue()

    async def acquire(
        self, count: int = 1, ended: asyncio.Future[Any] | None = None, *, urgent: bool = False
    ) -> None:
        """Return when `count` may pass; do that before the next await.

        ended: once it is done, no wait is of use; then nothing is counted.  Cancelled: nothing is
        counted, and the next in the queue has its turn.  Raises TooManyWaiting.
        """
        if not self._free[urgent]:
            raise TooManyWaiting
        self._free[urgent] -= 1
        try:
            await self._queue.acquire(urgent=urgent)
            try:
                await self._until_free(count, ended)
                if self._within is not None:
                    await self._within.acquire(1, ended, urgent=urgent)
                if not _is_done(ended):
                    self._rule.record(self._now(), count)
            finally:
                self._queue.release()
        finally:
            self._free[urgent] += 1

    async def _until_free(self, count: int, ended: asyncio.Future[Any] | None) -> None:
        while not _is_done(ended) and (wait := self._rule.wait(self._now(), count)) > 0:
            if ended is None:
                await asyncio.sleep(max(wait, _TICK))
            else:
                await asyncio.wait({ended}, timeout=max(wait, _TICK))


def _is_done(ended: asyncio.Future[Any] | None) -> bool:
    return ended is not None and ended.done()


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
