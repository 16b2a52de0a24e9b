"""What devices and the owner exchange: reports, shadows, commands, properties and messages."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gatewayd.simulator.huawei.cloud import HuaweiCloud
from gatewayd.simulator.huawei.exchange.device_messages import MAX_KEPT
from gatewayd.simulator.huawei.options import HuaweiRules
from gatewayd.simulator.huawei.platform.device import DeviceAuth
from gatewayd.testing.waiting import until
from tests.simulator.huawei.client import (
    GATEWAY,
    GATEWAYS,
    SECRET,
    SENSORS,
    Clock,
    Gateway,
    Hello,
    child,
    device,
    ledger_of,
    one,
    served,
)
from tests.simulator.huawei.rest import Rest, manage
from tests.simulator.huawei.test_product_model import LAMP

C1, C2 = child("c1"), child("c2")
SYSTEM = f"$oc/devices/{GATEWAY}/sys"
BATCH = f"{SYSTEM}/gateway/sub_devices/properties/report"


@pytest.fixture
async def clock() -> Clock:
    return Clock()


@pytest.fixture
async def cloud(clock: Clock) -> AsyncIterator[HuaweiCloud]:
    async with served(clock=clock, rules=HuaweiRules(response_timeout=0.2)) as cloud:
        for product in (GATEWAYS, SENSORS):
            one(cloud).products.update(product, {"service_capabilities": LAMP, "topics": ["own"]})
        yield cloud


@pytest.fixture
async def rest(cloud: HuaweiCloud) -> AsyncIterator[Rest]:
    async with manage(cloud) as rest:
        yield rest


@pytest.fixture
async def gw(cloud: HuaweiCloud) -> AsyncIterator[Gateway]:
    async with device(cloud) as gw:
        await gw.add("c1", "c2")
        await gw.report({C1: "ONLINE", C2: "ONLINE"})
        yield gw


def lamp(**properties: object) -> dict[str, object]:
    return {"service_id": "lamp", "properties": properties}


def batch(gw: Gateway, **devices: list[dict[str, object]]) -> None:
    """Report properties of children, by node id."""
    listed = [{"device_id": child(node), "services": said} for node, said in devices.items()]
    gw.publish(BATCH, {"devices": listed})


def reported(cloud: HuaweiCloud, device_id: str) -> dict[str, object]:
    shadow = one(cloud).shadows.of(device_id).get("lamp")
    return dict(shadow.reported.properties) if shadow else {}


async def asked(gw: Gateway, use: str) -> tuple[str, dict[str, Any]]:
    """Wait for a request of the platform; return its id and its body."""
    topic, payload = await gw.other()
    start = f"{SYSTEM}/{use}/request_id="
    assert topic.startswith(start), topic
    return topic.removeprefix(start), json.loads(payload)


def respond(gw: Gateway, use: str, request_id: str, body: object) -> None:
    gw.publish(f"{SYSTEM}/{use}/response/request_id={request_id}", body)


async def test_a_gateway_reports_for_its_children(cloud: HuaweiCloud, gw: Gateway) -> None:
    batch(gw, c1=[lamp(level=5)], c2=[lamp(level=6, lit=True)])
    batch(gw, c1=[lamp(lit=False)])
    await gw.served()
    assert reported(cloud, C1) == {"level": 5, "lit": False}
    assert reported(cloud, C2) == {"level": 6, "lit": True}
    assert ledger_of(cloud, C1)["property_reports"] == 2


async def test_reports_may_be_compressed(cloud: HuaweiCloud, gw: Gateway) -> None:
    """As the vendor's SDK for C does (TOPIC_SUFFIX_COMPRESS in its include/service/base.h)."""
    topic = f"{SYSTEM}/properties/report?encoding=gzip"
    gw.publish(topic, gzip.compress(json.dumps({"services": [lamp(level=5)]}).encode()))
    gw.publish(topic, b"no gzip")
    gw.publish(topic, gzip.compress(b" " * (1 << 24)))
    await gw.served()
    assert reported(cloud, GATEWAY) == {"level": 5}
    assert ledger_of(cloud)["discards"] == {"malformed": 1, "too-large": 1}


