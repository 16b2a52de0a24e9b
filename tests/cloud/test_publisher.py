"""How the messages of a child leave: in order, at the cloud's pace, and delayed when all ends."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from gatewayd.cloud import mqtt
from gatewayd.cloud.mqtt import MqttSession
from gatewayd.cloud.provider import (
    MessageAccepted,
    MessageDelayed,
    MessageRefused,
    Publication,
    SupportsMessages,
)
from gatewayd.cloud.publisher import MappedMessage, MqttPublisher
from gatewayd.device.message import Message
from gatewayd.device.reading import UnfitMessage
from gatewayd.device.reason import Reason
from gatewayd.device.secret import Secret
from gatewayd.network.tls import Server
from gatewayd.runtime.rate_limiter import Pacer, RateLimiter
from gatewayd.simulator.mqtt import codec
from gatewayd.simulator.mqtt.packets import Publish
from gatewayd.testing.contracts.cloud import cancel
from gatewayd.testing.waiting import until
from tests.cloud.peer import Peer, connected
from tests.cloud.stand_ins import CountLimit, commands_of_no_kind

Serve = Callable[..., AbstractAsyncContextManager[Any]]
At = Callable[..., Server]

UNFIT = Reason("unfit", "It does not fit.")
FREE = 1e9
"""Messages in a second: no limit."""


def map_message(message: Message) -> MappedMessage:
    if message.topic == "unfit":
        raise UnfitMessage(UNFIT)
    return MappedMessage(f"/a/{message.topic}", message.payload)


def said(number: int) -> Message:
    return Message(str(number), json.dumps({"n": number}).encode(), 0)


def session_over(
    connection: mqtt.MqttConnection, rate: float = FREE, waiters: int = 1000
) -> MqttSession:
    limit = CountLimit(RateLimiter(Pacer(rate), time.monotonic, waiters))
    return MqttSession(
        connection,
        lambda: MqttPublisher(connection, map_message, limit, 100),
        lambda: commands_of_no_kind().open("child"),
    )


def saying(session: SupportsMessages, *numbers: int) -> list[asyncio.Task[Publication]]:
    return [asyncio.create_task(session.publish(said(number))) for number in numbers]


async def all_of(tasks: list[asyncio.Task[Publication]]) -> list[Publication]:
    async with asyncio.timeout(30):
        return list(await asyncio.gather(*tasks))


def numbers(peer: Peer) -> list[int]:
    return [message["n"] for _, message in peer.asked]


async def test_messages_arrive_in_order_at_qos_1(serve: Serve, server: At) -> None:
    peer = Peer()
    async with connected(peer, serve, server) as connection:
        session = session_over(connection)
        assert isinstance(session, SupportsMessages)
        assert session.max_payload == 100
        outcomes = await all_of(saying(session, *range(200)))
    assert outcomes == [MessageAccepted()] * 200
    assert numbers(peer) == list(range(200))
    assert {packet.qos for packet in peer.seen if isinstance(packet, Publish)} == {1}


async def test_a_message_that_does_not_fit_is_refused_and_not_sent(
    serve: Serve, server: At
) -> None:
    peer = Peer()
    async with connected(peer, serve, server) as connection:
        session = session_over(connection)
        assert await session.publish(Message("unfit", b"", 0)) == MessageRefused(UNFIT)
        assert await session.publish(said(1)) == MessageAccepted()
    assert numbers(peer) == [1]


@pytest.mark.parametrize("rate", [FREE, 2.0])
async def test_when_the_connection_ends_all_are_delayed_at_once(
    serve: Serve, server: At, rate: float
) -> None:
    """What is in flight, what waits for a place, and what waits for the limit."""
    peer = Peer(puback=False)
    async with connected(peer, serve, server) as connection:
        session = session_over(connection, rate)
        tasks = saying(session, *range(mqtt.IN_FLIGHT + 20))
        await peer.until(lambda: bool(peer.asked))
        peer.drop()
        outcomes = await all_of(tasks)
        later = await session.publish(said(0))
    assert [type(one) for one in [*outcomes, later]] == [MessageDelayed] * (mqtt.IN_FLIGHT + 21)
    assert isinstance(later, MessageDelayed)
    assert later.reason == (await session.wait_closed()).reason


async def test_what_is_under_way_is_bounded(serve: Serve, server: At) -> None:
    peer = Peer(puback=False)
    async with connected(peer, serve, server) as connection:
        tasks = saying(session_over(connection), *range(mqtt.IN_FLIGHT + 5))
        await peer.until(lambda: len(peer.asked) == mqtt.IN_FLIGHT)
        first = next(packet for packet in peer.seen if isinstance(packet, Publish))
        await peer.client.send(codec.puback(first.packet_id))
        await peer.until(lambda: len(peer.asked) == mqtt.IN_FLIGHT + 1)
        assert [task.done() for task in tasks].count(True) == 1
        peer.drop()
        await all_of(tasks)
    assert numbers(peer) == list(range(mqtt.IN_FLIGHT + 1))


async def test_one_that_is_cancelled_keeps_its_place(serve: Serve, server: At) -> None:
    peer = Peer(puback=False)
    async with connected(peer, serve, server) as connection:
        session = session_over(connection)
        tasks = saying(session, *range(mqtt.IN_FLIGHT + 1))
        await peer.until(lambda: len(peer.asked) == mqtt.IN_FLIGHT)
        assert await cancel(tasks[0])
        assert await cancel(tasks[-1])
        more = saying(session, 99)
        await asyncio.sleep(0)
        published = [packet for packet in peer.seen if isinstance(packet, Publish)]
        await peer.client.send(codec.puback(published[0].packet_id))
        await peer.until(lambda: numbers(peer)[-1] == 99)
        peer.drop()
        await all_of([*tasks[1:-1], *more])


async def test_a_full_queue_delays_and_keeps_the_order(serve: Serve, server: At) -> None:
    """What comes after a delayed message is delayed, too, until all is handed back."""
    peer, waiters = Peer(), 3
    async with connected(peer, serve, server) as connection:
        session = session_over(connection, 20.0, waiters)
        tasks = saying(session, *range(6))
        await until(tasks[-1].done)
        tasks += saying(session, 6)
        outcomes = await all_of(tasks)
        assert [type(one) for one in outcomes].count(MessageDelayed) >= 3
        sent = [n for n, one in enumerate(outcomes) if isinstance(one, MessageAccepted)]
        assert sent == numbers(peer) == list(range(len(sent)))
        assert await session.publish(said(9)) == MessageAccepted()


async def test_unasked_messages_of_the_cloud_are_counted(serve: Serve, server: At) -> None:
    async with serve((peer := Peer()).script) as broker:
        connection = await mqtt.open_connection(
            server(broker.port), mqtt.Login("a", "b", Secret(b"c")), 60
        )
        await peer.say("/sys/a/b/thing/service/property/set", {"a": 1})
        await peer.say("/x", b"\xff")
        await until(lambda: connection.dropped == 2)
        await connection.close()
        await broker.until(0)
