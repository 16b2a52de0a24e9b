"""TLS sessions are resumed for a while, and only with a host that was verified; on real TLS."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import struct
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from gatewayd.cloud import mqtt
from gatewayd.cloud.mqtt import Login
from gatewayd.device.secret import Secret
from gatewayd.network import addresses, tls
from gatewayd.network.addresses import MAX_SESSIONS, ResumableSessions
from gatewayd.network.connect_errors import ConnectError, ConnectFault
from gatewayd.network.proxy import Proxy
from gatewayd.network.websocket_stream import WebSocketStream
from gatewayd.simulator import pki
from tests.cloud.conftest import Client, serve_script
from tests.cloud.test_websocket import Echo, simulated
from tests.support.tinyproxy import tinyproxy

Serve = Callable[..., AbstractAsyncContextManager[Any]]
LOGIN = Login("client", "device", Secret(b"password"))
ACCEPTED = b"\x20\x02\x00\x00"
NOW = datetime.now(UTC)
PRE_SHARED_KEY = 41
"""The extension by which a ClientHello asks to resume (RFC 8446, 4.2)."""


async def accept(client: Any) -> None:
    """Accept a login."""
    await client.packet()
    await client.send(ACCEPTED)
    await client.gone()


async def is_resumed(server: tls.Server) -> bool:
    """Log in; return whether the TLS session was resumed.  Raises ConnectError."""
    async with asyncio.timeout(30):
        connection = await mqtt.open_connection(server, LOGIN, 60)
    sock: Any = connection._socket._sock
    if isinstance(sock, WebSocketStream):
        sock = sock._sock
    assert isinstance(sock, ssl.SSLSocket)
    assert sock.getpeercert(), "the certificate is that of the session"
    found = bool(sock.session_reused)
    await connection.close()
    return found


@pytest.fixture
def roots(ca_file: Path) -> tls.TrustStore:
    return tls.TrustStore(ca_file)


async def server_of(roots: tls.TrustStore, port: int) -> tls.Server:
    return tls.Server("localhost", port, await roots.context(), 20.0, 20.0, sessions=roots.sessions)


async def test_a_verified_host_is_resumed(serve: Serve, roots: tls.TrustStore) -> None:
    async with serve(accept) as broker:
        server = await server_of(roots, broker.port)
        assert [await is_resumed(server) for _ in range(4)] == [False, True, True, True]
        assert not await is_resumed(replace(server, sessions=None))


async def test_after_a_while_it_is_verified_again(
    serve: Serve, roots: tls.TrustStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time counts from the handshake that verified, however often it was resumed."""
    times: list[float] = []
    monkeypatch.setattr(addresses, "_now", lambda: times[-1])

    async def is_resumed_at(seconds: float) -> bool:
        times.append(seconds)
        return await is_resumed(server)

    async with serve(accept) as broker:
        server = await server_of(roots, broker.port)
        found = [await is_resumed_at(seconds) for seconds in (0, 30, 59, 61, 120, 122)]
    assert found == [False, True, True, False, True, False]


async def test_it_is_verified_with_the_roots_of_now(serve: Serve, roots: tls.TrustStore) -> None:
    """Neither another context nor one that was released resumes what the one before verified."""
    async with serve(accept) as broker:
        server = await server_of(roots, broker.port)
        assert [await is_resumed(server) for _ in range(2)] == [False, True]
        roots.release()
        assert not await is_resumed(await server_of(roots, broker.port))
        other = tls.client_context(None)
        with pytest.raises(ConnectError) as raised:
            await is_resumed(replace(server, context=other))
    assert raised.value.fault is ConnectFault.TLS_UNKNOWN_CA


async def test_another_server_has_to_show_its_certificate(
    serve: Serve, roots: tls.TrustStore, certificate: pki.KeyedCertificate
) -> None:
    """One that does not know the session: restarted, or in the place of the one that was."""
    async with serve(accept) as broker:
        server = await server_of(roots, broker.port)
        assert not await is_resumed(server)
    async with serve(accept) as broker:
        restarted = replace(server, port=broker.port)
        assert [await is_resumed(restarted) for _ in range(2)] == [False, True]
    stranger = pki.make_ca("test authority", NOW - pki.LIFE, NOW + pki.LIFE)
    async with serve(accept, pki.localhost(stranger, NOW)) as broker:
        with pytest.raises(ConnectError) as raised:
            await is_resumed(replace(server, port=broker.port))
        assert raised.value.fault is ConnectFault.TLS_UNKNOWN_CA
        assert roots.sessions.of("localhost", server.context) is None


