"""Devices and tags at the management interface, and what reaches a device that is connected."""

from __future__ import annotations

from typing import Any

import pytest

from gatewayd.simulator.huawei.platform.device import DeviceAuth, HuaweiAuthType
from gatewayd.testing.waiting import until
from tests.simulator.huawei.client import (
    GATEWAY,
    GATEWAYS,
    SECRET,
    SENSORS,
    Hello,
    certificate,
    child,
    device,
    fingerprint,
    greet,
    vouch,
)
from tests.simulator.huawei.rest import Rest

CREATED = "20260102T030405Z"


async def listed(rest: Rest, **query: object) -> list[str]:
    return [one["device_id"] for one in (await rest.get("/devices", limit=50, **query))["devices"]]


async def test_a_device_from_its_birth_to_its_end(rest: Rest) -> None:
    new = {
        "node_id": "th-1", "product_id": SENSORS, "device_name": "hall", "description": "north",
        "auth_info": {"auth_type": "SECRET", "secret": "12345678", "timeout": 60},
        "extension_info": {"floor": 3},
    }  # fmt: skip
    made = await rest.post("/devices", new)
    device_id = child("th-1")
    assert made == {
        "app_id": rest.instance.apps.default.app_id, "app_name": "DefaultApp",
        "device_id": device_id, "node_id": "th-1", "gateway_id": device_id, "device_name": "hall",
        "node_type": "GATEWAY", "description": "north", "fw_version": None, "sw_version": None,
        "product_id": SENSORS, "product_name": "product", "status": "INACTIVE",
        "create_time": CREATED, "connection_status_update_time": None, "active_time": None,
        "tags": [], "extension_info": {"floor": 3},
        "auth_info": {
            "auth_type": "SECRET", "secret": "12345678", "secondary_secret": None,
            "fingerprint": None, "secondary_fingerprint": None, "secure_access": True,
            "timeout": 60,
        },
    }  # fmt: skip
    assert await rest.get(f"/devices/{device_id}") == made
    changes = {"device_name": "cellar", "description": "south", "auth_info": {"timeout": 0}}
    changed = await rest.put(f"/devices/{device_id}", changes)
    assert (changed["device_name"], changed["description"]) == ("cellar", "south")
    assert changed["auth_info"]["timeout"] == 0
    assert changed["extension_info"] == {"floor": 3}
    await rest.delete(f"/devices/{device_id}")


@pytest.mark.parametrize(
    "changes",
    [
        {"node_id": None}, {"node_id": "a:b"}, {"product_id": 7}, {"auth_info": []},
        {"auth_info": {"auth_type": "PASSWORD"}}, {"auth_info": {"secure_access": "perhaps"}},
        {"auth_info": {"timeout": -1}}, {"auth_info": {"timeout": True}},
        {"auth_info": {"fingerprint": "abc"}}, {"extension_info": "text"},
    ],
)  # fmt: skip
async def test_invalid_devices(rest: Rest, changes: dict[str, object]) -> None:
    new = {"node_id": "th-1", "product_id": SENSORS} | changes
    status, said = await rest.ask("POST", "/devices", new)
    assert (status, said["error_code"]) == (400, "IOTDA.000006")
    assert await listed(rest, product_id=SENSORS) == []


async def test_a_device_twice_and_one_without_a_product(rest: Rest) -> None:
    again = {"node_id": "gw-0001", "product_id": GATEWAYS}
    status, said = await rest.ask("POST", "/devices", again)
    assert (status, said["error_code"]) == (400, "IOTDA.014031")
    status, said = await rest.ask("POST", "/devices", again | {"product_id": "none"})
    assert (status, said["error_code"]) == (404, "IOTDA.013901")


async def test_devices_are_found(rest: Rest) -> None:
    await rest.post("/devices", {"node_id": "a", "product_id": SENSORS, "gateway_id": GATEWAY})
    below = {"node_id": "b", "product_id": SENSORS, "gateway_id": child("a"), "device_name": "low"}
    await rest.post("/devices", below)
    assert await listed(rest) == [child("b"), child("a"), GATEWAY]
    assert await listed(rest, gateway_id=GATEWAY) == [child("a")]
    family = {"gateway_id": GATEWAY, "is_cascade_query": "true"}
    assert await listed(rest, **family) == [child("b"), child("a")]
    assert await listed(rest, **family, device_name="low") == [child("b")]
    assert await listed(rest, node_id="a") == [child("a")]
    assert await listed(rest, device_name="low") == [child("b")]
    assert await listed(rest, app_id="none") == []
    assert await listed(rest, end_time="20260102T030404Z") == []
    assert len(await listed(rest, start_time=CREATED, end_time="20260102T030406Z")) == 3
    status, said = await rest.ask("GET", "/devices", start_time="yesterday")
    assert (status, said["error_code"]) == (400, "IOTDA.000006")


async def test_a_child_is_moved(rest: Rest) -> None:
    other = (await rest.post("/devices", {"node_id": "gw-2", "product_id": GATEWAYS}))["device_id"]
    await rest.post("/devices", {"node_id": "a", "product_id": SENSORS, "gateway_id": GATEWAY})
    path = f"/devices/{child('a')}/change-gateway"
    async with device(rest.cloud) as gateway:
        await gateway.subscribe([gateway.down])
        assert await rest.post(path, {"gateway_id": other}, status=204) is None
        assert (await gateway.receive())["event_type"] == "delete_sub_device_notify"
    assert (await rest.get(f"/devices/{child('a')}"))["gateway_id"] == other
    status, said = await rest.ask("POST", path, {})
    assert (status, said["error_code"]) == (400, "IOTDA.000006")


