"""SNMP, as far as it asks for single objects: GET, of versions 1 and 2c.  Pure.

Facts: RFC 1157, 4 (version 1); RFC 1901, 3 (2c); RFC 3416, 3 and 4.2 (messages and errors).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

from gatewayd.discovery.probing.protocol import UnreadableAnswer
from gatewayd.discovery.protocols.snmp import ber
from gatewayd.discovery.protocols.snmp.ber import ObjectName

PORT = 161
MAX_DATAGRAM = 8192
MAX_COMMUNITY = 255
"""Bytes of a community; a standard limit does not exist."""

NOT_ASKED = "unasked"
"""Why an answer is not read: it is to another question."""

GET, RESPONSE = 0xA0, 0xA2
_COUNTERS = frozenset({0x41, 0x42, 0x43, 0x46})
"""Tags of whole numbers: Counter32, Gauge32, TimeTicks, Counter64."""

Value: TypeAlias = bytes | int | ObjectName
"""What an object has: octets, a whole number, or a name."""


class SnmpVersion(IntEnum):
    """The number of a version in a message."""

    V1 = 0
    V2C = 1


class SnmpError(IntEnum):
    """The status of an answer (RFC 3416, 3), as far as it makes a difference."""

    NONE = 0
    TOO_BIG = 1
    NO_SUCH_NAME = 2
    GENERAL = 5


@dataclass(frozen=True, slots=True)
class SnmpAnswer:
    """An answer.  status: as `SnmpError` has some.  values: of the objects that are there."""

    status: int
    values: Mapping[ObjectName, Value]


def get_request(
    version: SnmpVersion, community: bytes, number: int, names: Sequence[ObjectName]
) -> bytes:
    """Return the question for objects.  number: of the question, from 0 to 2^31 - 1."""
    bindings = b"".join(
        ber.element(ber.SEQUENCE, ber.object_name(name) + ber.element(ber.NULL, b""))
        for name in names
    )
    parts = (*(ber.integer(one) for one in (number, 0, 0)), ber.element(ber.SEQUENCE, bindings))
    pdu = ber.element(GET, b"".join(parts))
    head = ber.integer(version) + ber.element(ber.OCTETS, community)
    return ber.element(ber.SEQUENCE, head + pdu)


def read_answer(
    datagram: bytes, version: SnmpVersion, number: int, names: Sequence[ObjectName]
) -> SnmpAnswer:
    """Read the answer to a question.  Raises UnreadableAnswer.

    Of the objects, only those count that were asked for.  The community of the answer says nothing:
    who can send it has seen the question.
    """
    if len(datagram) > MAX_DATAGRAM:
        raise UnreadableAnswer("endless")
    (message,) = ber.read_sequence(datagram, ber.SEQUENCE)
    head, _, pdu = ber.read_sequence(message, ber.INTEGER, ber.OCTETS, RESPONSE)
    answered, status, _, bindings = ber.read_sequence(
        pdu, ber.INTEGER, ber.INTEGER, ber.INTEGER, ber.SEQUENCE
    )
    if (ber.read_integer(head), ber.read_integer(answered)) != (version, number):
        raise UnreadableAnswer(NOT_ASKED)
    found = dict(filter(None, map(_binding, ber.read_elements(bindings))))
    values = {name: found[name] for name in names if name in found}
    return SnmpAnswer(ber.read_integer(status), values)


def _binding(one: ber.Element) -> tuple[ObjectName, Value] | None:
    """Return the name of an object, and its value.

    None if it has none that is of use, as noSuchObject, where it is not there (RFC 3416, 3).
    """
    if one.tag != ber.SEQUENCE:
        raise UnreadableAnswer("garbled")
    pair = ber.read_elements(one.content)
    if len(pair) != 2 or pair[0].tag != ber.OBJECT:  # noqa: PLR2004  # a name and a value
        raise UnreadableAnswer("garbled")
    name, (tag, content) = ber.read_object_name(pair[0].content), pair[1]
    if tag == ber.OCTETS:
        return name, content
    if tag == ber.OBJECT:
        return name, ber.read_object_name(content)
    if tag == ber.INTEGER or tag in _COUNTERS:
        return name, ber.read_integer(content)
    return None