async def test_what_does_not_fit_is_discarded_and_nothing_is_said(
    cloud: HuaweiCloud, gw: Gateway
) -> None:
    """usermanual-iothub/iot_01_0326: the data must match the product model."""
    batch(gw, c1=[lamp(level=500, lit=True, humidity=4), {"service_id": "x", "properties": {}}])
    await gw.served()
    assert (gw.events, gw.others) == ([], [])
    assert reported(cloud, C1) == {"lit": True}
    ledger = ledger_of(cloud, C1)
    assert ledger["discards"] == {"unfit-value": 1, "unknown-property": 1, "unknown-service": 1}
    assert ledger["last_discard"] == "unknown-service: x"
    assert ledger_of(cloud)["discards"] == {}


async def test_without_a_model_nothing_is_kept(cloud: HuaweiCloud, gw: Gateway) -> None:
    one(cloud).products.update(SENSORS, {"service_capabilities": []})
    batch(gw, c1=[lamp(level=5)])
    await gw.served()
    assert reported(cloud, C1) == {}
    assert ledger_of(cloud, C1)["last_discard"] == "unknown-service: lamp"


@pytest.mark.parametrize(
    "body",
    [
        {"services": []}, {"services": "x"}, {"services": [5]}, {}, [],
        {"services": [{"service_id": "lamp", "properties": 5}]},
        {"services": [{"properties": {"level": 5}}]},
    ],
    ids=str,
)  # fmt: skip
async def test_reports_that_cannot_be_read(cloud: HuaweiCloud, gw: Gateway, body: object) -> None:
    gw.publish(f"{SYSTEM}/properties/report", body)
    await gw.served()
    assert ledger_of(cloud)["discards"] == {"malformed": 1}
    assert reported(cloud, GATEWAY) == {}


async def test_a_frozen_childs_report_is_discarded(cloud: HuaweiCloud, gw: Gateway) -> None:
    one(cloud).devices.freeze(C1)
    batch(gw, c1=[lamp(level=5)])
    await gw.served()
    assert ledger_of(cloud, C1)["discards"] == {"frozen": 1}


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("20260101T000000Z", "20260101T000000Z"),
        ("2026-01-01T00:00:00.000Z", "20260101T000000Z"),
        ("2026-01-01T00:00:00Z", "20260102T030405Z"),  # as the vendor's SDK for Python writes it
        ("", "20260102T030405Z"),
        (None, "20260102T030405Z"),
        (5, "20260102T030405Z"),
    ],
)
async def test_a_time_that_is_malformed_is_the_platforms(
    gw: Gateway, rest: Rest, sent: object, kept: str
) -> None:
    """api-iothub/iot_06_v5_3010."""
    batch(gw, c1=[{**lamp(level=5), "event_time": sent}])
    await gw.served()
    (service,) = (await rest.get(f"/devices/{C1}/shadow"))["shadow"]
    assert service["reported"] == {"properties": {"level": 5}, "event_time": kept}


async def test_a_command_is_responded_to(gw: Gateway, rest: Rest) -> None:
    """api-iothub/iot_06_v5_0038 and iot_06_v5_3014."""
    wanted = {"service_id": "lamp", "command_name": "dim", "paras": {"to": 5}}
    sending = asyncio.create_task(rest.post(f"/devices/{C1}/commands", wanted, status=200))
    request_id, body = await asked(gw, "commands")
    assert body == {"object_device_id": C1, **wanted}
    response = {"result_code": 0, "response_name": "DIMMED", "paras": {"was": 9}}
    respond(gw, "commands", request_id, response)
    assert (await sending)["response"] == response


async def test_a_device_has_so_long_for_a_response(
    cloud: HuaweiCloud, gw: Gateway, rest: Rest
) -> None:
    """api-iothub/iot_06_v5_0038: 20 seconds, here fewer; the error has the status 200."""
    wanted = {"service_id": "lamp", "command_name": "reset"}
    said = await rest.post(f"/devices/{C1}/commands", wanted, status=200)
    assert said["error_code"] == "IOTDA.014111"
    request_id, _ = await asked(gw, "commands")
    respond(gw, "commands", request_id, {"result_code": 0})
    await gw.served()
    assert ledger_of(cloud)["late_responses"] == 1
    assert HuaweiRules().response_timeout == 20.0


