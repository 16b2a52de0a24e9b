"""The MQTT broker of a site, to which its children publish: a real mosquitto.

gatewayd reads from it as from any broker that a site has already.  It listens on a Unix socket,
which processes of all network namespaces reach.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Self

from gatewayd.simulator.broker.mosquitto import SUBSCRIBER, MosquittoProcess, find, publish

CONFIG = """\
listener 0 {directory}/socket
allow_anonymous true
persistence true
persistence_location {directory}/
autosave_interval 1
max_queued_messages 10000
log_dest stderr
"""
TOPIC = "site/{child}/state"
"""Where a child publishes; its name is its serial number."""
COMMAND, RESULT = "site/{child}/set", "site/{child}/result"
"""Where a child gets commands, and where it answers with what it was sent."""


class SiteBroker:
    """A broker in a directory of its own, while the `async with` lasts.

    directory: new; short, as the path of a socket has at most 107 bytes.
    prefix: of the command that runs it.
    Raises OSError where mosquitto is not installed, or does not start.
    """

    def __init__(self, directory: Path, prefix: Sequence[str] = ()) -> None:
        self._directory = directory
        self.socket = directory / "socket"
        self._where = ("--unix", str(self.socket))
        connect = partial(asyncio.open_unix_connection, self.socket)
        text = CONFIG.format(directory=directory)
        self._broker = MosquittoProcess(directory, text, connect, prefix)

    async def __aenter__(self) -> Self:
        self._directory.mkdir()
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start the broker, and return when it listens; it has what it had kept."""
        await self._broker.start()

    async def stop(self) -> None:
        """Stop the broker; it keeps what waits for clients that are away."""
        await self._broker.stop()

    async def publish(self, child: str, values: Mapping[str, object]) -> None:
        """Have a child say something; return when the broker has acknowledged it.

        The publisher is mosquitto_pub, unmodified.  Raises OSError with what it has printed.
        """
        await publish(self._where, TOPIC.format(child=child), json.dumps(values))

    @contextlib.asynccontextmanager
    async def carrying_out(self, child: str) -> AsyncIterator[None]:
        """Have a child carry out its commands, while the `async with` lasts; it begins soon.

        Each is answered with itself.  The subscriber is mosquitto_sub, unmodified.
        """
        process = await asyncio.create_subprocess_exec(
            find(SUBSCRIBER), *self._where, "-q", "1", "-t",
            COMMAND.format(child=child),
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        answers = asyncio.create_task(self._answer(process, RESULT.format(child=child)))
        try:
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            await process.wait()
            await answers

    async def _answer(self, process: asyncio.subprocess.Process, topic: str) -> None:
        assert process.stdout is not None, "it was asked for"
        async for line in process.stdout:
            await publish(self._where, topic, line.decode().rstrip("\n"))
