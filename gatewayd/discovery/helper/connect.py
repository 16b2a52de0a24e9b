"""How gatewayd reaches its discovery helper: by the socket of its unit, or as a child process."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Protocol, TypeAlias

from gatewayd.discovery.helper.messages import MAX_TO_GATEWAYD

Streams: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Connect: TypeAlias = Callable[[], AbstractAsyncContextManager[Streams]]
"""Opens a connection to a helper that was just started; closing it ends the helper."""

MODULE = "gatewayd.discovery.helper"
SOCKET_VARIABLE = "GATEWAYD_DISCOVERY_SOCKET"
"""The environment variable in which a unit names the helper's socket."""

_END = 5.0
"""Seconds until a child that does not end is killed."""
_PASSED_ON = ("PATH", "PYTHONPATH", "LANG", "LC_ALL", "JOURNAL_STREAM", "PYTHONDONTWRITEBYTECODE")
"""Of the environment; not among them are those that lead to credentials, or to systemd."""


def connect(environ: Mapping[str, str]) -> Connect:
    """Return the way to the helper.

    environ: of this process.  Where it names a socket, that is the only way: a child process would
    have the rights of gatewayd.
    """
    if path := environ.get(SOCKET_VARIABLE):
        return partial(by_socket, path)
    return partial(by_child, {key: environ[key] for key in _PASSED_ON if key in environ})


@asynccontextmanager
async def by_socket(path: str) -> AsyncIterator[Streams]:
    """Connect to a socket, by which systemd starts the helper.  Raises OSError."""
    reader, writer = await asyncio.open_unix_connection(path, limit=MAX_TO_GATEWAYD)
    async with _closing(writer):
        yield reader, writer


class HelperProcess(Protocol):
    """A process that was started."""

    async def wait(self) -> int:
        """Return its exit status, once it has ended."""

    def kill(self) -> None:
        """Send SIGKILL."""


async def start_child(connected: int, environ: Mapping[str, str]) -> HelperProcess:
    """Start the helper as a child process.  connected: its descriptor 0.  Raises OSError."""
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", MODULE,
        stdin=connected, stdout=asyncio.subprocess.DEVNULL, env=dict(environ),
        start_new_session=True,  # what a terminal sends is for gatewayd, which ends the helper
    )  # fmt: skip


@asynccontextmanager
async def by_child(environ: Mapping[str, str]) -> AsyncIterator[Streams]:
    """Start the helper as a child process, and end it at last.  Raises OSError."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        child = await start_child(theirs.fileno(), environ)
        theirs.close()
        try:
            reader, writer = await asyncio.open_connection(sock=ours, limit=MAX_TO_GATEWAYD)
            async with _closing(writer):
                yield reader, writer
        finally:
            await _end(child)


@asynccontextmanager
async def _closing(writer: asyncio.StreamWriter) -> AsyncIterator[None]:
    try:
        yield
    finally:
        writer.close()
        with contextlib.suppress(OSError):  # it was broken before
            await writer.wait_closed()


async def _end(child: HelperProcess) -> None:
    """Wait for the end of a child, of which the connection is closed."""
    try:
        async with asyncio.timeout(_END):
            await child.wait()
    except TimeoutError:
        child.kill()
        await child.wait()
