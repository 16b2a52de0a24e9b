"""A lease, whatever server has written it, and which of those in its files count.  Pure."""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

MAX_LEASES = 4096
"""Leases that count, of the newest rows."""
MAX_FIELD = 255
"""Characters of a host name, and of a vendor class."""
NEVER = math.inf
"""When a lease ends that does not end."""

_ETHERNET = re.compile(r"[0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){5}")
_DUID = re.compile(r"(?:00010001[0-9a-f]{8}|00030001)([0-9a-f]{12})")
_MAX_MOMENT = 1 << 53


@dataclass(frozen=True, slots=True)
class Lease:
    """One lease of an IP address, as its row shows it.

    mac: of an Ethernet interface, 12 hex digits; of a lease of IPv6, by its DUID.
    hostname, vendor_class: the client's own words, as they were sent; "" for none.
    client_id: option 61, hex digits; "" for none.
    duid: of a lease of IPv6, hex digits; "" for none.
    ends: seconds since 1970; NEVER for an infinite one.
    is_active: False for a row by which an address is free again.
    """

    address: str
    mac: str
    ends: float
    hostname: str = ""
    client_id: str = ""
    vendor_class: str = ""
    is_active: bool = True
    duid: str = ""


Row: TypeAlias = Lease | None
"""A row of a file; None for one that says nothing of a device, or nothing that can be read."""

ParseLeases: TypeAlias = Callable[[bytes], Iterator[Row]]
"""Reads one file of a server, the oldest row first.  A half-written end is left out."""


def live(rows: Iterable[Lease], now: float) -> Sequence[Lease]:
    """Return the leases that hold, at most MAX_LEASES: of each address the last row counts.

    now: seconds since 1970.
    """
    last: dict[str, Lease] = {}
    for one in rows:
        last.pop(one.address, None)  # so that the newest are at the end
        last[one.address] = one
    return [one for one in last.values() if one.is_active and one.ends > now][-MAX_LEASES:]


def ethernet(text: str) -> str:
    """Return a MAC as 12 hex digits; "" for anything else."""
    return re.sub("[:-]", "", text).lower() if _ETHERNET.fullmatch(text) else ""


def ipv4(text: str) -> str:
    """Return an IPv4 address in its usual spelling; "" for anything else."""
    return _address(text, ipaddress.IPv4Address)


def ipv6(text: str) -> str:
    """Return an IPv6 address in its usual spelling; "" for anything else."""
    return "" if "%" in text else _address(text, ipaddress.IPv6Address)


def _address(text: str, of: Callable[[str], object]) -> str:
    try:
        return str(of(text))
    except ValueError:
        return ""


def mac_of_duid(duid: str) -> str:
    """Return the MAC in a DUID, 12 hex digits; "" if it has none of Ethernet.

    duid: hex digits, with a link-layer address and a time, or without (RFC 8415, 11.2 and 11.4).
    """
    found = _DUID.fullmatch(duid)
    return found[1] if found else ""


def hex_digits(text: str) -> str:
    """Return the digits of octets that are written as 01:62:47; "" for anything else."""
    digits = text.replace(":", "").lower()
    return digits[:MAX_FIELD] if re.fullmatch(r"([0-9a-f]{2})+", digits) else ""


def moment(text: str) -> float | None:
    """Return a moment that is written as seconds since 1970; None for anything else."""
    return float(text) if re.fullmatch(r"[0-9]{1,16}", text) and int(text) < _MAX_MOMENT else None


def whole_lines(content: bytes) -> Iterator[str]:
    """Yield the lines of a file, but for one at the end that is still being written."""
    for line in content.split(b"\n")[:-1]:
        yield line.rstrip(b"\r").decode(errors="replace")
