"""The account of a plant: what its operator can do by the control socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gatewayd.simulator.account import LOOPBACK, AccountOptions
from gatewayd.simulator.huawei.account import (
    CLIMATE,
    GATEWAY,
    GATEWAYS,
    PRODUCT,
    SimulatedHuaweiAccount,
    device_id,
)
from gatewayd.testing.waiting import until
from tests.simulator.huawei.client import Gateway, Hello, showing
from tests.simulator.wire import wire
from tests.support.simulated_ca import AUTHORITY, NOW

CHILD = "TH20-000001"
"""A child of the instance "west", as its last digit is odd."""
OWN = f"{GATEWAYS}_{GATEWAY}"


@pytest.fixture
async def account() -> AsyncIterator[SimulatedHuaweiAccount]:
    options = AccountOptions((CHILD,), "direct", LOOPBACK, "good", AUTHORITY, NOW, 5)
    async with SimulatedHuaweiAccount(options) as account:
        yield account


@pytest.fixture
async def gw(account: SimulatedHuaweiAccount) -> AsyncIterator[Gateway]:
    """The gateway of "west", with the child."""
    facts: Any = account.facts()
    hello = Hello(OWN, secret=account._secrets["west"])
    host = facts["hosts"]["west"]
    async with wire(facts["port"], showing(None), hello.packet, host) as link:
        assert await link.code() == 0
        one = Gateway(link, OWN)
        await one.ask(
            "add_sub_device_request", {"devices": [{"node_id": CHILD, "product_id": PRODUCT}]}
        )
        await one.report({device_id(CHILD): "ONLINE"})
        yield one


async def do(account: SimulatedHuaweiAccount, verb: str, **request: object) -> Any:
    return await account.verbs[verb]({"child": CHILD, **request})


async def answered(gw: Gateway, use: str, response: object) -> Any:
    """Respond to the next request of the platform; return its body."""
    topic, payload = await gw.other()
    request_id = topic.partition("request_id=")[2]
    gw.publish(f"$oc/devices/{OWN}/sys/{use}/response/request_id={request_id}", response)
    return json.loads(payload)


async def test_commands_and_properties(account: SimulatedHuaweiAccount, gw: Gateway) -> None:
    asking = asyncio.create_task(do(account, "command", service="climate", name="identify"))
    body = await answered(gw, "commands", {"result_code": 0})
    assert (body["object_device_id"], body["command_name"]) == (device_id(CHILD), "identify")
    assert await asking == {"result_code": 0}
    asking = asyncio.create_task(do(account, "set", service="climate", properties={"interval": 5}))
    body = await answered(gw, "properties/set", {"result_code": 0})
    assert body["services"] == [{"service_id": "climate", "properties": {"interval": 5}}]
    assert await asking == {"result_code": 0}
    await gw.report({device_id(CHILD): "OFFLINE"})
    with pytest.raises(ValueError, match=r"IOTDA\.014016"):
        await do(account, "command", service="climate", name="identify")


async def test_messages_both_ways(account: SimulatedHuaweiAccount, gw: Gateway) -> None:
    await do(account, "send", message="hello")
    _, payload = await gw.other()
    assert json.loads(payload)["content"] == "hello"
    up = {"object_device_id": device_id(CHILD), "content": "hello too"}
    gw.publish(f"$oc/devices/{OWN}/sys/messages/up", up)
    await gw.served()
    assert [json.loads(one) for one in await do(account, "received")] == [up]


async def test_a_reading_is_kept_or_not(account: SimulatedHuaweiAccount, gw: Gateway) -> None:
    assert await do(account, "report") == ""
    assert await do(account, "shadow") == {"climate": {"temperature": 21.5, "humidity": 40}}
    properties: Any = CLIMATE["properties"]
    await do(account, "model", services=[{**CLIMATE, "properties": properties[:1]}])
    assert await do(account, "report") == "unknown-property: climate.humidity"
    await do(account, "model", services=[])
    assert await do(account, "report") == "unknown-service: climate"
    assert (await gw.sync())[0]["event_type"] == "add_sub_device_notify"


async def test_all_that_a_child_has_said(account: SimulatedHuaweiAccount, gw: Gateway) -> None:
    one = {"service_id": "climate", "event_type": "alarm", "paras": {"temperature": 80}}
    about = {"object_device_id": device_id(CHILD), "services": [one]}
    gw.publish(f"$oc/devices/{OWN}/sys/events/up", about)
    await gw.served()
    await do(account, "report")
    event, reading = await do(account, "arrivals")
    assert (event["kind"], event["about"], event["body"]) == (
        "event", "climate.alarm", {"temperature": 80},
    )  # fmt: skip
    assert (reading["kind"], reading["about"]) == ("properties", "climate")
    assert reading["body"] == {"temperature": 21.5, "humidity": 40}
    assert reading["event_time"] is None
    assert reading["when"] >= event["when"]


async def test_a_child_that_there_is_not(account: SimulatedHuaweiAccount) -> None:
    assert await do(account, "report") == "The device does not exist."
    for verb, more in (
        ("shadow", {}),
        ("received", {}),
        ("arrivals", {}),
        ("send", {"message": "x"}),
    ):
        with pytest.raises(KeyError):
            await do(account, verb, **more)


async def test_a_direct_childs_reading(account: SimulatedHuaweiAccount) -> None:
    instance = account._instances["west"]
    instance.devices.add(node_id=CHILD, product_id=PRODUCT)
    assert await do(account, "report") == ""
    await until(lambda: bool(instance.shadows.of(device_id(CHILD))))
