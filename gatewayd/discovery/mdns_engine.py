"""What mDNS discovery needs of a library, and of the kernel, for one interface."""

from __future__ import annotations

import fcntl
import socket
import struct
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from gatewayd.discovery.mdns_answer import Answer
from gatewayd.discovery.mdns_names import Name

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


def freshness(records: Iterable[tuple[float, float]]) -> tuple[float, float]:
    """Return when the newest record came, and for how long any of them may be kept from then on.

    records: for each when it came, and its time to live, both in seconds.  (0, 0) for none.
    """
    times = tuple(records)
    newest = max((came for came, _ in times), default=0.0)
    return newest, max((came + ttl for came, ttl in times), default=0.0) - newest
