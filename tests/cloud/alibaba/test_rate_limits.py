"""The cloud's limits: no second has more than they allow, and the cloud never throttles us."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gatewayd.cloud.alibaba import alink, payloads
from gatewayd.cloud.alibaba.account import connect_limit
from gatewayd.cloud.alibaba.alink import SubName
from gatewayd.cloud.alibaba.connection import AlibabaUplink
from gatewayd.cloud.alibaba.rate_limits import (
    ALL,
    WHILE,
    AlibabaRateLimits,
    ChildLogins,
    weight,
)
from gatewayd.cloud.alibaba.reporting.device_reports import message_ids
from gatewayd.cloud.alibaba.requests import AlibabaRequests
from gatewayd.cloud.mqtt import MqttConnection
from gatewayd.cloud.sub_devices.link import GatewayLink
from gatewayd.network.connect_errors import ConnectionEnd
from gatewayd.simulator.alibaba.devices import AlibabaNodeType, SimulatedAlibabaProduct
from gatewayd.simulator.alibaba.messages import AlibabaMessages
from gatewayd.simulator.alibaba.registry import AlibabaRegistry
from gatewayd.simulator.alibaba.rules import AlibabaRules
from gatewayd.simulator.faults import FaultPlan
from gatewayd.simulator.mqtt import codec
from gatewayd.simulator.mqtt.link import MqttLink
from gatewayd.simulator.mqtt.packets import Publish
from gatewayd.testing.clock import JumpingLoop
from tests.cloud.alibaba.site import GATEWAY, GATEWAYS, OWN, SENSORS, at_cloud, child

BATCH: dict[str, list[object]] = {"deviceList": [{}] * 50}
SECOND = 1.0 - 1e-6  # rounding


class CloudInProcess:
    """The simulated cloud with one gateway, and a connection to it without a network.

    sent: when each message came, and how many logins it holds.
    """

    def __init__(self, children: int) -> None:
        self.loop = asyncio.get_running_loop()
        self.closed: asyncio.Future[ConnectionEnd] = self.loop.create_future()
        self.on_message: Any = None
        self.names = [child(number) for number in range(children)]
        self.sent: list[tuple[float, int]] = []
        nodes = {GATEWAYS: AlibabaNodeType.GATEWAY, SENSORS: AlibabaNodeType.SUB_DEVICE}
        registry = AlibabaRegistry(
            {key: SimulatedAlibabaProduct("secret-of-it", node) for key, node in nodes.items()},
            [GATEWAY, *map(at_cloud, self.names)],
            self.loop.time,
            random.Random(0).randbytes,
        )
        self.gateways = AlibabaMessages(
            registry, FaultPlan(), AlibabaRules(), clock=self.loop.time, now=lambda: 0.0
        )
        link = cast("MqttLink", SimpleNamespace(send=self._reply))
        self.gateways.connect(GATEWAY, link, extended=False, served=False, clean=True)

    async def publish(self, topic: str, payload: bytes, qos: int = 0) -> None:
        logins = payload.count(b'"cleanSession"')
        self.sent.append((self.loop.time(), logins))
        self.gateways.publish(GATEWAY, Publish(topic, payload, qos))

    async def subscribe(self, topics: Sequence[str]) -> tuple[int, ...]:
        return tuple(map(int, self.gateways.subscribe(GATEWAY, topics)))

    def _reply(self, data: bytes) -> None:
        (packet,) = codec.Parser().feed(data)
        assert isinstance(packet, Publish)
        self.loop.call_later(0.02, self.on_message, packet.topic, packet.payload)

    def most(self, *, logins: bool) -> int:
        """Return the most messages, or logins, of any second."""
        found = [(moment, count if logins else 1) for moment, count in self.sent]
        return max(
            sum(count for moment, count in found if start <= moment < start + SECOND)
            for start, _ in found
        )

    def refused(self) -> set[int]:
        """Return the codes of the replies that were refusals."""
        calls = cast("dict[str, dict[str, int]]", self.gateways.truth(GATEWAY)["calls"])
        return {int(code) for codes in calls.values() for code in codes} - {200}


@pytest.mark.parametrize("late", [0.0, 0.5, 1.5])
@pytest.mark.jumping_clock
async def test_the_cloud_never_throttles_a_late_gateway(late: float) -> None:
    """The cloud takes 200 logins and 30 messages in a second; beyond, children wait for 60 s."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, JumpingLoop)
    cloud, link = CloudInProcess(700), GatewayLink[AlibabaUplink]()
    limits = AlibabaRateLimits(loop.time)
    uplink = AlibabaUplink(OWN, cast("MqttConnection", cloud), 30.0, limits, message_ids(bytes))
    await uplink.subscribe_all()
    link.put(uplink)
    requests = AlibabaRequests(link, loop.time)
    for number in range(12):
        loop.call_at(number * 0.9, loop.stall, late)

    async def log_in(number: int) -> None:
        name = cloud.names[number]
        secret = await requests.register.submit(payloads.sub_name(name))
        login = payloads.ChildLogin(f"client-{number}", "hmacsha256", "1700000000000")
        await requests.attach.submit(payloads.to_attach(name, secret, login))
        await requests.log_in.submit(payloads.to_log_in(name, secret, login))

    async with asyncio.TaskGroup() as group:
        for number in range(len(cloud.names)):
            group.create_task(log_in(number))
    await requests.close()
    truth = cloud.gateways.truth(GATEWAY)
    assert len(cast("list[Any]", truth["online"])) == len(cloud.names)
    assert cloud.refused() == set()
    assert cloud.most(logins=True) <= AlibabaRules().logins
    assert cloud.most(logins=False) <= ALL


