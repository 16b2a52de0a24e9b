"""Several sources at once: one device that three show is one child, and none floods another out."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import replace
from itertools import count
from uuid import UUID

import pytest

from gatewayd.device.identity import DeviceId
from gatewayd.device.reason import Reason
from gatewayd.discovery.births.discoverer import Births
from gatewayd.discovery.births.port import Birth, BirthRequest, DoorLink
from gatewayd.discovery.births.settings import BirthsSettings, DialectName
from gatewayd.discovery.discoverer import Context, Discoverer, Interest
from gatewayd.discovery.inventory import Inventory
from gatewayd.discovery.mdns.discoverer import Mdns
from gatewayd.discovery.mdns.settings import MdnsSettings
from gatewayd.discovery.protocols.upnp.discoverer import Ssdp
from gatewayd.discovery.settings import InventorySettings
from gatewayd.discovery.supervisor import Supervisor
from gatewayd.runtime.tasks import cancel_and_wait
from gatewayd.simulator.lan import dns, records
from gatewayd.simulator.lan.child import LanChild
from gatewayd.testing.waiting import until
from script.benchmarks.thrice import (
    MDNS,
    SERVICE,
    SSDP,
    ThriceShown,
    answer,
    births,
    devices,
    group_socket,
)
from tests.support.cable import INTERFACE, Cable, laid
from tests.support.tasks import in_background
from tests.support.toy import Forger

MANY = 300
TRIES, TRY = 8, 15.0
"""How often few devices are asked for in a flood, and the seconds given to each of the tries."""
NETWORK = "10.77.128.0/17"

pytestmark = pytest.mark.namespace


@pytest.fixture
def cable() -> Iterator[Cable]:
    with laid() as one:
        one.far_ip("route", "add", "local", NETWORK, "dev", "lo")
        yield one


def names() -> Mdns:
    return Mdns("mdns", MdnsSettings((INTERFACE,), ("_gatewayd-child._tcp",)))


def media() -> Ssdp:
    return Ssdp("ssdp", Ssdp.Settings(interfaces=(INTERFACE,)))


def at_the_broker() -> Births:
    return Births("births", BirthsSettings(doors=("site",), dialects=(DialectName.TASMOTA,)))


class Site:
    """An inventory that several discoverers fill: a `Listener`."""

    def __init__(self, discoverers: Sequence[Discoverer], **settings: int) -> None:
        loop = asyncio.get_running_loop()
        context = Context(loop.time, lambda: 0.5, lambda _: Interest.WANTED)
        self.supervisor = Supervisor(discoverers, context)
        self.present: set[DeviceId] = set()
        self.evictions = 0
        self.inventory = Inventory(
            InventorySettings(**settings),
            context,
            self.supervisor.verify,
            lambda sighting: sighting,
            lambda _: frozenset(),
            self,
        )

    def seen(self, device: DeviceId) -> None:
        self.present.add(device)

    def lost(self, device: DeviceId, reason: Reason) -> None:
        self.present.discard(device)

    def changed(self, device: DeviceId) -> None: ...

    def merged(self, kept: DeviceId, gone: DeviceId) -> None:
        self.present.discard(gone)

    def evicted(self, device: DeviceId) -> None:
        self.present.discard(device)
        self.evictions += 1

    def sources(self, device: DeviceId) -> frozenset[str]:
        """Return which sources show a device."""
        return frozenset(view["source"] for view in self.inventory.evidence(device).views)

    def shown(self, *sources: str) -> int:
        """Return how many devices all of these sources show."""
        return sum({*sources} <= self.sources(one) for one in self.present)


@asynccontextmanager
async def site(discoverers: Sequence[Discoverer], **settings: int) -> AsyncIterator[Site]:
    made = Site(discoverers, **settings)
    tasks = [
        asyncio.create_task(made.inventory.run()),
        asyncio.create_task(made.supervisor.run(made.inventory)),
    ]
    try:
        yield made
    finally:
        await cancel_and_wait(tasks)


def shown_by(cable: Cable, children: Sequence[LanChild]) -> ThriceShown:
    def opened(group: tuple[str, int]) -> socket.socket:
        with cable.at_the_far_end():
            return group_socket(group, INTERFACE)

    with cable.at_the_far_end():
        index = socket.if_nametoindex(INTERFACE)
    return ThriceShown(children, opened, index, random.Random(1))


async def publish(reader: Births, children: Sequence[LanChild]) -> None:
    """Have all births read, as at the beginning of a connection."""
    await reader.receive(DoorLink("births", "site", True))
    now = asyncio.get_running_loop().time
    for child in children:
        for topic, payload in births(child):
            await reader.receive(Birth("births", "site", topic, payload, True, now()))


async def test_what_three_sources_show_at_once_is_one_child_each_and_none_is_missed(
    cable: Cable,
) -> None:
    children, reader = devices(MANY, NETWORK), at_the_broker()
    requests: list[BirthRequest] = []
    reader.attach(requests.append)
    async with (
        shown_by(cable, children),
        site([names(), media(), reader], max_unadmitted=MANY) as here,
    ):
        await until(lambda: requests)  # it runs
        await publish(reader, children)
        await until(lambda: here.shown("mdns", "ssdp", "mqtt-births") == MANY)
        assert len(here.present) == MANY
        assert here.evictions == 0
        assert here.inventory.counters()["sighting-queue-overflow"] == 0


def liar(number: int) -> LanChild:
    """A device that does not exist."""
    return replace(LIAR, instance=f"liar {number}", extra=(("uuid", str(UUID(int=number))),))


LIAR = LanChild("liar", "TH20-FFFFFF", "24:0a:c4:ff:ff:ff", "liar", "10.77.250.1", service=SERVICE)
FIRST = 5000
"""The number of the first liar: at addresses that no device has."""


async def flood(source: str, cable: Cable, reader: Births) -> None:
    """Send what no device has sent to one source, as fast as others get their turn."""
    now = asyncio.get_running_loop().time
    with closing(Forger(cable)) as forger:
        for number in count(FIRST):
            one = liar(number)
            match source:
                case "mdns":
                    packet = dns.encode(records.announcement(one))
                    forger.say(packet, number, MDNS)
                case "ssdp":
                    notify = answer(one).replace(b"HTTP/1.1 200 OK", b"NOTIFY * HTTP/1.1")
                    notify = notify.replace(b"ST: ", b"NTS: ssdp:alive\r\nNT: ")
                    forger.say(notify, number, SSDP)
                case _:
                    topic = f"tasmota/discovery/240AC4{number:06X}/config"
                    payload = b'{"mac": "240AC4%06X"}' % number
                    await reader.receive(Birth("births", "site", topic, payload, False, now()))
            if number % 20 == 0:
                await asyncio.sleep(0)


@pytest.mark.parametrize("flooded", ["mdns", "ssdp", "mqtt-births"])
async def test_a_flood_of_one_source_hides_no_device_from_the_others(
    cable: Cable, flooded: str
) -> None:
    few, reader = devices(3, NETWORK), at_the_broker()
    requests: list[BirthRequest] = []
    reader.attach(requests.append)
    others = {"mdns", "ssdp", "mqtt-births"} - {flooded}
    async with site([names(), media(), reader], max_unadmitted=64, max_queued=64) as here:
        await until(lambda: requests)
        await reader.receive(DoorLink("births", "site", True))
        async with in_background(flood(flooded, cable, reader)):
            await until(lambda: here.evictions > 100)
            await publish(reader, few)
            for _ in range(TRIES):  # the kernel may lose a datagram: asked again
                async with shown_by(cable, few):  # which answers each question once
                    await here.supervisor.rescan("ssdp")
                    await here.supervisor.rescan("mdns")
                    with suppress(TimeoutError):
                        await until(lambda: all(here.shown(one) == len(few) for one in others), TRY)
                        return
            raise AssertionError({one: here.shown(one) for one in others})
