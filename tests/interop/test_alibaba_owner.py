"""The owner commands devices by the vendor's own SDK, over TLS, and reads what they answer."""

from __future__ import annotations

import base64
import contextlib
import json
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gatewayd.cloud.alibaba.provider import Alibaba
from gatewayd.cloud.credentials import read_secret
from gatewayd.device.command import (
    REFUSALS,
    ChildCommand,
    CommandAnswer,
    CommandKind,
    CommandOutcome,
)
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret
from gatewayd.simulator.alibaba.account import PRODUCT as PLANT_PRODUCT
from gatewayd.simulator.alibaba.cloud import AlibabaCloud
from gatewayd.simulator.alibaba.open_api.management import OpenApiOptions
from gatewayd.simulator.alibaba.open_api.server import OpenApi
from gatewayd.testing.waiting import until
from tests.cloud.alibaba.direct import furnish, settings_for
from tests.cloud.commanded import ObedientChild
from tests.commands.children import V5
from tests.integration.test_commands import commanded
from tests.interop.test_linkkit import DIRECT
from tests.interop.test_linkkit_commands import cloud
from tests.interop.vendor_process import Sdk, vendor
from tests.simulator.alibaba.client import PRODUCT
from tests.support.simulated_ca import AUTHORITY

__all__ = ["cloud"]  # a fixture

KEYS = {"access_key": "LTAIexample", "secret_key": "s3cr3t-of+the/owner="}
REGION = "cn-shanghai"
NAMED = {"ProductKey": PRODUCT, "DeviceName": DIRECT}
HELLO = base64.b64encode(b"hello").decode()


@contextlib.asynccontextmanager
async def owner(cloud: AlibabaCloud, folder: Path, **changed: str) -> AsyncIterator[Sdk]:
    """The owner, with the keys of the account."""
    (folder / "owner-ca.pem").write_text(AUTHORITY.pem)
    served = OpenApi(
        cloud,
        authority=AUTHORITY,
        credentials={KEYS["access_key"]: KEYS["secret_key"]},
        options=OpenApiOptions(REGION),
        wall=time.time,
    )
    async with served:
        facts = {"host": "localhost", "port": served.port, "region": REGION}
        facts |= {"ca_file": str(folder / "owner-ca.pem")} | KEYS | changed
        async with vendor("alibaba_owner_peer.py", facts) as sdk:
            yield sdk


@contextlib.asynccontextmanager
async def child(cloud: AlibabaCloud, folder: Path, answer: Any) -> AsyncIterator[ObedientChild]:
    """A child of gatewayd that is online, and answers."""
    settings = settings_for(furnish(folder), cloud.port)
    provider = Alibaba("cloud", settings, partial(read_secret, None))
    secret = Secret(cloud.show_secret(PRODUCT, DIRECT).encode())
    session = await provider.connect(CloudName("cloud", PRODUCT, DIRECT), secret)
    yield ObedientChild(session, answer)
    await session.close()
    await provider.close()


def obey(command: ChildCommand) -> CommandAnswer:
    raw = b"world" if command.kind is CommandKind.REQUEST else None
    result: dict[str, object] = {"Value": 1} if command.kind is CommandKind.SERVICE else {}
    return CommandAnswer(CommandOutcome.DONE, result=result, raw=raw)


async def test_the_owner_commands_a_child(cloud: AlibabaCloud, tmp_path: Path) -> None:
    async with owner(cloud, tmp_path) as sdk, child(cloud, tmp_path, obey) as one:
        call = partial(sdk.do, "call", **NAMED)
        measured = await call(action="InvokeThingService", Identifier="Measure", Args="{}")
        assert measured["Success"]
        assert json.loads(measured["Data"]["Result"]) == {"Value": 1}
        restarted = await call(action="InvokeThingService", Identifier="Restart", Args="{}")
        assert (restarted["Success"], restarted["Data"]["Result"]) == (True, "")
        assert (await call(action="SetDeviceProperty", Items='{"Interval": 5}'))["Success"]
        for topic in ({}, {"Topic": f"/{PRODUCT}/{DIRECT}/user/get"}):
            asked = await call(action="RRpc", RequestBase64Byte=HELLO, Timeout=8000, **topic)
            assert (asked["RrpcCode"], asked["PayloadBase64Byte"]) == ("SUCCESS", "d29ybGQ=")
        get = f"/{PRODUCT}/{DIRECT}/user/get"
        published = await sdk.do(
            "call", action="Pub", ProductKey=PRODUCT, TopicFullName=get, MessageContent=HELLO
        )
        assert published["Success"]
        await until(lambda: len(one.received) == 6)
        assert [command.kind for command in one.received] == [
            CommandKind.SERVICE, CommandKind.SERVICE, CommandKind.SET,
            CommandKind.REQUEST, CommandKind.REQUEST, CommandKind.MESSAGE,
        ]  # fmt: skip
        assert await one.acknowledged() == [True] * 5


