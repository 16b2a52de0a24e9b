"""Devices of any kind on a LAN: python-zeroconf answers for them, in a process of its own.

It reads a JSON object from each line of its standard input, and writes a line once it has obeyed:
"do" is "add" or "remove"; a device has "service", "instance", "host", "address", "port" and "txt".
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from zeroconf import IPVersion, ServiceInfo, Zeroconf

from gatewayd.simulator.site import end


@dataclass(frozen=True)
class Announced:
    """What a device announces.  service: without the domain.  host: without it, too.

    address: several are separated by spaces.
    """

    service: str
    instance: str
    host: str
    address: str
    txt: Mapping[str, str] = field(default_factory=dict)
    port: int = 80

    def __post_init__(self) -> None:
        assert not self.service.endswith(".local")


class Responder:
    """The process, which has addresses of its own behind an interface address."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def add(self, *devices: Announced) -> None:
        """Announce devices, new or changed, and answer for them."""
        for one in devices:
            await self._obey("add", one)

    async def remove(self, *devices: Announced) -> None:
        """Say goodbye for devices."""
        for one in devices:
            await self._obey("remove", one)

    async def _obey(self, what: str, device: Announced) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": what, **vars(device)}).encode() + b"\n")
        async with asyncio.timeout(60):
            assert await self._process.stdout.readline()


@contextlib.asynccontextmanager
async def responder(prefix: Sequence[str], interface: str) -> AsyncIterator[Responder]:
    """Yield a responder.  prefix: of its command.  interface: an address of its own."""
    process = await asyncio.create_subprocess_exec(
        *prefix, sys.executable, "-m", "tests.support.responder", interface,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        yield Responder(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await end(process)


def main(interface: str) -> None:
    """Obey until the standard input ends.  Two responders may have one name: none gives way."""
    zeroconf = Zeroconf(interfaces=[interface], ip_version=IPVersion.V4Only)
    known: dict[str, ServiceInfo] = {}
    for line in sys.stdin:
        wanted: dict[str, Any] = json.loads(line)
        name = f"{wanted['instance']}.{wanted['service']}.local."
        if wanted["do"] == "add":
            announce = (
                zeroconf.update_service
                if name in known
                else partial(zeroconf.register_service, cooperating_responders=True)
            )
            known[name] = ServiceInfo(
                f"{wanted['service']}.local.",
                name,
                addresses=[socket.inet_aton(one) for one in wanted["address"].split()],
                port=wanted["port"],
                properties=wanted["txt"],
                server=f"{wanted['host']}.local.",
            )
            announce(known[name])
        else:
            zeroconf.unregister_service(known.pop(name))
        print("done", flush=True)
    zeroconf.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
