"""From datagrams to queries: what is malformed is counted, what comes in parts is put together."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from gatewayd.testing.simulator import records, wire
from gatewayd.testing.simulator.dns import TRUNCATED, Message
from gatewayd.testing.simulator.responder import Counters
from gatewayd.testing.simulator.segment import Endpoint

MORE_DELAY = (0.4, 0.5)  # seconds to wait for more known answers (RFC 6762 7.2)
MAX_PARTS = 64  # askers waited for; the parts of further ones are taken as they come


class Hearing:
    """Calls `heard` with each query and its sender.  Needs a running loop."""

    def __init__(
        self,
        heard: Callable[[records.Query, Endpoint], None],
        rng: random.Random,
        counters: Counters,
    ) -> None:
        self._heard = heard
        self._rng = rng
        self._counters = counters
        self._parts: dict[Endpoint, tuple[records.Query, asyncio.TimerHandle]] = {}

    def receive(self, packet: bytes, sender: Endpoint) -> None:
        """Take one datagram; answers, our own among them, are no queries."""
        if wire.is_response(packet):
            return
        try:
            message = wire.decode(packet)
        except wire.Malformed:
            self._counters.malformed += 1
            return
        self._counters.queries += 1
        self._gather(message, sender)

    def close(self) -> None:
        """Wait for nothing more."""
        for _, timer in self._parts.values():
            timer.cancel()
        self._parts.clear()

    def _gather(self, message: Message, sender: Endpoint) -> None:
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
            self._heard(query, sender)

    def _complete(self, sender: Endpoint) -> None:
        query, _ = self._parts.pop(sender)
        self._heard(query, sender)
