"""The sockets of multicast DNS, bound to one interface and to what is sent on its link.

Which packets came from the link is judged as RFC 6762, 11 has it.  What was sent to the group of
mDNS, which no router forwards, did, whatever its sender's address: on one cable, devices may have
addresses of another subnet, of a factory, or of their own making.  What was sent to this host alone
may have come from anywhere, and is believed only if its sender is in a network of the interface.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
from array import array
from collections.abc import Iterable, Iterator

from gatewayd.discovery.kernel.interfaces import LanInterface

RECEIVE_BUFFER = 4 << 20
"""Bytes; 5,000 devices that answer at once fit.  The kernel's limit is net.core.rmem_max."""

GROUP4, GROUP6 = "224.0.0.251", "ff02::fb"

_ANY = ("0.0.0.0", "::")  # noqa: S104  # compared with
_SO_ATTACH_FILTER, _SO_DETACH_FILTER = 26, 27  # socket(7)
_NAME_SIZE = 16  # IFNAMSIZ, linux/if.h
_NETWORK_HEADER = 0xFFF00000  # SKF_NET_OFF, linux/filter.h
_LOAD_BYTE, _LOAD_WORD, _SHIFT, _EQUAL, _RETURN = 0x30, 0x20, 0x74, 0x15, 0x06  # linux/bpf_common.h
_DESTINATION4, _DESTINATION6 = 16, 24  # bytes before it in a header (RFC 791, 3.1; RFC 8200, 3)
_ALL = 0x40000
_INSTRUCTION = struct.Struct("=HBBI")  # sock_filter
_NOTHING = _INSTRUCTION.pack(_RETURN, 0, 0, 0)
_PROGRAM = struct.Struct("@HP")  # sock_fprog
_WORD = struct.Struct("!I")


def guard(receiver: socket.socket, link: LanInterface) -> bool:
    """Bind a socket to an interface; return whether it receives what is sent to the group alone.

    If not, it receives what is sent to one address of this host.  Raises OSError.

    Without SO_BINDTODEVICE it receives from every interface: packets to any address of this
    machine, and to each group that any process has joined anywhere (ip(7), IP_MULTICAST_ALL).
    What has arrived so before this is dropped: nothing shows any more to whom it was sent.
    """
    _bind(receiver, link.name.encode())
    receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    _attach(receiver, [_NOTHING])
    _drain(receiver)
    if receiver.getsockname()[0] not in _ANY:
        receiver.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)
        return False
    _attach(receiver, _only_groups())
    _join(receiver, link)
    return True


def _attach(receiver: socket.socket, instructions: Iterable[bytes]) -> None:
    """Have the kernel pass on what a program accepts, in place of the one before."""
    program = array("B", b"".join(instructions))
    length = len(program) // _INSTRUCTION.size
    receiver.setsockopt(
        socket.SOL_SOCKET, _SO_ATTACH_FILTER, _PROGRAM.pack(length, program.buffer_info()[0])
    )


def _drain(receiver: socket.socket) -> None:
    """Drop all that waits to be read; nothing may arrive meanwhile, lest this has no end."""
    same = socket.socket(fileno=os.dup(receiver.fileno()))
    same.setblocking(False)
    with same, contextlib.suppress(BlockingIOError):
        while True:
            same.recv(1)


def _bind(receiver: socket.socket, name: bytes) -> None:
    """Bind a socket to an interface, once: the second time needs CAP_NET_RAW (socket(7)).

    One that has a link-local address is bound to its interface by that.
    """
    bound = receiver.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, _NAME_SIZE)
    if bound.partition(b"\0")[0] != name:
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, name)


def _join(receiver: socket.socket, link: LanInterface) -> None:
    """Join the groups by the interface's index: another one may have the same address."""
    if link.ipv4:
        request = struct.pack("@4s4si", socket.inet_aton(GROUP4), bytes(4), link.index)
        with _joined_before():
            receiver.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
    if link.ipv6:
        request = socket.inet_pton(socket.AF_INET6, GROUP6) + struct.pack("@I", link.index)
        with _joined_before():
            receiver.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, request)


@contextlib.contextmanager
def _joined_before() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise


def _only_groups() -> Iterator[bytes]:
    """Yield the instructions of a filter in the kernel that passes packets to the group alone.

    A socket that is bound to no address would also receive what was sent to this host alone.
    """
    words6 = list(_WORD.iter_unpack(socket.inet_pton(socket.AF_INET6, GROUP6)))
    (word4,) = _WORD.unpack(socket.inet_aton(GROUP4))
    last = 6 + 2 * len(words6)  # the number of the instruction that accepts
    yield _INSTRUCTION.pack(_LOAD_BYTE, 0, 0, _NETWORK_HEADER)
    yield _INSTRUCTION.pack(_SHIFT, 0, 0, 4)  # the version of IP
    yield _INSTRUCTION.pack(_EQUAL, 0, 2, 4)
    yield _INSTRUCTION.pack(_LOAD_WORD, 0, 0, _NETWORK_HEADER + _DESTINATION4)
    yield _INSTRUCTION.pack(_EQUAL, last - 5, last - 4, word4)
    yield _INSTRUCTION.pack(_EQUAL, 0, last - 5, 6)
    for number, (word,) in enumerate(words6):
        at = 7 + 2 * number
        yield _INSTRUCTION.pack(_LOAD_WORD, 0, 0, _NETWORK_HEADER + _DESTINATION6 + 4 * number)
        yield _INSTRUCTION.pack(_EQUAL, 0, last - at, word)
    yield _INSTRUCTION.pack(_RETURN, 0, 0, _ALL)
    yield _NOTHING
