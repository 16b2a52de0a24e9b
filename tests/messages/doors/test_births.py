"""The reader of births: beside the door of the children, which it never holds up; and bounded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial

import pytest

from gatewayd.messages.door_settings import DoorSettings
from gatewayd.messages.doors import births as module
from gatewayd.messages.doors.access import SiteBrokerAccess
from gatewayd.messages.doors.births import (
    MOST_BYTES_WAITING,
    MOST_WAITING,
    BirthReader,
    ReceivedBirth,
    WantedBirths,
)
from gatewayd.messages.doors.door import Retry
from gatewayd.messages.doors.packets import PublishPacket
from gatewayd.runtime.clock import SYSTEM_CLOCK
from tests.messages.broker.client import MqttClient, Place, connected
from tests.messages.doors.intakes import Intake, until
from tests.messages.doors.own_door import running
from tests.messages.doors.scripted import CONNACK, SITE, Peer, scripted, site_door, suback
from tests.support.mosquitto import Mosquitto, mosquitto
from tests.support.tasks import in_background

WANTED = (
    WantedBirths("births/+/config", 100, False),
    WantedBirths("births/+/data", 0, True),
    WantedBirths("s/kitchen", 100, False),
)


class Handler:
    """A receiver that has room while it is told so.  links: the ends and begins of connections."""

    def __init__(self) -> None:
        self.births: list[ReceivedBirth] = []
        self.links: list[bool] = []
        self.has_room = asyncio.Event()
        self.has_room.set()
        self.runs = True

    async def connected(self, door: str, *, is_open: bool) -> None:
        self.links.append(is_open)

    async def pass_on(self, door: str, birth: ReceivedBirth) -> bool:
        await self.has_room.wait()
        self.births.append(birth)
        return self.runs


def make_reader(
    port: int, handler: Handler, retry: Retry | None = None, settings: DoorSettings = SITE
) -> BirthReader:
    access = SiteBrokerAccess(replace(settings, port=port), "gatewayd-host-site", lambda *_: None)  # type: ignore[arg-type]  # it is never called
    return BirthReader(
        "site", "births", access, WANTED, handler, SYSTEM_CLOCK, retry=retry or Retry(0.05, 0.2)
    )


@asynccontextmanager
async def reading(reader: BirthReader) -> AsyncIterator[None]:
    reader.read_again()
    async with in_background(reader.run()):
        yield


@pytest.fixture
def broker() -> Iterator[Mosquitto]:
    with mosquitto() as made:
        yield made


@pytest.fixture
async def device(broker: Mosquitto) -> AsyncIterator[MqttClient]:
    async with connected(Place(port=broker.port), client_id="device") as client:
        yield client


async def test_it_does_not_connect_before_it_is_to_read() -> None:
    async with scripted(answer_all) as other, scripted(answer_all) as broker:
        idle, reader = make_reader(broker.port, Handler()), make_reader(other.port, Handler())
        async with in_background(idle.run()), reading(reader):
            await until(lambda: other.connections)
            assert not broker.connections
            idle.read_again()
            await until(lambda: broker.connections)


@pytest.mark.integration
async def test_what_the_broker_keeps_comes_and_comes_again(
    broker: Mosquitto, device: MqttClient
) -> None:
    await device.publish("births/a/config", b"1", retain=True)
    await device.publish("births/large/config", b"x" * 101, retain=True)
    handler = Handler()
    reader = make_reader(broker.port, handler)
    async with reading(reader):
        await until(lambda: handler.births)
        await device.publish("births/a/config", b"2", retain=True)
        await until(lambda: len(handler.births) == 2)
        reader.read_again()
        await until(lambda: len(handler.births) == 3)
        said = [(one.payload, one.retained) for one in handler.births]
        assert said == [(b"1", True), (b"2", False), (b"2", True)]
        await until(lambda: reader.counters()["dropped:too-large"] == 2)
        assert handler.links == [True, True]
        assert not reader.fault()
    assert handler.links == [True, True]


@pytest.mark.integration
async def test_of_topics_that_only_name_something_the_first_message_counts(
    broker: Mosquitto, device: MqttClient
) -> None:
    handler = Handler()
    async with reading(make_reader(broker.port, handler)):
        await until(lambda: handler.links)
        for _ in range(3):
            await device.publish("births/a/data", b"values")
        await device.publish("births/last/config", b"")
        await until(lambda: len(handler.births) == 2)
        assert [one.payload for one in handler.births] == [b"", b""]


@pytest.mark.integration
async def test_no_flood_of_births_holds_up_a_message_of_a_child(
    broker: Mosquitto, device: MqttClient
) -> None:
    handler, intake = Handler(), Intake()
    handler.has_room.clear()  # nothing is passed on at all
    reader = make_reader(broker.port, handler)
    door = site_door(replace(SITE, port=broker.port), intake)
    async with reading(reader), running(door):
        await until(lambda: handler.links)
        payload = b"x" * 90
        for number in range(5 * MOST_WAITING):
            await device.publish(f"births/{number}/config", payload)
        await until(lambda: reader._is_paused)
        assert len(reader._waiting) <= MOST_WAITING
        for number in range(20):
            await device.publish("s/kitchen", b'{"v":%d}' % number)
            await intake.until(number + 1)
        assert [one.payload for one in intake.received] == [b'{"v":%d}' % n for n in range(20)]
        assert door.status().dropped == {}, "a birth is no message of a child"
        handler.has_room.set()
        await until(lambda: len(handler.births) >= MOST_WAITING)
        await until(lambda: not reader._is_paused)


async def test_large_births_are_bounded_by_their_bytes() -> None:
    reader = make_reader(1, Handler())
    reader._wanted = [WantedBirths("births/+/config", 1 << 20, False)]
    acknowledged: list[int] = []
    for number in range(8):
        message = PublishPacket(f"births/{number}/config", b"x" * (1 << 20))
        reader.on_message(message, partial(acknowledged.append, number))
    assert acknowledged == list(range(8)), "each is acknowledged at once"
    assert reader._bytes > MOST_BYTES_WAITING
    for topic in ("other", "", "births/" + "x" * 512 + "/config"):
        reader.on_message(PublishPacket(topic, b""), partial(acknowledged.append, 8))
    assert reader.counters()["dropped:not-subscribed"] == 2
    assert reader.counters()["dropped:topic-too-long"] == 1


@pytest.mark.integration
async def test_so_many_births_are_passed_on_in_a_second_and_no_more(
    broker: Mosquitto, device: MqttClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_A_SECOND", 20)
    for number in range(50):
        await device.publish(f"births/{number}/config", b"1", retain=True)
    handler = Handler()
    async with reading(make_reader(broker.port, handler)):
        await until(lambda: len(handler.births) == 50)
        begun, last = handler.births[0].at, SYSTEM_CLOCK.now()
        assert last - begun > 1.5


@pytest.mark.integration
async def test_a_device_is_asked_with_qos_0_and_only_while_there_is_a_connection(
    broker: Mosquitto, device: MqttClient
) -> None:
    reader = make_reader(broker.port, Handler())
    assert not reader.ask("cmnd/x/STATUS", b"")
    await device.subscribe("cmnd/#")
    async with reading(reader):
        await until(lambda: reader._session)
        assert reader.ask("cmnd/x/STATUS", b"now")
        assert await device.received() == ("cmnd/x/STATUS", b"now")


# Brokers that are old, refuse, or give all clients one identifier.


async def answer_all(peer: Peer, code: int = 0) -> None:
    while True:
        packet = await peer.packet()
        if packet[0] == 0x82:
            await peer.send(suback(peer.version, code))


async def test_the_session_is_another_and_is_not_kept() -> None:
    seen: list[Peer] = []

    async def play(peer: Peer) -> None:
        seen.append(peer)
        await peer.send(CONNACK)
        await answer_all(peer)

    async with scripted(play) as broker, reading(make_reader(broker.port, Handler())):
        await until(lambda: seen)
        (peer,) = seen
        assert peer.connect[9] & 0x02, "clean start"
        assert b"gatewayd-host-site-births" in peer.connect


async def test_a_broker_of_3_1_1_is_read_as_one() -> None:
    versions: list[int] = []
    handler = Handler()

    async def old(peer: Peer) -> None:
        versions.append(peer.version)
        if peer.version == 5:
            await peer.send(bytes.fromhex("20 02 00 01"))
            return
        await peer.send(bytes.fromhex("20 02 00 00"))
        for _ in WANTED:
            subscribed = await peer.packet()
            assert subscribed[-1] == 0, "QoS 0"
            await peer.send(suback(4, 0))
        await peer.send(b"\x31\x12\x00\x0fbirths/a/config1")
        await peer.gone()

    async with scripted(old) as broker, reading(make_reader(broker.port, handler)):
        await until(lambda: handler.births)
        assert versions[:2] == [5, 4]
        assert handler.births[0].retained


async def test_a_refused_topic_is_a_fault_and_the_others_are_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "AWAY", 0.0)

    async def refuse(peer: Peer) -> None:
        await peer.send(CONNACK)
        await answer_all(peer, 0x87)

    reader = make_reader(0, Handler())
    async with scripted(refuse) as broker:
        reader = make_reader(broker.port, Handler())
        async with reading(reader):
            await until(reader.fault)
            assert "does not let gatewayd read all topics" in reader.fault()
            assert broker.connections == 1


async def test_a_broker_that_answers_late_is_waited_for_while_it_sends() -> None:
    handler, ended = Handler(), asyncio.Event()

    async def slow(peer: Peer) -> None:
        await peer.send(CONNACK)
        await peer.packet()
        before = len(handler.births)
        for _ in range(6):  # longer than the reply timeout, in all
            await peer.send(b"\x31\x13\x00\x0fbirths/a/config\x001")
            await asyncio.sleep(0.1)
        await peer.gone()  # it is never answered
        if len(handler.births) == before + 6:  # else the machine was too slow, and it is again
            ended.set()

    settings = replace(SITE, reply_timeout=0.3)
    async with scripted(slow) as broker:
        reader = make_reader(broker.port, handler, Retry(0.05, 0.1), settings)
        async with reading(reader):
            await until(ended.is_set)
            await until(lambda: reader._reason.code == "broker-no-answer")


async def test_it_gives_way_to_another_client_with_its_identifier(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def take_over(peer: Peer) -> None:
        await peer.send(CONNACK)
        await peer.packet()
        await peer.send(bytes.fromhex("e0 01 8e"))

    monkeypatch.setattr(module, "GIVE_WAY", 0.05)
    rarely = Retry(60.0, 60.0)
    async with (
        scripted(take_over) as broker,
        reading(make_reader(broker.port, Handler(), rarely)),
    ):
        await until(lambda: broker.connections == 2)
