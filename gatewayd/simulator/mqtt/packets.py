"""The packets of MQTT 3.1.1 that a client of a cloud sends.  Plain data.

Sections are those of the OASIS standard "MQTT Version 3.1.1".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

LEVELS = frozenset({("MQIsdp", 3), ("MQTT", 4)})
"""Protocol name and level of MQTT 3.1 and 3.1.1 (3.1.2.1, 3.1.2.2)."""


@dataclass(frozen=True, slots=True)
class Connect:
    """CONNECT (3.1).  Of a protocol that is not `known`, nothing but its name and level was read.

    keepalive: seconds; 0 for none.
    username: "" where none was sent; password: b"" likewise, and never shown.
    """

    protocol: str
    level: int
    client_id: str = ""
    keepalive: int = 0
    clean: bool = True
    username: str = ""
    password: bytes = field(default=b"", repr=False)

    @property
    def known(self) -> bool:
        """Whether a server of MQTT 3.1 and 3.1.1 serves this."""
        return (self.protocol, self.level) in LEVELS


@dataclass(frozen=True, slots=True)
class Publish:
    """PUBLISH (3.3).  qos: 0 or 1.  packet_id: 0 where QoS is 0."""

    topic: str
    payload: bytes = field(repr=False)
    qos: int = 0
    packet_id: int = 0


@dataclass(frozen=True, slots=True)
class Puback:
    """PUBACK (3.4)."""

    packet_id: int


@dataclass(frozen=True, slots=True)
class Subscribe:
    """SUBSCRIBE (3.8): filters, each with the QoS asked for, 0 to 2."""

    packet_id: int
    filters: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """UNSUBSCRIBE (3.10)."""

    packet_id: int
    filters: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Pingreq:
    """PINGREQ (3.12)."""


@dataclass(frozen=True, slots=True)
class Disconnect:
    """DISCONNECT (3.14): the client leaves in good order."""


Packet: TypeAlias = Connect | Publish | Puback | Subscribe | Unsubscribe | Pingreq | Disconnect