async def test_another_name_at_the_same_address_is_verified_by_itself(
    serve: Serve, roots: tls.TrustStore
) -> None:
    async with serve(accept) as broker:
        server = await server_of(roots, broker.port)
        assert not await is_resumed(server)
        with pytest.raises(ConnectError) as raised:
            await is_resumed(replace(server, host="other.example", address="localhost"))
        assert raised.value.fault is ConnectFault.TLS_HOST_NAME
        assert await is_resumed(server)


async def test_a_client_with_a_certificate_resumes_no_session_of_others(
    serve: Serve, roots: tls.TrustStore, certificate: pki.KeyedCertificate, ca_file: Path
) -> None:
    """Nor the other way round: the server has verified another client."""
    shown = Secret((certificate.certificate_pem + certificate.key_pem).encode())
    context = await asyncio.to_thread(tls.client_context, ca_file, shown)
    async with serve(accept) as broker:
        server = await server_of(roots, broker.port)
        own = replace(server, context=context)
        assert [await is_resumed(one) for one in (server, own, server)] == [False] * 3


async def test_a_session_is_resumed_over_a_websocket_and_through_a_proxy(
    certificate: pki.KeyedCertificate, roots: tls.TrustStore
) -> None:
    """And the other way round: the host is the one that was verified, whatever the way to it."""
    with tinyproxy() as proxy:
        async with simulated(certificate, Echo()) as cloud:
            server = replace(await server_of(roots, cloud.port), websocket="/mqtt")
            through = replace(server, proxy=Proxy("127.0.0.1", proxy.port))
            found = [await is_resumed(one) for one in (through, through, server)]
    assert found == [False, True, True]


async def test_without_new_keys_nothing_is_resumed(
    roots: tls.TrustStore, certificate: pki.KeyedCertificate
) -> None:
    """TLS 1.2 would use the keys of before."""
    context = certificate.server_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    async with serve_script(accept, context) as broker:
        server = await server_of(roots, broker.port)
        assert [await is_resumed(server) for _ in range(2)] == [False, False]


async def test_what_is_remembered_is_bounded(serve: Serve, roots: tls.TrustStore) -> None:
    async with serve(accept) as broker:
        server = replace(await server_of(roots, broker.port), sessions=None)
        connection = await mqtt.open_connection(server, LOGIN, 60)
        sock, sessions = connection._socket._sock, ResumableSessions()
        assert isinstance(sock, ssl.SSLSocket)
        for number in range(MAX_SESSIONS + 5):
            sessions.keep(f"host-{number}", server.context, sock)
        await connection.close()
    kept = [n for n in range(MAX_SESSIONS + 5) if sessions.of(f"host-{n}", server.context)]
    assert kept == list(range(5, MAX_SESSIONS + 5))


def extensions(hello: bytes) -> Iterator[int]:
    """Yield the extensions of a ClientHello (RFC 8446, 4.1.2)."""
    at = 4 + 2 + 32  # after its header, the version and the random number
    for size in (1, 2, 1):  # of the lengths of session id, cipher suites, compression methods
        at += size + int.from_bytes(hello[at : at + size])
    at += 2
    while at < len(hello):
        kind, length = struct.unpack_from("!HH", hello, at)
        yield kind
        at += 4 + length


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(4096):
            writer.write(data)
    writer.close()


async def test_where_resuming_fails_it_is_not_tried_again_for_a_while(
    serve: Serve, roots: tls.TrustStore
) -> None:
    """A middlebox may not bear it: then not every other connection is to fail."""
    resuming: list[bool] = []

    async def intolerant(client: Client) -> None:
        head = await client.reader.readexactly(5)
        hello = await client.reader.readexactly(int.from_bytes(head[3:5]))
        resuming.append(PRE_SHARED_KEY in extensions(hello))
        if resuming[-1]:
            return
        reader, writer = await asyncio.open_connection("127.0.0.1", broker.port)
        writer.write(head + hello)
        await asyncio.gather(_copy(client.reader, writer), _copy(reader, client.writer))

    async with serve(accept) as broker, serve_script(intolerant, None) as middlebox:
        server = await server_of(roots, middlebox.port)
        assert not await is_resumed(server)
        with pytest.raises(ConnectError):
            await is_resumed(server)
        assert [await is_resumed(server) for _ in range(3)] == [False] * 3
        await middlebox.until(0)
    assert resuming == [False, True, False, False, False]
