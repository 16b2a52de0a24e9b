"""A form is posted over HTTP/1.1, and what is no answer is not taken."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any

import pytest

from gatewayd.cloud import http
from gatewayd.network import tls
from gatewayd.network.connect_errors import SILENT, ConnectError, ConnectFault
from gatewayd.network.http_response import HttpResponse

Serve = Callable[..., AbstractAsyncContextManager[Any]]
At = Callable[..., tls.Server]

FORM = {"deviceName": "a@b:c", "sign": "ä&="}
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 4\r\n\r\nbody"


def read_request(data: bytes) -> tuple[list[str], bytes]:
    head, _, body = data.partition(b"\r\n\r\n")
    return head.decode().split("\r\n"), body


async def test_a_form_is_sent(serve: Serve, server: At) -> None:
    requests: list[bytes] = []

    async def script(client: Any) -> None:
        requests.append(await client.reader.readuntil(b"sign=%C3%A4%26%3D"))
        for byte in ANSWER:
            await client.send(bytes([byte]))
        await client.gone()

    async with serve(script) as broker:
        async with http.post_form(server(broker.port), "/a/b", FORM) as answer:
            assert answer == HttpResponse(200, b"body")
            assert broker.open == 1
        await broker.until(0)
    lines, body = read_request(requests[0])
    assert lines[0] == "POST /a/b HTTP/1.1"
    assert f"Host: localhost:{broker.port}" in lines
    assert f"Content-Length: {len(body)}" in lines
    assert body == b"deviceName=a%40b%3Ac&sign=%C3%A4%26%3D"


def test_the_usual_port_is_not_named(server: At) -> None:
    lines, _ = read_request(http.form_request(server(443), "/", {}))
    assert "Host: localhost" in lines


def test_an_address_is_named_in_brackets(server: At) -> None:
    lines, _ = read_request(http.form_request(replace(server(8443), host="2001:db8::7"), "/", {}))
    assert "Host: [2001:db8::7]:8443" in lines


async def fault_of(server: tls.Server) -> ConnectFault:
    with pytest.raises(ConnectError) as raised:
        async with http.post_form(server, "/", FORM):
            raise AssertionError("there is no answer")
    return raised.value.fault


@pytest.mark.parametrize(
    ("says", "fault"),
    [
        (b"", ConnectFault.MQTT_CLOSED),
        (b"HTTP/1.1 200 OK\r\nContent-Le", ConnectFault.MQTT_PROTOCOL),
        (b"\x20\x02\x00\x00\r\n\r\n", ConnectFault.MQTT_PROTOCOL),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * http.MAX_RESPONSE, ConnectFault.MQTT_PROTOCOL),
    ],
)
async def test_no_answer_to_what_may_have_arrived(
    serve: Serve, server: At, says: bytes, fault: ConnectFault
) -> None:
    async def script(client: Any) -> None:
        await client.reader.readuntil(b"sign=")
        await client.send(says)

    async with serve(script) as broker:
        assert await fault_of(server(broker.port)) is fault
        assert fault in SILENT
        await broker.until(0)


async def test_a_silent_server(serve: Serve, server: At) -> None:
    async def script(client: Any) -> None:
        await client.gone()

    async with serve(script) as broker:
        silent = server(broker.port, seconds=1.0)
        assert await fault_of(silent) is ConnectFault.MQTT_TIMEOUT
        await broker.until(0)


async def test_cancelled_it_closes(serve: Serve, server: At) -> None:
    asked = asyncio.Event()

    async def script(client: Any) -> None:
        await client.reader.readuntil(b"sign=")
        asked.set()
        await client.gone()

    async def ask(port: int) -> None:
        async with http.post_form(server(port), "/", FORM):
            raise AssertionError("there is no answer")

    async with serve(script) as broker:
        task = asyncio.create_task(ask(broker.port))
        await asked.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()
        await broker.until(0)
