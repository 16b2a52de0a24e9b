"""A tunnel through a proxy: its request, its answer, and a proxy that is scripted."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from base64 import b64encode
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.device.secret import Secret
from gatewayd.errors import ConfigError
from gatewayd.network.connect_errors import PROXY, UNREACHED, ConnectError, ConnectFault, reason
from gatewayd.network.http_head import MAX_HEAD, HttpError
from gatewayd.network.proxy import Proxy, connect_request, open_tunnel, parse_answer, refusal
from tests.cloud.conftest import Client, Script, serve_script

SECRET = Secret(b"factory:p\xc3\xa4ss:word")


# The request, pure.


def test_the_request_names_the_host_twice() -> None:
    assert connect_request("cloud.example", 8883) == (
        b"CONNECT cloud.example:8883 HTTP/1.1\r\nHost: cloud.example:8883\r\n\r\n"
    )


@pytest.mark.parametrize(("host", "written"), [
    ("2001:db8::7", b"[2001:db8::7]:443"), ("192.0.2.7", b"192.0.2.7:443"),
    ("b\u00fccher.example", b"xn--bcher-kva.example:443"),
])  # fmt: skip
def test_a_host_is_written_as_an_authority(host: str, written: bytes) -> None:
    assert connect_request(host, 443).startswith(b"CONNECT %b HTTP/1.1\r\n" % written)


def test_credentials_are_those_of_basic() -> None:
    line = b"\r\nProxy-Authorization: Basic " + b64encode(SECRET.reveal()) + b"\r\n"
    assert line in connect_request("cloud.example", 443, SECRET)


@pytest.mark.parametrize("text", [
    b"no colon", b":password", b"user:pass\nword", b"us\ter:password", b"user:\x7f", b"user:\x00",
])  # fmt: skip
def test_credentials_of_another_form_are_not_sent(text: bytes) -> None:
    with pytest.raises(ConfigError):
        connect_request("cloud.example", 443, Secret(text))


# The answer, pure.


@pytest.mark.parametrize(("answer", "asked", "fault"), [
    (b"200 Connection established", False, None),
    (b"204 No Content", False, None),
    (b'407 x\r\nProxy-Authenticate: Basic realm="a"', False, ConnectFault.PROXY_AUTHENTICATION),
    (b"407 x\r\nProxy-Authenticate: bAsIc", True, ConnectFault.PROXY_DENIED),
    (b"407 x\r\nProxy-Authenticate: Negotiate, Basic realm=x", True, ConnectFault.PROXY_DENIED),
    (b"407 x", True, ConnectFault.PROXY_DENIED),
    (b"407 x\r\nProxy-Authenticate: NTLM", True, ConnectFault.PROXY_METHOD),
    (b'407 x\r\nProxy-Authenticate: Negotiate\r\nProxy-Authenticate: Digest realm="basic"', False,
     ConnectFault.PROXY_METHOD),
    (b"407 x\r\nProxy-Authenticate: NTLM\r\nProxy-Authenticate: Basic", False,
     ConnectFault.PROXY_AUTHENTICATION),
    (b"401 Unauthorized", True, ConnectFault.PROXY_DENIED),
    (b"403 Filtered", False, ConnectFault.PROXY_FORBIDDEN),
    (b"405 Method Not Allowed", False, ConnectFault.PROXY_FORBIDDEN),
    (b"302 Found\r\nLocation: http://portal/", False, ConnectFault.PROXY_FORBIDDEN),
    (b"404 Not Found", False, ConnectFault.PROXY_NO_WAY),
    (b"500 Unable to connect", False, ConnectFault.PROXY_NO_WAY),
    (b"502 Bad Gateway", False, ConnectFault.PROXY_NO_WAY),
    (b"503 Service Unavailable", False, ConnectFault.PROXY_NO_WAY),
    (b"504 Gateway Timeout", False, ConnectFault.PROXY_NO_WAY),
])  # fmt: skip
def test_what_an_answer_means(answer: bytes, asked: bool, fault: ConnectFault | None) -> None:
    head = parse_answer(b"HTTP/1.1 " + answer + b"\r\n\r\n")
    assert head is not None
    assert refusal(head, asked=asked) is fault


def test_interim_answers_are_skipped_up_to_a_bound() -> None:
    interim = b"HTTP/1.1 100 Continue\r\n\r\n"
    head = parse_answer(interim * 3 + b"HTTP/1.0 200 OK\r\n\r\n")
    assert head is not None
    assert head.status == 200
    assert parse_answer(interim) is None
    with pytest.raises(HttpError):
        parse_answer(interim * MAX_HEAD)


def test_no_byte_may_follow_the_answer_of_a_tunnel() -> None:
    with pytest.raises(HttpError):
        parse_answer(b"HTTP/1.1 200 OK\r\n\r\n\x16")
    assert parse_answer(b"HTTP/1.1 403 Filtered\r\n\r\n<html>") is not None


@given(st.binary(max_size=300))
def test_any_answer_is_read_awaited_or_refused(came: bytes) -> None:
    with contextlib.suppress(HttpError):
        parse_answer(came)


def test_each_fault_has_a_text_and_a_remedy_without_a_secret() -> None:
    for fault in PROXY:
        told = reason(fault, "cloud.example", 8883)
        assert told.code == fault
        assert told.text.endswith(".")
        assert told.remedy.endswith(".")
    assert PROXY < UNREACHED


# A proxy that is scripted.


@contextlib.asynccontextmanager
async def scripted(script: Script) -> AsyncIterator[int]:
    """Run a proxy that plays a script; ends once it has seen its client, and its client's end."""
    seen = asyncio.Event()

    async def play(client: Client) -> None:
        seen.set()
        await script(client)

    async with serve_script(play, None) as proxy:
        yield proxy.port
        async with asyncio.timeout(60):
            await seen.wait()
        await proxy.until(0)


