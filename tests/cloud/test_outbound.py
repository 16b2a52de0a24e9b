"""Clouds behind a proxy, dialled: real tinyproxies, dead ones, and one that opens the TLS."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from base64 import b64encode
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gatewayd.cloud.credentials import read_secret
from gatewayd.cloud.http import post_form
from gatewayd.cloud.outbound import DIRECT, NetworkSettings, OutboundSettings, proxy_of
from gatewayd.network import tls
from gatewayd.network.addresses import AddressBook
from gatewayd.network.connect_errors import ConnectFault
from gatewayd.network.proxy import Proxy
from gatewayd.simulator import pki
from tests.cloud.conftest import NOW, Client, fault_of, serve_script, stay
from tests.support.tinyproxy import tinyproxy

Serve = Callable[..., AbstractAsyncContextManager[Any]]
READ = partial(read_secret, None)


def behind(
    settings: OutboundSettings, trust: ssl.SSLContext, port: int, seconds: float = 30.0
) -> tls.Server:
    """Return a server called localhost, which only the proxy is to look up."""
    proxy = proxy_of(settings, READ)
    assert proxy is not None
    return tls.Server("localhost", port, trust, seconds, seconds, proxy=proxy)


def through(port: int, file: Path | None = None) -> OutboundSettings:
    return OutboundSettings(proxy=f"http://127.0.0.1:{port}", proxy_file=file)


async def test_an_answer_in_single_bytes(serve: Serve, trust: ssl.SSLContext) -> None:
    """And then the tunnel, to a cloud that is verified as without one."""

    async def script(client: Client) -> None:
        head = await client.reader.readuntil(b"\r\n\r\n")
        host, port = head.split()[1].split(b":")
        reader, writer = await asyncio.open_connection(host.decode(), int(port))
        for byte in b"HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n":
            await client.send(bytes([byte]))
        await asyncio.gather(_copy(client.reader, writer), _copy(reader, client.writer))

    async with serve(stay) as broker, serve_script(script, None) as scripted:
        sock = await tls.dial(behind(through(scripted.port), trust, broker.port))
        assert sock.version() in {"TLSv1.2", "TLSv1.3"}
        sock.close()
        await scripted.until(0)
        await broker.until(0)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(4096):
            writer.write(data)
    writer.close()


async def test_no_proxy_is_there(trust: ssl.SSLContext) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        assert await fault_of(behind(through(port), trust, 1)) is ConnectFault.PROXY_REFUSED
        held.listen(0)
        with contextlib.ExitStack() as stack:
            for _ in range(3):
                waiting = stack.enter_context(socket.socket())
                waiting.setblocking(False)
                waiting.connect_ex(("127.0.0.1", port))
            found = await fault_of(behind(through(port), trust, 1, 0.2))
    assert found is ConnectFault.PROXY_UNREACHABLE


async def test_the_name_of_the_proxy_is_looked_up_and_no_other(trust: ssl.SSLContext) -> None:
    asked: list[str] = []

    def look_up(name: str, *_: object, **__: object) -> list[object]:
        asked.append(name)
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    server = tls.Server("cloud.example", 8883, trust, 30.0, 30.0, book=AddressBook(look_up),
                        proxy=Proxy("proxy.example", 3128))  # fmt: skip
    assert await fault_of(server) is ConnectFault.PROXY_DNS
    assert asked == ["proxy.example"]


async def test_dead_addresses_of_the_proxy_are_passed_over(
    serve: Serve, trust: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three that never answer the CONNECT cost the delays of RFC 8305, and the fourth is taken."""
    monkeypatch.setattr(tls, "ATTEMPT_DELAY", 0.02)
    monkeypatch.setattr(tls, "TLS_DELAY", 0.04)
    async with contextlib.AsyncExitStack() as stack:
        ports = [await stack.enter_async_context(serve_script(stay, None)) for _ in range(3)]
        broker = await stack.enter_async_context(serve(stay))
        proxy = stack.enter_context(tinyproxy())
        all_ports = [one.port for one in ports] + [proxy.port]
        found = [(socket.AF_INET, 1, 6, "", ("127.0.0.1", port)) for port in all_ports]
        server = tls.Server("localhost", broker.port, trust, 30.0, 30.0,
                            book=AddressBook(lambda *_, **__: found),
                            proxy=Proxy("proxy.example", 3128))  # fmt: skip
        (await tls.dial(server)).close()
        assert (await tls.resolve(server))[0] == (socket.AF_INET, ("127.0.0.1", proxy.port))
        for one in ports:
            await one.until(0)


# A real one.


