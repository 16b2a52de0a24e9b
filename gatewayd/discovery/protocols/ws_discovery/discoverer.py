"""The discoverer of services that speak WS-Discovery: how they are asked, and what counts.

Sources: Web Services Dynamic Discovery, April 2005, 2.4 (delays), 4 to 6; SOAP-over-UDP, appendix I
(repeats); and what devices do: one ignores a Probe without types, another one with some.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from gatewayd.discovery.discoverer import Sighting
from gatewayd.discovery.probing.discoverer import DatagramDiscoverer
from gatewayd.discovery.probing.fetch import Fetch, FetchRefused, GuardedFetcher, accepts
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
from gatewayd.discovery.protocols.ws_discovery.messages import (
    DEVICES_PROFILE,
    ONVIF_NETWORK,
    WsMessage,
    WsMessageKind,
    message_id,
    probe,
    read_message,
    resolve,
)
from gatewayd.discovery.protocols.ws_discovery.metadata import get, read_metadata
from gatewayd.discovery.protocols.ws_discovery.services import PATH, ServiceMemory, found
from gatewayd.runtime.tasks import first_of
from gatewayd.settings.declare import setting

KIND = "ws-discovery"
PORT = 3702
GROUP4, GROUP6 = "239.255.255.250", "ff02::c"

SPACED = 0.3
"""Seconds between two questions of a round."""
LAST = 1.0
"""Seconds until one device is asked by multicast, too: not all answer otherwise."""
ANSWERS = 4.0
"""Seconds in which answers come: after half a second at most, and a copy half a second later."""
CONNECT_AFTER, CONNECT = 2.0, 0.8
"""Seconds until a connection is tried to a device that does not answer, and that this may take."""
UNANSWERED = "when it answers nothing, soon after a goodbye"
"""When a connection is tried."""
DESCRIBED = "once in 10 min, if a rule could match"
"""When metadata are fetched."""
ONE_ANSWERS = 1.5
"""Seconds in which one device answers that is asked by itself."""

_DPWS = "wsdp:Device"
_TYPES = (
    ("all services", "", ""),
    ("cameras of ONVIF", ONVIF_NETWORK, "dn:NetworkVideoTransmitter"),
    ("devices of DPWS: printers, Windows", DEVICES_PROFILE, _DPWS),
)
"""What is asked for: some devices answer one of these alone."""
_RESOLVE = len(_TYPES)
"""The number of a Resolve among what is sent with one token, and the next is that of another.  They
serve to ask one device alone: an answer to them adds a URL at most."""


class WsDiscoveryProtocol:
    """The protocol.  An answer has to name the question that it is one to.

    fetch: fetches metadata.  metadata: whether that is wanted.
    """

    kind = KIND
    groups: Sequence[str] = (GROUP4, GROUP6)
    port = PORT
    listens = False
    ipv4_only = False
    answer_time = ANSWERS

    def __init__(self, fetch: Fetch, *, metadata: bool = True) -> None:
        self._fetch, self._metadata = fetch, metadata
        self._memory = ServiceMemory()

    def probes(self, token: bytes, own: Own) -> Sequence[Probe]:
        """Return a Probe for each of the types."""
        return self._probes(token, _group(own.address))

    def probe_of(self, address: str, key: str, token: bytes, own: Own) -> Sequence[Probe]:
        """Return what one device is asked: the same, and who has this endpoint; the latter by
        multicast, too, as Debian's wsdd reads nothing else."""
        asked, again = (resolve(message_id(token, _RESOLVE + more), key) for more in range(2))
        return (
            Probe(asked, address, PORT, "one service by itself", token),
            *(replace(one, after=0.0) for one in self._probes(token, address)),
            Probe(again, _group(own.address), PORT, "one service", token, LAST),
        )

    def read(self, datagram: Datagram) -> Iterable[News]:
        """Return the devices of a message; of one that asks, none."""
        read = read_message(datagram.payload)
        if read is None:
            return ()
        if read.kind is WsMessageKind.BYE:
            return [Goodbye(one.address) for one in read.targets]
        if read.kind is not WsMessageKind.HELLO and not _is_asked(read, datagram):
            raise UnreadableAnswer("unasked")
        sender, is_behind = datagram.sender, len(read.targets) > 1
        targets = (self._memory.completed(one, sender) for one in read.targets)
        return [found(one, sender, is_behind=is_behind) for one in targets]

    async def enquire(self, found: Found, enquiry: Enquiry) -> Sequence[Found]:
        """Fetch the metadata of a device of DPWS, if it has said where they are, or says so now.

        One that has not shown its types may be such a device: wsdd says its URL when it starts.
        """
        types = found.attributes.get("wsd.types", _DPWS).split()
        if not self._metadata or _DPWS not in types:
            return (found,)
        placed = found if PATH in found.attributes else await self._placed(found, enquiry)
        path = placed.attributes.get(PATH)
        if not (path and placed.port):
            return (placed,)
        question = get(message_id(enquiry.token(), _RESOLVE), found.key)
        try:
            body = await self._fetch(
                enquiry.address, placed.port, path, enquiry.interface, question
            )
        except FetchRefused as refused:
            raise UnreadableAnswer("metadata-refused") from refused
        metadata = read_metadata(body)
        if metadata.address != found.key:
            raise UnreadableAnswer("metadata-of-another")
        attributes = {**placed.attributes, **metadata.attributes}
        return (replace(placed, attributes=attributes, label=metadata.name or placed.label),)

    async def _placed(self, found: Found, enquiry: Enquiry) -> Found:
        """Return a device with what it answers to a Resolve; as it is, if it does not."""
        token, shown = enquiry.token(), list[Found]()

        def is_wanted(datagram: Datagram) -> bool:
            try:
                news = self.read(datagram)
            except UnreadableAnswer:
                return False
            shown.extend(one for one in news if isinstance(one, Found) and one.key == found.key)
            return bool(shown)

        question = resolve(message_id(token, _RESOLVE), found.key)
        probe_ = Probe(question, enquiry.address, PORT, "where its metadata are", token)
        await enquiry.ask(probe_, ONE_ANSWERS, is_wanted)
        return shown[0] if shown else found

    @staticmethod
    def _probes(token: bytes, to: str) -> Sequence[Probe]:
        return [
            Probe(
                probe(message_id(token, number), namespace, name),
                to,
                PORT,
                purpose,
                token,
                SPACED if number else 0.0,
            )
            for number, (purpose, namespace, name) in enumerate(_TYPES)
        ]


