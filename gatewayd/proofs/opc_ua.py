"""An OPC UA server that proves the key of its application certificate; no session, and no login.

GetEndpoints says which certificate there is, and proves nothing: every host can show it.  A secure
channel that is opened with it does (secure_channel.py), and is closed at once, since small servers
have two or three.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from typing import TypeAlias

from gatewayd.discovery.probing.protocol import UnreadableAnswer
from gatewayd.discovery.protocols.opc_ua import messages as opc_ua
from gatewayd.discovery.protocols.opc_ua.identity import certificates_in
from gatewayd.discovery.protocols.opc_ua.messages import ChunkHeader, MessageReader, UaEndpoint
from gatewayd.proofs import reasons
from gatewayd.proofs.secure_channel import (
    ENCRYPTED,
    POLICIES,
    SIGNED,
    ChannelPolicy,
    ChannelQuestion,
    KeyNotProven,
    OwnCertificate,
    rsa_key,
)
from gatewayd.proofs.tls import ProofFailed

MAX_EXCHANGE = opc_ua.MAX_MESSAGE + opc_ua.CHUNK
"""Bytes that a device may send over one connection."""
MAX_CHAIN = 16
"""Certificates that may lead from that of a device to its vendor's."""

_OF_CERTIFICATES = frozenset({*range(0x8012, 0x801F), 0x810D, 0x8114})
"""The upper halves of Bad_Certificate… and Bad_SecurityChecksFailed (OPC 10000-6, A.2)."""

Connect: TypeAlias = Callable[[], AbstractAsyncContextManager[socket.socket]]
"""What opens a connection of TCP, non-blocking, for a bounded time."""


@dataclass(frozen=True, slots=True)
class ProvenServer:
    """A server that has proven its key.

    certificate: the one of this key, DER.  chain: those that were sent with it.
    uri: what the server says that its application is.
    """

    certificate: bytes
    chain: tuple[bytes, ...]
    uri: str


async def server_at(
    connect: Connect, url: str, own: OwnCertificate, fresh: bytes, at: float
) -> ProvenServer:
    """Have a server prove its key, by two connections, one after the other.

    url: of the server, as it is dialled.  fresh, at: as of `ChannelQuestion`.
    Raises ProofFailed, OSError.
    """
    try:
        async with connect() as connection:
            endpoints = await _endpoints(_Exchange(connection), url, at)
        policy, endpoint = _secured(endpoints)
        shown, *issuers = certificates_in(endpoint.certificate) or [b""]
        if (key := rsa_key(shown)) is None:
            raise ProofFailed(reasons.NO_POLICY)
        question = ChannelQuestion(policy, endpoint.mode, own, shown, key, fresh, at)
        async with connect() as connection:
            sent = await _answered(_Exchange(connection), url, question)
    except KeyNotProven as error:
        raise ProofFailed(reasons.NOT_ITS_KEY) from error
    except UnreadableAnswer as error:
        raise ProofFailed(reasons.NO_CHANNEL) from error
    chain = dict.fromkeys([*certificates_in(sent), *issuers])
    chain.pop(shown, None)
    return ProvenServer(shown, tuple(chain)[:MAX_CHAIN], endpoint.server.uri)


class _Exchange:
    """Messages over one connection, of which so many bytes are read at most."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection, self._left = connection, MAX_EXCHANGE

    async def send(self, message: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self._connection, message)

    async def chunk(self) -> tuple[ChunkHeader, bytes]:
        header = opc_ua.read_header(await self._exactly(opc_ua.HEADER))
        return header, await self._exactly(header.size)

    async def _exactly(self, size: int) -> bytes:
        self._left -= size
        if self._left < 0:
            raise ProofFailed(reasons.TOO_MUCH)
        parts = bytearray()
        while len(parts) < size:
            missing = size - len(parts)
            part = await asyncio.get_running_loop().sock_recv(self._connection, missing)
            if not part:
                raise ConnectionResetError(errno.ECONNRESET, "the server has closed it")
            parts += part
        return bytes(parts)


async def _endpoints(exchange: _Exchange, url: str, at: float) -> list[UaEndpoint]:
    """Return the endpoints of the application that answers; those of others are left out."""
    await exchange.send(opc_ua.hello(url))
    opc_ua.read_hello_answer(*await exchange.chunk())
    await exchange.send(opc_ua.open_channel(at))
    channel = opc_ua.read_channel(*await exchange.chunk())
    await exchange.send(opc_ua.get_endpoints(channel, 2, url, at))
    reader = MessageReader(channel, 2)
    while (whole := reader.add(*await exchange.chunk())) is None:
        pass
    await exchange.send(opc_ua.close_channel(channel, 3, at))
    found = opc_ua.read_endpoints(whole)
    return [one for one in found if one.server.uri == found[0].server.uri]


def _secured(endpoints: Sequence[UaEndpoint]) -> tuple[ChannelPolicy, UaEndpoint]:
    """Return by which endpoint a server can prove its key.  Raises ProofFailed."""
    for policy in POLICIES:
        for one in endpoints:
            if one.policy == policy.uri and one.mode in (SIGNED, ENCRYPTED):
                return policy, one
    raise ProofFailed(reasons.NO_POLICY)


async def _answered(exchange: _Exchange, url: str, question: ChannelQuestion) -> bytes:
    """Have a server answer, and end the channel; return the certificates that it has sent."""
    request = await asyncio.to_thread(question.request)
    await exchange.send(opc_ua.hello(url))
    opc_ua.read_hello_answer(*await exchange.chunk())
    try:
        await exchange.send(request)
        header, body = await exchange.chunk()
    except ConnectionError as error:  # what many do for a client that they do not trust
        raise ProofFailed(reasons.CLIENT_REFUSED) from error
    if header.kind == b"ERR":
        is_distrust = opc_ua.read_error(body) >> 16 in _OF_CERTIFICATES
        raise ProofFailed(reasons.CLIENT_REFUSED if is_distrust else reasons.NO_CHANNEL)
    opened, sent = await asyncio.to_thread(question.read, header, body)
    with suppress(OSError):  # the server was faster
        await exchange.send(question.close(opened))
    return sent
