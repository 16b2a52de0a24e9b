"""The owner commands children of gatewayd by the vendor's management SDK, over TLS.

What gatewayd responds has the form of what the vendor's device SDK does (huawei_device_sdk.json).
"""

from __future__ import annotations

import json
from pathlib import Path
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
from gatewayd.simulator.huawei.account import device_id, home
from gatewayd.testing.waiting import until
from tests.cloud.commanded import ObedientChild
from tests.commands.children import V5
from tests.integration.test_commands import commanded
from tests.interop.huawei_device_peer import RECORDED
from tests.interop.huawei_owner import refusal
from tests.interop.test_huawei_exchange import DIM
from tests.interop.test_huawei_messages import C1, CHILD, GATEWAY, OWN, log_in, provider, sdk
from tests.interop.vendor_process import Sdk, vendor

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


async def test_the_owner_reads_why_a_child_did_not_obey(sdk: Sdk, provider: Huawei) -> None:
    gateway, child = await log_in(provider, OWN), await log_in(provider, C1)
    for outcome, text in REFUSALS.items():
        answer = CommandAnswer(outcome, text)
        ObedientChild(child, lambda _, answer=answer: answer)  # type: ignore[misc]  # bound early
        command, change, read = await demand(sdk, CHILD)
        assert (command["result_code"], command["paras"]) == (1, {"error": text})
        assert (change["result_code"], change["result_desc"]) == (1, text)
        assert (read["result_code"], read["result_desc"]) == (1, text)
    await child.close()
    assert await refusal(sdk, "create_command", device_id=CHILD, body=DIM) == (403, "IOTDA.014016")
    await gateway.close()


@pytest.mark.integration
async def test_the_owner_commands_a_device_of_the_lan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the vendor's SDK by gatewayd and its broker to a program of the child, and back."""
    async with commanded(tmp_path, monkeypatch, "huawei", "sub-device") as one:
        keys = json.loads((tmp_path / "management.json").read_text())
        host = one.site.plant["hosts"][home(one.serial)]
        facts = {
            "host": host.replace("iotda-device", "iotda-app"), "region": "cn-north-4",
            "port": one.site.plant["management"], "project": "a project",
            "ca_file": str(tmp_path / "ca.pem"),
        }  # fmt: skip
        command = {"service_id": "climate", "command_name": "identify", "paras": {}}
        child = {"device_id": device_id(one.serial)}
        async with vendor("huawei_peer.py", facts | keys) as owner:
            away = await owner.do("create_command", **child, body=command)
            assert away["response"]["paras"] == {"error": REFUSALS[CommandOutcome.NO_LISTENER]}
            async with one.program(one.asked.reply, V5) as program:
                there = await owner.do("create_command", **child, body=command)
                assert there["response"] == one.asked.done
                read = await owner.do("list_properties", **child, service_id="climate")
                assert read["response"]["result_desc"] == REFUSALS[CommandOutcome.NOT_ALLOWED]
                assert len(program.received) == 1
        assert await one.last(3) == ["no-listener", "done", "not-allowed"]
