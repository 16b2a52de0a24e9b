"""The port of discovery: what a discoverer is, what it reports, and who is notified of devices.

A discoverer looks at the LAN in one way: mDNS, a list, a bus.  It is found by the entry point
group `gatewayd.discoverers` and proves itself by `gatewayd.testing.contracts.discoverer`.
Reports are plain data that could cross a process boundary.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, TypeAlias

from gatewayd.device.identity import Claim, DeviceId, Trust
from gatewayd.device.reason import Reason
from gatewayd.discovery.diagnosis.refusals import RefusalNotes

MAX_ATTRIBUTES = 64
MAX_ATTRIBUTE = 255
"""Characters in the value of one attribute."""
SHORTEST, LONGEST = 60.0, 86_400.0
"""Seconds for which a sighting may be believed, at least and at most."""

Origin: TypeAlias = tuple[str, str]
"""Where something was seen: the source and the key of a sighting."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """A report that a device was seen, from one source.

    source: the discoverer's name, "/" and its interface, as "mdns/eth1"; the name alone where
    the source has no interface.
    key: what stays the same inside the source while this is the same thing.
    at: when it was seen, seconds of the event loop's clock.
    valid_for: seconds for which it may be believed, 60 to 86,400.
    interface: the network interface's name, "" if the source has none.
    addresses: IP addresses as text; a link-local one of IPv6 with its interface, "fe80::1%lan0".
    port: None if there is none.
    claims: what the device says of its identity; names and addresses identify nothing.
    attributes: the keys of gatewayd-rules(5), as "txt.model"; at most 64, of printable text of at
    most 255 characters.  "source" is always there: the kind of discoverer, as "mdns".
    label: a name to show, from `sanitize.label`.
    trust: what this sighting proves by itself.
    is_behind: whether the device is behind another, as behind a router: the addresses are that
    one's, and so is the MAC that the kernel found there.
    """

    source: str
    key: str
    at: float
    valid_for: float
    interface: str
    addresses: tuple[str, ...]
    port: int | None
    claims: frozenset[Claim]
    attributes: Mapping[str, str]
    label: str
    trust: Trust = Trust.CLAIMED
    is_behind: bool = False

    @property
    def origin(self) -> Origin:
        """Where the device was seen."""
        return self.source, self.key


class LossReason(StrEnum):
    """Why a key is no longer seen.  Only the first two say anything about the device."""

    GOODBYE = "goodbye"  # the device said so, or another host in its name
    EXPIRED = "expired"  # it was silent for too long
    EVICTED = "evicted"  # the discoverer's table was full
    STOPPED = "stopped"  # the discoverer was stopped


@dataclass(frozen=True, slots=True)
class Loss:
    """A report that a key is no longer seen.  It makes the device suspect; it proves nothing.

    source, key: of the sighting.  at: seconds of the event loop's clock.
    """

    source: str
    key: str
    at: float
    reason: LossReason

    @property
    def origin(self) -> Origin:
        """Where the device was seen before."""
        return self.source, self.key


class Sink(Protocol):
    """The receiver of reports.  `sight` and `lose` return at once; nothing is raised.

    It is bounded: of each (source, key) it keeps the newest report only, and what comes faster
    than it is processed is dropped, the least trusted first.
    """

    async def room(self, name: str = "") -> None:
        """Return when few reports wait.  To be awaited before each report of many at once.

        name: of the discoverer, whose reports count; a discoverer need not say its own.
        """

    def sight(self, sighting: Sighting) -> None:
        """Report a device; report it again whenever it was seen again."""

    def lose(self, loss: Loss) -> None:
        """Report that a key which was reported is no longer seen."""


@dataclass(slots=True)
class Health:
    """The counters of one discoverer, shown to operators.

    sighted, lost: reports so far.  entries: names or devices kept now.
    dropped: what was not believed or had no room, by kebab-case cause.
    refused: which things were dropped last.
    """

    sighted: int = 0
    lost: int = 0
    entries: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    refused: RefusalNotes = field(default_factory=RefusalNotes, compare=False)

    def drop(self, cause: str, *, interface: str = "", sender: str = "", name: str = "") -> None:
        """Count one dropped thing, and note whose it was if that is known.

        sender: its IP address.  name: as it was announced.
        """
        self.dropped[cause] = self.dropped.get(cause, 0) + 1
        if sender or name:
            self.refused.note(cause, interface, sender, name)


Observe: TypeAlias = Callable[[str, float, Mapping[str, str | int | bytes]], None]
"""Called with the kind of an event, as "datagram" or "interface", with when it was, seconds of the
event loop's clock, and with what is known of it."""


