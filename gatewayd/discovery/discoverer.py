"""The port of discovery: what a discoverer tells, and how it is run.

Everything here is plain data that could cross a process boundary.

Who is told what becomes of the devices on the LAN.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from gatewayd.device.identity import Claim, DeviceId, Trust
from gatewayd.device.reason import Reason

MAX_ATTRIBUTES = 64
MAX_ATTRIBUTE = 255


@dataclass(frozen=True, slots=True)
class Sighting:
    """A device was heard or read in one place.

    source: the discoverer and its interface, as "mdns/eth1".
    key: what stays the same inside the source while this is the same thing.
    at: seconds of the event loop's clock.
    valid_for: seconds it may be believed, 60 to 86,400.
    interface: its name, "" if the source has none.
    addresses: IP addresses as text, without scope; port: None where there is none.
    attributes: the keys of gatewayd-rules(5), as "txt.model"; at most 64 of at most 255 characters.
    label: a sanitised name to show.
    trust: what this sighting proves by itself.
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
    trust: Trust = Trust.HEARD


class LossReason(StrEnum):
    """Why a key is no longer seen.  Only the first two say anything about the device."""

    GOODBYE = "goodbye"  # it said so, or somebody else did
    EXPIRED = "expired"  # it was silent for too long
    EVICTED = "evicted"  # our own table was full
    STOPPED = "stopped"  # our own discoverer was stopped


@dataclass(frozen=True, slots=True)
class Loss:
    """A key is no longer seen by its source.  A hint to go and look, never a proof."""

    source: str
    key: str
    at: float
    reason: LossReason


class Sink(Protocol):
    """Takes what a discoverer tells.  Never blocks; bounded: it coalesces by (source, key)."""

    def sight(self, sighting: Sighting) -> None: ...
    def lose(self, loss: Loss) -> None: ...


@dataclass(slots=True)
class Health:
    """Counters of one discoverer, for the status.  `dropped` counts by kebab-case cause."""

    sighted: int = 0
    lost: int = 0
    entries: int = 0
    dropped: dict[str, int] = field(default_factory=dict)

    def drop(self, cause: str) -> None:
        """Count one thing that was not believed."""
        self.dropped[cause] = self.dropped.get(cause, 0) + 1


class Interest(StrEnum):
    """What policy would do with a name, as far as it can be told before resolving it."""

    WANTED = "wanted"  # some rule could match: resolved first
    STRANGER = "stranger"  # no rule could match: resolved when there is room, held for approval
    IGNORED = "ignored"  # a rule says to ignore it: counted, never resolved


@dataclass(frozen=True, slots=True)
class Context:
    """What a discoverer may use.

    now: the event loop's clock, seconds.  jitter: a number from [0, 1) at each call.
    interest: asked with what is known before resolving ("source", "service", "instance",
    "interface"); it must be asked before anything is sent on behalf of a name.
    """

    now: Callable[[], float]
    jitter: Callable[[], float]
    interest: Callable[[Mapping[str, str]], Interest]


class Discoverer(Protocol):
    """Looks at the LAN in one way.  Its class declares `Settings`, a frozen dataclass."""

    name: str
    health: Health

    async def run(self, context: Context, sink: Sink) -> None:
        """Tell the sink what is seen, until cancelled.  Raises DiscoveryFatal, DiscoveryRetry."""

    async def verify(self, sighting: Sighting) -> Sighting | None:
        """Look again for one device, in at most 3 s; None if it does not answer."""

    async def rescan(self) -> None:
        """Look again for all, as if just started."""


class Listener(Protocol):
    """Is told at once.  Never blocks; it may ask the inventory, and changes it only later."""

    def seen(self, device: DeviceId) -> None:
        """It is on the LAN: for the first time, or again."""

    def lost(self, device: DeviceId, reason: Reason) -> None:
        """It has left the LAN: it was asked, and did not answer."""

    def changed(self, device: DeviceId) -> None:
        """What is known of it has changed: its evidence, a conflict, or whether it is flapping."""

    def merged(self, kept: DeviceId, gone: DeviceId) -> None:
        """Two devices turned out to be one."""

    def evicted(self, device: DeviceId) -> None:
        """It had to make room.  Nobody knows whether it is there."""
