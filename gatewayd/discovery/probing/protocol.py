"""The port of a protocol of datagrams: what is asked, and what an answer says.  Plain data.

A protocol is pure: it makes probes and reads answers.  `DatagramDiscoverer` sends, receives,
bounds, and reports what was found.
"""

from __future__ import annotations

from asyncio import StreamReader, StreamWriter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from gatewayd.device.identity import Claim

TOKEN = 8
"""Bytes of a token, by which an answer is known to be one to a probe."""
BROADCAST = "broadcast"
"""Whom a probe is for that is for all hosts of the interface's network."""


@dataclass(frozen=True, slots=True)
class Found:
    """One device, as one answer shows it.

    key: what stays the same inside the source while this is the same device.
    claims: of `gatewayd.device.identity.claim`; names and addresses are none.  At most 16 are
    kept, the strongest first.
    attributes: the keys of gatewayd-rules(5), from `sanitize.attribute` or `escaped_attribute`;
    "source", "interface", "address" and "port" are added.
    label: a name to show; it is cleaned.
    valid_for: seconds for which it may be believed; it is clamped to 60 to 86,400.  0 if the
    protocol says nothing of it: until it has left two rounds of probes unanswered.
    port: where its service is; None if there is none.
    is_behind: whether it is behind the sender, as behind a router: the MAC that the kernel saw is
    then not its own.
    is_directory: whether it lists other devices, so that it is enquired whatever the rules want.
    """

    key: str
    claims: frozenset[Claim]
    attributes: Mapping[str, str]
    label: str
    valid_for: float
    port: int | None = None
    is_behind: bool = False
    is_directory: bool = False


@dataclass(frozen=True, slots=True)
class Goodbye:
    """A goodbye: a hint that a key is no longer there.  Any host may send it."""

    key: str


News: TypeAlias = Found | Goodbye


@dataclass(frozen=True, slots=True)
class Datagram:
    """One datagram as it came.

    sender: its IP address, a link-local one of IPv6 with its interface, "fe80::1%lan0".
    port: its UDP port.
    is_answer: whether it came to the port that probes are sent from; False for what was sent to
    the group or to the protocol's own port.
    asked: the tokens of the probes that are still open.
    to: the group that it was sent to, or BROADCAST; "" for what was sent to this host alone.
    """

    payload: bytes
    sender: str
    port: int
    is_answer: bool = True
    asked: Collection[bytes] = ()
    to: str = ""


@dataclass(frozen=True, slots=True)
class Own:
    """Where a probe is sent from: some protocols write it into their questions.

    address: of the interface, without its scope.  port: the UDP port, at which answers arrive.
    """

    address: str
    port: int


@dataclass(frozen=True, slots=True)
class Probe:
    """One datagram to be sent.

    to: an IP address, or a group; "broadcast" for the broadcast address of the interface.
    token: TOKEN bytes of the probe, if its protocol has room for them; else b"".
    after: seconds after the one before it.
    purpose: what it asks for, in a few words for `gatewayctl discover --dry-run`.
    """

    payload: bytes
    to: str
    port: int
    purpose: str
    token: bytes = b""
    after: float = 0.0


class UnreadableAnswer(ValueError):
    """An answer that says nothing.  cause: kebab-case, for a counter."""

    def __init__(self, cause: str) -> None:
        super().__init__(cause)
        self.cause = cause


class Enquiry(Protocol):
    """What a protocol may ask one device that was found: of its address alone.

    address: the device's, as in `Datagram.sender`.  interface: on which it was found.
    own: where the questions are sent from.  token: a fresh one at each call.
    """

    address: str
    interface: str
    own: Own

    def token(self) -> bytes: ...

    async def ask(
        self, probe: Probe, seconds: float, wanted: Callable[[Datagram], bool] = ...
    ) -> Datagram | None:
        """Send one datagram to the device, and return its first answer; None if there is none.

        probe: `to` does not count.  wanted: whether it is the answer, of what comes from the
        device's address; anything is by default.  Raises OSError.
        """

    async def connect(self, port: int) -> tuple[StreamReader, StreamWriter]:
        """Open a TCP connection to the device, by the interface on which it was found.

        The caller closes it, and sets the time that it may take.  Raises OSError.
        """


class DatagramProtocol(Protocol):
    """One protocol of datagrams.

    kind: of the discoverer, as "ssdp": the attribute "source".
    groups: multicast addresses, of IPv4 and IPv6, at whose `port` it listens; () for none.
    port: the protocol's own UDP port.
    listens: whether it reads what comes to `port`, if it has no group: answers by broadcast.
    ipv4_only: whether there is nothing to be asked by IPv6.
    answer_time: seconds in which answers come.
    """

    kind: str
    groups: Sequence[str]
    port: int
    listens: bool
    ipv4_only: bool
    answer_time: float

    def probes(self, token: bytes, own: Own) -> Sequence[Probe]:
        """Return what is asked of all devices, in one family of addresses: that of `own`.

        It is called for each family that the interface has."""

    def probe_of(self, address: str, key: str, token: bytes, own: Own) -> Sequence[Probe]:
        """Return what is asked of one device that was found, to see whether it is still there.

        address: of the device.  A probe may be to a group as well.
        """

    def read(self, datagram: Datagram) -> Iterable[News]:
        """Return what a datagram says: nothing, if it is a question of another host.

        Raises UnreadableAnswer, and nothing else."""

    async def enquire(self, found: Found, enquiry: Enquiry) -> Sequence[Found]:
        """Ask a device for more; return what it is then, with the same key, and what it lists.

        It is called for what the rules may want, and for directories, at most once in ten minutes
        for a key at an address, and for one device of an address at a time.  What it adds to
        claims, attributes and label holds for later answers, too.  Raises OSError,
        UnreadableAnswer.
        """


SUSPECT = "when a device is silent, has said goodbye, or is seen at two places"
"""When one device is asked by itself."""


@dataclass(frozen=True, slots=True)
class Transmission:
    """What a discoverer sends, for `gatewayctl discover --dry-run`.

    to: whom, as "239.255.255.250 port 1900 by UDP".  interface: "" where the route decides.
    every: seconds between two of them; 0 for once, at the start and at a rescan, or at `occasion`.
    size: bytes of its payload, at least; 0 where it depends on the device.
    purpose: in a few words.  occasion: of what is not sent regularly, as "when it is silent".
    """

    to: str
    interface: str
    every: float
    size: int
    purpose: str
    occasion: str = ""
