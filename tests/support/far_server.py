"""A server of another author at the far end of a cable: to be renamed, moved and restarted."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from gatewayd.discovery.discoverer import Discoverer
from tests.support.cable import CHILD, INTERFACE, MOVED, Cable

VENDOR_MAC = "00:1b:0d:63:84:c0"
"""Of a vendor, so that it identifies a device: those of cables are locally administered."""
START = 30.0
"""Seconds in which a server must serve, and be found."""
AGAIN = 0.3
"""Seconds until a discoverer is asked to look again."""


class FarServer:
    """A server that says in a line of its output that it serves.

    The cable is unplugged while it is not there, as with a device that restarts: a host on a cable
    would refuse a connection.  address: where it is.
    """

    def __init__(self, cable: Cable) -> None:
        self._cable = cable
        self._process: asyncio.subprocess.Process | None = None
        self.address = CHILD

    async def start(self, *command: str, ready: bytes = b"It serves.") -> None:
        """Start it, or start it again.  ready: what is in the line by which it says so."""
        await self.stop()
        self._process = await asyncio.create_subprocess_exec(
            *self._cable.prefix, *command,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert self._process.stdout is not None
        output = b""
        async with asyncio.timeout(START):
            while ready not in (line := await self._process.stdout.readline()):
                output += line
                assert line, output.decode()
        self._cable.far_ip("link", "set", INTERFACE, "up")

    def move(self) -> None:
        """Give it another address, from its next start on."""
        self._cable.move()
        self.address = MOVED

    async def stop(self) -> None:
        """Unplug the cable, and stop it."""
        self._cable.far_ip("link", "set", INTERFACE, "down")
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            await process.communicate()


async def asked_until(discoverer: Discoverer, condition: Callable[[], object]) -> None:
    """Have a discoverer look again until a condition is true: a cable is slow to be plugged in."""
    async with asyncio.timeout(START):
        while not condition():
            await discoverer.rescan()
            await asyncio.sleep(AGAIN)


@asynccontextmanager
async def far_server(cable: Cable) -> AsyncIterator[FarServer]:
    """Yield a server that is not started yet; it is stopped at last."""
    made = FarServer(cable)
    try:
        yield made
    finally:
        await made.stop()
