"""The gateway's link: each request has its reply or an error; downlinks are handled."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from gatewayd.cloud.alibaba import alink, payloads
from gatewayd.cloud.alibaba import connection as uplink
from gatewayd.cloud.alibaba.alink import (
    AddRequested,
    AlinkReply,
    Downlink,
    ForcedOff,
    PermitJoin,
    SubDeviceOrder,
    SubName,
    TopologyChange,
    TopologyChanged,
)
from gatewayd.cloud.alibaba.commanding import subscriptions
from gatewayd.cloud.alibaba.connection import AlibabaUplink
from gatewayd.cloud.alibaba.rate_limits import AlibabaRateLimits
from gatewayd.cloud.alibaba.reporting.device_reports import message_ids
from gatewayd.cloud.sub_devices import pending_requests
from gatewayd.cloud.sub_devices.link import GatewayLink, LinkDown, NoAnswer
from gatewayd.network.connect_errors import ConnectionEnd
from gatewayd.network.tls import Server
from gatewayd.simulator.mqtt.packets import Publish, Unsubscribe
from tests.cloud.alibaba.peer import OWN, E, G, replying
from tests.cloud.peer import Peer, connected
from tests.cloud.stand_ins import Steps

Serve = Callable[..., AbstractAsyncContextManager[Any]]
At = Callable[..., Server]

IDS = message_ids(bytes)
ONE, TWO = SubName("a1Child", "child-01"), SubName("a1Child", "child-02")
PARAMS = [{"productKey": "a1Child", "deviceName": "child-01"}]


@contextlib.asynccontextmanager
async def linked(
    peer: Peer, serve: Serve, server: At, seconds: float = 30
) -> AsyncIterator[AlibabaUplink]:
    async with connected(peer, serve, server) as connection:
        link = AlibabaUplink(OWN, connection, seconds, AlibabaRateLimits(Steps().now), IDS)
        async with asyncio.timeout(60):
            yield link


async def test_a_question_and_its_reply(serve: Serve, server: At) -> None:
    peer = Peer(replies=replying(200, [1, 2]))
    async with linked(peer, serve, server) as link:
        assert await link.ask(alink.SUB_REGISTER, PARAMS) == AlinkReply(200, [1, 2])
        assert await link.ask(alink.LOGIN, PARAMS[0]) == AlinkReply(200, [1, 2])
    register, login = peer.asked
    message = {"version": "1.0", "params": PARAMS, "method": "thing.sub.register", "id": "1"}
    assert register == (f"{G}/thing/sub/register", message)
    assert login == (f"{E}/combine/login", {"version": "1.0", "params": PARAMS[0], "id": "2"})
    assert [packet.qos for packet in peer.seen if isinstance(packet, Publish)] == [0, 0]


async def test_replies_find_their_questions_in_any_order(serve: Serve, server: At) -> None:
    peer = Peer()
    async with linked(peer, serve, server) as link:
        asking = [asyncio.create_task(link.ask(alink.TOPO_GET, {})) for _ in range(20)]
        await peer.until(lambda: len(peer.asked) == 20)
        for topic, message in reversed(peer.asked):
            number = int(message["id"])
            reply = {"id": number if number % 2 else str(number), "code": str(200 + number)}
            await peer.say(f"{topic}_reply", reply)
        replies = await asyncio.gather(*asking)
    numbers = [int(message["id"]) for _, message in peer.asked]
    assert len(set(numbers)) == 20
    assert sorted(reply.code - 200 for reply in replies) == sorted(numbers)


async def test_late_and_double_replies_are_dropped(serve: Serve, server: At) -> None:
    def twice(topic: str, message: dict[str, Any]) -> list[tuple[str, bytes]]:
        return replying(200)(topic, message) * 2

    peer = Peer(replies=twice)
    async with linked(peer, serve, server) as link:
        assert (await link.ask(alink.TOPO_GET, {})).code == 200
        await peer.say(f"{G}/thing/topo/get_reply", {"id": "77", "code": 200})
        peer.replies = replying(500)
        assert (await link.ask(alink.TOPO_GET, {})).code == 500
        assert link.dropped == {"late": 2}


async def test_a_reply_on_another_topic_is_none(serve: Serve, server: At) -> None:
    def wrong(topic: str, message: dict[str, Any]) -> list[tuple[str, bytes]]:
        elsewhere = replying(521)(f"{G}/thing/topo/delete", message)
        return elsewhere + replying(200)(topic, message)

    async with linked(Peer(replies=wrong), serve, server) as link:
        assert (await link.ask(alink.TOPO_GET, {})).code == 200
        assert link.dropped == {"late": 1}


async def test_no_reply(serve: Serve, server: At) -> None:
    peer = Peer()
    async with linked(peer, serve, server, seconds=0.2) as link:
        with pytest.raises(NoAnswer):
            await link.ask(alink.TOPO_GET, {})
        topic, message = peer.asked[0]
        await peer.say(f"{topic}_reply", {"id": message["id"], "code": 200})
        peer.replies = replying(200)
        assert (await link.ask(alink.TOPO_GET, {})).code == 200
        assert link.dropped == {"late": 1}


async def test_the_session_ends_before_the_reply(serve: Serve, server: At) -> None:
    peer = Peer()
    async with linked(peer, serve, server) as link:
        asking = [asyncio.create_task(link.ask(alink.TOPO_GET, {})) for _ in range(300)]
        await peer.until(lambda: len(peer.asked) == pending_requests.OUTSTANDING)
        peer.drop()
        ended = await asyncio.gather(*asking, return_exceptions=True)
        assert {type(one) for one in ended} == {LinkDown}
        with pytest.raises(LinkDown):
            await link.ask(alink.TOPO_GET, {})
        assert link.closed.result() in {ConnectionEnd.CLOUD, ConnectionEnd.LOST}


async def test_a_question_that_is_given_up(serve: Serve, server: At) -> None:
    peer = Peer()
    async with linked(peer, serve, server) as link:
        asking = asyncio.create_task(link.ask(alink.TOPO_GET, {}))
        await peer.until(lambda: len(peer.asked) == 1)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        peer.replies = replying(200)
        assert (await link.ask(alink.TOPO_GET, {})).code == 200


async def test_an_id_is_given_once_among_those_under_way(serve: Serve, server: At) -> None:
    peer = Peer()
    async with linked(peer, serve, server) as link:
        link._newest = 0xFFFFFFFE
        asking = [asyncio.create_task(link.ask(alink.TOPO_GET, {})) for _ in range(3)]
        await peer.until(lambda: len(peer.asked) == 3)
        link._newest = 0xFFFFFFFE
        asking.append(asyncio.create_task(link.ask(alink.TOPO_GET, {})))
        await peer.until(lambda: len(peer.asked) == 4)
        numbers = [message["id"] for _, message in peer.asked]
        assert numbers == ["4294967295", "1", "2", "3"]
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)


async def test_it_subscribes_to_each_topic_of_a_gateway(serve: Serve, server: At) -> None:
    peer = Peer(granted=lambda topic: 0x80 if topic.endswith("found_reply") else 1)
    async with linked(peer, serve, server) as link:
        await link.subscribe_all()
        assert link.refused == {f"{G}/thing/list/found_reply"}
    assert all(len(topics) <= 8 for topics in peer.subscribed)
    wanted = sum(peer.subscribed, ())
    reports = [f"{G}/thing/event/property/{one}/post_reply" for one in ("pack", "history")]
    own = payloads.command_topics(SubName(OWN.product, OWN.device))
    assert sorted(wanted) == sorted([*alink.gateway_topics(OWN), *reports, *own])
    assert len(peer.subscribed) == 3
    watched, commanded = 2 * uplink.WATCHED, len(own) * subscriptions.COMMANDED
    assert len(wanted) + watched + commanded <= 100


async def test_no_subscription_is_answered(serve: Serve, server: At) -> None:
    async with linked(Peer(granted=lambda _: None), serve, server, seconds=0.2) as link:
        with pytest.raises(NoAnswer):
            await link.subscribe_all()


async def test_it_watches_as_many_children_as_there_is_room_for(serve: Serve, server: At) -> None:
    peer = Peer()
    many = [SubName("a1Child", f"child-{n:03}") for n in range(uplink.WATCHED + 3)]
    async with linked(peer, serve, server) as link:
        await link.watch(many[:2])
        await link.watch(many)
        await link.unwatch(many[0])
        await link.unwatch(many[0])
        await link.unwatch(many[-1])
        await link.watch(many[-1:])
    assert all(len(topics) <= 8 for topics in peer.subscribed)
    wanted = sum(peer.subscribed, ())
    assert len(wanted) == len(set(wanted)) == 2 * uplink.WATCHED + 2
    assert wanted[-2:] == alink.child_topics(many[-1])
    left = [packet.filters for packet in peer.seen if isinstance(packet, Unsubscribe)]
    assert left == [alink.child_topics(many[0])]


ASKED: list[tuple[str, dict[str, Any], Downlink]] = [
    (f"{G}/thing/topo/add/notify", {"params": PARAMS}, AddRequested((ONE,))),
    (
        f"{G}/thing/topo/change",
        {"params": {"status": 8, "subList": PARAMS}},
        TopologyChanged(TopologyChange.DISABLED, (ONE,)),
    ),
    (f"{G}/thing/gateway/permit", {"params": {"time": 60}}, PermitJoin(60, "")),
    ("/sys/a1Child/child-01/thing/delete", {"params": {}}, SubDeviceOrder(alink.DELETE, ONE)),
]


@pytest.mark.parametrize(("topic", "message", "downlink"), ASKED)
async def test_what_the_cloud_asks_is_heard_and_answered(
    serve: Serve, server: At, topic: str, message: dict[str, Any], downlink: Downlink
) -> None:
    peer, received = Peer(), list[Downlink]()
    async with linked(peer, serve, server) as link:
        link.on_request = received.append
        await peer.say(topic, {"id": "9", "version": "1.0"} | message)
        await peer.until(lambda: len(peer.asked) == 1)
    assert received == [downlink]
    assert peer.asked == [(f"{topic}_reply", {"id": "9", "code": 200, "data": {}})]


async def test_a_child_forced_off_is_heard_and_not_answered(serve: Serve, server: At) -> None:
    peer, received = Peer(replies=replying(200)), list[Downlink]()
    async with linked(peer, serve, server) as link:
        link.on_request = received.append
        await peer.say(f"/ext/error/{OWN.product}/{OWN.device}", {"id": "9", "code": 520})
        await link.ask(alink.TOPO_GET, {})
    assert received == [ForcedOff(520, None)]
    assert len(peer.asked) == 1


async def test_what_comes_before_somebody_listens_is_kept(serve: Serve, server: At) -> None:
    peer = Peer(replies=lambda *_: [])
    async with linked(peer, serve, server) as link:
        for seconds in range(uplink.EARLY + 2):
            permit = {"id": "9", "params": {"time": seconds + 1}}
            await peer.say(f"{G}/thing/gateway/permit", permit)
        peer.replies = replying(200)
        await link.ask(alink.TOPO_GET, {})
        received = list[Downlink]()
        link.on_request = received.append
        assert received == [PermitJoin(seconds + 3, "") for seconds in range(uplink.EARLY)]


async def test_unusable_messages_are_counted(serve: Serve, server: At) -> None:
    peer = Peer()
    async with linked(peer, serve, server) as link:
        await peer.say(f"{G}/thing/topo/get_reply", b"\xff")
        await peer.say(f"{G}/thing/topo/get_reply", {"id": "1"})
        await peer.say(f"{G}/thing/topo/change", b"[]")
        await peer.say(f"{G}/thing/gateway/permit", {"id": "1", "params": {"time": -1}})
        await peer.say("/sys/a1Child/child-01/thing/gateway/permit", {"id": "1"})
        await peer.say(f"{G}/thing/service/x", {"id": "1"})
        peer.replies = replying(200)
        await link.ask(alink.TOPO_GET, {})
        assert link.dropped == {"malformed": 4, "unexpected": 2}


async def test_a_flood_is_not_answered_without_end(serve: Serve, server: At) -> None:
    peer = Peer(replies=replying(200))
    async with linked(peer, serve, server) as link:
        link.on_request = lambda _: None
        for _ in range(3 * uplink.ANSWERS):
            link._handle_message(
                f"{G}/thing/topo/change", json.dumps({"id": "9", "params": {}}).encode()
            )
        assert link.dropped == {"flood": 2 * uplink.ANSWERS}
        await peer.until(lambda: len(peer.asked) == uplink.ANSWERS)


async def test_whoever_waits_for_the_link_gets_it(serve: Serve, server: At) -> None:
    holder = GatewayLink[AlibabaUplink]()
    assert await holder.wait(0) is None
    waiting = asyncio.create_task(holder.wait(30))
    peer = Peer()
    async with linked(peer, serve, server) as link:
        await asyncio.sleep(0)
        holder.put(link)
        assert await waiting is link is holder.current
        assert await holder.wait(0) is link
        peer.drop()
        await asyncio.wait({link.closed})
        await asyncio.sleep(0)
        assert holder.current is None
        assert await holder.wait(0) is None


async def test_an_older_session_does_not_handle_message_the_newer_away(
    serve: Serve, server: At
) -> None:
    holder, first, second = GatewayLink[AlibabaUplink](), Peer(), Peer()
    async with linked(first, serve, server) as old, linked(second, serve, server) as new:
        holder.put(old)
        holder.put(new)
        first.drop()
        await asyncio.wait({old.closed})
        await asyncio.sleep(0)
        assert holder.current is new
