"""The names and records of DNS-SD (RFC 6763), and the sighting that they make.  Pure."""

from __future__ import annotations

import re
import struct
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace

from gatewayd.device.identity import Claim, claim, macs
from gatewayd.discovery import sanitize
from gatewayd.discovery.discoverer import LONGEST, SHORTEST, Sighting
from gatewayd.discovery.sanitize import label, usable_addresses
from gatewayd.errors import ConfigError

MAX_LABEL = 63
"""Bytes in one label of a domain name (RFC 1035, 2.3.4)."""

SOURCE = "mdns"
MAX_TXT = 1300
"""Bytes of a TXT record that are read (RFC 6763, 6.2: it should fit one packet)."""
MAX_KEYS = 32
MAX_KEY = 32
"""Entries of a TXT record that are kept, and characters of a key: those beyond are left out."""
MAX_HOST = 255

CLAIMS: Mapping[str, str] = {
    "mac": "mac", "macaddress": "mac", "bridgeid": "mac",
    "serial": "serial", "serialnumber": "serial", "sn": "serial",
    "uuid": "uuid", "udn": "uuid", "deviceid": "uuid", "id": "uuid",
}  # fmt: skip
"""The TXT keys that claim an identity, and of which kind.

"id" and "deviceid" mean something else with every vendor: they count only if the value has the
form of a UUID, as every value of that kind must.  bridgeid is the EUI-64 of a Hue bridge.
"""

PTR, SRV, TXT, IN = 12, 33, 16, 1  # RFC 2782; RFC 1035, 3.2.2 and 3.2.4