async def fault_at(port: int, seconds: float = 30.0) -> ConnectFault:
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.setblocking(False)
        with pytest.raises(ConnectError) as raised:
            await open_tunnel(sock, Proxy("127.0.0.1", port), "cloud.example", 8883, seconds)
    return raised.value.fault


@pytest.mark.parametrize(("says", "fault"), [
    (b"", ConnectFault.PROXY_CLOSED),
    (b"HTTP/1.1 200", ConnectFault.PROXY_CLOSED),
    (b"\x05\xff", ConnectFault.PROXY_PROTOCOL),  # SOCKS
    (b"\x15\x03\x03\x00\x02\x02\x28", ConnectFault.PROXY_PROTOCOL),  # TLS
    (b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * MAX_HEAD, ConnectFault.PROXY_PROTOCOL),
    (b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", ConnectFault.PROXY_PROTOCOL),
    (b"HTTP/1.1 407 x\r\n\r\n" + b"x" * 100_000, ConnectFault.PROXY_AUTHENTICATION),
])  # fmt: skip
async def test_a_proxy_that_answers_badly(says: bytes, fault: ConnectFault) -> None:
    async def script(client: Client) -> None:
        await client.reader.readuntil(b"\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            await client.send(says)

    async with scripted(script) as port:
        assert await fault_at(port) is fault


async def test_a_proxy_that_never_answers() -> None:
    async with scripted(lambda client: client.gone()) as port:
        assert await fault_at(port, 0.2) is ConnectFault.PROXY_TIMEOUT


async def test_a_proxy_that_drips_is_given_up_by_the_same_bound() -> None:
    async def script(client: Client) -> None:
        with contextlib.suppress(ConnectionError):
            await client.send(b"HTTP/1.1 200 OK\r\n")
            while True:
                await client.send(b"A: b\r\n")
                await asyncio.sleep(0.05)

    async with scripted(script) as port:
        assert await fault_at(port, 0.3) is ConnectFault.PROXY_TIMEOUT


async def test_cancelled_it_leaves_the_socket_to_its_caller() -> None:
    async with scripted(lambda client: client.gone()) as port:
        with socket.create_connection(("127.0.0.1", port)) as sock:
            sock.setblocking(False)
            task = asyncio.create_task(
                open_tunnel(sock, Proxy("127.0.0.1", port), "cloud.example", 8883, 60.0)
            )
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait({task})
            assert task.cancelled()
            assert sock.fileno() >= 0
