"""From what a name resolved to, to a sighting: what is believed, and what it claims.  Pure."""

from __future__ import annotations

import ipaddress
import uuid
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

from gatewayd.device.identity import Claim, claim
from gatewayd.discovery import text
from gatewayd.discovery.discoverer import Sighting
from gatewayd.discovery.mdns_names import Name

SOURCE = "mdns"
MAX_TXT = 1300
"""Bytes of a whole TXT record (RFC 6763, 6.2: it should fit one packet)."""
MAX_KEYS = 32
MAX_KEY = 32
MAX_HOST = 255
MAX_ADDRESSES = 8
SHORTEST, LONGEST = 60.0, 86400.0

CLAIMS: Mapping[str, str] = {
    "mac": "mac", "macaddress": "mac", "bridgeid": "mac",
    "serial": "serial", "serialnumber": "serial", "sn": "serial",
    "uuid": "uuid", "udn": "uuid", "deviceid": "uuid", "id": "uuid",
}  # fmt: skip
"""Which TXT keys claim an identity, and of which kind.

"id" and "deviceid" mean something else with every vendor: they count only where the value has
the form of a UUID, as every value of that kind must.  bridgeid is the EUI-64 of a Hue bridge.
"""


class Refused(Exception):
    """An answer is not believed; its text is the cause, kebab-case."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a name resolved to, as it came.

    text: the TXT record, a row of length-prefixed strings (RFC 6763, 6.1).
    heard_at: when the newest of its records came, seconds of the event loop's clock.
    ttl: how long its longest-lived record may be kept from then on, seconds.
    """

    host: str
    port: int
    addresses: tuple[str, ...]
    text: bytes
    heard_at: float
    ttl: float


def sighting(name: Name, answer: Answer, source: str, interface: str) -> Sighting:
    """Make a sighting of an answer.  Raises Refused."""
    host = answer.host.removesuffix(".")
    if len(host) > MAX_HOST or not text.is_clean(host):
        raise Refused("bad-host")
    addresses = usable(answer.addresses, interface)
    if not addresses:
        raise Refused("no-usable-address")
    entries = txt(answer.text)
    place = seen(name, interface) | {"host": host, "port": str(answer.port)}
    return Sighting(
        source=source,
        key=name.key,
        at=answer.heard_at,
        valid_for=min(max(answer.ttl, SHORTEST), LONGEST),
        interface=interface,
        addresses=addresses,
        port=answer.port or None,
        claims=claims(name.service, entries),
        attributes=place
        | {"address": addresses[0]}
        | {f"txt.{key}": value for key, value in entries.items()},
        label=text.label(name.instance),
    )


def shows(namespace: str, known: AbstractSet[Claim], text: bytes) -> bool:
    """Whether a TXT record claims what a device has claimed before.

    namespace: the service type.  known: claims, of which those of other namespaces do not count.
    """
    try:
        told = claims(namespace, txt(text))
    except Refused:
        return False
    own = {one for one in known if one.namespace == namespace}
    return told >= own if own else not told


def itself(known: Sighting, text: bytes, cached: Answer | None, now: float) -> Answer:
    """Return the answer of a device whose TXT record was heard just now.

    Where what is cached of its name leads to another host, or nowhere, it is where it was.
    """
    host = known.attributes.get("host", "")
    if cached and cached.addresses and cached.host.removesuffix(".") == host:
        return replace(cached, text=text)
    return Answer(host, known.port or 0, known.addresses, text, heard_at=now, ttl=SHORTEST)


def seen(name: Name, interface: str) -> dict[str, str]:
    """What is known of a name before it is resolved: what policy is asked with."""
    return {
        "source": SOURCE,
        "interface": interface,
        "service": name.service,
        "instance": name.instance,
    }


def usable(addresses: tuple[str, ...], interface: str) -> tuple[str, ...]:
    """Return the addresses that a host can have, IPv4 first, at most 8.

    Loopback addresses count only on "lo": elsewhere they would mean this gateway itself.
    """
    parsed = (ipaddress.ip_address(one.partition("%")[0]) for one in addresses)
    fit = [
        one
        for one in dict.fromkeys(parsed)
        if not (one.is_multicast or one.is_unspecified or one.is_reserved)
        and (interface == "lo" or not one.is_loopback)
    ]
    return tuple(str(one) for one in sorted(fit, key=lambda one: one.version))[:MAX_ADDRESSES]


def txt(raw: bytes) -> dict[str, str]:
    """Return the entries of a TXT record that are text, keys in lower case.  Raises Refused.

    Of a key that comes twice the first counts (RFC 6763, 6.4).  A value that is no clean UTF-8
    is left out: some vendors put raw bytes there.
    """
    if len(raw) > MAX_TXT:
        raise Refused("txt-too-long")
    entries: dict[str, str] = {}
    keys: set[bytes] = set()
    for one in _strings(raw):
        key, _, value = one.partition(b"=")
        if not key or key.lower() in keys:  # a string without a key is ignored (RFC 6763, 6.4)
            continue
        keys.add(key.lower())
        if len(key) > MAX_KEY:
            raise Refused("txt-key-too-long")
        if len(keys) > MAX_KEYS:
            raise Refused("txt-too-many-keys")
        if pair := _pair(key, value):
            entries[pair[0]] = pair[1]
    return entries


def claims(namespace: str, entries: Mapping[str, str]) -> frozenset[Claim]:
    """Return the identities that the entries of a TXT record claim.

    namespace: the service type, which gives the keys their meaning.
    """
    made = (_claim(CLAIMS[key], namespace, entries[key]) for key in CLAIMS if key in entries)
    return frozenset(one for one in made if one)


def _claim(kind: str, namespace: str, value: str) -> Claim | None:
    one = claim(kind, namespace, value)
    if one is None or (kind == "uuid" and not _is_uuid(one.value)):
        return None
    return one


def _is_uuid(value: str) -> bool:
    """Whether a text is a UUID that somebody has chosen: not all zeros, not all ones."""
    try:
        number = uuid.UUID(value)
    except ValueError:
        return False
    return str(number) == value and number.int not in (0, (1 << 128) - 1)


def _strings(raw: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(raw):
        end = at + 1 + raw[at]
        if end > len(raw):
            raise Refused("txt-malformed")
        yield raw[at + 1 : end]
        at = end


def _pair(key: bytes, value: bytes) -> tuple[str, str] | None:
    try:
        return text.attribute(key.decode("ascii"), value.decode())
    except UnicodeDecodeError:
        return None
