"""Messages of BACnet/IP, as far as they show who a device is: ANSI/ASHRAE 135.  Pure.

A datagram has three layers: BVLC (annex J), the network layer (clause 6), and the application layer
(clauses 16 and 20).  Only Who-Is and ReadProperty are written here: neither changes a device.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple, TypeAlias

from gatewayd.discovery.probing.protocol import UnreadableAnswer

MAX_INSTANCE = 4_194_302
UNCONFIGURED = 4_194_303
"""The instance of a device to which none was given; it stands for any, too (clause 20.2.14)."""
MAX_TEXT = 512
"""Bytes of a text that is read."""

_BVLC = struct.Struct("!BBH")  # type, function, length
_BACNET_IP = 0x81
_FORWARDED, _UNICAST, _BROADCAST = 0x04, 0x0A, 0x0B
_VERSION, _NETWORK_HEADER = 1, 2  # the header: bytes, version and control
_IS_NETWORK_MESSAGE, _HAS_DESTINATION, _HAS_SOURCE, _WANTS_REPLY = 0x80, 0x20, 0x08, 0x04
_STATION = struct.Struct("!HB")  # network, length of the address
_ALL_NETWORKS, _MAX_HOPS = 0xFFFF, 255
_MAX_STATION = 7
"""Bytes of an address on another network: LonTalk's are the longest (clause 6.2.2)."""

_UNCONFIRMED, _COMPLEX_ACK = 1, 3  # types of PDU (clause 20.1)
_REFUSALS = (5, 6, 7)  # error, reject, abort
_I_AM, _WHO_IS, _READ_PROPERTY = 0, 8, 12
_IS_SEGMENTED = 0x08
_ANSWER_HEADER = 3  # bytes: the type, the invoke id, the service
_UNSEGMENTED_1476 = 0x05  # max-APDU-length-accepted: 1,476 bytes, none in segments

_UNSIGNED, _TEXT, _ENUMERATED, _OBJECT = 2, 7, 9, 12  # application tags (clause 20.2.1.4)
_IS_CONTEXT, _OPENING, _CLOSING, _EXTENDED = 0x08, 6, 7, 5
_EXTENDED_NUMBER = 0x0F  # it is in the byte that follows
_LONGEST_SHORT, _LONG = 253, 254  # lengths of one byte, and what says that two follow, not four
_I_AM_TAGS = (_OBJECT, _UNSIGNED, _ENUMERATED, _UNSIGNED)
_OBJECT_SIZE, _VENDOR_SIZE = 4, 2  # bytes, the second at most
_DEVICE = 8  # the type of object
_INSTANCE_BITS = 22

_CHARACTER_SETS = {0: "utf-8", 3: "utf-32-be", 4: "utf-16-be", 5: "latin-1"}
_CODE_PAGE = 1
"""The character set whose code page, as of DOS and Windows, is in the two bytes that follow."""


@dataclass(frozen=True, slots=True)
class BacnetStation:
    """Where a device is behind a router: its network, and its address there."""

    network: int
    address: bytes


@dataclass(frozen=True, slots=True)
class IAm:
    """What a device says of itself: I-Am.  instance: up to UNCONFIGURED.  vendor_id: by ASHRAE."""

    station: BacnetStation | None
    instance: int
    vendor_id: int


@dataclass(frozen=True, slots=True)
class PropertyAnswer:
    """The answer to ReadProperty.

    text: None where the property has none, or the device refuses.
    """

    station: BacnetStation | None
    invoke_id: int
    text: str | None

    def answers(self, station: BacnetStation | None, invoke_id: int) -> bool:
        """Whether it answers what a device was asked with this number."""
        return (self.station, self.invoke_id) == (station, invoke_id)


BacnetMessage: TypeAlias = IAm | PropertyAnswer


def who_is(low: int, high: int) -> bytes:
    """Return the question to all devices of all networks with such an instance: a broadcast."""
    asked = _who_is_range(low, high)
    return _sent(_BROADCAST, _addressed(BacnetStation(_ALL_NETWORKS, b""), 0) + asked)


