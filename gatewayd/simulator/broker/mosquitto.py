"""A real mosquitto, run by a simulator, in a directory of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

PROGRAM, PUBLISHER, SUBSCRIBER = "mosquitto", "mosquitto_pub", "mosquitto_sub"
LOG = "mosquitto.log"
SYSTEM = "/usr/sbin:/usr/bin"
"""Where Debian has them, if not in PATH."""
PATIENCE, POLL = 60.0, 0.02
"""Seconds that the broker may take to listen or to end; seconds between two looks."""


class MosquittoProcess:
    """A process of mosquitto.  directory: for its files, with its configuration `text`.

    connect: opens a connection to it, and fails with OSError while it does not listen.
    prefix: of the command that runs it.
    """

    def __init__(
        self,
        directory: Path,
        text: str,
        connect: Callable[[], Awaitable[tuple[object, asyncio.StreamWriter]]],
        prefix: Sequence[str] = (),
    ) -> None:
        self._directory, self._text, self._connect = directory, text, connect
        self._prefix = prefix
        self.log = directory / LOG
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it, and return when it listens; it has what it had kept.  Raises OSError."""
        text = self._text
        if os.geteuid() == 0:  # its own user might not reach the directory
            text += "user root\n"
        (self._directory / "mosquitto.conf").write_text(text)
        with self.log.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                *self._prefix, find(PROGRAM), "-c", str(self._directory / "mosquitto.conf"),
                stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output,
            )  # fmt: skip
        try:
            async with asyncio.timeout(PATIENCE):
                while not await self._listens(self._process):
                    await asyncio.sleep(POLL)
        except BaseException:
            await self.stop()
            raise

    def reload(self) -> None:
        """Have it read its files again, lists of revoked certificates among them."""
        if self._process is not None:
            self._process.send_signal(signal.SIGHUP)

    async def stop(self) -> None:
        """Stop it; it keeps what waits for clients that are away.

        SIGTERM is sent each second: mosquitto 2.0 forgets one that comes after its first listener
        is open and before its loop begins (main in src/mosquitto.c sets `run` in between).
        """
        process, self._process = self._process, None
        if process is None:
            return
        for _ in range(int(PATIENCE)):
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await process.wait()
                    return
        process.kill()
        await process.wait()

    async def _listens(self, process: asyncio.subprocess.Process) -> bool:
        if process.returncode is not None:
            raise OSError(f"mosquitto did not start: {self.log.read_text().strip()}")
        try:
            _, writer = await self._connect()
        except OSError:
            return False
        writer.close()
        return True


def find(program: str) -> str:
    """Return the path of a program.  Raises FileNotFoundError."""
    found = shutil.which(program) or shutil.which(program, path=SYSTEM)
    if found is None:
        raise FileNotFoundError(f"{program} is missing: apt install mosquitto mosquitto-clients")
    return found


async def publish(where: Sequence[str], topic: str, payload: str) -> None:
    """Publish at QoS 1 by mosquitto_pub, unmodified; return when the broker has it.

    where: options that name the broker and the user.  Raises OSError with what it has printed.
    """
    process = await asyncio.create_subprocess_exec(
        find(PUBLISHER), *where, "-q", "1", "-t", topic, "-m", payload,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    printed, _ = await process.communicate()
    if process.returncode:
        raise OSError(f"{PUBLISHER} failed: {printed.decode(errors='replace').strip()}")
