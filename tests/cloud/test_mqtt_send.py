"""What we publish and subscribe to, and how much of it may be under way."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from gatewayd.cloud import mqtt
from gatewayd.cloud.paho_socket import Gone, UnacknowledgedPackets, message_packet
from gatewayd.network.connect_errors import ConnectionEnd
from gatewayd.network.tls import Server
from gatewayd.simulator.mqtt import codec
from gatewayd.simulator.mqtt.packets import Connect, Packet, Publish, Subscribe, Unsubscribe
from gatewayd.testing.waiting import until
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


@pytest.mark.parametrize("size", [0, 1, 115, 116, 16_371, 16_372, 300_000])
def test_a_message_is_a_packet_as_the_standard_has_it(size: int) -> None:
    """3.3, with lengths of one to three bytes (2.2.3)."""
    packet = message_packet("/ä/topic", b"x" * size, 258)
    assert list(codec.Parser(1 << 20).feed(packet)) == [Publish("/ä/topic", b"x" * size, 1, 258)]


@dataclass
class Slow(Peer):
    """A peer that reads nothing for a while, so that the client cannot write.

    may_read: whether it reads on.  kinds: of what came, in order.  holds: whether it waits for that
    after each packet; else after the CONNECT.
    """

    may_read: asyncio.Event = field(default_factory=asyncio.Event)
    kinds: list[object] = field(default_factory=list)
    holds: bool = False

    async def script(self, client: Any) -> None:
        self.client, parser = client, codec.Parser(1 << 20)
        with suppress(ConnectionError):
            while data := await client.reader.read(65536):
                for packet in parser.feed(data):
                    await self._take(packet)

    async def _take(self, packet: Packet) -> None:
        match packet:
            case Publish():
                self.kinds.append(packet.topic)
                await self.client.send(*self._serve(replace(packet, payload=b"{}")))
            case _:
                self.kinds.append(type(packet))
                await self.client.send(*self._serve(packet))
        async with self.came:
            self.seen.append(packet)
            self.came.notify_all()
        if self.holds or isinstance(packet, Connect):
            await self.may_read.wait()


async def test_what_could_not_be_written_at_once_is_whole(serve: Serve, server: At) -> None:
    """Our messages and paho's packets: what was begun ends before the other begins."""
    slow, payload = Slow(), b"x" * 250_000
    async with connected(slow, serve, server) as connection:
        first = [connection.post(f"/a/{n}", payload) for n in range(40)]
        await asyncio.sleep(0.05)
        others = [
            asyncio.create_task(connection.subscribe(["/s"])),
            asyncio.create_task(connection.publish("/q0", payload)),
        ]
        await asyncio.sleep(0.05)
        more = [connection.post(f"/b/{n}", payload) for n in range(10)]
        await asyncio.sleep(0.05)
        assert not any(one.done() for one in (*first, *more))
        slow.may_read.set()
        async with asyncio.timeout(60):
            answers = await asyncio.gather(*first, *more)
            assert await asyncio.gather(*others) == [(1,), None]
    assert answers == [()] * 50
    topics = [kind for kind in slow.kinds if isinstance(kind, str) and kind != "/q0"]
    assert topics == [f"/a/{n}" for n in range(40)] + [f"/b/{n}" for n in range(10)]
    assert {Subscribe, "/q0"} <= set(slow.kinds)


async def test_what_cannot_be_written_does_not_stop_reading(serve: Serve, server: At) -> None:
    """Many acknowledgements come together, and the messages behind them meet a slow path."""
    slow, received = Slow(puback=False), list[bytes]()
    slow.may_read.set()
    async with connected(slow, serve, server, lambda _, payload: received.append(payload)) as one:
        first = [one.post(f"/a/{n}", b"1") for n in range(mqtt.IN_FLIGHT)]
        await slow.until(lambda: len(slow.seen) == 1 + mqtt.IN_FLIGHT)
        slow.may_read.clear()
        slow.holds = True
        more = [one.post(f"/b/{n}", b"x" * 250_000) for n in range(mqtt.IN_FLIGHT)]
        numbers = [one.packet_id for one in slow.seen if isinstance(one, Publish)]
        await slow.client.send(*map(codec.puback, numbers))
        assert await limited(asyncio.gather(*first)) == [()] * mqtt.IN_FLIGHT
        await slow.client.send(codec.publish("/down", b"read"))
        await until(lambda: received == [b"read"])
        assert not any(answer.done() for answer in more)
        slow.drop()
        slow.may_read.set()
        assert await limited(asyncio.gather(*more)) == [None] * mqtt.IN_FLIGHT


async def test_no_two_packets_under_way_have_one_identifier(serve: Serve, server: At) -> None:
    """2.3.1; also where the numbers begin again while an old one is still under way."""
    peer = Peer(puback=False)
    async with connected(peer, serve, server) as connection:
        stuck = connection.post("/stuck", b"1")
        connection._newest_id = 0xFFFE
        later = [connection.post("/later", b"2") for _ in range(3)]
        await limited(connection.subscribe(["/s"]))
        await peer.until(lambda: len(peer.asked) == 4)
        numbers = [one.packet_id for one in peer.seen if isinstance(one, Publish | Subscribe)]
        assert len(set(numbers)) == 5
        assert all(0 < number <= 0xFFFF for number in numbers)
        assert not any(one.done() for one in (stuck, *later))
        for number in numbers[:4]:
            await peer.client.send(codec.puback(number))
        assert await limited(asyncio.gather(stuck, *later)) == [()] * 4


async def test_a_puback_with_reserved_flags_ends_the_connection(serve: Serve, server: At) -> None:
    peer = Peer(puback=False)
    async with connected(peer, serve, server) as connection:
        answer = connection.post("/a", b"1")
        await peer.until(lambda: len(peer.asked) == 1)
        await peer.client.send(b"\x41\x02\x00\x01")
        assert await limited(connection.wait_closed()) is ConnectionEnd.PROTOCOL
        assert await limited(answer) is None


async def test_acknowledgements_may_come_in_pieces(serve: Serve, server: At) -> None:
    peer = Peer(puback=False)
    async with connected(peer, serve, server) as connection:
        answers = [connection.post("/a", b"1") for _ in range(3)]
        await peer.until(lambda: len(peer.asked) == 3)
        sent = b"".join(codec.puback(p.packet_id) for p in peer.seen if isinstance(p, Publish))
        for at in range(len(sent)):
            await peer.client.send(sent[at : at + 1])
        assert await limited(asyncio.gather(*answers)) == [()] * 3


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