@pytest.mark.parametrize(
    ("path", "body", "complaint"),
    [
        ("commands", {"service_id": "lamp", "command_name": "dim", "paras": {"to": 500}},
         "unfit-value: lamp.dim.to"),
        ("commands", {"service_id": "lamp", "command_name": "x"}, "unknown-command: lamp.x"),
        ("commands", {"service_id": "heater", "command_name": "x"}, "unknown-service: heater"),
        ("properties", {"services": [lamp(count=5)]}, "not-writable: lamp.count"),
        ("properties", {"services": [lamp(x=5)]}, "unknown-property: lamp.x"),
        ("shadow", {"shadow": [{"service_id": "lamp", "desired": {"level": "x"}}]},
         "unfit-value: lamp.level"),
    ],
)  # fmt: skip
async def test_what_does_not_fit_the_model_is_not_sent(
    gw: Gateway, rest: Rest, path: str, body: object, complaint: str
) -> None:
    method = "POST" if path == "commands" else "PUT"
    status, said = await rest.ask(method, f"/devices/{C1}/{path}", body)
    assert (status, said["error_code"]) == (400, "IOTDA.000006")
    assert complaint in said["error_msg"]
    await gw.served()
    assert gw.others == []


async def test_properties_are_set_and_asked_for(gw: Gateway, rest: Rest) -> None:
    """api-iothub/iot_06_v5_0035, iot_06_v5_3008 and iot_06_v5_3009."""
    wanted = {"services": [lamp(level=5)]}
    setting = asyncio.create_task(rest.put(f"/devices/{C1}/properties", wanted))
    request_id, body = await asked(gw, "properties/set")
    assert body == {"object_device_id": C1, **wanted}
    respond(gw, "properties/set", request_id, {"result_code": 0, "result_desc": "success"})
    assert (await setting)["response"]["result_code"] == 0
    getting = asyncio.create_task(rest.get(f"/devices/{C1}/properties", service_id="lamp"))
    request_id, body = await asked(gw, "properties/get")
    assert body == {"object_device_id": C1, "service_id": "lamp"}
    respond(gw, "properties/get", request_id, {"services": [lamp(level=5)]})
    assert (await getting)["response"] == {"services": [lamp(level=5)]}


async def test_a_device_that_is_offline_is_not_asked(
    cloud: HuaweiCloud, gw: Gateway, rest: Rest
) -> None:
    await gw.report({C1: "OFFLINE"})
    wanted = {"service_id": "lamp", "command_name": "reset"}
    for device_id in (C1, GATEWAY):
        status, said = await rest.ask("POST", f"/devices/{device_id}/commands", wanted)
        expected = (403, "IOTDA.014016") if device_id == C1 else (200, "IOTDA.014111")
        assert (status, said["error_code"]) == expected
    gw.wire.leave()
    await until(lambda: not ledger_of(cloud)["connected"])
    _, said = await rest.ask("POST", f"/devices/{C2}/commands", wanted)
    assert said["error_code"] == "IOTDA.014016"  # it is online, but nothing leads to it


async def test_a_response_of_another_device_does_not_count(
    cloud: HuaweiCloud, gw: Gateway, rest: Rest
) -> None:
    one(cloud).devices.add(node_id="gw-2", product_id=GATEWAYS, auth=DeviceAuth(secret=SECRET))
    other = f"{GATEWAYS}_gw-2"
    wanted = {"service_id": "lamp", "command_name": "reset"}
    sending = asyncio.create_task(rest.post(f"/devices/{C1}/commands", wanted, status=200))
    request_id, _ = await asked(gw, "commands")
    async with device(cloud, Hello(other, secret=SECRET)) as second:
        topic = f"$oc/devices/{other}/sys/commands/response/request_id={request_id}"
        second.publish(topic, {"result_code": 0})
        await second.served()
    assert ledger_of(cloud, other)["late_responses"] == 1
    assert (await sending)["error_code"] == "IOTDA.014111"


