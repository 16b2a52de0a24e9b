"""Who a device is, and why we believe it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import NewType

DeviceId = NewType("DeviceId", str)
"""Our own name for a child: `child-` and hex digits.  Never a text from the LAN."""


class Trust(IntEnum):
    """How well an identity is proven.  AUTHENTICATED is cryptographic, the rest filters."""

    HEARD = 0  # an unauthenticated datagram said so
    CORROBORATED = 1  # a second, independent layer agrees: the kernel saw the same MAC
    LISTED = 2  # an operator wrote this identity down beforehand
    AUTHENTICATED = 3  # the device has proven a key

    @property
    def word(self) -> str:
        """The name used in rules, on D-Bus and in the manual."""
        return self.name.lower()


@dataclass(frozen=True, slots=True, order=True)
class Claim:
    """One assertion of identity.

    kind: "cert", "serial", "uuid", "mac" or "name".
    namespace: who gives out the value, as "_shelly._tcp"; "l2" means seen by the kernel.
    value: normalised by `claim()`.
    """

    kind: str
    namespace: str
    value: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that is known of one device: what policy judges.

    views: one flat mapping for each place it was seen in, with the keys of gatewayd-rules(5),
    and "trust": the word for what that sighting proves by itself.
    trust: the best of them; HEARD while there is a conflict.
    label: a sanitised name to show to people.  It identifies nothing.
    conflict: why two claimants quarrel over this identity; "" where none do.
    """

    views: tuple[Mapping[str, str], ...]
    claims: frozenset[Claim]
    trust: Trust
    label: str = ""
    addresses: tuple[str, ...] = ()
    conflict: str = ""


WEIGHTS: Mapping[str, int] = {"cert": 100, "serial": 80, "uuid": 80, "mac": 60}
"""How strongly a kind of claim identifies.  A kind that is not here never merges devices."""

PLACEHOLDERS = frozenset(
    {"00000000", "12345678", "0123456789", "default", "none", "n/a", "unknown", "serial", "test"}
    | {"to be filled by o.e.m.", "not specified", "null", "0"}
)
"""What vendors leave in the serial number field of devices that have none."""

MAX_VALUE = 255
_MULTICAST, _LOCAL = 0x01, 0x02  # bits of a MAC's first octet (IEEE 802, 8.2)
_MAC_DIGITS, _EUI64_DIGITS = 12, 16


def claim(kind: str, namespace: str, text: str) -> Claim | None:
    """Normalise one claim; None where the value identifies nothing."""
    value = text.strip()[:MAX_VALUE]
    if kind == "mac":
        value = mac(value)
    elif kind == "uuid":
        value = value.lower().removeprefix("urn:").removeprefix("uuid:")
    else:
        value = value.lower()
    if not value or value in PLACEHOLDERS:
        return None
    return Claim(kind, namespace, value)


def mac(text: str) -> str:
    """Return a MAC as 12 hex digits; "" if it is none, or one that belongs to no device.

    An EUI-64 made from a MAC (ff:fe in the middle, RFC 4291 appendix A) becomes that MAC again.
    """
    digits = re.sub(r"[:.\-]", "", text.lower())
    if not re.fullmatch(r"[0-9a-f]+", digits):
        return ""
    if len(digits) == _EUI64_DIGITS and digits[6:10] == "fffe":
        digits = digits[:6] + digits[10:]
    if len(digits) != _MAC_DIGITS or digits == "0" * _MAC_DIGITS:
        return ""
    return "" if int(digits[:2], 16) & _MULTICAST else digits


def is_local_mac(digits: str) -> bool:
    """Whether a MAC was made up locally: it may corroborate, and never identifies."""
    return bool(int(digits[:2], 16) & _LOCAL)


def strength(one: Claim) -> int:
    """Return what a claim weighs in telling devices apart; 0 for one that never does."""
    if one.kind == "mac" and is_local_mac(one.value):
        return 0
    return WEIGHTS.get(one.kind, 0)


def device_id(claims: Iterable[Claim], fallback: str, *, digits: int = 12) -> DeviceId:
    """Derive an id from the strongest claim, so that it is the same after a restart.

    fallback: source and key of the sighting, for a device without any strong claim.
    digits: how many hex digits to take; more, where the short id belongs to another identity.
    """
    ranked = sorted((c for c in claims if strength(c)), key=lambda c: (-strength(c), c))
    basis = "|".join(_parts(ranked[0])) if ranked else f"name|{fallback}"
    return DeviceId("child-" + hashlib.sha256(basis.encode()).hexdigest()[:digits])


def _parts(one: Claim) -> tuple[str, str, str]:
    return one.kind, one.namespace, one.value
