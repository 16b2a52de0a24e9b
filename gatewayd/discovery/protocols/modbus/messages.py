"""Modbus TCP, as far as it reads who a device is: function 43/14, and holding registers.  Pure.

Facts: MODBUS Application Protocol Specification V1.1b3, 6.3 (registers), 6.21 (identification) and
7 (exceptions); MODBUS Messaging on TCP/IP Implementation Guide V1.0b, 3.1.3 (header) and 4.4.2.1
(unit numbers).  No function that writes, nor one that restarts or resets anything, is in here.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

from gatewayd.discovery.probing.protocol import UnreadableAnswer

PORT = 502
HEADER = 7
"""Bytes of the header, MBAP: transaction, protocol, length, unit."""
MAX_PDU = 253
"""Bytes of a function and its data (4.1)."""
OWN_UNITS = frozenset({0, 255})
"""Units by which a gateway to a serial line is meant itself (Guide, 4.4.2.1)."""
MAX_REGISTERS = 125
"""Registers that one answer may have (6.3)."""

_HEADER = struct.Struct(">HHHB")
_REGISTERS, _IDENTIFICATION, _MEI = 0x03, 0x2B, 0x0E
_EXCEPTION = 0x80
_MORE = 0xFF
_INDIVIDUAL = 0x80  # in the level of conformity: single objects can be asked for, too


class IdCode(IntEnum):
    """Which objects are asked for: "Read Device ID code" (6.21)."""

    BASIC = 1  # vendor, product code, revision
    REGULAR = 2  # besides these: URL, product name, model, name of the application
    EXTENDED = 3  # besides these, what a vendor has added: 0x80 to 0xFF
    SINGLE = 4  # one object


class ExceptionCode(IntEnum):
    """What an exception says (7), as far as it makes a difference."""

    DEVICE_FAILURE = 4
    ACKNOWLEDGE = 5
    BUSY = 6
    GATEWAY_PATH = 10
    GATEWAY_TARGET = 11


BUSY = frozenset({ExceptionCode.DEVICE_FAILURE, ExceptionCode.ACKNOWLEDGE, ExceptionCode.BUSY})
"""Exceptions that may pass."""
ABSENT = frozenset({ExceptionCode.GATEWAY_PATH, ExceptionCode.GATEWAY_TARGET})
"""Exceptions by which a gateway says that there is no such unit, or none that answers."""


@dataclass(frozen=True, slots=True)
class ModbusException:
    """An answer that is an exception.  code: as `ExceptionCode` has some."""

    code: int


@dataclass(frozen=True, slots=True)
class Identification:
    """One answer about a device.

    level: the conformity, 1 to 3 as of `IdCode`.  has_single: whether it answers for one object.
    following: the number of the object with which the rest begins; None if nothing follows.
    objects: bytes by number; a server without an identity has none.
    """

    level: int
    has_single: bool
    following: int | None
    objects: Mapping[int, bytes]


@dataclass(frozen=True, slots=True)
class ModbusHeader:
    """The header of an answer.  length: bytes of the PDU that follows."""

    transaction: int
    unit: int
    length: int


def identification_request(transaction: int, unit: int, code: IdCode, first: int) -> bytes:
    """Return the question for objects, from a number on."""
    return _frame(transaction, unit, bytes((_IDENTIFICATION, _MEI, code, first)))


def registers_request(transaction: int, unit: int, address: int, count: int) -> bytes:
    """Return the question for holding registers.  address: from 0; count: 1 to MAX_REGISTERS."""
    return _frame(transaction, unit, struct.pack(">BHH", _REGISTERS, address, count))


def read_header(raw: bytes) -> ModbusHeader:
    """Read the header of an answer, HEADER bytes.  Raises UnreadableAnswer."""
    if len(raw) != HEADER:
        raise UnreadableAnswer("garbled")
    transaction, protocol, length, unit = _HEADER.unpack(raw)
    if protocol:
        raise UnreadableAnswer("garbled")
    if not 2 <= length - 1 <= MAX_PDU:  # noqa: PLR2004  # a function and one byte
        raise UnreadableAnswer("garbled")
    return ModbusHeader(transaction, unit, length - 1)


def check_header(header: ModbusHeader, transaction: int, unit: int) -> None:
    """Raise UnreadableAnswer unless an answer is to this question."""
    if (header.transaction, header.unit) != (transaction, unit):
        raise UnreadableAnswer("unasked")


def read_identification(pdu: bytes, asked: int) -> Identification | ModbusException:
    """Read the answer about a device.  asked: the first object of the question.

    Something follows only if its number is higher than what was asked for and read: else the rest
    could be asked for without end.  Some servers answer from object 0 on where they do not have the
    one asked for, as the standard allows.  A level that there is not counts as the lowest.
    Raises UnreadableAnswer.
    """
    if (exception := _exception(pdu, _IDENTIFICATION)) is not None:
        return exception
    if len(pdu) < 7 or pdu[:2] != bytes((_IDENTIFICATION, _MEI)):  # noqa: PLR2004  # what is fixed
        raise UnreadableAnswer("garbled")
    conformity, more, following, count = pdu[3:7]
    objects = _objects(pdu[7:], count)
    level = conformity & ~_INDIVIDUAL
    if not IdCode.BASIC <= level <= IdCode.EXTENDED:
        level = IdCode.BASIC
    goes_on = more == _MORE and following > max((asked, *objects))
    rest = following if goes_on else None
    return Identification(level, bool(conformity & _INDIVIDUAL), rest, objects)


def read_registers(pdu: bytes, count: int) -> bytes | ModbusException:
    """Read the answer with so many registers, two bytes each.  Raises UnreadableAnswer."""
    if (exception := _exception(pdu, _REGISTERS)) is not None:
        return exception
    if pdu[:2] != bytes((_REGISTERS, 2 * count)) or len(pdu) != 2 + 2 * count:
        raise UnreadableAnswer("garbled")
    return pdu[2:]


def _frame(transaction: int, unit: int, pdu: bytes) -> bytes:
    return _HEADER.pack(transaction, 0, 1 + len(pdu), unit) + pdu


def _exception(pdu: bytes, function: int) -> ModbusException | None:
    is_one = len(pdu) == 2 and pdu[0] == function | _EXCEPTION  # noqa: PLR2004  # function and code
    return ModbusException(pdu[1]) if is_one else None


def _objects(raw: bytes, count: int) -> dict[int, bytes]:
    """Return the objects of an answer, each with its number and length before it."""
    found: dict[int, bytes] = {}
    at = 0
    for _ in range(count):
        if at + 2 > len(raw) or (end := at + 2 + raw[at + 1]) > len(raw):
            raise UnreadableAnswer("garbled")
        found.setdefault(raw[at], raw[at + 2 : end])
        at = end
    return found
