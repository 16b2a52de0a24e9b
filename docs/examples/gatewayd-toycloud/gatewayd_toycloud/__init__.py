"""A cloud that speaks lines over TCP: REGISTER and LOGIN.  A real one uses TLS: network/tls.py."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import ClassVar

from gatewayd.cloud.credentials import ReadSecret
from gatewayd.cloud.provider import (
    CloudRequestHandler,
    Failed,
    Issued,
    KeepSecret,
    LoginFailed,
    LoginRefused,
    Outcome,
    Refused,
    SessionEnd,
    Unknown,
)
from gatewayd.device.reason import Reason
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret
from gatewayd.settings import grammar
from gatewayd.settings.declare import REQUIRED, setting

NO_PRODUCT = Reason("no-product", "The product is not configured.", "Name it under products.")
REFUSED = Reason("cloud-refused", "The cloud does not know this device.", "Create it there.")
UNREACHABLE = Reason("cloud-unreachable", "The cloud cannot be reached.", "Check host and port.")
NO_REPLY = Reason("no-reply", "The cloud did not reply.")
CLOSED = Reason("session-closed", "The session ended.")

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(frozen=True, slots=True)
class ToyCloudSettings:
    """[cloud.<name>] with kind = "toycloud"."""

    host: str = setting(REQUIRED, "host name of the cloud", grammar=grammar.host)
    port: int = setting(7000, "TCP port", low=1, high=65535)
    products: tuple[str, ...] = setting((), "products whose devices may register")
    timeout: float = setting(10.0, "wait for a reply", unit="s", low=0.5, high=60)


class ToySession:
    """A child that is logged in, over a connection of its own."""

    def __init__(self, stream: Stream) -> None:
        self._reader, self._writer = stream

    async def wait_closed(self) -> SessionEnd:
        """Return when the cloud, or `close`, has ended the connection."""
        with suppress(OSError):
            await self._reader.read()
        return SessionEnd(CLOSED)

    async def close(self) -> None:
        """Close the connection."""
        self._writer.close()


class ToyCloud:
    """The provider: each method makes one attempt."""

    port_version: ClassVar[str] = "1.0"
    Settings: ClassVar[type] = ToyCloudSettings
    gateway_name = None

    def __init__(self, name: str, settings: ToyCloudSettings, _read: ReadSecret) -> None:
        self.name, self._settings = name, settings

    def set_requests(self, requests: CloudRequestHandler) -> None:
        """Ignore them: this cloud requests nothing."""

    def on_pending(self, name: CloudName) -> None:
        """Do nothing: the cloud does not want to know."""

    def check_name(self, name: CloudName) -> Reason | None:
        """Return why the name cannot be registered."""
        return None if name.product in self._settings.products else NO_PRODUCT

    async def check_ready(self, name: CloudName) -> Reason | None:
        """Return None: only the cloud is needed."""
        return None

    async def register(self, name: CloudName, keep: KeepSecret) -> Outcome:
        """Ask once.  What was sent and not answered is Unknown, never Failed."""
        if (refusal := self.check_name(name)) is not None:
            return Refused(refusal)
        try:
            async with self._connection() as stream:
                reply = await self._ask(stream, f"REGISTER {name}")
                if reply is None:
                    return Unknown(NO_REPLY)
                if not reply.startswith("SECRET "):
                    return Refused(REFUSED)
                await keep(Secret(reply.removeprefix("SECRET ").encode()))
                return Issued()
        except ConnectionRefusedError:
            return Failed(UNREACHABLE)

    def renew_at(self, name: CloudName, secret: Secret) -> float | None:
        """Return None: its secrets do not expire."""
        return None

    async def connect(self, name: CloudName, secret: Secret) -> ToySession:
        """Log in once."""
        try:
            stream = await self._open()
        except OSError as error:
            raise LoginFailed(UNREACHABLE) from error
        try:
            await self._log_in(stream, f"LOGIN {name} {secret.reveal().decode()}")
        except BaseException:
            stream[1].close()
            raise
        return ToySession(stream)

    async def unbind(self, name: CloudName) -> Reason | None:
        """Return None: nothing binds a child to this gateway."""
        return None

    async def close(self) -> None:
        """Hold nothing."""

    async def _open(self) -> Stream:
        async with asyncio.timeout(self._settings.timeout):
            return await asyncio.open_connection(self._settings.host, self._settings.port)

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Stream]:
        stream = await self._open()
        try:
            yield stream
        finally:
            stream[1].close()

    async def _log_in(self, stream: Stream, line: str) -> None:
        reply = await self._ask(stream, line)
        if reply is None:
            raise LoginFailed(NO_REPLY)
        if reply != "OK":
            raise LoginRefused(REFUSED)

    async def _ask(self, stream: Stream, line: str) -> str | None:
        """Return the reply to a line; None where none came in time."""
        reader, writer = stream
        try:
            writer.write(f"{line}\n".encode())
            async with asyncio.timeout(self._settings.timeout):
                return (await reader.readline()).decode().strip() or None
        except OSError:  # a time-out is one, too
            return None
