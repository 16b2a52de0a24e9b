"""The discoverer of BACnet/IP, and who a device is: ANSI/ASHRAE 135, annex J.

A device answers Who-Is with its instance and vendor, mostly by a broadcast.  Its name, model and
serial number are properties, which are read one after another.  It is never written to.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import ClassVar, Final

from gatewayd.device.identity import Claim, claim
from gatewayd.discovery import sanitize
from gatewayd.discovery.probing.discoverer import DatagramDiscoverer
from gatewayd.discovery.probing.protocol import (
    Datagram,
    Enquiry,
    Found,
    News,
    Own,
    Probe,
    Transmission,
    UnreadableAnswer,
)
from gatewayd.discovery.probing.settings import ProbingSettings, time_between_rounds
from gatewayd.discovery.protocols.bacnet.messages import (
    MAX_INSTANCE,
    BacnetStation,
    IAm,
    PropertyAnswer,
    parse_message,
    read_property,
    who_is,
    who_is_at,
)

PORT: Final = 47808
RANGES: Final = ((0, 999), (1000, 9999), (10_000, 99_999), (100_000, 999_999),
                 (1_000_000, MAX_INSTANCE))  # fmt: skip
"""Instances that are asked for at once: if all were, each slow line behind a router would be full
of answers."""
BETWEEN_RANGES: Final = 2.0
PACE: Final = 1.0
"""Seconds between two questions for properties at one address: it may be that of a router, with a
line of 9,600 bit/s behind it."""
DIRECT, BEHIND = 1.5, 3.0
"""Seconds in which a device answers, and one behind a router."""
ENQUIRY: Final = 8.0
"""Seconds in which a device is asked for its properties."""
EVERY: Final = 1800.0
"""Seconds between two rounds, by default."""
SELDOM: Final = 900.0
"""Seconds between two rounds, at least, rescans included: all devices behind routers answer."""

READ: Final = "of a device that a rule could match, at most once in 10 min"

_NAME, _SERIAL = 77, 372  # properties (clause 12.11; 372 since protocol revision 19)
_VENDOR, _MODEL, _FIRMWARE, _APPLICATION = 121, 70, 44, 12
_KEYS: Final[Mapping[int, str]] = {
    _NAME: "bacnet.name",
    _SERIAL: "serial",
    _VENDOR: "vendor",
    _MODEL: "model",
    _FIRMWARE: "bacnet.firmware",
    _APPLICATION: "bacnet.application",
}


class BacnetProtocol:
    """The protocol: a `DatagramProtocol`.  pace: as PACE."""

    kind = "bacnet"
    groups: Sequence[str] = ()
    port = PORT
    listens = True
    ipv4_only = True
    answer_time = 5.0

    def __init__(self, pace: float = PACE) -> None:
        self._pace = pace

    def probes(self, token: bytes, own: Own) -> Sequence[Probe]:
        """Return Who-Is for each range of instances.  token, own: have no place in it."""
        del token, own
        return [
            Probe(who_is(low, high), "broadcast", PORT, f"devices with instances {low} to {high}",
                  after=BETWEEN_RANGES if low else 0.0)
            for low, high in RANGES
        ]  # fmt: skip

    def probe_of(self, address: str, key: str, token: bytes, own: Own) -> Sequence[Probe]:
        """Return Who-Is for one instance, to its address or to that of its router."""
        del token, own
        station, instance = _device_of(key)
        asked = who_is_at(station, instance)
        return [Probe(asked, address, PORT, "whether one device is still there", after=after)
                for after in (0.0, PACE)]  # fmt: skip

    def read(self, datagram: Datagram) -> Iterable[News]:
        """Return the device of an I-Am: without a claim, until its serial number was asked for.

        Raises UnreadableAnswer.
        """
        message = parse_message(datagram.payload)
        return [_found(message)] if isinstance(message, IAm) else []

    async def enquire(self, found: Found, enquiry: Enquiry) -> Sequence[Found]:
        """Read the name, the serial number and the rest, one after another.  Raises OSError."""
        station, instance = _device_of(found.key)
        first = enquiry.token()[0]
        texts: dict[int, str] = {}
        with suppress(TimeoutError):  # what was read until then counts
            async with asyncio.timeout(ENQUIRY):
                for number, identifier in enumerate(_KEYS):
                    invoke_id = (first + number) % 256
                    asked = read_property(station, instance, identifier, invoke_id)
                    answer = await _read(enquiry, asked, station, invoke_id)
                    if answer is None:
                        break
                    texts[identifier] = answer.text or ""
                    await asyncio.sleep(self._pace)
        return [_with(found, texts)]


def _found(said: IAm) -> Found:
    if said.instance > MAX_INSTANCE:
        raise UnreadableAnswer("unconfigured")
    attributes = {"bacnet.instance": str(said.instance),
                  "bacnet.vendor-id": str(said.vendor_id)}  # fmt: skip
    if said.station is not None:
        attributes["bacnet.network"] = str(said.station.network)
        attributes["bacnet.station"] = said.station.address.hex()
    return Found(
        key=_key(said.station, said.instance),
        claims=frozenset(),
        attributes=attributes,
        label=f"BACnet device {said.instance}",
        valid_for=0.0,
        port=PORT,
        is_behind=said.station is not None,
    )


def _key(station: BacnetStation | None, instance: int) -> str:
    """Return what stays the same while a device has its instance, and its place behind a router."""
    return f"{station.network}/{station.address.hex()}/{instance}" if station else str(instance)


def _device_of(key: str) -> tuple[BacnetStation | None, int]:
    """Return what `_key` has made a key of."""
    *place, instance = key.split("/")
    if not place:
        return None, int(instance)
    network, address = place
    return BacnetStation(int(network), bytes.fromhex(address)), int(instance)


async def _read(
    enquiry: Enquiry, asked: bytes, station: BacnetStation | None, invoke_id: int
) -> PropertyAnswer | None:
    """Return the answer to a question, which is sent twice if none comes.  Raises OSError."""
    probe = Probe(asked, enquiry.address, PORT, "a property of a device")

    def answer_in(datagram: Datagram) -> PropertyAnswer | None:
        with suppress(UnreadableAnswer):
            said = parse_message(datagram.payload)
            if isinstance(said, PropertyAnswer) and said.answers(station, invoke_id):
                return said
        return None

    for _ in range(2):
        seconds = BEHIND if station else DIRECT
        answer = await enquiry.ask(probe, seconds, lambda one: answer_in(one) is not None)
        if answer is not None:
            return answer_in(answer)
    return None


def _with(found: Found, texts: Mapping[int, str]) -> Found:
    """Return a device with the properties that were read; "" is one that it does not have."""
    named = {_KEYS[one]: text for one, text in texts.items()}
    attributes = {**found.attributes, **sanitize.escaped_attributes(named)}
    identity = _identity(attributes, texts) if _SERIAL in texts else None
    return replace(
        found,
        claims=frozenset(filter(None, (identity,))),
        attributes=attributes,
        label=texts.get(_NAME) or found.label,
    )


def _identity(attributes: Mapping[str, str], texts: Mapping[int, str]) -> Claim | None:
    """Return what identifies a device: its serial number, which is its vendor's.

    Where it has none, it is the instance, which people set: unique in a site by the standard, and
    not in sites where a device was cloned from the backup of another.  The kernel sees the MACs of
    two such devices, but not behind a router: there it is their place, too.
    """
    vendor, instance = attributes["bacnet.vendor-id"], attributes["bacnet.instance"]
    serial = texts[_SERIAL] if sanitize.is_clean(texts[_SERIAL]) else ""
    place = (attributes[key] for key in ("bacnet.network", "bacnet.station") if key in attributes)
    weak = "-".join(("vendor", vendor, "instance", instance, *place))
    return claim("serial", f"bacnet.{vendor}", serial) or claim("serial", "bacnet", weak)


@dataclass(frozen=True, slots=True)
class BacnetSettings(ProbingSettings):
    """[discovery.<name>] with kind = "bacnet".  The bounds hold for each interface."""

    probe_every: float = time_between_rounds(SELDOM, EVERY)


class Bacnet(DatagramDiscoverer):
    """The discoverer.  Raises ConfigError."""

    port_version: ClassVar[str] = "1.0"
    Settings: ClassVar[type] = BacnetSettings

    def __init__(self, name: str, settings: BacnetSettings) -> None:
        super().__init__(name, settings, BacnetProtocol(), gap=SELDOM)

    def transmissions(self) -> Sequence[Transmission]:
        """Return what is sent on each interface, questions for properties included."""
        to, what = f"the device, or its router, port {PORT} by UDP", f"{len(_KEYS)} properties"
        size = len(read_property(None, MAX_INSTANCE, _SERIAL, 0))
        read = (Transmission(to, one, 0.0, size, what, READ)
                for one in dict.fromkeys(self._settings.interfaces))  # fmt: skip
        return [*super().transmissions(), *read]