async def _waits(limits: AlibabaRateLimits, method: str, params: object) -> list[float]:
    """Return when each of many requests of a method that come at once may leave."""
    loop, moments = asyncio.get_running_loop(), list[float]()

    async def ask() -> None:
        await limits.of(method).acquire(weight(method, params))
        moments.append(loop.time())

    await asyncio.gather(*(ask() for _ in range(50)))
    return moments


@pytest.mark.parametrize(
    ("method", "params", "rate"),
    [
        (alink.BATCH_LOGIN, BATCH, 3),  # of 50 each
        (alink.LOGIN, {}, ALL),  # 150, if they were not messages, too
        (alink.BATCH_LOGIN, {"deviceList": []}, ALL),
        (alink.TOPO_ADD, [{}] * 30, 10),
        (alink.SUB_REGISTER, [{}], 10),
    ],
)
@pytest.mark.jumping_clock
async def test_requests_of_a_method_are_spread_evenly(
    method: str, params: object, rate: int
) -> None:
    moments = await _waits(AlibabaRateLimits(asyncio.get_running_loop().time), method, params)
    assert moments == pytest.approx([number / rate for number in range(50)], abs=0.2)


@pytest.mark.jumping_clock
async def test_a_login_and_a_batch_of_them_count_together() -> None:
    loop = asyncio.get_running_loop()
    limits = AlibabaRateLimits(loop.time)
    await limits.of(alink.BATCH_LOGIN).acquire(weight(alink.BATCH_LOGIN, BATCH))
    await limits.of(alink.TOPO_GET).acquire()
    assert loop.time() == pytest.approx(1 / ALL)
    await limits.of(alink.LOGIN).acquire()
    assert loop.time() == pytest.approx(1 / 3)


@pytest.mark.jumping_clock
async def test_a_new_session_is_within_the_limits_of_the_one_before() -> None:
    """The cloud counts what a gateway sends, however often it has logged in meanwhile."""
    loop = asyncio.get_running_loop()
    cloud = CloudInProcess(0)
    limits = AlibabaRateLimits(loop.time)
    for _ in range(3):
        uplink = AlibabaUplink(OWN, cast("MqttConnection", cloud), 30.0, limits, message_ids(bytes))
        for _ in range(20):
            await uplink.ask(alink.TOPO_GET, {})
    assert cloud.most(logins=False) <= 10


@pytest.mark.parametrize("late", [0.0, 0.5, 1.5])
@pytest.mark.jumping_clock
async def test_all_devices_of_an_account_connect_as_often_as_the_cloud_lets_them(
    late: float,
) -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, JumpingLoop)
    limiter, moments = connect_limit(loop.time), list[float]()
    for number in range(10):
        loop.call_at(number * 0.3, loop.stall, late)

    async def connect() -> None:
        await limiter.acquire()
        moments.append(loop.time())

    await asyncio.gather(*(connect() for _ in range(1500)))
    for start in moments:
        assert sum(start <= one < start + SECOND for one in moments) <= AlibabaRules().connects


def test_a_child_logs_in_as_often_as_the_cloud_lets_it() -> None:
    now = 0.0
    logins = ChildLogins(lambda: now)
    one, other = SubName("a1Sensors22", "SEN-0000"), SubName("a1Sensors22", "SEN-0001")
    assert [logins.take(one) for _ in range(7)] == [True] * 5 + [False] * 2
    assert logins.take(other)
    now = WHILE - 0.1
    assert not logins.take(one)
    now = WHILE
    assert logins.take(one)


def test_children_that_log_in_no_more_are_forgotten() -> None:
    now = 0.0
    logins = ChildLogins(lambda: now)
    for number in range(1000):
        now += 1.0
        logins.take(SubName("a1Sensors22", f"SEN-{number:04}"))
    assert len(logins._children) <= WHILE + 1
