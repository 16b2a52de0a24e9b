"""A site with gatewayd's own broker, in a campaign.

The broker is as it is shipped; the part of its units is played here.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from gatewayd.messages.broker import files
from gatewayd.messages.broker.settings import (
    DIRECTORY_VARIABLE,
    SOCKET_VARIABLE,
    BrokerSettings,
)
from gatewayd.runtime.tasks import cancel_and_wait
from gatewayd.simulator.site import Site, run
from gatewayd.simulator.site_files import config, rules
from script.benchmarks.mosquitto import MqttClient, free_port
from script.benchmarks.onboarding import DEVICE, FOUND
from script.soaking.messages.gateway import CHILDREN, OPTIONS, ORDER, Mouth
from script.soaking.moves import CONFIG
from tests.messages.broker.running import LOOK, RunningBroker, version, watch

DOOR = "gatewayd"
"""The name of its door."""
VALUES: Mapping[str, str] = {
    "alibaba": "CurrentTemperature",
    "huawei": "climate:temperature",
}
"""The name of a temperature in the neutral form, as each cloud's model has it."""
_TOPIC = "c/{child}/up/properties"
_NO_BROKER = "[messages.broker]\nenabled = false\n"
_SETTINGS = """\
[messages.broker]
enabled = true
port = {port}
certificate_port = 0
names = ["127.0.0.1"]
connections_per_address = 0
"""
_MESSAGES = ("org.gatewayd1", "/org/gatewayd1/messages", "org.gatewayd1.Messages")


class OwnBroker:
    """gatewayd's own broker, with the configuration that is shipped.

    directory: new; short, as the path of a socket has at most 107 bytes.  Where this is root, the
    broker is another user, who has to get there.  prefix: of the command that runs it.
    """

    def __init__(self, directory: Path, prefix: Sequence[str] = ()) -> None:
        directory.mkdir()
        settings = BrokerSettings(port=free_port(), certificate_port=0)
        self.settings = _SETTINGS.format(port=settings.port)
        self._broker = RunningBroker(directory, settings, tuple(prefix))
        self._broker.prepare()

    @property
    def variables(self) -> Mapping[str, str]:
        """What gatewayd's environment has of it."""
        places = self._broker.places
        return {DIRECTORY_VARIABLE: str(places.access), SOCKET_VARIABLE: str(places.socket)}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run it once gatewayd has said who may use it, and have it read each change of that."""
        passwords = self._broker.places.access / files.PASSWORDS
        while not (seen := await asyncio.to_thread(version, passwords)):
            await asyncio.sleep(LOOK)
        await self.start()
        watching = asyncio.create_task(watch(self._broker, passwords, seen))
        try:
            yield
        finally:
            await cancel_and_wait([watching])
            await self.stop()

    async def start(self) -> None:
        """Start it; it has what it had kept."""
        await asyncio.to_thread(self._broker.start)

    async def stop(self) -> None:
        """Stop it; it keeps what waits for gatewayd."""
        await asyncio.to_thread(self._broker.stop)

    async def mouth(self, site: Site, child: str) -> Mouth:
        """Give a child a password, as an operator does; return how it speaks, in the neutral form.

        Then gatewayd reads the broker.
        """

        async def is_open() -> bool:
            shown = await site.busctl("--json=short", "get-property", *_MESSAGES, "Doors")
            return any(door[:2] == [DOOR, "connected"] for door in json.loads(shown)["data"])

        await site.until(is_open, "gatewayd to read its own broker")
        name, _ = (await site.devices())[child]
        command = ("-m", "gatewayd.cli.main", "--bus", site.bus, "door", "password", name)
        password = await run(sys.executable, *command)
        connect = partial(MqttClient.open_local, self._broker.places.socket, name, password)
        return Mouth(connect, _TOPIC.format(child=name), VALUES[site.cloud])


@asynccontextmanager
async def site_with_broker(
    directory: Path, cloud: str, own: OwnBroker, prefix: Sequence[str] = ()
) -> AsyncIterator[tuple[Site, Sequence[str]]]:
    """A site whose children are on a list and online, with gatewayd and its own broker running.

    prefix: of the commands that run its parts.  The discovery helper has nothing to do: a prefix
    that changes the environment does not reach it.
    """
    variables = (f"{name}={value}" for name, value in own.variables.items())
    gateway = (*prefix, "env", *variables)
    site = Site(
        directory,
        gateway,
        prefix,
        cloud=cloud,
        plant_options=OPTIONS,
        speaks=True,
        broker_prefix=prefix,
    )
    async with site.open():
        usual = config(site)
        listed = "".join(DEVICE.format(serial=one) for one in site.plant["serials"])
        text = CONFIG.format(site=site) + usual[usual.index("[cloud.") :] + ORDER + listed
        site.configure(text.replace(_NO_BROKER, own.settings), rules(site, found=FOUND))
        await site.start()
        children = site.plant["serials"][:CHILDREN]
        async with own.running():
            for child in children:
                await site.wait_for(child, "online")
            yield site, children