async def test_a_gateway_learns_of_its_children(rest: Rest) -> None:
    async with device(rest.cloud) as gateway:
        await gateway.subscribe([gateway.down])
        await rest.post("/devices", {"node_id": "a", "product_id": SENSORS, "gateway_id": GATEWAY})
        assert (await gateway.receive())["event_type"] == "add_sub_device_notify"
        await rest.delete(f"/devices/{child('a')}")
        assert (await gateway.receive())["event_type"] == "delete_sub_device_notify"


async def test_freezing_shuts_out(rest: Rest) -> None:
    async with device(rest.cloud) as gateway:
        seen = await rest.get(f"/devices/{GATEWAY}")
        assert seen["status"] == "ONLINE"
        assert seen["active_time"] == "2026-01-02T03:04:05.000Z"
        assert await rest.post(f"/devices/{GATEWAY}/freeze", status=204) is None
        assert await gateway.wire.reader.read() == b""
    assert (await rest.get(f"/devices/{GATEWAY}"))["status"] == "FROZEN"
    hello = Hello(secret=SECRET)
    assert await greet(rest.cloud, hello) != 0
    assert await rest.post(f"/devices/{GATEWAY}/unfreeze", status=204) is None
    assert await greet(rest.cloud, hello) == 0
    for action in ("freeze", "unfreeze"):
        assert (await rest.ask("POST", f"/devices/unknown/{action}"))[0] == 404


async def test_a_secret_is_reset(rest: Rest) -> None:
    path = f"/devices/{GATEWAY}/action"
    ledger_of = await rest.post(path, {"secret": "another-1"}, status=200, action_id="resetSecret")
    assert ledger_of == {"device_id": GATEWAY, "secret": "another-1", "secret_type": "PRIMARY"}
    assert await greet(rest.cloud, Hello(secret=SECRET)) != 0
    async with device(rest.cloud, Hello(secret="another-1")) as gateway:
        body: dict[str, Any] = {"force_disconnect": True, "secret_type": "SECONDARY"}
        made = await rest.post(path, body, status=200, action_id="resetSecret")
        assert await gateway.wire.reader.read() == b""
    for secret in ("another-1", made["secret"]):
        assert await greet(rest.cloud, Hello(secret=secret)) == 0
    for query in (dict[str, Any](), {"action_id": "reboot"}):
        assert (await rest.ask("POST", path, {}, **query))[0] == 400


async def test_a_fingerprint_is_reset(rest: Rest) -> None:
    vouch(rest.instance)
    auth = DeviceAuth(HuaweiAuthType.CERTIFICATES)
    added = rest.instance.devices.add(node_id="gw-2", product_id=GATEWAYS, auth=auth)
    hello, first, second = Hello(added.device_id), certificate("gw-2"), certificate("gw-2")
    assert await greet(rest.cloud, hello, first) == 0
    assert await greet(rest.cloud, hello, second) != 0
    path = f"/devices/{added.device_id}/reset-fingerprint"
    body = {"fingerprint": fingerprint(second), "fingerprint_type": "SECONDARY"}
    assert await rest.post(path, body, status=200) == {"device_id": added.device_id} | body
    assert await greet(rest.cloud, hello, second) == 0
    shown = (await rest.get(f"/devices/{added.device_id}"))["auth_info"]
    assert shown["fingerprint"] == fingerprint(first)
    assert shown["secondary_fingerprint"] == fingerprint(second)
    emptied = await rest.post(path, {}, status=200)
    assert (emptied["fingerprint"], emptied["fingerprint_type"]) == (None, "PRIMARY")
    assert await greet(rest.cloud, hello, third := certificate("gw-2")) == 0
    shown = (await rest.get(f"/devices/{added.device_id}"))["auth_info"]
    assert shown["fingerprint"] == fingerprint(third)
    assert (await rest.ask("POST", path, {"fingerprint_type": "THIRD"}))[0] == 400


async def test_tags(rest: Rest) -> None:
    bound = {"resource_type": "device", "resource_id": GATEWAY}
    tags = [{"tag_key": "site", "tag_value": "mill"}, {"tag_key": "hall", "tag_value": "3"}]
    assert await rest.post("/tags/bind-resource", bound | {"tags": tags}, status=200) is None
    assert (await rest.get(f"/devices/{GATEWAY}"))["tags"] == tags
    wanted = {"resource_type": "device", "tags": [{"tag_key": "hall", "tag_value": "3"}]}
    found = await rest.post("/tags/query-resources", wanted, status=200)
    assert (found["resources"], found["page"]["count"]) == ([{"resource_id": GATEWAY}], 1)
    keys = {"tag_keys": ["hall"]}
    assert await rest.post("/tags/unbind-resource", bound | keys, status=200) is None
    assert (await rest.get(f"/devices/{GATEWAY}"))["tags"] == tags[:1]
    found = await rest.post("/tags/query-resources", wanted, status=200)
    assert found["resources"] == []
    bodies: list[dict[str, Any]] = [
        bound | {"resource_type": "product", "tags": []}, bound, {"tags": []},
    ]  # fmt: skip
    for body in bodies:
        assert (await rest.ask("POST", "/tags/bind-resource", body))[0] == 400


async def test_a_deleted_device_is_disconnected(rest: Rest) -> None:
    async with device(rest.cloud) as gateway:
        await rest.delete(f"/devices/{GATEWAY}")
        assert await gateway.wire.reader.read() == b""
    await until(lambda: rest.instance.devices.lookup(GATEWAY) is None)
