"""paho as Debian has it publishes through mosquitto to a door; mosquitto_pub in test_own_broker."""

from __future__ import annotations

import asyncio
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.messages.doors.intakes import CHILD, PATIENCE, Intake
from tests.messages.doors.own_door import USERS, make_door, own_broker, running
from tests.support.mosquitto import Mosquitto

pytestmark = pytest.mark.integration


class Publisher:
    """A child's program, on paho's own thread.  received: payload and correlation data."""

    def __init__(self, broker: Mosquitto, version: int) -> None:
        api = getattr(paho, "CallbackAPIVersion", None)
        first = (api.VERSION2,) if api else ()
        self.client: Any = paho.Client(*first, client_id=CHILD, protocol=version)
        self.client.username_pw_set(CHILD, USERS[CHILD])
        self.received: list[tuple[bytes, bytes]] = []
        self.client.on_message = self._receive
        self.client.connect("127.0.0.1", broker.port)
        self.client.loop_start()

    def _receive(self, _client: Any, _data: Any, message: Any) -> None:
        self.received.append((message.payload, message.properties.CorrelationData))

    def publish(self, topic: str, count: int) -> None:
        """Publish so many numbers, and return when the broker has acknowledged all."""
        sent = [self.client.publish(topic, str(number), qos=1) for number in range(count)]
        for one in sent:
            one.wait_for_publish(PATIENCE)

    def ask(self, topic: str, response: str) -> None:
        """Publish a message with a response topic."""
        self.client.subscribe(response, 1)
        properties = Properties(PacketTypes.PUBLISH)
        properties.ResponseTopic, properties.CorrelationData = response, b"7"
        self.client.publish(topic, "{}", qos=1, properties=properties).wait_for_publish(PATIENCE)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@pytest.mark.parametrize("version", [paho.MQTTv311, paho.MQTTv5])
async def test_messages_arrive_in_order(version: int) -> None:
    with own_broker() as broker:
        intake = Intake()
        async with running(make_door(broker, intake)):
            publisher = await asyncio.to_thread(Publisher, broker, version)
            try:
                await asyncio.to_thread(publisher.publish, f"c/{CHILD}/up/properties", 300)
                received = await intake.until(300)
            finally:
                await asyncio.to_thread(publisher.close)
            assert [message.payload for message in received] == [b"%d" % n for n in range(300)]


async def test_a_receipt_comes_back() -> None:
    with own_broker() as broker:
        async with running(make_door(broker, Intake())):
            publisher = await asyncio.to_thread(Publisher, broker, paho.MQTTv5)
            try:
                topic = f"c/{CHILD}/up/properties"
                await asyncio.to_thread(publisher.ask, topic, f"c/{CHILD}/down/receipt")
                async with asyncio.timeout(PATIENCE):
                    while not publisher.received:
                        await asyncio.sleep(0.01)
            finally:
                await asyncio.to_thread(publisher.close)
            assert publisher.received == [(b"stored", b"7")]
