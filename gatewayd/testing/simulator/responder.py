"""How one child answers: what `records` says it owes, at the time RFC 6762 says."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable
from dataclasses import dataclass

from gatewayd.testing.simulator import records
from gatewayd.testing.simulator.child import Child
from gatewayd.testing.simulator.dns import Message, Record
from gatewayd.testing.simulator.segment import GROUP, MDNS_PORT, Endpoint

SHARED_DELAY = (0.020, 0.120)  # seconds before an answer that others give too (section 6)
QUIET = 1.0  # seconds before a record is multicast again (section 6)
REPEAT = 1.0  # seconds until an announcement is repeated (section 8.3)
RECENT = 4  # a record multicast within this part of its life may go by unicast (section 5.4)
MAX_PENDING = 32  # answers under way; further askers are not heard

Send = Callable[[Message, Endpoint, str], bool]
"""Sends a message to an endpoint, from an address."""


@dataclass(slots=True)
class Counters:
    """What was heard and said: messages, except for `suppressed`, which counts records."""

    queries: int = 0
    malformed: int = 0
    sent: int = 0
    lost: int = 0
    suppressed: int = 0


class Responder:
    """The voice of one child, from when it appears until it vanishes.  Needs a running loop."""

    def __init__(self, child: Child, send: Send, rng: random.Random, counters: Counters) -> None:
        self.child = child
        self._send = send
        self._rng = rng
        self._counters = counters
        self._loop = asyncio.get_running_loop()
        self._said: dict[int, float] = {}
        self._pending: dict[object, asyncio.TimerHandle] = {}

    def announce(self, delay: float) -> None:
        """Tell everybody, `delay` seconds from now, and once again."""
        for wait in (delay, delay + REPEAT):
            self._later(("announcement", wait), wait, self._announce)

    def hear(self, query: records.Query, sender: Endpoint) -> None:
        """Answer what the asker does not know yet."""
        asked = records.asked(self.child, query.questions)
        owed = tuple(record for record in asked if not query.knows(record))
        self._counters.suppressed += len(asked) - len(owed)
        if not owed:
            return
        to = self._receiver(query, owed, sender)
        unique = all(record.flush for record in owed)
        delay = 0.0 if unique else self._rng.uniform(*SHARED_DELAY)
        key = (to, tuple(record.data.kind for record in owed))
        self._later(key, delay, lambda: self._answer(query, owed, to))

    def leave(self) -> None:
        """Say goodbye and fall silent."""
        self.silence()
        self._tell(records.goodbye(self.child), GROUP)

    def rename(self) -> None:
        """Say goodbye to the instance, not to the host, and fall silent."""
        self.silence()
        self._tell(records.farewell(self.child), GROUP)

    def silence(self) -> None:
        """Drop what was to be said."""
        for timer in self._pending.values():
            timer.cancel()
        self._pending.clear()

    def _receiver(
        self, query: records.Query, owed: tuple[Record, ...], sender: Endpoint
    ) -> Endpoint:
        legacy = sender[1] != MDNS_PORT
        recent = all(self._age(record) < record.ttl / RECENT for record in owed)
        return sender if legacy or (query.unicast and recent) else GROUP

    def _age(self, record: Record) -> float:
        """Seconds since the record was multicast."""
        return self._loop.time() - self._said.get(record.data.kind, -math.inf)

    def _later(self, key: object, delay: float, say: Callable[[], None]) -> None:
        """Say it once, however often it was asked for meanwhile."""
        if key in self._pending or len(self._pending) >= MAX_PENDING:
            return
        self._pending[key] = self._loop.call_later(delay, self._now, key, say)

    def _now(self, key: object, say: Callable[[], None]) -> None:
        del self._pending[key]
        say()

    def _announce(self) -> None:
        self._tell(records.announcement(self.child), GROUP)

    def _answer(self, query: records.Query, owed: tuple[Record, ...], to: Endpoint) -> None:
        if to == GROUP:
            owed = tuple(record for record in owed if self._age(record) >= QUIET)
        if not owed:
            return
        message = records.reply(self.child, owed)
        self._tell(records.legacy(query, message) if to[1] != MDNS_PORT else message, to)

    def _tell(self, message: Message, to: Endpoint) -> None:
        if self._send(message, to, self.child.address):
            self._counters.sent += 1
        else:
            self._counters.lost += 1
        if to == GROUP:
            now = self._loop.time()
            told = (*message.answers, *message.additionals)
            self._said.update((record.data.kind, now) for record in told)
