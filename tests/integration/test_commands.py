"""A command of a simulated cloud reaches a child through gatewayd, and its answer the cloud."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gatewayd.messages.broker.settings import DIRECTORY_VARIABLE, SOCKET_VARIABLE
from gatewayd.simulator.site import Site
from tests.commands.children import V5, V311, Received, listening_child
from tests.integration.test_own_broker import MESSAGES, broker_of, door
from tests.messages.broker.client import MqttClient, Place, connected
from tests.messages.broker.running import RunningBroker, short_directory

pytestmark = pytest.mark.integration

React = Callable[[Received], Sequence[tuple[str, bytes]]]


@dataclass(frozen=True)
class Asked:
    """What a test asks of one cloud.

    service, set: verbs of the plant for commands that the rule allows; other: for one that it does
    not.  reply: how a child answers.  done: what the cloud is answered then.
    words: of the rule.
    """

    service: Mapping[str, Any]
    other: Mapping[str, Any]
    set: Mapping[str, Any]
    reply: React
    done: object
    words: Sequence[str]


def alibaba_reply(received: Received) -> Sequence[tuple[str, bytes]]:
    """Answer as the vendor's documents say: on the topic of an RRPC, or the one with `_reply`."""
    up = received.topic.replace("/down/", "/up/", 1)
    topic = up if "/ext/rrpc/" in up else f"{up}_reply"
    number = json.loads(received.payload)["id"]
    return [(topic, json.dumps({"id": number, "code": 200, "data": {"Value": 1}}).encode())]


def huawei_reply(received: Received) -> Sequence[tuple[str, bytes]]:
    up = received.topic.replace("/down/", "/up/", 1).replace(
        "/request_id=", "/response/request_id="
    )
    return [(up, json.dumps({"result_code": 0, "paras": {"Value": 1}}).encode())]


CLOUDS = {
    "alibaba": Asked(
        service={"do": "invoke", "service": "Measure"},
        other={"do": "invoke", "service": "Calibrate", "values": {"Offset": 0.5}},
        set={"do": "set_properties", "values": {"ReportInterval": 60}},
        reply=alibaba_reply,
        done={"code": 200, "data": {"Value": 1}},
        words=("service:Measure", "set:ReportInterval"),
    ),
    "huawei": Asked(
        service={"do": "command", "service": "climate", "name": "identify"},
        other={"do": "get", "service": "climate"},
        set={"do": "set", "service": "climate", "properties": {"interval": 60}},
        reply=huawei_reply,
        done={"result_code": 0, "paras": {"Value": 1}},
        words=("service:climate:identify", "set:climate:interval"),
    ),
}


def allow(directory: Path, words: Sequence[str]) -> None:
    """Put the words into each rule of a site."""
    rule = directory / "rules.d/10-sensors.toml"
    allowed = f"commands = {json.dumps(words)}"
    rule.write_text(rule.read_text().replace("commands = []", allowed))


@dataclass(frozen=True)
class Commanded:
    """A child that is online, and how its program reaches gatewayd's own broker."""

    site: Site
    broker: RunningBroker
    asked: Asked
    serial: str
    child: str
    password: str
    trust: ssl.SSLContext

    async def ask(self, request: Mapping[str, Any]) -> Any:
        """Have the cloud send a command; return what it is answered, or its error."""
        try:
            return await self.site.ask(**request, child=self.serial)
        except (RuntimeError, ValueError, OSError) as error:
            return str(error)

    def program(self, react: React, version: int) -> Any:
        return listening_child(
            self.broker.settings.port, self.child, self.password,
            version=version, react=react, tls=self.trust,
        )  # fmt: skip

    async def last(self, count: int) -> list[str]:
        """Return how the newest commands ended, once there are so many."""

        async def ended() -> bool:
            return len(await self._ended()) >= count

        await self.site.until(ended, f"{count} commands to have ended")
        return await self._ended()

    async def _ended(self) -> list[str]:
        described = await self.site.describe(self.serial)
        return [
            line.rpartition(": ")[2].partition(" ")[0]
            for line in described["Messages"]["Commands"]["data"]
        ]


async def online(site: Site) -> str:
    """Bring the site's only child online; return its serial number."""
    if site.route == "certificate":
        for name in site.plant["hosts"]:
            await site.enrol(name)
    (serial,) = site.plant["serials"]
    await site.ask(do="announce", child=serial)
    await site.wait_for(serial, "online")
    return str(serial)


