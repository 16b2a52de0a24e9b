"""A document is fetched from the device that announced it, bounded, and from no other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.discovery.probing.fetch import (
    AT_ONCE,
    MAX_BODY,
    SECONDS,
    FetchRefused,
    GuardedFetcher,
    accepts,
    own_target,
)
from gatewayd.runtime.tasks import cancel_and_wait

DEVICE, DEVICE6 = "10.0.0.7", "fe80::7%lan0"
FIT = {
    "http://10.0.0.7/": (80, "/"),
    "http://10.0.0.7": (80, "/"),
    "HTTP://10.0.0.7:80/a?b=c": (80, "/a?b=c"),
    "http://10.0.0.7:1024/x.xml#part": (1024, "/x.xml"),
}
UNFIT = {
    "https://10.0.0.7/": "foreign-url",
    "ftp://10.0.0.7/": "foreign-url",
    "http://router.local/": "foreign-url",
    "http://10.0.0.7@10.0.0.8/": "foreign-url",
    "http://user@10.0.0.7/": "foreign-url",
    "http://10.0.0.7\\@10.0.0.8/": "foreign-url",
    "http://10.0.0.7/a b": "foreign-url",
    "http://10.0.0.7/a\r\nHost: x": "foreign-url",
    "http://10.0.0.7/\u00e4": "foreign-url",
    "http://10.0.0.7:\u0661\u0661/": "foreign-url",
    "//10.0.0.7/": "foreign-url",
    "": "foreign-url",
    "http://10.0.0.8/": "foreign-address",
    "http://127.0.0.1/": "foreign-address",
    "http://0.0.0.0/": "foreign-address",
    "http://10.7/": "foreign-address",
    "http://012.0.0.7/": "foreign-address",
    "http://[::ffff:10.0.0.7]/": "foreign-address",
    "http://10.0.0.7:22/": "foreign-port",
    "http://10.0.0.7:443/": "foreign-port",
    "http://10.0.0.7:0/": "foreign-port",
    "http://10.0.0.7:65536/": "foreign-port",
}
OK = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize("url", FIT)
def test_where_a_document_is(url: str) -> None:
    assert own_target(url, DEVICE) == FIT[url]


@pytest.mark.parametrize("url", UNFIT)
def test_what_is_not_fetched(url: str) -> None:
    with pytest.raises(FetchRefused) as refused:
        own_target(url, DEVICE)
    assert refused.value.cause == UNFIT[url]


def test_an_address_of_ipv6_is_compared_without_its_zone() -> None:
    assert own_target("http://[FE80:0::7]:8080/d", DEVICE6) == (8080, "/d")
    with pytest.raises(FetchRefused):
        own_target("http://[fe80::7%25lan0]/", DEVICE6)


@given(st.text(max_size=80), st.sampled_from([DEVICE, DEVICE6]))
def test_whatever_is_announced_leads_to_the_sender_alone(text: str, sender: str) -> None:
    for url in (text, f"http://{text}", f"http://10.0.0.7{text}"):
        try:
            port, path = own_target(url, sender)
        except FetchRefused:
            continue
        assert port == 80 or 1024 <= port <= 65535
        assert path.startswith("/")
        assert path.isascii()
        assert path.isprintable()


@dataclass
class WebServer:
    """A server of one answer.  requests: what came."""

    port: int = 0
    requests: list[bytes] = field(default_factory=list)
    open: int = 0
    most: int = 0

    async def fetched(
        self, address: str = "127.0.0.1", interface: str = "lo", *, seconds: float = SECONDS
    ) -> bytes:
        """Return what a fetcher gets."""
        fetcher = GuardedFetcher(seconds=seconds)
        return await fetcher.fetch(address, self.port, "/desc.xml", interface)


Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(answer: bytes | Answer, host: str = "127.0.0.1") -> AsyncIterator[WebServer]:
    """Serve one answer; a function may also send it by and by."""
    made, tasks = WebServer(), set[asyncio.Task[Any]]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        tasks.add(task)
        made.open += 1
        made.most = max(made.most, made.open)
        try:
            made.requests.append(await reader.readuntil(b"\r\n\r\n"))
            if isinstance(answer, bytes):
                writer.write(answer)
                await writer.drain()
            else:
                await answer(writer)
        except (OSError, EOFError):
            pass  # the client has had enough
        finally:
            made.open -= 1
            writer.close()

    async with await asyncio.start_server(serve, host, 0) as server:
        made.port = server.sockets[0].getsockname()[1]
        try:
            yield made
        finally:
            await cancel_and_wait(tasks)


@pytest.mark.parametrize(
    "answer",
    [
        OK + b"Content-Length: 5\r\n\r\n<a/>\n",
        b"HTTP/1.0 200 OK\r\n\r\n<a/>\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\n<a\r\n3\r\n/>\n\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\n<a/>\n\r\n0\r\nA: b\r\n\r\n",
        OK + b"Content-Encoding: identity\r\n\r\n<a/>\n",
    ],
)
async def test_a_document_is_fetched(answer: bytes) -> None:
    async with serving(answer) as server:
        body = await server.fetched()
    assert body == b"<a/>\n"
    (request,) = server.requests
    lines = request.decode().split("\r\n")
    assert lines[0] == "GET /desc.xml HTTP/1.1"
    assert {f"Host: 127.0.0.1:{server.port}", "Accept-Encoding: identity"} <= {*lines}


async def test_a_document_is_asked_for_by_a_message() -> None:
    async with serving(OK + b"\r\n<a/>") as server:
        fetching = GuardedFetcher().fetch("127.0.0.1", server.port, "/x", "lo", b"<q/>")
        assert await fetching == b"<a/>"
    (request,) = server.requests
    lines = request.decode().split("\r\n")
    assert lines[0] == "POST /x HTTP/1.1"
    assert {"Content-Type: application/soap+xml", "Content-Length: 4"} <= {*lines}


async def test_a_document_is_fetched_by_ipv6() -> None:
    async with serving(OK + b"\r\n<a/>", "::1") as server:
        assert await server.fetched("::1") == b"<a/>"
    assert f"Host: [::1]:{server.port}".encode() in server.requests[0]


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/\r\n\r\n", "redirect"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "no-document"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"\r\n<a/>", "no-document"),
        (OK + b"Content-Encoding: gzip\r\n\r\n<a/>", "encoded"),
        (OK + b"Content-Encoding: identity\r\nContent-Encoding: br\r\n\r\n<a/>", "encoded"),
        (OK + b"Transfer-Encoding: gzip\r\n\r\n<a/>", "bad-response"),
        (OK + b"Content-Length: 5\r\nContent-Length: 4\r\n\r\n<a/>\n", "bad-response"),
        (OK + b"Content-Length: -1\r\n\r\n<a/>", "bad-response"),
        (OK + b"Content-Length: 9\r\n\r\n<a/>", "bad-response"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\n<a/>", "bad-response"),
        (OK + b"A: " + b"x" * MAX_BODY, "bad-response"),
        (OK + b"\r\n" + b"x" * MAX_BODY, "oversized"),
        (OK + b"Content-Length: 999999\r\n\r\n" + b"x" * MAX_BODY, "oversized"),
        (b"SSH-2.0-OpenSSH\r\n", "bad-response"),
        (b"", "cut-off"),
    ],
)
async def test_what_is_not_believed(answer: bytes, cause: str) -> None:
    async with serving(answer) as server:
        with pytest.raises(FetchRefused) as refused:
            await server.fetched()
    assert refused.value.cause == cause
    assert len(server.requests) == 1


async def test_a_document_in_many_small_pieces_is_put_together_in_time() -> None:
    chunks = b"5\r\n0\r\n\r\n\r\n" * 5000  # what looks like the end of the last chunk, each time

    async def drip(writer: asyncio.StreamWriter) -> None:
        writer.write(OK + b"Transfer-Encoding: chunked\r\n\r\n")
        for at in range(0, len(chunks), 8):
            writer.write(chunks[at : at + 8])
            await writer.drain()
        writer.write(b"0\r\n\r\n")

    async with serving(drip) as server:
        body = await server.fetched()
    assert body == b"0\r\n\r\n" * 5000


async def test_a_document_has_so_much_time_in_all() -> None:
    async def drip(writer: asyncio.StreamWriter) -> None:
        writer.write(OK + b"\r\n")
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.01)

    async with serving(drip) as server:
        with pytest.raises(TimeoutError):
            await server.fetched(seconds=0.1)


async def test_so_many_are_fetched_at_once() -> None:
    go_on = asyncio.Event()
    async with serving(lambda _: _wait(go_on)) as server:
        fetcher = GuardedFetcher()
        fetches = [
            asyncio.create_task(fetcher.fetch("127.0.0.1", server.port, "/", "lo"))
            for _ in range(7)
        ]
        while server.open < AT_ONCE:
            await asyncio.sleep(0)
        go_on.set()
        await asyncio.gather(*fetches, return_exceptions=True)
    assert len(server.requests) == 7
    assert server.most == AT_ONCE


async def _wait(event: asyncio.Event) -> None:
    await event.wait()


async def test_a_device_that_is_not_there_is_an_error_of_the_system() -> None:
    async with serving(b"") as server:
        pass
    with pytest.raises(ConnectionRefusedError):
        await server.fetched()


async def test_no_packet_leaves_by_another_interface() -> None:
    async with serving(OK + b"\r\n<a/>") as server:
        with pytest.raises(OSError, match="device"):
            await server.fetched(interface="no-such0")
    assert not server.requests


async def test_whether_a_device_accepts_a_connection() -> None:
    async with serving(b"") as server:
        assert await accepts("127.0.0.1", server.port, "lo", 1.0)
        assert not await accepts("127.0.0.1", server.port, "no-such0", 1.0)
    assert not await accepts("127.0.0.1", server.port, "lo", 1.0)
