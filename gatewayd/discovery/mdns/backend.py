"""The port of mDNS discovery to a library."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from gatewayd.discovery.kernel.interfaces import LanInterface
from gatewayd.discovery.mdns.records import InstanceName, ServiceInfo
from gatewayd.discovery.mdns.traffic import PacketVerdict

NameCallback = Callable[[str, str], None]
"""Called with a service type without domain, and the full name of an instance."""

PacketJudge = Callable[[str, bytes], PacketVerdict]
"""Called with the sender's address and a packet, before the packet is parsed."""


class DropPacket(Protocol):
    """Counts a packet that was not read."""

    def __call__(self, cause: str, *, sender: str) -> None: ...


class MdnsBackend(Protocol):
    """An mDNS stack on one interface.  Its methods run on the event loop.

    sender: whose packet is read just now; "" for none.
    """

    sender: str

    async def start(self) -> None:
        """Open it; return when it sends and receives.  Raises OSError, DiscoveryRetry."""

    def relink(self, link: LanInterface) -> None:
        """Note the networks that the interface is on now.  Its endpoint is the same."""

    async def browse(
        self, services: Sequence[str], announced: NameCallback, removed: NameCallback
    ) -> None:
        """Ask for all instances, and report each change from now on; replaces the last browse.

        services: types without domain.  What is cached is reported again.
        """

    def ask(self, services: Sequence[str]) -> None:
        """Ask once for all instances, even those that are cached."""

    def newest(self, name: InstanceName) -> float:
        """Return when the newest record of a name came, by the loop's clock; 0 for never."""

    def cached(self, name: InstanceName) -> ServiceInfo | None:
        """Return what is cached of a name; None if it is not complete."""

    async def resolve(self, name: InstanceName, patience: float) -> ServiceInfo | None:
        """Ask for what is missing; None if it was not received within `patience` seconds."""

    async def confirm(self, name: InstanceName, matches: Callable[[bytes], bool]) -> bytes | None:
        """Ask for the TXT record of a name even if it is cached; return it, or None in 3 s.

        matches: whether a record is the expected one.  Any host may answer, and more often than
        the device: the first record that matches is returned at once; if none does, the last.
        """

    async def close(self) -> None:
        """Close all sockets and end all tasks."""


async def finish(work: Awaitable[None]) -> None:
    """Await work to its end even if cancelled meanwhile, lest sockets stay open."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise
