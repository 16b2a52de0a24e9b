"""What children say arrives at the simulated platform, over real TLS, also through outages."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gatewayd.cloud.provider import (
    MessageAccepted,
    MessageDelayed,
    MessageRefused,
    Publication,
    SupportsMessages,
)
from gatewayd.cloud.sub_devices.result_codes import LINK_LOST
from gatewayd.device.message import Message
from gatewayd.simulator.huawei.exchange.arrivals import Arrival
from gatewayd.simulator.huawei.options import HuaweiRules
from gatewayd.testing.waiting import until
from tests.cloud.huawei import site as behind
from tests.cloud.huawei.site import GATEWAYS, INSTANCE, OWN_ID, SENSORS, site
from tests.cloud.huawei.speaking import (
    AT,
    Speaking,
    as_sub_device,
    by_certificate,
    furnish_models,
    reading,
    said,
)

ROUTES = {"certificate": by_certificate, "sub-device": as_sub_device}


@pytest.fixture(params=ROUTES)
async def children(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Speaking]:
    async with ROUTES[request.param](tmp_path) as one:
        yield one


async def test_what_a_child_says_arrives(children: Speaking) -> None:
    session = await children.session()
    envelope = {"content": {"a": 1}, "object_device_id": children.ids[0]}
    for message in (
        said("properties", {"temperature": 21.5}),
        said("properties", {"climate:n": 2, "time": AT + 5}),
        said("events/hot", {"at": 80}),
        said("sys/properties/report", {"services": [{"service_id": "climate",
                                                     "properties": {"n": 3}}]}),
        said("sys/messages/up", envelope),
    ):  # fmt: skip
        assert await session.publish(message) == MessageAccepted()
    found = [(one.kind, one.about, one.event_time) for one in children.arrived()]
    assert found == [
        ("properties", "climate", "2025-11-29T19:20:00.000Z"),
        ("properties", "climate", "2025-11-29T19:20:00.005Z"),
        ("event", "climate.hot", "20251129T192000Z"),
        ("properties", "climate", None),
        ("message", "", None),
    ]
    bodies = [one.body for one in children.arrived()]
    assert bodies[:4] == [{"temperature": 21.5}, {"n": 2}, {"at": 80}, {"n": 3}]
    assert isinstance(bodies[4], bytes)
    assert json.loads(bodies[4]) == envelope
    assert children.ledger["discards"] == {}


async def test_what_the_platform_has_no_form_for_is_refused(children: Speaking) -> None:
    session = await children.session()
    for message in (
        said("properties", b"\xff"), said("properties", {"n": None}), said("events/a:b:c", {}),
        said("sys/commands/response/request_id=1", {}), said("user/../x", {}),
    ):  # fmt: skip
        outcome = await session.publish(message)
        assert isinstance(outcome, MessageRefused)
        assert outcome.reason.remedy
    assert children.arrived() == ()
    assert session.max_payload == 1 << 20


async def test_what_does_not_fit_the_model_is_discarded_and_not_seen(children: Speaking) -> None:
    """As the manual says: the platform acknowledges it."""
    session = await children.session()
    assert await session.publish(said("properties", {"humidity": 40})) == MessageAccepted()
    truth: Any = children.cloud.truth()
    ledger = truth["instances"][INSTANCE]["devices"][children.ids[0]]
    assert ledger["last_discard"] == "unknown-property: climate.humidity"


async def test_binary_and_custom_topics_of_a_device(tmp_path: Path) -> None:
    async with by_certificate(tmp_path) as children:
        session = await children.session()
        assert await session.publish(said("sys/messages/up", b"\x00\xff")) == MessageAccepted()
        assert await session.publish(said("user/door", b"open")) == MessageAccepted()
        topic = f"$oc/devices/{children.ids[0]}/user/door"
        assert [(one.about, one.body) for one in children.arrived()] == [
            ("", b"\x00\xff"), (topic, b"open"),
        ]  # fmt: skip


async def say_all(children: Speaking, which: int, count: int, window: int = 8) -> None:
    """Publish readings as a lane does: some under way, the delayed ones again and before others."""
    waiting = [reading(number) for number in range(count)]
    session = await children.session(which)
    while waiting:
        outcomes = await asyncio.gather(*map(session.publish, waiting[:window]))
        assert not any(isinstance(one, MessageRefused) for one in outcomes)
        first = next(
            (at for at, one in enumerate(outcomes) if isinstance(one, MessageDelayed)),
            len(outcomes),
        )
        assert all(isinstance(one, MessageDelayed) for one in outcomes[first:])
        del waiting[:first]
        if first < len(outcomes):
            session = await children.session(which)


def has_arrived(children: Speaking, count: int) -> bool:
    return len(children.arrived()) >= count


def numbers(arrivals: Sequence[Arrival]) -> list[Any]:
    return [one.body["n"] for one in arrivals if not isinstance(one.body, bytes)]


@pytest.mark.parametrize("fault", ["message-hang-up:30%:x3", "puback-hang-up:30%:x3", ""])
async def test_an_outage_loses_nothing_and_keeps_the_order(children: Speaking, fault: str) -> None:
    """Each message at least once, first copies in order, with its time."""
    children.cloud.set_faults(fault, seed=3)
    count = 60
    saying = [asyncio.create_task(say_all(children, which, count)) for which in (0, 1)]
    if not fault:
        for at in (10, 30):
            await until(partial(has_arrived, children, at))
            children.cloud.disconnect(INSTANCE, children.sender)
    async with asyncio.timeout(60):
        await asyncio.gather(*saying)
    assert children.ledger["logins"] > 1
    assert children.ledger["throttled"] == 0
    for which in (0, 1):
        arrivals = children.arrived(which)
        assert list(dict.fromkeys(numbers(arrivals))) == list(range(count))
        times = {n: one.event_time for n, one in zip(numbers(arrivals), arrivals, strict=True)}
        assert [times[n] for n in range(count)] == [
            f"2025-11-29T19:20:00.{n:03}Z" for n in range(count)
        ]


async def test_a_gateway_that_returns_speaks_for_children_that_stayed(tmp_path: Path) -> None:
    """A newer session of the gateway takes the place of its older one; the children's go on."""
    behind.furnish(tmp_path)
    async with site(tmp_path, services={SENSORS: "climate"}) as one:
        furnish_models(one.instance)
        (session,) = await one.online(0)
        assert isinstance(session, SupportsMessages)
        assert await session.publish(reading(0)) == MessageAccepted()
        await one.log_in()
        outcomes = [await publish_until_accepted(session, reading(number)) for number in (1, 2)]
        assert outcomes == [MessageAccepted()] * 2
        assert numbers(one.instance.arrivals.of(behind.child_id(0))) == [0, 1, 2]
        await one.lose_link()
        assert await session.publish(reading(3)) == MessageDelayed(LINK_LOST, left=False)