@contextlib.asynccontextmanager
async def commanded(
    directory: Path, monkeypatch: pytest.MonkeyPatch, cloud: str, route: str
) -> AsyncIterator[Commanded]:
    options = ("--children", "0", "--late", "1", "--seed", "7")
    site = Site(directory, cloud=cloud, route=route, plant_options=options)
    with short_directory() as short:
        async with broker_of(short) as broker, site.open():
            monkeypatch.setenv(DIRECTORY_VARIABLE, str(broker.places.access))
            monkeypatch.setenv(SOCKET_VARIABLE, str(broker.places.socket))
            config, asked = directory / "gatewayd.toml", CLOUDS[cloud]
            config.write_text(config.read_text() + MESSAGES.format(settings=broker.settings))
            allow(directory, asked.words)
            await site.start()
            serial = await online(site)
            child = (await site.devices())[serial][0]
            password = await door(site, "password", child)
            trust = ssl.create_default_context(cadata=await door(site, "authority"))
            yield Commanded(site, broker, asked, serial, child, password, trust)
            assert await site.stop() == 0


@pytest.mark.parametrize(
    ("cloud", "route", "version"), [("alibaba", "", V311), ("huawei", "sub-device", V5)]
)
async def test_a_command_gets_an_honest_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cloud: str, route: str, version: int
) -> None:
    async with commanded(tmp_path, monkeypatch, cloud, route) as one:
        asked = one.asked
        assert await one.ask(asked.service) != asked.done, "nothing listens"
        assert await one.ask(asked.other) != asked.done, "the rule does not allow it"
        assert await one.last(2) == ["no-listener", "not-allowed"]
        async with one.program(asked.reply, version) as child:
            assert await one.ask(asked.service) == asked.done
            await one.ask(asked.set)
            assert await one.last(4) == ["no-listener", "not-allowed", "done", "done"]
            assert len(child.received) == 2
            for received in child.received:
                child.say(*asked.reply(received)[0])  # once more, and late

            async def dropped() -> bool:
                counts = await one.site.busctl(
                    "--json=short", "get-property", "org.gatewayd1", "/org/gatewayd1/messages",
                    "org.gatewayd1.Messages", "Commands",
                )  # fmt: skip
                return bool(json.loads(counts)["data"]["late-answer"] == 2)

            await one.site.until(dropped, "late answers to be dropped")
        log = one.site.log()
        assert sum("ended done after" in line for line in log.splitlines()) == 2
        assert "Value" not in log, "no payload is in the log"


async def test_what_is_not_answered_fails_before_the_cloud_gives_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Alibaba waits for 8 seconds, and then knows nothing; it has gatewayd's answer before."""
    async with commanded(tmp_path, monkeypatch, "alibaba", "") as one:
        async with one.program(lambda _: (), V5) as child:
            answered = await one.ask(one.asked.service)
            assert answered["code"] not in (200, 408), answered
            assert await one.last(1) == ["no-answer"]
            (received,) = child.received
            assert received.response
            child.say(received.response, b'{"Value":1}', received.correlation)
        assert len(await one.last(1)) == 1, "it has ended, and stays so"


async def carry_out(device: MqttClient, serial: str) -> dict[str, Any]:
    """Carry out one command; return what it says."""
    topic, payload = await device.received()
    assert topic == f"site/{serial}/set"
    said: dict[str, Any] = json.loads(payload)
    await device.publish(f"site/{serial}/result", payload)
    return said


@pytest.mark.parametrize(("cloud", "route"), [("alibaba", "sub-device"), ("huawei", "certificate")])
async def test_a_device_at_a_broker_of_the_site_carries_out_a_command(
    tmp_path: Path, cloud: str, route: str
) -> None:
    options = ("--children", "0", "--late", "1", "--seed", "7")
    site = Site(
        tmp_path, cloud=cloud, route=route, speaks=True, commanded=True, plant_options=options
    )
    async with site.open():
        await site.start()
        serial = await online(site)
        assert site.broker is not None
        async with connected(Place(socket=site.broker.socket), client_id="device") as device:
            await device.subscribe(f"site/{serial}/set")
            said = asyncio.create_task(carry_out(device, serial))
            answer = await site.ask(**CLOUDS[cloud].set, child=serial)
            assert await said == {"interval": 60}
            assert answer.get("code", 200) == 200
            assert answer.get("result_code", 0) == 0
        assert await site.stop() == 0
