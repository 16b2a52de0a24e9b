"""Rules that forward what devices say: the owner's application gets all of it, in its order."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from gatewayd.simulator.huawei.exchange.forwarding import MAX_ACTIONS, MAX_RULES
from gatewayd.simulator.huawei.management import routing
from tests.simulator.huawei.client import (
    GATEWAY,
    GATEWAYS,
    SENSORS,
    Clock,
    Gateway,
    child,
    device,
    one,
    served,
)
from tests.simulator.huawei.receiver import Receiver, receiving
from tests.simulator.huawei.rest import Rest, manage
from tests.simulator.huawei.test_product_model import LAMP
from tests.support.simulated_ca import CERTIFICATE

C1 = child("c1")
SYSTEM = f"$oc/devices/{GATEWAY}/sys"
PROPERTY = {"resource": "device.property", "event": "report"}
MESSAGE = {"resource": "device.message", "event": "report"}


@pytest.fixture
async def rest() -> AsyncIterator[Rest]:
    async with served(clock=Clock()) as cloud, manage(cloud) as rest:
        for product in (GATEWAYS, SENSORS):
            changes = {"service_capabilities": LAMP, "topics": ["own"]}
            one(cloud).products.update(product, changes)
        yield rest


@pytest.fixture
async def gw(rest: Rest) -> AsyncIterator[Gateway]:
    async with device(rest.cloud) as gw:
        await gw.add("c1")
        yield gw


async def forward(rest: Rest, url: str, subject: dict[str, str], **more: Any) -> str:
    """Create a rule with its action, and activate it; return its id."""
    rule = await rest.post("/routing-rule/rules", {"rule_name": "all", "subject": subject, **more})
    assert not rule["active"]
    action = {"rule_id": rule["rule_id"], "channel": "HTTP_FORWARDING",
              "channel_detail": {"http_forwarding": {"url": url}}}  # fmt: skip
    await rest.post("/routing-rule/actions", action)
    changed = await rest.put(f"/routing-rule/rules/{rule['rule_id']}", {"active": True})
    assert changed["active"]
    return str(rule["rule_id"])


def say(gw: Gateway, level: int, **more: object) -> None:
    service = {"service_id": "lamp", "properties": {"level": level}} | more
    listed = [{"device_id": C1, "services": [service]}]
    gw.publish(f"{SYSTEM}/gateway/sub_devices/properties/report", {"devices": listed})


def levels(receiver: Receiver) -> list[int]:
    bodies = [one["notify_data"]["body"] for one in receiver.pushed]
    return [service["properties"]["level"] for body in bodies for service in body["services"]]


async def test_properties_are_pushed_in_the_order_of_their_arrival(rest: Rest, gw: Gateway) -> None:
    """api-iothub/iot_06_v5_01202."""
    async with receiving() as receiver:
        await forward(rest, receiver.url, PROPERTY)
        say(gw, 0, event_time="2026-01-02T03:04:00.250Z")
        for level in range(1, 30):
            say(gw, level)
        (first, *_) = await receiver.received(30)
    assert levels(receiver) == list(range(30))
    assert {name: first[name] for name in ("resource", "event", "event_time", "event_time_ms")} == {
        "resource": "device.property", "event": "report",
        "event_time": "20260102T030405Z", "event_time_ms": "2026-01-02T03:04:05.000Z",
    }  # fmt: skip
    header = first["notify_data"]["header"]
    assert (header["device_id"], header["gateway_id"], header["node_id"]) == (C1, GATEWAY, "c1")
    (service,) = first["notify_data"]["body"]["services"]
    assert service == {"service_id": "lamp", "properties": {"level": 0},
                       "event_time": "2026-01-02T03:04:00.250Z"}  # fmt: skip


async def test_messages_are_pushed_with_their_topic(rest: Rest, gw: Gateway) -> None:
    """api-iothub/iot_06_v5_01205."""
    async with receiving() as receiver:
        await forward(rest, receiver.url, MESSAGE)
        gw.publish(f"{SYSTEM}/messages/up", {"object_device_id": C1, "content": 1})
        gw.publish(f"$oc/devices/{GATEWAY}/user/own", b"plain \xff")
        say(gw, 1)  # not for this rule
        bodies = [one["notify_data"]["body"] for one in await receiver.received(2)]
    assert bodies == [
        {"topic": f"{SYSTEM}/messages/up", "content": {"object_device_id": C1, "content": 1}},
        {"topic": f"$oc/devices/{GATEWAY}/user/own", "content": "plain \ufffd"},
    ]


async def test_what_is_refused_is_pushed_again_before_the_next(
    rest: Rest, gw: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routing, "RETRY", 0.01)
    async with receiving() as receiver:
        receiver.refuse = 3
        await forward(rest, receiver.url, PROPERTY)
        for level in range(3):
            say(gw, level)
        await receiver.received(3)
    assert levels(receiver) == [0, 1, 2]


async def test_by_https_and_for_one_resource_space(rest: Rest, gw: Gateway) -> None:
    apart = rest.instance.apps.create("apart").app_id
    async with receiving(CERTIFICATE.server_context()) as receiver, receiving() as other:
        await forward(rest, receiver.url, PROPERTY, app_type="APP")
        await forward(rest, other.url, PROPERTY, app_type="APP", app_id=apart)
        say(gw, 1)
        await receiver.received(1)
        assert other.pushed == []


async def test_a_rule_that_is_switched_off_or_deleted_forwards_nothing(
    rest: Rest, gw: Gateway
) -> None:
    async with receiving() as receiver, receiving() as still:
        rules = [await forward(rest, receiver.url, PROPERTY) for _ in range(2)]
        await forward(rest, still.url, PROPERTY)
        await rest.put(f"/routing-rule/rules/{rules[0]}", {"active": False})
        await rest.delete(f"/routing-rule/rules/{rules[1]}")
        say(gw, 1)
        await still.received(1)
        assert receiver.pushed == []
        shown = await rest.get("/routing-rule/rules")
        assert shown["page"]["count"] == 2
        actions = (await rest.get("/routing-rule/actions", rule_id=rules[0]))["actions"]
        assert [one["channel_detail"]["http_forwarding"]["url"] for one in actions] == [
            receiver.url
        ]
        await rest.delete(f"/routing-rule/actions/{actions[0]['action_id']}")


@pytest.mark.parametrize(
    "body",
    [
        {}, {"subject": {}}, {"subject": {"resource": "device.property", "event": "update"}},
        {"subject": {"resource": "lamp", "event": "report"}},
        {"subject": PROPERTY, "app_type": "ALL"}, {"subject": PROPERTY, "rule_name": "a b"},
        {"subject": PROPERTY, "app_type": "APP", "app_id": "none"},
    ],
    ids=str,
)  # fmt: skip
async def test_what_is_no_rule(rest: Rest, body: dict[str, object]) -> None:
    status, said = await rest.ask("POST", "/routing-rule/rules", body)
    assert status in (400, 404), said


async def test_rules_and_actions_have_limits(rest: Rest) -> None:
    rules = [await rest.post("/routing-rule/rules", {"subject": PROPERTY}) for _ in range(2)]
    one_id = rules[0]["rule_id"]
    assert (await rest.ask("PUT", f"/routing-rule/rules/{one_id}", {"active": True}))[0] == 400
    action = {"rule_id": one_id, "channel": "HTTP_FORWARDING",
              "channel_detail": {"http_forwarding": {"url": "http://localhost/"}}}  # fmt: skip
    wrongs: list[dict[str, object]] = [
        {"channel": "OBS_FORWARDING"}, {"rule_id": "none"}, {"channel_detail": {}},
    ]  # fmt: skip
    for wrong in wrongs:
        status, _ = await rest.ask("POST", "/routing-rule/actions", action | wrong)
        assert status in (400, 403, 404)
    for _ in range(MAX_ACTIONS):
        await rest.post("/routing-rule/actions", action)
    assert (await rest.ask("POST", "/routing-rule/actions", action))[0] == 403
    for _ in range(MAX_RULES - 2):
        rest.instance.rules.create("device.property", "report", None, None, "")
    assert (await rest.ask("POST", "/routing-rule/rules", {"subject": PROPERTY}))[0] == 403
