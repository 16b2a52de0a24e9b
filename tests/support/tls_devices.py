"""TLS servers of devices, by OpenSSL: processes, each at an address of its own."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from gatewayd.simulator.site import end
from tests.support.device_certificates import DeviceCertificate

PORT = 443
PATIENCE = 60.0


class TlsDevices:
    """The servers.  prefix: of their commands.  folder: for their certificates."""

    def __init__(self, prefix: Sequence[str], folder: Path) -> None:
        self._prefix, self._folder = prefix, folder
        self._running: dict[str, asyncio.subprocess.Process] = {}

    async def serve(self, address: str, shown: DeviceCertificate, *options: str) -> None:
        """Have a device serve TLS with a certificate, in place of any other."""
        await self.silence(address)
        certificate, key, chain = shown.write(self._folder, address)
        sent = ("-cert_chain", str(chain)) if shown.chain else ()
        await self.run(
            address, "openssl", "s_server", "-quiet", "-accept", f"{address}:{PORT}",
            "-cert", str(certificate), "-key", str(key), *sent, *options,
        )  # fmt: skip

    async def run(self, address: str, *command: str) -> None:
        """Start any other server of a device; return when it listens."""
        self._running[address] = await asyncio.create_subprocess_exec(
            *self._prefix, *command, stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        async with asyncio.timeout(PATIENCE):
            while not await self._listens(address):
                assert self._running[address].returncode is None, "the server has ended"
                await asyncio.sleep(0.05)

    async def silence(self, address: str) -> None:
        """Stop the server of a device."""
        await end(self._running.pop(address, None))

    async def _listens(self, address: str) -> bool:
        """Whether a server listens, as the kernel says: a connection would take its turn."""
        shown = await asyncio.create_subprocess_exec(
            *self._prefix, "ss", "-Htln", "src", f"{address}:{PORT}",
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, _ = await shown.communicate()
        return bool(out.strip())


@contextlib.asynccontextmanager
async def tls_devices(prefix: Sequence[str], folder: Path) -> AsyncIterator[TlsDevices]:
    """Yield devices, which are stopped at the end."""
    folder.mkdir()
    devices = TlsDevices(prefix, folder)
    try:
        yield devices
    finally:
        for address in list(devices._running):
            await devices.silence(address)


def main(behaviour: str, address: str) -> None:
    """Be a device that is no TLS server: it accepts connections, and never answers."""
    with socket.create_server((address, PORT), backlog=256) as listening:
        held = []
        while True:
            connection, _ = listening.accept()
            held.append(connection)  # until the process ends
            if behaviour == "reset":
                held.pop().close()


if __name__ == "__main__":
    import sys

    main(sys.argv[1], sys.argv[2])
