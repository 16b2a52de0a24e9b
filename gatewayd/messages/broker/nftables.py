"""Requests to nftables, in the form of the kernel: what the limit of connections needs of it.

nft(8) and its library open a socket of their own, which takes the host's network.  Here the socket
is given: systemd has opened it, and its user needs no network at all.

Sources: linux/netlink.h, linux/netfilter/nfnetlink.h and linux/netfilter/nf_tables.h.  The tests
compare what the kernel makes of these requests with what nft makes of the same rules in text.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
from collections.abc import Iterable, Sequence
from itertools import count
from typing import TypeAlias

Value: TypeAlias = "bytes | str | int | Sequence[tuple[int, Value]]"
"""Of an attribute: bytes, a name, a number of 32 bits, or attributes."""

Attributes: TypeAlias = Sequence[tuple[int, Value]]

SECONDS = 10.0
"""How long the kernel may take; it answers at once, unless it has to load a module first."""

_HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
_FAMILY = struct.Struct("!BBH")  # nfgenmsg: family, version, the subsystem of a batch
_ATTRIBUTE = struct.Struct("=HH")  # nlattr: length, type
_CODE = struct.Struct("=i")  # nlmsgerr: a negative errno
_NESTED = 0x8000  # NLA_F_NESTED
_REQUEST, _ACKNOWLEDGED, _CREATE, _APPEND = 0x1, 0x4, 0x400, 0x800  # NLM_F_*
_ERROR = 2  # NLMSG_ERROR: an acknowledgement, too
_BEGIN, _END, _NFTABLES = 16, 17, 10  # NFNL_MSG_BATCH_*, NFNL_SUBSYS_NFTABLES
_INET = 1  # NFPROTO_INET
_ANSWERS = 65536  # bytes

NEW_TABLE, DELETE_TABLE, NEW_CHAIN, NEW_RULE, NEW_SET = 0, 2, 3, 6, 9  # NFT_MSG_*
_KINDS = {NEW_TABLE: _CREATE, NEW_CHAIN: _CREATE, NEW_SET: _CREATE, NEW_RULE: _CREATE | _APPEND}

OWNED = 2
"""NFT_TABLE_F_OWNER: the table goes with the socket, and is its own; Linux 5.12."""

LIST_ELEMENT = 1  # NFTA_LIST_ELEM
_REGISTER, _VERDICT = 1, 0  # NFT_REG_1, NFT_REG_VERDICT
_EQUAL, _NOT_EQUAL = 0, 1  # NFT_CMP_*
_JUMP = (-3).to_bytes(4, "big", signed=True)  # NFT_JUMP


class NftablesError(Exception):
    """The kernel refused a request.  code: an errno; 0 where it did not answer."""

    def __init__(self, code: int) -> None:
        super().__init__(os.strerror(code) if code else "no answer")
        self.code = code


def attribute(kind: int, value: Value) -> bytes:
    """Return an attribute with its header, padded to four bytes."""
    if isinstance(value, bytes):
        data = value
    elif isinstance(value, str):
        data = value.encode("ascii") + b"\0"
    elif isinstance(value, int):
        data = value.to_bytes(4, "big")
    else:
        kind, data = kind | _NESTED, b"".join(attribute(*one) for one in value)
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(data), kind) + data + bytes(-len(data) % 4)


def message(kind: int, sequence: int, attributes: Attributes) -> bytes:
    """Return a request about a table of the family inet, which is acknowledged.  kind: NFT_MSG_*"""
    flags = _REQUEST | _ACKNOWLEDGED | _KINDS.get(kind, 0)
    body = _FAMILY.pack(_INET, 0, 0) + b"".join(attribute(*one) for one in attributes)
    return _head(_NFTABLES << 8 | kind, flags, sequence, body)


def _head(kind: int, flags: int, sequence: int, body: bytes) -> bytes:
    return _HEADER.pack(_HEADER.size + len(body), kind, flags, sequence, 0) + body


def apply(sock: socket.socket, requests: Iterable[tuple[int, Attributes]]) -> None:
    """Have the kernel carry out requests: all of them, or none.

    sock: of AF_NETLINK for NETLINK_NETFILTER; the sender needs CAP_NET_ADMIN.
    requests: kind and attributes of each.  Blocks for SECONDS at most.
    Raises NftablesError, OSError.
    """
    sequences = count(1)
    sent = {next(sequences): one for one in requests}
    frame = _FAMILY.pack(0, 0, _NFTABLES)
    whole = [_head(_BEGIN, _REQUEST, 0, frame)]
    whole += [message(kind, number, attributes) for number, (kind, attributes) in sent.items()]
    whole.append(_head(_END, _REQUEST, next(sequences), frame))
    _drop_answers(sock)
    sock.settimeout(SECONDS)
    sock.send(b"".join(whole))
    if code := _first_error(sock, set(sent)):
        raise NftablesError(code)


def _drop_answers(sock: socket.socket) -> None:
    """Read what is left of requests before: systemd keeps the socket."""
    sock.settimeout(0)
    with contextlib.suppress(BlockingIOError):
        while True:
            sock.recv(_ANSWERS)


def _first_error(sock: socket.socket, waiting: set[int]) -> int:
    """Read every answer, and return the first errno; 0 for none.  waiting: sequences."""
    first = 0
    while waiting:
        try:
            packet = sock.recv(_ANSWERS)
        except TimeoutError:
            raise NftablesError(first) from None
        for sequence, code in acknowledgements(packet):
            first = first or code
            if not sequence:  # of the batch itself: no other answer comes
                return code
            waiting.discard(sequence)
    return first


def acknowledgements(packet: bytes) -> Iterable[tuple[int, int]]:
    """Yield the sequence and the errno, 0 for none, of each answer in a packet."""
    at = 0
    while at + _HEADER.size + _CODE.size <= len(packet):
        length, kind, _, sequence, _ = _HEADER.unpack_from(packet, at)
        if kind == _ERROR:
            yield sequence, -_CODE.unpack_from(packet, at + _HEADER.size)[0]
        if length < _HEADER.size:
            raise NftablesError(errno.EBADMSG)
        at += length + 3 & ~3


# Expressions of rules, which work on one register: name and attributes.


def expression(name: str, attributes: Attributes) -> Attributes:
    """Return an expression by its name and its attributes."""
    return ((1, name), (2, attributes))  # NFTA_EXPR_NAME, NFTA_EXPR_DATA


def meta(key: int) -> Attributes:
    """Return what loads a fact about the packet.  key: NFT_META_*"""
    return expression("meta", ((2, key), (1, _REGISTER)))


def connection(key: int) -> Attributes:
    """Return what loads a fact about the connection.  key: NFT_CT_*"""
    return expression("ct", ((2, key), (1, _REGISTER)))


def payload(base: int, offset: int, length: int) -> Attributes:
    """Return what loads bytes of a header.  base: NFT_PAYLOAD_*; offset, length: bytes."""
    return expression("payload", ((1, _REGISTER), (2, base), (3, offset), (4, length)))


def masked(mask: bytes) -> Attributes:
    """Return what keeps some bits of the register."""
    facts = ((1, _REGISTER), (2, _REGISTER), (3, len(mask)))
    return expression("bitwise", (*facts, (4, ((1, mask),)), (5, ((1, bytes(len(mask))),))))


def equals(value: bytes, *, same: bool = True) -> Attributes:
    """Return what goes on where the register has a value, or has another where `same` is False."""
    operator = _EQUAL if same else _NOT_EQUAL
    return expression("cmp", ((1, _REGISTER), (2, operator), (3, ((1, value),))))


def jump(chain: str) -> Attributes:
    """Return what goes on in another chain of the table."""
    verdict = ((1, _JUMP), (2, chain))  # NFTA_VERDICT_CODE, NFTA_VERDICT_CHAIN
    return expression("immediate", ((1, _VERDICT), (2, ((2, verdict),))))


def counted_above(name: str, most: int) -> Attributes:
    """Return what goes on where what is in the register has more connections than `most`.

    name: of the set that counts them.
    """
    limit = expression("connlimit", ((1, most), (2, 1)))  # NFT_CONNLIMIT_F_INV: over it
    return expression("dynset", ((4, _REGISTER), (3, 0), (1, name), (2, 1), (7, limit)))


def reset() -> Attributes:
    """Return what refuses the packet with a reset of TCP."""
    return expression("reject", ((1, 1), (2, b"\0")))  # NFT_REJECT_TCP_RST