async def publish_until_accepted(session: SupportsMessages, message: Message) -> Publication:
    async with asyncio.timeout(30):
        while isinstance(outcome := await session.publish(message), MessageDelayed):
            await asyncio.sleep(0)
    return outcome


async def test_the_gateway_itself_speaks(tmp_path: Path) -> None:
    behind.furnish(tmp_path)
    async with site(tmp_path, services={GATEWAYS: "climate"}) as one:
        furnish_models(one.instance)
        assert isinstance(one.session, SupportsMessages)
        assert await one.session.publish(said("properties", {"n": 7})) == MessageAccepted()
        assert numbers(one.instance.arrivals.of(OWN_ID)) == [7]
        event = {"service_id": "$sub_device_manager", "event_type": "delete_sub_device_request",
                 "paras": {"devices": []}}  # fmt: skip
        refused = await one.session.publish(said("sys/events/up", {"services": [event]}))
        assert isinstance(refused, MessageRefused)


async def test_a_storm_of_children_stays_within_the_limits(tmp_path: Path) -> None:
    """300 children, three values each: few messages, none over the platform's 50 a second."""
    behind.furnish(tmp_path)
    fast = {"status_per_second": 10_000}
    rules = HuaweiRules(status_rate=0)
    async with site(tmp_path, rules, fast, services={SENSORS: "climate"}) as one:
        furnish_models(one.instance)
        sessions = await one.online(*range(300))
        saying = []
        for session in sessions:
            assert isinstance(session, SupportsMessages)
            saying += [session.publish(reading(number)) for number in range(3)]
        assert set(await asyncio.gather(*saying)) == {MessageAccepted()}
        truth: Any = one.cloud.truth()
        ledger = truth["instances"][INSTANCE]["devices"][OWN_ID]
        assert ledger["throttled"] == 0
        assert ledger["published"]["gateway/sub_devices/properties/report"] <= 12
        for number in range(300):
            assert numbers(one.instance.arrivals.of(behind.child_id(number))) == [0, 1, 2]
