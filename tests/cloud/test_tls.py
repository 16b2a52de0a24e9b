"""TCP and TLS: each way in which a connection is not made has its own name."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization

from gatewayd.ca.authority import Authority
from gatewayd.ca.certificates import read_certificates, to_pem
from gatewayd.ca.keys import make_key
from gatewayd.cloud import mqtt
from gatewayd.cloud.mqtt import Login
from gatewayd.device.secret import Secret
from gatewayd.network import tls
from gatewayd.network.connect_errors import ConnectError, ConnectFault, reason
from gatewayd.simulator import pki
from tests.cloud.conftest import fault_of, stay
from tests.cloud.guarded import VERSIONS, device_ca, guarded, identity, server_context

Serve = Callable[..., AbstractAsyncContextManager[Any]]
At = Callable[..., tls.Server]
NOW = datetime.now(UTC)


@contextlib.contextmanager
def held_port(backlog: int | None = None) -> Iterator[int]:
    """A port that refuses; with a backlog, one whose queue is full, so that SYNs are dropped."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        port = int(listener.getsockname()[1])
        if backlog is not None:
            listener.listen(backlog)
            for _ in range(backlog + 3):
                waiting = stack.enter_context(socket.socket())
                waiting.setblocking(False)
                waiting.connect_ex(("127.0.0.1", port))
        yield port


async def test_a_good_server_is_reached(serve: Serve, server: At) -> None:
    async with serve(stay) as broker:
        sock = await tls.dial(server(broker.port))
        assert sock.version() in {"TLSv1.2", "TLSv1.3"}
        assert sock.gettimeout() == 0
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        sock.close()
        await broker.until(0)


async def test_the_name_cannot_be_looked_up(server: At) -> None:
    assert await fault_of(server(1, "a..b")) is ConnectFault.DNS
    assert await fault_of(server(1, "fe80::1%none")) is ConnectFault.DNS


