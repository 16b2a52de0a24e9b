"""What mDNS discovery needs of a library, and of the kernel, for one interface."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import socket
import struct
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Protocol

from gatewayd.discovery.mdns_answer import Answer
from gatewayd.discovery.mdns_names import Name

log = logging.getLogger(__name__)

RECEIVE_BUFFER = 4 << 20
"""Bytes; 5,000 devices that answer at once fit.  The kernel's limit is net.core.rmem_max."""

Change = Callable[[str, str], None]
"""Told of a service type without domain, and of the full name of an instance."""

_SIOCGIFADDR = 0x8915  # netdevice(7)
_NAME = 15  # bytes of an interface's name


class Engine(Protocol):
    """One open mDNS stack on one interface.  Its methods run on the event loop."""

    async def start(self) -> None:
        """Return when it sends and hears.  Raises OSError, DiscoveryRetry."""

    async def browse(self, services: Sequence[str], heard: Change, gone: Change) -> None:
        """Ask for all instances, and tell of each change from now on; replaces the last browse.

        services: types without domain.  What is known already is told again.
        """

    def newest(self, name: Name) -> float:
        """Return when the newest record of a name came, seconds of the loop's clock; 0: never."""

    def cached(self, name: Name) -> Answer | None:
        """Return what was heard of a name; None if it is not complete."""

    async def resolve(self, name: Name, patience: float) -> Answer | None:
        """Ask for what is missing; None if it did not come within `patience` seconds."""

    async def confirm(self, name: Name) -> bool:
        """Ask for a name even if all is known; return whether somebody has answered, in 3 s."""

    async def close(self) -> None:
        """Close all sockets, end all tasks."""


def ipv4(interface: str) -> str | None:
    """Return the first IPv4 address of an interface; None if it has none, or is not there."""
    request = struct.pack("40s", interface.encode()[:_NAME])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as anything:
        try:
            reply = fcntl.ioctl(anything, _SIOCGIFADDR, request)
        except OSError:
            return None
    return socket.inet_ntoa(reply[20:24])


async def finish(work: Awaitable[None]) -> None:
    """Await work to its end even if cancelled meanwhile: half of it would leave sockets open."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise


class Guard(asyncio.DatagramProtocol):
    """Stands before a library's protocol, which may trip over what strangers send.

    drop: counts one packet that it tripped over.
    """

    def __init__(self, guarded: asyncio.DatagramProtocol, drop: Callable[[str], None]) -> None:
        self._guarded = guarded
        self._drop = drop
        self.error_received = guarded.error_received  # type: ignore[method-assign]  # unchanged
        self.connection_lost = guarded.connection_lost  # type: ignore[method-assign]  # likewise

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        """Pass a packet on."""
        try:
            self._guarded.datagram_received(data, addr)
        except Exception as error:  # noqa: BLE001  # the border to a parser of hostile packets
            self._drop("packet-failed")
            log.debug("A packet could not be taken in: %s.", type(error).__name__)


def harden(transport: Any, drop: Callable[[str], None]) -> None:  # noqa: ANN401  # of any library
    """Give a datagram transport room for a burst, and a guard before its protocol."""
    receiver = transport.get_extra_info("socket")
    receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    transport.set_protocol(Guard(transport.get_protocol(), drop))


def freshness(records: Iterable[tuple[float, float]]) -> tuple[float, float]:
    """Return when the newest record came, and for how long any of them may be kept from then on.

    records: for each when it came, and its time to live, both in seconds.  (0, 0) for none.
    """
    times = tuple(records)
    newest = max((came for came, _ in times), default=0.0)
    return newest, max((came + ttl for came, ttl in times), default=0.0) - newest
