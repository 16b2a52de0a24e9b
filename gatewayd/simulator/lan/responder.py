"""A multicast DNS responder for each child, and the assembler of queries from datagrams.

Answers are sent at the times of RFC 6762.  Malformed datagrams are counted, and queries in several
parts are joined.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable
from dataclasses import dataclass

from gatewayd.simulator.lan import dns, records
from gatewayd.simulator.lan.child import LanChild
from gatewayd.simulator.lan.dns import TRUNCATED, DnsMessage, DnsRecord
from gatewayd.simulator.lan.segment import GROUP, MDNS_PORT, Endpoint

SHARED_DELAY = (0.020, 0.120)  # seconds before an answer that others give too (section 6)
QUIET = 1.0  # seconds before a record is multicast again (section 6)
REPEAT = 1.0  # seconds until an announcement is repeated (section 8.3)
RECENT = 4  # a record multicast within this part of its life may go by unicast (section 5.4)
MAX_PENDING = 32  # answers under way; further queries are ignored

Send = Callable[[DnsMessage, Endpoint, str], bool]
"""Sends a message to an endpoint, from an address."""


@dataclass(slots=True)
class MdnsCounters:
    """Counts of received and sent messages, except for `suppressed`, which counts records."""

    queries: int = 0
    malformed: int = 0
    sent: int = 0
    lost: int = 0
    suppressed: int = 0


class MdnsResponder:
    """The responder of one child, from its appearance on.  Needs a running loop."""

    def __init__(
        self, child: LanChild, send: Send, rng: random.Random, counters: MdnsCounters
    ) -> None:
        self.child = child
        self._send = send
        self._rng = rng
        self._counters = counters
        self._loop = asyncio.get_running_loop()
        self._sent: dict[int, float] = {}
        self._pending: dict[object, asyncio.TimerHandle] = {}

    def announce(self, delay: float) -> None:
        """Announce the child `delay` seconds from now, and once again."""
        for wait in (delay, delay + REPEAT):
            self._later(("announcement", wait), wait, self._announce)

    def handle_query(self, query: records.MdnsQuery, sender: Endpoint) -> None:
        """Answer with the records that the querier does not know yet."""
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
        """Say goodbye and go silent."""
        self.silence()
        self._send_message(records.goodbye(self.child), GROUP)

    def rename(self) -> None:
        """Withdraw the instance, not the host, and go silent."""
        self.silence()
        self._send_message(records.instance_goodbye(self.child), GROUP)

    def silence(self) -> None:
        """Cancel pending messages."""
        for timer in self._pending.values():
            timer.cancel()
        self._pending.clear()

    def _receiver(
        self, query: records.MdnsQuery, owed: tuple[DnsRecord, ...], sender: Endpoint
    ) -> Endpoint:
        legacy = sender[1] != MDNS_PORT
        recent = all(self._age(record) < record.ttl / RECENT for record in owed)
        return sender if legacy or (query.unicast and recent) else GROUP

    def _age(self, record: DnsRecord) -> float:
        """Seconds since the record was multicast."""
        return self._loop.time() - self._sent.get(record.data.kind, -math.inf)

    def _later(self, key: object, delay: float, send: Callable[[], None]) -> None:
        """Send an answer once, however often it is requested meanwhile."""
        if key in self._pending or len(self._pending) >= MAX_PENDING:
            return
        self._pending[key] = self._loop.call_later(delay, self._send_pending, key, send)

    def _send_pending(self, key: object, send: Callable[[], None]) -> None:
        del self._pending[key]
        send()

    def _announce(self) -> None:
        self._send_message(records.announcement(self.child), GROUP)

    def _answer(self, query: records.MdnsQuery, owed: tuple[DnsRecord, ...], to: Endpoint) -> None:
        if to == GROUP:
            owed = tuple(record for record in owed if self._age(record) >= QUIET)
        if not owed:
            return
        message = records.reply(self.child, owed)
        self._send_message(records.legacy(query, message) if to[1] != MDNS_PORT else message, to)

    def _send_message(self, message: DnsMessage, to: Endpoint) -> None:
        if self._send(message, to, self.child.address):
            self._counters.sent += 1
        else:
            self._counters.lost += 1
        if to == GROUP:
            now = self._loop.time()
            sent = (*message.answers, *message.additionals)
            self._sent.update((record.data.kind, now) for record in sent)


MORE_DELAY = (0.4, 0.5)  # seconds to wait for more known answers (RFC 6762 7.2)
MAX_PARTS = 64  # queriers waited for; the parts of further ones are separate queries


class QueryAssembler:
    """An assembler that calls `on_query` with each query and its sender.  Needs a running loop."""

    def __init__(
        self,
        on_query: Callable[[records.MdnsQuery, Endpoint], None],
        rng: random.Random,
        counters: MdnsCounters,
    ) -> None:
        self._on_query = on_query
        self._rng = rng
        self._counters = counters
        self._parts: dict[Endpoint, tuple[records.MdnsQuery, asyncio.TimerHandle]] = {}

    def receive(self, packet: bytes, sender: Endpoint) -> None:
        """Handle a datagram; answers, our own included, are ignored."""
        if dns.is_response(packet):
            return
        try:
            message = dns.decode(packet)
        except dns.MalformedDns:
            self._counters.malformed += 1
            return
        self._counters.queries += 1
        self._gather(message, sender)

    def close(self) -> None:
        """Drop incomplete queries."""
        for _, timer in self._parts.values():
            timer.cancel()
        self._parts.clear()

    def _gather(self, message: DnsMessage, sender: Endpoint) -> None:
        query = records.read(message)
        if sender in self._parts:
            earlier, timer = self._parts.pop(sender)
            timer.cancel()
            query = earlier | query
        if message.flags & TRUNCATED and len(self._parts) < MAX_PARTS:
            delay = self._rng.uniform(*MORE_DELAY)
            timer = asyncio.get_running_loop().call_later(delay, self._complete, sender)
            self._parts[sender] = (query, timer)
        else:
            self._on_query(query, sender)

    def _complete(self, sender: Endpoint) -> None:
        query, _ = self._parts.pop(sender)
        self._on_query(query, sender)
