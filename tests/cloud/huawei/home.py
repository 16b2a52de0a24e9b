"""A gateway's children over a scripted link."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

from gatewayd.cloud.huawei import sub_device
from gatewayd.cloud.huawei.connection import HuaweiUplink
from gatewayd.cloud.huawei.messages import (
    NodeName,
    Notice,
    Response,
    SubDeviceEvent,
    SubDeviceFailure,
    SubDeviceInfo,
    SubDeviceStatus,
)
from gatewayd.cloud.huawei.settings import HuaweiGateway, HuaweiSettings
from gatewayd.cloud.huawei.sub_device import HuaweiSubDeviceRoute, HuaweiSubDevices
from gatewayd.cloud.provider import Issued, Session
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret
from gatewayd.network.connect_errors import ConnectionEnd
from gatewayd.runtime.clock import Clock
from gatewayd.testing.contracts.cloud import RecordingKeeper
from tests.cloud.stand_ins import ManualClock, Wishes

PRODUCT, GATEWAY = "sensors", "gateways_gw-1"
CHILDREN = [CloudName("cloud", PRODUCT, f"n-{number:03}", "sub-device") for number in range(120)]
ONE = CHILDREN[0]

Answer = Callable[[Sequence[Any]], Awaitable[Response] | Response]


def device_id(name: CloudName) -> str:
    return f"{name.product}_{name.device}"


def info(
    name: CloudName, status: SubDeviceStatus = SubDeviceStatus.INACTIVE, **others: Any
) -> SubDeviceInfo:
    """The platform's report of a child."""
    facts = {"parent": GATEWAY} | others
    return SubDeviceInfo(device_id(name), name.device, name.product, status=status, **facts)


def added(*children: SubDeviceInfo, version: int = 0) -> Notice:
    return Notice(True, children, version)


def deleted(*children: CloudName, version: int = 0) -> Notice:
    return Notice(False, tuple(SubDeviceInfo(device_id(child)) for child in children), version)


def done(event: SubDeviceEvent, items: Sequence[Any]) -> Response:
    """Do all that is asked."""
    if event is SubDeviceEvent.ADD:
        found = [
            SubDeviceInfo(
                f"{one['product_id']}_{one['node_id']}", one["node_id"], one["product_id"]
            )
            for one in items
        ]
    else:
        found = [SubDeviceInfo(one if isinstance(one, str) else one["device_id"]) for one in items]
    return Response(event, "", tuple(found), ())


def failing(event: SubDeviceEvent, code: str, *which: CloudName) -> Answer:
    """Deny some children, or all where none is named; do the rest."""

    def answer(items: Sequence[Any]) -> Response:
        whole = done(event, items)
        bad = [one for one in whole.done if not which or one.device_id in map(device_id, which)]
        good = tuple(one for one in whole.done if one not in bad)
        by_name = event is SubDeviceEvent.ADD
        failures = [
            SubDeviceFailure(
                code, "" if by_name else one.device_id, one.name if by_name else NodeName("", "")
            )
            for one in bad
        ]
        return Response(event, "", good, tuple(failures))

    return answer


@dataclass
class FakeUplink:
    """Answers by a table; all else is done.

    asked: each event, with the items of its paras.  synced: the versions of sync requests.
    on_sync: the notices that answer the request for all children.
    """

    answers: dict[SubDeviceEvent, Answer] = field(default_factory=dict)
    on_sync: Sequence[Notice] = ()
    own: str = GATEWAY
    asked: list[tuple[SubDeviceEvent, Sequence[Any]]] = field(default_factory=list)
    synced: list[int] = field(default_factory=list)
    on_notice: Callable[[Notice], None] = lambda _: None
    closed: asyncio.Future[ConnectionEnd] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )

    async def ask(self, event: SubDeviceEvent, paras: Mapping[str, Any], children: int) -> Response:
        (items,) = paras.values()
        assert len(items) == children
        self.asked.append((event, items))
        if (answer := self.answers.get(event)) is None:
            return done(event, items)
        answered = answer(items)
        return answered if isinstance(answered, Response) else await answered

    async def sync(self, version: int) -> None:
        self.synced.append(version)
        for notice in self.on_sync:
            self.on_notice(notice)

    def count(self) -> Counter[SubDeviceEvent]:
        return Counter(event for event, _ in self.asked)

    @property
    def reported(self) -> list[tuple[str, SubDeviceStatus]]:
        """The states of children, as they were reported."""
        return [
            (one["device_id"], one["status"])
            for event, items in self.asked
            if event is SubDeviceEvent.STATUS
            for one in items
        ]


@dataclass
class Home:
    """A route, and the link under it."""

    children: HuaweiSubDevices
    route: HuaweiSubDeviceRoute
    wishes: Wishes
    clock: ManualClock
    uplink: FakeUplink

    def put(self, uplink: FakeUplink) -> None:
        """Let the gateway log in."""
        self.uplink = uplink
        self.children.serve_over(cast("HuaweiUplink", uplink))

    async def leave(self) -> None:
        """Let the gateway take leave of its children, as it does before it closes its session."""
        await self.children.leave(cast("HuaweiUplink", self.uplink))

    async def secret(self, name: CloudName) -> Secret:
        """Register a child; return what was kept."""
        kept = RecordingKeeper()
        assert await self.route.register(name, kept.keep) == Issued()
        return kept.secrets[0]

    async def online(self, name: CloudName) -> Session:
        """Bring a child online that was registered before."""
        return await self.route.connect(name, sub_device.encode(device_id(name)))


@asynccontextmanager
async def home(
    limit: int = 1000,
    on_sync: Sequence[Notice] = (),
    products: tuple[str, ...] = (PRODUCT,),
    patience: float = 20.0,
    **answers: Answer,
) -> AsyncIterator[Home]:
    own = HuaweiGateway("gateways", "gw-1", children=limit, status_per_second=10_000)
    settings = HuaweiSettings(
        host="iot.example.com", products=products, gateway=own, reply_timeout=patience
    )
    clock, wishes = ManualClock(), Wishes()
    time = Clock(clock.now, lambda: 1_700_000_000_000_000)
    children = HuaweiSubDevices("cloud", settings, own, time, os.urandom)
    children.set_requests(wishes)
    one = Home(children, HuaweiSubDeviceRoute(children), wishes, clock, FakeUplink())
    one.put(FakeUplink({SubDeviceEvent[name]: answer for name, answer in answers.items()}, on_sync))
    try:
        yield one
    finally:
        await children.close()
