"""The port of mDNS discovery to a library, and what it needs of the kernel."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import socket
import struct
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from gatewayd.discovery.mdns.records import InstanceName, ServiceInfo
from gatewayd.discovery.mdns.traffic import PacketVerdict

log = logging.getLogger(__name__)

RECEIVE_BUFFER = 4 << 20
"""Bytes; 5,000 devices that answer at once fit.  The kernel's limit is net.core.rmem_max."""

NameCallback = Callable[[str, str], None]
"""Called with a service type without domain, and the full name of an instance."""

PacketJudge = Callable[[str, bytes], PacketVerdict]
"""Called with the sender's address and a packet, before the packet is parsed."""

_SIOCGIFADDR, _SIOCGIFNETMASK = 0x8915, 0x891B  # netdevice(7)
_NAME = 15  # bytes of an interface's name


class MdnsBackend(Protocol):
    """An mDNS stack on one interface.  Its methods run on the event loop."""

    async def start(self) -> None:
        """Open it; return when it sends and receives.  Raises OSError, DiscoveryRetry."""

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


def ipv4(interface: str) -> str | None:
    """Return the first IPv4 address of an interface; None if it has none or does not exist."""
    return _ask_kernel(_SIOCGIFADDR, interface)


@dataclass(frozen=True, slots=True)
class Network:
    """An IPv4 network, as numbers: each packet's sender is compared with it."""

    prefix: int
    mask: int

    def __contains__(self, address: str) -> bool:
        """Whether an address is in the network.  Raises OSError if it is none."""
        return _number(address) & self.mask == self.prefix


def network(interface: str) -> Network | None:
    """Return the network of that address; None if there is none."""
    address, mask = ipv4(interface), _ask_kernel(_SIOCGIFNETMASK, interface)
    if not address or not mask:
        return None
    return Network(_number(address) & _number(mask), _number(mask))


def _number(address: str) -> int:
    return int.from_bytes(socket.inet_aton(address))


def _ask_kernel(question: int, interface: str) -> str | None:
    request = struct.pack("40s", interface.encode()[:_NAME])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as anything:
        try:
            reply = fcntl.ioctl(anything, question, request)
        except OSError:
            return None
    return socket.inet_ntoa(reply[20:24])


async def finish(work: Awaitable[None]) -> None:
    """Await work to its end even if cancelled meanwhile, lest sockets stay open."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise


class PacketFilter(asyncio.DatagramProtocol):
    """A filter before a library's protocol, which may fail at hostile packets.

    on_link: the network of valid senders; a router may forward others' packets (RFC 6762, 11).
    judge: says which packets are passed on.  drop: counts one that was not, by cause.
    tidy: called after each packet that was passed on.
    """

    def __init__(
        self,
        guarded: asyncio.DatagramProtocol,
        on_link: Network | None,
        judge: PacketJudge,
        drop: Callable[[str], None],
        tidy: Callable[[], None],
    ) -> None:
        self._guarded = guarded
        self._on_link = on_link
        self._judge, self._drop, self._tidy = judge, drop, tidy
        self.error_received = guarded.error_received  # type: ignore[method-assign]  # unchanged
        self.connection_lost = guarded.connection_lost  # type: ignore[method-assign]  # likewise

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        """Pass a packet on if its sender is on the link, and there is a budget for it."""
        if self._on_link is None or addr[0] not in self._on_link:
            self._drop("off-link")
            return
        verdict = self._judge(addr[0], data)
        if verdict is PacketVerdict.QUERY:  # hosts ask all the time, this one as well
            return
        if verdict is not PacketVerdict.PASS:
            self._drop(verdict.value)
            return
        try:
            self._guarded.datagram_received(data, addr)
        except Exception as error:  # noqa: BLE001  # the border to a parser of hostile packets
            self._drop("packet-failed")
            log.debug("Failed to parse a packet: %s.", type(error).__name__)
        self._tidy()


def harden(
    transport: Any,  # noqa: ANN401  # of any library
    interface: str,
    judge: PacketJudge,
    drop: Callable[[str], None],
    tidy: Callable[[], None],
) -> None:
    """Bind a datagram transport to one interface, and give it a large buffer and a filter.

    Without SO_BINDTODEVICE it receives from every interface: packets to any address of this
    machine, and to each group that any process has joined anywhere (ip(7), IP_MULTICAST_ALL).
    """
    receiver = transport.get_extra_info("socket")
    receiver.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
    receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    guarded = transport.get_protocol()
    transport.set_protocol(PacketFilter(guarded, network(interface), judge, drop, tidy))


def freshness(records: Iterable[tuple[float, float]]) -> tuple[float, float]:
    """Return when the newest record was received, and for how long any may be kept from then on.

    records: for each when it was received, and its time to live, in seconds.  (0, 0) for none.
    """
    times = tuple(records)
    newest = max((came for came, _ in times), default=0.0)
    return newest, max((came + ttl for came, ttl in times), default=0.0) - newest
