"""Commands of the simulated Alibaba cloud to the vendor's own SDK, and the same ones to gatewayd.

What both answer, and on which topics, is the same: so neither the simulator's commands nor
gatewayd's answers are of a form that only those two know.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gatewayd.cloud.alibaba.provider import Alibaba
from gatewayd.cloud.credentials import read_secret
from gatewayd.device.command import ChildCommand, CommandAnswer, CommandKind, CommandOutcome
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret
from gatewayd.simulator.alibaba.cloud import AlibabaCloud
from gatewayd.simulator.alibaba.thing import specification
from gatewayd.simulator.mqtt.link import MqttLink
from gatewayd.simulator.mqtt.packets import Publish
from gatewayd.testing.waiting import PATIENCE
from tests.cloud.alibaba.direct import furnish, settings_for
from tests.cloud.commanded import ObedientChild
from tests.interop.test_linkkit import CERTIFICATE, DIRECT, sdk
from tests.simulator.alibaba.client import PRODUCT
from tests.simulator.alibaba.gateway import site
from tests.simulator.alibaba.test_thing import TSL

DELAY = [{"identifier": "Delay", "dataType": {"type": "int"}}]
MODEL: dict[str, Any] = {
    **TSL,
    "services": [
        *TSL["services"],
        {"identifier": "Measure", "callType": "sync", "inputData": DELAY},
    ],
}
USER = f"/{PRODUCT}/{DIRECT}/user/get"
RESULTS: dict[str, dict[str, object]] = {"Restart": {"done": 1}, "Measure": {"done": 1}}


@pytest.fixture
async def cloud() -> AsyncIterator[AlibabaCloud]:
    models = {PRODUCT: specification.parse(MODEL)}
    async with site(certificate=CERTIFICATE, models=models) as cloud:
        yield cloud


def answers(cloud: AlibabaCloud, patch: pytest.MonkeyPatch) -> list[tuple[str, bytes]]:
    """Record from now on what devices publish: topic, and payload."""
    found: list[tuple[str, bytes]] = []
    handle = cloud.on_publish

    def record(link: MqttLink, packet: Publish) -> None:
        found.append((packet.topic, packet.payload))
        handle(link, packet)

    patch.setattr(cloud, "on_publish", record)
    return found


async def command(cloud: AlibabaCloud) -> list[object]:
    """Send one of each kind; return what the cloud has of the answers."""
    async with asyncio.timeout(PATIENCE):
        return [
            await cloud.set_properties(PRODUCT, DIRECT, {"Interval": 30}).reply,
            await cloud.invoke(PRODUCT, DIRECT, "Restart", {"Delay": 5}).reply,
            await cloud.invoke(PRODUCT, DIRECT, "Measure", {"Delay": 5}).reply,
            await cloud.rrpc(PRODUCT, DIRECT, b"hello", "user/get"),
        ]


async def of_sdk(cloud: AlibabaCloud, folder: Path, secret: str) -> list[object]:
    (folder / "tsl.json").write_text(json.dumps(MODEL))
    async with sdk(cloud) as one:
        proof = {"device_secret": secret, "tsl": str(folder / "tsl.json")}
        assert await one.do("connect", product=PRODUCT, device=DIRECT, **proof) == 0
        assert await one.do("listen_to_rrpcs", topic=USER) == 0
        return await command(cloud)


def obey(command: ChildCommand) -> CommandAnswer:
    raw = command.payload if command.kind is CommandKind.REQUEST else None
    return CommandAnswer(CommandOutcome.DONE, "", RESULTS.get(command.name, {}), raw)


async def of_gatewayd(cloud: AlibabaCloud, folder: Path, secret: str) -> list[object]:
    settings = settings_for(furnish(folder), cloud.port)
    provider = Alibaba("cloud", settings, partial(read_secret, None))
    session = await provider.connect(CloudName("cloud", PRODUCT, DIRECT), Secret(secret.encode()))
    obedient = ObedientChild(session, obey)
    seen = await command(cloud)
    assert await obedient.acknowledged() == [True] * 4
    await session.close()
    await provider.close()
    return seen


async def test_gatewayd_answers_as_the_sdk_does(
    cloud: AlibabaCloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret, sent = cloud.show_secret(PRODUCT, DIRECT), answers(cloud, monkeypatch)
    theirs = await of_sdk(cloud, tmp_path, secret)
    topics_of_sdk = [topic for topic, _ in sent]
    sent.clear()
    ours = await of_gatewayd(cloud, tmp_path, secret)
    done = {"code": 200, "data": {"done": 1}}
    assert ours == theirs == [{"code": 200, "data": {}}, done, done, b"hello"]
    own = f"/sys/{PRODUCT}/{DIRECT}/thing/service"
    assert [topic for topic, _ in sent][:2] == [f"{own}/property/set_reply", f"{own}/Restart_reply"]
    assert [without_number(topic) for topic, _ in sent] == list(map(without_number, topics_of_sdk))
    assert all(set(json.loads(body)) == {"id", "code", "data"} for _, body in sent[:3])


def without_number(topic: str) -> str:
    """A topic of an RRPC without its identifier, which is another one for each call."""
    parts = topic.split("/")
    return "/".join(parts[:3] + parts[4:]) if topic.startswith("/ext/rrpc/") else topic