def who_is_at(station: BacnetStation | None, instance: int) -> bytes:
    """Return the question to one device, for its address, or for that of its router."""
    return _sent(_UNICAST, _addressed(station, 0) + _who_is_range(instance, instance))


def read_property(
    station: BacnetStation | None, instance: int, identifier: int, invoke_id: int
) -> bytes:
    """Return the question for a property of a device, for its address, or for that of its router.

    identifier: of the property.  invoke_id: 0 to 255, of which the answer has the same.
    """
    asked = bytes((0, _UNSEGMENTED_1476, invoke_id, _READ_PROPERTY))
    asked += b"\x0c" + struct.pack("!I", _DEVICE << _INSTANCE_BITS | instance)
    number = _shortest(identifier)
    asked += bytes((0x18 | len(number),)) + number
    return _sent(_UNICAST, _addressed(station, _WANTS_REPLY) + asked)


def parse_message(payload: bytes) -> BacnetMessage | None:
    """Return what a datagram says; None for one that is about no device.

    Raises UnreadableAnswer: what a BBMD forwards from another subnet is one, as its sender is not
    the device.
    """
    network = _without_bvlc(payload)
    if network is None:
        return None
    station, application = _without_network_layer(network)
    if not application:
        return None
    kind, which = application[0] >> 4, application[1:2]
    if kind == _UNCONFIRMED and which == bytes((_I_AM,)):
        return _i_am(station, application[2:])
    if kind == _COMPLEX_ACK:
        return _answer(station, application)
    if kind in _REFUSALS and which:
        return PropertyAnswer(station, which[0], None)
    return None


def _sent(function: int, network: bytes) -> bytes:
    return _BVLC.pack(_BACNET_IP, function, _BVLC.size + len(network)) + network


def _addressed(station: BacnetStation | None, control: int) -> bytes:
    if station is None:
        return bytes((_VERSION, control))
    head = bytes((_VERSION, control | _HAS_DESTINATION))
    head += _STATION.pack(station.network, len(station.address))
    return head + station.address + bytes((_MAX_HOPS,))


def _who_is_range(low: int, high: int) -> bytes:
    """Return Who-Is: the limits have the context tags 0 and 1 (clause 16.10.1)."""
    made = bytes((_UNCONFIRMED << 4, _WHO_IS))
    for tag, number in enumerate(map(_shortest, (low, high))):
        made += bytes((tag << 4 | _IS_CONTEXT | len(number),)) + number
    return made


