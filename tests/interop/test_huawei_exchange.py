"""What devices and the owner exchange: the vendor's management SDK on one side, over TLS.

On the other side is a device, or a gateway with its child, that does what the vendor's device SDK
does (huawei_device_sdk.json).
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.interop.huawei_owner import LAMP_SECRET, PRODUCT, Served, create_lamp, refusal
from tests.interop.vendor_process import Sdk, vendor

GATEWAY, CHILD = f"{PRODUCT}_gateway-1", f"{PRODUCT}_c1"
DIM = {"service_id": "lamp", "command_name": "dim", "paras": {"to": 5}}


@pytest.fixture
async def sdk(served: Served) -> AsyncIterator[Sdk]:
    """The owner, whose SDK has created the product and the gateway."""
    async with served.sdk() as sdk:
        await create_lamp(sdk)
        yield sdk


@contextlib.asynccontextmanager
async def device(served: Served, secret: str = LAMP_SECRET) -> AsyncIterator[Sdk]:
    host = served.cloud.platform.instances["one"].domain
    facts = {"host": host, "port": served.cloud.port, "ca_file": served.facts["ca_file"]}
    async with vendor("huawei_device_peer.py", facts) as peer:
        assert await peer.do("connect", device=GATEWAY, secret=secret) == 0
        yield peer


async def shadow(sdk: Sdk, device_id: str) -> dict[str, Any]:
    """Return what a device has reported of its lamp."""
    (service,) = (await sdk.do("show_device_shadow", device_id=device_id))["shadow"]
    assert service["service_id"] == "lamp"
    reported: dict[str, Any] = service["reported"]["properties"]
    return reported


async def request(peer: Sdk, use: str) -> Any:
    """Return the next request of the platform, which the device has responded to."""
    topic, body = await peer.do("wait")
    assert topic.startswith(f"{use}/request_id=")
    return body


async def obey(sdk: Sdk, peer: Sdk, device_id: str) -> None:
    """Send a command, set properties and ask for them: all of it arrives, and is responded to."""
    one = {"device_id": device_id}
    said = await sdk.do("create_command", **one, body=DIM)
    assert said["response"]["paras"] == {"content": {"to": 5}}
    assert await request(peer, "commands") == {"object_device_id": device_id, **DIM}
    wanted = {"services": [{"service_id": "lamp", "properties": {"level": 7}}]}
    said = await sdk.do("update_properties", **one, body=wanted)
    assert said["response"] == {"result_code": 0, "result_desc": "Success"}
    assert await request(peer, "properties/set") == {"object_device_id": device_id, **wanted}
    said = await sdk.do("list_properties", **one, service_id="lamp")
    assert said["response"]["services"][0]["properties"] == {"level": 7}
    assert (await request(peer, "properties/get"))["object_device_id"] == device_id
    said = await sdk.do("create_message", **one, body={"message_id": "m2", "message": "now"})
    assert said["result"]["status"] == "DELIVERED"
    topic, body = await peer.do("wait")
    assert topic == "messages/down"
    assert (body["object_device_id"], body["content"]) == (device_id, "now")


async def test_a_device_reports_and_obeys(served: Served, sdk: Sdk) -> None:
    one = {"device_id": GATEWAY}
    assert await refusal(sdk, "create_command", **one, body=DIM) == (403, "IOTDA.014016")
    pending = await sdk.do("create_message", **one, body={"message_id": "m1", "message": "early"})
    assert pending["result"]["status"] == "PENDING"
    async with device(served) as peer:
        topic, body = await peer.do("wait")
        assert (topic, body["content"]) == ("messages/down", "early")
        assert await peer.do("play", part="device") == 4
        topic, body = await peer.do("wait")
        assert topic == "shadow/get/response/request_id=1234"
        assert body["shadow"][0]["reported"]["properties"] == {"level": 6, "lit": True}
        topic, body = await peer.do("wait")
        assert body["services"][0]["event_type"] == "time_sync_response"
        assert await shadow(sdk, GATEWAY) == {"level": 6, "lit": True}
        await obey(sdk, peer, GATEWAY)
        listed = (await sdk.do("list_device_messages", **one))["messages"]
        assert {each["message_id"]: each["status"] for each in listed} == {
            "m1": "DELIVERED", "m2": "DELIVERED",
        }  # fmt: skip
        assert (await sdk.do("show_device_message", **one, message_id="m1"))["message"] == "early"


async def test_a_child_reports_and_obeys_through_its_gateway(served: Served, sdk: Sdk) -> None:
    async with device(served) as peer:
        assert await peer.do("play", part="gateway", product=PRODUCT) == 5
        kinds = [(await peer.do("wait"))[1]["services"][0]["event_type"] for _ in range(3)]
        assert kinds == [
            "add_sub_device_response", "sub_device_update_status_response", "add_sub_device_notify",
        ]  # fmt: skip
        assert (await sdk.do("show_device", device_id=CHILD))["status"] == "ONLINE"
        assert await shadow(sdk, CHILD) == {"level": 5}
        (message,) = served.cloud.received("one", CHILD)
        assert b"from child" in message
        await obey(sdk, peer, CHILD)
        assert await peer.do("play", part="gateway_at_the_end", product=PRODUCT) == 1
        assert await refusal(sdk, "show_device", device_id=CHILD) == (404, "IOTDA.014000")


async def test_desired_properties_are_sent(served: Served, sdk: Sdk) -> None:
    one, desired = {"device_id": GATEWAY}, {"service_id": "lamp", "desired": {"level": 6}}
    changed = await sdk.do(
        "update_device_shadow_desired_data", **one, body={"shadow": [desired | {"version": 0}]}
    )
    assert changed["shadow"][0]["desired"]["properties"] == {"level": 6}
    async with device(served) as peer:
        body = await request(peer, "properties/set")
        assert body["services"] == [{"service_id": "lamp", "properties": {"level": 6}}]
        await peer.do("play", part="device")
    found = (await sdk.do("show_device_shadow", **one))["shadow"][0]
    assert found["reported"]["properties"]["level"] == found["desired"]["properties"]["level"] == 6


async def test_what_does_not_fit_the_model(served: Served, sdk: Sdk) -> None:
    """A report is discarded and nothing is said; what the owner sends is refused."""
    one = {"device_id": GATEWAY}
    await sdk.do("update_product", product_id=PRODUCT, body={"service_capabilities": [
        {"service_id": "heater", "service_type": "heater", "properties": []},
    ]})  # fmt: skip
    async with device(served) as peer:
        assert await peer.do("play", part="device") == 4  # every message is acknowledged
        assert (await sdk.do("show_device_shadow", **one))["shadow"] == []
        assert await refusal(sdk, "create_command", **one, body=DIM) == (400, "IOTDA.000006")
        wanted = {"services": [{"service_id": "lamp", "properties": {"level": 7}}]}
        assert (await refusal(sdk, "update_properties", **one, body=wanted))[0] == 400
    truth: Any = served.cloud.truth()
    ledger = truth["instances"]["one"]["devices"][GATEWAY]
    assert ledger["last_discard"] == "unknown-service: lamp"
