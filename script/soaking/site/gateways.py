"""The gateways of a site, its plant and its broker: real processes, each in its namespace."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gatewayd.simulator.broker.site_broker import TOPIC
from gatewayd.simulator.bus import PrivateBus
from gatewayd.simulator.control import ask
from gatewayd.simulator.mqtt import codec
from gatewayd.simulator.site import MANAGER, POLICY, Site, end
from gatewayd.simulator.site_files import ANNOUNCED, config, rules
from gatewayd.testing.waiting import until
from script.benchmarks.mosquitto import MqttClient
from script.benchmarks.onboarding import DEVICE, FOUND
from script.soaking.site.clouds import SoakCloud
from script.soaking.site.etcd import SITE, USER, EtcdCluster
from script.soaking.site.network import CHILDREN, INTERFACE, PLANT, SiteHost, SiteNetwork

JOURNAL = "journal"
SITE_INTERFACE = (MANAGER[0], f"{MANAGER[1]}/site", "org.gatewayd1.Site")
RESTART = 5.0
"""Seconds between two tries of an operator's command at a site that is coming up."""
COMES_UP = 300.0
"""Seconds for that, at most: on a busy machine each process waits for its turn."""
SITE_TABLE = """\
[site]
name = "{site}"
gateway = "{name}"
endpoints = {endpoints}
user = "{user}"
password_file = "{directory}/etcd-password"
ca_file = "{directory}/etcd-ca.pem"
certificate_file = "{directory}/etcd.pem"
private_key_file = "{directory}/etcd.key"
"""
USUAL = """\
[discovery.mdns]
interfaces = ["{site.interface}"]
types = ["_gatewayd-child._tcp"]
"""
"""All else of discovery, registration and sessions is as by default."""
MESSAGES = """\
[messages]
enabled = true
[messages.broker]
enabled = false
[messages.doors.site]
socket = "{socket}"
client_id = "{name}"
[[messages.doors.site.topics]]
topic = "{topic}"
values = {{ {value} = "temperature" }}
"""
"""The door to the broker of the site, from which each gateway receives what all children say."""


