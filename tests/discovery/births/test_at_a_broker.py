"""Births at a real mosquitto: what it has kept, what comes, floods, and what is asked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from gatewayd.discovery.births import discoverer
from gatewayd.discovery.births.port import BirthRequest
from gatewayd.discovery.births.settings import BirthsSettings, DialectName
from gatewayd.discovery.discoverer import Discoverer, LossReason, Sighting
from gatewayd.discovery.helper.messages import decode_to_gatewayd, encode_to_gatewayd
from gatewayd.errors import DiscoveryRetry
from gatewayd.lan_discovery import MOST_ASKED
from gatewayd.testing.contracts.discoverer import (
    DiscovererTestbed,
    RecordingSink,
    running,
)
from gatewayd.testing.waiting import until
from tests.discovery.births.broker import (
    KINDS,
    BirthsAtBroker,
    births_at,
    keep,
    publish,
    settings_of,
)
from tests.discovery.births.published import ALL, VECTORS, payload_of, tasmota
from tests.messages.broker.client import Place, connected
from tests.support.household import household
from tests.support.mosquitto import Mosquitto, mosquitto
from tests.support.source_contract import SourceContract
from tests.support.tasks import in_background

pytestmark = pytest.mark.integration


@pytest.fixture
def broker() -> Iterator[Mosquitto]:
    with mosquitto() as made:
        yield made


@asynccontextmanager
async def reading(
    broker: Mosquitto, settings: BirthsSettings
) -> AsyncIterator[tuple[BirthsAtBroker, RecordingSink]]:
    """Run a discoverer at a broker; yield it when it is connected."""
    async with births_at(broker, settings) as made, running(made.discoverer) as sink:
        await until(made.connected)
        yield made, sink


class KeptPlugs:
    """Three plugs, of which the broker has kept what they announced."""

    def __init__(self, broker: Mosquitto, made: BirthsAtBroker) -> None:
        self.discoverer: Discoverer = made.discoverer
        self._broker = broker
        self.count, self.limit = 3, 16

    async def remove(self, key: str) -> bool:
        number = int(key[-6:], 16)
        await publish(self._broker, f"tele/plug{number}/LWT", b"Offline", "-r")
        await until(lambda: self.discoverer.health.lost)
        return True

    async def abuse(self) -> None:
        for number in range(100, 150):
            topic, config = tasmota(number)
            await publish(self._broker, topic, {**config, "mac": "x" * number})
        for payload in (b"[" * 60_000, b"\0" * 70_000, b"{}"):
            await publish(self._broker, tasmota(7)[0], payload)


async def put_plugs(broker: Mosquitto, *numbers: int, says: bytes = b"Online") -> None:
    await keep(broker, [tasmota(number) for number in numbers])
    await keep(broker, [(f"tele/plug{number}/LWT", says) for number in numbers])


class TestBirths(SourceContract):
    @pytest.fixture(autouse=True)
    def _at(self, broker: Mosquitto) -> None:
        self.broker = broker

    @asynccontextmanager
    async def make_testbed(self) -> AsyncIterator[DiscovererTestbed]:
        await put_plugs(self.broker, 1, 2, 3)
        async with births_at(self.broker, settings_of(max_entries=16)) as made:
            yield KeptPlugs(self.broker, made)


async def test_every_vector_is_found_once_something_says_that_it_is_there(
    broker: Mosquitto,
) -> None:
    for vector in VECTORS.values():
        await publish(broker, vector["topic"], payload_of(vector), "-r")
    async with reading(broker, replace(ALL, availability=("plant/+/status",))) as (made, sink):
        await until(lambda: made.discoverer.health.dropped.get("stale") == 12)
        assert not sink.seen, "what the broker keeps may be years old"
        for topic, says in (
            ("tasmota_49A3BC/tele/LWT", b"Online"),
            ("shellies/shellyswitch25-98CDAC0A0B0C/online", b"true"),
            ("shellyplugus-c049ef0a0b0c/online", b"true"),
            ("shellyplusht-b8d61a0a0b0c/online", b"true"),
            ("zigbee2mqtt/bridge/state", b'{"state":"online"}'),
            ("zima/status", b"online"),
            ("plant/0AFFD2/status", b"online"),
            ("te/device/main/service/tedge-agent/status/health", b'{"status":"up"}'),
        ):
            await publish(broker, topic, says, "-r")
        await publish(
            broker, "spBv1.0/plant/NBIRTH/edge1", payload_of(VECTORS["mqtt-sparkplug-01"])
        )
        await until(lambda: len(sink.seen) == 12)
        keys = {key.split("/")[1] for key in sink.seen}
        assert keys == {"tasmota", "shelly-gen1", "shelly", "zigbee", "esphome", "thin-edge",
                        "home-assistant", "sparkplug-b"}  # fmt: skip
        assert all(not one.addresses for one in sink.seen.values()), "a payload's is a hint"
        for seen in sink.seen.values():
            assert decode_to_gatewayd(encode_to_gatewayd(seen), KINDS, seen.at) == seen
        assert all(one.attributes["mqtt.door"] == "plant" for one in sink.seen.values())


async def test_a_device_leaves_when_its_will_says_so_and_comes_back(broker: Mosquitto) -> None:
    async with reading(broker, settings_of()) as (made, sink):
        await put_plugs(broker, 1)
        await until(lambda: len(sink.seen) == 1)
        (known,) = sink.seen.values()
        await publish(broker, "tele/plug1/LWT", b"Offline", "-r")
        await until(lambda: sink.lost)
        assert sink.lost[0].reason is LossReason.GOODBYE
        assert await made.discoverer.verify(known) is None
        before = sink.sightings
        await publish(broker, "tele/plug1/LWT", b"Online", "-r")
        await until(lambda: sink.sightings > before)
        assert await made.discoverer.verify(known) is not None


async def test_a_device_that_is_renamed_renumbered_and_restarted_stays_one(
    broker: Mosquitto,
) -> None:
    async with reading(broker, settings_of()) as (_, sink):
        await put_plugs(broker, 1)
        await until(lambda: len(sink.seen) == 1)
        topic, payload = tasmota(1, t="cellar", dn="Cellar", ip="10.0.0.99")
        await keep(broker, [(topic, payload), ("tele/cellar/LWT", b"Online")])
        await until(lambda: next(iter(sink.seen.values())).label == "Cellar")
        (seen,) = sink.seen.values()
        assert seen.attributes["mqtt.ip"] == "10.0.0.99"
        assert seen.key == "plant/tasmota/a0b7a5000001"


async def test_a_device_that_moves_to_another_broker_stays_one_child(
    broker: Mosquitto, usual: Mosquitto
) -> None:
    settings = settings_of(doors=("plant", "hall"))
    async with (
        births_at(broker, settings, {"hall": usual}) as made,
        household(made.discoverer) as home,
    ):
        await until(made.connected)
        await put_plugs(broker, 1)
        first = await home.shows(lambda one: one.claims)
        assert [view["mqtt.door"] for view in first.views] == ["plant"]
        await put_plugs(broker, 1, says=b"Offline")
        await put_plugs(usual, 1)
        await home.shows(lambda one: [view["mqtt.door"] for view in one.views] == ["hall"])
        assert not home.only().conflict


async def test_what_a_bridge_lists_no_more_is_gone(broker: Mosquitto) -> None:
    listed = json.loads(VECTORS["mqtt-zigbee2mqtt-01"]["text"])
    topic, state = "zigbee2mqtt/bridge/devices", ("zigbee2mqtt/bridge/state", {"state": "online"})
    async with reading(broker, settings_of(DialectName.ZIGBEE2MQTT)) as (_, sink):
        await keep(broker, [(topic, listed), state])
        await until(lambda: len(sink.seen) == 3)
        await publish(broker, topic, listed[:-1], "-r")
        await until(lambda: sink.lost)
        assert [one.key for one in sink.lost] == ["plant/zigbee/0017880104e45520"]
        await publish(broker, "zigbee2mqtt/bulb/availability", {"state": "offline"}, "-r")
        await until(lambda: len(sink.lost) == 2)
        assert sink.lost[1].key == "plant/zigbee/000b57fffec6a5b2"
        await publish(broker, "zigbee2mqtt/bridge/state", {"state": "offline"}, "-r")
        await until(lambda: len(sink.lost) == 3)


async def test_an_edge_node_dies_by_the_will_of_its_newest_session(broker: Mosquitto) -> None:
    born, died = (payload_of(VECTORS[f"mqtt-sparkplug-0{one}"]) for one in (1, 2))
    async with reading(broker, settings_of(DialectName.SPARKPLUG)) as (made, sink):
        await publish(broker, "spBv1.0/plant/NBIRTH/edge1", born)
        await publish(broker, "spBv1.0/plant/DBIRTH/edge1/pump", born)
        await until(lambda: len(sink.seen) == 2)
        await publish(broker, "spBv1.0/plant/NDEATH/edge1", died)
        await until(lambda: made.discoverer.health.dropped.get("old-death"))
        assert not sink.lost
        own = b"\x12\x0d\x0a\x05bdSeq\x10\x01\x20\x08\x58\x58"
        await publish(broker, "spBv1.0/plant/NDEATH/edge1", own)
        await until(lambda: len(sink.lost) == 2)
        (known, *_) = sink.seen.values()
        assert await made.discoverer.verify(known) is None


@pytest.fixture
def usual() -> Iterator[Mosquitto]:
    """A broker with the queue that it has where nothing is configured."""
    with mosquitto(["listener {port} 127.0.0.1", "max_queued_messages 1000"]) as made:
        yield made


async def test_a_thousand_births_at_once_are_all_found(usual: Mosquitto) -> None:
    async with connected(Place(port=usual.port), client_id="many") as client:
        for number in range(1, 1001):
            topic, payload = tasmota(number)
            await client.publish(topic, json.dumps(payload).encode(), retain=True)
            await client.publish(f"tele/plug{number}/LWT", b"Online", retain=True)
    async with reading(usual, settings_of()) as (made, sink):
        await until(lambda: len(sink.seen) == 1000)
        assert set(made.births.counters()) == {"births:received"}


async def test_a_thousand_devices_that_come_back_at_once_are_all_found(usual: Mosquitto) -> None:
    async with reading(usual, settings_of()) as (made, sink):
        await publish(usual, "tele/first/LWT", b"Online")
        await until(lambda: made.discoverer._rosters["plant"]._statuses)
        async with connected(Place(port=usual.port), client_id="many") as client:
            for number in range(1, 1001):
                topic, payload = tasmota(number)
                for each, said in (
                    (topic, json.dumps(payload)),
                    (f"tele/plug{number}/LWT", "Online"),
                ):
                    body = len(each).to_bytes(2, "big") + each.encode() + said.encode()
                    client.send(0x31, body)  # QoS 0, as most firmware publishes
            await client.ping()
            await until(lambda: len(sink.seen) == 1000)


# Questions.


@asynccontextmanager
async def device_that_answers(
    broker: Mosquitto, asked: str, topic: str = "", answer: bytes = b""
) -> AsyncIterator[list[Any]]:
    """Run a device that answers a question, if it has a topic for that; yield the questions."""
    questions: list[Any] = []
    async with connected(Place(port=broker.port), client_id="device") as client:
        await client.subscribe(asked)

        async def serve() -> None:
            while True:
                questions.append(await client.received())
                if topic:
                    await publish(broker, topic, answer)

        async with in_background(serve()):
            yield questions


async def test_nothing_is_published_where_questions_are_not_allowed(broker: Mosquitto) -> None:
    async with device_that_answers(broker, "#") as published:
        async with reading(broker, replace(ALL, ask=False)) as (made, sink):
            await keep(broker, [("zima/status", b"online"), ("x/online", b"true")])
            await publish(broker, "esphome/discover/zima", payload_of(VECTORS["mqtt-esphome-01"]))
            await until(lambda: len(sink.seen) == 1)
            await made.discoverer.rescan()
            assert await made.discoverer.verify(next(iter(sink.seen.values()))) is not None
            made.helper._request(BirthRequest("births", "plant", "esphome"))
            await publish(broker, "last", b"")
            await until(lambda: any(one.topic == "last" for one in published))
        ours = {"zima/status", "x/online", "esphome/discover/zima", "last"}
        assert {one.topic for one in published} <= ours
        assert made.births.counters()["births:not-asked"] == 1
        assert not made.discoverer.transmissions()


async def test_an_unknown_shelly_is_asked_once_for_what_it_is(broker: Mosquitto) -> None:
    answer = payload_of(VECTORS["mqtt-shelly-gen2-01"])
    own = "shellyplugus-c049ef0a0b0c"
    asking = device_that_answers(broker, f"{own}/rpc", "gatewayd-births/rpc", answer)
    async with (
        asking as questions,
        reading(broker, settings_of(DialectName.SHELLY, ask=True)) as (made, sink),
    ):
        await publish(broker, f"{own}/online", b"true", "-r")
        await until(lambda: len(sink.seen) == 1)
        (seen,) = sink.seen.values()
        assert seen.attributes["model"] == "SNPL-00116US"
        assert json.loads(questions[0].payload)["method"] == "Shelly.GetDeviceInfo"
        await made.discoverer.rescan()
        assert await made.discoverer.verify(seen) is not None
        assert len(questions) == 1, "one minute has not passed"
        assert made.births.counters()["births:asked"] == 1


async def test_an_edge_node_that_was_born_before_is_asked_for_its_birth(broker: Mosquitto) -> None:
    born = payload_of(VECTORS["mqtt-sparkplug-01"])
    asking = device_that_answers(
        broker, "spBv1.0/plant/NCMD/edge1", "spBv1.0/plant/NBIRTH/edge1", born
    )
    async with (
        asking as questions,
        reading(broker, settings_of(DialectName.SPARKPLUG, ask=True)) as (_, sink),
    ):
        for _ in range(3):
            await publish(broker, "spBv1.0/plant/NDATA/edge1", b"\x08\x01")
        await until(lambda: len(sink.seen) == 1)
        assert len(questions) == 1


async def test_a_device_answers_whose_broker_says_nothing_of_it(broker: Mosquitto) -> None:
    answer = payload_of(VECTORS["mqtt-esphome-01"])
    asking = device_that_answers(broker, "esphome/ping/zima", "esphome/discover/zima", answer)
    async with asking, reading(broker, settings_of(DialectName.ESPHOME, ask=True)) as (made, sink):
        await publish(broker, "esphome/discover/zima", answer)
        await until(lambda: len(sink.seen) == 1)
        (seen,) = sink.seen.values()
        found = await made.discoverer.verify(seen)
        assert found is not None
        assert found.at > seen.at
        with pytest.raises(DiscoveryRetry, match="nothing says"):  # it was just asked
            await made.discoverer.verify(seen)


async def test_what_a_helper_may_request_stands_in_the_table(broker: Mosquitto) -> None:
    async with device_that_answers(broker, "#") as published:
        async with reading(broker, settings_of(DialectName.TASMOTA, ask=True)) as (made, _):
            for dialect, names in (
                ("tasmota", ("plug/../#",)),
                ("tasmota", ("$SYS",)),
                ("tasmota", ("a", "b")),
                ("tasmota", ()),
                ("esphome", ("zima",)),
                ("availability", ("x",)),
            ):
                made.births.requested(BirthRequest("births", "plant", dialect, names))
            made.births.requested(BirthRequest("births", "other", "tasmota", ("x",)))
            made.births.requested(BirthRequest("other", "plant", "tasmota", ("x",)))
            for number in range(100):
                made.births.requested(BirthRequest("births", "plant", "tasmota", (f"p{number}",)))
            counted = made.births.counters()
            assert counted["births:asked"] == MOST_ASKED
            assert counted["births:not-asked"] == 6 + 100 - MOST_ASKED
            await until(lambda: len(published) == MOST_ASKED)
        assert {one.topic for one in published} <= {
            f"cmnd/p{number}/STATUS" for number in range(100)
        }


# Faults.


async def test_a_door_that_is_not_connected_says_nothing_of_its_devices(broker: Mosquitto) -> None:
    async with reading(broker, settings_of()) as (made, sink):
        await put_plugs(broker, 1)
        await until(lambda: len(sink.seen) == 1)
        (known,) = sink.seen.values()
        await asyncio.to_thread(broker.kill)
        await until(lambda: not made.connected())
        await until(lambda: not made.discoverer._open)
        with pytest.raises(DiscoveryRetry, match="not connected"):
            await made.discoverer.verify(known)
        assert not sink.lost
        await asyncio.to_thread(broker.start)
        await until(lambda: made.discoverer._open)
        await put_plugs(broker, 1)  # as it connects again
        await until(lambda: made.discoverer._rosters["plant"]._statuses)
        assert await made.discoverer.verify(known) is not None


async def test_what_a_broker_has_not_said_yet_makes_no_device_absent(
    broker: Mosquitto, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put_plugs(broker, 1)
    async with reading(broker, settings_of()) as (_, sink):
        await until(lambda: sink.seen)
    (known,) = sink.seen.values()
    await publish(broker, tasmota(1)[0], b"", "-r")
    async with reading(broker, settings_of()) as (made, _):  # as after a restart of the helper
        await until(lambda: made.discoverer._open)
        with pytest.raises(DiscoveryRetry, match="may not have said yet"):
            await made.discoverer.verify(known)
        monkeypatch.setattr(discoverer, "SETTLE", 0.0)
        assert await made.discoverer.verify(known) is None


async def test_a_helper_that_starts_again_reads_all_again(broker: Mosquitto) -> None:
    await put_plugs(broker, 1, 2)
    async with births_at(broker, settings_of()) as made:
        for _ in range(2):
            async with running(made.discoverer) as sink:
                await until(lambda sink=sink: len(sink.seen) == 2)  # type: ignore[misc]  # bound early
            made.helper.is_running = False
            await publish(broker, *tasmota(3))
            await until(lambda: made.births.counters().get("births:dropped:no-helper"))
            made.helper.is_running = True


async def test_what_nothing_says_more_of_is_believed_for_a_day(
    broker: Mosquitto, monkeypatch: pytest.MonkeyPatch
) -> None:
    born = payload_of(VECTORS["mqtt-sparkplug-01"])
    async with reading(broker, settings_of(DialectName.SPARKPLUG)) as (made, sink):
        await publish(broker, "spBv1.0/plant/NBIRTH/edge1", born)
        await until(lambda: len(sink.seen) == 1)
        (known,) = sink.seen.values()
        assert await made.discoverer.verify(known) is not None, "its death would have come"
        made.births._readers["births", "plant"]._session.connection.abort()  # type: ignore[union-attr]  # it is connected
        await until(lambda: not made.discoverer._open)
        await until(lambda: made.discoverer._open)
        with pytest.raises(DiscoveryRetry, match="nothing says"):
            await made.discoverer.verify(known)
        monkeypatch.setattr(discoverer, "BY_MESSAGE", 0.0)
        assert await made.discoverer.verify(known) is None


async def test_a_broker_has_time_to_say_what_it_keeps(
    broker: Mosquitto, monkeypatch: pytest.MonkeyPatch
) -> None:
    await keep(broker, [tasmota(1)])
    async with reading(broker, settings_of()) as (made, _):
        await until(lambda: len(made.discoverer._rosters["plant"]))
        known = Sighting(
            "births", "plant/tasmota/a0b7a5000001", 0.0, 60.0, "", (), None, frozenset(), {}, "x"
        )
        with pytest.raises(DiscoveryRetry, match="nothing says"):
            await made.discoverer.verify(known)
        monkeypatch.setattr(discoverer, "SETTLE", 0.0)
        assert await made.discoverer.verify(known) is None
