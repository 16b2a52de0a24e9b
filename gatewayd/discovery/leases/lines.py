"""Lease files with a line for each lease: those of dnsmasq, and of Kea.  Pure.

dnsmasq (2.90, 2.91; read_leases and lease_update_file in its lease.c) rewrites its file at each
change, in place:

    expiry MAC address host-name client-id

An expiry of 0 is none, "*" stands for nothing, a MAC of another hardware than Ethernet begins with
its type, as 06-...  A line "duid ..." with the server's own begins the leases of IPv6:

    expiry IAID address host-name DUID

Kea (2.2, 2.6; the memfile back end) appends a row at each change, under a line with the names of
the columns, of which later versions have more.  A comma in a value is written as &#x2c.  A row of
IPv6 has a DUID, and a MAC where the server knows it; one of a prefix is of no device.
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
    ipv6,
    mac_of_duid,
    moment,
    whole_lines,
)

_FIELDS = 5
_NOTHING = "*"
_IPV6_PART = "duid "

_NEEDED = frozenset({"address", "hwaddr", "expire", "valid_lifetime"})
_DUID = "duid"
_PREFIX = "2"
"""The type of a Kea lease that is of a prefix: lease_type."""
_ASSIGNED = "0"
"""The state of a Kea lease that is one; 1 is declined, 2 is expired and reclaimed."""
_INFINITE = "4294967295"
"""The lifetime of one that does not end (RFC 2131, 3.3)."""
_ESCAPE = re.compile("&#x([0-9a-fA-F]{2})")


def parse_dnsmasq(content: bytes) -> Iterator[Row]:
    """Yield the rows of a file of dnsmasq."""
    read = _dnsmasq
    for line in whole_lines(content):
        if line.startswith(_IPV6_PART):
            read = _dnsmasq6
        elif line:
            fields = line.split(" ")
            yield read(fields) if len(fields) >= _FIELDS else None


def _dnsmasq(fields: list[str]) -> Row:
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


def _dnsmasq6(fields: list[str]) -> Row:
    expiry, _, address, hostname, client = fields[:_FIELDS]
    duid = hex_digits(client)
    ends, mac, where = moment(expiry), mac_of_duid(duid), ipv6(address)
    if ends is None or not mac or not where:
        return None
    name = "" if hostname == _NOTHING else hostname[:MAX_FIELD]
    return Lease(where, mac, ends or NEVER, name, duid=duid)


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
            row = dict(zip(names, fields, strict=False))
            if row.get("lease_type") != _PREFIX:
                yield _kea(row) if _NEEDED.issubset(row) else None


def _kea(row: Mapping[str, str]) -> Row:
    is_v6, duid = _DUID in row, hex_digits(row.get(_DUID, ""))
    ends, digits = moment(row["expire"]), ethernet(row["hwaddr"]) or mac_of_duid(duid)
    where, lifetime = (ipv6 if is_v6 else ipv4)(row["address"]), row["valid_lifetime"]
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
        duid=duid,
    )


def _unescaped(found: re.Match[str]) -> str:
    return chr(int(found[1], 16))