async def test_the_owner_reads_why_a_child_did_not_obey(
    cloud: AlibabaCloud, tmp_path: Path
) -> None:
    coming = [CommandAnswer(outcome, text) for outcome, text in REFUSALS.items()]
    answers = iter([*coming, coming[0]])
    async with owner(cloud, tmp_path) as sdk, child(cloud, tmp_path, lambda _: next(answers)):
        call = partial(sdk.do, "call", **NAMED)
        for text in REFUSALS.values():
            measured = await call(action="InvokeThingService", Identifier="Measure", Args="{}")
            assert not measured["Success"]
            assert measured["Code"] == "iot.device.InvokeThingServiceFailed"
            assert measured["ErrorMessage"] == text
        asked = await call(action="RRpc", RequestBase64Byte=HELLO, Timeout=1000)
        assert asked["RrpcCode"] == "TIMEOUT", "the cloud knows no negative answer"


async def test_what_the_cloud_says_itself(cloud: AlibabaCloud, tmp_path: Path) -> None:
    async with owner(cloud, tmp_path) as sdk:
        call = partial(sdk.do, "call", **NAMED)
        away = await call(action="InvokeThingService", Identifier="Measure", Args="{}")
        assert away["Code"] == "iot.messagebroker.OFFLINE"
        gone = await call(action="RRpc", RequestBase64Byte=HELLO, Timeout=1000)
        assert gone["RrpcCode"] == "OFFLINE"
        for code, wrong in (
            ("iot.device.NotExistedDevice", {"DeviceName": "unknown-1"}),
            ("iot.messagebroker.InvalidTimeoutValue", {"Timeout": 999}),
            ("iot.messagebroker.MessageContentIsNotBase64Encode", {"RequestBase64Byte": "?"}),
            ("iot.messagebroker.InvalidFormattedTopicName", {"Topic": "/a/b/user/get"}),
        ):
            given = {"RequestBase64Byte": HELLO, "Timeout": 1000, **NAMED, **wrong}
            assert (await sdk.do("call", action="RRpc", **given))["Code"] == code
        refused = await sdk.answer("call", action="QueryDevice", ProductKey=PRODUCT)
        assert refused == {"error": "InvalidAction.NotFound"}


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"secret_key": "another"}, "InvalidAccessKeySecret"),
        ({"access_key": "another"}, "InvalidAccessKeyId.NotFound"),
    ],
)
async def test_wrong_keys(
    cloud: AlibabaCloud, tmp_path: Path, changed: dict[str, str], code: str
) -> None:
    """Of a wrong secret the SDK knows by the text that was signed, which is its own."""
    async with owner(cloud, tmp_path, **changed) as sdk:
        refused = await sdk.answer("call", action="SetDeviceProperty", **NAMED, Items="{}")
        assert refused == {"error": code}


@pytest.mark.integration
async def test_the_owner_commands_a_device_of_the_lan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the vendor's SDK by gatewayd and its broker to a program of the child, and back."""
    async with commanded(tmp_path, monkeypatch, "alibaba", "") as one:
        facts = json.loads((tmp_path / "open-api.json").read_text()) | {
            "host": "127.0.0.1", "port": one.site.plant["open_api"],
            "region": one.site.plant["region"], "ca_file": str(tmp_path / "ca.pem"),
        }  # fmt: skip
        named = {"ProductKey": PLANT_PRODUCT, "DeviceName": one.serial}
        measure = {"action": "InvokeThingService", "Identifier": "Measure", "Args": "{}"} | named
        async with vendor("alibaba_owner_peer.py", facts) as sdk:
            away = await sdk.do("call", **measure)
            assert away["ErrorMessage"] == REFUSALS[CommandOutcome.NO_LISTENER]
            async with one.program(one.asked.reply, V5) as program:
                there = await sdk.do("call", **measure)
                assert json.loads(there["Data"]["Result"]) == {"Value": 1}
                assert len(program.received) == 1
        assert await one.last(2) == ["no-listener", "done"]
