"""The identity of a device, and how well it is proven."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from itertools import combinations, islice
from typing import TYPE_CHECKING, NamedTuple, NewType

if TYPE_CHECKING:
    from gatewayd.device.proof import Proof

DeviceId = NewType("DeviceId", str)
"""gatewayd's name for a child: `child-` and hex digits.  Never a text from the LAN."""


GATEWAY_PREFIX = "gateway-"
"""How the id of the gateway's own name at a cloud begins, before the name of the cloud."""


class Trust(IntEnum):
    """How well an identity is proven.  The last three are cryptographic, the rest filters.

    The order is what a rule may rely on: what requires one is content with any that follows.
    """

    CLAIMED = 0  # an unauthenticated datagram says so
    CORROBORATED = 1  # a second, independent layer agrees: the kernel saw the same MAC
    LISTED = 2  # an operator listed this identity beforehand
    PINNED = 3  # it has proven the key that it had when it was first approved
    AUTHENTICATED = 4  # it has proven a credential that was made for it
    PROVEN = 5  # its vendor's CA says that its key is of this identity

    @property
    def word(self) -> str:
        """The name used in rules, on D-Bus and in the manual."""
        return _WORDS[self]


_WORDS: Mapping[Trust, str] = {one: one.name.lower() for one in Trust}


class Claim(NamedTuple):
    """One assertion of identity.

    kind: "cert", "serial", "uuid", "mac" or "name".
    namespace: who assigns the value, as "_shelly._tcp"; "l2" means seen by the kernel.
    value: normalised by `claim()`.
    """

    kind: str
    namespace: str
    value: str


MODEL_KEYS = ("model", "txt.model", "txt.md", "txt.app")
VENDOR_KEYS = ("vendor", "txt.vendor", "txt.manufacturer")
"""Where a view may have the model and the vendor, in order."""

NAME_CONTESTED = "name-contested"
"""The conflict of two devices of one name, which is none about their identity."""
PROOF_OF_ANOTHER = "proof-of-another"
"""The conflict of a device that has proven the key, or the certificate, of another."""
UNDISPUTED = frozenset({"", NAME_CONTESTED})
"""The conflicts that leave it clear who a device is."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that is known of one device, and that policy judges.

    views: one flat mapping for each place where it was seen, with the keys of gatewayd-rules(5),
    and "trust": the word for what that sighting proves by itself.  "model" and "vendor" are those
    of the whole device; "addresses" is there where there are several, separated by spaces.
    trust: the best of them; CLAIMED while there is a conflict.
    label: a sanitised name to show to people.  It identifies nothing.
    conflict: why two devices dispute this identity; "" where none do.
    rivals: the other devices in the conflict, as far as they are known apart.
    common: values that several devices show, in lower case: they identify none.
    proof: the outcome of the newest connection that was made so that it proves its key.
    """

    views: tuple[Mapping[str, str], ...]
    claims: frozenset[Claim]
    trust: Trust
    label: str = ""
    addresses: tuple[str, ...] = ()
    conflict: str = ""
    rivals: tuple[DeviceId, ...] = ()
    common: frozenset[str] = frozenset()
    proof: Proof | None = None


WEIGHTS: Mapping[str, int] = {"cert": 100, "serial": 80, "uuid": 80, "mac": 60}
"""How strongly a kind of claim identifies.  Any other kind never merges devices."""

PLACEHOLDERS = frozenset(
    {"default", "default string", "none", "n/a", "na", "unknown", "undefined", "serial", "test"}
    | {"to be filled by o.e.m.", "not specified", "not available", "not applicable", "null", "nil"}
    | {"system serial number", "chassis serial number", "serial number", "serialnumber", "oem"}
    | {"123456789abcdef", "1234567890abcdef", "deadbeef", "0x00000000", "serial_number", "nosn"}
    | {"no serial", "no serial number", "empty", "invalid", "factory", "sn", "s/n", "xxx", "tbd"}
    | {"03000200-0400-0500-0006-000700080009", "12345678-1234-1234-1234-123456789abc"}
    | {"12345678-1234-5678-1234-567812345678", "01234567-89ab-cdef-0123-456789abcdef"}
    | {"00112233-4455-6677-8899-aabbccddeeff", "fefefefe-fefe-fefe-fefe-fefefefefefe"}
)
"""Texts in the serial number field of devices that have none, and UUIDs of boards and examples."""
_COUNTED, _MONOTONOUS = "01234567890123456789", 8
"""How a factory's default counts, as "12345678"; and from how many letters and digits on such a
value, or one of the same digit all over, identifies nothing."""
_TEMPLATE = re.compile(r".*(\{\{.*\}\}|\$\{.*\}|%[A-Za-z_]+%|<[A-Za-z_ ]+>).*")
"""What a firmware's build has not filled: "{{BRIDGEID}}"."""
_EXAMPLE_MACS = frozenset(
    {"010203040506", "001122334455", "123456789abc", "123456abcdef", "0123456789abcdef"}
)
"""MACs and EUI-64s of examples, which some devices are delivered with."""
MAX_MACS = 8
"""MACs that are read from one value."""
_BETWEEN_MACS = re.compile(r"[,;\s]+")

