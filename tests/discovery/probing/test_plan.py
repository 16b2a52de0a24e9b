"""What discoverers say that they send is what is on the wire: to whom, how large, how often."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import struct
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from gatewayd.discovery.discoverer import Context
from gatewayd.discovery.mdns.discoverer import Mdns
from gatewayd.discovery.mdns.settings import MdnsSettings
from gatewayd.discovery.probing.discoverer import DatagramDiscoverer
from gatewayd.discovery.probing.protocol import Transmission
from gatewayd.plugins import DISCOVERERS, Plugins
from gatewayd.testing.contracts.discoverer import RecordingSink, want_all
from gatewayd.testing.waiting import until
from tests.support.cable import BROADCAST, INTERFACE, Cable, laid
from tests.support.tasks import in_background

IPV4, IPV6, UDP = 0x0800, 0x86DD, 17

pytestmark = pytest.mark.namespace


@dataclass(frozen=True, order=True)
class Sent:
    """One datagram on the wire: where to, and bytes of its payload."""

    to: str
    port: int
    size: int


def planned(plan: Sequence[Transmission]) -> Counter[Sent]:
    """What the plan has regularly, each as often as in one round."""
    return Counter(_sent(one) for one in plan if one.every)


def _sent(one: Transmission) -> Sent:
    to, _, port = one.to.removesuffix(" by UDP").rpartition(" port ")
    return Sent(BROADCAST if "broadcast" in to else to, int(port), one.size)


class Wire:
    """What goes over the cable, as its far end receives it."""

    def __init__(self, cable: Cable) -> None:
        with cable.at_the_far_end():
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))
            self._socket.bind((INTERFACE, 3))
        self._socket.setblocking(False)

    def close(self) -> None:
        self._socket.close()

    def datagrams(self) -> Iterator[Sent]:
        """Yield each datagram of UDP that has come since the last call."""
        while True:
            try:
                packet, address = self._socket.recvfrom(65_536)
            except BlockingIOError:
                return
            if address[2] != socket.PACKET_OUTGOING and (one := _datagram(address[1], packet)):
                yield one


def _datagram(kind: int, packet: bytes) -> Sent | None:
    if kind == IPV4 and packet[9] == UDP:
        header, to = 4 * (packet[0] & 15), packet[16:20]
    elif kind == IPV6 and packet[6] == UDP:
        header, to = 40, packet[24:40]
    else:
        return None
    port, length = struct.unpack_from("!HH", packet, header + 2)
    return Sent(str(ipaddress.ip_address(to)), port, length - 8)


@contextmanager
def tapped() -> Iterator[Wire]:
    with laid() as cable:
        wire = Wire(cable)
        try:
            yield wire
        finally:
            wire.close()


@pytest.fixture
def wire() -> Iterator[Wire]:
    with tapped() as one:
        yield one


def _datagram_kinds() -> dict[str, Any]:
    """Return the classes that ask by datagrams, of all that are installed."""
    plugins = Plugins.installed()
    loaded = {kind: plugins.load(DISCOVERERS, kind) for kind in plugins.names(DISCOVERERS)}
    return {kind: one for kind, one in loaded.items() if issubclass(one, DatagramDiscoverer)}


KINDS = _datagram_kinds()


def made(kind: str) -> Any:
    plugin = KINDS[kind]
    return plugin(kind, plugin.Settings(interfaces=(INTERFACE,)))


@pytest.mark.jumping_clock
@pytest.mark.parametrize("kind", sorted(KINDS))
async def test_in_each_round_exactly_what_is_planned_is_sent(kind: str, wire: Wire) -> None:
    discoverer, loop = made(kind), asyncio.get_running_loop()
    plan = planned(discoverer.transmissions())
    (every,) = {one.every for one in discoverer.transmissions() if one.every}
    context = Context(loop.time, lambda: 0.5, want_all)
    sent: Counter[Sent] = Counter()
    async with in_background(discoverer.run(context, RecordingSink())):
        for rounds in (1, 2, 3):
            await asyncio.sleep(every * (rounds - 0.5) - loop.time())
            sent.update(wire.datagrams())
            assert sent == Counter({one: rounds * times for one, times in plan.items()})
    assert plan


async def test_mdns_asks_what_it_has_planned(wire: Wire) -> None:
    """Its library asks in real time, and more often than once a round."""
    settings = MdnsSettings((INTERFACE,), ("_gatewayd-child._tcp", "_meter._tcp"))
    discoverer, sent = Mdns("mdns", settings), set[Sent]()
    plan = set(planned(discoverer.transmissions()))
    context = Context(asyncio.get_running_loop().time, lambda: 0.5, want_all)

    def is_seen() -> bool:
        sent.update(wire.datagrams())
        return sent >= plan

    async with in_background(discoverer.run(context, RecordingSink())):
        await until(is_seen)
        end = time.monotonic() + 1.5
        while time.monotonic() < end:
            await asyncio.sleep(0.1)
            is_seen()
    assert sent == plan