_DOMAIN = ".local"
_SERVICE = re.compile(r"_[a-z0-9](?:[a-z0-9_-]{0,60}[a-z0-9])?\._(?:tcp|udp)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class InstanceName:
    """The name of one instance of a service (RFC 6763, 4.1).

    service: without the domain, as "_shelly._tcp".
    instance: one label, 1 to 63 bytes, as announced: any text, with dots or what does not print.
    sender: the IP address from which it came, "" if that is not known.
    """

    service: str
    instance: str
    sender: str = field(default="", compare=False)

    @property
    def text(self) -> str:
        """The instance as it is matched and shown: what does not print is escaped."""
        return sanitize.escaped_name(self.instance)

    @property
    def key(self) -> str:
        """The key that all spellings of the name share."""
        return f"{self.service}|{self.text}".lower()

    @property
    def is_splittable(self) -> bool:
        """Whether a library that splits a name at its dots finds a label between any two."""
        return all(self.instance.split("."))

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
        raise ConfigError(f"types must hold service types, as '_http._tcp', not {label(text)!r}")
    return bare


def domain(bare: str) -> str:
    """Return a service type with its domain and the final dot."""
    return f"{bare}{_DOMAIN}."


def parse(bare: str, full: str, sender: str = "") -> InstanceName | None:
    """Return the name of an instance of a service; None if it cannot be used.

    full: as announced: instance, service and domain in one, in any spelling.  Bytes that are no
    text are refused: what a decoder leaves of them is the same for many names.
    """
    tail = f".{domain(bare)}"
    if not full.lower().endswith(tail.lower()):
        return None
    instance = full[: -len(tail)]
    size = len(instance.encode(errors="surrogatepass"))
    if not 0 < size <= MAX_LABEL or not sanitize.is_text(instance):
        return None
    return InstanceName(bare, instance, sender)


def encode_query(name: InstanceName) -> bytes:
    """Return a message that asks for the SRV and TXT records of a name.

    It lists no known answers, so that the owner of the name has to answer (RFC 6762, 7.1).
    """
    labels = (name.instance, *name.service.split("."))
    return _encode_questions((labels, kind) for kind in (SRV, TXT))


def encode_browse(services: Sequence[str]) -> bytes:
    """Return a message that asks for all instances of services.  It lists no known answers."""
    return _encode_questions((one.split("."), PTR) for one in services)


def _encode_questions(questions: Iterable[tuple[Sequence[str], int]]) -> bytes:
    asked = [_encode_name(labels) + struct.pack("!HH", kind, IN) for labels, kind in questions]
    return struct.pack("!6H", 0, 0, len(asked), 0, 0, 0) + b"".join(asked)


def _encode_name(labels: Sequence[str]) -> bytes:
    raw = (one.encode() for one in (*labels, _DOMAIN[1:]))
    return b"".join(bytes([len(one)]) + one for one in raw) + b"\0"


@dataclass(frozen=True, slots=True)
class RawQuery:
    """A query in the form that zeroconf sends.  Its own would split an instance at its dots."""

    packet: bytes

    def packets(self) -> list[bytes]:
        """Return the datagrams to send."""
        return [self.packet]


class InvalidServiceInfo(Exception):
    """A record is not believed; the error's text is the cause, kebab-case."""


@dataclass(frozen=True, slots=True)
class ServiceInfo:
    """The records that a name resolved to, unchecked.

    text: the TXT record, a row of length-prefixed strings (RFC 6763, 6.1).
    received_at: when the newest record was received, seconds of the event loop's clock.
    ttl: for how long the longest-lived record may be kept from then on, seconds.
    """

    host: str
    port: int
    addresses: tuple[str, ...]
    text: bytes
    received_at: float
    ttl: float


def sighting(name: InstanceName, info: ServiceInfo, source: str, interface: str) -> Sighting:
    """Make the sighting of a name.  Raises InvalidServiceInfo."""
    addresses = usable_addresses(info.addresses, interface)
    if not addresses:
        raise InvalidServiceInfo("no-usable-address")
    entries = txt(info.text)
    known = name_attributes(name, interface) | {"port": str(info.port)}
    if host := _host(info):
        known["host"] = host
    return Sighting(
        source=source,
        key=name.key,
        at=info.received_at,
        valid_for=min(max(info.ttl, SHORTEST), LONGEST),
        interface=interface,
        addresses=addresses,
        port=info.port or None,
        claims=claims(name.service, entries),
        attributes=known
        | {"address": addresses[0]}
        | {f"txt.{key}": value for key, value in entries.items()},
        label=sanitize.label(name.instance),
    )


def matches_claims(namespace: str, known: AbstractSet[Claim], text: bytes) -> bool:
    """Whether a TXT record claims what a device has claimed before.

    namespace: the service type.  known: claims, of which those of other namespaces do not count.
    """
    shown = claims(namespace, txt(text))
    own = {one for one in known if one.namespace == namespace}
    return shown >= own if own else not shown


def confirmed_info(
    known: Sighting, text: bytes, cached: ServiceInfo | None, now: float
) -> ServiceInfo:
    """Return the records of a device whose TXT record was received just now.

    If what is cached of its name leads to another host, or nowhere, the device is where it was.
    """
    host = known.attributes.get("host", "")
    if cached and cached.addresses and _host(cached) == host:
        return replace(cached, text=text)
    return ServiceInfo(host, known.port or 0, known.addresses, text, received_at=now, ttl=SHORTEST)


def name_attributes(name: InstanceName, interface: str) -> dict[str, str]:
    """Return the attributes of a name before it is resolved: the rules are asked with these."""
    return {
        "source": SOURCE,
        "interface": interface,
        "service": name.service,
        "instance": name.text,
    }


def _host(info: ServiceInfo) -> str:
    """Return the name of a host as it is matched and shown; "" for one that cannot be."""
    text = sanitize.escaped_name(info.host.removesuffix("."))
    return text if len(text) <= MAX_HOST and sanitize.is_text(text) else ""


def txt(raw: bytes) -> dict[str, str]:
    """Return the textual entries of a TXT record, keys in lower case.

    Of a key that occurs twice the first counts (RFC 6763, 6.4).  A value that is not UTF-8 is left
    out: some vendors put raw bytes there.  What does not print is escaped, never removed: some
    firmware ends a value with NUL, and a cleaned value could become another device's.  What is
    beyond a bound is left out, too; what may claim an identity stays longest.
    """
    entries: dict[str, str] = {}
    keys: set[bytes] = set()
    for one in _strings(raw[:MAX_TXT]):
        key, _, value = one.partition(b"=")
        if not key or key.lower() in keys:  # a string without a key is ignored (RFC 6763, 6.4)
            continue
        keys.add(key.lower())
        if len(key) <= MAX_KEY and (pair := _pair(key, value)):
            entries[pair[0]] = pair[1]
    kept = set(sorted(entries, key=lambda key: key not in CLAIMS)[:MAX_KEYS])
    return {key: value for key, value in entries.items() if key in kept}


def claims(namespace: str, entries: Mapping[str, str]) -> frozenset[Claim]:
    """Return the identities that the entries of a TXT record claim.

    namespace: the service type, which gives the keys their meaning.
    """
    made = (
        _claim(kind, namespace, value)
        for key, kind in CLAIMS.items()
        for value in _values(kind, entries.get(key, ""))
    )
    return frozenset(one for one in made if one)


def _values(kind: str, text: str) -> Iterable[str]:
    """Return the values in an entry: a device may list the MACs of all its interfaces."""
    return macs(text) if kind == "mac" else (text,)


def _claim(kind: str, namespace: str, value: str) -> Claim | None:
    one = claim(kind, namespace, value)
    if one is None or (kind == "uuid" and not _is_uuid(one.value)):
        return None
    return one


def _is_uuid(value: str) -> bool:
    """Whether a text is a UUID that identifies something: not all zeros, not all ones."""
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
            return  # the last string was cut
        yield raw[at + 1 : end]
        at = end


def _pair(key: bytes, value: bytes) -> tuple[str, str] | None:
    try:
        return sanitize.escaped_attribute(key.decode("ascii"), value.decode())
    except UnicodeDecodeError:
        return None
