"""The discoverer of EtherNet/IP devices: controllers, drives, couplers, and modules of racks."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import ClassVar

from gatewayd.device.identity import claim
from gatewayd.discovery import sanitize
from gatewayd.discovery.discoverer import Sighting
from gatewayd.discovery.probing.connection import connected
from gatewayd.discovery.probing.discoverer import DatagramDiscoverer
from gatewayd.discovery.probing.protocol import (
    BROADCAST,
    TOKEN,
    Datagram,
    Enquiry,
    Found,
    News,
    Own,
    Probe,
    Transmission,
    UnreadableAnswer,
)
from gatewayd.discovery.probing.settings import ProbingSettings
from gatewayd.discovery.protocols.ethernet_ip.messages import (
    HEADER,
    LONGEST,
    PORT,
    CipIdentity,
    body_size,
    list_identity,
    parse_identity,
)
from gatewayd.runtime.tasks import first_of

ALL_ANSWER, ONE_ANSWERS, MARGIN = 2.0, 0.5, 1.0
"""Seconds in which all devices are to answer, or one, and those in which what is late still may."""
GAP = 60.0
"""Seconds between two broadcasts, at least: to each, all devices answer at once."""
UDP_ALONE = 1.5
"""Seconds after which a device that does not answer by UDP is asked by TCP."""
TCP = 1.3
"""Seconds in which it must answer then."""
UNANSWERED = "when a device that is verified has not answered by UDP for 1.5 s"


class EthernetIpProtocol:
    """ListIdentity as a protocol of datagrams: a `DatagramProtocol`.

    Devices answer, and say nothing by themselves.
    """

    kind = "ethernet-ip"
    groups: Sequence[str] = ()
    port = PORT
    listens = False
    ipv4_only = True
    answer_time = ALL_ANSWER + MARGIN

    def probes(self, token: bytes, own: Own) -> Sequence[Probe]:  # noqa: ARG002  # no part of the question
        """Return the question to all devices, by broadcast."""
        question = list_identity(token, ALL_ANSWER)
        return (Probe(question, BROADCAST, PORT, "identity of each device", token),)

    def probe_of(self, address: str, key: str, token: bytes, own: Own) -> Sequence[Probe]:  # noqa: ARG002  # all that is at an address answers
        """Return the question to one device, which is sent twice."""
        question = list_identity(token, ONE_ANSWERS)
        return tuple(
            Probe(question, address, PORT, "identity of the device", token, after)
            for after in (0.0, ONE_ANSWERS)
        )

    def read(self, datagram: Datagram) -> Iterable[News]:
        """Return the device that answers.  Raises UnreadableAnswer."""
        return (found_by(parse_identity(datagram.payload, datagram.asked), datagram.sender),)

    async def enquire(self, found: Found, enquiry: Enquiry) -> Sequence[Found]:  # noqa: ARG002  # there is no more
        """Return what was found: all is in the first answer."""
        return (found,)


def found_by(identity: CipIdentity, sender: str) -> Found:
    """Return the device that such an answer shows.  sender: its IP address.

    Each module of a rack answers by itself, and is a device of its own; so is each of several that
    answer from one address.
    """
    digits, vendor = identity.serial_digits, identity.vendor_id
    serial = claim("serial", f"enip.{vendor}", digits)
    kind = f"{vendor}.{identity.device_type}.{identity.product_code}"
    attributes = {
        "model": identity.product,
        "serial": serial.value if serial else "",
        "enip.vendor-id": str(vendor),
        "enip.device-type": str(identity.device_type),
        "enip.product-code": str(identity.product_code),
        "enip.revision": identity.revision,
    }
    return Found(
        key=f"{vendor} {serial.value}" if serial else f"{sender} {kind}",
        claims=frozenset({serial} if serial else ()),
        attributes=sanitize.escaped_attributes(attributes),
        label=identity.product or f"EtherNet/IP device {kind}",
        valid_for=0.0,
        port=PORT,
    )


@dataclass(frozen=True, slots=True)
class EthernetIpSettings(ProbingSettings):
    """[discovery.<name>] with kind = "ethernet-ip".  The bounds hold for each interface."""


class EthernetIp(DatagramDiscoverer):
    """The discoverer.

    gap: seconds between the beginnings of two rounds, at least, rescans included.
    Raises ConfigError.
    """

    port_version: ClassVar[str] = "1.0"
    Settings: ClassVar[type] = EthernetIpSettings

    def __init__(self, name: str, settings: EthernetIpSettings, *, gap: float = GAP) -> None:
        super().__init__(name, settings, EthernetIpProtocol(), gap=gap)

    def transmissions(self) -> Sequence[Transmission]:
        """Return what is sent on each interface, the question by TCP included."""
        to, what = f"the device, port {PORT} by TCP", "identity of the device"
        by_tcp = (
            Transmission(to, one, 0.0, HEADER, what, UNANSWERED)
            for one in dict.fromkeys(self._settings.interfaces)
        )
        return [*super().transmissions(), *by_tcp]

    async def verify(self, sighting: Sighting) -> Sighting | None:
        """Ask one device, in at most 3 s: by UDP, and by TCP if it does not answer.

        Raises DiscoveryRetry if it cannot be asked now.
        """
        return await first_of(super().verify(sighting), self._by_tcp(sighting))

    async def _by_tcp(self, sighting: Sighting) -> Sighting | None:
        """Send one question by TCP: no session is registered, and nothing else is sent."""
        await asyncio.sleep(UDP_ALONE)
        token = secrets.token_bytes(TOKEN)
        question = list_identity(token, ONE_ANSWERS)
        for address in sighting.addresses[:1]:
            opened = connected(address, PORT, LONGEST, interface=sighting.interface)
            with suppress(OSError, UnreadableAnswer):  # a time-out is an OSError, too
                async with asyncio.timeout(TCP), opened as connection:
                    await connection.send(question)
                    header = await connection.receive(HEADER)
                    answer = header + await connection.receive(body_size(header))
                return self.confirm(sighting, answer, port=PORT, asked=(token,))
        return None
