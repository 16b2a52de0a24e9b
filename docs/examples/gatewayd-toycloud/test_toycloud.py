"""The contract of cloud providers, for the example."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gatewayd_toycloud import ToyCloud, ToyCloudSettings

from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret
from gatewayd.testing.contracts.cloud import CloudProviderContract


class ToyTestbed:
    """The provider, and a simulated cloud that a test controls."""

    names = CloudName("toy", "meter", "PM-0001"), CloudName("toy", "meter", "PM-0002")

    def __init__(self) -> None:
        self._issued: dict[str, str] = {}
        self._writers: set[asyncio.StreamWriter] = set()
        self._refuses = self._silent = False

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        settings = ToyCloudSettings("127.0.0.1", port, ("meter",), timeout=0.5)
        self.provider = ToyCloud("toy", settings, lambda *_: Secret(b""))

    def connections(self) -> int:
        return len(self._writers)

    def refuse(self) -> None:
        self._refuses = True

    def silence(self) -> None:
        self._silent = True

    def stop(self) -> None:
        self._server.close()
        for writer in self._writers:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while line := (await reader.readline()).decode().split():
                if not self._silent:
                    writer.write(f"{self._answer(*line)}\n".encode())
        except ConnectionError:
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    def _answer(self, verb: str, name: str, secret: str = "") -> str:
        if self._refuses:
            return "NO"
        if verb == "REGISTER":
            self._issued[name] = secrets.token_hex(16)
            return f"SECRET {self._issued[name]}"
        return "OK" if self._issued.get(name) == secret else "NO"


class TestToyCloud(CloudProviderContract):
    @asynccontextmanager
    async def make_testbed(self) -> AsyncIterator[ToyTestbed]:
        testbed = ToyTestbed()
        await testbed.start()
        try:
            yield testbed
        finally:
            testbed.stop()
