"""Filters of packets that run in the kernel: what does not pass one never reaches the process.

A filter is a program of the classic Berkeley packet filter: linux/filter.h, socket(7).  Where a
jump is taken, it skips as many instructions as it says.
"""

from __future__ import annotations

import socket
import struct
from array import array
from collections.abc import Iterable

LOAD_BYTE, LOAD_HALF, LOAD_WORD = 0x30, 0x28, 0x20  # linux/bpf_common.h
SHIFT_RIGHT, JUMP_IF_EQUAL, RETURN = 0x74, 0x15, 0x06
NETWORK_HEADER = 0xFFF00000  # SKF_NET_OFF: what is loaded from there on is of the IP header
PACKET_TYPE = 0xFFFFF004  # SKF_AD_OFF + SKF_AD_PKTTYPE: as in the address that packet(7) returns

_ALL = 0x40000
_SO_ATTACH_FILTER, _SO_DETACH_FILTER = 26, 27
_INSTRUCTION = struct.Struct("=HBBI")  # sock_filter: code, jump if true, jump if false, operand
_PROGRAM = struct.Struct("@HP")  # sock_fprog


def instruction(code: int, operand: int, if_true: int = 0, if_false: int = 0) -> bytes:
    """Return one instruction.  if_true, if_false: how many are skipped then."""
    return _INSTRUCTION.pack(code, if_true, if_false, operand)


ACCEPT, REFUSE = instruction(RETURN, _ALL), instruction(RETURN, 0)


def attach(receiver: socket.socket, instructions: Iterable[bytes]) -> None:
    """Have the kernel pass on what a program accepts, in place of the one before.

    Raises OSError.
    """
    program = array("B", b"".join(instructions))
    length = len(program) // _INSTRUCTION.size
    receiver.setsockopt(
        socket.SOL_SOCKET, _SO_ATTACH_FILTER, _PROGRAM.pack(length, program.buffer_info()[0])
    )


def detach(receiver: socket.socket) -> None:
    """Have the kernel pass on all.  Raises OSError."""
    receiver.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)