def _shortest(number: int) -> bytes:
    """Return an unsigned number in as few bytes as it has (clause 20.2.4)."""
    return number.to_bytes(max((number.bit_length() + 7) // 8, 1), "big")


def _without_bvlc(payload: bytes) -> bytes | None:
    """Return the network layer's part; None for what is between BBMDs."""
    if len(payload) < _BVLC.size:
        raise UnreadableAnswer("truncated")
    kind, function, length = _BVLC.unpack_from(payload)
    if kind != _BACNET_IP:
        raise UnreadableAnswer("not-bacnet")
    if not _BVLC.size <= length <= len(payload):
        raise UnreadableAnswer("truncated")
    if function == _FORWARDED:
        raise UnreadableAnswer("forwarded")
    return payload[_BVLC.size : length] if function in (_UNICAST, _BROADCAST) else None


def _without_network_layer(data: bytes) -> tuple[BacnetStation | None, bytes]:
    """Return who has sent it, if that is behind a router, and the application layer's part."""
    if len(data) < _NETWORK_HEADER or data[0] != _VERSION:
        raise UnreadableAnswer("not-bacnet")
    control, at, station = data[1], _NETWORK_HEADER, None
    if control & _IS_NETWORK_MESSAGE:
        return None, b""
    if control & _HAS_DESTINATION:
        _, at = _station(data, at)
    if control & _HAS_SOURCE:
        station, at = _station(data, at)
        if not 0 < station.network < _ALL_NETWORKS or not station.address:
            raise UnreadableAnswer("bad-station")
    if control & _HAS_DESTINATION:
        at += 1  # the hops that are left
    return station, data[at:]


def _station(data: bytes, at: int) -> tuple[BacnetStation, int]:
    """Return a network and an address on it, and where they end."""
    if len(data) < at + _STATION.size:
        raise UnreadableAnswer("truncated")
    network, length = _STATION.unpack_from(data, at)
    at += _STATION.size
    if length > _MAX_STATION or len(data) < at + length:
        raise UnreadableAnswer("bad-station")
    return BacnetStation(network, data[at : at + length]), at + length


class _Tag(NamedTuple):
    """One tag (clause 20.2.1).  value: empty for one that opens or closes a list."""

    number: int
    is_context: bool
    form: int
    value: bytes


def _tags(data: bytes) -> Iterator[_Tag]:
    """Yield the tags of a message.  Raises UnreadableAnswer where one is not whole."""
    at = 0
    while at < len(data):
        first, at = data[at], at + 1
        number, form = first >> 4, first & 0x07
        is_context = bool(first & _IS_CONTEXT)
        if number == _EXTENDED_NUMBER:
            number, at = _number(data, at, 1)
        length = form
        if is_context and form in (_OPENING, _CLOSING):
            length = 0
        elif form == _EXTENDED:
            length, at = _length(data, at)
        if length > len(data) - at:
            raise UnreadableAnswer("truncated")
        yield _Tag(number, is_context, form, data[at : at + length])
        at += length


def _length(data: bytes, at: int) -> tuple[int, int]:
    """Return a length of more than four bytes, and where it ends (clause 20.2.1.3.1)."""
    length, at = _number(data, at, 1)
    if length <= _LONGEST_SHORT:
        return length, at
    return _number(data, at, 2 if length == _LONG else 4)


def _number(data: bytes, at: int, size: int) -> tuple[int, int]:
    if len(data) < at + size:
        raise UnreadableAnswer("truncated")
    return int.from_bytes(data[at : at + size], "big"), at + size


def _i_am(station: BacnetStation | None, data: bytes) -> IAm:
    """Return what an I-Am says (clause 16.10.2): object, longest APDU, segmentation, vendor."""
    tags = list(islice(_tags(data), len(_I_AM_TAGS)))
    if tuple(-1 if one.is_context else one.number for one in tags) != _I_AM_TAGS:
        raise UnreadableAnswer("bad-i-am")
    identifier, vendor = tags[0].value, tags[-1].value
    if len(identifier) != _OBJECT_SIZE or not 0 < len(vendor) <= _VENDOR_SIZE:
        raise UnreadableAnswer("bad-i-am")
    kind, instance = divmod(int.from_bytes(identifier, "big"), 1 << _INSTANCE_BITS)
    if kind != _DEVICE:
        raise UnreadableAnswer("bad-i-am")
    return IAm(station, instance, int.from_bytes(vendor, "big"))


def _answer(station: BacnetStation | None, application: bytes) -> PropertyAnswer | None:
    """Return what a device answers to ReadProperty (clause 15.5.1); None for another answer."""
    if application[0] & _IS_SEGMENTED:
        raise UnreadableAnswer("segmented")
    if len(application) < _ANSWER_HEADER:
        raise UnreadableAnswer("truncated")
    if application[2] != _READ_PROPERTY:
        return None
    tags = _tags(application[_ANSWER_HEADER:])
    any(one.is_context and one.form == _OPENING for one in tags)  # up to there
    value = next(tags, None)
    is_text = value is not None and not value.is_context and value.number == _TEXT
    return PropertyAnswer(
        station, application[1], _text(value.value) if value and is_text else None
    )


def _text(value: bytes) -> str | None:
    """Return a text (clause 20.2.9); None where it cannot be read as what it says it is."""
    if not 0 < len(value) <= MAX_TEXT:
        return None
    name, text = _CHARACTER_SETS.get(value[0], ""), value[1:]
    if value[0] == _CODE_PAGE:
        name, text = f"cp{int.from_bytes(text[:2], 'big')}", text[2:]
    try:
        return text.decode(name)
    except (LookupError, UnicodeError):
        return None
