"""A real mosquitto with dynamic security and TLS, behind a relay that a test controls."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, TypeVar

from gatewayd.cloud.mqtt_broker.provider import MqttBroker
from gatewayd.cloud.mqtt_broker.settings import BrokerManagement, MqttBrokerSettings
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret
from gatewayd.simulator import pki
from tests.support.mosquitto import Mosquitto

TIMEOUT = 3.0
"""Seconds: what is silent is given up after it; a machine with much else to do answers in it."""
MANAGER, PASSWORD = "gateway-1", "manage me"
LINES = [
    "per_listener_settings false", "allow_anonymous false", "listener {port} 127.0.0.1",
    "cafile {directory}/ca.pem", "certfile {directory}/server.pem",
    "keyfile {directory}/server.key",
]  # fmt: skip
NAMES = CloudName("plant", "meter", "PM-0001"), CloudName("plant", "meter", "PM-0002")


def plugin() -> str:
    """Return the path of the plugin, wherever Debian has put it on this architecture."""
    return next(str(one) for one in Path("/usr/lib").glob("*/mosquitto_dynamic_security.so"))


class Relay:
    """A relay of TCP that counts connections, and can stop to forward, or stop altogether."""

    def __init__(self, port: int) -> None:
        self._port, self._open = port, set[asyncio.StreamWriter]()
        self._tasks: set[asyncio.Task[None]] = set()
        self.silent = False
        self.port = 0

    @property
    def connections(self) -> int:
        return len(self._open)

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    def stop(self) -> None:
        """Accept nothing from now on, and end what is open."""
        self._server.close()
        self.cut()

    def cut(self) -> None:
        """End every connection."""
        for writer in tuple(self._open):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._port)
            try:
                await asyncio.gather(self._pump(reader, back), self._pump(there, writer))
            finally:
                back.transport.abort()
        except OSError:
            pass
        finally:
            self._open.discard(writer)
            writer.transport.abort()

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            if not self.silent:
                sink.write(data)
                await sink.drain()
        raise ConnectionResetError  # the other direction ends, too


class ManagedBroker:
    """A broker, the relay in front of it, and a provider of it."""

    names = NAMES

    def __init__(self, directory: Path, lines: Sequence[str] = (), **settings: Any) -> None:
        self.directory, now = directory, datetime.now(UTC)
        root = pki.make_ca("plant", now - pki.LIFE, now + pki.LIFE)
        server = root.issue(["localhost"], ["127.0.0.1"], now - pki.LIFE, now + pki.LIFE)
        (directory / "ca.pem").write_text(root.pem)
        (directory / "server.pem").write_text(server.certificate_pem)
        key = directory / "server.key"
        key.write_text(server.key_pem)
        key.chmod(0o600)
        self.secrets = {MANAGER: PASSWORD}
        self._settings = settings
        self.store = directory / "clients.json"
        subprocess.run(
            ["mosquitto_ctrl", "dynsec", "init", self.store, MANAGER, PASSWORD],
            check=True, capture_output=True,
        )  # fmt: skip
        self._lines = [*LINES, f"plugin {plugin()}", f"plugin_opt_config_file {self.store}", *lines]
        self.broker = Mosquitto(directory, self._lines, {})

    async def start(self) -> None:
        await asyncio.to_thread(self.broker.start)
        self.relay = Relay(self.broker.port)
        await self.relay.start()
        self.provider = self.make()

    def make(self, manager: str = MANAGER, **more: Any) -> MqttBroker:
        """Return a provider, as after a restart of gatewayd."""
        settings = MqttBrokerSettings(
            "localhost",
            BrokerManagement(manager, password_credential="management"),
            **{
                "port": self.relay.port, "ca_file": self.directory / "ca.pem",
                "address": "127.0.0.1", "connect_timeout": TIMEOUT, "reply_timeout": TIMEOUT,
                "products": ("meter",), **self._settings, **more,
            },
        )  # fmt: skip
        return MqttBroker("plant", settings, self._read)

    def _read(self, credential: str, _file: Path | None, **_: bool) -> Secret:
        assert credential == "management"
        return Secret(self.secrets[MANAGER].encode())

    def connections(self) -> int:
        return self.relay.connections

    def refuse(self) -> None:
        """Know no client any more, as if another had taken the broker's file."""
        self.broker.stop()
        known = json.loads(self.store.read_text())
        known["clients"] = []
        self.store.write_text(json.dumps(known))
        self.broker.start()

    def without_plugin(self) -> None:
        """Run the broker with a password file in the place of the plugin."""
        self.broker.stop()
        port = self.broker.port
        lines = [line.replace("{port}", str(port)) for line in LINES]
        self.broker = Mosquitto(self.directory, lines, {MANAGER: PASSWORD})
        self.broker.port = port
        self.broker.start()

    def foreign_ca(self) -> Path:
        """Return the roots of another site."""
        now = datetime.now(UTC)
        path = self.directory / "foreign.pem"
        path.write_text(pki.make_ca("another", now - pki.LIFE, now + pki.LIFE).pem)
        return path

    def silence(self) -> None:
        self.relay.silent = True

    def stop(self) -> None:
        self.relay.stop()

    def clients(self) -> dict[str, dict[str, Any]]:
        """Return the clients that the broker has written, by user name."""
        return {one["username"]: one for one in json.loads(self.store.read_text())["clients"]}


class RunnableBroker(Protocol):
    """A broker of a test, with the provider of its children and a relay in between."""

    broker: Mosquitto
    provider: MqttBroker
    relay: Relay

    async def start(self) -> None: ...


R = TypeVar("R", bound=RunnableBroker)


@asynccontextmanager
async def running_in_own_directory(make: Callable[[Path], R]) -> AsyncIterator[R]:
    """Run a broker in a directory of its own.  make: makes it there; may block."""
    name = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="mq"))
    try:
        one = await asyncio.to_thread(make, name)
        try:
            await one.start()
            try:
                yield one
            finally:
                await one.provider.close()
                one.relay.stop()
        finally:
            await asyncio.to_thread(one.broker.stop)
    finally:
        await asyncio.to_thread(shutil.rmtree, name)


def managed_broker(
    lines: Sequence[str] = (), **settings: Any
) -> AbstractAsyncContextManager[ManagedBroker]:
    """Run a broker with dynamic security."""
    return running_in_own_directory(lambda name: ManagedBroker(name, lines, **settings))
