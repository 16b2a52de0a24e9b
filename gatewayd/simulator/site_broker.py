"""The MQTT broker of a site, to which its children publish: a real mosquitto.

gatewayd reads from it as from any broker that a site has already.  It listens on a Unix socket,
which processes of all network namespaces reach.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Self

PROGRAM, PUBLISHER, SUBSCRIBER = "mosquitto", "mosquitto_pub", "mosquitto_sub"
SYSTEM = "/usr/sbin:/usr/bin"
"""Where Debian has them, if not in PATH."""

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
PATIENCE, POLL = 30.0, 0.02
"""Seconds that the broker may take to listen or to end; seconds between two looks."""


class SiteBroker:
    """A broker in a directory of its own, while the `async with` lasts.

    directory: new; short, as the path of a socket has at most 107 bytes.
    Raises OSError where mosquitto is not installed, or does not start.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.socket = directory / "socket"
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        self._directory.mkdir()
        text = CONFIG.format(directory=self._directory)
        if os.geteuid() == 0:  # its own user might not reach the directory
            text += "user root\n"
        (self._directory / "mosquitto.conf").write_text(text)
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start the broker, and return when it listens; it has what it had kept."""
        with (self._directory / "mosquitto.log").open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                _find(PROGRAM), "-c", str(self._directory / "mosquitto.conf"),
                stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output,
            )  # fmt: skip
        try:
            async with asyncio.timeout(PATIENCE):
                while not await self._listens(self._process):
                    await asyncio.sleep(POLL)
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop the broker; it keeps what waits for clients that are away."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(PATIENCE):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    async def publish(self, child: str, values: Mapping[str, object]) -> None:
        """Have a child say something; return when the broker has acknowledged it.

        The publisher is mosquitto_pub, unmodified.  Raises OSError with what it has printed.
        """
        await self._publish(TOPIC.format(child=child), json.dumps(values))

    @contextlib.asynccontextmanager
    async def carrying_out(self, child: str) -> AsyncIterator[None]:
        """Have a child carry out its commands, while the `async with` lasts; it begins soon.

        Each is answered with itself.  The subscriber is mosquitto_sub, unmodified.
        """
        process = await asyncio.create_subprocess_exec(
            _find(SUBSCRIBER), "--unix", str(self.socket), "-q", "1", "-t",
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
            await self._publish(topic, line.decode().rstrip("\n"))

    async def _publish(self, topic: str, payload: str) -> None:
        process = await asyncio.create_subprocess_exec(
            _find(PUBLISHER), "--unix", str(self.socket), "-q", "1", "-t", topic, "-m", payload,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        printed, _ = await process.communicate()
        if process.returncode:
            raise OSError(f"{PUBLISHER} failed: {printed.decode(errors='replace').strip()}")

    async def _listens(self, process: asyncio.subprocess.Process) -> bool:
        if process.returncode is not None:
            log = (self._directory / "mosquitto.log").read_text()
            raise OSError(f"mosquitto did not start: {log.strip()}")
        try:
            _, writer = await asyncio.open_unix_connection(self.socket)
        except OSError:
            return False
        writer.close()
        return True


def _find(program: str) -> str:
    """Return the path of a program.  Raises FileNotFoundError."""
    found = shutil.which(program) or shutil.which(program, path=SYSTEM)
    if found is None:
        raise FileNotFoundError(f"{program} is missing: apt install mosquitto mosquitto-clients")
    return found
