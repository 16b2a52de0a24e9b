"""Lease files with a line for each lease: those of dnsmasq, and of Kea.  Pure.

dnsmasq (2.90, 2.91; read_leases and lease_update_file in its lease.c) rewrites its file at each
change, in place:

    expiry MAC address host-name client-id

An expiry of 0 is none, "*" stands for nothing, a MAC of another hardware than Ethernet begins with
its type, as 06-..., and a line "duid ..." begins the leases of IPv6.

Kea (2.2, 2.6; the memfile back end) appends a row at each change, under a line with the names of
the columns, of which later versions have more.  A comma in a value is written as &#x2c.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from gatewayd.discovery.leases.lease import (
    MAX_FIELD,
    NEVER,
    Lease,
    Row,
    ethernet,
    hex_digits,
    ipv4,
    moment,
    whole_lines,
)

_FIELDS = 5
_NOTHING = "*"
_IPV6_PART = "duid "

_NEEDED = frozenset({"address", "hwaddr", "expire", "valid_lifetime"})
_ASSIGNED = "0"
"""The state of a Kea lease that is one; 1 is declined, 2 is expired and reclaimed."""
_INFINITE = "4294967295"
"""The lifetime of one that does not end (RFC 2131, 3.3)."""
_ESCAPE = re.compile("&#x([0-9a-fA-F]{2})")


def parse_dnsmasq(content: bytes) -> Iterator[Row]:
    """Yield the rows of a file of dnsmasq."""
    for line in whole_lines(content):
        if line.startswith(_IPV6_PART):
            return
        if line:
            yield _dnsmasq(line.split(" "))


def _dnsmasq(fields: list[str]) -> Row:
    if len(fields) < _FIELDS:
        return None
    expiry, mac, address, hostname, client_id = fields[:_FIELDS]
    ends, digits, where = moment(expiry), ethernet(mac), ipv4(address)
    if ends is None or not digits or not where:
        return None
    return Lease(
        where,
        digits,
        ends or NEVER,
        "" if hostname == _NOTHING else hostname[:MAX_FIELD],
        hex_digits(client_id),
    )


def parse_kea(content: bytes) -> Iterator[Row]:
    """Yield the rows of a file of Kea."""
    names: list[str] = []
    for line in whole_lines(content):
        fields = line.split(",")
        if not names:
            names = fields
            if not _NEEDED.issubset(names):
                return
        elif line:
            fits = _NEEDED.issubset(names[: len(fields)])
            yield _kea(dict(zip(names, fields, strict=False))) if fits else None


def _kea(row: Mapping[str, str]) -> Row:
    ends, digits = moment(row["expire"]), ethernet(row["hwaddr"])
    where, lifetime = ipv4(row["address"]), row["valid_lifetime"]
    if ends is None or not where:
        return None
    is_active = row.get("state", _ASSIGNED) == _ASSIGNED and lifetime != "0"
    if is_active and not digits:
        return None
    return Lease(
        where,
        digits,
        NEVER if lifetime == _INFINITE else ends,
        _ESCAPE.sub(_unescaped, row.get("hostname", ""))[:MAX_FIELD],
        hex_digits(row.get("client_id", "")),
        is_active=is_active,
    )


def _unescaped(found: re.Match[str]) -> str:
    return chr(int(found[1], 16))
