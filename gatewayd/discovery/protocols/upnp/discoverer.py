"""The discoverer of UPnP devices: how they are searched, what counts, and where more is learnt.

Sources: UPnP Device Architecture 1.1, 1.1.2 (what a device sends), 1.2 and 1.3; 1.3.2 (a search
for one device, sent to itself), which not all devices answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from gatewayd.device.identity import claim, claim_of_id, is_kernel_mac, macs
from gatewayd.discovery import sanitize
from gatewayd.discovery.discoverer import Sighting
from gatewayd.discovery.probing.discoverer import DatagramDiscoverer
from gatewayd.discovery.probing.fetch import (
    AT_ONCE,
    Fetch,
    FetchRefused,
    GuardedFetcher,
    own_target,
)
from gatewayd.discovery.probing.protocol import (
    SUSPECT,
    Datagram,
    Enquiry,
    Found,
    Goodbye,
    News,
    Own,
    Probe,
    Transmission,
    UnreadableAnswer,
)
from gatewayd.discovery.probing.settings import ProbingSettings
from gatewayd.discovery.protocols.upnp.description import (
    NAMESPACE,
    UpnpDescription,
    read_description,
)
from gatewayd.discovery.protocols.upnp.ssdp import (
    GROUP4,
    GROUP6,
    PORT,
    ROOT,
    SITE_GROUP6,
    SsdpKind,
    SsdpMessage,
    read_message,
    search,
)
from gatewayd.runtime.tasks import first_of
from gatewayd.settings.declare import setting

KIND = "ssdp"
MX = 2
"""Seconds within which devices answer a search, each at a random moment."""
REPEATED = 1.0
"""Seconds until a search is repeated, as a datagram may be lost."""
FETCH_AFTER, FETCH = 1.3, 1.5
"""Seconds until the description of a device that is verified is fetched, and that it may take."""
DESCRIBED = "once in 10 min, if a rule could match; and when it answers no search"
"""When a description is fetched."""

PATH, ELSEWHERE = "ssdp.path", "ssdp.location"
"""The attributes that have the path of the description, where the device itself serves it, or else
its URL.  A device is the same at all its addresses, so those that lead to itself have none."""
_BRIDGE_ID = "hue-bridgeid"
"""A field of Hue bridges: their MAC, as an EUI-64."""


class UpnpProtocol:
    """The protocol.  Only root devices count: each part of one has a name of its own.

    fetch: fetches descriptions.  descriptions: whether that is wanted.
    """

    kind = KIND
    groups: Sequence[str] = (GROUP4, GROUP6, SITE_GROUP6)
    port = PORT
    listens = False
    ipv4_only = False
    answer_time = MX + 1.0

    def __init__(self, fetch: Fetch, *, descriptions: bool = True) -> None:
        self._fetch, self._descriptions = fetch, descriptions

    def probes(self, token: bytes, own: Own) -> Sequence[Probe]:
        """Return a search for root devices, twice.  token: none, it has no room for one."""
        to = _group(own.address)
        once = Probe(search(to, ROOT, MX), to, PORT, "root devices of UPnP", token)
        return (once, replace(once, after=REPEATED))

    def probe_of(self, address: str, key: str, token: bytes, own: Own) -> Sequence[Probe]:
        """Return a search for one device, to itself, and then to all, of which it alone answers."""
        to, target = _group(own.address), f"uuid:{key}"
        return (
            Probe(search(address, target, 1), address, PORT, "one device by itself", token),
            Probe(search(to, target, 1), to, PORT, "one device", token, REPEATED),
        )

    def read(self, datagram: Datagram) -> Iterable[News]:
        """Return the device of a datagram; none of one that asks, or shows a part of a device."""
        message = read_message(datagram.payload)
        if message is None:
            return ()
        if message.kind is SsdpKind.RESPONSE and not datagram.is_answer:
            raise UnreadableAnswer("unasked")
        if not (message.is_of_root or _answers_a_name(message)):
            return ()
        if message.kind is SsdpKind.BYEBYE:
            return (Goodbye(message.udn),)
        return (_found(message, datagram.sender),)

    async def enquire(self, found: Found, enquiry: Enquiry) -> Sequence[Found]:
        """Fetch the description, if the device itself has one."""
        if not self._descriptions:
            return (found,)
        if ELSEWHERE in found.attributes:
            raise UnreadableAnswer("description-elsewhere")
        path = found.attributes.get(PATH)
        if not (path and found.port):
            return (found,)
        fetching = self._fetch(enquiry.address, found.port, path, enquiry.interface)
        return (_completed(found, await describe(found.key, fetching)),)


async def describe(key: str, fetching: Awaitable[bytes]) -> UpnpDescription:
    """Return the description of a device, if what is fetched is its own.

    key: of the device.  Raises UnreadableAnswer, OSError.
    """
    try:
        body = await fetching
    except FetchRefused as refused:
        raise UnreadableAnswer("description-refused") from refused
    described = read_description(body)
    if described.udn.lower() != key.lower():
        raise UnreadableAnswer("description-of-another")
    return described


def _group(own_address: str) -> str:
    return GROUP6 if ":" in own_address else GROUP4


def _answers_a_name(message: SsdpMessage) -> bool:
    """Whether a message answers a search for the name of one device."""
    return message.kind is SsdpKind.RESPONSE and message.target.lower().startswith("uuid:")


def _found(message: SsdpMessage, sender: str) -> Found:
    named = claim_of_id(NAMESPACE, message.udn)
    fields = message.fields
    port, path = _own_target(message.location, sender)
    texts = {
        PATH: path,
        ELSEWHERE: "" if path else message.location,
        "ssdp.server": fields.get("server", ""),
        "ssdp.udn": message.udn,
        f"ssdp.{_BRIDGE_ID}": fields.get(_BRIDGE_ID, ""),
        "uuid": named.value if named and named.kind == "uuid" else "",
    }
    made = [named, *(claim("mac", NAMESPACE, one) for one in macs(fields.get(_BRIDGE_ID, "")))]
    return Found(
        key=message.udn,
        claims=frozenset(one for one in made if one),
        attributes=sanitize.escaped_attributes(texts),
        label=fields.get("server", "") or message.udn,
        valid_for=max(message.max_age, 1),
        port=port,
    )


def _own_target(location: str, sender: str) -> tuple[int | None, str]:
    """Return port and path of a description that the sender serves; None and "" for any other."""
    try:
        return own_target(location, sender)
    except FetchRefused:
        return None, ""


def _completed(found: Found, described: UpnpDescription) -> Found:
    """Return a device with its description.

    Its serial number identifies it only where its name is no UUID: it adds nothing to one, and two
    devices to which a maker has given the same would be in conflict.
    """
    has_uuid = any(one.kind == "uuid" for one in found.claims)
    added = (one for one in described.claims if not (has_uuid and one.kind == "serial"))
    return replace(
        found,
        claims=found.claims.union(added),
        attributes={**found.attributes, **described.attributes},
        label=described.name or found.label,
    )


@dataclass(frozen=True, slots=True)
class SsdpSettings(ProbingSettings):
    """[discovery.<name>] with kind = "ssdp".  The bounds hold for each interface."""

    descriptions: bool = setting(
        True,
        "whether to fetch, from the device itself, the description of one that a rule could match",
    )


class Ssdp(DatagramDiscoverer):
    """The discoverer.  Raises ConfigError."""

    port_version: ClassVar[str] = "1.0"
    Settings: ClassVar[type] = SsdpSettings

    def __init__(self, name: str, settings: SsdpSettings) -> None:
        wanted = GuardedFetcher(AT_ONCE // 2)
        protocol = UpnpProtocol(wanted.fetch, descriptions=settings.descriptions)
        super().__init__(name, settings, protocol)
        self._verifying = GuardedFetcher(AT_ONCE // 2)  # so that strangers do not keep it busy
        self._descriptions = settings.descriptions

    def transmissions(self) -> Sequence[Transmission]:
        """Return what is sent on each interface, descriptions included."""
        again = (
            Transmission(f"{to} port {PORT} by UDP", one, 0.0, 0, "one device", SUSPECT)
            for one in dict.fromkeys(self._settings.interfaces)
            for to in (GROUP4, GROUP6)
        )
        fetched = (
            Transmission("the device, by TCP", one, 0.0, 0, "its description", DESCRIBED)
            for one in dict.fromkeys(self._settings.interfaces)
            if self._descriptions
        )
        return [*super().transmissions(), *again, *fetched]

    async def verify(self, sighting: Sighting) -> Sighting | None:
        """Search for one device, and fetch its description if it does not answer; in at most 3 s.

        Raises DiscoveryRetry if it cannot be asked now.
        """
        works = [super().verify(sighting)]
        if self._descriptions and sighting.attributes.get(PATH) and sighting.port:
            works += (self._described(sighting, one, sighting.port) for one in sighting.addresses)
        return await first_of(*works)

    async def _described(self, known: Sighting, address: str, port: int) -> Sighting | None:
        """Return a fresh sighting, if an address serves a description of the device's name."""
        await asyncio.sleep(FETCH_AFTER)
        unit = self._units.on(known.interface)
        fetching = self._verifying.fetch(address, port, known.attributes[PATH], known.interface)
        try:
            async with asyncio.timeout(FETCH):
                described = await describe(known.key, fetching)
        except (OSError, UnreadableAnswer) as error:  # a time-out is an OSError, too
            cause = error.cause if isinstance(error, UnreadableAnswer) else "not-described"
            self.health.drop(cause, interface=known.interface, sender=address, name=known.key)
            return None
        return unit.confirm(_completed(_known(known), described), address) if unit else None


def _known(known: Sighting) -> Found:
    """Return a device as it was seen."""
    return Found(
        key=known.key,
        claims=frozenset(one for one in known.claims if not is_kernel_mac(one)),
        attributes=known.attributes,
        label=known.label,
        valid_for=known.valid_for,
        port=known.port,
    )