NO_DEVICE = DeviceId("")
"""Whose a claim is that identifies none, by an operator's answer."""

KERNEL = "l2"
"""The namespace of a MAC that the kernel saw itself."""
EVERYWHERE = "*"
"""The namespace of what means the same in all namespaces."""
MAX_VALUE = 255
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_MULTICAST, _LOCAL = 0x01, 0x02  # bits of a MAC's first octet (IEEE 802, 8.2)
_MAC_DIGITS, _EUI64_DIGITS = 12, 16


def claim(kind: str, namespace: str, text: str) -> Claim | None:
    """Return a normalised claim; None where the value identifies nothing.

    A claim of its value is the same claim.
    """
    value = text.strip().lower()[:MAX_VALUE].strip()  # some letters are two in lower case
    if kind == "mac":
        value = mac(value)
    elif kind == "uuid":
        value = uuid_text(value)
    if not value or is_placeholder(value):
        return None
    return Claim(kind, namespace, value)


def claim_of_id(namespace: str, text: str) -> Claim | None:
    """Return the claim of an id that is a UUID by its standard; many devices have other texts."""
    made = claim("uuid", namespace, text)
    return made if made is None or universal(made) else claim("serial", namespace, text)


def is_placeholder(value: str) -> bool:
    """Whether a value is a factory's default, which many devices show.  value: in lower case."""
    marks = re.sub(r"[\W_]", "", value)
    return (
        not marks.strip("0")
        or (len(marks) >= _MONOTONOUS and len(set(marks)) == 1)
        or (len(marks) >= _MONOTONOUS and marks in _COUNTED)
        or value in PLACEHOLDERS
        or _TEMPLATE.fullmatch(value) is not None
    )


def uuid_text(text: str) -> str:
    """Return a UUID in one spelling (RFC 9562, 4), whatever the prefix, braces and dashes; any
    other text in lower case."""
    bare, before = text.lower(), ""
    while bare != before:
        before, bare = bare, bare.strip("{} ").removeprefix("urn:").removeprefix("uuid:")
    digits = bare.replace("-", "")
    if not re.fullmatch(r"[0-9a-f]{32}", digits):
        return bare  # what some vendors call so
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def mac(text: str) -> str:
    """Return a MAC as 12 hex digits; "" for anything else, and for a MAC of no single device.

    An EUI-64 made from a MAC (ff:fe in the middle, RFC 4291 appendix A) becomes that MAC again;
    any other, as of a radio of IEEE 802.15.4, has 16 digits.
    """
    digits = re.sub(r"[:.\-]", "", text.lower())
    if not re.fullmatch(r"[0-9a-f]+", digits):
        return ""
    if len(digits) == _EUI64_DIGITS and digits[6:10] == "fffe":
        digits = digits[:6] + digits[10:]
    if len(digits) not in (_MAC_DIGITS, _EUI64_DIGITS) or not digits.strip("0"):
        return ""
    return "" if int(digits[:2], 16) & _MULTICAST or digits in _EXAMPLE_MACS else digits


def macs(text: str) -> tuple[str, ...]:
    """Return the MACs in a value, as of `mac`: a device may list those of all its interfaces."""
    found = (mac(one) for one in _BETWEEN_MACS.split(text)[:MAX_MACS])
    return tuple(dict.fromkeys(one for one in found if one))


def is_local_mac(digits: str) -> bool:
    """Whether a MAC is locally administered: it may corroborate, and never identifies."""
    return bool(int(digits[:2], 16) & _LOCAL)


def strength(claimed: Claim) -> int:
    """Return how strongly a claim identifies; 0 for one that never does."""
    if claimed.kind == "mac" and is_local_mac(claimed.value):
        return 0
    return WEIGHTS.get(claimed.kind, 0)


def universal(claimed: Claim) -> Claim | None:
    """Return the claim that is the same in all namespaces; None where the namespace gives a value
    its meaning, or the kernel saw it: no announcement can write such a claim.

    A UUID, and a MAC that a vendor has assigned, are one device's wherever they are shown.
    """
    if claimed.kind == "uuid":
        is_universal = bool(_UUID.fullmatch(claimed.value))
    else:
        is_universal = (
            claimed.kind == "mac" and claimed.namespace != KERNEL and strength(claimed) > 0
        )
    return Claim(claimed.kind, EVERYWHERE, claimed.value) if is_universal else None


def device_id(claims: Iterable[Claim], fallback: str, *, digits: int = 12) -> DeviceId:
    """Derive an id from the strongest claim, so that it is the same after a restart.

    fallback: source and key of the sighting, for a device without any strong claim.
    digits: hex digits of the id; more, where the short id belongs to another identity.
    """
    ranked = sorted((c for c in claims if strength(c)), key=lambda c: (-strength(c), c))
    best = (universal(ranked[0]) or ranked[0]) if ranked else None
    basis = f"{best.kind}|{best.namespace}|{best.value}" if best else f"name|{fallback}"
    return DeviceId("child-" + hashlib.sha256(basis.encode()).hexdigest()[:digits])


