"""The names of DNS-SD, as values: RFC 6763, section 4.  Pure."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

from gatewayd.discovery.text import is_clean, label
from gatewayd.errors import ConfigError

MAX_LABEL = 63
"""Bytes in one label of a domain name (RFC 1035, 2.3.4)."""

SRV, TXT, IN = 33, 16, 1  # RFC 2782; RFC 1035, 3.2.2 and 3.2.4

_DOMAIN = ".local"
_SERVICE = re.compile(r"_[a-z0-9](?:[a-z0-9_-]{0,60}[a-z0-9])?\._(?:tcp|udp)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Name:
    """One instance of a service.

    service: without the domain, as "_shelly._tcp".
    instance: one label of clean text, 1 to 63 bytes; it may hold dots.
    """

    service: str
    instance: str

    @property
    def key(self) -> str:
        """What two spellings of one name have in common."""
        return f"{self.service}|{self.instance}".lower()

    @property
    def full(self) -> str:
        """The name with its domain and the final dot, as zeroconf writes it."""
        return f"{self.instance}.{self.service}{_DOMAIN}."


def service(text: str) -> str:
    """Return a service type without its domain.  Raises ConfigError.

    text: as "_http._tcp", "_http._tcp.local" or "_http._tcp.local.".
    """
    bare = text.removesuffix(".").removesuffix(_DOMAIN)
    if not _SERVICE.fullmatch(bare) or "--" in bare:
        raise ConfigError(f"types must hold service types, as '_http._tcp'; {label(text)} is none")
    return bare


def domain(bare: str) -> str:
    """Return a service type with its domain and the final dot."""
    return f"{bare}{_DOMAIN}."


def parse(bare: str, full: str) -> Name | None:
    """Return the name of an instance of a service; None where it is not fit to be used.

    full: as announced: instance, service and domain in one, in any spelling.  What begins or ends
    with a dot, or has two in a row, is refused: libraries split there, and cannot ask for it.
    """
    tail = f".{domain(bare)}"
    if not full.lower().endswith(tail.lower()):
        return None
    instance = full[: -len(tail)]
    if not is_clean(instance) or not instance.strip() or not all(instance.split(".")):
        return None
    return Name(bare, instance) if len(instance.encode()) <= MAX_LABEL else None


def question(name: Name) -> bytes:
    """Return a message that asks everybody for the SRV and TXT records of a name.

    It lists no known answers, so whoever holds the name has to answer (RFC 6762, 7.1).
    """
    labels = (name.instance, *name.service.split("."), _DOMAIN[1:])
    encoded = b"".join(bytes([len(raw)]) + raw for raw in (one.encode() for one in labels)) + b"\0"
    asked = (encoded + struct.pack("!HH", kind, IN) for kind in (SRV, TXT))
    return struct.pack("!6H", 0, 0, 2, 0, 0, 0) + b"".join(asked)


@dataclass(frozen=True, slots=True)
class Question:
    """A question in the form that zeroconf sends.  Its own would split an instance at its dots."""

    name: Name

    def packets(self) -> list[bytes]:
        """Return the datagrams to send."""
        return [question(self.name)]