def _group(own_address: str) -> str:
    return GROUP6 if ":" in own_address else GROUP4


def _is_asked(read: WsMessage, datagram: Datagram) -> bool:
    """Whether a message answers one of ours: to guess that is no easier than a token."""
    if not datagram.is_answer:
        return False
    numbers = range(_RESOLVE + 2)
    return any(
        read.relates_to == message_id(token, number)
        for token in datagram.asked
        for number in numbers
    )


@dataclass(frozen=True, slots=True)
class WsDiscoverySettings(ProbingSettings):
    """[discovery.<name>] with kind = "ws-discovery".  The bounds hold for each interface."""

    metadata: bool = setting(
        True,
        "whether to fetch, from the device itself, the metadata of a printer or Windows host "
        "that a rule could match",
    )


class WsDiscovery(DatagramDiscoverer):
    """The discoverer.  Raises ConfigError."""

    port_version: ClassVar[str] = "1.0"
    Settings: ClassVar[type] = WsDiscoverySettings

    def __init__(self, name: str, settings: WsDiscoverySettings) -> None:
        self._metadata = settings.metadata
        protocol = WsDiscoveryProtocol(GuardedFetcher().fetch, metadata=self._metadata)
        super().__init__(name, settings, protocol)

    def transmissions(self) -> Sequence[Transmission]:
        """Return what is sent on each interface, connections included."""
        more = [("whether it accepts", UNANSWERED)]
        if self._metadata:
            more.append(("the metadata of a printer or Windows host", DESCRIBED))
        again = (
            Transmission(f"{to} port {PORT} by UDP", interface, 0.0, 0, "one service", SUSPECT)
            for interface in dict.fromkeys(self._settings.interfaces)
            for to in (GROUP4, GROUP6)
        )
        return [
            *super().transmissions(),
            *again,
            *(
                Transmission("the device, by TCP", interface, 0.0, 0, purpose, occasion)
                for interface in dict.fromkeys(self._settings.interfaces)
                for purpose, occasion in more
            ),
        ]

    async def verify(self, sighting: Sighting) -> Sighting | None:
        """Ask one device, in at most 3 s.  Raises DiscoveryRetry if it cannot be asked now.

        Some cameras answer nothing but what goes to all.  Of one whose service accepts a connection
        at its address, the same sighting is returned: a goodbye was false, but nothing is renewed.
        """
        return await first_of(super().verify(sighting), _connected(sighting))


async def _connected(known: Sighting) -> Sighting | None:
    """Return a sighting that is still valid, if its service accepts a connection.

    What is not valid any more has left two rounds unanswered, and may have another's address.
    """
    await asyncio.sleep(CONNECT_AFTER)
    is_valid = known.at + known.valid_for > asyncio.get_running_loop().time()
    if not (is_valid and known.port and known.addresses):
        return None
    is_there = await accepts(known.addresses[0], known.port, known.interface, CONNECT)
    return known if is_there else None