@dataclass(slots=True)
class EventHook:
    """Where what comes from the LAN or the kernel can be recorded.

    observe: None while nothing is recorded, so that it costs a comparison.
    states: called at the beginning, by the source: each passes on to `observe` how things are then.
    """

    observe: Observe | None = None
    states: dict[str, Callable[[], None]] = field(default_factory=dict)


class Interest(StrEnum):
    """What the rules would do with a device, as far as that is known of it."""

    LISTED = "listed"  # a rule could match, and lists the identity: known of no name by itself
    WANTED = "wanted"  # a rule could match: resolve it first
    STRANGER = "stranger"  # no rule could match: resolve it when there is room
    IGNORED = "ignored"  # a rule ignores it: count it, never resolve it


MATCHABLE = frozenset({Interest.WANTED, Interest.LISTED})
"""The interests in what a rule could match."""


async def _nowhere(_kind: str, _name: str) -> Sequence[str]:
    return ()


@dataclass(frozen=True, slots=True)
class Context:
    """What gatewayd lends a discoverer.

    now: the event loop's clock, seconds.  jitter: a number from [0, 1) at each call.
    interest: what the rules want of a device, given the attributes that are known, of a name before
    it is resolved ("source", "service", "instance", "interface").  A discoverer asks before it
    sends anything on behalf of a name.
    is_known: whether an IP address is that of a device on record: in a flood, its packets are read
    before those of strangers.  It is asked for each packet.
    hook: a discoverer passes on to it what comes, before anything of it is judged.
    locate: returns the IP addresses of a device by "host", its host name, or "mac", 12 hex digits;
    none if they are not known.  In the discovery helper they never are.
    """

    now: Callable[[], float]
    jitter: Callable[[], float]
    interest: Callable[[Mapping[str, str]], Interest]
    is_known: Callable[[str], bool] = lambda _: False
    hook: EventHook = field(default_factory=EventHook)
    locate: Callable[[str, str], Awaitable[Sequence[str]]] = _nowhere


class Discoverer(Protocol):
    """One way to find devices.

    It is made as `cls(name, settings)`, which may raise ConfigError.  `cls.Settings` is a frozen
    dataclass of `gatewayd.settings.declare.setting` fields: the keys of [discovery.<name>].
    `cls.port_version` is a version of PORTS in gatewayd/plugins.py.

    It runs in the discovery helper, a process without secrets, and its reports prove nothing but
    what a packet does, whatever their `trust`.  A class that reads nothing from the LAN may say
    `isolated = False`: it runs in gatewayd itself, and its `trust` counts.

    A source that asks with a secret names in its settings the credential and the file of it, as the
    property `secret_place`.  If one is named there, the class is made as `cls(name, settings,
    secret)`, in a helper that no source without a secret shares; else as any other.

    It may have a method `transmissions()`, which returns what it would send, as
    `gatewayd.discovery.probing.protocol.Transmission`: for `gatewayctl discover --dry-run`.

    name: the section's name, as "mdns".  health: its counters, kept current.
    """

    name: str
    health: Health

    async def run(self, context: Context, sink: Sink) -> None:
        """Report to the sink what is seen, until cancelled; then end within 2 s.

        It may be run again afterwards.  Raises DiscoveryRetry to be run again later,
        DiscoveryFatal never to be run again; any other fault is logged, and it is run again.
        """

    async def verify(self, sighting: Sighting) -> Sighting | None:
        """Ask one device for a fresh sighting, in at most 3 s; None if it does not answer.

        The answer comes from the device, not from a cache.  It may show another identity.
        """

    async def rescan(self) -> None:
        """Ask for all devices, as if just started.  Returns without waiting for answers."""


class Listener(Protocol):
    """The receiver of what becomes of devices.

    It is called at once and must not block.  It may read from the inventory, and must not
    change it during the call.
    """

    def seen(self, device: DeviceId) -> None:
        """The device is on the LAN: for the first time, or again."""

    def lost(self, device: DeviceId, reason: Reason) -> None:
        """The device has left the LAN: it was asked, and did not answer."""

    def changed(self, device: DeviceId) -> None:
        """The device's evidence, its conflict or its flapping has changed."""

    def merged(self, kept: DeviceId, gone: DeviceId) -> None:
        """Two devices turned out to be one."""

    def evicted(self, device: DeviceId) -> None:
        """The device was dropped from a full table.  It may still be on the LAN."""
