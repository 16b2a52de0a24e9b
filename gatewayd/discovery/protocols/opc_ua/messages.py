"""OPC UA over TCP, as far as it asks a server who it is: no session, and no login.  Pure.

Hello, a secure channel of the policy None, FindServers, GetEndpoints, and the end of the channel.
Facts: OPC 10000-6, 6.7 (messages and chunks), 7.1 (connections); OPC 10000-4, 5.4.2 (FindServers),
5.4.4 (GetEndpoints), 5.5.2 (channels), 7.1 (applications), 7.14 (endpoints); the numbers of the
encodings are those of OPC 10000-6, A.3 (NodeIds.csv).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from enum import IntEnum

from gatewayd.discovery.probing.protocol import UnreadableAnswer
from gatewayd.discovery.protocols.opc_ua import binary as ua
from gatewayd.discovery.protocols.opc_ua.binary import UaReader

PORT = 4840
HEADER = 8
"""Bytes before what is in a message: its type, and its size."""
CHUNK = 65_536
"""Bytes that a chunk may have: what is offered, and what is read."""
MAX_MESSAGE = 256 << 10
MAX_CHUNKS = 16
MAX_ENDPOINTS = 64
MAX_SERVERS = 64
MAX_URLS = 32
MAX_TOKENS = 32
MAX_CERTIFICATE = 8192
"""Bytes of a certificate, with those of its chain."""
MAX_NONCE = 64

POLICIES = "http://opcfoundation.org/UA/SecurityPolicy#"
"""What the names of security policies begin with."""
_NONE = f"{POLICIES}None"
_MODE_NONE, _ISSUE = 1, 0
_LIFETIME = 10_000
"""Milliseconds for which a channel may live, should it not be closed."""
_TIMEOUT = 3_000
_FINAL, _MORE, _ABORT = b"F", b"C", b"A"


class Encoding(IntEnum):
    """The number of what is in a message."""

    FAULT = 397
    FIND_SERVERS = 422
    FIND_SERVERS_ANSWER = 425
    GET_ENDPOINTS = 428
    GET_ENDPOINTS_ANSWER = 431
    OPEN_CHANNEL = 446
    OPEN_CHANNEL_ANSWER = 449
    CLOSE_CHANNEL = 452


class ApplicationType(IntEnum):
    """What an application is (OPC 10000-4, 7.4)."""

    SERVER = 0
    CLIENT = 1
    CLIENT_AND_SERVER = 2
    DISCOVERY_SERVER = 3


@dataclass(frozen=True, slots=True)
class ChunkHeader:
    """The header of a chunk.  kind: as b"MSG".  size: bytes that follow it."""

    kind: bytes
    final: bytes
    size: int


@dataclass(frozen=True, slots=True)
class UaChannel:
    """An open channel.  token: of its security, which changes with time."""

    channel: int
    token: int


@dataclass(frozen=True, slots=True)
class OpenedChannel:
    """What the answer to the request for a channel says.

    handle: of the request.  nonce: of the server, from which keys are derived.
    """

    channel: UaChannel
    handle: int
    nonce: bytes


@dataclass(frozen=True, slots=True)
class UaApplication:
    """What a server says of an application.  urls: where it can be asked."""

    uri: str
    product: str
    name: str
    type: int
    urls: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class UaEndpoint:
    """One way to connect to a server.

    certificate: of the application, in DER, perhaps with those that have issued it; b"" for none.
    mode: 1 none, 2 signed, 3 signed and encrypted.  policy: its URI.
    """

    url: str
    server: UaApplication
    certificate: bytes
    mode: int
    policy: str


def hello(url: str) -> bytes:
    """Return the first message.  url: of the server, as it is dialled."""
    offered = ua.u32(0, CHUNK, CHUNK, MAX_MESSAGE, MAX_CHUNKS)
    return _message(b"HELF", offered + ua.text(url))


def open_channel(at: float) -> bytes:
    """Return the request for a channel without security, which proves and hides nothing.

    at: seconds since the epoch, as in all that follows; open62541 refuses a request without it.
    """
    head = ua.u32(0) + ua.text(_NONE) + ua.octets(None) + ua.octets(None) + ua.u32(1, 1)
    return _message(b"OPNF", head + channel_request(1, _MODE_NONE, None, at))


def channel_request(handle: int, mode: int, nonce: bytes | None, at: float) -> bytes:
    """Return what is in the request for a channel.

    handle: is in the answer, too.  mode: as of `UaEndpoint`.  nonce: None where nothing is secured.
    """
    body = ua.u32(0, _ISSUE, mode) + ua.octets(nonce) + ua.u32(_LIFETIME)
    return _request(Encoding.OPEN_CHANNEL, handle, body, at)


def close_request(handle: int, at: float) -> bytes:
    """Return what is in the request to end a channel."""
    return _request(Encoding.CLOSE_CHANNEL, handle, b"", at)


def find_servers(channel: UaChannel, number: int, url: str, at: float) -> bytes:
    """Return the request for the servers that a host knows.  number: of the request, from 2 on."""
    body = ua.text(url) + ua.texts(()) + ua.texts(())
    return _in_channel(b"MSGF", channel, number, _request(Encoding.FIND_SERVERS, number, body, at))


def get_endpoints(channel: UaChannel, number: int, url: str, at: float) -> bytes:
    """Return the request for the endpoints of a server."""
    body = ua.text(url) + ua.texts(()) + ua.texts(())
    return _in_channel(b"MSGF", channel, number, _request(Encoding.GET_ENDPOINTS, number, body, at))


def close_channel(channel: UaChannel, number: int, at: float) -> bytes:
    """Return the request to end a channel, which is not answered."""
    return _in_channel(b"CLOF", channel, number, close_request(number, at))


def read_header(raw: bytes) -> ChunkHeader:
    """Read the header of a chunk, HEADER bytes.  Raises UnreadableAnswer."""
    if len(raw) != HEADER:
        raise UnreadableAnswer("garbled")
    kind, final, size = struct.unpack("<3scI", raw)
    if kind not in (b"ACK", b"ERR", b"OPN", b"MSG"):
        raise UnreadableAnswer("garbled")
    if not HEADER < size <= CHUNK:
        raise UnreadableAnswer("garbled")
    if final not in (_FINAL, _MORE, _ABORT):
        raise UnreadableAnswer("garbled")
    return ChunkHeader(kind, final, size - HEADER)


def read_hello_answer(header: ChunkHeader, body: bytes) -> None:
    """Read the answer to Hello.  Raises UnreadableAnswer if it is none."""
    if header.kind != b"ACK" or header.final != _FINAL:
        raise UnreadableAnswer("refused-by-server" if header.kind == b"ERR" else "garbled")
    reader = UaReader(body)
    for _ in ("version", "receive buffer", "send buffer", "message", "chunks"):
        reader.u32()


def read_channel(header: ChunkHeader, body: bytes) -> UaChannel:
    """Read the answer to the request for a channel.  Raises UnreadableAnswer."""
    if header.kind != b"OPN" or header.final != _FINAL:
        raise UnreadableAnswer("refused-by-server" if header.kind == b"ERR" else "garbled")
    reader = UaReader(body)
    reader.u32()
    reader.text()
    reader.octets(MAX_CERTIFICATE)
    reader.octets(MAX_NONCE)
    reader.u32()
    if reader.u32() != 1:
        raise UnreadableAnswer("unasked")
    return read_opened(reader).channel


def read_opened(reader: UaReader) -> OpenedChannel:
    """Read what is in the answer to the request for a channel.  Raises UnreadableAnswer."""
    handle = _read_response(reader, Encoding.OPEN_CHANNEL_ANSWER)
    reader.u32()
    made = UaChannel(reader.u32(), reader.u32())
    if not made.channel:
        raise UnreadableAnswer("garbled")
    reader.i64()
    reader.u32()
    return OpenedChannel(made, handle, reader.octets(MAX_NONCE))


def read_error(body: bytes) -> int:
    """Return the status code of an error message.  Raises UnreadableAnswer."""
    return UaReader(body).u32()


@dataclass(slots=True)
class MessageReader:
    """The reader of one answer, chunk by chunk, within MAX_MESSAGE and MAX_CHUNKS.

    number: of its request.
    """

    channel: UaChannel
    number: int
    _parts: list[bytes] = field(default_factory=list)
    _size: int = 0

    def add(self, header: ChunkHeader, body: bytes) -> bytes | None:
        """Add a chunk; return the whole answer once it is there.  Raises UnreadableAnswer."""
        if header.kind != b"MSG" or header.final == _ABORT:
            raise UnreadableAnswer("refused-by-server")
        reader = UaReader(body[:16])
        channel, _, _, number = (reader.u32() for _ in range(4))
        if (channel, number) != (self.channel.channel, self.number):
            raise UnreadableAnswer("unasked")
        self._parts.append(body[16:])
        self._size += len(body)
        if len(self._parts) > MAX_CHUNKS or self._size > MAX_MESSAGE:
            raise UnreadableAnswer("endless")
        return b"".join(self._parts) if header.final == _FINAL else None


def read_servers(message: bytes) -> list[UaApplication]:
    """Read the answer to FindServers.  Raises UnreadableAnswer."""
    reader = UaReader(message)
    _read_response(reader, Encoding.FIND_SERVERS_ANSWER)
    return reader.array(lambda: _application(reader), MAX_SERVERS)


def read_endpoints(message: bytes) -> list[UaEndpoint]:
    """Read the answer to GetEndpoints.  Raises UnreadableAnswer."""
    reader = UaReader(message)
    _read_response(reader, Encoding.GET_ENDPOINTS_ANSWER)
    return reader.array(lambda: _endpoint(reader), MAX_ENDPOINTS)


def _application(reader: UaReader) -> UaApplication:
    uri, product, name = reader.text(), reader.text(), reader.localized_text()
    kind = reader.u32()
    reader.text()
    reader.text()
    return UaApplication(uri, product, name, kind, tuple(reader.array(reader.text, MAX_URLS)))


def _endpoint(reader: UaReader) -> UaEndpoint:
    url, server = reader.text(), _application(reader)
    certificate, mode, policy = reader.octets(MAX_CERTIFICATE), reader.u32(), reader.text()
    reader.array(lambda: _token(reader), MAX_TOKENS)
    reader.text()
    reader.u8()
    return UaEndpoint(url, server, certificate, mode, policy)


def _token(reader: UaReader) -> None:
    """Pass over a UserTokenPolicy: how users could log in."""
    reader.text()
    reader.u32()
    for _ in ("issued type", "issuer", "policy"):
        reader.text()


def _read_response(reader: UaReader, expected: Encoding) -> int:
    """Read the number of an answer, and its header, which must be without a fault.

    Returns the handle of its request.
    """
    encoding = reader.numeric_id()
    reader.i64()
    handle = reader.u32()
    if reader.u32() or encoding == Encoding.FAULT:
        raise UnreadableAnswer("refused-by-server")
    if encoding != expected:
        raise UnreadableAnswer("unasked")
    if reader.u8():  # none were asked for
        raise UnreadableAnswer("garbled")
    reader.array(reader.text, MAX_TOKENS)
    reader.numeric_id()
    if reader.u8():
        reader.octets(ua.MAX_TEXT)
    return handle


def _in_channel(kind: bytes, channel: UaChannel, number: int, request: bytes) -> bytes:
    return _message(kind, ua.u32(channel.channel, channel.token, number, number) + request)


def _request(encoding: Encoding, number: int, body: bytes, at: float) -> bytes:
    """Return a request with its header (OPC 10000-4, 7.33), of no session."""
    no_session, no_addition = b"\0\0", bytes(3)
    header = no_session + ua.date_time(at) + ua.u32(number, 0) + ua.octets(None) + ua.u32(_TIMEOUT)
    return ua.numeric_id(encoding) + header + no_addition + body


def _message(kind: bytes, content: bytes) -> bytes:
    """Return a message of one chunk.  kind: with the mark of the last one, as b"MSGF"."""
    return kind + ua.u32(HEADER + len(content)) + content