async def test_desired_properties_wait_for_the_device(
    cloud: HuaweiCloud, gw: Gateway, rest: Rest
) -> None:
    """usermanual-iothub/iot_01_0049: sent when it goes online or reports, until it reports them."""
    await gw.report({C1: "OFFLINE"})
    body = {"shadow": [{"service_id": "lamp", "desired": {"level": 7, "lit": True}, "version": 0}]}
    await rest.put(f"/devices/{C1}/shadow", body)
    await gw.served()
    assert gw.others == []
    await gw.report({C1: "ONLINE"})
    _, sent = await asked(gw, "properties/set")
    assert sent == {"object_device_id": C1, "services": [lamp(level=7, lit=True)]}
    batch(gw, c1=[lamp(level=7)])
    _, sent = await asked(gw, "properties/set")
    assert sent["services"] == [lamp(lit=True)]
    batch(gw, c1=[lamp(lit=True)])
    await gw.served()
    assert gw.others == []
    (service,) = (await rest.get(f"/devices/{C1}/shadow"))["shadow"]
    assert (service["version"], service["desired"]["properties"]) == (1, {"level": 7, "lit": True})
    status, said = await rest.ask("PUT", f"/devices/{C1}/shadow", body)
    assert (status, said["error_code"]) == (400, "IOTDA.014943")
    for desired, left in (({"lit": None}, {"level": 7}), ({}, {})):
        body = {"shadow": [{"service_id": "lamp", "desired": desired}]}
        (service,) = (await rest.put(f"/devices/{C1}/shadow", body))["shadow"]
        assert service["desired"]["properties"] == left


async def test_a_device_asks_for_its_shadow(gw: Gateway) -> None:
    """api-iothub/iot_06_v5_3011."""
    batch(gw, c1=[lamp(level=5)])
    topic = f"{SYSTEM}/shadow/get/request_id=7"
    gw.publish(topic, {"object_device_id": C1, "service_id": "lamp"})
    answered, payload = await gw.other()
    assert answered == f"{SYSTEM}/shadow/get/response/request_id=7"
    shadow = json.loads(payload)
    assert shadow["object_device_id"] == C1
    assert shadow["shadow"][0]["reported"]["properties"] == {"level": 5}
    gw.publish(topic, {"object_device_id": "another"})
    await gw.served()
    assert gw.others == []


async def test_messages_of_devices_are_kept(cloud: HuaweiCloud, gw: Gateway) -> None:
    """api-iothub/iot_06_v5_3016: any bytes are a message; an envelope may name a child."""
    gw.publish(f"{SYSTEM}/messages/up", b"\x00binary")
    of_child = {"object_device_id": C1, "name": "n", "id": "1", "content": "hello"}
    gw.publish(f"{SYSTEM}/messages/up", of_child)
    gw.publish(f"{SYSTEM}/messages/up", {**of_child, "object_device_id": "another"})
    await gw.served()
    assert cloud.received("one", GATEWAY) == [b"\x00binary"]
    assert [json.loads(one) for one in cloud.received("one", C1)] == [of_child]
    assert ledger_of(cloud)["discards"] == {"not-a-child": 1}


def event(device_id: str | None = None, **event: object) -> dict[str, object]:
    one = {"service_id": "lamp", "event_type": "broken", "paras": {"code": 5}} | event
    return {"object_device_id": device_id, "services": [one]}


