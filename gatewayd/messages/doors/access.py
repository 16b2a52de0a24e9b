"""How a door reaches its broker: by a Unix socket, TCP or TLS, and who it says it is."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeAlias

from gatewayd.device.secret import Secret
from gatewayd.errors import ConfigError
from gatewayd.messages.door_settings import DoorSettings
from gatewayd.messages.doors.faults import DoorError, DoorFault
from gatewayd.messages.doors.packets import FOREVER, ConnectPacket
from gatewayd.network.addresses import AddressBook
from gatewayd.network.connect_errors import ConnectError
from gatewayd.network.tls import Server, client_context, dial, dial_plain
from gatewayd.runtime.watched_file import read_regular

MAX_CERTIFICATES = 64 * 1024
"""Bytes of the file with the certificate to show."""
PLAIN_PORT, TLS_PORT = 1883, 8883
"""Registered for MQTT with IANA."""
GATEWAYD = "gatewayd"
"""User name and client id at gatewayd's own broker."""

ReadSecret: TypeAlias = Callable[[str, Path | None], Secret]
"""Reads a credential by its name or, where that is "", a file.  Blocks; raises ConfigError."""


class DoorAccess(Protocol):
    """The way to one broker.

    endpoint: for people, from our own configuration.  reply_timeout: seconds for an answer.
    may_be_old: whether it may speak only MQTT 3.1.1.
    """

    endpoint: str
    reply_timeout: float
    may_be_old: bool

    async def open(self) -> socket.socket:
        """Return a non-blocking socket, after the handshake of TLS.  Raises DoorError."""

    async def login(self) -> ConnectPacket:
        """Return what a connection begins with.  Raises DoorError."""


class OwnBrokerAccess:
    """The way to gatewayd's own broker: its socket.

    password: returns the one in force.
    """

    may_be_old = False  # and with MQTT 3.1.1, no publisher would get a receipt

    def __init__(self, path: Path, password: Callable[[], Secret], timeout: float = 10.0) -> None:
        self.endpoint, self.reply_timeout = str(path), timeout
        self._path, self._password = path, password

    async def open(self) -> socket.socket:
        """Connect to the socket.  Raises DoorError."""
        return await _open_unix(self._path, self.reply_timeout)

    async def login(self) -> ConnectPacket:
        """Log in as gatewayd, with a session that never expires."""
        return ConnectPacket(GATEWAYD, GATEWAYD, self._password().reveal(), session_expiry=FOREVER)


class SiteBrokerAccess:
    """The way to a broker of the site.  All files are read for each connection.

    client_id: where the settings name none.
    """

    may_be_old = True

    def __init__(self, settings: DoorSettings, client_id: str, read_secret: ReadSecret) -> None:
        self._settings, self._read_secret = settings, read_secret
        self._client_id = settings.client_id or client_id
        self._port = settings.port or (TLS_PORT if settings.tls else PLAIN_PORT)
        self._book = AddressBook()
        named = f"{settings.host}:{self._port}"
        self.endpoint = named if settings.socket is None else str(settings.socket)
        self.reply_timeout = settings.reply_timeout

    async def open(self) -> socket.socket:
        """Connect as the settings say.  Raises DoorError."""
        settings, timeout = self._settings, self._settings.connect_timeout
        if settings.socket is not None:
            return await _open_unix(settings.socket, timeout)
        try:
            if not settings.tls:
                return await dial_plain(settings.host, self._port, timeout, self._book)
            identity = await self._identity()
            context = await asyncio.to_thread(client_context, settings.ca_file, identity)
            server = Server(
                settings.host, self._port, context, timeout, self.reply_timeout, book=self._book
            )
            return await dial(server)
        except ConnectError as error:
            raise DoorError.of_network(error.fault, settings.host, self._port) from error

    async def login(self) -> ConnectPacket:
        """Log in as the settings say.  Raises DoorError."""
        settings, password = self._settings, None
        if settings.password_credential or settings.password_file is not None:
            password = await self._secret(settings.password_credential, settings.password_file)
        return ConnectPacket(
            self._client_id,
            settings.user_name,
            password.reveal() if password is not None else None,
            settings.keepalive,
            settings.session_expiry,
        )

    async def _identity(self) -> Secret | None:
        """Return private key and certificate to show, PEM; None for none.  Raises DoorError."""
        settings = self._settings
        if settings.certificate_file is None:
            return None
        key = await self._secret(settings.private_key_credential, settings.private_key_file)
        try:
            shown = await asyncio.to_thread(
                read_regular, settings.certificate_file, MAX_CERTIFICATES
            )
        except OSError as error:
            raise DoorError.of(DoorFault.CERTIFICATE, self.endpoint) from error
        return Secret(key.reveal() + b"\n" + shown)

    async def _secret(self, credential: str, file: Path | None) -> Secret:
        try:
            return await asyncio.to_thread(self._read_secret, credential, file)
        except ConfigError as error:
            raise DoorError.of(DoorFault.CREDENTIAL, self.endpoint, str(error)) from error


async def _open_unix(path: Path, seconds: float) -> socket.socket:
    """Connect to a Unix socket.  Raises DoorError."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        async with asyncio.timeout(seconds):
            await asyncio.get_running_loop().sock_connect(sock, str(path))
    except BaseException as error:
        sock.close()
        if isinstance(error, OSError):
            raise DoorError.of(_unix_fault(error), str(path)) from error
        raise
    return sock


def _unix_fault(error: OSError) -> DoorFault:
    match error:
        case FileNotFoundError():
            return DoorFault.SOCKET_MISSING
        case PermissionError():
            return DoorFault.SOCKET_DENIED
        case TimeoutError():
            return DoorFault.NO_ANSWER
    return DoorFault.SOCKET_REFUSED
