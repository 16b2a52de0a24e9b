"""A client of a console's API: what is sent, what is tried again, and what is never sent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gatewayd.console.client import (
    MAX_ANSWER,
    MAX_BODY,
    TRIES,
    Answer,
    ApiBusy,
    ApiRequest,
    ConsoleClient,
)
from gatewayd.errors import ConsoleError
from gatewayd.network.http_response import HttpResponse
from gatewayd.network.tls import Server, client_context
from tests.cloud.conftest import Client, serve_script
from tests.support.simulated_ca import AUTHORITY, CERTIFICATE

GET = ApiRequest("GET", "/things", "GET /things")
POST = ApiRequest("POST", "/things", "POST /things {}", body=b"{}")
Say = Callable[[Client, bytes], Awaitable[None]]


class Words:
    """A dialect that says when a request was signed, and takes 503 for a delay."""

    def sign(self, request: ApiRequest, host: str, now: float, nonce: bytes) -> ApiRequest:
        return replace(request, fields={"Signed": f"{host} {now} {nonce.hex()}"})

    def read(self, request: ApiRequest, response: HttpResponse) -> Answer:
        if response.status == 503:
            raise ApiBusy("too fast")
        answer: Answer = json.loads(response.body)
        return answer


class Asked:
    """A client of a server that plays a script, and how long the client would have waited."""

    def __init__(self, server: Server, *, dry_run: bool = False) -> None:
        self.waited: list[float] = []
        self.client = ConsoleClient(
            server, Words(), dry_run=dry_run, clock=lambda: 1.0, random=bytes,
            jitter=lambda: 0.5, sleep=self._sleep,
        )  # fmt: skip

    async def _sleep(self, seconds: float) -> None:
        self.waited.append(seconds)


@asynccontextmanager
async def asked(say: Say, tmp_path: Path, **more: Any) -> AsyncIterator[tuple[Asked, list[bytes]]]:
    """A client, and the requests that its server has received."""
    requests: list[bytes] = []

    async def script(client: Client) -> None:
        try:
            head = await client.reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return  # it did not like our certificate
        length = int(head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0])
        requests.append(head + await client.reader.readexactly(length))
        await say(client, requests[-1])

    (tmp_path / "ca.pem").write_text(AUTHORITY.pem)
    async with serve_script(script, CERTIFICATE.server_context()) as broker:
        context = await asyncio.to_thread(client_context, tmp_path / "ca.pem")
        yield Asked(Server("localhost", broker.port, context, 30.0, 30.0), **more), requests


async def _never(_client: Client, request: bytes) -> None:
    pytest.fail(f"nothing was to be asked: {request!r}")


def answer(body: bytes, status: int = 200) -> bytes:
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body)


async def test_a_request_is_signed_for_this_moment(tmp_path: Path) -> None:
    async def say(client: Client, _request: bytes) -> None:
        await client.send(answer(b'{"a": 1}'))

    async with asked(say, tmp_path) as (one, requests):
        assert await one.client.change(POST) == {"a": 1}
        (sent,) = requests
        head, _, body = sent.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        host = lines[1].removeprefix("Host: ")
        assert lines[0] == "POST /things HTTP/1.1"
        assert host.startswith("localhost:")
        assert f"Signed: {host} 1.0 {'00' * 16}" in lines
        assert body == b"{}"


async def test_what_is_put_off_is_asked_again_a_few_times(tmp_path: Path) -> None:
    async def say(client: Client, _request: bytes) -> None:
        await client.send(answer(b"", 503))

    async with asked(say, tmp_path) as (one, requests):
        with pytest.raises(ConsoleError, match=rf"put off {TRIES} times: too fast\. Try again"):
            await one.client.change(POST)
        assert len(requests) == TRIES
        assert one.waited == [1.0, 2.0, 4.0, 8.0, 16.0, 16.0, 16.0, 16.0]
        assert sum(one.waited) > 60  # seconds, for which limits of requests are counted


async def test_a_change_that_was_not_answered_may_have_been_made(tmp_path: Path) -> None:
    async def say(client: Client, _request: bytes) -> None:
        client.writer.close()

    async with asked(say, tmp_path) as (one, requests):
        with pytest.raises(ConsoleError, match="It may have been done: run the same command"):
            await one.client.change(POST)
        with pytest.raises(ConsoleError, match=r"without an answer\. Try again"):
            await one.client.read(GET)
        assert len(requests) == 2


async def test_an_answer_is_bounded(tmp_path: Path) -> None:
    async def say(client: Client, _request: bytes) -> None:
        await client.send(answer(b"x" * MAX_ANSWER))
        await client.gone()

    async with asked(say, tmp_path) as (one, _):
        with pytest.raises(ConsoleError, match="too large"):
            await one.client.read(GET)


async def test_a_request_is_bounded_too(tmp_path: Path) -> None:
    async with asked(_never, tmp_path) as (one, requests):
        with pytest.raises(ConsoleError, match=f"more than {MAX_BODY} bytes"):
            await one.client.change(replace(POST, body=b"x" * (MAX_BODY + 1)))
        assert requests == []


async def test_a_dry_run_reads_and_changes_nothing(tmp_path: Path) -> None:
    async def say(client: Client, _request: bytes) -> None:
        await client.send(answer(b'{"there": "it is"}'))

    async with asked(say, tmp_path, dry_run=True) as (one, requests):
        assert await one.client.read(GET) == {"there": "it is"}
        assert await one.client.change(POST, {"id": "new"}) == {"id": "new"}
        assert [line.split()[0] for line in requests] == [b"GET"]
        assert one.client.take_planned() == ("POST /things {}",)
        assert one.client.take_planned() == ()


async def test_a_server_that_is_not_trusted_gets_no_request(tmp_path: Path) -> None:
    async with asked(_never, tmp_path) as (one, requests):
        distrusting = await asyncio.to_thread(client_context, None)
        server = replace(one.client._server, context=distrusting)
        with pytest.raises(ConsoleError, match="Use --ca-file FILE"):
            await Asked(server).client.read(GET)
        with pytest.raises(ConsoleError, match="Check --endpoint"):
            await Asked(replace(server, port=9)).client.read(GET)
        assert requests == []