async def test_everything_is_kept_in_the_order_of_its_arrival(
    cloud: HuaweiCloud, gw: Gateway, clock: Clock
) -> None:
    """With the device's own time, in either of the two formats, or else the platform's."""
    batch(gw, c1=[lamp(level=1) | {"event_time": "20260102T030400Z"}], c2=[lamp(level=2)])
    gw.publish(f"{SYSTEM}/events/up", event(C1, event_time="20260102T030401Z"))
    gw.publish(f"{SYSTEM}/messages/up", {"object_device_id": C1, "content": "text"})
    batch(gw, c1=[lamp(level=500), lamp(level=3) | {"event_time": "2026-01-02T03:04:02.500Z"}])
    gw.publish(f"$oc/devices/{GATEWAY}/user/own", b"mine")
    await gw.served()
    now = clock()
    arrivals = one(cloud).arrivals.of(C1)
    assert [(each.kind, each.about, each.event_time, each.when) for each in arrivals] == [
        ("properties", "lamp", "20260102T030400Z", now - 5),
        ("event", "lamp.broken", "20260102T030401Z", now - 4),
        ("message", "", None, now),
        ("properties", "lamp", "2026-01-02T03:04:02.500Z", now - 2.5),
    ]  # fmt: skip
    assert [each.device_id for each in one(cloud).arrivals.all()] == [C1, C2, C1, C1, C1, GATEWAY]
    last = one(cloud).arrivals.all()[-1].truth()
    assert (last["kind"], last["body"]) == ("custom", "mine")
    one(cloud).devices.delete(C1)
    assert {each.device_id for each in one(cloud).arrivals.all()} == {C2, GATEWAY}


async def test_events_that_do_not_fit_are_discarded(cloud: HuaweiCloud, gw: Gateway) -> None:
    up = f"{SYSTEM}/events/up"
    gw.publish(up, event("another"))
    gw.publish(up, event(C1, paras={"code": "five"}))
    gw.publish(up, event(C1, event_type="mended"))
    gw.publish(up, event(C1, service_id="$ota"))
    gw.publish(up, event(GATEWAY))
    gw.publish(up, event())
    await gw.served()
    assert ledger_of(cloud)["discards"] == {"not-a-child": 1}
    assert ledger_of(cloud, C1)["discards"] == {"unfit-value": 1, "unknown-event": 1}
    assert [each.device_id for each in one(cloud).arrivals.all()] == [GATEWAY, GATEWAY]


async def test_a_message_to_a_child_comes_through_its_gateway(gw: Gateway, rest: Rest) -> None:
    """api-iothub/iot_06_v5_0059 and iot_06_v5_3017."""
    body = {"message_id": "m-1", "name": "n", "message": {"a": 1}}
    said = await rest.post(f"/devices/{C1}/messages", body)
    assert (said["message_id"], said["result"]["status"]) == ("m-1", "DELIVERED")
    topic, payload = await gw.other()
    assert topic == f"{SYSTEM}/messages/down"
    assert json.loads(payload) == {
        "object_device_id": C1, "name": "n", "id": "m-1", "content": {"a": 1},
    }  # fmt: skip
    status, said = await rest.ask("POST", f"/devices/{C1}/messages", body)
    assert (status, said["error_code"]) == (400, "IOTDA.014942")


@pytest.mark.parametrize(
    ("more", "payload"),
    [
        ({"message": "as it is", "payload_format": "raw"}, b"as it is"),
        ({"message": {"a": 1}, "payload_format": "raw"}, b'{"a":1}'),
        ({"message": base64.b64encode(b"\0\1").decode(), "encoding": "base64"}, b"\0\1"),
    ],
)
async def test_raw_messages(
    gw: Gateway, rest: Rest, more: dict[str, object], payload: bytes
) -> None:
    await rest.post(f"/devices/{GATEWAY}/messages", more)
    assert await gw.other() == (f"{SYSTEM}/messages/down", payload)


async def test_messages_on_custom_topics_need_a_subscription(gw: Gateway, rest: Rest) -> None:
    """The model DeviceMessage: IOTDA.014112 where the device has not subscribed."""
    whole = {
        "message_id": "m",
        "message": "x",
        "topic_full_name": "/v1/own",
        "payload_format": "raw",
    }
    await rest.post(f"/devices/{GATEWAY}/messages", whole)
    failed = await rest.get(f"/devices/{GATEWAY}/messages/m")
    assert (failed["status"], failed["error_info"]["error_code"]) == ("FAILED", "IOTDA.014112")
    own = f"$oc/devices/{GATEWAY}/user/own"
    assert await gw.subscribe([own]) == [1]
    await rest.post(f"/devices/{C1}/messages", {"message": "x", "topic": "own"})
    topic, payload = await gw.other()
    assert (topic, json.loads(payload)["object_device_id"]) == (own, C1)


