"""How much multicast DNS is read: a budget for each sender, and for each kind of traffic.  Pure.

A packet is judged by its sender and its first bytes, before anything parses it.  What it may cost
is estimated from its size and from the number of entries that it says it has.

A sender's address is easily forged within the subnet.  So each kind of traffic has a budget of its
own for all senders, and none can use up another's: that of devices on record, that of packets that
name a service type which is looked for, and that of all others.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection
from enum import StrEnum

from gatewayd.runtime.rate_limiter import Bucket, Budget, Senders

ENTRY = 640
"""Bytes of memory that the library needs for a record, besides its own."""
PACKET = 256
"""Bytes that a packet costs besides its own, for the time that it takes."""

_HEADER = struct.Struct("!6H")  # RFC 1035, 4.1.1
_RESPONSE = b"\x80"  # QR, in the third byte
_QUESTION, _RECORD = 5, 11  # bytes of the shortest of each: a name takes at least one


class PacketVerdict(StrEnum):
    """What becomes of a packet: it is passed on, or dropped and counted by this cause."""

    PASS = ""
    QUERY = "query"  # gatewayd announces no service, so it has nothing to answer
    QUERY_FLOOD = "query-flood"
    MALFORMED = "malformed"
    SENDER_FLOOD = "sender-flood"
    LINK_FLOOD = "link-flood"

    @property
    def is_flood(self) -> bool:
        """Whether it was dropped because there were too many."""
        return self.value.endswith("-flood")


SENDER = Budget(packets=20, cost=16 << 10, burst=64)
"""Of one sender: the announcements of 300 devices behind one address at once, 5/s after them."""
KNOWN = Budget(packets=400, cost=256 << 10, burst=64)
"""Of all devices on record: the announcements of 5,000 at once, 80/s after them."""
NAMED = Budget(packets=400, cost=640 << 10, burst=25.6)
"""Of those that name a type: the announcements of 5,000 devices at once, 200/s after them."""
OTHER = Budget(packets=100, cost=64 << 10, burst=64)
QUERIES = Budget(packets=100, cost=64 << 10, burst=64)
"""They are all dropped; more than these are a flood."""


class Traffic:
    """The judge of the packets of one interface.

    types: the service types that are looked for, without domain.
    is_known: whether an address is that of a device on record.
    """

    def __init__(self, types: Collection[str], is_known: Callable[[str], bool], now: float) -> None:
        self._labels = tuple(_first_label(one) for one in types)
        self._is_known = is_known
        self._known, self._strangers = Senders(SENDER), Senders(SENDER)
        shares = (KNOWN, NAMED, OTHER, QUERIES)
        self._shares = {budget: Bucket(budget, now) for budget in shares}

    def judge(self, sender: str, packet: bytes, now: float) -> PacketVerdict:
        """Judge one packet.  sender: its IP address.  now: seconds of any one clock."""
        if packet[2:3] < _RESPONSE:
            return self._judge_query(PACKET + len(packet), now)
        entries = count_entries(packet)
        if entries is None:
            return PacketVerdict.MALFORMED
        cost = PACKET + len(packet) + ENTRY * entries
        known = self._is_known(sender)
        own = (self._known if known else self._strangers).of(sender, now)
        if not own.covers(cost, now):
            return PacketVerdict.SENDER_FLOOD
        share = self._shares[KNOWN if known else NAMED if self._names_type(packet) else OTHER]
        if not share.covers(cost, now):
            return PacketVerdict.LINK_FLOOD
        own.spend(cost)
        share.spend(cost)
        return PacketVerdict.PASS

    def _judge_query(self, cost: int, now: float) -> PacketVerdict:
        queries = self._shares[QUERIES]
        if not queries.covers(cost, now):
            return PacketVerdict.QUERY_FLOOD
        queries.spend(cost)
        return PacketVerdict.QUERY

    def _names_type(self, packet: bytes) -> bool:
        """Whether a packet holds a type's label: a compressed name points to one that does."""
        lower = packet.lower()
        return any(label in lower for label in self._labels)


def count_entries(packet: bytes) -> int | None:
    """Return how many questions and records a packet says it has; None if it has no room for them.

    What a packet says is what a parser believes.
    """
    if len(packet) < _HEADER.size:
        return None
    _, _, questions, *records = _HEADER.unpack_from(packet)
    size = _QUESTION * questions + _RECORD * sum(records)
    return questions + sum(records) if size <= len(packet) - _HEADER.size else None


def _first_label(type_: str) -> bytes:
    """Return the first label of a type as a packet holds it, in lower case."""
    label = type_.partition(".")[0].encode().lower()
    return bytes([len(label)]) + label
