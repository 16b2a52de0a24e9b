"""Devices that announce themselves at a broker of the site, and gatewayd as a process."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gatewayd.simulator.bus import PrivateBus
from gatewayd.simulator.site import POLICY, Site
from tests.discovery.births.published import tasmota
from tests.messages.broker.client import Place, connected
from tests.support.mosquitto import Mosquitto, mosquitto

pytestmark = pytest.mark.integration

PASSWORD = "correct horse battery"
ACL = """\
user gatewayd
topic read tasmota/#
topic read tele/#
topic read +/tele/LWT
user device
topic readwrite #
"""
CONFIG = """\
[gateway]
state_directory = "{site.directory}/state"
[bus]
address = "{site.bus}"
[secretstore.vault]
key = "development-file"
[messages.doors.plant]
host = "127.0.0.1"
port = {broker.port}
user_name = "gatewayd"
password_file = "{site.directory}/password"
[discovery]
settle = 0.1
probe_wait = 0.1
probe_spread = 0.1
probe_gap = 1
[discovery.births]
kind = "mqtt-births"
doors = ["plant"]
dialects = ["tasmota"]
"""


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    acl = tmp_path / "acl"
    acl.write_text(ACL)
    lines = ["listener {port} 127.0.0.1", f"acl_file {acl}"]
    with mosquitto(lines, {"gatewayd": PASSWORD, "device": "word"}) as made:
        yield made


@asynccontextmanager
async def site_at(broker: Mosquitto, tmp_path: Path) -> AsyncIterator[Site]:
    """Run gatewayd with a bus and the broker, and nothing else."""
    with PrivateBus(POLICY) as bus:
        site = Site(tmp_path, bus=bus.address)
        (tmp_path / "password").write_text(PASSWORD)
        (tmp_path / "password").chmod(0o600)
        site.configure(CONFIG.format(site=site, broker=broker), "")
        await site.start()
        try:
            yield site
        finally:
            await site.stop()


async def publish(broker: Mosquitto, topic: str, payload: bytes) -> None:
    """Publish a message that the broker keeps, as a device."""
    client = await asyncio.create_subprocess_exec(
        "mosquitto_pub", "-h", "127.0.0.1", "-p", str(broker.port), "-u", "device", "-P", "word",
        "-q", "1", "-r", "-t", topic, "-s", stdin=subprocess.PIPE,
    )  # fmt: skip
    await client.communicate(payload)
    assert client.returncode == 0


async def plug(broker: Mosquitto, number: int, **changed: object) -> None:
    topic, config = tasmota(number, **changed)
    await publish(broker, topic, json.dumps(config).encode())
    await publish(broker, f"tele/{config['t']}/LWT", b"Online")


async def publish_lines(broker: Mosquitto, lines: list[str]) -> None:
    """Publish many messages by one connection: a topic and a payload in each line."""
    async with connected(Place(port=broker.port), "device", b"word", client_id="many") as client:
        for line in lines:
            topic, payload = line.split(" ", 1)
            await client.publish(topic, payload.encode(), retain=True)


async def described(site: Site) -> list[dict[str, Any]]:
    rows = await site.call("ListDevices")
    return [await site._describe(row[0]) for row in rows]


async def test_a_device_at_a_broker_is_one_child_whatever_becomes_of_it(
    broker: Mosquitto, tmp_path: Path
) -> None:
    await plug(broker, 1)
    async with site_at(broker, tmp_path) as site:

        async def found() -> list[dict[str, Any]]:
            return [one for one in await described(site) if one["State"] == "pending"]

        (seen,) = await site.until(found, "the plug to be found")
        assert (seen["Vendor"], seen["Model"], seen["Trust"]) == ("", "Sonoff Basic", "claimed")
        assert seen["Identity"] == "mac a0b7a5000001"
        assert seen["Addresses"] == []

        await plug(broker, 1, t="cellar", dn="Cellar", ip="10.0.0.99")

        async def renamed() -> bool:
            return [one["Name"] for one in await described(site)] == ["Cellar"]

        await site.until(renamed, "the plug to have its new name")
        await publish(broker, "tele/cellar/LWT", b"Offline")

        async def gone() -> bool:
            return not await found()

        await site.until(gone, "the plug to be gone")
        await publish(broker, "tele/cellar/LWT", b"Online")
        await site.until(found, "the plug to be back")
        (row,) = await site.call("ListDevices")
        await site.stop()
        await site.start()
        await site.until(found, "the plug to be found again")
        assert [one[0] for one in await site.call("ListDevices")] == [row[0]]
        assert PASSWORD not in site.log()


async def test_a_thousand_devices_are_found(broker: Mosquitto, tmp_path: Path) -> None:
    messages = []
    for number in range(1, 1001):
        topic, config = tasmota(number)
        messages += [f"{topic} {json.dumps(config)}", f"tele/plug{number}/LWT Online"]
    await publish_lines(broker, messages)
    async with site_at(broker, tmp_path) as site:

        async def all_found() -> bool:
            return len(await site.call("ListDevices")) == 1000

        await site.until(all_found, "all to be found")
