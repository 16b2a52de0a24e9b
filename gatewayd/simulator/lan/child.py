"""A child device of the simulated LAN, and fleets of them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_network

SERVICE = "_gatewayd-child._tcp.local"
MODEL = "TH-20"
PORT = 8080
NETWORK = "127.1.0.0/16"

_OUI = "24:0a:c4"  # Espressif's: unicast, universally administered
_MAX_INSTANCE, _MAX_STRING = 63, 255  # bytes (RFC 6763 4.1.1 and 6.1)
_TAILS = 1 << 24  # the number of values of the other three octets, or six digits


@dataclass(frozen=True, slots=True)
class LanChild:
    """A device, with the data that it announces.  Raises ValueError for what DNS cannot carry.

    instance: its service instance name, one label, at most 63 bytes of UTF-8.
    serial: as "TH20-0001A7"; mac: as "24:0a:c4:0c:2f:91"; host: its name, without ".local".
    address: IPv4 or IPv6, where it listens on TCP `port`.
    service: a type with its domain (RFC 6763 4.1).
    extra: further fields of the TXT record, besides serial, mac and model.
    """

    instance: str
    serial: str
    mac: str
    host: str
    address: str
    model: str = MODEL
    port: int = PORT
    service: str = SERVICE
    extra: tuple[tuple[str, str], ...] = (("fw", "1.4.2"),)

    def __post_init__(self) -> None:
        if not 0 < len(self.instance.encode()) <= _MAX_INSTANCE:
            raise ValueError("an instance name has 1 to 63 bytes")
        if any(len(string.encode()) > _MAX_STRING for string in self.text):
            raise ValueError("a string of a TXT record has at most 255 bytes")

    @property
    def text(self) -> tuple[str, ...]:
        """The strings of its TXT record."""
        fields = (("serial", self.serial), ("mac", self.mac), ("model", self.model), *self.extra)
        return tuple(f"{key}={value}" for key, value in fields)


def fleet(
    n: int, seed: int, *, network: str = NETWORK, service: str = SERVICE
) -> tuple[LanChild, ...]:
    """Make n children with serials TH20-[0-9A-F]{6}; the same seed makes the same children.

    network: gives each its address, from the first host on.  Raises ValueError if it is too small.
    """
    # Seeded unlike a generator that the caller seeds with the same number, and draws clones from.
    rng = random.Random(f"fleet {seed}")  # play, not cryptography
    block = ip_network(network)
    if not 0 <= n <= min(block.num_addresses - 2, _TAILS):
        raise ValueError(f"{network} has no room for {n} children")
    serials, tails = rng.sample(range(_TAILS), n), rng.sample(range(_TAILS), n)
    return tuple(
        _child(serial, tail, str(block[i + 1]), service)
        for i, (serial, tail) in enumerate(zip(serials, tails, strict=True))
    )


def _child(serial: int, tail: int, address: str, service: str) -> LanChild:
    return LanChild(
        instance=f"{MODEL} {serial:06X}",
        serial=f"TH20-{serial:06X}",
        mac=mac(tail),
        host=f"th-20-{tail:06x}",
        address=address,
        service=service,
    )


def mac(tail: int) -> str:
    """Return the unicast, universally administered MAC with these last three octets."""
    octets = tail.to_bytes(3)
    return f"{_OUI}:{octets.hex(':')}"


def clone(child: LanChild, address: str, rng: random.Random) -> LanChild:
    """Make another device with the same serial, but with its own MAC and names.

    It is renamed as after a name conflict (RFC 6762 9).
    """
    tail = rng.randrange(_TAILS)
    return replace(
        child,
        instance=f"{child.instance} (2)",
        mac=mac(tail),
        host=f"th-20-{tail:06x}",
        address=address,
    )


def next_address(children: Sequence[LanChild]) -> str:
    """Return the address after the highest one in use."""
    return str(ip_address(max(int(ip_address(child.address)) for child in children) + 1))
