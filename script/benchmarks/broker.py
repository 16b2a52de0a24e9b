"""Onboarding at a gateway's scale at a broker of the site, a real mosquitto, beside plain paho.

The children are named by the discoverer "static", so that finding them costs next to nothing.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from gatewayd.cli.cloud_setup.broker_config import access_lines, configuration_lines
from gatewayd.cloud.mqtt_broker.settings import CERTIFICATE, MqttBrokerSettings
from gatewayd.simulator.broker.mosquitto import MosquittoProcess
from gatewayd.simulator.site_files import config, rules
from script.benchmarks import bare, identities, rivals
from script.benchmarks.mosquitto import free_port
from script.benchmarks.onboarding import Speed, onboard
from script.benchmarks.rounds import Sample, alternate
from script.benchmarks.stage import TUNING, Stage, stage
from script.benchmarks.subject import Subject
from script.benchmarks.table import Figure

SPEED = Speed(64, 64)
"""For connections, what two processors can use: commands go in batches, one batch at a time."""
FOUND = "named by the discoverer static"
FEWER = 4
"""One in so many children comes by password: the broker hashes and writes its file for each."""
BARE, PAHO = 200, 100

CLOUD = """\
[cloud.plant]
kind = "mqtt"
identity = "certificate"
host = "{host}"
port = {port}
ca_file = "{directory}/ca.pem"
products = ["{product}"]
"""
_CONNECTED = re.compile(rb"New client connected from \S+ as [^/\s]+/(\S+) \(")


async def measure(children: int, subjects: Sequence[Subject]) -> list[Figure]:
    """Onboard some of so many by password, and all by certificate."""
    return [
        *await _by_password(max(1, children // FEWER), subjects),
        *await _by_certificate(children, subjects),
    ]


async def _by_password(children: int, subjects: Sequence[Subject]) -> list[Figure]:
    broker = partial(stage, apart=True, cloud="mqtt")

    async def ours(subject: Subject) -> Sample:
        async with broker(children, subject) as one:
            return (await onboard(one, one.site.plant["serials"], SPEED)).sample

    async def others() -> Sample:
        async with broker(children) as one:
            connection = await bare.cost(one.site, BARE)
            took = await rivals.created(one.site, one.site.plant["serials"])
            return {
                "bare": connection, "cpu": took.cpu / children * 1000, "kept": took.kept /
                children * 1000, "online": took.seconds,
            }  # fmt: skip

    found = await alternate(subjects, ours, {"paho": others})
    return [
        found.figure(f"password: {children:,} children, from start to all online", "seconds", "s",
                     note=f"{FOUND}; {SPEED}"),
        found.figure("  wall, from READY=1, of plain paho", "online", "times",
                     of=("paho", "online"), note="the broker hashes and writes for each alike"),
        found.figure("  CPU per child", "cpu", "ms"),
        found.figure("  CPU per child, of plain paho", "cpu", "times", of=("paho", "cpu")),
        found.figure("  CPU per child, of a bare TLS handshake with CONNECT and CONNACK", "cpu",
                     "times", of=("paho", "bare")),
        found.figure("  PSS per child online", "kept", "kB"),
        found.beside("beside it: plain paho, a thread for each child, wall", "paho", "online", "s",
                     "creates them one by one, and logs in; nothing is stored"),
        found.beside("  plain paho: CPU per child", "paho", "cpu", "ms"),
        found.beside("  plain paho: PSS per child online", "paho", "kept", "kB"),
        found.beside("  a bare TLS handshake with CONNECT and CONNACK, CPU", "paho", "bare", "ms",
                     f"{BARE} in a round"),
    ]  # fmt: skip


async def _by_certificate(children: int, subjects: Sequence[Subject]) -> list[Figure]:
    threads = min(PAHO, children)
    broker = partial(stage, apart=True, cloud="mqtt")

    async def ours(subject: Subject) -> Sample:
        async with broker(children, subject) as one, certified(one) as there:
            serials = one.site.plant["serials"]
            await one.site.stop()
            ran = await onboard(one, serials, SPEED, cloud=there.tables, online=there.online)
            return {**ran.sample, "each": ran.sample["online"] / children * 1000}

    async def others() -> Sample:
        async with broker(threads) as one, certified(one):
            serials = one.site.plant["serials"]
            issued = await identities.issue_at_broker(one, "plant", serials)
            await one.site.stop()
            took = await rivals.showing(one.site, issued, "mqtt by certificate")
            connection = await bare.mutual(one.site, issued[0], BARE)
            made = await identities.cost("ec-p256", BARE)
            return {
                "least": connection + made, "bare": connection,
                "cpu": took.cpu / threads * 1000, "kept": took.kept / threads * 1000,
                "each": took.seconds / threads * 1000,
            }  # fmt: skip

    found = await alternate(subjects, ours, {"paho": others}, 1)
    return [
        found.figure(f"certificate: {children:,} children, from start to all online", "seconds",
                     "s", note=f"{FOUND}; {SPEED}"),
        found.figure("  wall per child, from READY=1, of plain paho", "each", "times",
                     of=("paho", "each")),
        found.figure("  CPU per child", "cpu", "ms"),
        found.figure("  CPU per child, of plain paho", "cpu", "times", of=("paho", "cpu"),
                     note=f"{threads} log in, all at once; nothing is made or stored"),
        found.figure("  CPU per child, of a bare connection with key and certificate made", "cpu",
                     "times", of=("paho", "least")),
        found.figure("  PSS per child online", "kept", "kB"),
        found.beside("beside it: plain paho, a thread for each child: wall per child", "paho",
                     "each", "ms"),
        found.beside("  plain paho: CPU per child", "paho", "cpu", "ms"),
        found.beside("  plain paho: PSS per child online", "paho", "kept", "kB"),
        found.beside("  a bare mutual TLS handshake with CONNECT and CONNACK, CPU", "paho", "bare",
                     "ms", f"{BARE} in a round; a context for each"),
    ]  # fmt: skip


@dataclass(frozen=True, slots=True)
class CertifiedBroker:
    """A broker that trusts the device CA of a gatewayd.  tables: what names it as the cloud."""

    process: MosquittoProcess
    tables: str

    async def online(self) -> Collection[str]:
        """Return the serial numbers of those who have logged in."""
        log = await asyncio.to_thread(self.process.log.read_bytes)
        return {found[1].decode() for found in _CONNECTED.finditer(log)}


@asynccontextmanager
async def certified(one: Stage) -> AsyncIterator[CertifiedBroker]:
    """Run a broker as `gatewayctl broker-config` has it, with a CA that gatewayd makes first.

    It has the certificate of the site's own broker, and takes its place in the facts of the plant.
    gatewayd runs, and admits no child.
    """
    plant, directory = one.site.plant, one.site.directory / "certified-broker"
    shutil.copytree(one.site.directory / "cloud-broker", directory)
    plant["port"] = free_port()
    tables = CLOUD.format(**plant, directory=one.site.directory)
    text = config(one.site, TUNING).partition("[cloud.")[0] + tables
    one.site.configure(text, rules(one.site, action="ask"))
    await one.start()
    named = ("common-name", "s", "bench")
    authority = await one.site.authority("plant", "Make", "a{sv}", "1", *named)
    (directory / "devices-ca.pem").write_text(authority)
    (directory / "revoked.pem").write_text(await one.site.authority("plant", "ListRevoked"))
    settings = MqttBrokerSettings(plant["host"], identity=CERTIFICATE, port=plant["port"])
    access = directory / "gateways.acl"
    access.write_text("".join(f"{line}\n" for line in access_lines(settings)))
    access.chmod(0o600)
    process = MosquittoProcess(directory, _configured(settings, directory), partial(
        asyncio.open_connection, "127.0.0.1", settings.port))  # fmt: skip
    with _on_second_processor():
        await process.start()
    try:
        yield CertifiedBroker(process, tables)
    finally:
        await process.stop()


def _configured(settings: MqttBrokerSettings, directory: Path) -> str:
    lines = [*configuration_lines(settings, ""), "log_dest stderr", "log_type notice", ""]
    text = "\n".join(lines).replace("/etc/mosquitto/certs", str(directory))
    return text.replace("/etc/mosquitto", str(directory))


@contextmanager
def _on_second_processor() -> Iterator[None]:
    """Have what is started here run where the plant does, if there are two processors."""
    numbers = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(numbers)[1:2] or numbers)
    try:
        yield
    finally:
        os.sched_setaffinity(0, numbers)
