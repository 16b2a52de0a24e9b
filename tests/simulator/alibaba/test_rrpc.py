"""RRPCs, synchronous services, and messages on topics of users; and what goes wrong with commands.

Pages: "What is RRPC?" (help.aliyun.com/document_detail/90567), "Call custom topics" (90570), and
"Device properties, events, and services" (89301).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gatewayd.simulator.alibaba.cloud import AlibabaCloud
from gatewayd.simulator.alibaba.rules import AlibabaRules
from gatewayd.simulator.alibaba.thing import rrpc
from gatewayd.simulator.alibaba.thing.rrpc import Rrpcs
from tests.simulator.alibaba.gateway import (
    CHILD,
    SECOND,
    SENSORS,
    Gateway,
    device,
    gateway,
    going_online,
    site,
)

OWN = f"{SENSORS}/{CHILD}"
TSL: dict[str, Any] = {
    "properties": [{"identifier": "Light", "accessMode": "rw", "dataType": {"type": "bool"}}],
    "services": [{"identifier": "Measure", "callType": "sync"}],
}
FILTERS = [
    f"/sys/{OWN}/thing/service/+",
    f"/sys/{OWN}/thing/service/property/set",
    f"/sys/{OWN}/rrpc/request/+",
    f"/ext/rrpc/+/sys/{OWN}/thing/service/+",
    f"/ext/rrpc/+/{OWN}/user/#",
    f"/{OWN}/user/#",
]


@contextlib.asynccontextmanager
async def stage(**options: str) -> AsyncIterator[tuple[AlibabaCloud, Gateway]]:
    """A gateway with a child online, whose topics it has subscribed to."""
    rules = AlibabaRules(child_logins=0)
    async with site(rules) as cloud, gateway(cloud.port, **options) as gw:
        cloud.set_model(SENSORS, TSL)
        await gw.listen()
        for name, secret in (await gw.adopt(CHILD)).items():
            assert await gw.code("combine.login", going_online(name, secret)) == 200
        assert await gw.subscribe(FILTERS) == [1] * len(FILTERS)
        yield cloud, gw


async def arrives(gw: Gateway, part: str) -> tuple[str, bytes]:
    """The next message whose topic has this part."""
    while True:
        for at, (name, payload) in enumerate(gw.received):
            if part in name:
                del gw.received[at]
                return name, payload
        gw._keep(*await gw._packet())


async def test_an_rrpc_is_answered_by_any_bytes() -> None:
    async with stage() as (cloud, gw):
        call = asyncio.create_task(cloud.rrpc(SENSORS, CHILD, b"\x00hello"))
        topic, payload = await arrives(gw, "/rrpc/request/")
        assert payload == b"\x00hello"
        number = topic.removeprefix(f"/sys/{OWN}/rrpc/request/")
        gw.send(f"/sys/{OWN}/rrpc/response/{number[:-1]}0", b"wrong")
        gw.send(f"/sys/{OWN}/rrpc/response/{number}", b"\xffworld")
        assert await call == b"\xffworld"
        gw.send(f"/sys/{OWN}/rrpc/response/{number}", b"again")
        await gw.served()
        assert device(cloud)["discarded"] == {"late-answer": 2}


@pytest.mark.parametrize(
    ("ext", "where"),
    [("1", f"/ext/rrpc/{rrpc.FIRST}/{OWN}/user/get"), ("3", "/ext/"), ("2", f"/sys/{OWN}/rrpc/")],
)
async def test_a_topic_of_a_user_is_for_those_that_take_them(ext: str, where: str) -> None:
    async with stage(ext=ext) as (cloud, gw):
        call = asyncio.create_task(cloud.rrpc(SENSORS, CHILD, b"hello", "user/get"))
        topic, _ = await arrives(gw, "rrpc/")
        assert topic.startswith(where)
        gw.send(topic.replace("request", "response"), b"world")
        assert await call == b"world"


@pytest.mark.parametrize("ext", [{}, {"ext": "1"}])
async def test_a_synchronous_service(ext: dict[str, str]) -> None:
    async with stage(**ext) as (cloud, gw):
        command = cloud.invoke(SENSORS, CHILD, "Measure", {})
        topic, payload = await arrives(gw, "rrpc/")
        wanted = f"/sys/{OWN}/thing/service/Measure" if ext else f"/sys/{OWN}/rrpc/request/"
        assert wanted in topic
        body = json.loads(payload)
        assert body["method"] == "thing.service.Measure"
        answer = {"id": body["id"], "code": 200, "data": {"value": 1}}
        gw.send(f"/sys/{OWN}/thing/service/Measure_reply", answer)
        await gw.served()
        assert not command.reply.done(), "that is the topic of an asynchronous one"
        gw.send(topic.replace("request", "response"), answer)
        assert await command.reply == {"code": 200, "data": {"value": 1}}


async def test_a_message_on_a_topic_of_a_user() -> None:
    async with stage() as (cloud, gw):
        cloud.publish(SENSORS, CHILD, "user/get", b"\x00any")
        assert await arrives(gw, "/user/get") == (f"/{OWN}/user/get", b"\x00any")
        with pytest.raises(ConnectionError):
            cloud.publish(SENSORS, SECOND, "user/get", b"")


async def test_a_device_that_does_not_answer_or_does_not_listen() -> None:
    async with stage() as (cloud, gw):
        with pytest.raises(TimeoutError):
            await cloud.rrpc(SENSORS, CHILD, b"hello", seconds=0.05)
        topic, _ = await arrives(gw, "/rrpc/request/")
        gw.send(topic.replace("request", "response"), b"late")
        await gw.served()
        assert device(cloud)["discarded"] == {"late-answer": 1}
        await gw.unsubscribe(f"/sys/{OWN}/rrpc/request/+")
        with pytest.raises(ConnectionError):
            await cloud.rrpc(SENSORS, CHILD, b"hello")
        with pytest.raises(KeyError):
            await cloud.rrpc(SENSORS, "unknown-1", b"hello")


@pytest.mark.parametrize(
    ("plan", "sent"),
    [("command-twice", 2), ("command-garbled", 1), ("lose-command", 0), ("lose-command@other", 1)],
)
async def test_faults_of_commands(plan: str, sent: int) -> None:
    async with stage() as (cloud, gw):
        cloud.set_faults(plan)
        cloud.set_properties(SENSORS, CHILD, {"Light": 1})
        received = [body for name, body in await gw.served() if name.endswith("/property/set")]
        assert len(received) == sent
        assert len(set(received)) <= 1
        whole = [body for body in received if body.endswith(b"}")]
        assert len(whole) == (0 if "garbled" in plan else sent)


@pytest.mark.parametrize(
    "topic",
    [
        f"/ext/rrpc/+/{SENSORS}/{SECOND}/user/#",
        f"/ext/rrpc/#/{OWN}/user/get",
        "/ext/rrpc/+/#",
        f"/ext/rrpc/+/sys/{OWN}/rrpc/request/+",
        f"/ext/rrpc/+/{OWN}/other/get",
        f"/ext/rrpc/{OWN}/user/get",
    ],
)
async def test_filters_of_rrpcs_that_are_not_its_own(topic: str) -> None:
    async with stage() as (_, gw):
        assert await gw.subscribe([topic]) == [0x80]


async def test_rrpcs_that_wait_are_bounded() -> None:
    sender = Rrpcs(lambda *_: True, lambda _: False)
    calls = [asyncio.create_task(sender.call(("a", "b"), b"")) for _ in range(rrpc.MAX_WAITING)]
    await asyncio.sleep(0)
    with pytest.raises(OverflowError):
        await sender.call(("a", "b"), b"")
    for number in range(rrpc.MAX_WAITING):
        assert sender.answered(("a", "b"), str(rrpc.FIRST + number), b"%d" % number)
    assert await asyncio.gather(*calls) == [b"%d" % number for number in range(rrpc.MAX_WAITING)]
