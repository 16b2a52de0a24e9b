"""The gateway's report of itself: what it says, when, and that it leaves as a child's values do."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from gatewayd.cloud.huawei.reporting.uploads import of_device
from gatewayd.device import reading
from gatewayd.device.identity import DeviceId
from gatewayd.device.lifecycle import State
from gatewayd.device.message import DropReason, Message
from gatewayd.device.views import MessageCounts
from gatewayd.messages.gateway_report import DOOR, GatewayFacts, GatewayReporter, values
from gatewayd.messages.intake import IncomingMessage, MessageIntake, Settled
from gatewayd.messages.settings import MessageSettings
from gatewayd.runtime.tasks import cancel_and_wait
from tests.support.relays import FakeCloud, running_relay

EAST, WEST = DeviceId("gateway-east"), DeviceId("gateway-west")
NOW, HOUR, DAY = 1_764_444_000_000_000, 3_600_000_000, 86_400_000_000
FACTS = GatewayFacts(
    version="1.2.3",
    state="degraded",
    store="unsealed",
    protection="tpm",
    children=(State.ONLINE, State.ONLINE, State.ABSENT, State.OFFLINE, State.REGISTERING),
    messages=MessageCounts(5, 1000, NOW - HOUR, 9, 4, {"rate": 2, "age": 1}),
    certificate_expiry=NOW + 30 * DAY + HOUR,
    now=NOW,
)


def test_what_it_says() -> None:
    assert values(FACTS) == {
        "version": "1.2.3", "state": "degraded", "store": "unsealed", "protection": "tpm",
        "children": 5, "online": 2, "offline": 2, "pending": 0, "rejected": 0, "failed": 0,
        "retired": 0, "joining": 1,
        "messages_waiting": 5, "bytes_waiting": 1000, "waiting_seconds": 3600,
        "messages_dropped": 3, "certificate_days": 30,
    }  # fmt: skip


def test_every_state_is_counted_once_but_that_of_another_gateways_children() -> None:
    found = values(replace(FACTS, children=tuple(State)))
    assert found["children"] == len(set(State) - {State.ELSEWHERE})


def test_without_certificate_or_backlog() -> None:
    found = values(replace(FACTS, certificate_expiry=0, messages=MessageCounts()))
    assert "certificate_days" not in found
    assert found["waiting_seconds"] == 0
    assert values(replace(FACTS, certificate_expiry=NOW - 1))["certificate_days"] == -1


def test_every_cloud_can_have_it() -> None:
    """Alibaba's identifiers are the narrower ones."""
    found = values(FACTS)
    assert all(re.fullmatch("[A-Za-z][A-Za-z0-9_]{0,49}", name) for name in found)
    payload = json.dumps(found).encode()
    assert reading.read(payload).values == found
    assert of_device(Message("properties", payload, 0), "gw", "gateway").payload


def test_an_interval_is_long_enough() -> None:
    assert not list(MessageSettings().problems())
    assert not list(MessageSettings(report_gateway=10).problems())
    (problem,) = MessageSettings(report_gateway=1).problems()
    assert problem.startswith("report_gateway")


@dataclass
class FakeIntake:
    """Notes what it is offered, and when."""

    now: Callable[[], float]
    blocked: bool = False
    gathers: bool = False
    why: DropReason | None = None
    offered: list[tuple[float, DeviceId]] = field(default_factory=list)

    def offer(self, message: IncomingMessage, settled: Settled) -> None:
        assert (message.door, message.topic, message.packet) == (DOOR, "properties", 0)
        self.offered.append((self.now(), message.child))
        settled(self.why)

    def session_begun(self, door: str) -> None: ...
    def was_away(self, door: str, seconds: float) -> None: ...
    def on_ready(self, resume: Callable[[], None]) -> None: ...
    def on_due(self, gather: Callable[[], None]) -> None: ...


@asynccontextmanager
async def reporting(
    intake: MessageIntake, online: Callable[[], Iterable[DeviceId]], interval: float
) -> AsyncIterator[None]:
    now = asyncio.get_running_loop().time
    reporter = GatewayReporter(intake, online, lambda: FACTS, interval, now)
    task = asyncio.create_task(reporter.run())
    try:
        yield
    finally:
        await cancel_and_wait([task])


@pytest.mark.jumping_clock
async def test_it_reports_soon_after_it_is_online_and_then_at_its_interval() -> None:
    intake = FakeIntake(asyncio.get_running_loop().time)
    online, began = {EAST}, intake.now()
    async with reporting(intake, lambda: online, 60):
        await asyncio.sleep(62)
        online.add(WEST)
        await asyncio.sleep(60)
        online.remove(EAST)
        await asyncio.sleep(600)
        online.add(EAST)
        intake.blocked = True
        await asyncio.sleep(60)
        intake.blocked = False
        await asyncio.sleep(10)
    east = [at - began for at, device in intake.offered if device == EAST]
    west = [at - began for at, device in intake.offered if device == WEST]
    assert east == pytest.approx([0, 60, 120, 785])
    assert west == pytest.approx([65 + 60 * n for n in range(11)] + [785])


@pytest.mark.jumping_clock
async def test_a_report_that_is_dropped_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    intake = FakeIntake(asyncio.get_running_loop().time, why=DropReason.TOTAL)
    async with reporting(intake, lambda: {EAST}, 60):
        await asyncio.sleep(1)
    assert [record.args for record in caplog.records] == [(EAST, DropReason.TOTAL)]


async def test_it_leaves_by_the_gateways_own_lane(tmp_path: Path) -> None:
    cloud = FakeCloud()
    cloud.admitted.add(EAST)
    async with running_relay(tmp_path, cloud=cloud) as running:
        running.connect(EAST)
        async with reporting(running.relay, lambda: running.sessions, 3600):
            await running.accepted(1, EAST)
        (payload,) = cloud.accepted[EAST]
        assert json.loads(payload) == values(FACTS)
        assert running.relay.statistics().doors[DOOR].sent == 1
