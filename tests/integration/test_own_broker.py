"""From a child at gatewayd's own broker to its cloud, with what gatewayctl makes, and out again."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gatewayd.messages.broker import files
from gatewayd.messages.broker.settings import (
    DIRECTORY_VARIABLE,
    SOCKET_VARIABLE,
    BrokerSettings,
)
from gatewayd.simulator.site import Site, run
from gatewayd.simulator.story import measurements
from tests.messages.broker.client import PATIENCE, SUCCESS, MqttClient, Place, connected
from tests.messages.broker.running import (
    LOOK,
    RunningBroker,
    free_ports,
    short_directory,
    version,
    watch,
)

pytestmark = pytest.mark.integration

GATEWAYCTL = (
    sys.executable,
    "-c",
    "import sys; from gatewayd.cli.main import main; sys.exit(main())",
)
MESSAGES = """
[messages]
enabled = true
[messages.broker]
port = {settings.port}
certificate_port = 0
addresses = ["127.0.0.1"]
names = ["127.0.0.1"]
"""


@contextlib.asynccontextmanager
async def broker_of(directory: Path) -> AsyncIterator[RunningBroker]:
    """Yield a broker that starts once gatewayd has said who may use it."""
    (port,) = free_ports(1)
    broker = RunningBroker(directory, BrokerSettings(port=port, certificate_port=0))
    await asyncio.to_thread(broker.prepare)

    async def serve() -> None:
        passwords = broker.places.access / files.PASSWORDS
        while not (started_with := await asyncio.to_thread(version, passwords)):
            await asyncio.sleep(LOOK)
        await asyncio.to_thread(broker.start)
        await watch(broker, passwords, started_with)

    serves = asyncio.create_task(serve())
    try:
        yield broker
    finally:
        serves.cancel()
        await asyncio.wait({serves})
        await asyncio.to_thread(broker.stop)


async def door(site: Site, *words: str) -> str:
    return (await run(*GATEWAYCTL, "--bus", site.bus, "door", *words)).strip()


@contextlib.asynccontextmanager
async def logged_in(place: Place, user: str, password: str) -> AsyncIterator[MqttClient]:
    """Connect, once the broker knows the password."""
    async with contextlib.AsyncExitStack() as stack:
        async with asyncio.timeout(PATIENCE):
            while True:
                with contextlib.suppress(AssertionError, OSError, EOFError):
                    opened = connected(place, user, password.encode())
                    client = await stack.enter_async_context(opened)
                    break
                await asyncio.sleep(LOOK)
        yield client


async def test_a_child_speaks_to_its_cloud_until_it_is_rejected_or_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site(tmp_path, plant_options=("--children", "1", "--seed", "7"))
    with short_directory() as directory:
        async with broker_of(directory) as broker, site.open():
            monkeypatch.setenv(DIRECTORY_VARIABLE, str(broker.places.access))
            monkeypatch.setenv(SOCKET_VARIABLE, str(broker.places.socket))
            config = tmp_path / "gatewayd.toml"
            config.write_text(config.read_text() + MESSAGES.format(settings=broker.settings))
            await site.start()
            (serial,) = site.plant["serials"]
            await site.wait_for(serial, "online")
            child = (await site.devices())[serial][0]

            password = await door(site, "password", child)
            trust = ssl.create_default_context(cadata=await door(site, "authority"))
            place = Place(port=broker.settings.port, tls=trust)
            passwords = broker.places.access / files.PASSWORDS
            async with logged_in(place, child, password) as speaker:
                assert (
                    await speaker.publish(
                        f"c/{child}/up/properties", b'{"CurrentTemperature": 21.5}'
                    )
                    == 0
                )

                async def arrived() -> bool:
                    return [one.value for one in await measurements(site, serial)] == [21.5]

                await site.until(arrived, "the value to be at the cloud")
                await site.call("Reject", "ss", child, "moved")
                await speaker.closed()
            assert child not in passwords.read_text()

            await site.call("Approve", "ss", child, "")
            async with logged_in(place, child, password) as speaker:
                await site.call("Forget", "s", child)
                await speaker.closed()
            assert child not in await door(site, "list")
            assert await site.stop() == 0

            config.write_text(config.read_text().replace("enabled = true", "enabled = false"))
            await site.start()

            async def cleared() -> bool:
                return not passwords.exists()

            await site.until(cleared, "the broker's files to go")


async def test_a_child_that_proves_its_password_is_admitted_by_a_rule_that_requires_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site(tmp_path, plant_options=("--children", "1", "--seed", "7"))
    with short_directory() as directory:
        async with broker_of(directory) as broker, site.open():
            monkeypatch.setenv(DIRECTORY_VARIABLE, str(broker.places.access))
            monkeypatch.setenv(SOCKET_VARIABLE, str(broker.places.socket))
            config, rule = tmp_path / "gatewayd.toml", tmp_path / "rules.d/10-sensors.toml"
            config.write_text(config.read_text() + MESSAGES.format(settings=broker.settings))
            required = 'action = "register"\nrequire = { trust = "authenticated" }\n'
            listed = 'list = "'
            lines = [one for one in rule.read_text().splitlines() if not one.startswith(listed)]
            rule.write_text("\n".join(lines).replace('action = "register"\n', required))
            await site.start()
            (serial,) = site.plant["serials"]
            await site.wait_for(serial, "pending")
            child = (await site.devices())[serial][0]
            assert (await site.describe(serial))["Reason"] == "trust-too-low"

            password = await door(site, "password", child)
            trust = ssl.create_default_context(cadata=await door(site, "authority"))
            place = Place(port=broker.settings.port, tls=trust)
            async with logged_in(place, child, password) as speaker:
                await speaker.publish(f"c/{child}/up/properties", b"{}")
                await site.wait_for(serial, "online")
                assert (await site.describe(serial))["Trust"] == "authenticated"
                value = b'{"CurrentTemperature": 21.5}'
                assert await speaker.publish(f"c/{child}/up/properties", value) == SUCCESS

                async def arrived() -> bool:
                    return [one.value for one in await measurements(site, serial)] == [21.5]

                await site.until(arrived, "the value to be at the cloud")
            assert await site.stop() == 0
