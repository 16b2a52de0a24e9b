"""The discoverer of KNX: interfaces and routers between the IP network and the bus.

What is on the bus is found by no one here: it is the application's business.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from gatewayd.device.identity import claim
from gatewayd.discovery import sanitize
from gatewayd.discovery.probing.discoverer import DatagramDiscoverer
from gatewayd.discovery.probing.protocol import Datagram, Enquiry, Found, News, Own, Probe
from gatewayd.discovery.probing.settings import ProbingSettings, time_between_rounds
from gatewayd.discovery.protocols.knx.messages import (
    GROUP,
    PORT,
    KnxDevice,
    description_request,
    parse_answer,
    search_requests,
)

NAMESPACE = "knx"

_KNXD = "010203040506"
"""The serial number of every knxd, which it shows in a search alone."""


class KnxProtocol:
    """The search for devices as a protocol of datagrams: a `DatagramProtocol`.

    Devices answer, and say nothing by themselves.  A question has no room for a token.
    """

    kind = "knx"
    groups: Sequence[str] = ()
    port = PORT
    listens = False
    ipv4_only = True
    answer_time = 10.0  # as long as the standard has a client wait for answers to a search

    def probes(self, token: bytes, own: Own) -> Sequence[Probe]:  # noqa: ARG002  # there is no room for it
        """Return the questions to all devices, of both versions, by multicast."""
        first, second = search_requests(own.address, own.port)
        return (
            Probe(first, GROUP, PORT, "search for devices"),
            Probe(second, GROUP, PORT, "search for devices of version 2"),
        )

    def probe_of(self, address: str, key: str, token: bytes, own: Own) -> Sequence[Probe]:  # noqa: ARG002  # one device is at an address
        """Return the question to one device."""
        question = description_request(own.address, own.port)
        return (Probe(question, address, PORT, "description of the device"),)

    def read(self, datagram: Datagram) -> Iterable[News]:
        """Return the device that answers.  Raises UnreadableAnswer."""
        return (found_by(parse_answer(datagram.payload), datagram.sender),)

    async def enquire(self, found: Found, enquiry: Enquiry) -> Sequence[Found]:  # noqa: ARG002  # there is no more
        """Return what was found: all is in the first answer."""
        return (found,)


def found_by(device: KnxDevice, sender: str) -> Found:
    """Return the device that such an answer shows.  sender: its IP address.

    Name and individual address are set with ETS, and identify nothing.
    """
    digits = "" if device.serial == _KNXD else device.serial
    serial, mac = claim("serial", NAMESPACE, digits), claim("mac", NAMESPACE, device.mac)
    attributes = {
        "serial": serial.value if serial else "",
        "knx.mac": mac.value if mac else "",
        "knx.name": device.name,
        "knx.individual-address": device.individual_address,
        "knx.medium": device.medium,
        "knx.services": " ".join(device.services),
    }
    return Found(
        key=next((one.value for one in (serial, mac) if one), sender),
        claims=frozenset(one for one in (serial, mac) if one),
        attributes=sanitize.escaped_attributes(attributes),
        label=device.name or f"KNX device {device.individual_address}",
        valid_for=0.0,
        port=device.port,
    )


@dataclass(frozen=True, slots=True)
class KnxSettings(ProbingSettings):
    """[discovery.<name>] with kind = "knx".  The bounds hold for each interface."""

    probe_every: float = time_between_rounds(300)


class Knx(DatagramDiscoverer):
    """The discoverer.  Raises ConfigError."""

    port_version: ClassVar[str] = "1.0"
    Settings: ClassVar[type] = KnxSettings

    def __init__(self, name: str, settings: KnxSettings) -> None:
        super().__init__(name, settings, KnxProtocol())
