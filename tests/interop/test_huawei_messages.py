"""What children say through gatewayd, beside what the vendor's SDKs send and read.

The vendor's management SDK reads it, over TLS; and the same values, sent by the vendor's device SDK
(huawei_device_sdk.json), are the same messages.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gatewayd.cloud.credentials import read_secret
from gatewayd.cloud.huawei.provider import Huawei
from gatewayd.cloud.huawei.reporting.uploads import (
    ChildrenReport,
    ChildReport,
    Upload,
    of_device,
    of_sub_device,
)
from gatewayd.cloud.huawei.settings import HuaweiGateway, HuaweiSettings
from gatewayd.cloud.provider import Issued, MessageAccepted, Session, SupportsMessages
from gatewayd.device.message import Message
from gatewayd.device.record import CloudName
from gatewayd.testing.contracts.cloud import RecordingKeeper
from tests.cloud.stand_ins import Wishes
from tests.interop.huawei_device_peer import RECORDED
from tests.interop.huawei_owner import LAMP_SECRET, PRODUCT, Served, create_lamp
from tests.interop.vendor_process import Sdk
from tests.simulator.huawei.receiver import receiving

GATEWAY, CHILD = f"{PRODUCT}_gateway-1", f"{PRODUCT}_c1"
OWN = CloudName("cloud", PRODUCT, "gateway-1", "gateway")
C1 = CloudName("cloud", PRODUCT, "c1", "sub-device")
AT = 1_764_444_000_123


@pytest.fixture
async def sdk(served: Served) -> AsyncIterator[Sdk]:
    """The owner, whose SDK has created the product and the gateway."""
    async with served.sdk() as sdk:
        await create_lamp(sdk)
        yield sdk


@pytest.fixture
async def provider(served: Served, sdk: Sdk, tmp_path: Path) -> AsyncIterator[Huawei]:
    """gatewayd's, for the gateway that the SDK has created."""
    assert sdk
    secret = tmp_path / "secret"
    secret.touch(mode=0o600)
    secret.write_text(LAMP_SECRET)
    settings = HuaweiSettings(
        host=served.cloud.platform.instances["one"].domain,
        address="127.0.0.1",
        port=served.cloud.port,
        ca_file=Path(served.facts["ca_file"]),
        services={PRODUCT: "lamp"},
        gateway=HuaweiGateway(PRODUCT, "gateway-1", login="secret", secret_file=secret),
    )
    provider = Huawei("cloud", settings, partial(read_secret, None))
    provider.set_requests(Wishes())
    yield provider
    await provider.close()


async def log_in(provider: Huawei, name: CloudName) -> Session:
    kept = RecordingKeeper()
    assert await provider.register(name, kept.keep) == Issued()
    return await provider.connect(name, kept.secrets[0])


async def say(session: Session, payload: object, topic: str = "properties") -> None:
    assert isinstance(session, SupportsMessages)
    message = Message(topic, json.dumps(payload).encode(), AT)
    assert await session.publish(message) == MessageAccepted()


async def reported(sdk: Sdk, device_id: str) -> Any:
    (service,) = (await sdk.do("show_device_shadow", device_id=device_id))["shadow"]
    return service["service_id"], service["reported"]


async def test_the_owner_reads_what_a_child_and_its_gateway_say(
    served: Served, sdk: Sdk, provider: Huawei
) -> None:
    gateway = await log_in(provider, OWN)
    child = await log_in(provider, C1)
    assert (await sdk.do("show_device", device_id=CHILD))["status"] == "ONLINE"
    times = {"time": AT - 60_000}
    await say(child, {"level": 5, "lit": True})
    await say(child, {"lamp:level": 6} | times)
    await say(gateway, {"level": 7})
    assert await reported(sdk, CHILD) == (
        "lamp", {"properties": {"level": 6, "lit": True}, "event_time": "20251129T191900Z"},
    )  # fmt: skip
    assert (await reported(sdk, GATEWAY))[1]["properties"] == {"level": 7}
    arrivals = served.cloud.platform.instances["one"].arrivals.of(CHILD)
    assert [(one.body, one.event_time) for one in arrivals] == [
        ({"level": 5, "lit": True}, "2025-11-29T19:20:00.123Z"),
        ({"level": 6}, "2025-11-29T19:19:00.123Z"),
    ]
    await child.close()
    await gateway.close()


async def test_the_owners_application_gets_all_of_it_in_its_order(
    sdk: Sdk, provider: Huawei
) -> None:
    """The rule is made by the SDK; what is pushed has the times of the child."""
    async with receiving() as receiver:
        subject = {"resource": "device.property", "event": "report"}
        rule = await sdk.do("create_routing_rule", body={"rule_name": "all", "subject": subject})
        detail = {"http_forwarding": {"url": receiver.url}}
        action = {"channel": "HTTP_FORWARDING", "channel_detail": detail}
        await sdk.do("create_rule_action", body=action | {"rule_id": rule["rule_id"]})
        changed = await sdk.do(
            "update_routing_rule", rule_id=rule["rule_id"], body={"active": True}
        )
        assert changed["active"]
        gateway = await log_in(provider, OWN)
        child = await log_in(provider, C1)
        for level in range(10):
            await say(child, {"level": level, "time": AT + level})
        pushed = await receiver.received(10)
        services = [one["notify_data"]["body"]["services"][0] for one in pushed]
        assert [(one["properties"], one["event_time"]) for one in services] == [
            ({"level": level}, f"2025-11-29T19:20:00.{123 + level}Z") for level in range(10)
        ]
        assert {one["notify_data"]["header"]["device_id"] for one in pushed} == {CHILD}
        await child.close()
        await gateway.close()


def recorded(part: str, use: str) -> Any:
    """Return what the vendor's SDK sent, without the fields that it leaves empty."""
    (found,) = (one["payload"] for one in RECORDED[part] if one["use"] == use)
    text = json.dumps(found).replace("{device}", GATEWAY).replace("{product}", PRODUCT)
    return without_empty(json.loads(text))


def without_empty(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: without_empty(v) for k, v in value.items() if v not in (None, "")}
    return [without_empty(one) for one in value] if isinstance(value, list) else value


def neutral(payload: object, topic: str = "properties") -> Message:
    return Message(topic, json.dumps(payload).encode(), 0)


def test_a_device_reports_as_the_vendors_device_does() -> None:
    theirs = recorded("device", "properties/report")["services"][0]
    ours = of_device(neutral({"level": 5, "lit": True}), GATEWAY, "lamp")
    assert ours.use == "sys/properties/report"
    assert json.loads(ours.payload) == {"services": [theirs]}


def test_a_child_reports_as_behind_the_vendors_gateway() -> None:
    use = "gateway/sub_devices/properties/report"
    part = of_sub_device(neutral({"level": 5}), CHILD, "lamp")
    assert isinstance(part, ChildReport)
    report = ChildrenReport()
    report.add(part)
    assert report.upload().use == f"sys/{use}"
    assert json.loads(report.upload().payload) == recorded("gateway", use)
    message = of_sub_device(neutral({"content": "from child"}, "sys/messages/up"), CHILD, "")
    assert isinstance(message, Upload)
    assert json.loads(message.payload) == recorded("gateway", "messages/up")