@pytest.mark.parametrize(("host", "looked_up"), [
    ("192.0.2.7", False), ("2001:db8::7", False), ("localhost", True), ("127.1", True),
])  # fmt: skip
async def test_only_names_are_looked_up(
    server: At, monkeypatch: pytest.MonkeyPatch, host: str, looked_up: bool
) -> None:
    asked: list[str] = []
    real = socket.getaddrinfo

    def look_up(name: str, *args: Any, **options: Any) -> Any:
        asked.append(name)
        return real(name, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    found = await tls.resolve(server(8883, host))
    assert asked == ([host] if looked_up else [])
    for family, _, _, _, address in real(host, 8883, type=socket.SOCK_STREAM):
        assert (family, address) in found


async def test_tcp_is_refused(server: At) -> None:
    with held_port() as port:
        assert await fault_of(server(port)) is ConnectFault.TCP_REFUSED


async def test_tcp_is_not_answered(server: At) -> None:
    with held_port(backlog=0) as port:
        assert await fault_of(server(port, "127.0.0.1", 0.2)) is ConnectFault.TCP_UNREACHABLE


async def test_there_is_no_route(server: At) -> None:
    assert await fault_of(server(8883, "255.255.255.255")) is ConnectFault.TCP_UNREACHABLE


async def test_an_unknown_authority(serve: Serve, server: At, authority: pki.RootAuthority) -> None:
    stranger = pki.make_ca("test authority", NOW - pki.LIFE, NOW + pki.LIFE)
    async with serve(stay, pki.localhost(stranger, NOW)) as broker:
        assert await fault_of(server(broker.port)) is ConnectFault.TLS_UNKNOWN_CA


async def test_a_captive_portal_is_named_as_one(
    serve: Serve, server: At, authority: pki.RootAuthority
) -> None:
    """It has a certificate of its own authority and name; and it is sent nothing."""
    hotel = pki.make_ca("Hotel", NOW - pki.LIFE, NOW + pki.LIFE)
    login = hotel.issue(["login.hotel.example"], ["192.0.2.1"], NOW - pki.LIFE, NOW + pki.LIFE)
    sent: list[bytes] = []

    async def redirect(client: Any) -> None:
        if data := await client.reader.read(1):
            sent.append(data)
            client.writer.write(b"HTTP/1.1 302 Found\r\nLocation: https://login.hotel.example/\r\n")

    async with serve(redirect, login) as broker:
        assert await fault_of(server(broker.port)) is ConnectFault.PORTAL
        await broker.until(0)
    assert sent == []


async def test_a_portal_that_is_trusted_is_of_another_host(
    serve: Serve, server: At, authority: pki.RootAuthority
) -> None:
    """A portal may have a certificate of a public authority."""
    async with serve(stay, pki.wrong_host(authority, NOW)) as broker:
        fault = await fault_of(server(broker.port))
    assert fault is ConnectFault.TLS_HOST_NAME
    assert "captive portal" in reason(fault, "localhost", 1).remedy


async def test_an_expired_certificate(
    serve: Serve, server: At, authority: pki.RootAuthority
) -> None:
    async with serve(stay, pki.expired(authority, NOW)) as broker:
        assert await fault_of(server(broker.port)) is ConnectFault.TLS_EXPIRED


async def test_a_certificate_of_the_future(
    serve: Serve, server: At, authority: pki.RootAuthority
) -> None:
    start = NOW + timedelta(days=1)
    future = authority.issue(["localhost"], [], start, start + timedelta(days=1))
    async with serve(stay, future) as broker:
        assert await fault_of(server(broker.port)) is ConnectFault.TLS_NOT_YET_VALID


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
async def test_a_certificate_of_another_host(
    serve: Serve, server: At, authority: pki.RootAuthority, host: str
) -> None:
    async with serve(stay, pki.wrong_host(authority, NOW)) as broker:
        assert await fault_of(server(broker.port, host)) is ConnectFault.TLS_HOST_NAME


async def test_a_server_that_never_answers(serve_plain: Serve, server: At) -> None:
    async with serve_plain(stay) as broker:
        assert await fault_of(server(broker.port, "127.0.0.1", 0.2)) is ConnectFault.TLS_TIMEOUT
        await broker.until(0)


async def test_a_server_that_does_not_speak_tls(serve_plain: Serve, server: At) -> None:
    async def http(client: Any) -> None:
        await client.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await client.gone()

    async with serve_plain(http) as broker:
        assert await fault_of(server(broker.port)) is ConnectFault.TLS_FAILED


async def test_a_server_that_hangs_up_in_the_handshake(serve_plain: Serve, server: At) -> None:
    async def hang_up(client: Any) -> None:
        await client.reader.read(1)

    async with serve_plain(hang_up) as broker:
        assert await fault_of(server(broker.port)) is ConnectFault.TLS_FAILED


async def test_cancelled_in_the_handshake_it_closes(serve_plain: Serve, server: At) -> None:
    async with serve_plain(stay) as broker:
        dialling = asyncio.create_task(tls.dial(server(broker.port)))
        await broker.until(1)
        dialling.cancel()
        await asyncio.gather(dialling, return_exceptions=True)
        assert dialling.cancelled()
        await broker.until(0)


def test_the_file_of_roots_cannot_be_used(tmp_path: Path) -> None:
    empty = tmp_path / "ca.pem"
    empty.touch()
    for path in (empty, tmp_path / "none"):
        with pytest.raises(ConnectError) as raised:
            tls.client_context(path)
        assert raised.value.fault is ConnectFault.CA_FILE


def test_without_a_file_the_system_is_trusted() -> None:
    context = tls.client_context(None)
    assert context.check_hostname
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2


# A server that wants to see a certificate.


@pytest.fixture(scope="module")
def devices() -> Authority:
    return device_ca()


async def showing(
    ca_file: Path | None, port: int, who: Secret | None, host: str = "localhost"
) -> tls.Server:
    context = await asyncio.to_thread(tls.client_context, ca_file, who)
    return tls.Server(host, port, context, 20.0, 20.0, "127.0.0.1")


Bad = Callable[[Authority], Secret | None]
BAD: dict[str, tuple[Bad, str, str]] = {
    "no certificate": (lambda _: None, "", "certificate-required"),
    "another CA": (lambda _: identity(device_ca("other")), "unknown-ca", "unknown-ca"),
    "expired": (
        lambda ca: identity(ca, days=1, made=time.time() - 2 * 86400),
        "certificate-expired",
        "certificate-expired",
    ),
    "not valid yet": (
        lambda ca: identity(ca, made=time.time() + 86400),
        "bad-certificate",
        "bad-certificate",
    ),
}
"""What is shown, and what the server says of it by TLS 1.2 and by 1.3."""


@pytest.mark.parametrize("version", VERSIONS, ids=lambda v: v.name)
async def test_a_certificate_is_shown_to_whom_asks_for_it(
    certificate: pki.KeyedCertificate, ca_file: Path, devices: Authority, version: ssl.TLSVersion
) -> None:
    context = server_context(certificate, [devices], (version, version))
    who = identity(devices)
    login = Login("client", "user", Secret(b""))
    async with guarded(context) as broker:
        server = await showing(ca_file, broker.port, who)
        connection = await mqtt.open_connection(server, login, 60, lambda *_: None)
        await connection.close()
        assert [ssl.DER_cert_to_PEM_cert(one) for one in broker.shown] == [
            to_pem(read_certificates(who.reveal())[0])
        ]
        assert broker.names == ["localhost"]


async def test_who_shows_a_certificate_may_trust_the_roots_of_the_system(
    certificate: pki.KeyedCertificate,
    ca_file: Path,
    devices: Authority,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They are looked up in a directory, by the hash of their names, as they are wanted."""
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    login, who = Login("client", "user", Secret(b"")), identity(devices)
    async with guarded(server_context(certificate, [devices], VERSIONS)) as broker:
        server = await showing(None, broker.port, who)
        assert await fault_of(server) is ConnectFault.TLS_UNKNOWN_CA
        await asyncio.to_thread(hashed, ca_file, tmp_path)
        server = await showing(None, broker.port, who)
        connection = await mqtt.open_connection(server, login, 60, lambda *_: None)
        await connection.close()
        assert len(server.context.get_ca_certs()) == 1


def hashed(ca_file: Path, directory: Path) -> None:
    """Put a root into a directory as openssl-rehash(1) does."""
    command = ("openssl", "x509", "-noout", "-hash", "-in", str(ca_file))
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    (directory / f"{result.stdout.strip()}.0").write_text(ca_file.read_text())


@pytest.mark.parametrize("what", BAD)
async def test_a_rejected_certificate_by_tls_1_2(
    certificate: pki.KeyedCertificate, ca_file: Path, devices: Authority, what: str
) -> None:
    """The handshake fails, and says why."""
    make, alert, _ = BAD[what]
    version = ssl.TLSVersion.TLSv1_2
    async with guarded(server_context(certificate, [devices], (version, version))) as broker:
        with pytest.raises(ConnectError) as raised:
            await tls.dial(await showing(ca_file, broker.port, make(devices)))
        expected = (
            ConnectFault.TLS_REJECTED if alert else ConnectFault.TLS_FAILED
        )  # handshake_failure says less
        assert (raised.value.fault, raised.value.alert) == (expected, alert)


@pytest.mark.parametrize("what", BAD)
async def test_a_rejected_certificate_by_tls_1_3(
    certificate: pki.KeyedCertificate, ca_file: Path, devices: Authority, what: str
) -> None:
    """The handshake succeeds; what the server thinks of it comes with the first read."""
    make, _, alert = BAD[what]
    version = ssl.TLSVersion.TLSv1_3
    login = Login("client", "user", Secret(b""))
    async with guarded(server_context(certificate, [devices], (version, version))) as broker:
        server = await showing(ca_file, broker.port, make(devices))
        with pytest.raises(ConnectError) as raised:
            await mqtt.open_connection(server, login, 60, lambda *_: None)
        assert (raised.value.fault, raised.value.alert) == (ConnectFault.TLS_REJECTED, alert)
        assert not broker.seen


async def test_a_server_that_does_not_know_the_name(
    certificate: pki.KeyedCertificate, ca_file: Path, devices: Authority
) -> None:
    """An address is never sent as a name (RFC 6066, 3), so the server is asked for none."""
    async with guarded(server_context(certificate, [devices])) as broker:
        for host in ("127.0.0.1", "elsewhere.example"):
            with pytest.raises(ConnectError) as raised:
                await tls.dial(await showing(ca_file, broker.port, identity(devices), host))
            assert raised.value.fault is ConnectFault.TLS_NAME
        assert broker.names == [None, "elsewhere.example"]


def test_an_identity_that_cannot_be_shown(ca_file: Path, devices: Authority) -> None:
    whole = identity(devices).reveal()
    other = identity(devices).reveal()
    key, rest = whole[: whole.index(b"-----BEGIN CERT")], other[other.index(b"-----BEGIN CERT") :]
    for data in (b"", b"0" * 32, key, rest, key + rest):
        with pytest.raises(ConnectError) as raised:
            tls.client_context(ca_file, Secret(data))
        assert raised.value.fault is ConnectFault.IDENTITY


def test_a_key_with_a_passphrase_is_not_asked_for(ca_file: Path, devices: Authority) -> None:
    key = make_key("ec-p256").private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    with pytest.raises(ConnectError) as raised:
        tls.client_context(ca_file, Secret(key + identity(devices).reveal()))
    assert raised.value.fault is ConnectFault.IDENTITY


def test_text_around_the_certificates_is_passed_over(ca_file: Path, devices: Authority) -> None:
    data = b"Device-ID: p_n\n" + identity(devices).reveal()
    assert tls.client_context(ca_file, Secret(data)).check_hostname