@dataclass(slots=True)
class SoakGateway:
    """A gateway.  site: its directory, its bus and its daemon."""

    host: SiteHost
    site: Site

    @property
    def name(self) -> str:
        """Its name in the site."""
        return self.host.name

    async def kill(self) -> None:
        """Kill it."""
        daemon, self.site.daemon = self.site.daemon, None
        assert daemon is not None, "it was started"
        daemon.kill()
        await daemon.wait()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal.  Raises RuntimeError where it has ended by itself."""
        daemon = self.site.daemon
        if daemon is None or daemon.returncode is not None:
            raise RuntimeError(f"{self.name} ended by itself:\n{self.site.log()[-2000:]}")
        daemon.send_signal(number)

    async def operate(self, method: str, signature: str = "", *arguments: str) -> Any:  # noqa: ANN401  # JSON
        """Call a method of org.gatewayd1.Site.  Raises RuntimeError."""
        words = [signature, *arguments] if signature else []
        call = ("--json=short", "call", *SITE_INTERFACE, method, *words)
        text = await self.site.busctl(*call)
        return json.loads(text)["data"][0] if text and json.loads(text)["data"] else None

    async def fingerprint(self) -> str:
        """Return that of its public key, once it shows it.  Raises RuntimeError, TimeoutError."""

        async def shown() -> str:
            words = ("--json=short", "get-property", *SITE_INTERFACE, "Fingerprint")
            return str(json.loads(await self.site.busctl(*words))["data"])

        return str(await self.site.until(shown, f"{self.name} to show its fingerprint"))


@dataclass(frozen=True, slots=True)
class SitePlant:
    """The plant: its cloud, and the children on the LAN.  facts: of plant.json."""

    directory: Path
    facts: Mapping[str, Any]

    @property
    def journal(self) -> Path:
        """The file of what arrives at the cloud."""
        return self.directory / JOURNAL

    async def ask(self, **request: object) -> Any:  # noqa: ANN401  # JSON
        """Send it a request: a verb of simulator/control.py.  Raises RuntimeError, OSError."""
        return await ask(self.directory / "control", **request)


@asynccontextmanager
async def running_plant(
    network: SiteNetwork, directory: Path, numbers: tuple[int, int], seed: int, cloud: SoakCloud
) -> AsyncIterator[SitePlant]:
    """Run the plant.

    numbers: of children on the LAN from the start, and of those that are announced later.
    """
    host = network.hosts[PLANT]
    await asyncio.to_thread(directory.mkdir)
    process = await asyncio.create_subprocess_exec(
        *host.inside, sys.executable, "-m", "gatewayd.simulator", str(directory),
        "--children", str(numbers[0]), "--late", str(numbers[1]), "--seed", str(seed),
        "--node", cloud.node, "--cloud", cloud.kind,
        "--interface", host.lan, "--address", host.cloud, "--network", CHILDREN,
        "--journal", str(directory / JOURNAL), stdin=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        await until((directory / "plant.json").exists)
        yield SitePlant(directory, json.loads((directory / "plant.json").read_text()))
    finally:
        await end(process)


@dataclass(frozen=True, slots=True)
class SoakLayout:
    """What all gateways of a site have in common.

    socket: of the broker of the site, where its children speak; None for no broker.
    tuning: as in `config`.
    announced: whether the children are on the LAN; else, they are listed.
    """

    directory: Path
    network: SiteNetwork
    plant: SitePlant
    cluster: EtcdCluster
    cloud: SoakCloud
    socket: Path | None = None
    tuning: str = USUAL
    announced: bool = True

    @asynccontextmanager
    async def gateways(self, names: Sequence[str]) -> AsyncIterator[Mapping[str, SoakGateway]]:
        """Make gateways, each with a bus, that are not started; end them with the block."""
        made: dict[str, SoakGateway] = {}
        with contextlib.ExitStack() as stack:
            try:
                for name in names:
                    bus = stack.enter_context(PrivateBus(POLICY))
                    host = self.network.hosts[name]
                    site = Site(
                        self.directory / name, host.inside, interface=INTERFACE,
                        cloud=self.cloud.kind, route=self.cloud.route,
                    )  # fmt: skip
                    site.bus, site.plant = bus.address, dict(self.plant.facts)
                    secret = await self.cloud.own_secret(self.plant)
                    await asyncio.to_thread(self._configure, site, name, secret)
                    made[name] = SoakGateway(host, site)
                yield made
            finally:
                for one in made.values():
                    with contextlib.suppress(RuntimeError):
                        one.signal(signal.SIGCONT)
                await asyncio.gather(*(one.site.stop() for one in made.values()))

    def _configure(self, site: Site, name: str, secret: str) -> None:
        """Write the files of a gateway.  secret: of its own name at the cloud; "" for none."""
        site.directory.mkdir()
        (site.directory / "device-secrets").mkdir()
        for file in self.cloud.files:
            shutil.copy(self.plant.directory / file, site.directory / file)
        self.cluster.write_client(site.directory)
        own = site.directory / "own-secret"
        own.touch(mode=0o600)
        own.write_text(secret)
        endpoints = json.dumps(list(self.cluster.endpoints))
        at_plant = self.cloud.configuration(
            config(site, self.tuning), self.network.hosts[PLANT].cloud
        )
        text = at_plant + SITE_TABLE.format(
            site=SITE, name=name, endpoints=endpoints, user=USER, directory=site.directory
        )
        if self.socket is not None:
            text += MESSAGES.format(
                socket=self.socket, name=name, topic=TOPIC.format(child="{name}"),
                value=self.cloud.value,
            )  # fmt: skip
        if not self.announced:
            text += "".join(DEVICE.format(serial=one) for one in self.plant.facts["serials"])
        site.configure(text, rules(site, found=ANNOUNCED if self.announced else FOUND))


async def found_site(gateways: Sequence[SoakGateway]) -> None:
    """Make a site of gateways that run, as operators do.  Raises RuntimeError, TimeoutError."""
    first, *others = gateways
    fingerprint = await _tried(first, "Found")
    for one in others:
        await _tried(one, "Join", "s", fingerprint)
        await _tried(first, "Accept", "ss", one.name, await one.fingerprint())


async def _tried(gateway: SoakGateway, method: str, *words: str) -> Any:  # noqa: ANN401  # JSON
    """Run an operator's command, again for a while: etcd may be coming up."""
    deadline = time.monotonic() + COMES_UP
    while True:
        try:
            return await gateway.operate(method, *words)
        except RuntimeError:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(RESTART)


async def speak(socket: Path, children: Sequence[str], period: float) -> None:
    """Have each child publish once in a period of seconds, at the broker, until cancelled."""
    number = 0
    while True:
        with contextlib.suppress(OSError, EOFError):
            client = await MqttClient.open_local(socket, "children")
            try:
                while True:
                    child = children[number % len(children)]
                    payload = json.dumps({"temperature": round(20 + number % 100 / 10, 1)}).encode()
                    topic = TOPIC.format(child=child)
                    client.writer.write(codec.publish(topic, payload, 1, number % 65_535 + 1))
                    await client.receive()
                    number += 1
                    await asyncio.sleep(period / len(children))
            finally:
                client.close()
        await asyncio.sleep(1.0)
