"""The one frame that the link helper sends, those that it lets through, and its messages.  Pure.

PROFINET's discovery protocol, DCP, has frames of its own below IP (IEC 61158-6-10, 4.3): a device
that receives Identify-All answers with its identity, to the MAC that has asked.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from gatewayd.discovery.kernel.packet_filter import (
    ACCEPT,
    JUMP_IF_EQUAL,
    LOAD_BYTE,
    LOAD_HALF,
    LOAD_WORD,
    PACKET_TYPE,
    REFUSE,
    instruction,
)

ETHERTYPE: Final = 0x8892
MAX_FRAME: Final = 1514
"""Bytes of the longest frame, without its checksum."""
MAX_INTERFACES: Final = 16
MAX_NAME: Final = 15
"""Bytes of an interface's name: IFNAMSIZ, linux/if.h."""

SENDER: Final = slice(6, 12)
"""The MAC that a frame comes from."""

_GROUP = bytes.fromhex("010ecf000000")  # of DCP-Identify
_ADDRESSES, _ETHERTYPE_SIZE = 12, 2  # bytes; the first of both MACs
_REQUEST, _ANSWER = 0xFEFE, 0xFEFF  # FrameIDs
_IDENTIFY, _ASKS, _ANSWERS = 5, 0, 1  # a service, and what is done with it
_ALL = 0xFF  # option and suboption: whatever the device is
_DELAY = 0x80  # of 10 ms each: the moments of which a device chooses one in which it answers
_SHORTEST = 60  # bytes of a frame, without its checksum
_HEADER = struct.Struct("!HHBBIHH")  # EtherType, FrameID, service, type, xid, delay, length
_KIND, _WORD = struct.Struct("!HBB"), struct.Struct("!I")  # of it: FrameID, service, type
_BLOCK = struct.Struct("!BBH")  # option, suboption, length
_TO_THIS_HOST = 0  # PACKET_HOST, packet(7)


def identify_all(source: bytes, xid: int) -> bytes:
    """Return the question to all devices on a link.

    source: the MAC to which they answer, 6 bytes.  xid: 32 bits, which answers have, too.
    """
    block = _BLOCK.pack(_ALL, _ALL, 0)
    header = _HEADER.pack(ETHERTYPE, _REQUEST, _IDENTIFY, _ASKS, xid, _DELAY, len(block))
    return (_GROUP + source + header + block).ljust(_SHORTEST, b"\0")


def answer_of(frame: bytes) -> tuple[int, bytes] | None:
    """Return the xid and the blocks of an answer to Identify-All; None for any other frame.

    Devices tag it by 802.1Q for its priority: the kernel has removed such a tag (skb_vlan_untag).
    """
    if len(frame) < _ADDRESSES + _HEADER.size:
        return None
    ethertype, kind, service, which, xid, _, length = _HEADER.unpack_from(frame, _ADDRESSES)
    if (ethertype, kind, service, which) != (ETHERTYPE, _ANSWER, _IDENTIFY, _ANSWERS):
        return None
    blocks = frame[_ADDRESSES + _HEADER.size :]
    return (xid, blocks[:length]) if length <= len(blocks) else None


def answers_alone() -> list[bytes]:
    """Return the program of a filter that passes answers to this host, and nothing else."""
    (is_answer,) = _WORD.unpack(_KIND.pack(_ANSWER, _IDENTIFY, _ANSWERS))
    return [
        instruction(LOAD_BYTE, PACKET_TYPE),
        instruction(JUMP_IF_EQUAL, _TO_THIS_HOST, 0, 5),
        instruction(LOAD_HALF, _ADDRESSES),
        instruction(JUMP_IF_EQUAL, ETHERTYPE, 0, 3),
        instruction(LOAD_WORD, _ADDRESSES + _ETHERTYPE_SIZE),
        instruction(JUMP_IF_EQUAL, is_answer, 0, 1),
        ACCEPT,
        REFUSE,
    ]


def ask_message(number: int) -> bytes:
    """Return the message that has the link helper ask on an interface, as soon as it may.

    number: of the interface, in the order in which the client has named them.
    """
    return bytes((number,))


class LinkEvent(IntEnum):
    """What the link helper reports of an interface."""

    ANSWER = 0  # a frame
    ASKED = 1  # all devices were asked
    FAULT = 2  # they could not be asked: errno, two bytes


@dataclass(frozen=True, slots=True)
class LinkReport:
    """A report of the link helper.  number: of the interface, as in `ask_message`."""

    event: LinkEvent
    number: int
    data: bytes = b""

    def encode(self) -> bytes:
        """Return it as a message."""
        return bytes((self.event, self.number)) + self.data

    @classmethod
    def decode(cls, message: bytes, count: int) -> LinkReport:
        """Return the report of a message.  Raises ValueError.  count: of all interfaces."""
        event, number, *_ = (*message[:2], count, count)
        if number >= count:
            raise ValueError("it is of no interface, or too short")
        return cls(LinkEvent(event), number, message[2:])