DIGITS = (12, 20, 40, 64)
"""How many hex digits an id may have: more than the first only where the id is another's."""


def possible_ids(claims: Iterable[Claim], *origin: object) -> Iterator[DeviceId]:
    """Yield the ids a device may have, shortest first: of its claims, or else of its origin."""
    own, fallback = tuple(claims), "|".join(map(str, origin))
    return (device_id(own, fallback, digits=digits) for digits in DIGITS)


_EXCLUSIVE = frozenset({"cert", "serial", "uuid"})
"""Kinds of which a device has one value in a namespace.  Of MACs it may have several."""


def is_exclusive(one: Claim) -> bool:
    """Whether a device can have no other value of this kind in this namespace."""
    return one.kind in _EXCLUSIVE


def is_kernel_mac(one: Claim) -> bool:
    """Whether the kernel saw this MAC itself.  No announcement can write such a claim."""
    return one.kind == "mac" and one.namespace == KERNEL


def consistent(claims: Iterable[Claim]) -> tuple[Claim, ...]:
    """Return the claims strongest first, without those that contradict one another."""
    distinct = set(claims)
    if len(distinct) < 2:  # noqa: PLR2004  # one alone, as mostly, contradicts nothing
        return tuple(distinct)
    values = Counter((c.kind, c.namespace) for c in distinct if is_exclusive(c))
    kept = (c for c in distinct if values[c.kind, c.namespace] < 2)  # noqa: PLR2004  # two contradict
    return tuple(sorted(kept, key=lambda c: (-strength(c), c)))


def contradict(some: Iterable[Claim], others: Iterable[Claim]) -> bool:
    """Whether two sets of claims cannot be of one device: two values where only one can be."""
    ours = {(c.kind, c.namespace): c.value for c in some if is_exclusive(c)}
    return any(
        ours.get((c.kind, c.namespace), c.value) != c.value for c in others if is_exclusive(c)
    )


def is_kept(one: Claim) -> bool:
    """Whether a claim identifies a device, or is the kernel's MAC of it."""
    return strength(one) > 0 or is_kernel_mac(one)


def kernel_macs(claims: Iterable[Claim]) -> frozenset[Claim]:
    """Return the MACs that the kernel saw itself."""
    return frozenset(c for c in claims if is_kernel_mac(c))


def key_of(one: Claim) -> Claim:
    """Return what a claim is looked up by: the same in all namespaces where it means the same."""
    return universal(one) or one


def held_once(claims: frozenset[Claim], known: frozenset[Claim]) -> frozenset[Claim]:
    """Return the set that is known already, where it is the same: each takes 216 bytes or more."""
    return known if claims == known else claims


def share_key(some: Iterable[Claim], others: Iterable[Claim]) -> bool:
    """Whether two sets of claims have a UUID or a certificate in common, so that one device has
    both, whatever MACs it has."""
    ours, theirs = (
        {key for key in map(key_of, claims) if key.kind == "cert" or _is_uuid(key)}
        for claims in (some, others)
    )
    return not ours.isdisjoint(theirs)


def _is_uuid(key: Claim) -> bool:
    return key.kind == "uuid" and universal(key) == key


SHARED = 4
"""A MAC in front of so many devices with serials or uuids is a bridge's or a router's."""


def are_several(held: Iterable[Collection[Claim]]) -> bool:
    """Whether a MAC distinguishes no device: many have it, or two that cannot be one.

    held: the claims of each device that has it.
    """
    named = list(islice((c for c in held if any(map(is_exclusive, c))), SHARED))
    return len(named) == SHARED or any(contradict(*pair) for pair in combinations(named, 2))


def may_be_one(
    known: Collection[Claim], claimed: Collection[Claim], shared: Collection[Claim]
) -> bool:
    """Whether nothing that a sighting shows rules out that it is of a known device.

    It is ruled out where both announce universal MACs and have none in common, nor did the
    kernel see one's behind the other; unless they share a UUID or a certificate.
    shared: MACs among these that distinguish no device.
    """
    if contradict(known, claimed):
        return False
    ours, theirs = (_announced_macs(claims, shared) for claims in (known, claimed))
    if not (ours and theirs) or share_key(known, claimed):
        return True
    before, now = ({c.value for c in kernel_macs(of)} for of in (known, claimed))
    return not (ours.isdisjoint(theirs | now) and theirs.isdisjoint(before))


def _announced_macs(claims: Iterable[Claim], shared: Collection[Claim]) -> set[str]:
    """Return the universal MACs that are announced and distinguish a device."""
    announced = (c for c in claims if c.kind == "mac" and universal(c) is not None)
    return {c.value for c in announced if c not in shared}
