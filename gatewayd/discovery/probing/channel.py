"""The sockets of one protocol on one interface: those that ask, and those that listen."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import socket
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from typing import TypeAlias

from gatewayd.discovery.kernel.interfaces import IPV4, LanInterface
from gatewayd.discovery.link.sockets import (
    bind_to_interface,
    open_asking_socket,
    open_group_socket,
    open_port_socket,
)
from gatewayd.discovery.probing.protocol import (
    BROADCAST,
    Datagram,
    DatagramProtocol,
    Own,
    Probe,
)
from gatewayd.discovery.probing.reading import (
    MAX_DATAGRAM,
    RawDatagram,
    SocketReader,
    read_datagram,
)
from gatewayd.errors import DiscoveryRetry

EVERYWHERE = "255.255.255.255"
MAX_NETWORKS = 4
"""Networks of IPv4 of one interface in which it is asked."""
MIN_BROADCAST = 2
"""A network of so many addresses or fewer has none for all of them (RFC 3021)."""
MAX_ANSWERS = 64
"""Datagrams that are read from a device which was asked by itself."""
MAX_STREAM = 64 << 10
"""Bytes that are read ahead of a TCP connection."""
IN_USE = 15.0
"""Seconds until a port that another program uses is tried again, at most."""

_LINK_LOCAL4, _LINK_LOCAL6 = "169.254.", "fe80:"

OwnNetwork: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
Received = Callable[[Datagram], None]
"""Called with each datagram that came from the link, or may have."""


def asking_addresses(link: LanInterface, protocol: DatagramProtocol) -> tuple[str, ...]:
    """Return the addresses of an interface from which a protocol asks: one of each network of
    IPv4, as a device answers where it has a route to, and one of IPv6."""
    own: dict[OwnNetwork, str] = {}
    for one in link.addresses:
        if one.version == IPV4:
            own.setdefault(one.network, str(one.ip))
    ipv6 = "" if protocol.ipv4_only else link.ipv6
    return (*tuple(own.values())[:MAX_NETWORKS], *([ipv6] if ipv6 else []))


def own_address(link: LanInterface, device: str) -> str:
    """Return the address of an interface from which one device is asked, in its network if there
    is one; "" if there is none of its family.  device: its address."""
    bare = ipaddress.ip_address(device.partition("%")[0])
    near = (one for one in link.addresses if bare in one.network)
    usual = link.ipv4 if bare.version == IPV4 else link.ipv6
    return next((str(one.ip) for one in near), usual)


def scoped(address: str, interface: str) -> str:
    """Return a sender's address, a link-local one of IPv6 with its interface."""
    bare = address.partition("%")[0]
    return f"{bare}%{interface}" if bare.startswith(_LINK_LOCAL6) else bare


def is_on_link(link: LanInterface, address: str) -> bool:
    """Whether what was sent to one host alone may have come from this link.

    It may if its sender is in a network of the interface, or has an address that no router
    forwards (RFC 3927, 7; RFC 4291, 2.5.6).
    """
    bare = address.partition("%")[0]
    if bare.startswith((_LINK_LOCAL4, _LINK_LOCAL6)):
        return True
    return any(bare in one for one in link.networks)


def broadcast_of(link: LanInterface, own: str) -> str:
    """Return the broadcast address of the network of one of an interface's addresses."""
    for one in link.addresses:
        if str(one.ip) == own and one.network.num_addresses > MIN_BROADCAST:
            return str(one.network.broadcast_address)
    return EVERYWHERE


class AskingSocket:
    """A socket to ask from.  own: where its answers arrive.  Raises OSError."""

    def __init__(self, link: LanInterface, address: str) -> None:
        self._link = link
        self.socket = open_asking_socket(link, address)
        self.own = Own(address, self.socket.getsockname()[1])
        self.is_ipv6 = ":" in address

    def fits(self, to: str) -> bool:
        """Whether a probe is for the family of this socket."""
        return (":" in to) == self.is_ipv6

    def send(self, probe: Probe, to: str) -> None:
        """Send one datagram.  to: an address, a group or BROADCAST.  Raises OSError."""
        if self.is_ipv6:
            bare = to.partition("%")[0]
            self.socket.sendto(probe.payload, (bare, probe.port, 0, self._scope(bare)))
        else:
            known = broadcast_of(self._link, self.own.address) if to == BROADCAST else to
            self.socket.sendto(probe.payload, (known, probe.port))

    def _scope(self, to: str) -> int:
        is_local = to.lower().startswith((_LINK_LOCAL6, "ff"))
        return self._link.index if is_local else 0


