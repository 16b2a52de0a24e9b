"""Gateways of the simulated Huawei cloud: children added, deleted, reported, synchronized."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.simulator.huawei import events
from gatewayd.simulator.huawei.cloud import HuaweiCloud
from gatewayd.simulator.huawei.events import MalformedEvent
from gatewayd.simulator.huawei.gateways import ChildChanges
from gatewayd.simulator.huawei.options import Excess, HuaweiRules
from gatewayd.simulator.huawei.platform.limits import InstanceLimits
from gatewayd.testing.waiting import until
from tests.simulator.huawei.client import (
    GATEWAY,
    GATEWAYS,
    SECRET,
    SENSORS,
    VECTORS,
    Clock,
    Gateway,
    Hello,
    child,
    device,
    ledger_of,
    new,
    one,
    served,
)

ADD, DELETE = "add_sub_device_request", "delete_sub_device_request"
ADDED, DELETED = "add_sub_device_notify", "delete_sub_device_notify"
MESSAGES = VECTORS["gateway_messages"]


def failed(paras: dict[str, Any]) -> list[str]:
    return [one["error_code"] for one in paras["failed_devices"]]


def adopt(cloud: HuaweiCloud, *nodes: str) -> None:
    """Add children as the management side does."""
    for node in nodes:
        one(cloud).devices.add(node_id=node, product_id=SENSORS, gateway_id=GATEWAY)


def vector(name: str) -> dict[str, Any]:
    """Return the one event of a downlink in the vectors."""
    found: dict[str, Any] = next(one for one in MESSAGES["down"] if one["name"] == name)
    (event,) = found["payload"]["services"]
    kept: dict[str, Any] = event
    return kept


async def answer_to(gw: Gateway, name: str) -> dict[str, Any]:
    """Send an uplink of the vectors; return the event that answers it."""
    asked = MESSAGES["up"][name]
    assert asked["topic"] == gw.up
    gw.publish(asked["topic"], asked["payload"])
    return await gw.receive()


async def test_the_messages_of_the_vectors(cloud: HuaweiCloud, gw: Gateway) -> None:
    added, expected = await answer_to(gw, "add"), vector("add_all_ok")
    expected["paras"]["successful_devices"].pop()
    assert added == expected
    again, mixed = await answer_to(gw, "add"), vector("add_mixed")
    (failure,) = again["paras"]["failed_devices"]
    assert failure == {**mixed["paras"]["failed_devices"][0], "node_id": "c1"}
    status, expected = await answer_to(gw, "status"), vector("status_response")
    expected["paras"]["failed_devices"] = []
    assert status == expected
    deleted, expected = await answer_to(gw, "delete"), vector("delete_mixed")
    expected["paras"]["failed_devices"] = []
    assert deleted == expected
    properties = MESSAGES["up"]["batch_properties"]
    gw.publish(properties["topic"], properties["payload"])
    await gw.served()
    # a report for children that are gone
    assert ledger_of(cloud)["discards"] == {"not-a-child": len(properties["payload"]["devices"])}


async def test_the_notifications_of_the_vectors(cloud: HuaweiCloud, gw: Gateway) -> None:
    one(cloud).devices.add(node_id="c3", product_id=SENSORS, gateway_id=GATEWAY, name="c3")
    expected = vector("notify_add")
    expected["paras"]["version"] = 1
    assert await gw.receive() == expected
    one(cloud).devices.delete(child("c3"))
    expected = vector("notify_delete")
    expected["paras"]["version"] = 2
    assert await gw.receive() == expected


async def test_uplinks_as_the_vendors_sdk_builds_them(cloud: HuaweiCloud, gw: Gateway) -> None:
    for event in MESSAGES["sdk_uplink_events_as_built"]:
        gw.publish(gw.up, {"services": [event]})
    await gw.served()
    assert [one["event_type"] for one in gw.events] == [
        "add_sub_device_response", "delete_sub_device_response",
        "sub_device_update_status_response",
    ]  # fmt: skip
    assert ledger_of(cloud)["answers"] == {
        ADD: {"0": 1}, DELETE: {"0": 1}, "sub_device_update_status": {"IOTDA.021104": 1},
    }  # fmt: skip
    assert ledger_of(cloud)["malformed"] == 0


async def test_some_are_added_and_some_fail(cloud: HuaweiCloud, gw: Gateway) -> None:
    listed = [
        new("c1", name="c1", description="mine", extension_info={"a": 1}),
        new("c1"),
        new("aa:bb"),
        new("c2", product_id="nothing"),
        new("c3", device_id="own-id"),
        new("c4", extension_info={"a": "b" * 1100}),
        new("c5", parent_device_id="unknown"),
        new("c6", parent_device_id=child("c1")),
        new("c7", parent_device_id=child("c6")),
    ]
    paras = await gw.ask(ADD, {"devices": listed})
    made = paras["successful_devices"]
    assert [one["device_id"] for one in made] == [child("c1"), "own-id", child("c6")]
    assert made[0]["extension_info"] == {"a": 1}
    assert [one["parent_device_id"] for one in made] == [GATEWAY, GATEWAY, child("c1")]
    assert [(one["node_id"], one["product_id"]) for one in paras["failed_devices"]] == [
        ("c1", SENSORS), ("aa:bb", SENSORS), ("c2", "nothing"), ("c4", SENSORS),
        ("c5", SENSORS), ("c7", SENSORS),
    ]  # fmt: skip
    assert failed(paras)[:2] == ["IOTDA.014031", "IOTDA.000006"]
    assert failed(paras)[4] == "IOTDA.021104"
    assert all(one["error_msg"] for one in paras["failed_devices"])


async def test_a_child_of_another_gateway_exists_already(cloud: HuaweiCloud, gw: Gateway) -> None:
    other = one(cloud).devices.add(node_id="gw-2", product_id=GATEWAYS)
    one(cloud).devices.add(node_id="c1", product_id=SENSORS, gateway_id=other.device_id)
    assert failed(await gw.add("c1")) == ["IOTDA.014031"]
    assert failed(await gw.ask(DELETE, {"devices": [child("c1"), GATEWAY, "unknown"]})) == (
        ["IOTDA.021104"] * 3
    )
    assert ledger_of(cloud, child("c1"))["parent"] == other.device_id


@pytest.mark.parametrize(
    ("excess", "successes", "failures"),
    [(Excess.FAIL, 0, 51), (Excess.TRUNCATE, 50, 0), (Excess.IGNORE, None, None)],
)
async def test_more_than_fifty(excess: Excess, successes: int | None, failures: int | None) -> None:
    nodes = [f"c{number}" for number in range(51)]
    async with served(rules=HuaweiRules(excess=excess)) as cloud, device(cloud) as gw:
        gw.request(ADD, {"devices": [new(node) for node in nodes]})
        await gw.served()
        for event in gw.events:
            assert len(event["paras"]["successful_devices"]) == successes
            assert len(event["paras"]["failed_devices"]) == failures
        assert len(gw.events) == (successes is not None)
        gw.events.clear()
        assert failed(await gw.add(*[f"d{number}" for number in range(50)])) == []


async def test_a_gateway_has_so_many_children() -> None:
    async with served(limits=InstanceLimits(children=2)) as cloud, device(cloud) as gw:
        paras = await gw.add("c1", "c2", "c3")
        assert [one["node_id"] for one in paras["failed_devices"]] == ["c3"]
        assert (await gw.ask(DELETE, {"devices": [child("c1")]}))["failed_devices"] == []
        assert failed(await gw.add("c3")) == []


async def test_children_are_online_when_it_is_said(cloud: HuaweiCloud, gw: Gateway) -> None:
    added = await gw.add("c1", "c2")
    assert [one["status"] for one in added["successful_devices"]] == ["INACTIVE"] * 2
    paras = await gw.report({child("c1"): "ONLINE", child("c2"): "OFFLINE", "unknown": "ONLINE"})
    assert paras["successful_devices"] == [
        {"device_id": child("c1"), "status": "ONLINE"},
        {"device_id": child("c2"), "status": "OFFLINE"},
    ]
    assert failed(paras) == ["IOTDA.021104"]
    assert ledger_of(cloud, child("c1"))["status"] == "ONLINE"
    assert ledger_of(cloud, child("c2"))["status"] == "INACTIVE"
    assert failed(await gw.report({child("c1"): "ABNORMAL"})) == ["IOTDA.000006"]
    await gw.report({child("c1"): "OFFLINE"})
    assert ledger_of(cloud, child("c1"))["status"] == "OFFLINE"
    assert ledger_of(cloud, child("c1"))["status_reports"] == {"ONLINE": 1, "OFFLINE": 1}
    one(cloud).devices.freeze(child("c1"))
    assert len(failed(await gw.report({child("c1"): "ONLINE"}))) == 1


async def test_children_outlive_the_gateways_connection(cloud: HuaweiCloud) -> None:
    async with device(cloud) as gw:
        await gw.add("c1")
        await gw.report({child("c1"): "ONLINE"})
    await until(lambda: ledger_of(cloud)["status"] == "OFFLINE")
    assert ledger_of(cloud, child("c1"))["status"] == "ONLINE"


async def test_an_instance_takes_so_many_statuses_in_a_second() -> None:
    clock = Clock()
    async with served(rules=HuaweiRules(status_rate=2), clock=clock) as cloud, device(cloud) as gw:
        await gw.add("c1")
        reports = {child("c1"): "ONLINE", "unknown": "ONLINE", "no-one": "ONLINE"}
        assert failed(await gw.report(reports)) == ["IOTDA.021104", "IOTDA.021101"]
        clock.now += 1
        assert failed(await gw.report({child("c1"): "ONLINE"})) == []
        many = {f"unknown-{number}": "ONLINE" for number in range(101)}
        assert set(failed(await gw.report(many))) == {"IOTDA.000006"}


async def test_the_older_name_of_the_response() -> None:
    rules = HuaweiRules(old_status_event=True)
    async with served(rules=rules) as cloud, device(cloud) as gw:
        gw.request(events.STATUS, {"device_statuses": [{"device_id": "x", "status": "ONLINE"}]})
        received = await gw.receive()
        assert received["event_type"] == vector("status_response_old_docs_event_type")["event_type"]
        assert received["paras"]["successful_devices"] == []


async def test_an_event_without_an_id_is_given_one(gw: Gateway) -> None:
    for event_id in (None, ""):
        gw.request(ADD, {"devices": [new(f"c{event_id}")]}, event_id)
        assert len((await gw.receive())["event_id"]) == 36


SPOILED: list[dict[str, Any]] = [
    {"service_id": 5},
    {"event_type": None},
    {"paras": []},
    {"event_id": 5},
    {"event_id": "x" * 37},
    {"paras": {}},
    {"paras": {"devices": {}}},
    {"paras": {"devices": []}},
    {"paras": {"devices": ["c1"]}},
    {"paras": {"devices": [{"node_id": "c1"}]}},
    {"paras": {"devices": [{"node_id": 5, "product_id": "p"}]}},
    {"event_type": DELETE},
    {"event_type": events.STATUS},
    {"event_type": DELETE, "paras": {"devices": [5]}},
    {"event_type": events.STATUS, "paras": {"device_statuses": [{}]}},
    {"event_type": events.SYNC, "paras": {"version": "7"}},
    {"event_type": events.SYNC, "paras": {"version": True}},
]


def spoiled(changes: dict[str, Any]) -> bytes:
    """Return a request to add a child, with other fields."""
    (event,) = MESSAGES["up"]["add"]["payload"]["services"]
    return json.dumps({"services": [{**event, **changes}]}).encode()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        b"[" * 100_000,
        b'{"services":[]}',
        b'{"services":{}}',
        b'{"services":[5]}',
        *map(spoiled, SPOILED),
    ],
)
async def test_what_cannot_be_read_is_counted(cloud: HuaweiCloud, gw: Gateway, body: bytes) -> None:
    gw.publish(gw.up, body, qos=1)
    await gw.served()
    assert (gw.events, len(gw.acks)) == ([], 1)
    assert ledger_of(cloud)["malformed"] == 1


@given(st.binary(max_size=60))
def test_any_bytes_are_events_or_malformed(payload: bytes) -> None:
    try:
        assert events.read(payload)
    except MalformedEvent:
        return


async def test_each_event_of_a_message_is_taken(cloud: HuaweiCloud, gw: Gateway) -> None:
    (asked,) = MESSAGES["up"]["add"]["payload"]["services"]
    stranger = {"service_id": "$log", "event_type": "log_report", "paras": {}}
    dollarless = {"service_id": "sub_device_manager", "event_type": events.SYNC, "paras": {}}
    scan = {**asked, "event_type": "scan_result"}
    gw.publish(gw.up, {"services": [stranger, scan, asked, dollarless]})
    await gw.served()
    assert [one["event_type"] for one in gw.events] == ["add_sub_device_response", ADDED]
    assert ledger_of(cloud)["ignored"] == 2


async def test_a_gateway_is_notified_while_it_is_there(cloud: HuaweiCloud) -> None:
    async with device(cloud) as gw:
        adopt(cloud, "c1", "c2")
        received = [await gw.receive(), await gw.receive()]
        assert [one["event_type"] for one in received] == [ADDED] * 2
        assert [one["paras"]["version"] for one in received] == [1, 2]
    await until(lambda: ledger_of(cloud)["status"] == "OFFLINE")
    one(cloud).devices.delete(child("c1"))
    adopt(cloud, "c3")
    async with device(cloud) as gw:
        assert await gw.sync(version=4) == []
        missed = await gw.sync(version=2)
        assert [one["event_type"] for one in missed] == [DELETED, ADDED]
        assert [one["paras"]["version"] for one in missed] == [3, 4]
        assert missed[0]["paras"]["devices"] == [
            {"parent_device_id": GATEWAY, "node_id": "c1", "device_id": child("c1")}
        ]
        (everything,) = await gw.sync()
        assert [one["node_id"] for one in everything["paras"]["devices"]] == ["c2", "c3"]
        assert everything["paras"]["version"] == 4
        assert await gw.sync(version=99) == [everything]
    assert ledger_of(cloud)["undelivered"] == {ADDED: 1, DELETED: 1}
    assert ledger_of(cloud)["version"] == 4


async def test_both_gateways_are_notified_of_a_move(cloud: HuaweiCloud, gw: Gateway) -> None:
    other = one(cloud).devices.add(node_id="gw-2", product_id=GATEWAYS).device_id
    one(cloud).devices.reset_secret(other, SECRET)
    adopt(cloud, "c1")
    async with device(cloud, Hello(other, secret=SECRET)) as second:
        one(cloud).devices.change_gateway(child("c1"), other)
        assert (await gw.receive())["event_type"] == ADDED
        assert (await gw.receive())["event_type"] == DELETED
        assert (await second.receive())["paras"]["devices"][0]["parent_device_id"] == other
    assert ledger_of(cloud, child("c1"))["registrations"] == 1


@pytest.mark.parametrize("own", [False, True])
async def test_what_a_gateway_did_itself_is_a_change_too(own: bool) -> None:
    async with served(rules=HuaweiRules(own_changes=own)) as cloud, device(cloud) as gw:
        gw.request(ADD, {"devices": [new("c1")]})
        await gw.served()
        received = [one["event_type"] for one in gw.events]
        assert received == ([ADDED] if own else []) + ["add_sub_device_response"]
        gw.events.clear()
        (since,) = await gw.sync(version=0)
        assert (since["event_type"], since["paras"]["version"]) == (ADDED, 1)


async def test_a_long_synchronization_comes_in_parts() -> None:
    async with (
        served(rules=HuaweiRules(notified=2, nothing_new=True)) as cloud,
        device(cloud) as gw,
    ):
        (nothing,) = await gw.sync()
        assert nothing["paras"] == {"devices": [], "version": 0}
        await gw.add("c1", "c2", "c3", "c4", "c5")
        parts = await gw.sync()
        assert [len(one["paras"]["devices"]) for one in parts] == [2, 2, 1]
        assert [one["paras"]["version"] for one in parts] == [2, 4, 5]


def test_changes_that_are_forgotten() -> None:
    changes = ChildChanges(kept=2)
    for number in range(3):
        changes.note(("gw", f"n{number}", f"d{number}"), added=True)
    assert changes.later(0) is None
    assert changes.later(4) is None
    assert [one.version for one in changes.later(1) or ()] == [2, 3]
    assert (changes.of("d0"), changes.of("d2")) == (0, 3)
    changes.note(("gw", "n2", "d2"), added=False)
    assert [one.added for one in changes.later(2) or ()] == [False]


async def test_the_platform_answers_late_if_it_is_wished() -> None:
    async with served(rules=HuaweiRules(delay=0.05)) as cloud, device(cloud) as gw:
        gw.request(ADD, {"devices": [new("c1")]})
        await gw.served()
        assert gw.events == []
        assert (await gw.receive())["paras"]["failed_devices"] == []


@pytest.mark.parametrize(
    ("rules", "subscribed", "copies"),
    [
        (HuaweiRules(), False, 1),
        (HuaweiRules(), True, 1),
        (HuaweiRules(twice=True), False, 1),
        (HuaweiRules(twice=True), True, 2),
        (HuaweiRules(implicit=False), False, 0),
        (HuaweiRules(implicit=False), True, 1),
    ],
)
async def test_messages_without_a_subscription(
    rules: HuaweiRules, subscribed: bool, copies: int
) -> None:
    async with served(rules=rules) as cloud, device(cloud) as gw:
        if subscribed:
            assert await gw.subscribe([gw.down]) == [1]
        gw.request(ADD, {"devices": [new("c1")]})
        await gw.served()
        assert len(gw.events) == copies
        pushed = ledger_of(cloud)["pushed"] if copies else ledger_of(cloud)["undelivered"]
        assert pushed == {"add_sub_device_response": 1}


async def test_unsubscribed_is_implicit_again(cloud: HuaweiCloud, gw: Gateway) -> None:
    await gw.subscribe([gw.down])
    assert ledger_of(cloud)["connected"]
    await gw.add("c1")
    assert ledger_of(cloud)["subscriptions"] == [gw.down]
    await gw.unsubscribe([gw.down])
    await gw.add("c2")
    assert ledger_of(cloud)["subscriptions"] == []


async def test_properties_of_children_are_counted(cloud: HuaweiCloud, gw: Gateway) -> None:
    await gw.add("c1", "c2")
    topic = f"$oc/devices/{GATEWAY}/sys/gateway/sub_devices/properties/report"

    def report(*devices: str) -> None:
        services = [{"service_id": "env", "properties": {"temperature": 21.5}}]
        listed = [{"device_id": one, "services": services} for one in devices]
        gw.publish(topic, {"devices": listed})

    report(child("c1"), child("c2"))
    report(child("c1"))
    report(child("c1"), "unknown")
    report(*[child("c1")] * 101)
    gw.publish(topic, b"no properties")
    gw.publish(topic, {"devices": 5})
    await gw.served()
    assert ledger_of(cloud, child("c1"))["property_reports"] == 3
    assert ledger_of(cloud, child("c2"))["property_reports"] == 1
    assert ledger_of(cloud)["discards"] == {
        "not-a-child": 1, "too-many-children": 1, "malformed": 2,
    }  # fmt: skip


async def test_what_else_is_published(cloud: HuaweiCloud, gw: Gateway) -> None:
    system = f"$oc/devices/{GATEWAY}/sys"
    for topic in (
        f"{system}/properties/report", f"{system}/messages/up",
        f"{system}/commands/response/request_id=1", f"{system}/unheard/of",
        "$oc/devices/another/sys/events/up", "$SYS/x", f"{system}/events/down",
    ):  # fmt: skip
        gw.publish(topic, b"{}")
    await gw.served()
    assert ledger_of(cloud)["published"] == {
        "properties/report": 1, "messages/up": 1, "commands/response": 1,
    }  # fmt: skip
    assert ledger_of(cloud)["stray"] == 4


async def test_a_device_asks_for_the_time(cloud: HuaweiCloud, gw: Gateway) -> None:
    """api-iothub/iot_06_v5_3012."""
    paras = {"device_send_time": "1767323045000"}
    event = {"service_id": "$time_sync", "event_type": "time_sync_request", "paras": paras}
    gw.publish(gw.up, {"services": [event]})
    answer = await gw.receive()
    assert (answer["service_id"], answer["event_type"]) == ("$time_sync", "time_sync_response")
    now = int(cloud.platform.clock() * 1_000)
    assert answer["paras"] == paras | {"server_recv_time": now, "server_send_time": now}


async def test_messages_to_a_device(cloud: HuaweiCloud, gw: Gateway) -> None:
    topic = f"$oc/devices/{GATEWAY}/sys/commands/request_id=1"
    assert cloud.push("one", GATEWAY, topic, b"command")
    assert not cloud.push("one", "unknown", topic, b"command")
    await gw.served()
    assert gw.others == [(topic, b"command")]


async def test_many_children_are_added_in_time(cloud: HuaweiCloud, gw: Gateway) -> None:
    for start in range(0, 2000, 50):
        paras = await gw.add(*(f"c{number}" for number in range(start, start + 50)))
        assert len(paras["successful_devices"]) == 50
    parts = await gw.sync()
    assert [len(one["paras"]["devices"]) for one in parts] == [500] * 4
    assert len(ledger_of(cloud)["children"]) == 2000
