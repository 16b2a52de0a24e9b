"""The owner commands children of gatewayd by the vendor's management SDK, over TLS.

What gatewayd responds has the form of what the vendor's device SDK does (huawei_device_sdk.json).
"""

from __future__ import annotations

from typing import Any

import pytest

from gatewayd.cloud.huawei.provider import Huawei
from gatewayd.device.command import (
    REFUSALS,
    ChildCommand,
    CommandAnswer,
    CommandKind,
    CommandOutcome,
)
from gatewayd.testing.waiting import until
from tests.cloud.commanded import ObedientChild
from tests.interop.huawei_device_peer import RECORDED
from tests.interop.huawei_owner import refusal
from tests.interop.test_huawei_exchange import DIM
from tests.interop.test_huawei_messages import C1, CHILD, GATEWAY, OWN, log_in, provider, sdk
from tests.interop.vendor_process import Sdk

__all__ = ["provider", "sdk"]  # fixtures

RESULTS: dict[CommandKind, dict[str, object]] = {
    CommandKind.SERVICE: {"content": {"to": 5}},
    CommandKind.SET: {},
    CommandKind.GET: {"level": 7},
}
WANTED = {"services": [{"service_id": "lamp", "properties": {"level": 7}}]}


def done(command: ChildCommand) -> CommandAnswer:
    return CommandAnswer(CommandOutcome.DONE, result=RESULTS[command.kind])


async def demand(sdk: Sdk, device_id: str) -> list[Any]:
    """Send a command, set properties and read them; return the responses, as the owner has them."""
    one = {"device_id": device_id}
    return [
        (await sdk.do("create_command", **one, body=DIM))["response"],
        (await sdk.do("update_properties", **one, body=WANTED))["response"],
        (await sdk.do("list_properties", **one, service_id="lamp"))["response"],
    ]


@pytest.mark.parametrize("device_id", [CHILD, GATEWAY])
async def test_the_owner_commands_a_child_and_its_gateway(
    sdk: Sdk, provider: Huawei, device_id: str
) -> None:
    gateway, child = await log_in(provider, OWN), await log_in(provider, C1)
    obedient = ObedientChild(child if device_id == CHILD else gateway, done)
    received = obedient.received
    responses = await demand(sdk, device_id)
    theirs = RECORDED["responses"]
    assert responses[0] == theirs["commands"]
    assert responses[1].keys() == theirs["properties/set"].keys()
    assert responses[1]["result_code"] == theirs["properties/set"]["result_code"]
    (service,) = theirs["properties/get"]["services"]
    assert responses[2]["services"] == [
        {name: service[name] for name in ("service_id", "properties")}
    ]
    said = await sdk.do(
        "create_message", device_id=device_id, body={"message_id": "m2", "message": "now"}
    )
    assert said["result"]["status"] == "DELIVERED"
    await until(lambda: len(received) == 4)
    assert [command.name for command in received[:3]] == ["dim", "", "lamp"]
    assert [dict(command.arguments) for command in received[:2]] == [{"to": 5}, {"level": 7}]
    assert received[3].identifier == "m2"
    assert await obedient.acknowledged() == [True] * 3
    await child.close()
    await gateway.close()


@pytest.mark.parametrize("outcome", REFUSALS)
async def test_the_owner_reads_why_a_child_did_not_obey(
    sdk: Sdk, provider: Huawei, outcome: CommandOutcome
) -> None:
    gateway, child = await log_in(provider, OWN), await log_in(provider, C1)
    ObedientChild(child, lambda _: CommandAnswer(outcome, REFUSALS[outcome]))
    command, change, read = await demand(sdk, CHILD)
    assert (command["result_code"], command["paras"]) == (1, {"error": REFUSALS[outcome]})
    assert (change["result_code"], change["result_desc"]) == (1, REFUSALS[outcome])
    assert (read["result_code"], read["result_desc"]) == (1, REFUSALS[outcome])
    await child.close()
    assert await refusal(sdk, "create_command", device_id=CHILD, body=DIM) == (403, "IOTDA.014016")
    await gateway.close()
