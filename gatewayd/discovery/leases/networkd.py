"""The lease files of systemd-networkd (systemd 257): one for each interface, of JSON.  Pure.

/var/lib/systemd/network/dhcp-server-lease/<interface>, replaced at each change, and removed with
the last lease (sd-dhcp-server-lease.c):

    {"BootID": "…", "Address": [192, 168, 124, 1], "PrefixLength": 24, "Leases": [
      {"ClientId": [1, 198, 229, 80, 28, 236, 2], "Address": [192, 168, 124, 26],
       "Hostname": "w1", "HardwareAddressType": 1, "HardwareAddressLength": 6,
       "HardwareAddress": [198, 229, 80, 28, 236, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
       "ExpirationRealtimeUSec": 1785791504658855}]}

The hardware address is that of its length, with octets after it or without.  A lease without an
expiration does not end.  Systemd 256 wrote the bare list, with no more than ExpirationUSec, which
counts from a boot that the file does not name: it is not read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from gatewayd.discovery.leases.lease import MAX_FIELD, NEVER, Lease, Row

_ETHERNET = 1  # ARPHRD_ETHER, and the type of a client-id that is a MAC (RFC 2132, 9.14)
_MAC, _IPV4 = 6, 4
_OCTET = range(256)
"""The values of one octet."""
_MICROSECONDS = 1_000_000
_MAX_MOMENT = 1 << 53


def parse_networkd(content: bytes) -> Iterator[Row]:
    """Yield the leases of a file of systemd-networkd; none of one that is half-written."""
    try:
        read = json.loads(content)
    except (ValueError, RecursionError):
        return
    leases = read.get("Leases") if isinstance(read, dict) else read
    if isinstance(leases, list):
        for one in leases:
            yield _lease(one) if isinstance(one, dict) else None


def _lease(row: Mapping[str, Any]) -> Row:
    client_id, where = _octets(row.get("ClientId")), _octets(row.get("Address"))
    ends, mac = _ends(row), _mac(row, client_id)
    if ends is None or not mac or len(where) != _IPV4:
        return None
    hostname = row.get("Hostname")
    return Lease(
        ".".join(map(str, where)),
        mac,
        ends,
        hostname[:MAX_FIELD] if isinstance(hostname, str) else "",
        client_id.hex()[:MAX_FIELD],
    )


def _octets(value: object) -> bytes:
    """Return a list of numbers as octets; none for anything else."""
    if not isinstance(value, list) or not all(type(one) is int and one in _OCTET for one in value):
        return b""
    return bytes(value)


def _mac(row: Mapping[str, Any], client_id: bytes) -> str:
    hardware = _octets(row.get("HardwareAddress"))
    if hardware:
        is_ethernet = row.get("HardwareAddressType", _ETHERNET) == _ETHERNET
        is_mac = row.get("HardwareAddressLength", len(hardware)) == _MAC <= len(hardware)
        return hardware[:_MAC].hex() if is_ethernet and is_mac else ""
    return client_id[1:].hex() if len(client_id) == 1 + _MAC and client_id[0] == _ETHERNET else ""


def _ends(row: Mapping[str, Any]) -> float | None:
    if "ExpirationRealtimeUSec" not in row:
        return None if "ExpirationUSec" in row else NEVER
    ends = row["ExpirationRealtimeUSec"]
    is_moment = type(ends) is int and 0 <= ends < _MAX_MOMENT * _MICROSECONDS
    return ends / _MICROSECONDS if is_moment else None
