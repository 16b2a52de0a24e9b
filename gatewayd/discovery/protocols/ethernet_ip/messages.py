"""EtherNet/IP: what a device says of itself in answer to ListIdentity.

Source of facts: the CIP Networks Library, volume 2, 2-3 and 2-4.2, captures of devices, and OpENer
for the time to answer.  No other command is ever made here: some of them stop a controller.
Numbers are little-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Collection
from dataclasses import dataclass

from gatewayd.discovery.probing.protocol import TOKEN, UnreadableAnswer

PORT = 44818
"""Of UDP and of TCP."""
HEADER = 24
"""Bytes before the items of a message: command, length, session, status, context, options."""
LONGEST = 1024
"""Bytes of a message that are read by TCP: an identity with the longest name has 322."""

_HEADER = struct.Struct("<HHII8sI")
_LIST_IDENTITY = 0x0063
_DELAY = struct.Struct("<H")
"""Within how many milliseconds the answers by UDP are to come, each at a random moment: the first
two bytes of the context, so that a token is the rest.  0 is for 2 s, and the least is 0.5 s."""
_ITEM = struct.Struct("<HH")  # type, length
_IDENTITY_ITEM = 0x000C
_MAX_ITEMS = 8
_IDENTITY = struct.Struct("<H16xHHHBBHIB")
"""Version of the protocol; a socket address, which may be 0.0.0.0 or that of another interface;
vendor, type of device, product; revision; status; serial number; length of the name."""

_UNSET = frozenset({0, 0x006C061A})
"""Serial numbers of no device: none, and that of every simulator by cpppo."""


@dataclass(frozen=True, slots=True)
class CipIdentity:
    """The identity object of a device.

    vendor_id: given by ODVA.  serial: unique among the devices of a vendor; 0 for none.
    revision: of the firmware, as "4.3".  product: the name of the product, perhaps cut.
    """

    vendor_id: int
    device_type: int
    product_code: int
    revision: str
    serial: int
    product: str

    @property
    def serial_digits(self) -> str:
        """The serial number as 8 hex digits, as it is printed on devices; "" if it has none."""
        return "" if self.serial in _UNSET else f"{self.serial:08x}"


def list_identity(token: bytes, delay: float) -> bytes:
    """Return the question, 24 bytes.

    token: TOKEN bytes, of which the last six are sent.
    delay: seconds in which all answers by UDP are to come, 0.5 to 65.
    """
    context = _DELAY.pack(int(delay * 1000)) + _nonce(token)
    return _HEADER.pack(_LIST_IDENTITY, 0, 0, 0, context, 0)


def body_size(header: bytes) -> int:
    """Return how many bytes follow a header, HEADER bytes, by TCP.  Raises UnreadableAnswer."""
    size = int.from_bytes(header[2:4], "little")
    if size > LONGEST - HEADER:
        raise UnreadableAnswer("oversized")
    return size


def parse_identity(message: bytes, asked: Collection[bytes]) -> CipIdentity:
    """Return the identity in an answer to one of these tokens.  Raises UnreadableAnswer.

    It is read to the end of the message, whatever the length of its item says: a PowerFlex 753
    gives one that is too short.  What is missing of the name is not a fault.
    """
    try:
        return _parsed(message, asked)
    except struct.error:
        raise UnreadableAnswer("truncated") from None


def _parsed(message: bytes, asked: Collection[bytes]) -> CipIdentity:
    command, _, _, status, context, _ = _HEADER.unpack_from(message)
    if command != _LIST_IDENTITY or status:
        raise UnreadableAnswer("foreign-message")
    if _nonce(context) not in map(_nonce, asked):
        raise UnreadableAnswer("unasked")
    start = _identity_item(message)
    vendor, kind, code, major, minor, _, serial, length = _IDENTITY.unpack_from(message, start)[1:]
    name = message[start + _IDENTITY.size :][:length]
    return CipIdentity(
        vendor_id=vendor,
        device_type=kind,
        product_code=code,
        revision=f"{major}.{minor}",
        serial=serial,
        product=name.decode("latin-1").strip(" \0"),
    )


def _identity_item(message: bytes) -> int:
    """Return where the first identity begins."""
    (count,) = struct.Struct("<H").unpack_from(message, HEADER)
    start = HEADER + 2
    for _ in range(min(count, _MAX_ITEMS)):
        kind, length = _ITEM.unpack_from(message, start)
        start += _ITEM.size
        if kind == _IDENTITY_ITEM:
            return start
        start += length
    raise UnreadableAnswer("no-identity")


def _nonce(token: bytes) -> bytes:
    return token[_DELAY.size : TOKEN]