@pytest.fixture
def credentials(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "proxy-secret"
        path.touch(mode=0o600)
        path.write_text(text)
        return path

    return write


async def test_tinyproxy_with_and_without_a_password(
    serve: Serve, trust: ssl.SSLContext, credentials: Callable[[str], Path],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    caplog.set_level(logging.DEBUG)
    cases: Mapping[str, ConnectFault | None] = {
        "factory:right": None,
        "factory:wrong": ConnectFault.PROXY_DENIED,
        "factory": ConnectFault.PROXY_CREDENTIALS,
    }
    async with serve(stay) as broker:
        port = broker.port
        with tinyproxy(["BasicAuth factory right"]) as proxy:
            server = behind(through(proxy.port), trust, port)
            assert await fault_of(server) is ConnectFault.PROXY_AUTHENTICATION
            for text, fault in cases.items():
                server = behind(through(proxy.port, credentials(text)), trust, port)
                if fault is None:
                    (await tls.dial(server)).close()
                else:
                    assert await fault_of(server) is fault
            server = behind(through(proxy.port, Path("/nowhere")), trust, port)
            assert await fault_of(server) is ConnectFault.PROXY_CREDENTIALS
    for secret in ("right", "wrong", b64encode(b"factory:right").decode()):
        assert secret not in caplog.text
        assert secret not in repr(server)


async def test_tinyproxy_that_allows_one_host(serve: Serve, trust: ssl.SSLContext) -> None:
    async with serve(stay) as broker:
        port = broker.port
        with tinyproxy(allowed=["^localhost$"]) as proxy:
            (await tls.dial(behind(through(proxy.port), trust, port))).close()
        with tinyproxy(allowed=["^cloud[.]example$"]) as proxy:
            found = await fault_of(behind(through(proxy.port), trust, port))
            assert found is ConnectFault.PROXY_FORBIDDEN
        with tinyproxy(["ConnectPort 443"]) as proxy:
            found = await fault_of(behind(through(proxy.port), trust, port))
            assert found is ConnectFault.PROXY_FORBIDDEN


async def test_a_form_is_posted_through_it(serve: Serve, trust: ssl.SSLContext) -> None:
    async def script(client: Client) -> None:
        await client.reader.readuntil(b"a=b")
        await client.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody")
        await client.gone()

    async with serve(script) as broker:
        with tinyproxy(allowed=["^localhost$"]) as proxy:
            server = behind(through(proxy.port), trust, broker.port)
            async with post_form(server, "/", {"a": "b"}) as answer:
                assert answer.body == b"body"
        await broker.until(0)


async def test_tinyproxy_that_cannot_reach_the_cloud(trust: ssl.SSLContext) -> None:
    with tinyproxy() as proxy, socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        server = behind(through(proxy.port), trust, held.getsockname()[1])
        assert await fault_of(server) is ConnectFault.PROXY_NO_WAY


async def test_a_proxy_that_opens_the_tls_is_not_trusted(
    serve: Serve, trust: ssl.SSLContext
) -> None:
    """It has a root of its own, which is not the cloud's."""
    own = pki.make_ca("the proxy's own", NOW - pki.LIFE, NOW + pki.LIFE)
    async with serve(stay, pki.localhost(own, NOW)) as broker:
        with tinyproxy() as proxy:
            server = behind(through(proxy.port), trust, broker.port)
            assert await fault_of(server) is ConnectFault.TLS_UNKNOWN_CA


# Which proxy it is.


DEFAULT = NetworkSettings(proxy="http://proxy.example:3128", proxy_credential="of-the-site")


def test_a_cloud_without_a_proxy_of_its_own_has_that_of_the_site() -> None:
    found = OutboundSettings().with_default(DEFAULT)
    assert (found.proxy, found.proxy_credential) == (DEFAULT.proxy, "of-the-site")


def test_credentials_go_to_their_own_proxy_only() -> None:
    own = OutboundSettings(proxy="http://192.0.2.7:8080").with_default(DEFAULT)
    proxy = proxy_of(own, READ)
    assert proxy == Proxy("192.0.2.7", 8080)
    assert proxy is not None
    assert proxy.credentials is None


def test_a_websocket_needs_its_own_port() -> None:
    over = OutboundSettings(transport="websocket")
    assert over.websocket == "/mqtt"
    assert list(over.transport_problems(8883))
    assert not list(over.transport_problems(443))
    assert not list(OutboundSettings().transport_problems(8883))
    assert OutboundSettings().websocket == ""


def test_a_cloud_may_be_reached_directly() -> None:
    assert proxy_of(OutboundSettings(proxy=DIRECT).with_default(DEFAULT), READ) is None
    assert proxy_of(OutboundSettings(), READ) is None


@pytest.mark.parametrize(("settings", "wrong"), [
    (OutboundSettings(proxy_credential="a"), True),
    (OutboundSettings(proxy=DIRECT, proxy_file=Path("/a")), True),
    (OutboundSettings(proxy="http://a:1", proxy_file=Path("/a"), proxy_credential="a"), True),
    (OutboundSettings(proxy="http://a:1", proxy_file=Path("/a")), False),
    (OutboundSettings(), False),
])  # fmt: skip
def test_credentials_without_a_proxy_are_a_mistake(settings: OutboundSettings, wrong: bool) -> None:
    assert bool(list(settings.problems())) is wrong
