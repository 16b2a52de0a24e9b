"""An application of the owner: a server to which the platform pushes what devices say."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from gatewayd.testing.waiting import until


@dataclass
class Receiver:
    """What was pushed, in its order.  refuse: how many pushes to refuse at first."""

    url: str = ""
    refuse: int = 0
    pushed: list[dict[str, Any]] = field(default_factory=list)

    async def received(self, count: int) -> list[dict[str, Any]]:
        """Return what was pushed, once there is so much."""
        await until(lambda: len(self.pushed) >= count)
        return self.pushed

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            assert head.startswith("post /pushed")
            size = int(head.partition("content-length: ")[2].partition("\r\n")[0])
            body = json.loads(await reader.readexactly(size))
            status = b"200 OK"
            if self.refuse:
                self.refuse, status = self.refuse - 1, b"503 Service Unavailable"
            else:
                self.pushed.append(body)
            writer.write(b"HTTP/1.1 %b\r\nContent-Length: 0\r\n\r\n" % status)
            await writer.drain()
        writer.close()


@contextlib.asynccontextmanager
async def receiving(context: ssl.SSLContext | None = None) -> AsyncIterator[Receiver]:
    """Serve.  context: for HTTPS."""
    receiver = Receiver()
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    receiver.url = f"http{'s' if context else ''}://localhost:{port}/pushed"
    async with server:
        yield receiver
