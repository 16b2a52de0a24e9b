"""What we publish and subscribe to, and how much of it may be under way."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from gatewayd.cloud import mqtt
from gatewayd.cloud.paho_socket import Gone, UnacknowledgedPackets
from gatewayd.network.connect_errors import ConnectionEnd
from gatewayd.network.tls import Server
from gatewayd.simulator.mqtt import codec
from gatewayd.simulator.mqtt.packets import Publish, Unsubscribe
from tests.cloud.peer import Peer, connected

Serve = Callable[..., AbstractAsyncContextManager[Any]]
At = Callable[..., Server]


async def limited(awaitable: Any) -> Any:
    async with asyncio.timeout(30):
        return await awaitable


@pytest.mark.parametrize("qos", [0, 1])
async def test_what_is_published_arrives(serve: Serve, server: At, qos: int) -> None:
    peer = Peer()
    async with connected(peer, serve, server) as connection:
        for n in range(3):
            await limited(connection.publish(f"/a/{n}", json.dumps({"n": n}).encode(), qos))
        await peer.until(lambda: len(peer.asked) == 3)
    assert peer.asked == [(f"/a/{n}", {"n": n}) for n in range(3)]
    assert {packet.qos for packet in peer.seen if isinstance(packet, Publish)} == {qos}


async def test_a_large_message_arrives(serve: Serve, server: At) -> None:
    peer, text = Peer(), "x" * 200_000
    async with connected(peer, serve, server) as connection:
        await limited(connection.publish("/a", json.dumps({"a": text}).encode()))
        await peer.until(lambda: len(peer.asked) == 1)
    assert peer.asked == [("/a", {"a": text})]


async def test_a_subscription_has_a_code_for_each_topic(serve: Serve, server: At) -> None:
    codes = {"/a": 0, "/b": mqtt.REFUSED, "/c": 1}
    async with connected(Peer(granted=codes.__getitem__), serve, server) as connection:
        assert await limited(connection.subscribe(["/a", "/b", "/c"])) == (0, mqtt.REFUSED, 1)


async def test_a_topic_without_a_code_is_refused(serve: Serve, server: At) -> None:
    peer = Peer(granted=lambda topic: 1 if topic == "/a" else None)
    async with connected(peer, serve, server) as connection:
        assert await limited(connection.subscribe(["/a", "/b"])) == (1, mqtt.REFUSED)


async def test_to_unsubscribe(serve: Serve, server: At) -> None:
    peer = Peer()
    async with connected(peer, serve, server) as connection:
        await limited(connection.unsubscribe(["/a", "/b"]))
    found = [packet.filters for packet in peer.seen if isinstance(packet, Unsubscribe)]
    assert found == [("/a", "/b")]


async def test_no_more_is_under_way_than_may_be(serve: Serve, server: At) -> None:
    peer = Peer(puback=False)
    async with connected(peer, serve, server) as connection:
        sending = [
            asyncio.create_task(connection.publish("/a", b"1", 1))
            for _ in range(mqtt.IN_FLIGHT + 5)
        ]
        await peer.until(lambda: len(peer.asked) == mqtt.IN_FLIGHT)
        waiting = asyncio.create_task(connection.publish("/b", b"2"))
        first = next(packet for packet in peer.seen if isinstance(packet, Publish))
        await peer.client.send(codec.puback(first.packet_id))
        await peer.until(lambda: len(peer.asked) == mqtt.IN_FLIGHT + 1)
        assert [task.done() for task in sending].count(True) == 1
        assert {topic for topic, _ in peer.asked} == {"/a"}
        connection.abort()
        ended = await limited(asyncio.gather(*sending, waiting, return_exceptions=True))
    assert ended[0] is None
    assert {type(one) for one in ended[1:]} == {Gone}


async def test_whoever_gives_up_leaves_the_place_taken(serve: Serve, server: At) -> None:
    """A packet that was sent is under way, whether its sender waits or not."""
    peer = Peer(puback=False)
    async with connected(peer, serve, server) as connection:
        sending = [
            asyncio.create_task(connection.publish("/a", b"1", 1)) for _ in range(mqtt.IN_FLIGHT)
        ]
        await peer.until(lambda: len(peer.asked) == mqtt.IN_FLIGHT)
        for task in sending:
            task.cancel()
        await asyncio.gather(*sending, return_exceptions=True)
        waiting = asyncio.create_task(connection.publish("/b", b"2"))
        published = [packet for packet in peer.seen if isinstance(packet, Publish)]
        await asyncio.sleep(0)
        assert not waiting.done()
        await peer.client.send(codec.puback(published[-1].packet_id))
        await limited(waiting)
        await peer.until(lambda: peer.asked[-1][0] == "/b")


async def test_a_message_for_a_connection_that_has_ended(serve: Serve, server: At) -> None:
    peer = Peer(puback=False)
    async with connected(peer, serve, server) as connection:
        waiting = asyncio.create_task(connection.publish("/a", b"1", 1))
        await peer.until(lambda: len(peer.asked) == 1)
        peer.drop()
        with pytest.raises(Gone):
            await limited(waiting)
        with pytest.raises(Gone):
            await limited(connection.publish("/a", b"1"))
        with pytest.raises(Gone):
            await limited(connection.subscribe(["/a"]))


async def test_an_unexpected_acknowledgement(serve: Serve, server: At) -> None:
    peer = Peer()
    async with connected(peer, serve, server) as connection:
        await peer.client.send(codec.puback(9), codec.suback(9, [1]), codec.unsuback(9))
        await limited(connection.publish("/a", b"1", 1))
        assert not connection.closed.done()


async def test_what_fails_while_it_is_sent_takes_no_place() -> None:
    pending = UnacknowledgedPackets(1)

    def fail() -> int:
        pending.end()
        return 1

    for _ in range(3):
        with pytest.raises(Gone):
            await limited(pending.send(fail))


@pytest.mark.jumping_clock
async def test_an_acknowledgement_that_does_not_come_is_noticed() -> None:
    """Also where others come meanwhile; each of them may take its time."""
    late, numbers = asyncio.Event(), itertools.count(1)
    pending = UnacknowledgedPackets(8, 60.0, late.set)
    loop = asyncio.get_running_loop()
    for number in range(1, 4):
        pending.post(lambda: next(numbers))
        await asyncio.sleep(50)
        pending.acknowledge(number)
    await asyncio.sleep(500)
    assert not late.is_set()  # nothing is under way
    began = loop.time()
    for _ in range(3):
        pending.post(lambda: next(numbers))
    await asyncio.sleep(50)
    pending.acknowledge(4)
    await asyncio.sleep(50)
    assert not late.is_set()  # the second is the first now, and not for long
    pending.acknowledge(6)
    await late.wait()
    assert loop.time() - began == pytest.approx(110)
    pending.end()


async def test_a_cloud_that_acknowledges_no_more_is_left(
    serve: Serve, server: At, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mqtt, "PATIENCE", 0.2)
    async with connected(Peer(puback=False), serve, server) as connection:
        assert await limited(connection.post("/a", b"{}")) is None
        assert await limited(connection.wait_closed()) is ConnectionEnd.KEEPALIVE