async def test_messages_wait_for_a_device_that_is_offline(
    cloud: HuaweiCloud, clock: Clock, rest: Rest
) -> None:
    """usermanual-iothub/iot_01_0332: 20 for a device, of which the oldest make room; a day."""
    for number in range(MAX_KEPT + 2):
        body = {"message_id": f"m-{number}", "message": f"{number}", "payload_format": "raw"}
        said = await rest.post(f"/devices/{GATEWAY}/messages", body | {"ttl": 5 if number else 0})
        assert said["result"]["status"] == ("PENDING" if number else "FAILED")
    found = (await rest.get(f"/devices/{GATEWAY}/messages"))["messages"]
    assert [one["message_id"] for one in found] == [f"m-{n}" for n in range(2, MAX_KEPT + 2)]
    async with device(cloud) as gw:
        received = [(await gw.other())[1] for _ in range(MAX_KEPT)]
        assert received == [b"%d" % number for number in range(2, MAX_KEPT + 2)]
    await until(lambda: not ledger_of(cloud)["connected"])
    await rest.post(f"/devices/{GATEWAY}/messages", {"message_id": "l", "message": "x", "ttl": 5})
    clock.now += 301
    late = await rest.get(f"/devices/{GATEWAY}/messages/l")
    assert late["status"] == "TIMEOUT"


@pytest.mark.parametrize(
    "body",
    [
        {}, {"message": "x", "ttl": 4}, {"message": "x", "ttl": 1445},
        {"message": "x", "topic": "undefined"}, {"message": "x", "topic_full_name": "a/#"},
        {"message": "x", "topic": "own", "topic_full_name": "/a"},
        {"message": "x", "message_id": "a b"}, {"message": "x", "encoding": "utf-8"},
        {"message": "x" * (256 * 1024)},
    ],
    ids=lambda body: str(body)[:40],
)  # fmt: skip
async def test_messages_that_are_refused(rest: Rest, body: object) -> None:
    status, said = await rest.ask("POST", f"/devices/{GATEWAY}/messages", body)
    assert (status, said["error_code"]) == (400, "IOTDA.000006")


async def test_what_is_kept_of_a_deleted_device_goes_with_it(
    cloud: HuaweiCloud, gw: Gateway, rest: Rest
) -> None:
    batch(gw, c1=[lamp(level=5)])
    gw.publish(f"{SYSTEM}/messages/up", {"object_device_id": C1, "content": "x"})
    await rest.post(f"/devices/{C1}/messages", {"message": "x"})
    one(cloud).devices.delete(C1)
    assert (await gw.receive())["event_type"] == "delete_sub_device_notify"
    await gw.add("c1")
    assert reported(cloud, C1) == {}
    assert cloud.received("one", C1) == []
    assert (await rest.get(f"/devices/{C1}/messages"))["messages"] == []
    status, _ = await rest.ask("GET", "/devices/unknown/shadow")
    assert status == 404


async def test_a_device_is_created_with_what_is_desired(cloud: HuaweiCloud, rest: Rest) -> None:
    """The model AddDevice of the management SDK: shadow."""
    new = {"node_id": "c9", "product_id": SENSORS, "gateway_id": GATEWAY}
    unfit = [{"service_id": "lamp", "desired": {"level": 500}}]
    assert (await rest.ask("POST", "/devices", {**new, "shadow": unfit}))[0] == 400
    assert one(cloud).devices.lookup(child("c9")) is None
    wanted = [{"service_id": "lamp", "desired": {"level": 5}}]
    await rest.post("/devices", {**new, "shadow": wanted})
    async with device(cloud) as gw:
        await gw.report({child("c9"): "ONLINE"})
        _, sent = await asked(gw, "properties/set")
        assert sent == {"object_device_id": child("c9"), "services": [lamp(level=5)]}
