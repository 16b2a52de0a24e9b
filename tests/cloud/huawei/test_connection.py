"""The gateway's uplink: each request has its response or an error, notices arrive, limits hold."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from gatewayd.cloud.huawei import messages
from gatewayd.cloud.huawei.commanding import commands
from gatewayd.cloud.huawei.connection import HuaweiRateLimits, HuaweiUplink, weight
from gatewayd.cloud.huawei.messages import (
    NodeName,
    Notice,
    Response,
    SubDeviceEvent,
    SubDeviceInfo,
    SubDeviceStatus,
)
from gatewayd.cloud.huawei.reporting.publishers import MESSAGES
from gatewayd.cloud.sub_devices.link import LinkDown, NoAnswer
from gatewayd.network.connect_errors import ConnectionEnd
from gatewayd.network.tls import Server
from gatewayd.runtime.clock import Clock
from gatewayd.simulator.mqtt.packets import Publish
from gatewayd.testing.clock import JumpingLoop
from tests.cloud.peer import Peer, connected
from tests.cloud.stand_ins import Steps

Serve = Callable[..., AbstractAsyncContextManager[Any]]
At = Callable[..., Server]

OWN = "gateways_gw-1"
UP, DOWN = messages.up_topic(OWN), messages.down_topic(OWN)
ADD = messages.to_add([NodeName("p", "n")])


@contextlib.asynccontextmanager
async def linked(
    peer: Peer, serve: Serve, server: At, seconds: float = 30
) -> AsyncIterator[HuaweiUplink]:
    time = Clock(Steps().now, lambda: 1_700_000_000_000_000)
    async with connected(peer, serve, server) as connection:
        limits = HuaweiRateLimits(100, time.now)
        link = HuaweiUplink(OWN, connection, seconds, limits, time, os.urandom)
        async with asyncio.timeout(60):
            yield link


def event(kind: str, paras: object, event_id: str | None = None) -> dict[str, object]:
    reply = {"service_id": "$sub_device_manager", "event_type": kind, "paras": paras}
    return {"services": [reply | ({"event_id": event_id} if event_id else {})]}


def answering(times: int = 1) -> Callable[..., list[tuple[str, bytes]]]:
    """Say of each child that is to be added that it is."""

    def reply(_: str, message: dict[str, Any]) -> list[tuple[str, bytes]]:
        (asked,) = message["services"]
        paras = {"successful_devices": [{"device_id": "p_n"}], "failed_devices": []}
        reply = event("add_sub_device_response", paras, asked["event_id"])
        return [(DOWN, json.dumps(reply).encode())] * times

    return reply


def expected(event_id: str) -> Response:
    return Response(SubDeviceEvent.ADD, event_id, (SubDeviceInfo("p_n"),), ())


async def test_a_question_and_its_answer(serve: Serve, server: At) -> None:
    peer = Peer(replies=answering())
    async with linked(peer, serve, server) as link:
        await link.subscribe()
        response = await link.ask(SubDeviceEvent.ADD, ADD, 1)
    assert peer.subscribed == [(DOWN, *commands.topics(OWN))]
    ((topic, message),) = peer.asked
    assert topic == UP
    (asked,) = message["services"]
    assert (asked["event_type"], asked["event_time"]) == (SubDeviceEvent.ADD, "20231114T221320Z")
    assert uuid.UUID(asked["event_id"]).version == 4
    assert response == expected(asked["event_id"])


async def test_answers_find_their_questions_in_any_order(serve: Serve, server: At) -> None:
    peer = Peer()
    async with linked(peer, serve, server) as link:
        asking = [asyncio.create_task(link.ask(SubDeviceEvent.ADD, ADD, 1)) for _ in range(20)]
        await peer.until(lambda: len(peer.asked) == 20)
        ids = [message["services"][0]["event_id"] for _, message in peer.asked]
        for event_id in reversed(ids):
            paras = {"successful_devices": [{"device_id": "p_n"}]}
            await peer.say(DOWN, event("add_sub_device_response", paras, event_id))
        responses = await asyncio.gather(*asking)
    assert sorted(one.event_id for one in responses) == sorted(ids)
    assert len(set(ids)) == 20


async def test_an_answer_that_comes_twice_counts_once(serve: Serve, server: At) -> None:
    peer = Peer(replies=answering(2))
    async with linked(peer, serve, server) as link:
        for _ in range(2):
            await link.ask(SubDeviceEvent.ADD, ADD, 1)
        assert link.dropped["late"] >= 1


async def test_the_answer_to_another_question_is_none(serve: Serve, server: At) -> None:
    def reply(topic: str, message: dict[str, Any]) -> list[tuple[str, bytes]]:
        event_id = message["services"][0]["event_id"]
        wrong = event("delete_sub_device_response", {"successful_devices": []}, event_id)
        return [(DOWN, json.dumps(wrong).encode()), *answering()(topic, message)]

    async with linked(Peer(replies=reply), serve, server) as link:
        assert (await link.ask(SubDeviceEvent.ADD, ADD, 1)).done == (SubDeviceInfo("p_n"),)
        assert link.dropped == {"late": 1}


@pytest.mark.parametrize("kind", ["sub_device_update_status_response", "sub_device_update_status"])
async def test_a_status_report_is_answered_under_two_names(
    serve: Serve, server: At, kind: str
) -> None:
    def reply(_: str, message: dict[str, Any]) -> list[tuple[str, bytes]]:
        paras = {"successful_devices": [{"device_id": "d", "status": "ONLINE"}]}
        reply = event(kind, paras, message["services"][0]["event_id"])
        return [(DOWN, json.dumps(reply).encode())]

    async with linked(Peer(replies=reply), serve, server) as link:
        response = await link.ask(
            SubDeviceEvent.STATUS, messages.to_report(["d"], SubDeviceStatus.ONLINE), 1
        )
        assert response.done == (SubDeviceInfo("d", status=SubDeviceStatus.ONLINE),)


async def test_no_answer(serve: Serve, server: At) -> None:
    peer = Peer()
    async with linked(peer, serve, server, seconds=0.2) as link:
        with pytest.raises(NoAnswer):
            await link.ask(SubDeviceEvent.ADD, ADD, 1)


async def test_the_end_of_a_session_fails_every_request(serve: Serve, server: At) -> None:
    peer = Peer()
    async with linked(peer, serve, server) as link:
        asking = [asyncio.create_task(link.ask(SubDeviceEvent.ADD, ADD, 1)) for _ in range(5)]
        await peer.until(lambda: len(peer.asked) == 5)
        peer.drop()
        ended = await asyncio.gather(*asking, return_exceptions=True)
        assert {type(one) for one in ended} == {LinkDown}
        with pytest.raises(LinkDown):
            await link.sync(0)
        assert link.closed.result() in {ConnectionEnd.CLOUD, ConnectionEnd.LOST}


async def test_a_refused_subscription_is_no_error(serve: Serve, server: At) -> None:
    peer = Peer(granted=lambda _: 0x80, replies=answering())
    async with linked(peer, serve, server) as link:
        await link.subscribe()
        await link.ask(SubDeviceEvent.ADD, ADD, 1)


async def test_an_unanswered_subscription_is_one(serve: Serve, server: At) -> None:
    async with linked(Peer(granted=lambda _: None), serve, server, seconds=0.2) as link:
        with pytest.raises(NoAnswer):
            await link.subscribe()


async def test_what_the_platform_has_is_asked_with_a_receipt(serve: Serve, server: At) -> None:
    peer = Peer(replies=lambda *_: [])
    async with linked(peer, serve, server) as link:
        await link.sync(7)
        await link.sync(0)
    assert [message["services"][0]["paras"] for _, message in peer.asked] == [{"version": 7}, {}]
    assert [packet.qos for packet in peer.seen if isinstance(packet, Publish)] == [1, 1]


async def test_a_receipt_that_does_not_come(serve: Serve, server: At) -> None:
    peer = Peer(replies=lambda *_: [], puback=False)
    async with linked(peer, serve, server, seconds=0.2) as link:
        with pytest.raises(NoAnswer):
            await link.sync(0)


async def test_notices_are_passed_on_and_other_messages_counted(serve: Serve, server: At) -> None:
    peer = Peer()
    notices = asyncio.Queue[Notice]()
    async with linked(peer, serve, server) as link:
        await peer.until(lambda: peer.client is not None)
        paras = {"devices": [{"device_id": "d"}], "version": 3}
        await peer.say(DOWN, event("add_sub_device_notify", paras))  # there is no listener yet
        await peer.say(DOWN, b"no JSON")
        await peer.say(messages.down_topic("another"), event("add_sub_device_notify", paras))
        link.on_notice = notices.put_nowait
        while link.dropped != {"malformed": 1, "unexpected": 1}:
            await asyncio.sleep(0.01)
        while not notices.empty():
            notices.get_nowait()
        await peer.say(DOWN, event("delete_sub_device_notify", paras))
        assert await notices.get() == Notice(False, (SubDeviceInfo("d"),), 3)


async def _moments(limits: HuaweiRateLimits, event: SubDeviceEvent, children: int) -> list[float]:
    """Return when each of many messages of an event that come at once may leave."""
    loop, moments = asyncio.get_running_loop(), list[float]()

    async def send() -> None:
        await limits.of(event).acquire(weight(event, children))
        limits.messages.arrived()
        moments.append(loop.time())

    await asyncio.gather(*(send() for _ in range(50)))
    return moments


@pytest.mark.parametrize(
    ("event", "children", "rate"),
    [
        (SubDeviceEvent.STATUS, 1, MESSAGES),  # 60, if they were not messages, too
        (SubDeviceEvent.STATUS, 30, 2),
        (SubDeviceEvent.ADD, 50, 5),
        (SubDeviceEvent.SYNC, 1, 1),
    ],
)
@pytest.mark.jumping_clock
async def test_each_event_is_spread_evenly(event: SubDeviceEvent, children: int, rate: int) -> None:
    moments = await _moments(HuaweiRateLimits(60, asyncio.get_running_loop().time), event, children)
    assert moments == pytest.approx([number / rate for number in range(50)], abs=0.1)


@pytest.mark.jumping_clock
async def test_all_events_together_are_messages_of_one_device() -> None:
    loop = asyncio.get_running_loop()
    limits, moments = HuaweiRateLimits(60, loop.time), list[float]()
    for event in SubDeviceEvent:
        await limits.of(event).acquire(weight(event, 1))
        moments.append(loop.time())
    assert moments == pytest.approx([number / MESSAGES for number in range(len(moments))])


@pytest.mark.parametrize("late", [0.5, 1.5])
@pytest.mark.jumping_clock
async def test_a_late_loop_reports_no_more_children_than_the_platform_accepts(late: float) -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, JumpingLoop)
    limits, sent = HuaweiRateLimits(60, loop.time), list[tuple[float, int]]()
    for number in range(10):
        loop.call_at(0.9 * number, loop.stall, late)

    async def report(children: int) -> None:
        await limits.of(SubDeviceEvent.STATUS).acquire(weight(SubDeviceEvent.STATUS, children))
        limits.messages.arrived()
        sent.append((loop.time(), children))

    await asyncio.gather(*(report(30) for _ in range(20)))
    for start, _ in sent:
        window = [children for at, children in sent if start <= at < start + 1 - 1e-6]
        assert sum(window) <= 60


async def test_a_request_counts_until_it_has_arrived(serve: Serve, server: At) -> None:
    """At QoS 1, whose acknowledgement says so; or until the session has ended."""
    peer = Peer(replies=answering(), puback=False)
    async with linked(peer, serve, server) as link:
        asking = asyncio.create_task(link.ask(SubDeviceEvent.ADD, ADD, 1))
        await peer.until(lambda: len(peer.asked) == 1)
        assert link._limits.messages._messages._under_way == 1
        peer.drop()
        with pytest.raises(LinkDown):
            await asking
        assert link._limits.messages._messages._under_way == 0
        with pytest.raises(LinkDown):
            await link.ask(SubDeviceEvent.DELETE, ADD, 1)
        assert link._limits.messages._messages._under_way == 0
    (packet,) = (one for one in peer.seen if isinstance(one, Publish))
    assert packet.qos == 1
