"""The sockets of multicast DNS, bound to one interface and to what is sent on its link.

Which packets came from the link is judged as RFC 6762, 11 has it.  What was sent to the group of
mDNS, which no router forwards, did, whatever its sender's address: on one cable, devices may have
addresses of another subnet, of a factory, or of their own making.  What was sent to this host alone
may have come from anywhere, and is believed only if its sender is in a network of the interface.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Iterator

from gatewayd.discovery.kernel.interfaces import LanInterface
from gatewayd.discovery.kernel.packet_filter import (
    ACCEPT,
    JUMP_IF_EQUAL,
    LOAD_BYTE,
    LOAD_WORD,
    NETWORK_HEADER,
    REFUSE,
    SHIFT_RIGHT,
    attach,
    detach,
    instruction,
)
from gatewayd.discovery.link.sockets import RECEIVE_BUFFER, bind_to_interface, join_group

GROUP4, GROUP6, PORT = "224.0.0.251", "ff02::fb", 5353

_ANY = ("0.0.0.0", "::")  # noqa: S104  # compared with
_DESTINATION4, _DESTINATION6 = 16, 24  # bytes before it in a header (RFC 791, 3.1; RFC 8200, 3)
_WORD = struct.Struct("!I")


def guard(receiver: socket.socket, link: LanInterface) -> bool:
    """Bind a socket to an interface; return whether it receives what is sent to the group alone.

    If not, it receives what is sent to one address of this host.  Raises OSError.

    Without SO_BINDTODEVICE it receives from every interface: packets to any address of this
    machine, and to each group that any process has joined anywhere (ip(7), IP_MULTICAST_ALL).
    What has arrived so before this is dropped: nothing shows any more to whom it was sent.
    """
    bind_to_interface(receiver, link.name)
    receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    attach(receiver, [REFUSE])
    _drain(receiver)
    if receiver.getsockname()[0] not in _ANY:
        detach(receiver)
        return False
    attach(receiver, _only_groups())
    _join(receiver, link)
    return True


def _drain(receiver: socket.socket) -> None:
    """Drop all that waits to be read; nothing may arrive meanwhile, lest this has no end."""
    same = socket.socket(fileno=os.dup(receiver.fileno()))
    same.setblocking(False)
    with same, contextlib.suppress(BlockingIOError):
        while True:
            same.recv(1)


def _join(receiver: socket.socket, link: LanInterface) -> None:
    if link.ipv4:
        join_group(receiver, GROUP4, link.index)
    if link.ipv6:
        join_group(receiver, GROUP6, link.index)


def _only_groups() -> Iterator[bytes]:
    """Yield the instructions of a filter in the kernel that passes packets to the group alone.

    A socket that is bound to no address would also receive what was sent to this host alone.
    """
    words6 = list(_WORD.iter_unpack(socket.inet_pton(socket.AF_INET6, GROUP6)))
    (word4,) = _WORD.unpack(socket.inet_aton(GROUP4))
    last = 6 + 2 * len(words6)  # the number of the instruction that accepts
    yield instruction(LOAD_BYTE, NETWORK_HEADER)
    yield instruction(SHIFT_RIGHT, 4)  # the version of IP
    yield instruction(JUMP_IF_EQUAL, 4, 0, 2)
    yield instruction(LOAD_WORD, NETWORK_HEADER + _DESTINATION4)
    yield instruction(JUMP_IF_EQUAL, word4, last - 5, last - 4)
    yield instruction(JUMP_IF_EQUAL, 6, 0, last - 5)
    for number, (word,) in enumerate(words6):
        at = 7 + 2 * number
        yield instruction(LOAD_WORD, NETWORK_HEADER + _DESTINATION6 + 4 * number)
        yield instruction(JUMP_IF_EQUAL, word, 0, last - at)
    yield ACCEPT
    yield REFUSE