class LinkChannel:
    """The open sockets of a protocol on one interface.

    received: called with each datagram.  is_flooded: whether reading is to pause.
    dropped: called with the sender of a datagram that came from elsewhere.
    """

    def __init__(
        self,
        link: LanInterface,
        protocol: DatagramProtocol,
        *,
        received: Received,
        is_flooded: Callable[[], bool],
        dropped: Callable[[str], None],
    ) -> None:
        self._link, self._received, self._dropped = link, received, dropped
        self._is_flooded = is_flooded
        self._readers: list[SocketReader] = []
        self.asking: list[AskingSocket] = []
        try:
            for address in asking_addresses(link, protocol):
                self.asking.append(AskingSocket(link, address))
                self._read(self.asking[-1].socket, is_answer=True)
            for group, one in self._listening(protocol):
                self._read(one, is_answer=False, group=group)
        except (OSError, DiscoveryRetry):
            self.close()
            raise

    def relink(self, link: LanInterface) -> None:
        """Note the networks that the interface is on now.  Its endpoint is the same."""
        self._link = link

    def close(self) -> None:
        """Close all sockets."""
        for one in self._readers:
            one.close()
        self._readers.clear()
        for asking in self.asking:
            asking.socket.close()

    def _listening(self, protocol: DatagramProtocol) -> Iterator[tuple[str, socket.socket]]:
        """Yield each socket that listens, after the group that it listens to."""
        link = self._link
        for group in protocol.groups:
            if link.ipv6 if ":" in group else link.ipv4:
                yield group, open_group_socket(link, group, protocol.port)
        if protocol.listens and not protocol.groups and link.ipv4:
            try:
                yield "", open_port_socket(link, protocol.port)
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
                raise DiscoveryRetry(
                    f"UDP port {protocol.port} is in use: another program has it; stop that, or "
                    f"have no source of {protocol.kind} on this interface",
                    after=IN_USE,
                ) from error

    def _read(self, one: socket.socket, *, is_answer: bool, group: str = "") -> None:
        def receive(raw: RawDatagram) -> None:
            sender = scoped(raw.sender, self._link.name)
            if any((sender.partition("%")[0], raw.port) == (a.own.address, a.own.port)
                   for a in self.asking):  # fmt: skip
                return  # a broadcast of our own
            if not (group or raw.to == EVERYWHERE or is_on_link(self._link, sender)):
                self._dropped(sender)
                return
            to = group or (BROADCAST if raw.to in self._broadcasts() else "")
            self._received(Datagram(raw.payload, sender, raw.port, is_answer, to=to))

        self._readers.append(SocketReader(one, receive, self._is_flooded))

    def _broadcasts(self) -> set[str]:
        """Return the addresses of what is for all hosts."""
        own = (one.own.address for one in self.asking if not one.is_ipv6)
        return {EVERYWHERE, *(broadcast_of(self._link, one) for one in own)}


class DeviceQuestion:
    """What asks one device, by a socket of its own: no flood reaches that, who knows not its port.

    address: of the device, a link-local one of IPv6 with its interface.  interface: its name.
    token: makes a fresh token.  own: where the questions are sent from.  Raises OSError.
    """

    def __init__(self, link: LanInterface, address: str, token: Callable[[], bytes]) -> None:
        self.address, self.interface, self.token = address, link.name, token
        self._link, self._bare = link, address.partition("%")[0]
        own = own_address(link, address)
        if not own:
            raise OSError(errno.EAFNOSUPPORT, "the interface has no address of that family")
        self._asking = AskingSocket(link, own)
        self.own = self._asking.own

    def close(self) -> None:
        """Close the socket."""
        self._asking.socket.close()

    def send(self, probe: Probe) -> None:
        """Send a probe to where it is for.  Raises OSError."""
        if probe.to == BROADCAST or self._asking.fits(probe.to):
            self._asking.send(probe, probe.to)

    async def ask(
        self, probe: Probe, seconds: float, wanted: Callable[[Datagram], bool] = lambda _: True
    ) -> Datagram | None:
        """Send one datagram to the device; return its first answer that is wanted, or None."""
        self._asking.send(probe, self.address)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                async for one in self.answers((probe.token,)):
                    if wanted(one):
                        return one
        return None

    async def answers(self, asked: Sequence[bytes]) -> AsyncGenerator[Datagram, None]:
        """Yield what comes from the device's address, at most 64 datagrams, without end."""
        loop, one = asyncio.get_running_loop(), self._asking.socket
        count = 0
        while count < MAX_ANSWERS:
            try:
                raw = read_datagram(one)
            except BlockingIOError:
                await _readable(loop, one)
                continue
            count += 1
            sender = scoped(raw.sender, self._link.name)
            if sender == self.address and len(raw.payload) <= MAX_DATAGRAM:
                yield Datagram(raw.payload, sender, raw.port, asked=asked)

    async def connect(self, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a TCP connection to the device, by this interface.  Raises OSError."""
        is_ipv6 = ":" in self._bare
        one = socket.socket(socket.AF_INET6 if is_ipv6 else socket.AF_INET)
        try:
            one.setblocking(False)
            bind_to_interface(one, self._link.name)
            scope = self._link.index if self._bare.startswith(_LINK_LOCAL6) else 0
            to = (self._bare, port, 0, scope) if is_ipv6 else (self._bare, port)
            await asyncio.get_running_loop().sock_connect(one, to)
            return await asyncio.open_connection(sock=one, limit=MAX_STREAM)
        except BaseException:
            one.close()
            raise


async def _readable(loop: asyncio.AbstractEventLoop, one: socket.socket) -> None:
    """Return when something waits at a socket."""
    waits = asyncio.Event()
    loop.add_reader(one, waits.set)
    try:
        await waits.wait()
    finally:
        loop.remove_reader(one)
